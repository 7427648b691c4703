"""A grant: the workspace's repository as the server lets an instance use it, with keys that stay in memory."""

import asyncio
import os

import msgspec

from dumont.errors import StoreError
from dumont.repository.apart import LentStore
from dumont.repository.keys import Keys
from dumont.repository.repository import Repository
from dumont.store.remote import RemoteStore


class Grant:
    """`chunk_key` is the one under which this instance names chunks."""

    def __init__(self, store: RemoteStore, chunk_key: bytes) -> None:
        self._store = store
        self._chunk_key = chunk_key
        self._repository: Repository | None = None

    async def repository(self) -> Repository:
        """For work in any thread. The same one, with all it has learned, as long as the server gives the same keys.

        Raises StoreError.
        """
        try:
            keys = msgspec.msgpack.decode(await self._store.granted(), type=Keys)
        except msgspec.DecodeError as error:
            raise StoreError(f"the server granted keys that can't be read: {error}; upgrade the older side") from error
        if keys.chunk_key != self._chunk_key:
            raise StoreError("the store is not the one that this instance's chunks are named for; rent a new instance")
        if self._repository is None or self._repository.keys != keys:
            store = LentStore(self._store, asyncio.get_running_loop())
            self._repository = Repository(store, keys, os.urandom)
        return self._repository
