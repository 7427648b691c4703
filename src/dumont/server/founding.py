"""Founding: what a home must hold before a server can start there; each is made once."""

import hmac
import json
import random
import secrets
from pathlib import Path

from dumont.client.home import Home
from dumont.control.act import Landing
from dumont.control.ask import is_free, pick_port
from dumont.errors import NotPossibleHere
from dumont.wire.identity import GATEWAY, SERVER, Authority, write_private

LOOPBACK = "127.0.0.1"
SERVER_PORTS = range(28_000, 30_000)


def authority(home: Home, hub_port: int) -> Authority:
    """Our certificate authority, and the identities of server and gateway."""
    fresh = not (home.authority / "ca.key").exists()
    ours = Authority.create(home.authority) if fresh else Authority.load(home.authority)
    ours.write_process(home.authority / "server", SERVER)
    ours.write_process(home.gateway, GATEWAY)
    settings = {"server_host": LOOPBACK, "server_port": hub_port, "listen_host": LOOPBACK}
    write(home.gateway / "gateway.json", json.dumps(settings) + "\n")  # last: `dumont up` waits for it
    return ours


def landing(home: Home, ports: dict[str, int], ours: Authority, agent_sha256: str) -> Landing:
    """Tokens follow from a secret and the instance's id, so that a repeated rent brings the same one."""
    secret_file = home.authority / "token.secret"
    if not secret_file.exists():
        write(secret_file, secrets.token_hex(32))
    secret = secret_file.read_bytes()

    def token_for(instance_id: str) -> str:
        return hmac.new(secret, instance_id.encode(), "sha256").hexdigest()

    return Landing(ports["hub"], ours.certificate_pem, token_for, ports["agent"], agent_sha256)


def installation(home: Home) -> str:
    """The name that marks our machines among others of an account."""
    file = home.authority / "installation"
    if not file.exists():
        write(file, "d" + secrets.token_hex(4) + "\n")
    return file.read_text().strip()


def store_key(home: Home) -> bytes:
    """The key that opens every workspace's part of the store. Without it the store is noise: back it up with the rest.

    Raises NotPossibleHere when it is gone while there is something that only it opens.
    """
    path = home.keys / "store.key"
    if not path.exists():
        if next(home.store.glob("workspaces/*/config"), None):
            raise NotPossibleHere(f"{path} is missing, and only it opens what {home.store} holds: restore it")
        write(path, secrets.token_hex(32) + "\n")
    return bytes.fromhex(path.read_text())


def ports(home: Home) -> dict[str, int]:
    """The ports of API, hub and handout, the same at each start: instances keep on dialling."""
    picked: dict[str, int] = json.loads(home.ports.read_text()) if home.ports.exists() else {}
    missing = [name for name in ("api", "hub", "agent") if name not in picked]
    for name in missing:
        picked[name] = _another_port(set(picked.values()))
    if missing:
        write(home.ports, json.dumps(picked) + "\n")
    return picked


def token(home: Home) -> str:
    """The API's bearer token."""
    if not home.token.exists():
        write(home.token, secrets.token_urlsafe(32) + "\n")
    return home.token.read_text().strip()


def write(path: Path, text: str) -> None:
    """Whole or not at all, and never for anybody else to read."""
    write_private(path, text)


def _another_port(taken: set[int]) -> int:
    return pick_port(SERVER_PORTS, random.SystemRandom(), lambda port: port not in taken and is_free(port))
