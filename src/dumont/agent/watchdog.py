"""The watchdog: the small parent that starts our other processes and stops, continues and ends the workload.

    python -m dumont.agent.watchdog RUN_DIR [NAME=MODULE ...]

It outlives the engine, so that a stale primary stops within one lease whatever became of its engine. Standard library
only; every NAME=MODULE replaces what is started by default.
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from dumont.agent.boot import RunDir
from dumont.agent.freeze import Ledger, stop_all
from dumont.agent.processes import Family, left_behind
from dumont.replication.lease import Lease, Verdict

MODULES = {"engine": "dumont.agent.engine", "pulse": "dumont.agent.pulse", "session": "dumont.agent.session"}
TICK_S = 0.020
RESTART_S_MIN = 0.1
RESTART_S_MAX = 2.0
RUNS_WELL_S = 5.0
"""A process that ran this long is restarted after RESTART_S_MIN again."""
FROZEN_TICKS_MAX = 50
"""An engine that keeps the workload frozen for so many ticks on end hangs, and is ended: the workload must go on."""
STOP_S_MAX = 0.05
CALM_TICKS = 5
"""A workload that was found stopped or ended is looked at again every so many ticks."""
TERM_S_MAX = 1.5
PREFERRED = (-5, -500)
"""Nice and oom_score_adj of the watchdog and the pulse, as far as permitted."""

_DATAGRAM_BYTES_MAX = 4096
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)


class Child:
    """One of our processes: what it is, and when it is started again."""

    def __init__(self, name: str, module: str, preference: tuple[int, int]) -> None:
        self.name = name
        self.module = module
        self.preference = preference
        self.pid = 0
        self.started_at = 0.0
        self.due_at = 0.0
        self.backoff_s = RESTART_S_MIN

    def ended(self, now: float) -> None:
        """Note that it ended; `due_at` says when to start it again."""
        if now - self.started_at > RUNS_WELL_S:
            self.backoff_s = RESTART_S_MIN
        self.pid = 0
        self.due_at = now + self.backoff_s
        self.backoff_s = min(self.backoff_s * 2, RESTART_S_MAX)


class Workload:
    """What is done to the workload: hold it still, let it go, end it. Each is one attempt, repeated every tick."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._ledger = Ledger(run, insist=True)
        self._family = Family(os.getpid())
        self._calm_ticks = 0
        self._frozen_ticks = 0
        self._frozen_since = 0
        self._holding = False

    def run_on(self, agents: set[int]) -> bool:
        """Continue what was held, or what an engine that died left frozen. False: an engine keeps it so, and hangs."""
        since = self._ledger.stopped_since()
        if not self._holding and not since:
            self._frozen_ticks = 0
            return True
        self._frozen_ticks = self._frozen_ticks + 1 if since == self._frozen_since else 0
        self._frozen_since = since
        if not self._ledger.take(until=0.0):
            return self._frozen_ticks < FROZEN_TICKS_MAX
        self._run.lapsed.unlink(missing_ok=True)
        self._ledger.let_run()
        self._ledger.give()
        if self._holding:
            say("the lease is back: the workload runs on")
        self._holding = False
        self._frozen_ticks = 0
        return True

    def hold(self, agents: set[int]) -> None:
        """Stop every process of the workload that still moves, and say so to the engine's freezer."""
        if not self._holding:
            self._holding = True
            say("no lease: the workload is held still")
            with suppress(OSError):  # a full disk: the freezer may then let it run for one tick at a time
                self._run.lapsed.touch()
        if self._calm() or not self._ledger.take(until=time.monotonic() + TICK_S / 4):
            return
        until = time.monotonic() + STOP_S_MAX
        stood = stop_all(self._ledger, lambda: self._family.workload(agents), until)
        self._ledger.give()
        self._calm_ticks = CALM_TICKS if stood else 0

    def end(self, agents: set[int]) -> None:
        """Kill every process of the workload, and those it begets meanwhile."""
        if self._calm():
            return
        until = time.monotonic() + STOP_S_MAX
        while (generations := self._family.workload(agents)) and time.monotonic() < until:
            for process in (process for generation in generations for process in generation if process.state != "Z"):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGKILL)
            reap_orphans(agents)
        self._calm_ticks = 0 if generations else CALM_TICKS
        if not generations and self._ledger.take(until=0.0):
            self._run.lapsed.unlink(missing_ok=True)
            self._ledger.let_run()
            self._ledger.give()
            self._holding = False

    def look_again(self) -> None:
        """Something else is to be done from now on: be calm no longer."""
        self._calm_ticks = 0

    def _calm(self) -> bool:
        self._calm_ticks -= 1
        return self._calm_ticks > 0


