"""The home of an installation: one directory that holds all its state, and where each thing lies in it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dumont.errors import ServerAway
from dumont.i18n import _


@dataclass(frozen=True)
class Home:
    """Paths under one directory. Nothing here creates anything."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "dumont.db"

    @property
    def authority(self) -> Path:
        return self.path / "ca"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def identity(self) -> Path:
        """The owner's SSH key, with which `dumont ssh` logs in."""
        return self.keys / "id_ed25519"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def instances(self) -> Path:
        return self.path / "instances"

    @property
    def receipts(self) -> Path:
        return self.path / "receipts"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def ports(self) -> Path:
        """The ports that this installation picked once, for its hub and its API."""
        return self.path / "ports.json"

    @property
    def token(self) -> Path:
        """The API's bearer token; whoever can read it owns every workspace here."""
        return self.run / "api.token"

    @property
    def server(self) -> Path:
        """Where the server wrote, once it listened, its process id and ports."""
        return self.run / "server.json"

    @property
    def gateway(self) -> Path:
        """The gateway's own directory: identity, routes, process id."""
        return self.path / "gateway"


@dataclass(frozen=True)
class Door:
    """How to reach the server of a home."""

    url: str
    token: str
    pid: int


def find_home(environment: Mapping[str, str] = os.environ) -> Home:
    """`$DUMONT_HOME`, else `~/.dumont`."""
    named = environment.get("DUMONT_HOME", "")
    return Home(Path(named).expanduser().absolute() if named else Path.home() / ".dumont")


def find_door(home: Home) -> Door:
    """Raises ServerAway when no server ever listened here."""
    try:
        told = json.loads(home.server.read_text())
        return Door(f"http://127.0.0.1:{told['api_port']}", home.token.read_text().strip(), int(told["pid"]))
    except (OSError, ValueError, KeyError) as error:
        raise ServerAway(_("The server is not running: start it with `dumont up`.")) from error
