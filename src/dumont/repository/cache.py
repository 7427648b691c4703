"""The cache: what this machine keeps of a repository so as not to ask for it again. Losing it costs time only."""

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dumont.errors import StoreError

_NONCE_BYTES = 12


@dataclass(frozen=True)
class Cache:
    """A directory that only its owner reads. What `put` keeps is sealed under `key`; what `write` keeps is as given."""

    directory: Path
    key: bytes

    def read(self, name: str) -> bytes | None:
        """What was kept as `name`, or None."""
        try:
            return (self.directory / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(
                f"the cache can't be read: {error}; delete {self.directory} or set DUMONT_CACHE"
            ) from error

    def write(self, name: str, body: bytes) -> None:
        """Keep `body` as `name`, whole or not at all. A cache that can't be written is no reason to fail."""
        temporary = self.directory / f".{name}.{os.getpid()}"
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_bytes(body)
            os.replace(temporary, self.directory / name)
        except OSError:
            temporary.unlink(missing_ok=True)

    def get(self, name: str) -> bytes | None:
        """What `put` kept; None also when it does not open."""
        body = self.read(name)
        if body is None:
            return None
        try:
            return AESGCM(self.key).decrypt(body[:_NONCE_BYTES], memoryview(body)[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            return None

    def put(self, name: str, plain: bytes) -> None:
        """Keep `plain` sealed."""
        nonce = os.urandom(_NONCE_BYTES)
        self.write(name, nonce + AESGCM(self.key).encrypt(nonce, plain, name.encode()))

    def forget(self, keep: set[str]) -> None:
        """Delete what is not among `keep`."""
        try:
            for path in self.directory.iterdir():
                if path.name not in keep:
                    path.unlink(missing_ok=True)
        except OSError:
            return
