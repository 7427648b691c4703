"""What the gateway's tests share: a hub and primaries that a test plays, and clients at the address."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

from dumont.clock import SystemClock
from dumont.errors import LinkClosed
from dumont.gateway.gateway import Gateway
from dumont.wire.control import Endpoints
from dumont.wire.route import FromGateway, Probe, Route, Routes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class FakeHub:
    """A hub's end of the link, without any network: what the gateway is told and what it said."""

    peer = "server"

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Routes | Exception] = asyncio.Queue()
        self.heard: list[FromGateway] = []
        self.dials = 0
        self.away = False

    async def dial(self) -> "FakeHub":
        self.dials += 1
        if self.away:
            raise LinkClosed("nobody answers at the test's wish")
        return self

    async def send(self, message: FromGateway) -> None:
        if self.away:
            raise LinkClosed("gone")
        self.heard.append(message)

    async def receive(self) -> Routes:
        told = await self.incoming.get()
        if isinstance(told, Exception):
            raise told
        return told

    def close(self) -> None:
        pass

    def tell(self, *routes: Route) -> None:
        self.incoming.put_nowait(Routes(routes))

    def probes(self, instance_id: str) -> list[Probe]:
        return [heard for heard in self.heard if isinstance(heard, Probe) and heard.instance_id == instance_id]


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


class Primary:
    """An instance: its SSH port greets with its name and echoes lines, its HTTP port answers probes."""

    def __init__(self, name: str, epoch: int) -> None:
        self.name = name
        self.epoch = epoch
        self.mute = False
        self.serving = True
        self.claims = name
        self.accepted = 0
        self.ssh_port = free_port()
        self.http_port = free_port()
        self.writers: set[asyncio.StreamWriter] = set()
        self.servers: list[asyncio.Server] = []
        self.on_ssh: Handler = self.greet
        self.on_request = self.answer
        self.requests: list[bytes] = []

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints("127.0.0.1", self.ssh_port, self.http_port)

    async def open(self) -> "Primary":
        for handler, port in ((self._ssh, self.ssh_port), (self._http, self.http_port)):
            self.servers.append(await asyncio.start_server(handler, "127.0.0.1", port))
        return self

    def die(self) -> None:
        """What SIGKILL does: every socket closes."""
        for server in self.servers:
            server.close()
        self.servers = []
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def _ssh(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self.on_ssh(reader, writer)

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"I am {self.name}\n".encode())
        while line := await reader.readline():
            writer.write(self.name.encode() + b":" + line)
        writer.write(b"end\n")
        writer.close()

    async def answer(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        """What the workspace's own HTTP server does; doors that are closed close without a word."""
        if self.serving:
            self.requests.append(request)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + self.name.encode())
        writer.close()

    async def break_down(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        """A server that carries a request out and dies of it."""
        self.requests.append(request)
        writer.close()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                if line != b"DUMONT PROBE 1\n":
                    await self.on_request(line, writer)
                elif not self.mute:
                    answer = {"epoch": self.epoch, "instance": self.claims, "serving": self.serving, "head": [1, 2]}
                    writer.write(json.dumps(answer).encode() + b"\n")


class World:
    """A gateway, its hub and what is needed to be its client."""

    def __init__(self, directory: Path) -> None:
        self.hub = FakeHub()
        self.routes_file = directory / "routes.json"
        self.ssh_port = free_port()
        self.http_port = free_port()
        self.primaries: list[Primary] = []
        self.writers: list[asyncio.StreamWriter] = []  # a stream closes when nobody holds its writer any more
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.gateway = Gateway(self.hub.dial, self.routes_file, "127.0.0.1", SystemClock())
        self._serving = asyncio.create_task(self.gateway.run())

    async def stop(self) -> None:
        if self._serving:
            self._serving.cancel()
            await asyncio.wait({self._serving})
        await asyncio.sleep(0.01)

    async def primary(self, name: str, epoch: int) -> Primary:
        primary = Primary(name, epoch)
        self.primaries.append(primary)
        return await primary.open()

    def route(self, primary: Primary | None, epoch: int) -> Route:
        name, endpoints = (primary.name, primary.endpoints) if primary else ("", None)
        return Route("w", epoch, self.ssh_port, self.http_port, name, endpoints)

    async def connect(self, port: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client at the address; tried for two seconds, since the door opens a moment after its route came."""
        for _ in range(100):
            with contextlib.suppress(ConnectionRefusedError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port or self.ssh_port)
                self.writers.append(writer)
                return reader, writer
            await asyncio.sleep(0.02)
        raise AssertionError("the address does not listen")


@contextlib.asynccontextmanager
async def running_world(directory: Path) -> AsyncIterator[World]:
    """A world whose gateway runs; everything in it is closed at the end."""
    world = World(directory)
    await world.start()
    yield world
    for writer in world.writers:
        writer.transport.abort()
    await world.stop()
    for primary in world.primaries:
        primary.die()
    await asyncio.sleep(0.02)  # for their handlers to notice


async def eventually(condition: Callable[[], bool], seconds: float = 3.0) -> float:
    """How many seconds it took until `condition` held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def line(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(5):
        return (await reader.readline()).decode().strip()


async def is_cut(reader: asyncio.StreamReader, seconds: float = 3.0) -> bool:
    """Whether the connection is reset; an orderly end does not count."""
    try:
        async with asyncio.timeout(seconds):
            return await reader.read() is None
    except ConnectionResetError:
        return True
