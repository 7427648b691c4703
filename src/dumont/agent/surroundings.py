"""The surroundings of a workspace's programs: its directory, its shell, and the environment that they are given."""

import os
import pwd
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import dumont
from dumont.agent.boot import Boot, RunDir

PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Only these of the agent's own environment reach a user's programs: hosts are strangers (I7), and so is what their
# image or our launcher may have put there.
_INHERITED = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "LD_LIBRARY_PATH", "SSL_CERT_FILE"})
_INHERITED_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "NCCL_")


class Surroundings:
    """What every program in the workspace sees. `app_port` is where the user's own HTTP server should listen."""

    def __init__(self, run: RunDir, boot: Boot) -> None:
        self.run = run
        self.boot = boot
        self.directory = boot.workspace_dir
        self.app_port = _free_port()
        self.shell = shutil.which("bash") or "/bin/sh"
        self.workspace = ""
        self._client = _lay_out_client(run.path / "python")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a new process. `extra` is what an SSH client sent; it can't replace what is ours."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
        }
        user = _user_name()
        ours = {
            "DUMONT_SOCKET": str(self.run.agent_socket),
            "DUMONT_WORKSPACE": self.workspace,
            "DUMONT_ROLE": self.boot.machine,
            "PORT": str(self.app_port),
            "HOME": str(self.directory),
            "SHELL": self.shell,
            "PYTHONPATH": str(self._client),
        }
        return {"PATH": PATH_DEFAULT, "USER": user, "LOGNAME": user} | inherited | dict(extra or {}) | ours


def _lay_out_client(folder: Path) -> Path:
    """A folder that holds `import dumont` for programs in the workspace, and nothing else of ours."""
    package = folder / "dumont"
    package.mkdir(parents=True, exist_ok=True)
    source = Path(dumont.__file__).read_bytes()
    target = package / "__init__.py"
    if not target.exists() or target.read_bytes() != source:
        target.write_bytes(source)
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # an ordinary container may run us under a number that has no name
        return str(os.getuid())
