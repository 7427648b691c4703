"""A world: hosts that save, prunes, forgetting, checks and restores over one store, in an order that a seed decides.

Every request to the store is a step; between two steps anybody may pause, be killed or lose an answer. A witness looks
at each change of the store. At the end the faults stop, and everything must be whole, and clean.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dumont.errors import BadInput, Corrupt, StoreError
from dumont.repository.cache import Cache
from dumont.repository.keys import Keys, wrap_with_key, writer_keys
from dumont.repository.record import STATE, CommitRecord, Pending, commit_key
from dumont.repository.repository import Listing, Repository, create_repository
from dumont.repository.restoring.restore import restore, start_restoring
from dumont.repository.upkeep.forget import forget
from dumont.repository.upkeep.prune import Prune, Terms
from dumont.repository.upkeep.recovery import repair_index
from dumont.repository.upkeep.verify import Terms as CheckTerms
from dumont.repository.upkeep.verify import verify
from dumont.store.memory import MemoryStore
from tests.simulation.loop import VirtualLoop
from tests.simulation.saving.gate import Gate, Line
from tests.simulation.saving.hand import InlineExecutor, InlineHand
from tests.simulation.saving.host import Disk, Host
from tests.simulation.saving.trees import HOSTS, Trees, read_tree
from tests.simulation.saving.witness import Witness

_STEPS_MAX = 30_000
_BEGAN_S = 10**9
_PACK_BYTES = 20_000
"""What a prune makes: several copies fill one."""


@dataclass(frozen=True)
class Drivers:
    """What may be swapped, for negative controls: the lines of hosts and of upkeep, hosts' disks, and the prune.

    `writers`: how many of the hosts can only add.
    """

    line: type[Line] = Line
    upkeep_line: type[Line] = Line
    disk: Callable[[Keys], Cache] = lambda keys: Disk(Path("/nowhere"), keys.cache_key)
    prune: type[Prune] = Prune
    writers: float = 0.4


REAL = Drivers()


class _Turns(VirtualLoop):
    """Whenever all tasks wait, `go_on` lets one of them move."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on: Callable[[], bool] = lambda: False
        self.set_default_executor(InlineExecutor(1))

    def advance(self, timeout: float | None) -> None:
        if timeout != 0 and self.go_on():
            return
        super().advance(timeout)


