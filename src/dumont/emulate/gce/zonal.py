"""The emulated API of one zone's machines and their operations."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dumont.emulate.gce.filter import page
from dumont.emulate.gce.lives import Lives
from dumont.emulate.gce.order import check_labels, check_metadata, checked_request_id
from dumont.emulate.gce.refusal import Refusal, not_found
from dumont.emulate.gce.vm import Status, Vm, fingerprint
from dumont.emulate.gce.world import Operation, World

WAIT_S = 120.0
WAIT_STEP_S = 0.5
SERIAL_BYTES = 2**20

Endpoint = Callable[[Request], Awaitable[Response]]
Change = Callable[[Vm, str, dict[str, Any]], Operation]


def envelope(kind: str, where: str, found: list[dict[str, Any]], token: str, world: World) -> dict[str, Any]:
    """A list as Google wraps it: `items` is absent when there are none."""
    answer: dict[str, Any] = {
        "kind": f"compute#{kind}",
        "id": f"projects/{world.setting.project}/{where}",
        "selfLink": world.link(where),
    }
    if found:
        answer["items"] = found
    if token:
        answer["nextPageToken"] = token
    return answer


class Zonal:
    """The calls below `zones/{zone}/instances` and `zones/{zone}/operations`."""

    def __init__(self, world: World, lives: Lives) -> None:
        self.world = world
        self.lives = lives

    def routes(self) -> list[Route]:
        """Paths below a project."""
        lives, place = self.lives, "/zones/{zone}/instances"
        one, ops = f"{place}/{{name}}", "/zones/{zone}/operations"
        changes: dict[str, Change] = {
            "stop": lambda vm, request_id, _: lives.stop(vm, request_id),
            "start": lambda vm, request_id, _: lives.start(vm, request_id),
            "reset": lambda vm, request_id, _: lives.reset(vm, request_id),
            "suspend": lambda vm, request_id, _: lives.stop(vm, request_id, Status.SUSPENDED),
            "resume": lambda vm, request_id, _: lives.start(vm, request_id),
            "setLabels": self._set_labels,
            "setMetadata": self._set_metadata,
            "setScheduling": lambda vm, request_id, body: lives.reschedule(vm, body, request_id),
            "simulateMaintenanceEvent": lambda vm, request_id, _: lives.maintain(vm, request_id),
        }
        return [
            Route(place, self.insert, methods=["POST"]),
            Route(place, self.list_zone, methods=["GET"]),
            Route(f"{one}/serialPort", self.serial, methods=["GET"]),
            *(Route(f"{one}/{verb}", self._changing(change), methods=["POST"]) for verb, change in changes.items()),
            Route(one, self.get, methods=["GET"]),
            Route(one, self._changing(lambda vm, request_id, _: lives.delete(vm, request_id)), methods=["DELETE"]),
            Route(ops, self.operations, methods=["GET"]),
            Route(f"{ops}/{{name}}/wait", self.wait, methods=["POST"]),
            Route(f"{ops}/{{name}}", self.operation, methods=["GET"]),
            Route(f"{ops}/{{name}}", self.forget_operation, methods=["DELETE"]),
            Route("/aggregated/instances", self.aggregated, methods=["GET"]),
        ]

    # --- machines

    async def insert(self, request: Request) -> Response:
        request_id = checked_request_id(request.query_params.get("requestId", ""))
        if replayed := self._replayed(request_id):
            return JSONResponse(replayed)
        body = await request.json()
        return JSONResponse(self.lives.insert(request.path_params["zone"], body, request_id).resource)

    async def get(self, request: Request) -> Response:
        return JSONResponse(self._vm(request).resource)

    async def list_zone(self, request: Request) -> Response:
        zone = request.path_params["zone"]
        self.world.region_of(zone)
        found, token = page([vm.resource for vm in self.listed() if vm.zone == zone], request.query_params)
        return JSONResponse(envelope("instanceList", f"zones/{zone}/instances", found, token, self.world))

    async def aggregated(self, request: Request) -> Response:
        """All zones. A zone that can't be reached is left out with a warning, and the call still succeeds."""
        world = self.world
        away = world.faults.unreachable
        seen = [vm.resource for vm in self.listed() if vm.zone not in away]
        found, token = page(seen, request.query_params, key="selfLink")
        items: dict[str, Any] = {}
        for resource in found:
            scope = "zones/" + str(resource["zone"]).rpartition("/")[2]
            items.setdefault(scope, {"instances": []})["instances"].append(resource)
        for zone in away:
            items[f"zones/{zone}"] = {"warning": _warning("UNREACHABLE", f"zones/{zone}")}
        if found:
            for zone in world.zones:
                items.setdefault(f"zones/{zone}", {"warning": _warning("NO_RESULTS_ON_PAGE", f"zones/{zone}")})
        answer = envelope("instanceAggregatedList", "aggregated/instances", [], token, world)
        if items:
            answer["items"] = items
        return JSONResponse(answer)

    async def serial(self, request: Request) -> Response:
        vm = self._vm(request)
        text = vm.serial.encode()
        oldest = max(0, len(text) - SERIAL_BYTES)
        start = max(int(request.query_params.get("start", 0)), oldest)
        contents = text[start:]
        path = f"zones/{vm.zone}/instances/{vm.name}/serialPort"
        return JSONResponse(
            {
                "kind": "compute#serialPortOutput",
                "contents": contents.decode(errors="replace"),
                "start": str(start),
                "next": str(start + len(contents)),
                "selfLink": self.world.link(path),
            }
        )

    def listed(self) -> list[Vm]:
        """The machines that lists show: late to come, and late to go."""
        world = self.world
        then = world.timeline.now - world.faults.listing_lag_s
        gone = [vm for vm in world.gone if vm.gone_at is not None and vm.gone_at > then]
        return [vm for vm in (*world.vms.values(), *gone) if vm.born_at <= then]

    def _changing(self, change: Change) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            request_id = checked_request_id(request.query_params.get("requestId", ""))
            if replayed := self._replayed(request_id):
                return JSONResponse(replayed)
            body = await request.json() if await request.body() else {}
            return JSONResponse(change(self._vm(request), request_id, body).resource)

        return endpoint

    def _set_labels(self, vm: Vm, request_id: str, body: dict[str, Any]) -> Operation:
        if body.get("labelFingerprint") != vm.resource["labelFingerprint"]:
            raise Refusal(412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed")
        labels = check_labels(body.get("labels"))
        return self.lives.relabel(vm, {"labels": labels, "labelFingerprint": fingerprint(labels)}, request_id)

    def _set_metadata(self, vm: Vm, request_id: str, body: dict[str, Any]) -> Operation:
        if body.get("fingerprint") != vm.resource["metadata"]["fingerprint"]:
            raise Refusal(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.")
        return self.lives.relabel(vm, {"metadata": check_metadata(body)}, request_id)

    def _vm(self, request: Request) -> Vm:
        return self.world.vm(request.path_params["zone"], request.path_params["name"])

    def _replayed(self, request_id: str) -> dict[str, Any] | None:
        """The operation that the same request began, as it is now."""
        self.world.remembered()
        known = self.world.requests.get(request_id) if request_id else None
        return known.resource if known else None

    # --- operations

    async def operations(self, request: Request) -> Response:
        zone = request.path_params["zone"]
        self.world.region_of(zone)
        here = [op.resource for op in self.world.remembered() if op.zone == zone]
        found, token = page(here, request.query_params)
        return JSONResponse(envelope("operationList", f"zones/{zone}/operations", found, token, self.world))

    async def operation(self, request: Request) -> Response:
        return JSONResponse(self._operation(request).resource)

    async def wait(self, request: Request) -> Response:
        """Returns when DONE, or after two minutes at most."""
        timeline = self.world.timeline
        until = timeline.clock.monotonic() + WAIT_S
        while not self._operation(request).done.is_set() and timeline.clock.monotonic() < until:
            await timeline.clock.sleep(WAIT_STEP_S)
            await timeline.run_due()
        return JSONResponse(self._operation(request).resource)

    async def forget_operation(self, request: Request) -> Response:
        operation = self._operation(request)
        self.world.operations.remove(operation)
        return Response(status_code=204)

    def _operation(self, request: Request) -> Operation:
        zone, name = request.path_params["zone"], request.path_params["name"]
        for operation in self.world.remembered():
            if operation.zone == zone and name in (operation.resource["name"], operation.resource["id"]):
                return operation
        raise not_found(f"{self.world.setting.project}/zones/{zone}/operations/{name}")


def _warning(code: str, scope: str) -> dict[str, Any]:
    message = "There are no results for scope" if code == "NO_RESULTS_ON_PAGE" else "The scope can't be reached:"
    return {"code": code, "message": f"{message} '{scope}'.", "data": [{"key": "scope", "value": scope}]}
