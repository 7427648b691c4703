"""The levers of the emulator at `/_emulator`: faults, preemption, crashes, the bill. No part of Google's API."""

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dumont.emulate.gce.bill import bill
from dumont.emulate.gce.lives import Lives
from dumont.emulate.gce.vm import Vm
from dumont.emulate.gce.world import World
from dumont.errors import BadInput


class Levers:
    """What tests and people pull. `addresses` are the metadata servers by machine."""

    def __init__(self, world: World, lives: Lives, addresses: dict[tuple[str, str], str]) -> None:
        self.world = world
        self.lives = lives
        self.addresses = addresses

    def routes(self) -> list[Route]:
        return [
            Route("/_emulator/faults", self.faults, methods=["GET", "POST"]),
            Route("/_emulator/state", self.state, methods=["GET"]),
            Route("/_emulator/bill", self.bill, methods=["GET"]),
            Route("/_emulator/preempt", self.preempt, methods=["POST"]),
            Route("/_emulator/crash", self.crash, methods=["POST"]),
        ]

    async def faults(self, request: Request) -> Response:
        """The fault book; POST changes the fields that its JSON names."""
        if request.method == "POST":
            try:
                self.world.faults.change(await request.json())
            except BadInput as error:
                return JSONResponse({"error": str(error)}, 400)
        book = asdict(self.world.faults)
        return JSONResponse({name: sorted(v) if isinstance(v, set) else v for name, v in book.items()})

    async def state(self, request: Request) -> Response:
        """Every machine, with its metadata server and the outside of the ports given as `port=`."""
        ports = [int(port) for port in request.query_params.getlist("port")]
        return JSONResponse({"machines": [self._shown(vm, ports) for vm in self.world.vms.values()]})

    async def bill(self, request: Request) -> Response:
        return JSONResponse({"lines": [asdict(line) for line in bill(self.world)]})

    async def preempt(self, request: Request) -> Response:
        """`{"zone": …, "name": …, "action": "STOP"|"DELETE"|""}`; "" is what the machine was made with."""
        body = await request.json()
        self.lives.preempt(self.world.vm(body["zone"], body["name"]), body.get("action", ""))
        return JSONResponse({})

    async def crash(self, request: Request) -> Response:
        """`{"zone": …, "name": …}`: its host fails."""
        body = await request.json()
        self.lives.crash(self.world.vm(body["zone"], body["name"]))
        return JSONResponse({})

    def _shown(self, vm: Vm, ports: list[int]) -> dict[str, Any]:
        runs = self.world.ground.is_running(vm.name)
        return {
            "zone": vm.zone,
            "name": vm.name,
            "id": vm.id,
            "status": vm.status.value,
            "preempted": vm.preempted,
            "runs": runs,
            "metadata_host": self.addresses.get((vm.zone, vm.name), ""),
            "ports": {str(port): self.world.ground.outside(vm.name, port) for port in ports} if runs else {},
        }
