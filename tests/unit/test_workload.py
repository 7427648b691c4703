"""The workload's supervisor: when a command is started again, and how it says it is doing."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from dumont.agent.workload import BACKOFF_S_MAX, SETTLED_S, Log, Started, Workload, in_words, next_wait_s
from tests.clocks import HandClock


class Run:
    """One started command, which ends when a test says so."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended = False

    async def wait(self) -> int:
        return await asyncio.shield(self.status)

    async def end(self, term_s: float) -> None:
        self.ended = True
        if not self.status.done():
            self.status.set_result(-15)


class Bench:
    """A workload whose commands are started by hand."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.runs: list[Run] = []
        self.states: list[str] = []
        self.refuse: OSError | None = None
        self.workload = Workload(self._launch, self.clock, self._changed)

    async def _launch(self, command: str) -> Started:
        if self.refuse:
            raise self.refuse
        self.runs.append(Run(command))
        return self.runs[-1]

    def _changed(self) -> None:
        self.states.append(self.workload.state)

    async def exits(self, status: int, lived_s: float = 0.0) -> None:
        """The running command ends; whatever follows from it happens."""
        self.clock.seconds += lived_s
        self.runs[-1].status.set_result(status)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


async def test_a_command_that_fails_is_started_again() -> None:
    """A training run that dies of a hiccup at night must not stay dead."""
    bench = Bench()
    await bench.workload.run("train")
    await bench.settle()
    await bench.exits(3)
    assert [run.command for run in bench.runs] == ["train", "train"]
    assert bench.states == ["running", "restarting (exit 3)", "running"]


async def test_a_command_that_succeeds_is_done() -> None:
    """Starting finished work again would spend somebody's money on nothing."""
    bench = Bench()
    await bench.workload.run("train")
    await bench.settle()
    await bench.exits(0)
    await bench.workload.run("train")
    assert (bench.workload.state, len(bench.runs)) == ("done", 1)


async def test_waits_double_up_to_a_bound() -> None:
    """A command that can't work must not keep the machine busy with its starts."""
    bench = Bench()
    await bench.workload.run("broken")
    await bench.settle()
    for _ in range(8):
        await bench.exits(1)
    assert bench.clock.slept_s == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


async def test_a_long_life_is_forgiven() -> None:
    """Ten crashes in a year are not ten crashes in a row."""
    bench = Bench()
    await bench.workload.run("train")
    await bench.settle()
    await bench.exits(1)
    await bench.exits(1)
    await bench.exits(1, lived_s=SETTLED_S)
    await bench.exits(1)
    assert bench.clock.slept_s == [0.2, 0.4, 0.2, 0.4]


async def test_what_a_failed_run_left_behind_is_ended_before_the_next() -> None:
    """Two data loaders on one file are worse than none."""
    bench = Bench()
    await bench.workload.run("train")
    await bench.settle()
    await bench.exits(1)
    assert bench.runs[0].ended


async def test_another_command_replaces_the_first() -> None:
    """On a CPU machine the workspace runs its on_standby command instead."""
    bench = Bench()
    await bench.workload.run("train")
    await bench.settle()
    await bench.workload.run("serve")
    await bench.settle()
    assert [run.command for run in bench.runs] == ["train", "serve"]
    assert bench.runs[0].ended
    assert bench.workload.state == "running"


async def test_asking_again_changes_nothing() -> None:
    """The engine repeats itself several times a second."""
    bench = Bench()
    for _ in range(3):
        await bench.workload.run("train")
        await bench.settle()
    assert len(bench.runs) == 1


async def test_a_stopped_workload_stays_stopped_until_asked_for() -> None:
    """A standby that runs the workload would be a second writer."""
    bench = Bench()
    await bench.workload.run("train")
    await bench.settle()
    await bench.workload.stop()
    await bench.settle()
    assert (bench.workload.state, len(bench.runs), bench.runs[0].ended) == ("stopped", 1, True)
    await bench.workload.run("train")
    await bench.settle()
    assert (bench.workload.state, len(bench.runs)) == ("running", 2)


async def test_no_command_is_no_state() -> None:
    """`stopped` would sound as if something were missing."""
    bench = Bench()
    await bench.workload.run("")
    await bench.workload.stop()
    assert bench.workload.state == ""


async def test_a_command_that_can_not_be_started_is_tried_again_and_says_why() -> None:
    """The workspace's directory may appear a moment later."""
    bench = Bench()
    bench.refuse = OSError("no such directory")
    await bench.workload.run("train")
    await bench.settle()
    bench.refuse = None
    await bench.settle()
    assert "restarting (no such directory)" in bench.states
    assert bench.workload.state == "running"


def test_an_exit_is_told_in_words() -> None:
    """Nobody knows by heart what 137 means."""
    assert [in_words(status) for status in (1, -9, -15, -64)] == ["exit 1", "SIGKILL", "SIGTERM", "SIGRTMAX"]
    assert in_words(-40) == "signal 40"


@pytest.mark.parametrize(("wait_s", "lived_s", "next_s"), [(0.2, 0, 0.2), (99, 9.9, BACKOFF_S_MAX), (6.4, 10.0, 0.2)])
def test_the_next_wait_follows_from_the_last_and_from_the_life_between(
    wait_s: float, lived_s: float, next_s: float
) -> None:
    """One rule, in one place."""
    assert next_wait_s(wait_s, lived_s) == next_s


def test_a_log_never_outgrows_its_bound(tmp_path: Path) -> None:
    """A chatty workload must not fill the disk that its files need."""
    with closing(Log(tmp_path / "workload.log", bytes_max=100)) as log:
        for number in range(100):
            log.write(b"line %03d..\n" % number)
    older, newer = (tmp_path / "workload.log.1").read_bytes(), (tmp_path / "workload.log").read_bytes()
    assert len(older) <= 100
    assert len(newer) <= 100
    assert (older + newer).endswith(b"line 098..\nline 099..\n")


def test_a_log_is_continued_after_a_restart(tmp_path: Path) -> None:
    """What was said before a crash is what one wants to read after it."""
    for line in (b"before\n", b"after\n"):
        with closing(Log(tmp_path / "workload.log")) as log:
            log.write(line)
    assert (tmp_path / "workload.log").read_bytes() == b"before\nafter\n"