class Watchdog:
    """The loop around the lease: datagrams in, our processes kept running, the verdict carried out."""

    def __init__(self, run: RunDir, modules: dict[str, str]) -> None:
        self._run = run
        self._lease = Lease(read_ended(run))
        self._ended_written = self._lease.ended
        usual = preference()
        prefer(*PREFERRED)
        self._children = [  # the pulse must beat even when the workload keeps every core busy
            Child(name, module, PREFERRED if name == "pulse" else usual) for name, module in modules.items()
        ]
        self._workload = Workload(run)
        self._verdict = Verdict.RUN
        self._socket = bound(run)
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._told_to_end = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_end)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def serve(self) -> None:
        """Until SIGTERM or SIGINT."""
        while not self._told_to_end:
            self._start_due(time.monotonic())
            select.select([self._socket.fileno(), self._wake], [], [], TICK_S)
            with suppress(BlockingIOError):
                os.read(self._wake, 4096)
            self._listen()
            self._reap()
            self._carry_out(self._lease.tick(time.monotonic()))
        self._wind_up()

    def _agents(self) -> set[int]:
        return {os.getpid()} | {child.pid for child in self._children if child.pid}

    def _start_due(self, now: float) -> None:
        started = False
        for child in self._children:
            if not child.pid and now >= child.due_at:
                child.pid = start(child, self._run)
                child.started_at = now
                started = True
        if started:
            self._write_pids()

    def _write_pids(self) -> None:
        pids = {child.name: child.pid for child in self._children if child.pid}
        written = json.dumps({"watchdog": os.getpid(), **pids})
        with suppress(OSError):  # a full disk must not end the watchdog; the old list is off by one of our processes
            replace(self._run.pids, written)

    def _listen(self) -> None:
        """Take every order that has arrived. What makes no sense is passed over."""
        while True:
            try:
                order = json.loads(self._socket.recv(_DATAGRAM_BYTES_MAX))
                now = time.monotonic()
                match order:
                    case {"say": "lead", "epoch": int(epoch), "sent_at": int() | float() as sent_at}:
                        self._lease.lead(epoch, min(sent_at, now))
                    case {"say": "lead", "epoch": int(epoch)}:
                        self._lease.lead(epoch, now)
                    case {"say": "renew", "epoch": int(epoch), "sent_at": int() | float() as sent_at}:
                        self._lease.renew(epoch, sent_at, now)
                    case {"say": "end", "epoch": int(epoch)}:
                        self._lease.end(epoch)
                    case _:
                        say(f"not an order: {order}")
            except BlockingIOError:
                return
            except (ValueError, RecursionError):
                say("a datagram that is no JSON was passed over")

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self._children if child.pid}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if child := by_pid.get(pid):
                child.ended(time.monotonic())
                say(f"{child.name} ended ({os.waitstatus_to_exitcode(status)}); it is started again")

    def _carry_out(self, verdict: Verdict) -> None:
        if verdict is not self._verdict:
            self._verdict = verdict
            self._workload.look_again()
        match verdict:
            case Verdict.RUN:
                if not self._workload.run_on(self._agents()):
                    self._kill("engine")
            case Verdict.STOP:
                self._workload.hold(self._agents())
            case Verdict.END:
                self._workload.end(self._agents())
        if self._lease.ended > self._ended_written:  # after the deed: writing may take long on a busy disk
            self._ended_written = self._lease.ended
            with suppress(OSError):  # the server will say it again after a restart
                replace(self._run.ended, str(self._lease.ended), durable=True)

    def _kill(self, name: str) -> None:
        for child in self._children:
            if child.name == name and child.pid:
                say(f"{name} kept the workload frozen for too long and is ended")
                os.kill(child.pid, signal.SIGKILL)

    def _wind_up(self) -> None:
        """TERM everybody, give them a moment, and end who is left. A workload without a lease is ended at once."""
        lapsed = self._lease.tick(time.monotonic()) is not Verdict.RUN
        family = Family(os.getpid())
        number = signal.SIGTERM
        until = time.monotonic() + TERM_S_MAX
        if lapsed:
            self._workload.end(self._agents())
        signalled: set[int] = set()
        while left := [process for generation in family.generations() for process in generation]:
            if time.monotonic() > until:
                number = signal.SIGKILL
            for process in left:
                if process.pid not in signalled or number is signal.SIGKILL:
                    signalled.add(process.pid)
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(process.pid, number)
                        os.kill(process.pid, signal.SIGCONT)
            self._reap()
            if time.monotonic() > until + TERM_S_MAX:
                return
            time.sleep(TICK_S / 4)

    def _on_end(self, number: int, frame: object) -> None:
        self._told_to_end = True


