"""The processes of a local instance: which are its own, whether the outermost still lives, and how all are ended.

A pid alone names nobody, for the kernel uses it again; a process is named by boot, pid and start time. Processes of an
instance carry marks in their environment; what they start belongs to it too, whatever it does to its environment.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dumont.errors import ProviderError

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"
DEAD = ("Z", "X", "")
ENDING_SECONDS_MAX = 10.0
EXEC_TRIES_MAX, EXEC_TRY_SECONDS = 40, 0.0005
KERNEL_THREAD = 0x200000  # PF_KTHREAD among the flags of proc(5)'s stat

# Written by the process itself before it becomes the instance: whoever started it may be killed at any instant.
LAUNCH = """
read -r boot < /proc/sys/kernel/random/boot_id
read -r stat < /proc/$$/stat
printf '%s %s\\n' "$boot" "$stat" > "$1" || exit 1
[ "$2" = 0 ] || sleep "$2"
shift 2
exec "$@"
"""


@dataclass(frozen=True)
class Process:
    """One process, named for ever: `start_ticks` is its start in clock ticks since the boot called `boot`."""

    boot: str
    pid: int
    start_ticks: int

    @classmethod
    def parse(cls, line: str) -> "Process | None":
        """The process of a line that LAUNCH wrote; None for one that is not complete."""
        boot, _, stat = line.rstrip("\n").partition(" ")
        pid, _, rest = stat.partition(" ")
        fields = rest.rpartition(")")[2].split()
        if not line.endswith("\n") or len(fields) < 20:
            return None
        return cls(boot, int(pid), int(fields[19]))

    def age_s(self) -> float:
        """Seconds since it started; true while it lives (proc(5): the start time counts in CLOCK_BOOTTIME)."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.start_ticks / os.sysconf("SC_CLK_TCK")

    def alive(self) -> bool:
        """Whether exactly this process still runs; a zombie does not."""
        if BOOT_ID.read_text().strip() != self.boot:
            return False
        state, start = _state(self.pid)
        return state not in DEAD and start == self.start_ticks


def launch(started: Path, delay_s: float, command: Sequence[str]) -> list[str]:
    """Starts `command` in a session of its own, as nobody's child, after it noted in `started` who it is."""
    delay = "0" if delay_s <= 0 else f"{delay_s:.3f}"
    return ["setsid", "--fork", "sh", "-c", LAUNCH, "sh", str(started), delay, *command]


async def terminate(marks: Iterable[str], grace_s: float) -> None:
    """SIGTERM to every process that carries all the marks; answers when all have ended, or after `grace_s` seconds."""
    wanted = {mark.encode() for mark in marks}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_s
    for pid in sorted(_members(wanted, ())):
        if not _is_namespace_init(pid):  # it goes with the last of the others, or by force
            _send(pid, signal.SIGTERM)
    while _members(wanted, ()) and loop.time() < deadline:
        await asyncio.sleep(0.01)


async def end(marks: Iterable[str]) -> None:
    """SIGKILL every process that carries all the marks, and what descends from them, until none is left.

    The init of a PID namespace goes first and takes all of its namespace along. Raises ProviderError when some are
    still there after 10 s.
    """
    wanted = {mark.encode() for mark in marks}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ENDING_SECONDS_MAX
    known: set[int] = set()
    while left := _members(wanted, known):
        if loop.time() > deadline:
            raise ProviderError(f"processes {sorted(left)} do not end; they may wait for a disk. Try again later.")
        inits = [pid for pid in left if _is_namespace_init(pid)]
        if left - known and not inits:  # what stands still can't start another one that we would miss
            for pid in left - known:
                _send(pid, signal.SIGSTOP)
            known |= left
            continue
        for pid in (*inits, *sorted(left)):
            _send(pid, signal.SIGKILL)
        known = left
        await asyncio.sleep(0.01)


def _members(wanted: set[bytes], known: Iterable[int]) -> set[int]:
    """The living processes with all the marks, those already known that still carry on, and all they started."""
    parents: dict[int, int] = {}
    members: set[int] = set()
    for name in os.listdir(PROC):
        pid = int(name) if name.isdecimal() else 0
        status = _read(pid, "stat").rpartition(b")")[2].split() if pid else []
        if len(status) > 1 and status[0].decode() not in DEAD and pid != os.getpid():
            parents[pid] = int(status[1])
            if wanted <= set(_environment(pid).split(b"\0")):
                members.add(pid)
    members |= {pid for pid in known if pid in parents}
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    return members


def _environment(pid: int) -> bytes:
    """The process's environment; b"" when it ended or is a stranger's.

    In the middle of an exec it has none for a moment, which is waited out.
    """
    for _ in range(EXEC_TRIES_MAX):
        try:
            found = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            return b""
        if found or _is_bare(pid):
            return found
        time.sleep(EXEC_TRY_SECONDS)
    return b""


def _is_bare(pid: int) -> bool:
    """Whether there is nothing to wait for: it ended, is of the kernel, or was started without any environment.

    Fields 50 and 51 of proc(5)'s stat are where the environment begins and ends; both are 0 during an exec.
    """
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    if len(fields) < 49 or fields[0].decode() in DEAD or int(fields[6]) & KERNEL_THREAD:
        return True
    return fields[47] == fields[48] != b"0"


def _is_namespace_init(pid: int) -> bool:
    lines = _read(pid, "status").splitlines()
    spaces = next((line.split()[1:] for line in lines if line.startswith(b"NSpid:")), [])
    return len(spaces) > 1 and spaces[-1] == b"1"


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # ended meanwhile, which is what we want
    except PermissionError as error:
        raise ProviderError(f"process {pid} runs as another user and can't be ended from here. Use root.") from error


def _state(pid: int) -> tuple[str, int]:
    """State letter and start time in ticks, or ("", 0) when there is no such process (proc(5), /proc/pid/stat)."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return (fields[0].decode(), int(fields[19])) if len(fields) > 19 else ("", 0)


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""  # it ended, or it is another user's
