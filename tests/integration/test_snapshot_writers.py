"""Four machines save into one repository while a prune that spares nothing runs without a pause: all comes back."""

import contextlib
import os
import random
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from dumont.model.commit import CommitId
from dumont.repository.hands import ThreadHand
from dumont.repository.progress import Progress
from dumont.repository.record import PACKS, Pending, pack_key
from dumont.repository.repository import Repository
from dumont.repository.saving.save import Draft, save
from dumont.repository.upkeep.forget import forget
from dumont.repository.upkeep.verify import Terms, verify
from dumont.standalone.counted import CountedStore
from dumont.store.base import Data, Store
from dumont.store.directory import DirectoryStore
from tests.integration.archivist import scanned
from tests.integration.depot import KEY, Depot, settle, started
from tests.integration.victim import Order, Victims, open_depot, start_small, victims

pytestmark = pytest.mark.timeout(180)
MACHINES = ("a", "b", "c", "d")
ROUNDS = 4
TRIES = 8


@pytest.fixture(name="all_victims")
def _all_victims() -> Iterator[Victims]:
    with victims() as all_of_them:
        yield all_of_them


def change(source: Path, machine: str, turn: int) -> bytes:
    """What all machines have in common this turn, what only this one has, and what comes and goes; the tree's root."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    for name, seed in (("common", f"{turn}"), ("back again", f"{turn % 2}"), ("own", f"{machine}{turn}")):
        (source / name).write_bytes(random.Random(seed).randbytes(1_500_000))
    for number in range(20):
        (source / f"{number}").write_bytes(random.Random(f"{turn} {number % 5}").randbytes(3000 * number))
    settle()
    return scanned(source, KEY).root()


def save_all(top: Path, all_victims: Victims) -> list[int]:
    """All machines at once, each with two processes as hands; the numbers of their commits."""
    orders = {
        machine: Order(
            "save", str(top / "depot"), str(top / machine), hands=2, forked=True, start="small",
            machine=machine, report=str(top / f"report-{machine}"),
        )
        for machine in MACHINES
    }  # fmt: skip
    for _ in range(TRIES):
        under_way = {machine: all_victims.start(order) for machine, order in orders.items()}
        for machine, pid in under_way.items():
            if not all_victims.wait(pid):
                del orders[machine]
        if not orders:  # else prunes came between too often, which a save says in words
            break
    assert not orders, "they never come through"
    return [
        msgspec.json.decode((top / f"report-{machine}").read_bytes(), type=tuple[int, int])[0] for machine in MACHINES
    ]


async def test_machines_that_save_at_once_beside_prunes_lose_nothing(tmp_path: Path, all_victims: Victims) -> None:
    """Workspaces share a repository, and nobody agrees with the others on when to tidy up."""
    depot = await Depot.make(tmp_path / "depot")
    repo = await open_depot(depot.top, DirectoryStore(depot.top / "store"), "owner")
    end, told = tmp_path / "end", tmp_path / "report-prunes"
    pruner = all_victims.start(Order("prunes", str(depot.top), str(end), machine="pruner", report=str(told)))
    roots: dict[int, bytes] = {}
    try:
        for turn in range(ROUNDS):
            wanted = [change(tmp_path / machine, machine, turn) for machine in MACHINES]
            seqs = save_all(tmp_path, all_victims)
            assert len(set(seqs) | set(roots)) == len(seqs) + len(roots), "each commit has a number of its own"
            roots |= dict(zip(seqs, wanted, strict=True))
            gone = [seq for seq in list(roots)[:-4] if seq % 2]
            await forget(repo, [CommitId(0, seq) for seq in gone])
            roots = {seq: root for seq, root in roots.items() if seq not in gone}
    finally:
        end.touch()
        status = all_victims.wait(pruner)
    assert status == 0
    prunes, deleted = msgspec.json.decode(told.read_bytes(), type=tuple[int, int])
    assert prunes >= ROUNDS and deleted > 2**20
    verdict = await verify(repo, Terms(read_data=True))
    assert verdict.is_good, verdict.damage
    assert verdict.commits >= len(roots) >= 6
    for seq, root in roots.items():
        await depot.restore(await repo.commit(CommitId(0, seq)), tmp_path / f"out-{seq}")
        assert scanned(tmp_path / f"out-{seq}", KEY).root() == root


class Mortal(CountedStore):
    """A driver under a saver that dies before it deletes anything of `dies_at`, and lets `meanwhile` happen before its
    first pending record."""

    def __init__(self, store: Store, dies_at: str) -> None:
        super().__init__(store)
        self._dies_at = dies_at
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def put(self, key: str, data: Data) -> None:
        if key.startswith("state/pending/") and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        await super().put(key, data)

    async def delete(self, key: str) -> None:
        await super().delete(key)
        if self._dies_at and key.startswith(self._dies_at):
            raise Died


class Died(Exception):
    """The saver is no more."""


@pytest.mark.parametrize("dies_at", ["state/index/", ""])
async def test_a_saver_that_lost_packs_never_hides_those_that_others_rely_on(tmp_path: Path, dies_at: str) -> None:
    """A prune took one of its packs before they were indexed. Another machine has relied on the other one since."""
    depot = await Depot.make(tmp_path / "depot")
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (two / "shared").write_bytes(os.urandom(1_500_000))
    shutil.copy2(two / "shared", one / "shared")
    (one / "own").write_bytes(os.urandom(1_500_000))
    settle()
    store = Mortal(DirectoryStore(depot.top / "store"), dies_at)
    saver = Repository(store, depot.keys, os.urandom)

    async def other_saves_and_a_prune_ends() -> None:
        names = {key async for key in store.keys(PACKS)}
        saved = await depot.save(two, depot.open("two"))
        assert saved.new_bytes == 0
        listing = await saver.look()
        pendings = [await saver.get_record(f"state/pending/{name}", Pending) for name in listing.pending]
        relied = {pack_key(pack) for pending in pendings for pack in pending.packs}
        assert names - relied
        for key in names - relied:
            await store.delete(key)

    store.meanwhile = other_saves_and_a_prune_ends
    async with started(lambda: ThreadHand(start_small, store), 1) as hands:
        with pytest.raises(Died) if dies_at else contextlib.nullcontext():
            await save(saver, one, Draft(time.time_ns(), path=bytes(one)), hands, Progress())
    verdict = await verify(depot.open("checker"), Terms(read_data=True))
    assert verdict.hit_count == 0
    for seq, tree in ((1, two), (2, one)) if not dies_at else ((1, two),):
        await depot.restore(await saver.commit(CommitId(0, seq)), tmp_path / f"out-{seq}")
        assert scanned(tmp_path / f"out-{seq}", KEY).root() == scanned(tree, KEY).root()
