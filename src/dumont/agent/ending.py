"""The end of a workload: asked first, killed then, and certain that nothing of it runs any more."""

import asyncio
import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress

from dumont.agent.boot import RunDir
from dumont.agent.processes import Family, read_pids
from dumont.clock import Clock

_POLL_S = 0.02
_KILL_POLL_S = 0.005
_KILL_S_MAX = 0.5
_ENDED = "ZX"


class Kin:
    """The living processes of the workload, our own left out: of all of it, or of one shell command and its children.

    Orphans are children of the watchdog, which is a subreaper. Without a watchdog only our own descendants count.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._family: Family | None = None

    def all(self) -> set[int]:
        """Whatever runs on the user's behalf: the workload, shells, and all that they began."""
        agents = read_pids(self._run.pids)
        head = agents.get("watchdog", os.getpid())
        if self._family is None or self._family.head != head:
            self._family = Family(head)
        generations = self._family.workload({*agents.values(), os.getpid()})
        return {kin.pid for generation in generations for kin in generation if kin.state not in _ENDED}

    def of(self, leader: int) -> set[int]:
        """Those in the process session that `leader` began."""
        return {pid for pid in self.all() if _session(pid) == leader}


async def end(kin: Callable[[], Collection[int]], term_s: float, clock: Clock, *, hang_up: bool = False) -> bool:
    """TERM everybody in `kin`, KILL whoever is left after `term_s` seconds. True: nobody is left.

    `hang_up` sends HUP as well, since an interactive shell ignores TERM. `kin` is asked again and again, because
    processes may start others while they end. Gives up half a second after the first KILL: nothing but a process
    stuck in the kernel lives that long.
    """
    asked: set[int] = set()
    term_until = clock.monotonic() + term_s
    while clock.monotonic() < term_until:
        left = set(kin())
        if not left:
            return True
        for pid in left - asked:
            _send(pid, signal.SIGTERM)
            if hang_up:
                _send(pid, signal.SIGHUP)
        asked |= left
        await clock.sleep(min(_POLL_S, term_s))
    kill_until = clock.monotonic() + _KILL_S_MAX
    while left := set(kin()):
        if clock.monotonic() > kill_until:
            return False
        for pid in left:
            _send(pid, signal.SIGKILL)
        await clock.sleep(_KILL_POLL_S)
    return True


async def end_child(process: asyncio.subprocess.Process, kin: Kin, term_s: float, clock: Clock) -> int:
    """End a child of ours with all of its process session. Its exit status, negative for a signal."""
    await end(lambda: kin.of(process.pid), term_s, clock)
    return await process.wait()


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return 0


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # ended meanwhile, or a set-uid program that isn't ours to end
        os.kill(pid, number)
