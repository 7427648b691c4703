"""A world of savers, prunes and forgetting over one store, in an order that a seed decides; for more seeds:

python -m tests.unit.prune_world 5000 [first seed]
"""

import asyncio
import contextvars
import random
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from dumont.errors import AlreadyStored, BadInput, Corrupt, DumontError, NotStored, WrongKey
from dumont.model.commit import Commit, CommitId, Entry, Kind
from dumont.repository.codec import RAW
from dumont.repository.fetch import data_fetcher
from dumont.repository.keys import Keys, keys_of, writer_keys
from dumont.repository.naming import Needs, name_commit
from dumont.repository.pack import Chunks, PackBuilder
from dumont.repository.record import (
    DATA,
    TREE,
    VERSION,
    CommitRecord,
    IndexObject,
    Pending,
    Record,
    commit_key,
    index_key,
    pack_key,
    unpack,
)
from dumont.repository.repository import Listing, Repository
from dumont.repository.seal import open_object
from dumont.repository.upkeep.forget import forget
from dumont.repository.upkeep.prune import Prune, Terms
from dumont.repository.upkeep.reach import Directories, needed_chunks
from dumont.snapshot.chunk import chunk_id
from dumont.snapshot.tree import EMPTY_DIRECTORY, TOP, Tree, digest_listing, encode_listing
from dumont.store.base import Data

PAGE = 3
_STEPS_MAX = 20_000
_actor: contextvars.ContextVar[str] = contextvars.ContextVar("actor", default="")


