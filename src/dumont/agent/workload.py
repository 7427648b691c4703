"""The workload: the user's command, kept running for as long as it is wanted, and how it is doing in words."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from dumont.agent.ending import Kin, end_child
from dumont.agent.pipe import Reading
from dumont.agent.surroundings import Surroundings
from dumont.clock import Clock

BACKOFF_S_MIN = 0.2
BACKOFF_S_MAX = 10.0
SETTLED_S = 10.0
"""A workload that lived for so long begins again with the shortest wait."""

LOG_BYTES_MAX = 8 * 2**20
"""`workload.log` is at most this long; one older log of the same length is kept."""

TERM_S = 1.0


class Started(Protocol):
    """One run of a command. `wait` gives its exit status, negative for a signal; `end` ends it and its children."""

    async def wait(self) -> int: ...

    async def end(self, term_s: float) -> None: ...


Launch = Callable[[str], Awaitable[Started]]
"""Starts a shell command. Raises OSError when not even a shell can be started."""


class Workload:
    """Runs one command at a time: again after a failure, with growing waits; not again after exit status 0.

    `changed` is called whenever `state` did.
    """

    def __init__(self, launch: Launch, clock: Clock, changed: Callable[[], None]) -> None:
        self.state = ""
        self.command = ""
        self._launch = launch
        self._clock = clock
        self._changed = changed
        self._running: Started | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def run(self, command: str) -> None:
        """Make `command` the workload, ending another one first; "" for none. Harmless to repeat."""
        if command == self.command and (self._keeping or not command):
            return
        await self.stop()
        self.command = command
        if command:
            self._keeping = asyncio.create_task(self._keep(command))
        else:
            self._say("")

    async def stop(self, term_s: float = TERM_S) -> None:
        """End it, with `term_s` seconds between TERM and KILL, and do not start it again."""
        await self.forget()
        if self._running:
            await self._running.end(term_s)
            self._running = None
        self._say("stopped" if self.command else "")

    async def forget(self) -> None:
        """Do not start it again; what runs is somebody else's to end."""
        keeping, self._keeping = self._keeping, None
        if keeping:
            keeping.cancel()
            await asyncio.wait({keeping})
            self._say("stopping")

    async def _keep(self, command: str) -> None:
        wait_s = BACKOFF_S_MIN
        while True:
            began = self._clock.monotonic()
            try:
                self._running = await self._launch(command)
                self._say("running")
                status = await self._running.wait()
                reason = in_words(status)
            except OSError as error:
                status, reason = 1, str(error)
            if status == 0:
                self._running = None
                self._say("done")
                return
            if self._running:
                await self._running.end(TERM_S)  # what it left behind
                self._running = None
            self._say(f"restarting ({reason})")
            wait_s = next_wait_s(wait_s, self._clock.monotonic() - began)
            await self._clock.sleep(wait_s)
            wait_s *= 2

    def _say(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self._changed()


def next_wait_s(wait_s: float, lived_s: float) -> float:
    """Seconds until the next start: `wait_s`, bounded, or the shortest when the last run lived long."""
    return BACKOFF_S_MIN if lived_s >= SETTLED_S else min(wait_s, BACKOFF_S_MAX)


def in_words(status: int) -> str:
    """An exit status for people: `exit 1`, or `SIGKILL` for a signal."""
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


class Log:
    """A log file of bounded length: when it is full it becomes the older one, and a new one begins."""

    def __init__(self, path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._bytes = self._file.seek(0, os.SEEK_END)

    def write(self, data: bytes) -> None:
        """Append `data`. A full disk loses log, not the workload."""
        with suppress(OSError):
            if self._bytes and self._bytes + len(data) > self._bytes_max:
                self._path.replace(self._path.with_suffix(".log.1"))
                full, self._file = self._file, self._path.open("ab", buffering=0)
                full.close()
                self._bytes = 0
            self._bytes += self._file.write(data)

    def close(self) -> None:
        """Write nothing more."""
        self._file.close()


class ShellCommand:
    """A command run by `/bin/sh -c` in the workspace, in a process session of its own, its output in the log."""

    def __init__(
        self, process: asyncio.subprocess.Process, kin: Kin, clock: Clock, logging: asyncio.Task[None]
    ) -> None:
        self._process = process
        self._kin = kin
        self._clock = clock
        self._logging = logging
        self._waiting = asyncio.create_task(process.wait())  # also reaps it when nobody asks

    @classmethod
    async def start(cls, command: str, around: Surroundings, kin: Kin, clock: Clock, log: Log) -> "ShellCommand":
        """Start it. Raises OSError when that can't be done."""
        ours, theirs = os.pipe()
        output = await Reading.open(ours)
        try:
            process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                cwd=around.directory,
                env=around.environment(),
                start_new_session=True,
            )
        except OSError:
            output.close()
            raise
        finally:
            os.close(theirs)
        return cls(process, kin, clock, asyncio.create_task(_copy(output, log)))

    async def wait(self) -> int:
        return await asyncio.shield(self._waiting)

    async def end(self, term_s: float) -> None:
        await end_child(self._process, self._kin, term_s, self._clock)


async def _copy(output: Reading, log: Log) -> None:
    """Copy output until nobody can write any more. A pipe and not the file itself: only so is its length bounded."""
    while data := await output.chunk():
        log.write(data)
        await asyncio.sleep(0)  # a chatty workload leaves others their turn
    output.close()
