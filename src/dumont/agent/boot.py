"""The boot record: what the provider wrote down for a new instance, and the names of the files beside it.

Standard library only: the watchdog reads file names from here.
"""

import json
import math
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from dumont.errors import BadInput
from dumont.model.instance import Machine


@dataclass(frozen=True)
class RunDir:
    """An instance's run directory: every file in it that one of our processes shares with another."""

    path: Path

    @property
    def boot(self) -> Path:
        """JSON, written by the provider: see `Boot`."""
        return self.path / "boot.json"

    @property
    def pids(self) -> Path:
        """JSON, written by the watchdog: the process id of each of our processes, by name, its own included."""
        return self.path / "agent.pids"

    @property
    def epoch(self) -> Path:
        """Decimal text, written by the engine: the epoch that it follows. Missing is 0."""
        return self.path / "epoch"

    @property
    def ended(self) -> Path:
        """Decimal text, written durably by the watchdog: the highest epoch that ended lower ones."""
        return self.path / "ended"

    @property
    def lapsed(self) -> Path:
        """Exists while the watchdog holds the workload still, for want of a lease."""
        return self.path / "lapsed"

    @property
    def still(self) -> Path:
        """The processes that were stopped by us, and must be continued; locked by who is stopping or continuing."""
        return self.path / "still"

    @property
    def watchdog_socket(self) -> Path:
        """Unix datagrams to the watchdog."""
        return self.path / "watchdog.sock"

    @property
    def session_socket(self) -> Path:
        """A Unix socket: the engine dials, the session serves."""
        return self.path / "session.sock"

    @property
    def agent_socket(self) -> Path:
        """A Unix socket for programs in the workspace: see `dumont.barrier`."""
        return self.path / "agent.sock"

    @property
    def end(self) -> Path:
        """Shell text that ends this machine, written by the bootstrap; missing where it can't end itself."""
        return self.path / "end"

    @property
    def key(self) -> Path:
        """The instance's private key, PEM, mode 0600; it never leaves the machine."""
        return self.path / "identity.key"

    @property
    def certificate(self) -> Path:
        """The instance's certificate, PEM; written last when joining, so that it stands for the whole identity."""
        return self.path / "identity.crt"

    @property
    def chunk_key(self) -> Path:
        """Hexadecimal text, mode 0600: the key under which the workspace's chunks are named."""
        return self.path / "chunk.key"

    @property
    def authority(self) -> Path:
        """The certificate of the authority that the instance trusts, PEM."""
        return self.path / "ca.crt"


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What an instance is told before it has spoken to anybody. Ports: 0 picks a free one.

    `host` is the address under which others reach it, and `…_port_outside` the port there where it differs from the
    one that is listened at (a host that forwards ports); 0 where it does not. `workspace_dir` and `data_dir` (journal,
    promise) are on one file system. `orphan_after_s`: see `agent.orphan`; 0 is never.
    """

    instance_id: str
    server_host: str
    server_port: int
    ca_pem: str
    join_token: str
    host: str
    workspace_dir: Path
    data_dir: Path
    machine: Machine
    ssh_port: int = 0
    http_port: int = 0
    stream_port: int = 0
    ssh_port_outside: int = 0
    http_port_outside: int = 0
    stream_port_outside: int = 0
    orphan_after_s: float = 0.0


def read_boot(run: RunDir) -> Boot:
    """The boot record of that run directory. Raises BadInput, naming the field that is missing or wrong.

    Fields that this version doesn't know are left alone: a newer provider may write more.
    """
    try:
        written = json.loads(run.boot.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{run.boot} can't be read: {error}. The provider writes it before it starts an instance"
        ) from error
    if not isinstance(written, dict):
        raise BadInput(f"{run.boot} must hold a JSON object, not {type(written).__name__}")
    values = {}
    for field in fields(Boot):
        if field.name in written:
            values[field.name] = _checked(run, field.name, written[field.name])
        elif field.default is MISSING:
            raise BadInput(f"{run.boot} lacks {field.name!r}")
    return Boot(**values)


def _checked(run: RunDir, name: str, value: Any) -> Any:
    if "_port" in name:
        if type(value) is not int or not 0 <= value <= 65535:
            raise BadInput(f"{run.boot}: {name} must be a port number, not {value!r}")
        return value
    if name == "orphan_after_s":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise BadInput(f"{run.boot}: {name} must be a number of seconds, not {value!r}")
        return float(value)
    if not isinstance(value, str) or not value:
        raise BadInput(f"{run.boot}: {name} must be a text that is not empty, not {value!r}")
    if name == "machine":
        if value not in list(Machine):
            raise BadInput(f"{run.boot}: machine must be one of {', '.join(Machine)}, not {value!r}")
        return Machine(value)
    if name.endswith("_dir"):
        if not Path(value).is_absolute():
            raise BadInput(f"{run.boot}: {name} must be an absolute path, not {value!r}")
        return Path(value)
    return value
