"""Faults from outside are what happens to rented machines: a kill closes sockets at once, a cut is only silence."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dumont.demo import faults
from dumont.errors import BadInput, NotPossibleHere
from dumont.provider.base import Phase
from dumont.provider.jail import Mode
from dumont.provider.local import LocalProvider
from dumont.provider.network import cloud_key
from tests.integration.landlord import MODES, landlord, processes, rent, until

PORT = 7000
SILENCE_S = 3.0
HEALED_S_MAX = 30.0  # the later of its doubling retransmissions may be that far apart
EOF_S_MAX = 1.0

# Counts on each connection what it heard, and echoes it: so the two directions can be told apart from outside.
ECHO = f"""
import json, os, pathlib, socket, sys, threading
run_dir = pathlib.Path(sys.argv[1])
host = json.loads((run_dir / "boot.json").read_text())["host"]
def serve(connection):
    heard = 0
    try:
        while data := connection.recv(65536):
            heard += len(data)
            (run_dir / "heard.new").write_text(str(heard))
            os.rename(run_dir / "heard.new", run_dir / "heard")
            connection.sendall(data)
        (run_dir / "ended").write_text("EOF")
    except OSError as error:
        (run_dir / "ended").write_text(repr(error))
listener = socket.create_server((host, {PORT} if host != "127.0.0.1" else 0))
(run_dir / "agent.pids").write_text(json.dumps({{"watchdog": os.getpid()}}))
(run_dir / "port").write_text(str(listener.getsockname()[1]))
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"""


@dataclass
class Line:
    """A client's TCP connection to the echo in an instance."""

    home: Path
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent: int = 0

    def send(self, count: int = 1) -> None:
        self.writer.write(b"." * count)
        self.sent += count

    async def answers(self, within_s: float, count: int = 1) -> bool:
        """Whether that many bytes come back in time. Raises when the connection ends: that would be no silence."""
        try:
            async with asyncio.timeout(within_s):
                await self.reader.readexactly(count)
        except TimeoutError:
            return False
        return True

    @property
    def heard(self) -> int:
        """The bytes that reached the instance."""
        return int((run_dir(self.home) / "heard").read_text())

    @property
    def ended(self) -> str:
        """How the connection ended for the instance; "" while it did not."""
        file = run_dir(self.home) / "ended"
        return file.read_text() if file.exists() else ""


def run_dir(home: Path) -> Path:
    return home / "instances/gpu-1/root/run/dumont"


async def connect(provider: LocalProvider) -> Line:
    """Rent an instance with an echo in it and open a connection that was answered once."""
    machine = await rent(provider, "gpu-1")
    port = run_dir(provider.home) / "port"
    await until(lambda: port.exists() and port.read_text() != "", "the echo listens")
    reader, writer = await asyncio.open_connection(machine.host, int(port.read_text()))
    line = Line(provider.home, reader, writer)
    line.send()
    assert await line.answers(HEALED_S_MAX)
    return line


@pytest.fixture
async def provider(short_dir: Path) -> AsyncIterator[LocalProvider]:
    async with landlord(short_dir, Mode.NETNS, (sys.executable, "-c", ECHO)) as provider:
        yield provider


@pytest.fixture
async def line(provider: LocalProvider) -> AsyncIterator[Line]:
    line = await connect(provider)
    try:
        yield line
    finally:
        line.writer.close()
        with contextlib.suppress(OSError):
            await line.writer.wait_closed()


# --- killed


@MODES
async def test_a_kill_is_heard_at_once_by_its_connections(short_dir: Path, mode: Mode) -> None:
    """Sockets close when a machine's processes die: that is what lets a kill be detected in a fraction of a second."""
    async with landlord(short_dir, mode, (sys.executable, "-c", ECHO)) as provider:
        line = await connect(provider)
        heard_eof = asyncio.create_task(line.reader.read(1))
        before = time.monotonic()
        killed_at = await faults.kill(short_dir, "gpu-1")
        async with asyncio.timeout(EOF_S_MAX):
            assert await heard_eof == b""
        assert before <= killed_at <= time.monotonic()
        assert processes("gpu-1", cloud_key(short_dir)) == []
        assert (await provider.machine("gpu-1")).phase is Phase.STOPPED
        line.writer.close()


