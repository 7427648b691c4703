"""A store in memory: for tests, and for a machine that is to forget."""

import asyncio
from collections.abc import AsyncIterator

from dumont.errors import AlreadyStored, NotStored
from dumont.store.base import Data
from dumont.store.prefix import checked_key, checked_range


class MemoryStore:
    """The driver of the port `Store` that keeps objects in this process; durable as long as it lives."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    async def put(self, key: str, data: Data) -> None:
        checked_key(key)
        await asyncio.sleep(0)  # other tasks may come first, as with a real store
        if key in self._objects:
            raise AlreadyStored(f"{key} is stored already")
        self._objects[key] = bytes(data)

    async def get(self, key: str) -> bytes:
        checked_key(key)
        await asyncio.sleep(0)
        if key not in self._objects:
            raise NotStored(f"there is no {key} in the store")
        return self._objects[key]

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        checked_range(start, length)
        return (await self.get(key))[start : start + length]

    async def size(self, key: str) -> int:
        return len(await self.get(key))

    async def exists(self, key: str) -> bool:
        return checked_key(key) in self._objects

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        for key in sorted(self._objects):
            if key.startswith(prefix):
                yield key

    async def delete(self, key: str) -> None:
        self._objects.pop(checked_key(key), None)
