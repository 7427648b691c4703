"""A depot: a real repository in a directory, with a cache, that tests save into and restore from."""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dumont.repository.cache import Cache
from dumont.repository.hands import Hand, ThreadHand
from dumont.repository.keys import Keys, wrap_with_key
from dumont.repository.progress import Progress
from dumont.repository.record import CommitRecord
from dumont.repository.repository import Repository, create_repository
from dumont.repository.restoring.restore import Restored, Wanted, restore, start_restoring
from dumont.repository.saving.save import Draft, Saved, save, start_saving
from dumont.store.base import Store
from dumont.store.directory import DirectoryStore
from tests.integration.archivist import scanned

KEY = bytes(32)


@dataclass
class Depot:
    """`wrap` puts a driver of the test's own between the engine and the store."""

    top: Path
    keys: Keys
    wrap: Callable[[Store], Store] = field(default=lambda store: store)
    hands: int = 2

    @classmethod
    async def make(cls, top: Path) -> "Depot":
        (top / "store").mkdir(parents=True)
        store = DirectoryStore(top / "store")
        repo = await create_repository(store, lambda secret, salt: wrap_with_key(secret, KEY, salt), os.urandom)
        return cls(top, repo.keys)

    def open(self, machine: str = "one", keys: Keys | None = None) -> Repository:
        """The repository as the machine of that name sees it: it has a cache of its own."""
        keys = keys or self.keys
        store = self.wrap(DirectoryStore(self.top / "store"))
        return Repository(store, keys, os.urandom, Cache(self.top / f"cache-{machine}", keys.cache_key))

    async def save(self, source: Path, repo: Repository | None = None, draft: Draft | None = None) -> Saved:
        """Save a directory as it is now."""
        repo = repo or self.open()
        async with started(lambda: ThreadHand(start_saving, repo.store), self.hands) as hands:
            return await save(repo, source, draft or Draft(time.time_ns(), path=bytes(source)), hands, Progress())

    async def restore(self, record: CommitRecord, target: Path, wanted: Wanted | None = None) -> Restored:
        """Restore a commit with a machine that knows nothing yet."""
        repo = self.open("fresh")
        async with started(lambda: ThreadHand(start_restoring, repo.store), self.hands) as hands:
            return await restore(repo, record, target, hands, wanted)


@asynccontextmanager
async def started(make: Callable[[], Hand], count: int) -> AsyncIterator[list[Hand]]:
    """`count` hands, ended with the block."""
    hands = [make() for _ in range(count)]
    try:
        yield hands
    finally:
        for hand in hands:
            await hand.close()


def settle() -> None:
    """Let what was just written grow so old that a later change could not hide behind the same clock reading."""
    time.sleep(0.06)


def same_tree(one: Path, other: Path) -> bool:
    """Whether two directories hold the same names, bytes, modes, owners, times, links, holes and attributes."""
    return scanned(one, KEY).root() == scanned(other, KEY).root()
