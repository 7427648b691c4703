"""The freezer on real processes: everybody stands still, for a few milliseconds, and nobody notices."""

import os
import pty
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dumont.agent.boot import RunDir
from dumont.agent.freeze import Freezer, Ledger, stop_all
from dumont.agent.processes import Process, read, state
from tests.integration.household import Household, household, states, within

pytestmark = pytest.mark.alone  # it counts milliseconds

COUNTERS = """
for n in 1 2 3 4 5 6 7 8 9; do
  ( i=0; while true; do i=$((i+1)); echo $i > $(dirname "$0")/../count.$n; sleep 0.002; done ) &
done
wait
"""
TRACER = """
import ctypes, sys, time
PTRACE_ATTACH = 16
print(ctypes.CDLL(None).ptrace(PTRACE_ATTACH, int(sys.argv[1]), None, None), flush=True)
time.sleep(1000)
"""
THREADS = """
import mmap, sys, threading, time
file = open(sys.argv[1], "r+b")
shared = mmap.mmap(file.fileno(), 4096)
def count(at):
    while True:
        shared[at] = (shared[at] + 1) % 256
for at in range(1, 4):
    threading.Thread(target=count, args=(at,), daemon=True).start()
count(0)
"""


@pytest.fixture
def house(short_dir: Path) -> Iterator[Household]:
    with household(short_dir) as house:
        yield house


@pytest.fixture
def freezer(house: Household) -> Iterator[Freezer]:
    freezer = Freezer(house.run)
    yield freezer
    freezer.close()


def counts(house: Household) -> list[bytes]:
    return [path.read_bytes() for path in sorted(house.run.path.glob("count.*"))]


def test_nobody_writes_while_frozen_and_everybody_afterwards(house: Household, freezer: Freezer) -> None:
    """New processes come every two milliseconds; one that slips through makes a commit that never was."""
    house.ask(COUNTERS, 10)
    within(3.0, lambda: len(counts(house)) == 9, "all count")
    for _ in range(20):
        assert freezer.freeze(5.0)
        before = counts(house)
        time.sleep(0.01)
        assert counts(house) == before
        assert states(house.workload()) <= {"T", "Z"}
        freezer.thaw()
        within(2.0, lambda before=before: all(a != b for a, b in zip(before, counts(house), strict=True)), "all go on")  # type: ignore[misc]


def test_the_session_stands_still_too_and_runs_on_whatever_becomes_of_the_lease(
    house: Household, freezer: Freezer
) -> None:
    """It writes uploads itself. While a lease lapses it must go on: the engine tells it to close the doors."""
    session, others = house.pids()["session"], [house.pids()["engine"], house.pids()["pulse"]]
    (sleeper,) = house.ask("exec sleep 1000", 1)
    assert freezer.freeze(5.0)
    assert states([session, sleeper]) == {"T"}
    assert not states(others) & {"T"}
    house.orders.lead(1)
    within(3.0, house.run.lapsed.exists, "the lease lapsed")
    freezer.thaw()
    assert state(session) in "SR"
    assert state(sleeper) == "T"
    house.orders.renew(1, time.monotonic())
    within(1.0, lambda: state(sleeper) == "S", "the watchdog continues it")


def test_every_thread_stands_still(house: Household, freezer: Freezer) -> None:
    """The main thread's state says nothing of the others, which write through memory that no system call guards."""
    memory = house.run.path / "memory"
    memory.write_bytes(bytes(4096))
    (house.run.path / "threads.py").write_text(THREADS)
    house.ask(f"exec {sys.executable} {house.run.path / 'threads.py'} {memory}", 1)
    within(3.0, lambda: all(memory.read_bytes()[:4]), "all count")
    for _ in range(10):
        assert freezer.freeze(5.0)
        before = memory.read_bytes()
        time.sleep(0.01)
        assert memory.read_bytes() == before
        freezer.thaw()
        time.sleep(0.01)