async def test_a_kill_needs_a_living_instance(short_dir: Path) -> None:
    """A round that killed nothing must not be counted as survived."""
    async with landlord(short_dir, Mode.PLAIN) as provider:
        await rent(provider, "gpu-1")
        await faults.kill(short_dir, "gpu-1")
        with pytest.raises(BadInput):
            await faults.kill(short_dir, "gpu-1")
        with pytest.raises(BadInput):
            await faults.kill(short_dir, "gpu-2")


@MODES
async def test_a_kill_spares_the_neighbour(short_dir: Path, mode: Mode) -> None:
    """The standby is a neighbour on this machine."""
    async with landlord(short_dir, mode) as provider:
        await rent(provider, "gpu-1")
        await rent(provider, "cpu-1")
        await faults.kill(short_dir, "gpu-1")
        assert (await provider.machine("cpu-1")).phase is Phase.RUNNING


# --- cut off


async def test_a_cut_both_ways_is_only_silence(line: Line) -> None:
    """No reset, no end of file, no error: a peer can't know, which is why leases exist."""
    await faults.cut(line.home, "gpu-1")
    heard = line.heard
    line.send()
    assert not await line.answers(SILENCE_S)
    assert line.heard == heard
    assert line.ended == ""
    await _healed(line)


async def test_a_cut_of_what_it_sends_leaves_it_hearing(line: Line) -> None:
    """The nastier half: the instance thinks that all is well, and goes on acknowledging to nobody."""
    await faults.cut(line.home, "gpu-1", "out")
    line.send()
    assert not await line.answers(SILENCE_S)
    assert line.heard == line.sent
    assert line.ended == ""
    await _healed(line)


async def test_a_cut_of_what_it_hears_leaves_its_words_arriving(short_dir: Path) -> None:
    """The other half: its heartbeats arrive, and no answer reaches it."""
    start = "heard = 0; threading.Thread(target=speak, args=[connection], daemon=True).start()"
    speaker = ECHO.replace("heard = 0", start).replace("connection.sendall(data)", "pass")
    speaker = speaker.replace("def serve", f"{SPEAK}\ndef serve")
    async with landlord(short_dir, Mode.NETNS, (sys.executable, "-c", speaker)) as provider:
        line = await connect(provider)
        await until((run_dir(short_dir) / "heard").exists, "it heard the first byte")
        await faults.cut(short_dir, "gpu-1", "in")
        heard, said = line.heard, int((run_dir(short_dir) / "said").read_text())
        line.send()
        arrived = 1  # when the connection was made
        async with asyncio.timeout(HEALED_S_MAX):  # it says no more than fits its window of unacknowledged packets
            while arrived <= said:
                arrived += len(await line.reader.read(1 << 16))
        await asyncio.sleep(SILENCE_S)
        assert line.heard == heard
        assert line.ended == ""
        await faults.heal(short_dir, "gpu-1")
        async with asyncio.timeout(HEALED_S_MAX):
            while line.heard < line.sent:
                await asyncio.sleep(0.01)
        line.writer.close()


SPEAK = """
def speak(connection):
    said = 0
    while True:
        connection.sendall(b".")
        said += 1
        (run_dir / "said.new").write_text(str(said))
        os.rename(run_dir / "said.new", run_dir / "said")
        threading.Event().wait(0.05)
"""


async def test_a_cut_is_silence_for_the_instance_too(short_dir: Path) -> None:
    """The replication stream is dialled from inside; its sender must hear nothing either."""
    dialler = f"""
import json, pathlib, socket, sys, time
run_dir = pathlib.Path(sys.argv[1])
boot = json.loads((run_dir / "boot.json").read_text())
connection = socket.create_connection((boot["server_host"], boot["server_port"]))
connection.settimeout({SILENCE_S})
while not (run_dir / "cut").exists():
    time.sleep(0.01)
def attempt(name, act):
    try:
        seen = "answered " + repr(act())
    except OSError as error:
        seen = type(error).__name__
    (run_dir / "draft").write_text(seen)
    (run_dir / "draft").rename(run_dir / name)  # whole as soon as it is there
def fresh():
    socket.create_connection((boot["server_host"], boot["server_port"]), timeout={SILENCE_S})
connection.sendall(b"?")
attempt("old", lambda: connection.recv(1))
attempt("new", fresh)
time.sleep(1000)
"""
    async with landlord(short_dir, Mode.NETNS, (sys.executable, "-c", dialler)) as provider:
        accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.put_nowait((reader, writer))

        async with await asyncio.start_server(accept, provider.server_host, 4000):
            await rent(provider, "gpu-1")
            reader, writer = await accepted.get()
            await faults.cut(short_dir, "gpu-1")
            (run_dir(short_dir) / "cut").touch()
            await until((run_dir(short_dir) / "new").exists, "it gave up waiting")
            assert (run_dir(short_dir) / "old").read_text() == "TimeoutError"
            assert (run_dir(short_dir) / "new").read_text() == "TimeoutError"
            assert accepted.empty()
            await faults.heal(short_dir, "gpu-1")
            async with asyncio.timeout(HEALED_S_MAX):
                assert await reader.read(1) == b"?"
            writer.close()


