"""A host: a machine with a tree, a disk that outlives its programs, a clock that may be wrong, and maybe few rights."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from dumont.errors import AlreadyStored, StoreError
from dumont.repository.cache import Cache
from dumont.repository.hands import Blocking
from dumont.repository.keys import Keys
from dumont.repository.probe import Choice
from dumont.repository.progress import Progress
from dumont.repository.record import commit_key
from dumont.repository.repository import Repository
from dumont.repository.saving.intake import Intake, Job, Outside
from dumont.repository.saving.save import Draft, save
from dumont.store.base import Store
from tests.simulation.saving.gate import Line
from tests.simulation.saving.hand import InlineHand
from tests.simulation.saving.trees import SLOTS, VERSIONS, Trees
from tests.simulation.saving.witness import Witness

_LONG_AFTER_NS = 4 * 10**18
"""What the clock of the trees' file system shows: no file has changed a moment ago."""


@dataclass(frozen=True)
class Disk(Cache):
    """The driver of the cache that keeps all in memory. It stays when a program that uses it is killed."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def read(self, name: str) -> bytes | None:
        return self.kept.get(name)

    def write(self, name: str, body: bytes) -> None:
        self.kept[name] = body

    def forget(self, keep: set[str]) -> None:
        for name in set(self.kept) - keep:
            del self.kept[name]


class Settled(Choice):
    """Encodes as on the first day, whatever took how long."""

    def note_frame(self, kind: str, recipe: int, seconds: float, plain: int, encoded: int) -> None:
        return

    def note_link(self, seconds: float, sealed: int) -> None:
        return


@dataclass
class Host:
    """`left`: how many saves it still makes. `now_s`: its own clock. `keeps_repo`: its program stays for all saves."""

    number: int
    keys: Keys
    disk: Cache
    now_s: Callable[[], int]
    trees: Trees
    witness: Witness
    rng: random.Random
    left: int
    hands: int = 1
    keeps_repo: bool = False
    versions: tuple[int | None, ...] = (0, 0, 0)
    made: int = 0

    async def live(self, store: Line) -> None:
        """One program: it goes on where the one before was killed."""
        repo = self._open(store)
        while self.left:
            await store.rest(self.rng.choice([0, 0, 30, 100, 200]))
            self._change()
            for _ in range(4):
                if not self.keeps_repo:
                    repo = self._open(store)
                try:
                    await self.save(repo, store)
                except (StoreError, AlreadyStored):
                    continue  # it did not work out: once more, as a timer would
                break
            self.left -= 1

    async def save(self, repo: Repository, store: Store) -> None:
        """Save once. The commit's name tells which save it is of."""
        content = self.trees.put(self.number, self.versions)
        self.made += 1
        name = f"host{self.number}-{self.made}"
        self.witness.trees[name] = content
        if self.rng.random() < 0.5:
            repo.seen = await repo.look()
        hands = [InlineHand(self._start, store) for _ in range(self.hands)]
        try:
            draft = Draft(
                self.now_s() * 10**9,
                name=name,
                host=f"host{self.number}",
                path=b"/work",
                files_ns=lambda: _LONG_AFTER_NS,
            )
            saved = await save(repo, self.trees.work(self.number), draft, hands, Progress())
        finally:
            repo.seen = None
            for hand in hands:
                await hand.close()
        self.witness.acknowledge(name, saved.record, commit_key(saved.record.commit.id))

    def _open(self, store: Store) -> Repository:
        return Repository(store, self.keys, random.Random(self.rng.random()).randbytes, self.disk)

    def _change(self) -> None:
        """Nothing, a directory, or several; back to what was before as likely as not."""
        versions = list(self.versions)
        for _ in range(self.rng.choice([0, 0, 1, 1, 2])):
            slot = self.rng.randrange(len(SLOTS))
            versions[slot] = self.rng.choice([None, *range(VERSIONS)])
        self.versions = tuple(versions)

    def _start(self, message: bytes, blocking: Blocking) -> Intake:
        entropy = random.Random(self.rng.random()).randbytes
        outside = Outside(entropy, lambda: self.now_s() * 10**9, lambda: _LONG_AFTER_NS, Settled)
        return Intake(msgspec.msgpack.decode(message, type=Job), blocking, outside)
