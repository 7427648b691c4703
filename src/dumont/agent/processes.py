"""The processes of an instance: which of them are the workload, and whether they stand still.

The workload is every descendant of the watchdog that is not one of our own processes. It is found by one scan of
parents in /proc: the kernel calls /proc/PID/task/TID/children reliable only while nobody exits, and not every kernel
has it. The watchdog is a subreaper, so that whoever was born under it stays under it.
"""

import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

PROC = "/proc"
STILL = frozenset("TtZX")
"""States of a thread that runs nothing: stopped, stopped by its tracer, ended."""

TRACED = "t"
"""The state of a thread that its tracer holds."""

FOREIGN_S = 1.0
"""For how long a process is known to be none of ours. Its number can't come round again in that time."""

_REREADS_MAX = 8
_CHILDREN_OF_NOBODY = frozenset({0, 1})


class Process(NamedTuple):
    """One line of /proc/PID/stat. `started` (clock ticks since boot) tells it from a later one of the same number."""

    pid: int
    parent: int
    state: str
    threads: int
    started: int


def read(pid: int, proc: str = PROC) -> Process | None:
    """The process of that number now; None when there is none.

    Of one that is taken away while we read, the kernel tells no threads, and 0 for its parent, which it never had.
    """
    line = _line(f"{proc}/{pid}/stat")
    if line is None:
        return None
    fields = line[line.rindex(b")") + 2 :].split(None, 20)  # the name before it may hold anything
    if int(fields[17]) == 0:
        return None
    return Process(pid, int(fields[1]), fields[0].decode(), int(fields[17]), int(fields[19]))


def state(pid: int) -> str:
    """The state letter of proc(5); "" when there is no such process."""
    process = read(pid)
    return process.state if process else ""


def is_still(process: Process) -> bool:
    """Whether no thread of it runs now; True when it has ended."""
    return thread_states(process) <= STILL


def thread_states(process: Process) -> set[str]:
    """The states that its threads are in now; none when it has ended."""
    if process.threads == 1:
        now = read(process.pid)
        if now is None or now.started != process.started:
            return set()
        if now.threads == 1:
            return {now.state}
    try:
        threads = os.listdir(f"{PROC}/{process.pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {_thread_state(process.pid, thread) for thread in threads}


def holders(pid: int) -> set[int]:
    """The processes whose tracing holds a thread of `pid` still now; 0 stands for one that we can't see.

    Such a thread runs on as soon as its tracer says so.
    """
    found = set()
    try:
        for thread in os.listdir(f"{PROC}/{pid}/task"):
            status = _status(f"{PROC}/{pid}/task/{thread}/status")
            if status.get("State", "").startswith(TRACED):
                tracer = status.get("TracerPid", "0")  # a thread's number
                found.add(int(_status(f"{PROC}/{tracer}/status").get("Tgid", "0")))
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has ended
    return found


class Family:
    """Everything below one process. `clock` gives monotonic seconds, `proc` is where the kernel lists processes."""

    def __init__(self, head: int, clock: Callable[[], float] = time.monotonic, proc: str = PROC) -> None:
        self.head = head
        self._proc = proc
        self._clock = clock
        self._foreign: set[int] = set()
        self._foreign_until = clock()

    def generations(self) -> list[list[Process]]:
        """The descendants of the head, by distance from it: children first, then theirs."""
        found = self._scan()
        depths: dict[int, int] = {self.head: 0}
        for pid in list(found):
            self._place(pid, found, depths)
        generations: list[list[Process]] = []
        for pid, depth in sorted(depths.items(), key=lambda item: item[1]):
            if depth > 0 and pid in found:
                if len(generations) < depth:
                    generations += [[] for _ in range(depth - len(generations))]
                generations[depth - 1].append(found[pid])
        return generations

    def workload(self, agents: Collection[int]) -> list[list[Process]]:
        """`generations` without our own processes: whoever is in `agents`."""
        generations = ([kin for kin in generation if kin.pid not in agents] for generation in self.generations())
        return [generation for generation in generations if generation]

    def _scan(self) -> dict[int, Process]:
        now = self._clock()
        if now >= self._foreign_until:
            self._foreign.clear()
            self._foreign_until = now + FOREIGN_S
        found = {}
        for pid in _numbers(self._proc):
            if pid not in self._foreign and (process := read(pid, self._proc)):
                found[pid] = process
        return found

    def _place(self, pid: int, found: dict[int, Process], depths: dict[int, int]) -> None:
        """Note the distance of `pid`, and of all between it and the head; remember who is none of ours."""
        line: list[int] = []
        at = pid
        rereads = 0
        while at not in depths:
            if at in self._foreign or at in _CHILDREN_OF_NOBODY:
                self._foreign.update(line)
                return
            process = found.get(at) or read(at, self._proc)
            if process is not None:
                found[at] = process
                line.append(at)
                at = process.parent
            elif line and rereads < _REREADS_MAX:  # it ended during the scan: its child has another parent by now
                rereads += 1
                at = line.pop()
                del found[at]
            else:
                return
        for distance, kin in enumerate(reversed(line), start=1):
            depths[kin] = depths[at] + distance


def workload_pids(watchdog_pid: int, agent_pids: Collection[int]) -> list[int]:
    """Process ids of the workload, parents first."""
    generations = Family(watchdog_pid).workload(agent_pids)
    return [process.pid for generation in generations for process in generation]


def read_pids(file: Path) -> dict[str, int]:
    """What the watchdog wrote of our own processes, by name; empty while it has not."""
    try:
        return {str(name): int(pid) for name, pid in json.loads(file.read_bytes()).items()}
    except (OSError, ValueError):
        return {}


def left_behind(setting: bytes) -> list[int]:
    """Processes with that `NAME=value` in the environment they were started with, save ourselves and our ancestors."""
    ours = {0, 1}
    at: int | None = os.getpid()
    while at and at not in ours:
        ours.add(at)
        process = read(at)
        at = process.parent if process else None
    return [pid for pid in _numbers() if pid not in ours and setting in _environment(pid)]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(PROC, str(pid), "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _numbers(proc: str = PROC) -> Iterator[int]:
    for name in os.listdir(proc):
        if name.isdecimal():
            yield int(name)


def _thread_state(pid: int, thread: str) -> str:
    line = _line(f"{PROC}/{pid}/task/{thread}/stat")
    return chr(line[line.rindex(b")") + 2]) if line else "X"


def _status(path: str) -> dict[str, str]:
    """The fields of a /proc/PID/status; none when what it tells of has ended."""
    try:
        text = Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    fields = (line.partition(b":") for line in text.splitlines())
    return {name.decode(errors="replace"): value.decode(errors="replace").strip() for name, _, value in fields}


def _line(path: str) -> bytes | None:
    """A small file of /proc in one read; None when what it tells of has ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        return os.read(descriptor, 1024) or None
    except ProcessLookupError:
        return None
    finally:
        os.close(descriptor)
