"""Faults from outside: ends, cuts off and freezes local instances without telling the server anything.

Works from `home/instances/<id>/machine.json` alone and shares no code with the provider, so that a mistake there does
not hide itself here. What is done to an instance is what happens to rented machines: power lost, a cable cut.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from dumont.errors import BadInput, NotPossibleHere, ProviderError

Direction = Literal["both", "out", "in"]

PROC = Path("/proc")
DYING_SECONDS_MAX = 10.0
COMMAND_SECONDS_MAX = 10.0
EXEC_TRIES_MAX, EXEC_TRY_SECONDS = 40, 0.0005
KERNEL_THREAD = 0x200000  # PF_KTHREAD


async def kill(home: Path, instance_id: str) -> float:
    """SIGKILL to all processes of the instance. Answers when the first one was sent, in seconds of CLOCK_MONOTONIC.

    Where it runs in a PID namespace, its init gets the signal and everything in it dies at that instant; elsewhere all
    its processes are made to stand still first. Returns when none is left. Raises BadInput when none was running,
    ProviderError when some are still there after 10 s.
    """
    marks = {mark.encode() for mark in _machine(home, instance_id)["marks"]}
    members = _members(marks)
    if not members:
        raise BadInput(f"No process of instance {instance_id} is running.")
    if not any(map(_is_init, members)):
        members = _stand_still(marks, members)
    order = _inits_first(members)
    killed_at = time.monotonic()
    while order:
        for pid in order:
            _signal(pid, signal.SIGKILL)
        if time.monotonic() > killed_at + DYING_SECONDS_MAX:
            raise ProviderError(f"processes {order} of instance {instance_id} do not die.")
        await asyncio.sleep(0.002)
        order = _inits_first(_members(marks))
    return killed_at


async def cut(home: Path, instance_id: str, direction: Direction = "both") -> float:
    """Cut the instance's cable: `out` loses what it sends, `in` what is sent to it. Only silence tells.

    Answers when the cut was complete, in seconds of CLOCK_MONOTONIC. Raises NotPossibleHere for an instance without a
    network of its own.
    """
    cable = _cable(home, instance_id)
    for way in ("in", "out") if direction == "both" else (direction,):
        await _run(cable["cut"][way])
    return time.monotonic()


async def heal(home: Path, instance_id: str) -> float:
    """Undo every cut; harmless when there is none. Answers when it was done, in seconds of CLOCK_MONOTONIC."""
    await _run(_cable(home, instance_id)["heal"])
    return time.monotonic()


def freeze_pid(pid: int) -> None:
    """Make one process stand still (SIGSTOP), as a machine does whose memory swaps or whose host is busy."""
    os.kill(pid, signal.SIGSTOP)


def thaw_pid(pid: int) -> None:
    """Let a frozen process go on (SIGCONT)."""
    os.kill(pid, signal.SIGCONT)


def pids_of(home: Path, instance_id: str) -> dict[str, int]:
    """The instance's own processes by name (watchdog, engine, pulse, session), as pids outside of its jail.

    Raises BadInput when it has not written them down (yet), or they are gone.
    """
    machine = _machine(home, instance_id)
    file = _directory(home, instance_id) / machine["run_dir"] / "agent.pids"
    try:
        inside = {str(name): int(pid) for name, pid in json.loads(file.read_text()).items()}
    except (FileNotFoundError, ValueError) as error:
        raise BadInput(f"Instance {instance_id} did not write down its processes yet.") from error
    jailed = machine["mode"] != "plain"
    outside: dict[int, int] = {}
    for pid in _members({mark.encode() for mark in machine["marks"]}):
        names = _namespace_pids(pid)
        if not jailed or len(names) > 1:
            outside[names[-1]] = pid
    gone = [name for name, pid in inside.items() if pid not in outside]
    if gone:
        raise BadInput(f"Of instance {instance_id} these processes are gone: {', '.join(sorted(gone))}.")
    return {name: outside[pid] for name, pid in inside.items()}


def tree_of(home: Path, instance_id: str) -> Path:
    """Where the workspace's tree of this instance lies, seen from outside of its jail."""
    return _directory(home, instance_id) / str(_machine(home, instance_id)["tree"])


