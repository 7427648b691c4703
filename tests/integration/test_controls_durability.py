"""Ack before fsync: the order of system calls, as the kernel's tracer saw them, and disks that fail or are full."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dumont.replication.barrier import Answer
from dumont.replication.replica import Replica
from tests.integration.household import household, within
from tests.integration.pair import CPU, GPU, Machine, following, leading, said

pytestmark = pytest.mark.timeout(90)
traced = pytest.mark.skipif(shutil.which("strace") is None, reason="apt-get install strace")

ROOT = Path(__file__).resolve().parents[2]
BARRIERS = 12
CALLS = "pwrite64,write,fdatasync,fsync,sendto,sendmsg"
_BEGUN = re.compile(r"^(\d+) +(\w+)\(\d+<(.*?)>([,) ].*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")


@dataclass
class Call:
    """One system call of the standby. `begun` and `ended` are positions in the trace; `ended` None: not in it."""

    name: str
    target: str
    said: str
    begun: int
    ended: int | None = None
    result: str = ""

    @property
    def is_ack(self) -> bool:
        return self.target.startswith("TCP") and "ack" in self.said

    @property
    def is_journal(self) -> bool:
        return self.target.endswith(".segment")


def read_trace(text: str) -> list[Call]:
    """The calls of an `strace -f -yy` in the order in which they began."""
    calls: list[Call] = []
    open_calls: dict[str, Call] = {}
    for position, line in enumerate(text.splitlines()):
        if begun := _BEGUN.match(line):
            call = Call(begun[2], begun[3], begun[4], position)
            calls.append(call)
            if "<unfinished ...>" in line:
                open_calls[begun[1]] = call
            else:
                call.ended, call.result = position, line.rpartition(" = ")[2]
        elif (resumed := _RESUMED.match(line)) and resumed[1] in open_calls:
            call = open_calls.pop(resumed[1])
            call.ended, call.result = position, line.rpartition(" = ")[2]
    return calls


def acks_before_fsync(calls: list[Call]) -> list[Call]:
    """Every acknowledgement that left while something written to the journal was not fdatasynced."""
    return [ack for ack in calls if ack.is_ack and _unsynced(calls, ack.begun)]


def _unsynced(calls: list[Call], at: int) -> bool:
    journal = [call for call in calls if call.is_journal and call.begun < at]
    for written in (call for call in journal if call.name in ("pwrite64", "write")):
        synced = (
            call.name in ("fdatasync", "fsync") and call.target == written.target and call.result == "0"
            and written.ended is not None and call.begun > written.ended
            and call.ended is not None and call.ended < at
            for call in journal
        )  # fmt: skip
        if not any(synced):
            return True
    return False


@dataclass
class Bystander:
    """The standby's half in a process of its own, under strace."""

    machine: Machine
    trace: Path
    process: "subprocess.Popen[bytes]"

    def port(self) -> int:
        path = self.machine.path / "port"
        return int(path.read_text()) if path.exists() else 1

    @property
    def halted(self) -> str:
        path = self.machine.path / "halted"
        return path.read_text() if path.exists() else ""

    def end(self) -> str:
        """End it, and strace with it; what strace saw."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((self.machine.path / "pid").read_text()), signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        return self.trace.read_text(errors="replace")


@contextlib.contextmanager
def bystander(directory: Path, disk: str = "WorkspaceDisk", *options: str) -> Iterator[Bystander]:
    directory.mkdir(exist_ok=True)
    trace = directory / "trace"
    tracer = ["strace", "-f", "-yy", "-s", "64", "-e", f"trace={CALLS}", "-o", str(trace), *options]
    command = [sys.executable, "-m", "tests.integration.pair", "standby", str(directory), disk]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*tracer, *command], env=environment, stdout=log, stderr=log)
    one = Bystander(Machine(directory), trace, process)
    try:
        yield one
    finally:
        one.end()


@contextlib.asynccontextmanager
async def primary(directory: Path, port: "Bystander | int") -> AsyncIterator[Replica]:
    """A primary with a live tree and a watchdog."""
    directory.mkdir()
    with household(directory):
        replica = Machine(directory).replica(GPU)
        async with leading(replica, (lambda: port) if isinstance(port, int) else port.port) as replica:
            yield replica


async def write_and_ask(replica: Replica, tree: Path, number: int, timeout_s: float = 10.0) -> Answer:
    """Change the tree, and take a barrier."""
    (tree / f"file-{number % 7}").write_bytes(os.urandom(1000 + number))
    return await replica.barrier((), timeout_s)


async def traced_barriers(directory: Path, disk: str) -> tuple[int, list[Call]]:
    """How many barriers returned OK, and the standby's calls meanwhile."""
    with bystander(directory / "cpu", disk) as standby:
        async with primary(directory / "gpu", standby) as replica:
            answers = [await write_and_ask(replica, directory / "gpu/workspace", n) for n in range(BARRIERS)]
        return sum(answer.ok for answer in answers), read_trace(standby.end())


