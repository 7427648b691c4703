"""The emulator's servers on loopback: the API, and one metadata server for each machine that runs."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from random import Random

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from dumont.clock import Clock, SystemClock
from dumont.emulate.gce.faults import Faults
from dumont.emulate.gce.gate import Gate, is_no_cut
from dumont.emulate.gce.levers import Levers
from dumont.emulate.gce.lives import Lives
from dumont.emulate.gce.metadata import metadata_app
from dumont.emulate.gce.places import Places, firewall
from dumont.emulate.gce.refusal import Refusal
from dumont.emulate.gce.vm import Vm
from dumont.emulate.gce.world import Setting, World
from dumont.emulate.gce.zonal import Zonal
from dumont.emulate.ground import Ground
from dumont.errors import ProviderError

TICK_S = 0.05
STOP_S_MAX = 5.0
HOST = "127.0.0.1"
POWER_OFF = "/_emulator/poweroff"

Wrap = Callable[[ASGIApp], ASGIApp]


class Server(uvicorn.Server):
    """A uvicorn server that leaves the process's signals alone, and ends as soon as it is told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.over = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.over.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Served:
    """One application served on a loopback port until `close`."""

    def __init__(self, app: ASGIApp, port: int, host: str = HOST) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, port))
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        logging.getLogger("uvicorn.error").addFilter(is_no_cut)
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._server = Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    async def up(self) -> None:
        """Wait until it answers."""
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0)

    async def close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._server.over.set()
        await asyncio.wait([self._task], timeout=STOP_S_MAX)
        self._socket.close()


class Emulator:
    """The emulated cloud and its servers. `endpoint` is what clients take; faults and levers are attributes too."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lives = Lives(world)
        self.lives.on_run, self.lives.on_rest = self._run, self._rest
        self.endpoint = ""
        self.metadata: dict[tuple[str, str], str] = {}
        self._guests: dict[tuple[str, str], Served] = {}
        self._servers: list[Served] = []
        self._ticker: asyncio.Task[None] | None = None

    @property
    def faults(self) -> Faults:
        return self.world.faults

    def app(self) -> Starlette:
        """The application: Google's paths below `/compute/v1`, and the levers."""
        zonal, places = Zonal(self.world, self.lives), Places(self.world)
        project: list[BaseRoute] = [*zonal.routes(), *places.routes()]
        routes: list[BaseRoute] = [
            *Levers(self.world, self.lives, self.metadata).routes(),
            Route("/compute/v1/projects/{project}", places.project, methods=["GET"]),
            Mount("/compute/v1/projects/{project}", routes=project),
        ]
        return Starlette(routes=routes, exception_handlers={Refusal: _refuse})

    async def open(self, port: int, ticks: bool, wrap: Wrap) -> None:
        """Serve. `ticks` lets time pass without calls, for a clock that passes by itself."""
        served = Served(wrap(Gate(self.app(), self.world)), port)
        self._servers.append(served)
        await served.up()
        self.endpoint = f"http://{served.address}"
        if ticks:
            self._ticker = asyncio.create_task(self.world.timeline.run_forever(TICK_S))

    async def close(self) -> None:
        """End the servers and everything that runs on the ground."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait([self._ticker])
        await asyncio.gather(*(served.close() for served in (*self._servers, *self._guests.values())))
        for task in list(self.world.tasks):
            task.cancel()
        if self.world.tasks:
            await asyncio.wait(self.world.tasks)
        await self.world.ground.close()

    async def _run(self, vm: Vm) -> None:
        """Start its metadata server, then its processes with the startup script, as at every boot."""
        environment = {}
        setting = self.world.setting
        if setting.metadata_servers and (vm.zone, vm.name) not in self._guests:
            app = metadata_app(vm, setting.project, self.world.timeline.clock)
            app.router.routes.append(Route(POWER_OFF, self._power_off(vm), methods=["POST"]))
            guest = Served(app, 0, setting.metadata_host)
            self._guests[vm.zone, vm.name] = guest
            await guest.up()
            self.metadata[vm.zone, vm.name] = guest.address
        if address := self.metadata.get((vm.zone, vm.name)):
            environment["GCE_METADATA_HOST"] = address
            environment["DUMONT_POWEROFF"] = _turning_off(address)
        vm.say(f"startup-script: {_echoed(vm)}")
        try:
            await self.world.ground.start(vm.name, vm.attribute("startup-script") or "true", environment)
        except ProviderError as error:  # a machine that runs, and nothing on it does: as with a broken image
            vm.say(f"the ground can't run it: {error}")

    def _power_off(self, vm: Vm) -> Callable[[Request], Awaitable[Response]]:
        async def power_off(request: Request) -> Response:
            self.lives.power_off(vm)
            return JSONResponse({})

        return power_off

    async def _rest(self, vm: Vm) -> None:
        self.metadata.pop((vm.zone, vm.name), None)
        if guest := self._guests.pop((vm.zone, vm.name), None):
            await guest.close()


def _turning_off(address: str) -> str:
    """What stands for `poweroff` on a machine that is only processes: a word to its metadata server, said by bash."""
    host, _, port = address.partition(":")
    return f"exec 3<>/dev/tcp/{host}/{port} && printf 'POST {POWER_OFF} HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"


def _echoed(vm: Vm) -> str:
    """What a startup script says that says something right away: its `echo` lines. The ground keeps the rest."""
    lines = (vm.attribute("startup-script") or "").splitlines()
    return " ".join(line.removeprefix("echo ") for line in lines if line.startswith("echo "))


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.envelope(), error.code)


def _bare(app: ASGIApp) -> ASGIApp:
    return app


@contextlib.asynccontextmanager
async def emulate_gce(
    port: int,
    ground: Ground,
    seed: int,
    setting: Setting | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Emulator]:
    """An emulator on this loopback port (0: any), with a firewall rule that lets machines be reached.

    With a clock of your own, time passes only as calls come in; without one it is the system's.
    """
    world = World(ground, setting or Setting(), Faults(), clock or SystemClock(), Random(seed))
    async with serving(world, port, ticks=clock is None) as emulator:
        yield emulator


@contextlib.asynccontextmanager
async def serving(world: World, port: int, ticks: bool, wrap: Wrap = _bare) -> AsyncIterator[Emulator]:
    """An emulator of this world; `wrap` may look at every request and answer on its way."""
    if world.setting.firewall_open:
        allowed = [{"IPProtocol": "tcp", "ports": ["7022", "7080", "7443"]}]
        world.firewalls["dumont"] = firewall(
            world, "dumont", {"name": "dumont", "allowed": allowed, "targetTags": ["dumont"]}
        )
    emulator = Emulator(world)
    await emulator.open(port, ticks, wrap)
    try:
        yield emulator
    finally:
        await emulator.close()
