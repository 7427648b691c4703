"""The vault: every workspace's part of the store is a repository, which the server's own key opens."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from dumont.db.base import Database
from dumont.errors import AlreadyStored, NoSuchWorkspace, NotStored
from dumont.model.workspace import State
from dumont.repository.keys import Keys, Slot, wrap_with_key
from dumont.repository.record import CONFIG, SECOND_CONFIG
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

Place: TypeAlias = Callable[[str], Awaitable[str]]
"""What the store calls the history of the workspace that has this name now (`model.workspace.folder_of`)."""
LEARNED_MAX = 4
"""Catalogues that are held at once: one takes some hundred bytes for each chunk of its workspace's history."""


def placed_by(database: Database) -> Place:
    """As the database says: a new workspace does not go on where a removed one of its name left off.

    Raises NoSuchWorkspace for a deleted one, too: its history may be ending, and must not be begun anew.
    """

    async def place(workspace: str) -> str:
        row = await database.workspace(workspace)
        if row.state is State.DELETED:
            raise NoSuchWorkspace(f"the workspace {workspace} is deleted; `dumont history` lists what such ones left")
        return row.folder

    return place


async def by_name(workspace: str) -> str:
    """Where each name is used once."""
    return workspace


class Vault:
    """`key` (32 bytes) is the server's. It never leaves the server: instances get the keys of their own workspace."""

    def __init__(self, store: Store, key: bytes, entropy: Entropy, place: Place = by_name) -> None:
        self._store = store
        self._place = place
        self._key = key
        self._entropy = entropy
        self._keys: dict[str, Keys] = {}
        self._learned: OrderedDict[str, Repository] = OrderedDict()
        self._turns: dict[str, asyncio.Lock] = {}

    @property
    def store(self) -> Store:
        """All of it, of every workspace."""
        return self._store

    async def open(self, workspace: str) -> Repository:
        """The workspace's repository, made at first use, its catalogue empty. Harmless when others do the same.

        One that was deleted meanwhile is made anew: its keys open nothing any more. Raises StoreError, and WrongKey
        when it was made under another key than the server's.
        """
        folder = await self._place(workspace)
        part = PrefixStore(self._store, workspace_prefix(folder))
        keys = self._keys.get(folder)
        if keys is None or not await part.exists(marker_key(keys.repository)):
            keys = self._keys[folder] = await self._unlocked(part)
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

    async def is_used(self, folder: str) -> bool:
        """Whether there is a repository already under that name. Raises StoreError."""
        part = PrefixStore(self._store, workspace_prefix(folder))
        return await part.exists(CONFIG) or await part.exists(SECOND_CONFIG)

    def drop(self, folder: str) -> None:
        """Forget the keys of a history that was deleted."""
        self._keys.pop(folder, None)

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