@traced
async def test_every_acknowledgement_follows_an_fdatasync_of_the_journal(short_dir: Path) -> None:
    """The page cache survives a killed process, so only the order of calls shows what a power cut would leave."""
    ok, calls = await traced_barriers(short_dir, "WorkspaceDisk")
    assert ok == BARRIERS
    assert sum(call.is_ack for call in calls) >= BARRIERS
    assert sum(call.is_journal and call.name == "pwrite64" for call in calls) >= BARRIERS
    assert acks_before_fsync(calls) == []


@traced
@pytest.mark.parametrize("disk", ["SleepingDisk", "HastyDisk"])
async def test_an_acknowledgement_before_its_fsync_is_caught(short_dir: Path, disk: str) -> None:
    """The negative control: a disk that doesn't fsync, and one that does so too late."""
    ok, calls = await traced_barriers(short_dir, disk)
    assert ok == BARRIERS
    assert len(acks_before_fsync(calls)) >= BARRIERS // 2


@traced
async def test_after_a_failed_fsync_nothing_is_acknowledged_ever(short_dir: Path) -> None:
    """The kernel forgets what it could not write, so a second fsync that succeeds proves nothing."""
    inject = "inject=fdatasync:error=EIO:when=4..5"  # of each thread; later ones succeed
    with bystander(short_dir / "cpu", "WorkspaceDisk", "-e", inject) as standby:
        async with primary(short_dir / "gpu", standby) as replica:
            answers: list[Answer] = []
            while len(answers) < 60 and not standby.halted:
                answers.append(await write_and_ask(replica, short_dir / "gpu/workspace", len(answers), 2.0))
            later = [await write_and_ask(replica, short_dir / "gpu/workspace", n, 0.5) for n in range(6)]
            peers = {peer.instance_id: peer for peer in said(replica).peers}
        calls = read_trace(standby.end())
    assert answers[0].ok, answers[0]
    assert "could not be made durable" in standby.halted
    assert not any(answer.ok for answer in later)
    assert all(answer.reason for answer in later)
    assert "could not be made durable" in peers[CPU].refusal
    failed_at = min(call.begun for call in calls if call.result.startswith("-1 EIO"))
    assert not [call for call in calls if call.is_ack and call.begun > failed_at]
    assert acks_before_fsync(calls) == []
    check_it_refuses_when_started_again(short_dir / "cpu")


def check_it_refuses_when_started_again(directory: Path) -> None:
    """A failed disk is remembered, or the next process would rely on what it can read back."""
    for name in ("halted", "port", "pid"):
        (directory / name).unlink()
    with bystander(directory) as again:
        within(20, lambda: "failed before" in again.halted, "it refuses")


@pytest.fixture
def small_disk(short_dir: Path) -> Iterator[Path]:
    """A file system of 40 MB."""
    path = short_dir / "cpu"
    path.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", path], check=False).returncode
    ):
        pytest.skip("needs root, to mount a small file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


async def test_a_full_standby_refuses_in_words_and_acknowledges_nothing(short_dir: Path, small_disk: Path) -> None:
    """What does not fit is no second copy, and its owner must hear why."""
    async with following(Machine(small_disk).replica(CPU)) as port, primary(short_dir / "gpu", port) as replica:
        tree = short_dir / "gpu/workspace"
        assert (await write_and_ask(replica, tree, 1)).ok
        (tree / "large").write_bytes(os.urandom(60_000_000))
        refused = await replica.barrier((), 5.0)
        assert not refused.ok
        assert refused.reason
        later = [await write_and_ask(replica, tree, number, 0.5) for number in range(3)]
        assert not any(answer.ok for answer in later)
        refusal = next(peer.refusal for peer in said(replica).peers if peer.instance_id == CPU)
        assert "DiskFull" in refusal
        assert "free some" in refusal
