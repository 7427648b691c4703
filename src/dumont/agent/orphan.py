"""An orphan: an instance that has not heard of its installation for long, and what becomes of its machine (ADR 14).

Only what nobody depends on is ended. Of a pair one side alone may ever go: a CPU machine that plays a role never does.
"""

import asyncio
import enum
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dumont.agent.boot import RunDir
from dumont.clock import Clock
from dumont.model.instance import Machine, Role
from dumont.replication.barrier import Answer

LOOK_S_MAX = 60.0
LOOKS = 20
"""So often within the time after which it is an orphan is looked; at least every LOOK_S_MAX."""
AGAIN_S = 3600.0
"""At most, before a primary that could not go ends its workload again for nothing, or a reason is told again."""
INSIST_S = 60.0
END_S_MAX = 180.0
BARRIER_S = 60.0


class Fate(enum.StrEnum):
    """What an orphan does. RETIRE: end the workload, take a barrier, and END when it is OK."""

    STAY = "stay"
    RETIRE = "retire"
    END = "end"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What an instance is at this moment. `kept`: a machine that never ends itself is in its ack set.

    `holds_files`: its disk holds, or may hold, anything of a workspace; `hears_primary`: a standby with a live stream.
    """

    machine: Machine
    role: Role
    holds_files: bool
    hears_primary: bool = False
    kept: bool = False


def fate(standing: Standing) -> tuple[Fate, str]:
    """What to do, and why, in words for a log."""
    if standing.role is Role.NONE:
        if standing.holds_files:
            return Fate.STAY, "there are files on its disk, and nobody is known to have them too"
        return Fate.END, "it plays no role and holds no file"
    if standing.machine is Machine.CPU:
        return Fate.STAY, f"it is a {standing.role} on a CPU machine, and keeps the workspace"
    if standing.role is Role.STANDBY:
        if standing.hears_primary:
            return Fate.END, "its primary is there and has all that it has"
        return Fate.STAY, "its primary is not there, so that this may be the only copy"
    if standing.kept:
        return Fate.RETIRE, "a standby on a CPU machine can keep its work"
    return Fate.STAY, "no standby on a CPU machine holds its work"


@dataclass(frozen=True)
class Hands:
    """What an orphan's watch looks at and acts with. `silent_s`: since anything of the installation was heard of.

    `retire` takes the last barrier, within so many seconds; `resume` undoes it. `end` asks for the machine's end, and
    says whether that was heard.
    """

    silent_s: Callable[[], float]
    standing: Callable[[], Standing]
    retire: Callable[[float], Awaitable[Answer]]
    resume: Callable[[], None]
    end: Callable[[], Awaitable[bool]]


class Orphanhood:
    """The watch. `after_s` seconds without a word make an orphan; it goes on until its machine ends."""

    def __init__(self, hands: Hands, after_s: float, clock: Clock) -> None:
        self._hands = hands
        self._after_s = after_s
        self._clock = clock
        self._not_before = float("-inf")
        self._told = ("", float("-inf"))

    async def watch_forever(self) -> None:
        """Look now and then; never again once the machine's end was heard."""
        while True:
            await self._clock.sleep(min(LOOK_S_MAX, self._after_s / LOOKS))
            if self._is_orphan():
                await self._look()

    def _is_orphan(self) -> bool:
        return self._hands.silent_s() >= self._after_s

    async def _look(self) -> None:
        what, why = fate(self._hands.standing())
        if what is Fate.STAY:
            self._tell(f"this machine stays: {why}")
        elif what is Fate.END:
            self._tell(f"this machine ends itself: {why}")
            await self._insist(Fate.END)
        elif self._clock.monotonic() >= self._not_before:
            self._tell(f"this primary retires: {why}")
            await self._retire()

    async def _retire(self) -> None:
        answer = await self._hands.retire(BARRIER_S)
        if not answer.ok:
            self._not_before = self._clock.monotonic() + min(AGAIN_S, self._after_s)
            self._tell(f"this machine stays: its last barrier is unknown: {answer.reason}")
            return
        await self._insist(Fate.RETIRE)
        self._hands.resume()

    async def _insist(self, what: Fate) -> None:
        """Ask for the end until somebody of the installation is there again, or things are no longer as they were."""
        while self._is_orphan() and fate(self._hands.standing())[0] is what:
            if not await self._hands.end():
                self._tell("the end of this machine was asked for, and not heard")
            await self._clock.sleep(INSIST_S)

    def _tell(self, what: str) -> None:
        """Into the engine's log; the same only once an hour."""
        now = self._clock.monotonic()
        if self._told[0] == what and now - self._told[1] < AGAIN_S:
            return
        self._told = (what, now)
        silent = f"nothing was heard of the installation for {self._hands.silent_s():.0f} s"
        print(f"orphan: {silent}; {what}", file=sys.stderr, flush=True)  # noqa: T201  # into its log


async def end_machine(run: RunDir) -> bool:
    """Run the last will that the bootstrap left; False when there is none, or it did not succeed."""
    if not run.end.exists():
        return False
    process = await asyncio.create_subprocess_exec("bash", str(run.end), stdin=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(END_S_MAX):
            return await process.wait() == 0
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
