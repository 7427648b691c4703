"""A part of a store: everything under one prefix, seen as a store of its own."""

from collections.abc import AsyncIterator

from dumont.errors import BadInput
from dumont.store.base import Data, Store

_KEY_CHARACTERS_MAX = 512


class PrefixStore:
    """Puts `prefix` before every key. Raises BadInput for a key that could mean something outside of it."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def put(self, key: str, data: Data) -> None:
        await self._store.put(self._prefix + checked_key(key), data)

    async def get(self, key: str) -> bytes:
        return await self._store.get(self._prefix + checked_key(key))

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return await self._store.get_range(self._prefix + checked_key(key), start, length)

    async def size(self, key: str) -> int:
        return await self._store.size(self._prefix + checked_key(key))

    async def exists(self, key: str) -> bool:
        return await self._store.exists(self._prefix + checked_key(key))

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        if prefix:
            checked_key(prefix.rstrip("/"))
        async for key in self._store.keys(self._prefix + prefix):
            yield key.removeprefix(self._prefix)

    async def delete(self, key: str) -> None:
        await self._store.delete(self._prefix + checked_key(key))


def checked_key(key: str) -> str:
    """`key` if it is relative, printable ASCII and without `.` or `..`. Raises BadInput."""
    plain = key.isascii() and key.isprintable() and "\\" not in key and len(key) <= _KEY_CHARACTERS_MAX
    if not plain or any(part in ("", ".", "..") for part in key.split("/")):
        raise BadInput(f"{key[:80]!r} is not the key of an object")
    return key


def checked_range(start: int, length: int) -> None:
    """Raises BadInput unless both are at least 0. In bytes."""
    if start < 0 or length < 0:
        raise BadInput(f"{length} bytes from {start} are no range of an object")


def workspace_prefix(folder: str) -> str:
    """Where a workspace's objects lie in the store. `folder` is what `model.workspace.folder_of` calls it."""
    return f"workspaces/{folder}/"
