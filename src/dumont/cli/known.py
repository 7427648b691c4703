"""What OpenSSH has to know of a workspace: our key, its address, and the host key that survives every failover.

Written down at each use, so that `dumont ssh` still works while the server is away: the address is the gateway's.
"""

from pathlib import Path

import msgspec

from dumont.client import Dumont, Home
from dumont.client.results import Address
from dumont.errors import ServerAway


async def find_address(dumont: Dumont, name: str) -> Address:
    """Where a workspace is; when nobody can be asked, where it was last, for an address is fixed for life."""
    path = dumont.home.run / "addresses" / f"{name}.json"
    try:
        address = (await dumont.workspace(name)).address
    except ServerAway:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Address)
        except (OSError, msgspec.DecodeError):
            pass  # it was never asked for before; what matters is that the server is away
        raise
    _write(path, msgspec.json.encode(address).decode())
    return address


def ssh_options(home: Home, name: str, address: Address) -> dict[str, str]:
    """OpenSSH options, after writing the workspace's own known_hosts file."""
    known = home.run / "known_hosts" / name
    _write(known, f"{address.alias} {address.host_public_key}\n")
    return {
        "IdentityFile": str(home.identity),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": address.alias,
        "StrictHostKeyChecking": "yes",
        "CheckHostIP": "no",
        "UpdateHostKeys": "no",
        "LogLevel": "ERROR",
    }


def _write(path: Path, text: str) -> None:
    """Replace the file, whole or not at all: another `dumont ssh` may be reading it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.read_text() == text:
        return
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(text)
    unfinished.rename(path)
