"""SSH keys: whose owners may log in to workspaces, and the host key that is a workspace's own for life."""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dumont.errors import BadInput

KEYS_MAX = 100


def new_private_key() -> str:
    """A fresh Ed25519 key in OpenSSH's format."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        .decode()
    )


def public_half(private_key: str) -> str:
    """The line `ssh-ed25519 AAAA…` of a private key. "" for an empty one. Raises BadInput."""
    if not private_key:
        return ""
    try:
        key = serialization.load_ssh_private_key(private_key.encode(), None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(f"not a private key in OpenSSH's format: {error}") from error
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def checked_public_key(line: str) -> str:
    """`line` as one clean line of an authorized_keys file, without options. Raises BadInput."""
    parts = line.strip().split(None, 2)
    if len(parts) < 2 or "\n" in line.strip():
        raise BadInput("this is not one public key: give the line that a .pub file holds")
    try:
        serialization.load_ssh_public_key(" ".join(parts[:2]).encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(f"this is not a public key in OpenSSH's format: {error}") from error
    return " ".join(parts)


class Keyring:
    """The owners' public keys, one a line in a file. The first is that of this installation itself."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "owners"

    def prepare(self) -> None:
        """Make the installation's own key if there is none."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = self._directory / "id_ed25519"
        if not identity.exists():
            private = new_private_key()
            _write(identity.with_suffix(".pub"), public_half(private) + " dumont\n", 0o644)
            _write(identity, private, 0o600)  # last: it is what says that the pair exists
        if not self._file.exists():
            _write(self._file, identity.with_suffix(".pub").read_text(), 0o644)

    def keys(self) -> tuple[str, ...]:
        """All public keys, in the order they were added."""
        return tuple(line for line in self._file.read_text().splitlines() if line.strip())

    def add(self, line: str) -> tuple[str, ...]:
        """Add a key; harmless when it is there. Raises BadInput."""
        key = checked_public_key(line)
        keys = self.keys()
        if key.split()[1] not in {known.split()[1] for known in keys}:
            if len(keys) >= KEYS_MAX:
                raise BadInput(f"there are {KEYS_MAX} keys already; take one out of {self._file} first")
            keys += (key,)
            _write(self._file, "\n".join(keys) + "\n", 0o644)
        return keys


def _write(path: Path, text: str, mode: int) -> None:
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