@dataclass
class World:
    """One seed's world."""

    seed: int
    trees: Trees
    drivers: Drivers = REAL
    done: dict[str, int] = field(default_factory=dict)
    tasks: "dict[str, asyncio.Task[None]]" = field(default_factory=dict)
    kills_at: set[int] = field(default_factory=set)
    begun: int = 0

    def __post_init__(self) -> None:
        rng = self.rng = random.Random(self.seed)
        self.gate = Gate(random.Random(rng.random()), rng.choice([0, 0, 0.01, 0.03]), rng.choice([0, 0.7, 0.95]))
        self.memory = MemoryStore()
        self.now_s = _BEGAN_S
        self.grace_s = rng.choice([0, 0, 30, 300])
        self.hosts: list[Host] = []

    async def run(self) -> None:
        """Everything until all have ended, then what must hold."""
        entropy = random.Random(self.rng.random()).randbytes
        made = await create_repository(self.memory, lambda s, salt: wrap_with_key(s, bytes(32), salt), entropy)
        self.keys = made.keys
        self.witness = Witness(made.keys)
        self._begin()
        while living := [task for task in self.tasks.values() if not task.done()]:
            await asyncio.wait(living, return_when=asyncio.FIRST_EXCEPTION)
            self._raise_what_failed()
        self.gate.trouble = 0.0
        while self.gate.ghosts:
            await asyncio.wait(list(self.gate.ghosts))
        self._raise_what_failed()
        await self._settle()

    def go_on(self) -> bool:
        """One step: somebody's request is carried out. Now and then somebody pauses or is killed, and time goes by."""
        actor = self.gate.let_one_go()
        if actor is None:
            return False
        rng = self.rng
        assert self.gate.steps < _STEPS_MAX, "the world does not end"
        if rng.random() < 0.02:
            self.gate.paused[actor] = self.gate.steps + rng.choice([10, 60, 400])
        if rng.random() < 0.05:
            self.now_s += rng.randint(1, 20) if rng.random() < 0.9 else 1000
        if self.gate.steps in self.kills_at:
            living = [name for name, task in self.tasks.items() if not task.done()]
            if living:
                self._kill(rng.choice(living))
        return True

    def _begin(self) -> None:
        rng = self.rng
        hosts = rng.choice([1, *range(2, HOSTS + 1)])
        for number in range(hosts):
            keys = writer_keys(self.keys, f"w{number}") if rng.random() < self.drivers.writers else self.keys
            skew_s = rng.choice([0, 0, 0, -500, 500])
            host = Host(
                number,
                keys,
                self.drivers.disk(keys),
                lambda skew_s=skew_s: self.now_s + skew_s,  # type: ignore[misc]
                self.trees,
                self.witness,
                random.Random(rng.random()),
                left=rng.randint(2, 6) if hosts > 1 else 9,
                hands=rng.choice([1, 1, 2]),
                keeps_repo=rng.random() < 0.3,
            )
            self.hosts.append(host)
            self._start_host(host)
        self._start("forgetter", lambda store: self._forget_often(store, random.Random(rng.random())))
        self._start("pruner", lambda store: self._prune_often(store, random.Random(rng.random())))
        if rng.random() < 0.5:
            self._start("checker", lambda store: self._check_often(store, random.Random(rng.random())))
        if rng.random() < 0.3:
            self._start("restorer", lambda store: self._restore_one(store, random.Random(rng.random())))
        self.kills_at = {rng.randint(1, 700) for _ in range(rng.choice([0, 1, 3, 6]))}

    def _start(self, kind: str, live: Callable[[Line], Coroutine[Any, Any, None]]) -> None:
        self.begun += 1
        name = f"{kind}.{self.begun}"
        driver = self.drivers.line if kind.startswith("host") else self.drivers.upkeep_line
        line = driver(self.memory, self.gate, self.witness, name)
        self.tasks[name] = asyncio.get_running_loop().create_task(live(line))

    def _start_host(self, host: Host) -> None:
        self._start(f"host{host.number}", host.live)

    def _kill(self, name: str) -> None:
        """At once, whatever it does; a host's next program begins with what is on its disk."""
        self.gate.kill(name)
        self.tasks[name].cancel()
        for host in self.hosts:
            if name.startswith(f"host{host.number}."):
                self._start_host(host)
        if name.startswith("pruner"):
            self._start("pruner", lambda store: self._prune_often(store, random.Random(self.rng.random())))

    def _raise_what_failed(self) -> None:
        for name, task in self.tasks.items():
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise AssertionError(f"{name} ended with {type(error).__name__}: {error}") from error

    def _is_anybody_saving(self) -> bool:
        return any(name.startswith("host") and not task.done() for name, task in self.tasks.items())

    def _repo(self, store: Line, rng: random.Random) -> Repository:
        return Repository(store, self.keys, random.Random(rng.random()).randbytes)

    def _count(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1

    async def _forget_often(self, store: Line, rng: random.Random) -> None:
        while self._is_anybody_saving():
            await store.rest(rng.choice([5, 20, 80]))
            repo = self._repo(store, rng)
            try:
                records = await repo.commits(await repo.look())
                if records:
                    chosen = records if rng.random() < 0.5 else [rng.choice(records)]
                    self.witness.forgotten.update(record.name for record in chosen)
                    await forget(repo, [record.commit.id for record in chosen], even_last=True)
                    self._count("forgotten")
            except StoreError:
                continue

    async def _prune_often(self, store: Line, rng: random.Random) -> None:
        while self._is_anybody_saving():
            await store.rest(rng.choice([0, 10, 40, 100]))
            below = rng.choice([0.0, 0.5, 1.0])
            now_s = self.now_s + rng.choice([0, 0, -400, 400])
            terms = Terms(now_s, self.grace_s, below, pack_bytes=_PACK_BYTES, break_lock=True)
            try:
                await self.drivers.prune(self._repo(store, rng), terms).run()
                self._count("pruned")
            except (BadInput, StoreError):
                continue

    async def _check_often(self, store: Line, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 2)):
            await store.rest(rng.choice([20, 100, 300]))
            try:
                if rng.random() < 0.3:
                    await repair_index(self._repo(store, rng))
                else:
                    await verify(self._repo(store, rng), CheckTerms(read_data=rng.random() < 0.7))
                self._count("checked")
            except (StoreError, Corrupt):
                continue  # a prune or the weather was in the way; what counts is what the store holds afterwards

    async def _restore_one(self, store: Line, rng: random.Random) -> None:
        for _ in range(4):
            await store.rest(rng.choice([50, 100, 200]))
            repo = self._repo(store, rng)
            try:
                records = await repo.commits(await repo.look())
                if records:
                    await self._restore(repo, store, rng.choice(records))
                    self._count("restored beside others")
                    return
            except (StoreError, Corrupt, BadInput):
                continue

    async def _restore(self, repo: Repository, store: Line, record: CommitRecord) -> None:
        """Restore for real, and look at every byte."""
        self.begun += 1
        with self.trees.target(f"restored{self.begun}") as target:
            await restore(repo, record, target, [InlineHand(start_restoring, store)])
            assert read_tree(target) == self.witness.trees[record.name], f"{record.name} was restored as another"

    async def _settle(self) -> None:
        """No more faults: everything can be restored, nothing is damaged, and two prunes leave no garbage."""
        rng = self.rng
        for _ in range(2):
            self.now_s += 10**9
            store = self.drivers.upkeep_line(self.memory, self.gate, self.witness, "the end")
            terms = Terms(self.now_s, self.grace_s, 0.5, pack_bytes=_PACK_BYTES, break_lock=True)
            await self.drivers.prune(self._repo(store, rng), terms).run()
        repo = self._repo(store, rng)
        listing = await repo.catch_up()
        records = await repo.commits(listing)
        assert {record.name for record in records} == {record.name for record in self.witness.commits.values()}
        lost = set(self.witness.acked) - self.witness.forgotten - {record.name for record in records}
        assert not lost, f"{sorted(lost)} were said to be stored, and are not"
        for record in records:
            await self._restore(repo, store, record)
        verdict = await verify(self._repo(store, rng), CheckTerms(read_data=True))
        assert verdict.is_good, f"check finds {verdict.damage} and {verdict.hits}"
        held = await self._held(repo, listing)
        assert not (left := self.witness.unneeded_packs() - held), f"nobody needs {sorted(left)} any more"
        named = set().union(*self.witness.indexes.values())
        assert named <= set(self.witness.packs), "the index names packs that are not there"
        assert not (left := set(self.witness.packs) - named - held), f"no index names {sorted(left)}"
        assert not listing.doomed, f"{sorted(listing.doomed)} were never taken back"

    async def _held(self, repo: Repository, listing: Listing) -> set[str]:
        """Packs of savers that were killed when another's commit had just taken their number: they stay for as long as
        it does, since a saver that is not dead would get the number once that commit is forgotten."""
        held: set[str] = set()
        for name in listing.pending:
            pending = await repo.get_record(f"{STATE}pending/{name}", Pending)
            key = commit_key(pending.commit, pending.prefix)
            assert key in self.witness.commits, f"{name} outlasts what it is for"
            if self.witness.commits[key].pending != name:
                held.update(pending.packs)
                self._count("held")
        return held


def run_world(
    seed: int, trees: Trees, drivers: Drivers = REAL, watch: Callable[[World], None] = lambda world: None
) -> World:
    """Run one, after it was shown to `watch`. Raises AssertionError, or Corrupt, when something was lost."""
    loop = _Turns()
    world = World(seed, trees, drivers)
    watch(world)
    loop.go_on = world.go_on
    try:
        loop.run_until_complete(world.run())
    finally:
        loop.go_on = lambda: False
        world.gate.close()
        while left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
    return world
