"""Returning: restores for tests, with threads as hands, and stores that can be spoilt."""

from pathlib import Path

from dumont.errors import StoreError
from dumont.repository.hands import ThreadHand
from dumont.repository.record import CommitRecord
from dumont.repository.repository import Repository
from dumont.repository.restoring.restore import Restored, Wanted, restore, start_restoring
from dumont.store.base import Data
from dumont.store.memory import MemoryStore


async def bring_back(
    repository: Repository, record: CommitRecord, target: Path, wanted: Wanted | None = None
) -> Restored:
    """Restore with two threads."""
    hands = [ThreadHand(start_restoring, repository.store) for _ in range(2)]
    return await restore(repository, record, target, hands, wanted)


class Spoilt(MemoryStore):
    """A store whose objects somebody may exchange, and that fails after `reads_left` ranged reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads_left: int | None = None
        self.puts = 0

    async def put(self, key: str, data: Data) -> None:
        self.puts += 1
        await super().put(key, data)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        if self.reads_left is not None:
            if not self.reads_left:
                raise StoreError("the network is gone")
            self.reads_left -= 1
        return await super().get_range(key, start, length)

    def flip(self, key: str, at: int) -> None:
        """Change a bit."""
        body = bytearray(self._objects[key])
        body[at] ^= 1
        self._objects[key] = bytes(body)

    def lose(self, key: str) -> None:
        """As if somebody had deleted it."""
        del self._objects[key]


def left_over(parent: Path) -> list[str]:
    """Names of what restores built aside and did not remove."""
    return [path.name for path in parent.iterdir() if ".restoring-" in path.name]
