"""The gateway as a witness, and as a process of its own: real sockets, a hub and primaries that a test plays."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dumont.errors import LinkClosed
from dumont.gateway.routes import load, save
from dumont.wire.control import Endpoints
from dumont.wire.identity import Authority, ClientCertificate, server_context
from dumont.wire.link import SocketLink
from dumont.wire.route import FromGateway, GatewayHello, Probe, Route, Routes
from tests.integration.gateway_world import Primary, World, eventually, free_port, line, running_world

pytestmark = pytest.mark.alone  # it measures how soon a death is told


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path) as world:
        yield world


# --- the witness


async def test_a_living_primary_is_reported_up_with_its_clients(world: World) -> None:
    """Every 250 ms, so that silence of the gateway itself shows too."""
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    await eventually(lambda: bool(world.hub.probes("a")))
    reader, _ = await world.connect()
    assert await line(reader) == "I am a"
    await eventually(lambda: world.hub.probes("a")[-1].clients == 1)
    count = len(world.hub.probes("a"))
    await asyncio.sleep(1.0)
    assert 2 <= len(world.hub.probes("a")) - count <= 6
    assert all(probe.up and probe.silent_ms < 1000 for probe in world.hub.probes("a"))


async def test_a_killed_primary_is_reported_at_once(world: World) -> None:
    """A closed socket is news, not something for the next tick."""
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    await eventually(lambda: bool(world.hub.probes("a")))
    a.die()
    took_s = await eventually(lambda: not world.hub.probes("a")[-1].up)
    print(f"reported down after {took_s * 1000:.1f} ms")
    assert took_s < 0.5
    await a.open()
    assert await eventually(lambda: world.hub.probes("a")[-1].up) < 1.0


async def test_a_silent_primary_is_reported_silent_and_not_down(world: World) -> None:
    """A cut-off or frozen primary closes nothing; the two witnesses count differently."""
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    await eventually(lambda: bool(world.hub.probes("a")))
    reader, writer = await world.connect()
    assert await line(reader) == "I am a"
    a.mute = True
    await eventually(lambda: world.hub.probes("a")[-1].silent_ms > 1800, seconds=4)
    assert all(probe.up for probe in world.hub.probes("a"))
    writer.write(b"still\n")  # a client of a silent primary is cut by a route only
    assert await line(reader) == "a:still"
    a.mute = False
    assert await eventually(lambda: world.hub.probes("a")[-1].silent_ms < 500) < 2.0


async def test_a_primary_that_never_answered_is_absent_and_not_dead(world: World) -> None:
    """A session that is still starting must not be a witness against its own instance."""
    a = Primary("a", 1)
    world.hub.tell(world.route(a, 1))
    await asyncio.sleep(0.5)
    assert world.hub.probes("a") == []
    world.primaries.append(await a.open())
    await eventually(lambda: bool(world.hub.probes("a")))
    assert world.hub.probes("a")[0].up


@pytest.mark.parametrize("wrong", ["epoch", "name", "garbage"])
async def test_an_answer_of_somebody_else_does_not_count_as_up(world: World, wrong: str) -> None:
    """A port is soon reused by another process, and a fenced primary may go on answering."""
    a = await world.primary("a", 2)
    world.hub.tell(world.route(a, 2))
    await eventually(lambda: bool(world.hub.probes("a")))
    if wrong == "epoch":
        a.epoch = 1
    else:
        a.claims = "b" if wrong == "name" else "\n"
    if wrong == "garbage":
        a.epoch = None  # type: ignore[assignment]
    await eventually(lambda: not world.hub.probes("a")[-1].up)


async def test_a_new_primary_is_probed_from_scratch(world: World) -> None:
    """What was known of the old one says nothing of it."""
    a, b = await world.primary("a", 1), await world.primary("b", 2)
    world.hub.tell(world.route(a, 1))
    await eventually(lambda: bool(world.hub.probes("a")))
    a.die()
    await eventually(lambda: not world.hub.probes("a")[-1].up)
    world.hub.tell(world.route(b, 2))
    await eventually(lambda: bool(world.hub.probes("b")))
    assert all(probe.up for probe in world.hub.probes("b"))
    count = len(world.hub.probes("a"))
    await asyncio.sleep(0.4)
    assert len(world.hub.probes("a")) == count


# --- the process


class TlsHub:
    """A hub on a real port: greets every gateway with the same routes and keeps what it hears."""

    def __init__(self, directory: Path, routes: Routes) -> None:
        authority = Authority.create(directory / "ca")
        authority.write_process(directory / "run", "gateway")
        authority.write_process(directory / "server", "server")
        files = directory / "server"
        self._tls = server_context(
            files / "server.crt", files / "server.key", files / "ca.crt", ClientCertificate.OPTIONAL
        )
        self._routes = routes
        self.port = free_port()
        self.peers: list[str] = []
        self.probes: list[Probe] = []
        settings = {"server_host": "127.0.0.1", "server_port": self.port, "routes_file": "r"}
        (directory / "run" / "gateway.json").write_text(json.dumps(settings))

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)

    def close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link: SocketLink[Routes, FromGateway] = SocketLink(reader, writer, FromGateway)
        with contextlib.closing(link), contextlib.suppress(LinkClosed):
            assert await link.receive() == GatewayHello(1)
            self.peers.append(link.peer)
            await link.send(self._routes)
            while isinstance(message := await link.receive(), Probe):
                self.probes.append(message)


async def start(run_dir: Path, log_file: Path) -> asyncio.subprocess.Process:
    """A gateway's process."""
    command = [sys.executable, "-m", "dumont.gateway", str(run_dir)]
    with log_file.open("ab") as log:
        return await asyncio.create_subprocess_exec(*command, stderr=log, env=environment())