def bound(run: RunDir) -> socket.socket:
    """The watchdog's socket, bound. By way of the directory's descriptor: such addresses hold 107 bytes at most."""
    run.watchdog_socket.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    directory = os.open(run.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listening.bind(f"/proc/self/fd/{directory}/{run.watchdog_socket.name}")
    os.close(directory)
    run.watchdog_socket.chmod(0o600)
    return listening


def start(child: Child, run: RunDir) -> int:
    """Start one of our processes and return its pid. It ends when the watchdog does: nobody would watch it."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        prefer(*child.preference)
        # -P: a workspace's own json.py must not become ours
        os.execv(sys.executable, [sys.executable, "-P", "-m", child.module, str(run.path)])
    except OSError as error:
        say(f"{child.name} can't be started: {error}")
    finally:
        os._exit(127)


def preference() -> tuple[int, int]:
    """Our priority (nice) and our place in the queue of who is killed for memory (oom_score_adj)."""
    return os.getpriority(os.PRIO_PROCESS, 0), int(_OOM_SCORE.read_text())


def prefer(nice: int, oom_score: int) -> None:
    """Ask for such a preference; as far as permitted."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    with suppress(OSError):
        _OOM_SCORE.write_text(str(oom_score))


def reap_orphans(agents: set[int]) -> None:
    """Collect ended processes that became ours. One of our own is left for the loop, which starts it again."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in agents:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)
        except ChildProcessError:
            return


def read_ended(run: RunDir) -> int:
    """The highest epoch that ended lower ones, as written before a restart; 0 when nothing was."""
    try:
        return int(run.ended.read_text())
    except (OSError, ValueError):
        return 0


def replace(file: Path, text: str, *, durable: bool = False) -> None:
    """Write a file whole or not at all; `durable` returns only when a power cut can't undo it. Raises OSError."""
    unfinished = file.with_name(f".{file.name}.new")
    with open(unfinished, "w") as writing:
        writing.write(text)
        writing.flush()
        if durable:
            os.fsync(writing.fileno())
    unfinished.replace(file)
    if durable:
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)


def say(what: str) -> None:
    """One line for the log."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"{time.strftime('%H:%M:%S')} watchdog: {what}\n".encode())


def main(arguments: list[str]) -> int:
    """Run the watchdog. 2 when the command line makes no sense."""
    if not arguments or any("=" not in argument for argument in arguments[1:]):
        say("usage: python -m dumont.agent.watchdog RUN_DIR [NAME=MODULE ...]")
        return 2
    run = RunDir(Path(arguments[0]).resolve())
    modules = dict(argument.split("=", 1) for argument in arguments[1:]) or MODULES
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for pid in left_behind(b"DUMONT_SOCKET=" + os.fsencode(run.agent_socket)):
        with suppress(ProcessLookupError, PermissionError):  # the workload of a watchdog that died: nobody's any more
            os.kill(pid, signal.SIGKILL)
    run.lapsed.unlink(missing_ok=True)
    run.still.unlink(missing_ok=True)
    Watchdog(run, modules).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
