"""The freezer: makes the workload stand still for a moment, so that a commit can be cut, and lets it run again.

Parents stop first, and are seen to stand before their children are stopped: a shell that still ran would report its
child as stopped by a signal. They are continued in the opposite order. What was stopped is written down in a locked
file, because two of our processes stop the workload for reasons of their own: the engine to cut, the watchdog for want
of a lease. Whoever holds the lock may stop and continue; a process that dies gives it back.
"""

import errno
import fcntl
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress

from dumont.agent.boot import RunDir
from dumont.agent.processes import STILL, TRACED, Family, Process, holders, is_still, read, read_pids, thread_states

FREEZE_TIMEOUT_S = 0.020
_POLL_S = 50e-6
_ENTRY = re.compile(rb"^(\d+) (\d+)$", re.MULTILINE)


class Ledger:
    """The file that names every process we stopped and must continue, with its lock. One object per process of ours.

    With `insist` a process is stopped even when a full disk keeps it from being written down.
    """

    def __init__(self, run: RunDir, *, insist: bool = False) -> None:
        self._insist = insist
        self._file = os.open(run.still, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._entries: list[tuple[int, int]] = []
        self.held = False

    def take(self, until: float) -> bool:
        """Take the lock, waiting for it up to the monotonic second `until`, and read who was stopped."""
        while not self.held:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(_POLL_S)
                continue
            self.held = True
            written = os.pread(self._file, os.fstat(self._file).st_size, 0)
            entries = [(int(pid), int(started)) for pid, started in _ENTRY.findall(written)]
            self._entries += [entry for entry in entries if entry not in self._entries]
        return True

    def give(self) -> None:
        """Give the lock back. What is still stopped stays written down."""
        if self.held:
            self.held = False
            if not self._insist:
                self._entries = []
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def stop(self, processes: Collection[Process]) -> None:
        """Stop them, written down first: if we die now, the watchdog continues them. Raises OSError on a full disk."""
        new = [(process.pid, process.started) for process in processes]
        new = [entry for entry in new if entry not in self._entries]
        try:
            os.pwrite(self._file, _lines(new), os.fstat(self._file).st_size)
        except OSError:
            if not self._insist:
                raise
        self._entries += new
        for process in processes:
            _signal(process.pid, process.started, signal.SIGSTOP)

    def let_run(self, only: Collection[int] | None = None) -> None:
        """Let everything run that was stopped, or of it the process ids `only`, children first, and forget it."""
        going = [entry for entry in reversed(self._entries) if only is None or entry[0] in only]
        for pid, started in going:
            _signal(pid, started, signal.SIGCONT)
        self._entries = [entry for entry in self._entries if entry not in going]
        left = _lines(self._entries)
        os.pwrite(self._file, left, 0)  # over what was there, which works on a full disk
        os.ftruncate(self._file, len(left))

    def stopped_since(self) -> int:
        """When something was last written down, in ns of the wall clock; 0 when nothing is stopped."""
        stat = os.fstat(self._file)
        return stat.st_mtime_ns if stat.st_size else 0

    def close(self) -> None:
        """Close the file, which gives the lock back."""
        self.held = False
        os.close(self._file)


def stop_all(ledger: Ledger, workload: Callable[[], list[list[Process]]], until: float) -> bool:
    """Stop every process of `workload` and those it still begets; True once all stand still, False at `until`.

    All stand still when a look at who there is finds nobody who moves, and nobody whom the look before did not find
    and leave standing: one that ends while we look may leave a child that this look missed. False as well, at once,
    when a stranger traces one of them, and may let it run whenever he likes.
    Who was stopped before (by a user's Ctrl-Z, say) is not written down, and so never continued by us.
    """
    stood: set[tuple[int, int]] | None = None
    while True:
        generations = workload()
        seen = {(process.pid, process.started) for generation in generations for process in generation}
        is_done = stood is not None and seen <= stood
        traced: list[int] = []
        for generation in generations:
            states = [(process, thread_states(process)) for process in generation]
            moving = [process for process, now in states if not now <= STILL]
            traced += [process.pid for process, now in states if TRACED in now]
            is_done &= not moving
            ledger.stop(moving)
            while not all(is_still(process) for process in moving):
                if time.monotonic() >= until:
                    return False
                time.sleep(_POLL_S)
        if is_done:
            pids = {pid for pid, _ in seen}
            return all(holders(pid) <= pids for pid in traced)
        stood = seen
        if time.monotonic() >= until:
            return False


class Freezer:
    """Stops and continues the workload on behalf of the engine.

    With it stands the session, which writes files itself when somebody copies to the workspace over SFTP.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._ledger = Ledger(run)
        self._family: Family | None = None

    def freeze(self, timeout_s: float = FREEZE_TIMEOUT_S) -> bool:
        """True when every thread of the workload stands still. After either answer call `thaw`.

        Blocks for at most about `timeout_s`. False too when the watchdog can't be found: then nobody knows what the
        workload is.
        """
        until = time.monotonic() + timeout_s
        if not self._ledger.take(until) or not self._watchdog_lives():
            return False
        try:
            return stop_all(self._ledger, self._who_stands, until)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False  # who can't be written down is not stopped: nobody would continue him if we died
            raise

    def thaw(self) -> None:
        """Let the workload run, unless its lease has lapsed: then the watchdog holds it. Harmless without a freeze."""
        if not self._ledger.held:
            return
        self._ledger.let_run(only=read_pids(self._run.pids).values() if self._run.lapsed.exists() else None)
        self._ledger.give()

    def workload(self) -> list[list[Process]]:
        """The workload's processes by generation, parents first; empty before the watchdog wrote down who we are."""
        return self._below_watchdog(read_pids(self._run.pids))

    def close(self) -> None:
        """Let the workload run and close the ledger."""
        self.thaw()
        self._ledger.close()

    def _who_stands(self) -> list[list[Process]]:
        return self._below_watchdog({name: pid for name, pid in read_pids(self._run.pids).items() if name != "session"})

    def _below_watchdog(self, but: Mapping[str, int]) -> list[list[Process]]:
        """Everybody but these, and us."""
        if "watchdog" not in but:
            return []
        if self._family is None or self._family.head != but["watchdog"]:
            self._family = Family(but["watchdog"])
        return self._family.workload({*but.values(), os.getpid()})

    def _watchdog_lives(self) -> bool:
        agents = read_pids(self._run.pids)
        return "watchdog" in agents and read(agents["watchdog"]) is not None


def _lines(entries: Iterable[tuple[int, int]]) -> bytes:
    return b"".join(b"%d %d\n" % entry for entry in entries)


def _signal(pid: int, started: int, number: signal.Signals) -> None:
    """Send a signal to exactly that process. One that ended, or that belongs to somebody else, is left alone."""
    process = read(pid)
    if process is None or process.started != started:
        return
    with suppress(ProcessLookupError, PermissionError):  # one of another user keeps moving, and `stop_all` says so
        os.kill(pid, number)