class Gate:
    """Lets one step of one actor happen at a time. Dead and paused actors wait."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, asyncio.Future[None]]] = []
        self.is_open = False

    async def turn(self) -> None:
        if not self.is_open:
            step = asyncio.get_running_loop().create_future()
            self.waiting.append((_actor.get(), step))
            await step


class GatedStore:
    """A store in memory whose every operation waits for its turn, and whose listings are read a page at a time."""

    def __init__(self, gate: Gate) -> None:
        self.objects: dict[str, bytes] = {}
        self.gate = gate

    async def put(self, key: str, data: Data) -> None:
        body = bytes(data)
        await self.gate.turn()
        if key in self.objects:
            raise AlreadyStored(key)
        self.objects[key] = body

    async def get(self, key: str) -> bytes:
        await self.gate.turn()
        if key not in self.objects:
            raise NotStored(key)
        return self.objects[key]

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return (await self.get(key))[start : start + length]

    async def size(self, key: str) -> int:
        return len(await self.get(key))

    async def exists(self, key: str) -> bool:
        await self.gate.turn()
        return key in self.objects

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        last = ""
        while True:
            await self.gate.turn()
            page = sorted(key for key in self.objects if key.startswith(prefix) and key > last)[:PAGE]
            for key in page:
                yield key
            if len(page) < PAGE:
                return
            last = page[-1]

    async def delete(self, key: str) -> None:
        await self.gate.turn()
        self.objects.pop(key, None)


@dataclass
class Quick(Repository):
    """Opens each record once for the whole world, which is most of what a world costs."""

    opened: dict[tuple[str, bytes], tuple[bytes, str]] = field(default_factory=dict)

    async def get_record(self, key: str, type: type[Record]) -> Record:
        return unpack((await self._open(key))[0], type, key)

    async def read_index(self, name: str) -> tuple[IndexObject, str]:
        plain, writer = await self._open(index_key(name))
        return unpack(plain, IndexObject, name), writer

    async def _open(self, key: str) -> tuple[bytes, str]:
        body = await self.store.get(key)
        if not self.keys.can_read:
            raise WrongKey(key)
        if (key, body) not in self.opened:
            self.opened[key, body] = open_object(self.keys, key, body)
        return self.opened[key, body]


@dataclass(frozen=True)
class Faulty:
    """Protections that are switched off, for negative controls."""

    look_again: bool = True
    pending: bool = True
    confirm: bool = True
    pend_anew: bool = True
    prune: type[Prune] = Prune


@dataclass
class World:
    """One seed's world. `acked`: commits that savers were told are stored; `forgotten`: those somebody forgot."""

    seed: int
    faulty: Faulty = field(default_factory=Faulty)
    acked: dict[CommitId, bytes] = field(default_factory=dict)
    forgotten: set[CommitId] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    paused: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    refused: int = 0
    pruned: int = 0
    opened: dict[tuple[str, bytes], tuple[bytes, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.gate = Gate()
        self.store = GatedStore(self.gate)
        self.keys = keys_of(self.rng.randbytes(32), self.rng.randbytes(16))
        self.now_s = 10**6
        self.grace_s = self.rng.choice([0, 0, 30])
        self.pool = [self.rng.randbytes(self.rng.choice([20, 300, 900])) for _ in range(7)]
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def repo(self, keys: Keys | None = None) -> Repository:
        own = random.Random(self.rng.random())
        return Quick(self.store, keys or self.keys, own.randbytes, opened=self.opened)

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        context = contextvars.copy_context()
        context.run(_actor.set, name)
        self.tasks[name] = asyncio.get_running_loop().create_task(work, context=context)

    async def run(self) -> None:
        """Everything until all that live have ended, then what must hold."""
        rng = self.rng
        for number in range(rng.randint(2, 3)):
            name = f"saver{number}"
            self.start(name, self.save_often(rng.choice(["", "", "", "w"]), random.Random(rng.random())))
        self.start("forgetter", self.forget_often(random.Random(rng.random())))
        self.start("pruner0", self.prune_often(random.Random(rng.random()), "pruner0"))
        if rng.random() < 0.3:
            self.start("pruner1", self.prune_often(random.Random(rng.random()), "pruner1"))
        self._kill_at = {rng.randint(1, 400) for _ in range(rng.choice([0, 1, 3, 5]))}
        await self._drive()
        self.gate.is_open = True
        for name, task in self.tasks.items():
            if not task.done():
                assert name in self.dead
                task.cancel()
        objects = dict(self.store.objects)
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        self.store.objects = objects  # the dead write nothing more
        for task in self.tasks.values():
            if not task.cancelled() and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]
        await self.check()

    async def _drive(self) -> None:
        while not all(task.done() or name in self.dead for name, task in self.tasks.items()):
            await self._settle()
            self.steps += 1
            assert self.steps < _STEPS_MAX, "the world does not end"
            if self.steps in self._kill_at and (living := self._living()):
                self.dead.add(self.rng.choice(living))
            ready = [at for at, (name, _) in enumerate(self.gate.waiting) if name not in self.dead]
            awake = [at for at in ready if self.paused.get(self.gate.waiting[at][0], 0) <= self.steps]
            if not ready:
                continue
            name, step = self.gate.waiting.pop(self.rng.choice(awake or ready))
            if self.rng.random() < 0.03:
                self.paused[name] = self.steps + self.rng.choice([10, 100, 400])
            if self.rng.random() < 0.05:
                self.now_s += self.rng.randint(1, 20)
            step.set_result(None)

    def _living(self) -> list[str]:
        return [name for name, task in self.tasks.items() if not task.done() and name not in self.dead]

    async def _settle(self) -> None:
        """Let those who were let move."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def save_often(self, writer: str, rng: random.Random) -> None:
        keys = writer_keys(self.keys, writer) if writer else self.keys
        for _ in range(rng.randint(1, 3)):
            await Saver(self, self.repo(keys), rng).save()

    async def forget_often(self, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 8)):
            repo = self.repo()
            commits = await repo.commits(await repo.look())
            if commits:
                id = rng.choice(commits).commit.id
                self.forgotten.add(id)
                try:
                    await forget(repo, [id], even_last=True)
                except NotStored:
                    continue

    async def prune_often(self, rng: random.Random, name: str) -> None:
        for number in range(rng.randint(2, 4)):
            own = f"{name}.{number}"
            self.start(own, self.prune_once(rng))
            while not self.tasks[own].done() and own not in self.dead:
                await self.gate.turn()

    async def prune_once(self, rng: random.Random) -> None:
        others = [name for name in self._living() if "." in name and name != _actor.get()]
        below = rng.choice([0.0, 0.5, 1.0])
        terms = Terms(self.now_s, self.grace_s, below, pack_bytes=3000, break_lock=not others)
        try:
            await self.faulty.prune(self.repo(), terms).run()
            self.pruned += 1
        except BadInput:
            self.refused += 1

    async def check(self) -> None:
        """Every commit can be read whole; then nothing that nobody needs outlasts two prunes, and it still can be."""
        await self._check_commits()
        self.now_s += 10**9
        for _ in range(3):
            await self.faulty.prune(
                self.repo(), Terms(self.now_s, self.grace_s, 0.5, pack_bytes=3000, break_lock=True)
            ).run()
            self.now_s += 10**9
        needed = await self._check_commits()
        await self._check_nothing_is_left(needed)

    async def _check_commits(self) -> set[bytes]:
        repo = self.repo()
        listing = await repo.look()
        await repo.learn(listing)
        found = {record.commit.id: record.commit.root for record in await repo.commits(listing)}
        for id, root in self.acked.items():
            assert id in self.forgotten or found.get(id) == root, f"seed {self.seed}: {id} was said to be stored"
        needed: set[bytes] = set()
        directories, fetcher = Directories(repo), data_fetcher(repo)
        for root in found.values():
            unread = [root]
            while unread:
                needed.add(unread[-1])
                for _, entry, below in await directories.get(unread.pop()):
                    chunks = set(needed_chunks(entry))
                    needed |= chunks
                    await fetcher.chunks(chunks)
                    if entry is None or entry.kind is Kind.DIRECTORY:
                        unread.append(below)
        return needed - {EMPTY_DIRECTORY}

    async def _check_nothing_is_left(self, needed: set[bytes]) -> None:
        repo = self.repo()
        listing = await repo.look()
        await repo.learn(listing)
        held: set[str] = set()
        for name in listing.pending:
            pending = await repo.get_record(f"state/pending/{name}", Pending)
            assert commit_key(pending.commit) in listing.commits, "a pending record outlasts what it is for"
            held.update(pending.packs)
        assert not listing.doomed
        assert "state/prune-lock" not in listing.others
        stored = {key.rpartition("/")[2] for key in self.store.objects if key.startswith("packs/")}
        assert stored == set(repo.catalogue.packs), "the index names what is stored"
        for name in stored - held:
            ids = {
                frame.ids[at : at + 32]
                for frame in repo.catalogue.packs[name].frames
                for at in range(0, len(frame.ids), 32)
            }
            assert ids & needed, f"seed {self.seed}: pack {name} is needed by nothing"


class Saver:
    """A small saver: real packs, index objects and naming; trees of a few files."""

    def __init__(self, world: World, repo: Repository, rng: random.Random) -> None:
        self.world, self.repo, self.rng = world, repo, rng
        self.confirmed: tuple[frozenset[str], frozenset[str]] = frozenset(), frozenset()

    async def save(self) -> None:
        for _ in range(self.rng.randint(1, 2)):
            bodies, root = self._tree()
            for _ in range(8):
                if await self._attempt(bodies, root):
                    break

    def _tree(self) -> tuple[dict[bytes, tuple[int, bytes]], bytes]:
        """Bodies of chunks by id, with their kind; and the root of a tree that needs all of them."""
        bodies: dict[bytes, tuple[int, bytes]] = {}
        tree = Tree({TOP: Entry(Kind.DIRECTORY, 0o755, 0, 0, 0), b"d": Entry(Kind.DIRECTORY, 0o755, 0, 0, 0)})
        for number in range(self.rng.randint(1, 4)):
            body = self.rng.choice(self.world.pool)
            id = chunk_id(body, self.world.keys.chunk_key)
            bodies[id] = DATA, body
            path = (b"d/%d" if number % 2 else b"%d") % number
            tree.put(path, Entry(Kind.FILE, 0o644, 0, 0, self.rng.randint(0, 2), len(body), (id,)))
        for path in (b"d", TOP):
            body = tree.directory_object(path)
            if digest_listing(body) != EMPTY_DIRECTORY:
                bodies[digest_listing(body)] = TREE, body
        top = encode_listing([(TOP, tree.get(TOP), digest_listing(tree.directory_object(TOP)))])
        bodies[digest_listing(top)] = TREE, top
        return bodies, digest_listing(top)

    async def _attempt(self, bodies: dict[bytes, tuple[int, bytes]], root: bytes) -> bool:
        repo = self.repo
        try:
            listing = await repo.look()
            await repo.learn(listing)
            doomed = await repo.doomed_packs(listing) if repo.keys.can_read else set()
            if self.rng.random() < 0.5 and repo.keys.can_read:
                await repo.add_to_index(await repo.orphans())
        except NotStored:
            return False
        packs, missing = set(), []
        for id in bodies:
            pack = repo.catalogue.relies_on(id)
            if pack is None or pack.name in doomed:
                missing.append(id)
            else:
                packs.add(pack.name)
        indexes = repo.learned
        stored = await self._store(missing, bodies)
        packs |= {pack.name for pack in stored}
        names = await repo.add_to_index(stored) if stored else []
        indexes = repo.learned if repo.keys.can_read else indexes | frozenset(names)
        return await self._name(listing, root, frozenset(packs), indexes)

    async def _store(self, missing: list[bytes], bodies: dict[bytes, tuple[int, bytes]]) -> list[Any]:
        builder = PackBuilder(self.repo.keys, self.repo.new_name, lambda: self.world.now_s, 2000)
        stored = []
        for number, id in enumerate(missing):
            kind, body = bodies[id]
            chunks = Chunks()
            chunks.add(id, len(body))
            builder.add(RAW, kind, body, chunks)
            if number == len(missing) - 1 or self.rng.random() < 0.3:
                pack, packed = builder.close()
                await self.repo.store.put(pack_key(pack.name), bytes(packed))
                packed.release()
                stored.append(pack)
        return stored

    async def _name(self, listing: Listing, root: bytes, packs: frozenset[str], indexes: frozenset[str]) -> bool:
        faulty = self.world.faulty
        before_indexes, before_packs = self.confirmed
        confirmed = packs if not faulty.confirm else before_packs if before_indexes <= indexes else frozenset()
        id = CommitId(0, listing.last_seq() + 1)
        record = CommitRecord(VERSION, Commit(id, None, root, self.world.now_s * 10**9, consistent=True))
        needs = Needs(packs, indexes, confirmed)
        if faulty.look_again and faulty.pending and faulty.pend_anew:
            named = await name_commit(self.repo, record, needs, "", renumber=True)
        else:
            named = await self._name_badly(record, needs)
        if named is None:
            return False
        self.world.acked[named.commit.id] = root
        self.confirmed = indexes, packs
        return True

    async def _name_badly(self, record: CommitRecord, needs: Needs) -> CommitRecord | None:
        """As savers must not."""
        faulty, repo, id = self.world.faulty, self.repo, record.commit.id
        if faulty.pending:
            pending = Pending(VERSION, id, sorted(needs.packs), created_s=self.world.now_s)
            await repo.put_record(f"state/pending/{id.epoch}-{id.seq}-{repo.new_name()}", pending)
        if faulty.look_again:
            listing = await repo.look()
            if listing.doomed and not repo.keys.can_read:
                return None
            if needs.indexes - listing.indexes or needs.packs & await repo.doomed_packs(listing):
                return None
        while True:
            try:
                await repo.put_record(commit_key(record.commit.id), record)
                return record
            except AlreadyStored:
                id = record.commit.id
                commit = Commit(CommitId(0, id.seq + 1), None, record.commit.root, record.commit.at_ns, consistent=True)
                record = CommitRecord(VERSION, commit)


def run_world(seed: int, faulty: Faulty | None = None) -> World:
    """Run one. Raises AssertionError or Corrupt when something was lost."""
    world = World(seed, faulty or Faulty())
    asyncio.run(world.run())
    return world


def first_loss(faulty: Faulty, seeds: Iterable[int]) -> int | None:
    """The first of `seeds` in which something is lost."""
    for seed in seeds:
        try:
            run_world(seed, faulty)
        except (AssertionError, Corrupt):
            return seed
    return None


def main() -> None:
    """Run as many seeds as were asked for; name those that fail."""
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    failed, steps, prunes, commits = [], 0, 0, 0
    for seed in range(first, first + count):
        try:
            world = run_world(seed)
        except (AssertionError, DumontError) as error:
            failed.append(seed)
            print(f"seed {seed}: {type(error).__name__}: {error}")
            continue
        steps, prunes, commits = steps + world.steps, prunes + world.pruned, commits + len(world.acked)
    print(f"{count} worlds, {steps} steps, {prunes} prunes, {commits} commits; failed: {failed or 'none'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
