"""Opening the store that an address names. Buckets' driver comes from the composition root: it is slow to import."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from dumont.errors import BadInput, StoreError
from dumont.store.address import Address, Scheme
from dumont.store.base import Store
from dumont.store.directory import DirectoryStore

OpenCloud: TypeAlias = Callable[[Address], Store]
"""Opens a bucket; `dumont.store.cloud.open_cloud` with an environment. Called only for an address of a bucket."""


def open_store(address: Address, create: bool, open_cloud: OpenCloud) -> Store:
    """The store at `address`. With `create`, a missing directory is made; a bucket never is.

    Raises BadInput when there is no such directory or the environment lacks what the bucket needs, and StoreError.
    """
    return open_directory(address, create) if address.scheme is Scheme.FILE else open_cloud(address)


def open_directory(address: Address, create: bool) -> DirectoryStore:
    """The store in a directory of this machine, made for its owner alone if `create`. Raises BadInput, StoreError."""
    assert address.scheme is Scheme.FILE, address
    top = Path(os.path.abspath(address.path))
    try:
        if create:
            _make(top)
        if not top.is_dir():
            what = "is no directory" if top.exists() else "does not exist"
            raise BadInput(f"{top} {what}: check the address, or make the store first")
    except OSError as error:
        raise StoreError(f"the store can't use {top}: {error.strerror}") from error
    return DirectoryStore(top)


def _make(top: Path) -> None:
    """Make `top` and what lacks above it, durably: a store whose own name a power cut takes away keeps no promise."""
    missing = [folder for folder in (top, *top.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
