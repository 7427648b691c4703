"""A jail: how an instance of the local provider is held apart from the machine it runs on, and what it sees there.

Every mode uses the same disk, `instances/<label>/root/`. In a jail it is the root directory, so that the workspace and
the data directory are one mount and files can be renamed between them; in plain mode it is just a directory.

The jail's first process is the init of a PID namespace: when it gets SIGKILL from outside, the kernel ends everything
in it at once, like a machine that loses power.
"""

import enum
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import dumont
from dumont.errors import ProviderError
from dumont.model.instance import Machine
from dumont.provider.base import Boot
from dumont.provider.network import NETNS, Cable

WORKSPACE = "workspace"
RUN = "run/dumont"
DATA = ".dumont"
LONGEST_SOCKET = "watchdog.sock"
SOCKET_PATH_BYTES_MAX = 107  # sun_path of unix(7), less its closing zero
NOT_THE_HOSTS = {"proc", "dev", "tmp", "run", "boot", "lost+found", WORKSPACE, DATA}
TEMPORARY = ("/tmp", "/var/tmp")
PRIVATE = ("/root", "/home")
"""People's own directories: an instance sees none of them but what Python needs."""
SECRETS = ("shadow*", "gshadow*", "ssh/ssh_host_*_key")
"""Files under /etc that only root may read, and an instance started by root must not."""
CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",
    "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip
SSH_PORT, HTTP_PORT, STREAM_PORT = 2022, 2080, 2070


class Mode(enum.StrEnum):
    """How far an instance is held apart."""

    PLAIN = "plain"  # a session of its own, real paths, the host's network
    JAIL = "jail"  # PID namespace and root directory of its own, the host's network
    NETNS = "netns"  # a jail with a network namespace and an address of its own


@dataclass(frozen=True)
class Disk:
    """The disk of an instance: where its directories lie on the host, and where its own processes find them."""

    root: Path
    mode: Mode

    def outside(self, part: str) -> Path:
        return self.root / part

    def inside(self, part: str) -> Path:
        return self.root / part if self.mode is Mode.PLAIN else Path("/") / part

    def prepare(self) -> None:
        """Make its directories; harmless when repeated. Raises ProviderError when no socket fits its path."""
        if len(bytes(self.inside(RUN) / LONGEST_SOCKET)) > SOCKET_PATH_BYTES_MAX:
            raise ProviderError(f"{self.root} is too long for Unix sockets. Set DUMONT_HOME to a shorter path.")
        for part, bits in ((WORKSPACE, 0o755), (RUN, 0o700), (DATA, 0o700), ("tmp", 0o700)):
            self.outside(part).mkdir(bits, parents=True, exist_ok=True)
        if self.mode is Mode.PLAIN:
            return
        for entry in os.scandir("/"):
            if entry.is_symlink() and entry.name not in NOT_THE_HOSTS and not os.path.lexists(self.root / entry.name):
                (self.root / entry.name).symlink_to(os.readlink(entry.path))

    def boot(self, boot: Boot, machine: Machine, cable: Cable | None) -> None:
        """Write `boot.json`, with the paths that the instance itself sees. Port 0 means: pick a free one."""
        content = asdict(boot) | {
            "host": cable.address if cable else "127.0.0.1",
            "workspace_dir": str(self.inside(WORKSPACE)),
            "data_dir": str(self.inside(DATA)),
            "machine": machine.value,
            "ssh_port": SSH_PORT if cable else 0,
            "http_port": HTTP_PORT if cable else 0,
            "stream_port": STREAM_PORT if cable else 0,
        }
        target = self.outside(RUN) / "boot.json"
        whole = target.with_suffix(".new")
        whole.touch(0o600)
        whole.write_text(json.dumps(content, indent=1))
        whole.rename(target)


def argv(disk: Disk, home: Path, label: str, cable: Cable | None, command: Sequence[str]) -> list[str]:
    """What to start so that `command` runs as this instance. `command` must name paths that exist inside.

    In plain mode that is the command itself. The outermost process of a jail is bwrap's monitor; the namespace's
    init is its child.
    """
    if disk.mode is Mode.PLAIN:
        return list(command)
    enter = ["nsenter", f"--net={NETNS / cable.netns}"] if cable else []
    return [*enter, "bwrap", *_isolation(label), *_filesystem(disk, home.resolve()), "--", *command]


def environment(disk: Disk, marks: Iterable[str]) -> dict[str, str]:
    """The environment of an instance: nothing of the server's but its language. `marks` are `NAME=value`.

    A host is a stranger (I7), and the server's environment may hold the operator's keys.
    """
    kept = {name: value for name, value in os.environ.items() if name in ("LANG", "TZ") or name.startswith("LC_")}
    path = [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
    marked = dict(mark.split("=", 1) for mark in marks)
    home = str(disk.inside(WORKSPACE))
    return kept | {"PATH": ":".join(path), "PYTHONPATH": str(_package_root()), "HOME": home} | marked


def obstacle(home: Path) -> str:
    """Why no jail can be built for this home however willing the kernel is, or ""."""
    for path in _needed():
        for part in (WORKSPACE, DATA):
            if path.is_relative_to(Path("/") / part):
                return f"Dumont's own program lies under /{part}, which is the workspace inside a jail."
    return ""


def _isolation(label: str) -> list[str]:
    options = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", label]
    if os.geteuid() == 0:
        options += ["--cap-drop", "ALL"]
        for capability in CAPABILITIES:
            options += ["--cap-add", capability]
    return options


def _filesystem(disk: Disk, home: Path) -> list[str]:
    """The instance's disk as `/`, the host's programs over it read-only, its secrets masked, Python shown again."""
    options = ["--bind", str(disk.root), "/"]
    shown = []
    for entry in sorted(os.scandir("/"), key=lambda entry: entry.name):
        usable = entry.is_dir(follow_symlinks=False) and os.access(entry.path, os.R_OK | os.X_OK)
        if usable and entry.name not in NOT_THE_HOSTS:
            options += ["--ro-bind", entry.path, entry.path]
            shown.append(Path(entry.path))
    options += ["--proc", "/proc", "--dev", "/dev"]
    masked = [Path(path) for path in TEMPORARY if Path(path).is_dir() and not Path(path).is_symlink()]
    masked += [Path(path) for path in PRIVATE if Path(path) in shown]
    masked += [home] if any(home.is_relative_to(path) for path in shown) else []
    for path in masked:
        options += ["--tmpfs", str(path)]
    for path in _needed():
        if any(map(path.is_relative_to, masked)) or not any(map(path.is_relative_to, shown)):
            options += ["--ro-bind", str(path), str(path)]
    for secret in (path for pattern in SECRETS for path in sorted(Path("/etc").glob(pattern))):
        options += ["--ro-bind", "/dev/null", str(secret)]
    resolver = "/run/systemd/resolve"  # where resolv.conf leads to on many machines
    return [*options, "--ro-bind-try", resolver, resolver, "--chdir", f"/{WORKSPACE}"]


def _needed() -> list[Path]:
    """What Python needs in order to run our agent: its own files, the virtual environment and our package."""
    named = {Path(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    named |= {Path(sys.executable).parent, Path(sys.executable).resolve().parent, _package_root()}
    # The name through a link at the top, such as /bin, works inside as it does outside.
    literal = {path for path in named if not Path(*path.parts[:2]).is_symlink()}
    return sorted(literal | {path.resolve() for path in named})


def _package_root() -> Path:
    return Path(dumont.__file__).resolve().parent.parent
