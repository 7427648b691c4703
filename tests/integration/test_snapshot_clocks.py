"""Machines whose clocks are years off: clocks decide what is tidied up when, and never what is lost."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dumont.model.commit import CommitId
from dumont.repository.hands import Blocking, Start, ThreadHand
from dumont.repository.progress import Progress
from dumont.repository.repository import Repository
from dumont.repository.saving.intake import start_saving
from dumont.repository.saving.save import Draft, Saved, save
from dumont.repository.upkeep.forget import forget
from dumont.repository.upkeep.prune import GRACE_S, Terms, prune
from dumont.repository.upkeep.verify import Terms as Checks
from dumont.repository.upkeep.verify import verify
from dumont.standalone.counted import CountedStore
from dumont.store.base import Data, Store
from tests.integration.archivist import scanned
from tests.integration.depot import KEY, Depot, settle, started

YEARS_S = 25 * 365 * 24 * 3600
CLOCKS = [-YEARS_S, 0, YEARS_S]


def with_clock(off_s: int) -> Start:
    """A save's worker on a machine whose clock is that far off."""

    def start(message: bytes, blocking: Blocking) -> object:
        worker = start_saving(message, blocking)
        worker._filling._builder.now_s = lambda: int(time.time()) + off_s
        return worker

    return start  # type: ignore[return-value]


async def save_at(repo: Repository, source: Path, off_s: int) -> Saved:
    """Save on a machine whose clock is that far off."""
    draft = Draft(time.time_ns() + off_s * 10**9, path=bytes(source))
    async with started(lambda: ThreadHand(with_clock(off_s), repo.store), 1) as hands:
        return await save(repo, source, draft, hands, Progress())


class Interrupted(CountedStore):
    """A driver under a saver that pauses before its first object of each kind, while `meanwhile` happens."""

    def __init__(self, store: Store, pruner: Repository, terms: Terms) -> None:
        super().__init__(store)
        self._pruner, self._terms = pruner, terms
        self._left = {"packs/", "state/index/", "state/pending/", "state/commits/"}

    async def put(self, key: str, data: Data) -> None:
        for prefix in [prefix for prefix in self._left if key.startswith(prefix)]:
            self._left.remove(prefix)
            await prune(self._pruner, self._terms)
        await super().put(key, data)

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        async for key in super().keys(prefix):
            yield key


@pytest.mark.parametrize("saver_off_s", CLOCKS)
@pytest.mark.parametrize("pruner_off_s", CLOCKS)
@pytest.mark.parametrize("grace_s", [0, GRACE_S])
async def test_no_clock_makes_a_save_or_a_prune_lose_data(
    tmp_path: Path, saver_off_s: int, pruner_off_s: int, grace_s: int
) -> None:
    """A rented machine boots in 1970, or in 2051: its saves count, and its prunes are no danger to others."""
    depot = await Depot.make(tmp_path / "depot")
    source = tmp_path / "source"
    source.mkdir()
    for number in range(5):
        (source / f"{number}").write_bytes(bytes([number]) * 70_000 * number)
    settle()
    first = await save_at(depot.open("saver"), source, saver_off_s)
    one = scanned(source, KEY).root()
    (source / "3").write_bytes(b"changed")
    (source / "new").write_bytes(b"new" * 100_000)
    settle()
    terms = Terms(int(time.time()) + pruner_off_s, grace_s)
    depot.wrap = lambda store: Interrupted(store, pruner, terms)
    pruner = Depot(depot.top, depot.keys).open("pruner")
    second = await save_at(depot.open("saver"), source, saver_off_s)
    assert second.record.commit.id.seq > first.record.commit.id.seq
    depot.wrap = lambda store: store
    assert (await verify(depot.open("checker"), Checks(read_data=True))).is_good
    for saved, want in ((first, one), (second, scanned(source, KEY).root())):
        seq = saved.record.commit.id.seq
        await depot.restore(saved.record, tmp_path / f"{seq}")
        assert scanned(tmp_path / f"{seq}", KEY).root() == want


@pytest.mark.parametrize("saver_off_s", CLOCKS)
async def test_what_a_wrong_clock_dated_is_freed_all_the_same(tmp_path: Path, saver_off_s: int) -> None:
    """A pack from 2051 must not lie in the bucket until then."""
    depot = await Depot.make(tmp_path / "depot")
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(bytes(range(256)) * 9000)
    settle()
    first = await save_at(depot.open("saver"), source, saver_off_s)
    (source / "large").write_bytes(b"other")
    settle()
    await save_at(depot.open("saver"), source, saver_off_s)
    await forget(depot.open("saver"), [CommitId(0, first.record.commit.id.seq)])
    pruned = await prune(depot.open("pruner"), Terms(int(time.time()) + 3 * GRACE_S))
    assert (pruned.packs, pruned.deleted, pruned.young) == (4, 2, 0), "of two commits, each with its tree"
