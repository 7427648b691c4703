"""A store that counts what it is asked, so that a save can tell how many requests it made."""

from collections.abc import AsyncIterator

from dumont.store.base import Data, Store

_PAGE_KEYS = 1000


class CountedStore:
    """The port `Store` over another one. `requests` counts those of this process only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.requests = 0

    async def put(self, key: str, data: Data) -> None:
        self.requests += 1
        await self._store.put(key, data)

    async def get(self, key: str) -> bytes:
        self.requests += 1
        return await self._store.get(key)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        self.requests += 1
        return await self._store.get_range(key, start, length)

    async def size(self, key: str) -> int:
        self.requests += 1
        return await self._store.size(key)

    async def exists(self, key: str) -> bool:
        self.requests += 1
        return await self._store.exists(key)

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        """As the store's; buckets answer with a page of 1,000 keys for each request."""
        found = 0
        async for key in self._store.keys(prefix):
            if found % _PAGE_KEYS == 0:
                self.requests += 1
            found += 1
            yield key
        if not found:
            self.requests += 1

    async def delete(self, key: str) -> None:
        self.requests += 1
        await self._store.delete(key)