async def test_a_cut_off_instance_does_not_reach_its_neighbours_either(short_dir: Path) -> None:
    """Primary and standby talk to each other directly; a cut that left that open would prove nothing."""
    async with landlord(short_dir, Mode.NETNS, (sys.executable, "-c", ECHO)) as provider:
        await rent(provider, "gpu-1")
        other = await rent(provider, "cpu-1")
        directory = short_dir / "instances/gpu-1"
        netns = json.loads((directory / "machine.json").read_text())["cable"]["netns"]
        await until((short_dir / "instances/cpu-1/root/run/dumont/port").exists, "the neighbour listens")

        async def reaches(netns: str) -> bool:
            asking = f"import socket; socket.create_connection(({other.host!r}, {PORT}), timeout=1).close()"
            process = await asyncio.create_subprocess_exec(
                *("nsenter", f"--net=/run/netns/{netns}", sys.executable, "-c", asking), stderr=subprocess.DEVNULL
            )
            return await process.wait() == 0

        assert await reaches(netns)
        for direction in ("both", "out", "in"):
            await faults.cut(short_dir, "gpu-1", direction)
            assert not await reaches(netns), direction
            await faults.heal(short_dir, "gpu-1")
            assert await reaches(netns), direction


async def test_cutting_and_healing_may_be_repeated(line: Line) -> None:
    """Rounds overlap, and a harness that was interrupted begins by healing."""
    for _ in range(2):
        await faults.heal(line.home, "gpu-1")
    for direction in ("in", "both", "out"):
        await faults.cut(line.home, "gpu-1", direction)
    line.send()
    assert not await line.answers(0.5)
    await _healed(line)


async def test_without_a_cable_nothing_is_cut(short_dir: Path) -> None:
    """A round that cut nothing must not be counted as survived."""
    async with landlord(short_dir, Mode.PLAIN) as provider:
        await rent(provider, "gpu-1")
        with pytest.raises(NotPossibleHere):
            await faults.cut(short_dir, "gpu-1")


# --- frozen, and looked at


@MODES
async def test_the_instances_own_processes_are_found_and_frozen(short_dir: Path, mode: Mode) -> None:
    """A pid from inside of a jail names another process outside."""
    async with landlord(short_dir, mode, (sys.executable, "-c", ECHO)) as provider:
        line = await connect(provider)
        pid = faults.pids_of(short_dir, "gpu-1")["watchdog"]
        assert ECHO[:60].encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        faults.freeze_pid(pid)
        await until(lambda: _stands(pid), "its threads stand still")  # one stops the others, when it gets to run
        line.send()
        assert not await line.answers(0.2)
        faults.thaw_pid(pid)
        assert await line.answers(HEALED_S_MAX)
        line.writer.close()


@MODES
async def test_the_tree_is_seen_from_outside(short_dir: Path, mode: Mode) -> None:
    """The walker that compares trees reads the files of a jailed instance."""
    writing = 'import json, sys, time; boot = json.load(open(sys.argv[1] + "/boot.json"))'
    writing += '; open(boot["workspace_dir"] + "/hello", "w").close(); time.sleep(1000)'
    async with landlord(short_dir, mode, (sys.executable, "-c", writing)) as provider:
        await rent(provider, "gpu-1")
        await until((faults.tree_of(short_dir, "gpu-1") / "hello").exists, "it wrote into its workspace")


def _stands(pid: int) -> bool:
    """Whether the kernel has stopped every thread of that process."""
    states = [stat.read_bytes().rpartition(b")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return states == [b"T"] * len(states)


async def _healed(line: Line) -> None:
    """The same connection goes on and nothing was lost of what was sent meanwhile."""
    await faults.heal(line.home, "gpu-1")
    assert await line.answers(HEALED_S_MAX)
    line.send()
    assert await line.answers(HEALED_S_MAX)
    assert line.heard == line.sent