async def greeting(port: int) -> str:
    """What a client hears first; tried for ten seconds, since Python takes a while to start."""
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            said = await line(reader)
            writer.close()
            return said
        await asyncio.sleep(0.05)
    raise AssertionError("the address does not listen")


async def test_the_process_dials_the_hub_and_survives_it_and_its_own_death(tmp_path: Path) -> None:
    """`python -m dumont.gateway RUN_DIR`, over real TLS: routes outlive the server and a SIGKILL of the gateway."""
    a, ssh_port, log = await Primary("a", 1).open(), free_port(), tmp_path / "log"
    hub = TlsHub(tmp_path, Routes((Route("w", 1, ssh_port, 0, "a", a.endpoints),)))
    await hub.open()
    process = await start(tmp_path / "run", log)
    try:
        assert await greeting(ssh_port) == "I am a"
        await eventually(lambda: bool(hub.probes), seconds=5)
        assert hub.peers == ["gateway"]
        hub.close()
        process.kill()
        await process.wait()
        process = await start(tmp_path / "run", log)
        assert await greeting(ssh_port) == "I am a"
        await hub.open()
        await eventually(lambda: len(hub.peers) == 2, seconds=5)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        hub.close()
        a.die()
    assert "Traceback" not in log.read_text()


async def test_a_gateway_that_was_frozen_does_not_call_the_primary_silent(tmp_path: Path) -> None:
    """It slept, not the primary: what nobody listened for was not missing."""
    a, ssh_port = await Primary("a", 1).open(), free_port()
    hub = TlsHub(tmp_path, Routes((Route("w", 1, ssh_port, 0, "a", a.endpoints),)))
    await hub.open()
    process = await start(tmp_path / "run", tmp_path / "log")
    try:
        await eventually(lambda: bool(hub.probes), seconds=10)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2.5)
        hub.probes.clear()
        process.send_signal(signal.SIGCONT)
        await eventually(lambda: len(hub.probes) >= 4, seconds=5)
        assert [probe for probe in hub.probes if not probe.up or probe.silent_ms > 1000] == []
    finally:
        process.kill()
        await process.wait()
        hub.close()
        a.die()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


async def test_the_process_says_what_is_missing(tmp_path: Path) -> None:
    """An empty run directory is a mistake of whoever started it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dumont.gateway", str(tmp_path), stderr=asyncio.subprocess.PIPE, env=environment()
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"gateway.json" in said
    assert b"Traceback" not in said


async def test_saving_is_quick_enough_to_do_at_each_change(tmp_path: Path) -> None:
    """It happens beside the loop, but a farm's routes change often."""
    routes = Routes(tuple(Route(f"w{n}", n, n, n, f"i-{n}", Endpoints("10.0.0.1", 1, 2)) for n in range(1000)))
    began = time.monotonic()
    save(tmp_path / "routes.json", routes)
    print(f"1,000 routes saved in {(time.monotonic() - began) * 1000:.1f} ms")
    assert len(load(tmp_path / "routes.json").held) == 1000