@pytest.fixture
def sleepers() -> Iterator[Callable[[], Process]]:
    """Starts processes that sleep, and ends them with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> Process:
        started.append(subprocess.Popen(["sleep", "1000"]))
        process = read(started[-1].pid)
        assert process is not None
        return process

    yield start
    for one in started:
        one.kill()
        one.wait()


def test_a_child_that_one_leaves_who_ends_while_we_look_is_stopped(
    short_dir: Path, sleepers: Callable[[], Process]
) -> None:
    """He counts as standing still, and was all that the look had found: his child would write into the commit."""
    ledger = Ledger(run_in(short_dir))
    parent, child = sleepers(), sleepers()
    os.kill(parent.pid, signal.SIGKILL)
    os.waitpid(parent.pid, 0)
    looks = iter(([[parent]], [[child]], [[child]]))
    assert stop_all(ledger, lambda: next(looks), time.monotonic() + 60.0)
    assert state(child.pid) == "T"
    ledger.let_run()
    ledger.close()


def test_a_child_that_comes_as_long_as_we_look_is_not_overlooked(
    short_dir: Path, sleepers: Callable[[], Process]
) -> None:
    """Somebody stopped by others moves no more, and yet this look may have missed what he begot before."""
    ledger = Ledger(run_in(short_dir))
    parent, child = sleepers(), sleepers()
    os.kill(parent.pid, signal.SIGSTOP)
    within(5.0, lambda: state(parent.pid) == "T", "it stopped")
    looks = iter(([[parent]], [[parent], [child]], [[parent], [child]]))
    assert stop_all(ledger, lambda: next(looks), time.monotonic() + 60.0)
    assert state(child.pid) == "T"
    ledger.let_run()
    assert state(parent.pid) == "T", "who was stopped before was continued"
    ledger.close()


@pytest.mark.parametrize("is_ours", [False, True], ids=["by a stranger", "by one of the workload"])
def test_one_that_is_traced_stands_still_if_its_tracer_does(
    short_dir: Path, sleepers: Callable[[], Process], *, is_ours: bool
) -> None:
    """A debugger from elsewhere lets it run whenever it likes; then nobody knows, and a commit must not say it does."""
    ledger = Ledger(run_in(short_dir))
    traced = sleepers()
    (short_dir / "tracer.py").write_text(TRACER)
    command = [sys.executable, str(short_dir / "tracer.py"), str(traced.pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tracing:
        try:
            assert tracing.stdout is not None
            if tracing.stdout.readline() != b"0\n":
                pytest.skip("the kernel lets us trace nobody")
            within(5.0, lambda: state(traced.pid) == "t", "its tracer holds it")
            tracer = read(tracing.pid)
            assert tracer is not None
            workload = [[tracer, traced]] if is_ours else [[traced]]
            assert stop_all(ledger, lambda: workload, time.monotonic() + 60.0) is is_ours
            ledger.let_run()
        finally:
            tracing.kill()
    ledger.close()


def run_in(directory: Path) -> RunDir:
    """An empty run directory."""
    (directory / "apart").mkdir()
    return RunDir(directory / "apart")


def test_ten_processes_are_frozen_and_thawed_in_a_few_milliseconds(house: Household, freezer: Freezer) -> None:
    """The design allows two per cent of the time. A busy machine makes us wait for a turn: the best one counts."""
    workload = house.ask("for n in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait", 10)
    assert len(workload) == 10
    took_ms = []
    for _ in range(30):
        began = time.perf_counter()
        assert freezer.freeze(5.0)
        freezer.thaw()
        took_ms.append((time.perf_counter() - began) * 1000)
    print(f"freeze and thaw of 10: median {statistics.median(took_ms):.2f} ms, most {max(took_ms):.2f} ms")
    assert min(took_ms) < 20, "longer than a cut may keep a workload frozen"


def test_a_freeze_that_takes_too_long_says_no(house: Household, freezer: Freezer) -> None:
    """A fork bomb, or a process stuck in the kernel: the commit becomes fuzzy, and the workload is not kept waiting."""
    house.ask("sleep 1000", 1)
    other = Freezer(house.run)
    assert other.freeze(1.0)
    began = time.monotonic()
    assert not freezer.freeze(0.02)
    assert time.monotonic() - began < 0.1
    freezer.thaw()
    assert states(house.workload()) == {"T"}, "who never had the lock continued somebody"
    other.close()
    assert states(house.workload()) <= {"S", "R"}


def test_without_a_watchdog_nobody_is_known_to_stand_still(house: Household, freezer: Freezer) -> None:
    """An empty list of processes must never pass for a frozen workload."""
    house.ask("sleep 1000", 1)
    house.watchdog.send_signal(signal.SIGKILL)
    house.watchdog.wait()
    assert not freezer.freeze(0.1)
    freezer.thaw()


def test_a_thaw_without_a_freeze_is_harmless(house: Household, freezer: Freezer) -> None:
    """Callers thaw in a `finally`, whatever happened before."""
    (sleeper,) = house.ask("exec sleep 1000", 1)
    # stopped before its exec, it would leave the shell that vforked it waiting, which no signal can stop
    within(5.0, lambda: Path(f"/proc/{sleeper}/comm").read_text().strip() == "sleep", "it is a sleep by now")
    os.kill(sleeper, signal.SIGSTOP)
    within(1.0, lambda: state(sleeper) == "T", "it stopped")
    freezer.thaw()
    assert freezer.freeze(5.0)
    freezer.thaw()
    freezer.thaw()
    assert state(sleeper) == "T"


def test_an_interactive_shell_notices_nothing(house: Household, freezer: Freezer) -> None:
    """A shell that sees its child stop prints `Stopped` and leaves the program in the background."""
    shell, seen = interactive(house)
    os.write(shell, b"sleep 1.5; echo 'it ''went on'\n")
    seen += heard(shell, 0.3)
    for _ in range(50):
        assert freezer.freeze(5.0)
        freezer.thaw()
        seen += heard(shell, 0.005)
    until = time.monotonic() + 5
    while b"it went on" not in seen and time.monotonic() < until:
        seen += heard(shell, 0.1)
    os.write(shell, b"jobs; exit\n")
    seen += heard(shell, 0.3)
    assert b"it went on" in seen
    assert b"Stopped" not in seen
    os.close(shell)


def interactive(house: Household) -> tuple[int, bytes]:
    """The master side of a terminal on which bash runs, as part of the workload, and what it greeted with."""
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    house.ask(f"PS1='ready> ' exec bash --norc -i <{name} >{name} 2>&1", 1)
    seen = b""
    until = time.monotonic() + 5
    while b"ready> " not in seen and time.monotonic() < until:
        seen += heard(master, 0.05)
    os.close(slave)
    return master, seen


def heard(master: int, seconds: float) -> bytes:
    """What comes from a terminal within that time."""
    text = b""
    until = time.monotonic() + seconds
    terminal = select.poll()  # select() takes no descriptor above 1023, and a long run has many
    terminal.register(master, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        if terminal.poll(left * 1000):
            try:
                text += os.read(master, 4096)
            except OSError:
                return text
    return text


def test_the_shell_test_would_see_a_shell_that_notices(short_dir: Path) -> None:
    """Negative control: stopping the child alone is what the freezer must never do."""
    with household(short_dir) as house:
        shell, seen = interactive(house)
        os.write(shell, b"sleep 1000\n")
        seen += heard(shell, 0.3)
        sleeper = subprocess.run(["pgrep", "-P", str(house.workload()[0]), "sleep"], capture_output=True, check=True)
        os.kill(int(sleeper.stdout), signal.SIGSTOP)
        seen += heard(shell, 0.5)
        os.close(shell)
        assert b"Stopped" in seen
