"""The metadata server of one emulated machine: what its guest may ask about itself, waiting for changes if it likes."""

import asyncio
import hashlib
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dumont.clock import Clock
from dumont.emulate.gce.vm import Vm

FLAVOR = {"Metadata-Flavor": "Google"}
WAIT_S = 3600.0


def metadata_app(vm: Vm, project: str, clock: Clock) -> Starlette:
    """The server for `vm`. Answers are texts, with an ETag that changes with them."""

    async def answer(request: Request) -> Response:
        if request.headers.get("metadata-flavor") != "Google":
            return PlainTextResponse("Missing Metadata-Flavor:Google header.", status_code=403)
        read = _reader(vm, project, request.path_params["path"])
        if read is None:
            return PlainTextResponse("Not Found", status_code=404, headers=FLAVOR)
        if request.query_params.get("wait_for_change", "").lower() == "true":
            last = request.query_params.get("last_etag", "") or _etag(read())
            await _wait(vm, read, last, clock, float(request.query_params.get("timeout_sec", WAIT_S)))
        value = read()
        return PlainTextResponse(value, headers={**FLAVOR, "ETag": _etag(value)})

    return Starlette(routes=[Route("/computeMetadata/v1/{path:path}", answer)])


async def _wait(vm: Vm, read: Callable[[], str], last_etag: str, clock: Clock, seconds: float) -> None:
    """Return once the value's ETag is another one, or the time is over."""
    over = asyncio.ensure_future(clock.sleep(seconds))
    try:
        while _etag(read()) == last_etag and not over.done():
            changed = asyncio.ensure_future(vm.changed.wait())
            await asyncio.wait((changed, over), return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
    finally:
        over.cancel()


def _etag(value: str) -> str:
    return hashlib.blake2s(value.encode(), digest_size=8).hexdigest()


def _reader(vm: Vm, project: str, path: str) -> Callable[[], str] | None:
    """How to read the value under this path now; None when there is no such path."""
    interface = vm.resource["networkInterfaces"][0]
    readers: dict[str, Callable[[], str]] = {
        "instance/preempted": lambda: "TRUE" if vm.preempted else "FALSE",
        "instance/maintenance-event": lambda: vm.maintenance,
        "instance/name": lambda: vm.name,
        "instance/id": lambda: vm.id,
        "instance/zone": lambda: f"projects/1/zones/{vm.zone}",
        "instance/machine-type": lambda: f"projects/1/machineTypes/{vm.kind}",
        "instance/scheduling/preemptible": lambda: "TRUE" if vm.spot else "FALSE",
        "instance/network-interfaces/0/ip": lambda: str(interface["networkIP"]),
        "instance/network-interfaces/0/access-configs/0/external-ip": lambda: str(
            (interface.get("accessConfigs") or [{}])[0].get("natIP", "")
        ),
        "project/project-id": lambda: project,
    }
    key = path.removeprefix("instance/attributes/")
    if key != path:
        return (lambda: vm.attribute(key) or "") if vm.attribute(key) is not None else None
    return readers.get(path)