def _directory(home: Path, instance_id: str) -> Path:
    """A local machine is called like the instance; one of an emulated cloud is known by the boot record on its disk."""
    instances = home.resolve() / "instances"
    for boot in instances.glob("*/root/run/dumont/boot.json") if not (instances / instance_id).exists() else ():
        try:
            if json.loads(boot.read_text())["instance_id"] == instance_id:
                return boot.parents[3]
        except (OSError, ValueError, KeyError):
            continue  # being written, or of a machine that ends
    return instances / instance_id


def _machine(home: Path, instance_id: str) -> dict[str, Any]:
    try:
        return dict(json.loads((_directory(home, instance_id) / "machine.json").read_text()))
    except FileNotFoundError as error:
        raise BadInput(f"There is no local instance {instance_id} under {home}.") from error


def _cable(home: Path, instance_id: str) -> dict[str, Any]:
    cable = _machine(home, instance_id)["cable"]
    if cable is None:
        raise NotPossibleHere("An instance has a cable to cut only as root, with iproute2 and network namespaces.")
    return dict(cable)


async def _run(commands: Iterable[list[str]]) -> None:
    """Run the commands one after another. Raises ProviderError with the complaint of one that failed."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for argv in commands:
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env={"PATH": path}
        )
        async with asyncio.timeout(COMMAND_SECONDS_MAX):
            _, complaint = await process.communicate()
        if process.returncode:
            raise ProviderError(f"`{' '.join(argv)}` failed: {complaint.decode(errors='replace').strip()}")


def _stand_still(marks: set[bytes], members: set[int]) -> set[int]:
    """Stop all members, and those that were born meanwhile, until no new one appears."""
    stopped: set[int] = set()
    while members - stopped:
        for pid in members - stopped:
            _signal(pid, signal.SIGSTOP)
        stopped |= members
        members = _members(marks)
    return stopped


def _members(marks: set[bytes]) -> set[int]:
    """The living processes that carry all marks in their environment, and all that descend from them."""
    parents: dict[int, int] = {}
    members: set[int] = set()
    for pid in (int(name) for name in os.listdir(PROC) if name.isdecimal()):
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        if len(fields) > 1 and fields[0] not in (b"Z", b"X"):
            parents[pid] = int(fields[1])
            if marks <= set(_environment(pid).split(b"\0")):
                members.add(pid)
    while children := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= children
    return members


def _environment(pid: int) -> bytes:
    """A process in the middle of an exec has no environment for a moment, and must not be overlooked for that."""
    for _ in range(EXEC_TRIES_MAX):
        try:
            found = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            return b""  # ended meanwhile, or not ours
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        over = len(fields) < 49 or fields[0] in (b"Z", b"X") or bool(int(fields[6]) & KERNEL_THREAD)
        if found or over or fields[47] == fields[48] != b"0":
            return found
        time.sleep(EXEC_TRY_SECONDS)
    return b""


def _inits_first(members: set[int]) -> list[int]:
    return sorted(members, key=lambda pid: (not _is_init(pid), pid))


def _is_init(pid: int) -> bool:
    """Whether the process is the init of a PID namespace below ours."""
    names = _namespace_pids(pid)
    return len(names) > 1 and names[-1] == 1


def _namespace_pids(pid: int) -> list[int]:
    """The pids of a process, from our namespace down to its own; [pid] when it is gone."""
    for line in _read(pid, "status").splitlines():
        if line.startswith(b"NSpid:"):
            return [int(name) for name in line.split()[1:]]
    return [pid]


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""  # ended meanwhile, or not ours
