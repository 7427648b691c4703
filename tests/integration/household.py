"""A household to test on: a real watchdog whose other processes are stand-ins that run what a test asks for."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dumont.agent.boot import RunDir
from dumont.agent.orders import Orders
from dumont.agent.processes import left_behind, read_pids, state, workload_pids

SOURCES = Path(__file__).resolve().parents[2] / "src"
IDLE = "import time\nwhile True: time.sleep(60)\n"
SESSION = """
import pathlib, subprocess, sys, time
asked = pathlib.Path(sys.argv[1], "asked")
seen, running = set(), []
while True:
    for script in sorted(asked.glob("*.sh")):
        if script not in seen:
            seen.add(script)
            running.append(subprocess.Popen(["bash", str(script)], start_new_session=True, stdin=subprocess.DEVNULL))
    for process in running:
        process.poll()
    time.sleep(0.01)
"""


class Household:
    """A watchdog process and its run directory."""

    def __init__(self, directory: Path) -> None:
        self.run = RunDir(directory / "run")
        self.directory = directory
        (self.run.path / "asked").mkdir(parents=True)
        (directory / "stand_in_idle.py").write_text(IDLE)
        (directory / "stand_in_session.py").write_text(SESSION)
        self.log = directory / "log"
        self._mark = f"HOUSEHOLD={directory}"
        self.orders = Orders(self.run)
        self.start()

    def start(self) -> None:
        """Start the watchdog and wait until it has written down its processes."""
        environment = {**os.environ, "PYTHONPATH": f"{SOURCES}:{self.directory}"}
        environment.pop("DUMONT_SOCKET", None)
        environment["HOUSEHOLD"] = self._mark.partition("=")[2]
        modules = ["engine=stand_in_idle", "pulse=stand_in_idle", "session=stand_in_session"]
        self.run.pids.unlink(missing_ok=True)
        with open(self.log, "ab") as log:
            self.watchdog = subprocess.Popen(
                [sys.executable, "-P", "-m", "dumont.agent.watchdog", str(self.run.path), *modules],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        within(5.0, lambda: len(self.pids()) == 4, "the watchdog started everybody")

    def pids(self) -> dict[str, int]:
        return read_pids(self.run.pids)

    def workload(self) -> list[int]:
        return workload_pids(self.watchdog.pid, self.pids().values())

    def ask(self, script: str, processes: int) -> list[int]:
        """Have the session run a shell script, and wait until the workload has that many processes."""
        count = len(list((self.run.path / "asked").iterdir()))
        unfinished = self.run.path / f"{count}.new"
        unfinished.write_text(script)
        unfinished.rename(self.run.path / "asked" / f"{count}.sh")
        within(5.0, lambda: len(self.workload()) >= processes, f"{processes} processes run")
        return self.workload()

    def stop(self) -> None:
        """End the watchdog; then whoever it, or one that a test killed, left."""
        self.orders.close()
        self.watchdog.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.watchdog.wait(5.0)
        if self.watchdog.poll() is None:
            self.watchdog.kill()
            self.watchdog.wait()
        for pid in left_behind(self._mark.encode()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def household(directory: Path) -> Iterator[Household]:
    """A household in `directory`, ended with the block."""
    house = Household(directory)
    try:
        yield house
    finally:
        house.stop()


def within(seconds: float, is_so: Callable[[], bool], what: str) -> float:
    """Wait until something is so and return after how many seconds it was. Fails the test when it is too late."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.002)
    return time.monotonic() - began


def states(pids: list[int]) -> set[str]:
    """The states of these processes; "" and "Z" for those that ended."""
    return {state(pid) for pid in pids}
