"""The vault: every workspace's part of the store is a repository, which the server's own key opens."""

import asyncio
from collections import OrderedDict

from dumont.errors import AlreadyStored, NotStored
from dumont.repository.keys import Keys, Slot, wrap_with_key
from dumont.repository.repository import (
    Entropy,
    Repository,
    create_repository,
    mark,
    marker_key,
    open_repository,
    read_config,
    unlock,
)
from dumont.store.base import Store
from dumont.store.prefix import PrefixStore, workspace_prefix

LEARNED_MAX = 4
"""Catalogues that are held at once: one takes some hundred bytes for each chunk of its workspace's history."""


class Vault:
    """`key` (32 bytes) is the server's. It never leaves the server: instances get the keys of their own workspace."""

    def __init__(self, store: Store, key: bytes, entropy: Entropy) -> None:
        self._store = store
        self._key = key
        self._entropy = entropy
        self._keys: dict[str, Keys] = {}
        self._learned: OrderedDict[str, Repository] = OrderedDict()
        self._turns: dict[str, asyncio.Lock] = {}

    async def open(self, workspace: str) -> Repository:
        """The workspace's repository, made at first use, its catalogue empty. Harmless when others do the same.

        One that was deleted meanwhile is made anew: its keys open nothing any more. Raises StoreError, and WrongKey
        when it was made under another key than the server's.
        """
        part = PrefixStore(self._store, workspace_prefix(workspace))
        keys = self._keys.get(workspace)
        if keys is None or not await part.exists(marker_key(keys.repository)):
            keys = self._keys[workspace] = await self._unlocked(part)
        return Repository(part, keys, self._entropy)

    async def learned(self, workspace: str) -> Repository:
        """As `open`, its catalogue that of what is indexed now. For reading; who comes next may see it learn more."""
        async with self._turns.setdefault(workspace, asyncio.Lock()):
            fresh = await self.open(workspace)
            listing = await fresh.look()
            repo = self._learned.pop(workspace, fresh)
            if repo.keys != fresh.keys or repo.learned - listing.indexes:
                repo = fresh  # after a prune: whoever reads by the old catalogue keeps it
            await repo.learn(listing)
            repo.catalogue.doomed = await repo.doomed_packs(listing)
            self._learned[workspace] = repo
            while len(self._learned) > LEARNED_MAX:
                self._learned.popitem(last=False)
            return repo

    async def _unlocked(self, part: Store) -> Keys:
        try:
            config = await read_config(part)
        except NotStored:
            try:
                return (await create_repository(part, self._wrap, self._entropy)).keys
            except AlreadyStored:  # another server process was quicker
                config = await read_config(part)
        await mark(part, config)
        return open_repository(part, config, unlock([config.slot], self._key), self._entropy).keys

    def _wrap(self, secret: bytes, salt: bytes) -> Slot:
        return wrap_with_key(secret, self._key, salt)
