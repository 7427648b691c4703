"""What this machine allows the local provider, each answer with its reason and the one command that would help."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from dumont.errors import DumontError
from dumont.i18n import _
from dumont.provider.command import run, which
from dumont.provider.jail import Disk, Mode, argv, obstacle
from dumont.provider.network import NETNS, Cable, Network

PYTHON_MIN = (3, 11)
FREE_BYTES_MIN = 2 * 2**30
WATCHES_MIN = 65_536
INOTIFY_INSTANCES_MIN = 128
INOTIFY = Path("/proc/sys/fs/inotify")
NUMBER = 2
ECHO_PORT = 7000
SILENCE_S = 0.3
ANSWER_S_MAX = 5.0

ECHO = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
connection = listener.accept()[0]
while data := connection.recv(4096):
    connection.sendall(data)
"""


@dataclass(frozen=True, kw_only=True)
class Capability:
    """One thing that this machine allows or not. `remedy` is a command, or "" where none would help or is needed."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


async def examine(home: Path) -> list[Capability]:
    """Everything, in the order a person reads it. Takes about two seconds as root; leaves nothing behind."""
    jailed = await jail(home)
    return [
        python(),
        program("ssh", "openssh-client"),
        program("rsync", "rsync"),
        disk(home),
        inotify(),
        jailed,
        *await network(home),
    ]


async def best_mode(home: Path) -> Mode:
    """How far instances can be held apart here: each mode needs what the one before it needs, and more."""
    if not (await jail(home)).ok:
        return Mode.PLAIN
    if os.geteuid() != 0:
        return Mode.JAIL
    try:
        async with _cable(home):
            return Mode.NETNS
    except DumontError:
        return Mode.JAIL


def python() -> Capability:
    return Capability(
        name="python",
        ok=sys.version_info >= PYTHON_MIN,
        detail=".".join(map(str, sys.version_info[:3])),
        remedy="sudo apt-get install -y python3-venv",
    )


def program(name: str, package: str) -> Capability:
    found = shutil.which(name) or which(name)
    detail = found or _("not found; a client needs it to reach a workspace")
    return Capability(name=name, ok=bool(found), detail=detail, remedy=f"sudo apt-get install -y {package}")


def disk(home: Path) -> Capability:
    """Free bytes where the home is, or will be."""
    there = next(path for path in (home.resolve(), *home.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    return Capability(
        name="disk",
        ok=free >= FREE_BYTES_MIN,
        detail=_("{free} MB are free for {home}").format(free=free // 10**6, home=home),
        remedy="export DUMONT_HOME=/a/larger/disk",
    )


def inotify() -> Capability:
    """The kernel's bounds on watching files; what exceeds them is scanned instead, which is slower but as safe."""
    try:
        watches = int((INOTIFY / "max_user_watches").read_text())
        instances = int((INOTIFY / "max_user_instances").read_text())
    except OSError:
        return Capability(name="inotify", ok=False, detail=_("not here: files are scanned instead of watched"))
    return Capability(
        name="inotify",
        ok=watches >= WATCHES_MIN and instances >= INOTIFY_INSTANCES_MIN,
        detail=_("{watches} directories and {instances} watchers per user").format(
            watches=watches, instances=instances
        ),
        remedy=f"sudo sysctl fs.inotify.max_user_watches={WATCHES_MIN * 8} fs.inotify.max_user_instances=512",
    )


async def jail(home: Path) -> Capability:
    """Whether a jail starts, found out by starting one."""
    if not shutil.which("bwrap"):
        return _no_jail(_("bubblewrap is missing"), "sudo apt-get install -y bubblewrap")
    if why := obstacle(home):
        return _no_jail(why)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".trial-", dir=home) as folder:
        trial = Disk(Path(folder), Mode.JAIL)
        try:
            trial.prepare()
            await run(argv(trial, home, "trial", None, (sys.executable, "-I", "-c", "pass")))
        except DumontError as error:
            # Ubuntu 24.04 forbids user namespaces to programs it does not know; root needs none.
            return _no_jail(str(error), "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0")
    return Capability(
        name="jail", ok=True, detail=_("instances get a root directory and a process namespace of their own")
    )


async def network(home: Path) -> list[Capability]:
    """Whether instances can have a network of their own, and whether it can be cut silently: both ways, and one way."""
    if os.geteuid() != 0:
        return _no_network(_("only root may make network namespaces; instances share this machine's"), "sudo dumont up")
    if not which("ip") or not which("bridge"):
        return _no_network(_("iproute2 is missing"), "sudo apt-get install -y iproute2")
    try:
        async with _cable(home) as cable:
            ways = await _try_cuts(cable)
    except (DumontError, OSError, EOFError) as error:
        return _no_network(str(error))
    made = Capability(
        name="network", ok=True, detail=_("instances get a network namespace and an address of their own")
    )
    return [made, *(_cut(way, worked) for way, worked in ways.items())]


async def _try_cuts(cable: Cable) -> dict[str, bool]:
    """For each way of cutting, whether a real connection heard nothing but silence, and went on when it was healed."""
    echo = await asyncio.create_subprocess_exec(
        "nsenter",
        f"--net={NETNS / cable.netns}",
        *(sys.executable, "-I", "-S", "-c", ECHO, cable.address, str(ECHO_PORT)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert echo.stdout is not None
        async with asyncio.timeout(ANSWER_S_MAX):
            await echo.stdout.readline()
            reader, writer = await asyncio.open_connection(cable.address, ECHO_PORT)
        both = [command for way in cable.cut.values() for command in way]
        ways = {"both ways": both, "in": cable.cut["in"], "out": cable.cut["out"]}
        worked = {}
        for name, cut in ways.items():
            for command in cut:
                await run(command)
            writer.write(b".")
            silent = not await _answers(reader, SILENCE_S)
            for command in cable.heal:
                await run(command)
            worked[name] = silent and await _answers(reader, ANSWER_S_MAX)
        writer.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            echo.kill()
        await echo.wait()
    return {"both ways": worked["both ways"], "one way": worked["in"] and worked["out"]}


async def _answers(reader: asyncio.StreamReader, within_s: float) -> bool:
    """Whether one byte arrives. An end of the connection is no silence: it raises IncompleteReadError."""
    try:
        async with asyncio.timeout(within_s):
            await reader.readexactly(1)
    except TimeoutError:
        return False
    return True


@contextlib.asynccontextmanager
async def _cable(home: Path) -> AsyncIterator[Cable]:
    """A cable of a network made for trial, beside the home's own."""
    trial = await Network.open(home / f".trial-{os.getpid()}")
    try:
        yield await trial.plug(NUMBER)
    finally:
        await trial.close()


def _no_jail(why: str, remedy: str = "") -> Capability:
    detail = _("instances share this machine's files and processes: {why}").format(why=why)
    return Capability(name="jail", ok=False, detail=detail, remedy=remedy)


def _no_network(why: str, remedy: str = "") -> list[Capability]:
    names = ("network", "cut both ways", "cut one way")
    return [Capability(name=name, ok=False, detail=why, remedy=remedy) for name in names]


def _cut(way: str, worked: bool) -> Capability:
    detail = _("a cut connection is silent, and goes on when it is healed") if worked else _("a cut is not silent here")
    return Capability(name=f"cut {way}", ok=worked, detail=detail)
