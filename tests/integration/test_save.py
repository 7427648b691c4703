"""Saving: what is saved comes back, what is there is not sent again, and nothing on the way can lose it."""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dumont.errors import StoreError
from dumont.repository.catalogue import Catalogue
from dumont.repository.codec import RAW
from dumont.repository.hands import ThreadHand
from dumont.repository.keys import writer_keys
from dumont.repository.pack import Chunks, PackBuilder
from dumont.repository.progress import Progress
from dumont.repository.record import DATA, commit_key, pack_key
from dumont.repository.saving.save import Draft, save, start_saving
from dumont.repository.upkeep.prune import Terms, prune
from dumont.snapshot.chunk import chunk_id
from dumont.standalone.counted import CountedStore
from dumont.store.base import Data, Store
from tests.integration.depot import Depot, same_tree, settle
from tests.tensor_files import safetensors
from tests.trees import Operation, change, operations, torture

DAY_S = 24 * 3600


@pytest.fixture(name="depot")
async def _depot(tmp_path: Path) -> Depot:
    return await Depot.make(tmp_path / "depot")


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    rng = random.Random(7)
    for folder in ("a", "a/b", "a/b/c", "empty"):
        (source / folder).mkdir()
    for number in range(60):
        (source / ("a", "a/b", "a/b/c")[number % 3] / f"{number}.txt").write_bytes(rng.randbytes(rng.randrange(9000)))
    (source / "large").write_bytes(rng.randbytes(5 * 2**20 + 17))
    settle()
    return source


class Between:
    """A store that does something once, just before the first object under `prefix` is put."""

    def __init__(self, store: Store, prefix: str, act: "Act") -> None:
        self._store = store
        self._prefix = prefix
        self._act: Act | None = act

    async def put(self, key: str, data: Data) -> None:
        if key.startswith(self._prefix) and self._act is not None:
            act, self._act = self._act, None
            await act()
        await self._store.put(key, data)

    async def get(self, key: str) -> bytes:
        return await self._store.get(key)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return await self._store.get_range(key, start, length)

    async def size(self, key: str) -> int:
        return await self._store.size(key)

    async def exists(self, key: str) -> bool:
        return await self._store.exists(key)

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        async for key in self._store.keys(prefix):
            yield key

    async def delete(self, key: str) -> None:
        await self._store.delete(key)


class Act:
    """What a test does in the middle of a save."""

    async def __call__(self) -> None: ...


async def test_what_is_saved_comes_back(depot: Depot, tmp_path: Path):
    """Bytes, modes, times, links, holes, attributes, strange names: a snapshot that forgets some is none."""
    source = tmp_path / "everything"
    torture(source)
    saved = await depot.save(source)
    await depot.restore(saved.record, tmp_path / "out")
    assert same_tree(source, tmp_path / "out")
    assert saved.record.commit.consistent


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(operations, min_size=2, max_size=4))
def test_every_save_of_a_tree_that_changes_at_random_comes_back(tmp_path: Path, rounds: list[list[Operation]]):
    """What is remembered of the last save must never stand in for something that changed since."""

    async def live() -> None:
        top = Path(tempfile.mkdtemp(dir=tmp_path))
        depot = await Depot.make(top / "depot")
        source = top / "source"
        source.mkdir()
        for number, todo in enumerate(rounds):
            change(source, todo)
            saved = await depot.save(source)
            await depot.restore(saved.record, top / f"out-{number}")
            assert same_tree(source, top / f"out-{number}")

    asyncio.run(live())


async def test_a_save_without_changes_makes_at_most_five_requests(depot: Depot, source: Path):
    """Hourly saves of many machines must cost next to nothing."""
    first = await depot.save(source)
    counted = CountedStore(depot.open().store)
    depot.wrap = lambda store: counted
    again = await depot.save(source)
    assert counted.requests <= 5
    assert again.stored_bytes == 0 and again.record.commit.root == first.record.commit.root
    assert again.record.commit.id != first.record.commit.id


async def test_one_percent_changed_uploads_little_more_than_it(depot: Depot, tmp_path: Path):
    """At most 1.1 times the chunks that changed, directories and index included."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(100):
        (source / f"{number}").write_bytes(os.urandom(300_000))
    settle()
    await depot.save(source)
    (source / "5").write_bytes(os.urandom(300_000))
    settle()
    saved = await depot.save(source)
    assert saved.new_bytes == 300_000
    assert saved.stored_bytes <= 1.1 * 300_000


async def test_a_change_in_a_large_file_sends_its_own_blocks_only(depot: Depot, source: Path):
    """Otherwise a database of 100 GB is sent again for one row."""
    await depot.save(source)
    with (source / "large").open("r+b") as file:
        file.seek(10)
        file.write(b"changed")
    saved = await depot.save(source)
    assert saved.new_bytes == 64 * 2**10


async def test_tensors_that_did_not_change_are_not_sent_with_the_next_checkpoint(depot: Depot, tmp_path: Path):
    """Wherever they lie in it: a longer header or another tensor before them moves them by a few bytes."""
    source = tmp_path / "source"
    source.mkdir()
    frozen, trained = os.urandom(3_000_000), os.urandom(500_000)
    (source / "1.safetensors").write_bytes(safetensors({"head": trained, "body": frozen}))
    settle()
    await depot.save(source)
    trained = os.urandom(500_000)
    (source / "2.safetensors").write_bytes(safetensors({"extra": b"moved" * 7, "head": trained, "body": frozen}))
    settle()
    saved = await depot.save(source)
    assert saved.new_bytes < 600_000


async def test_a_save_that_was_ended_is_gone_on_with(depot: Depot, source: Path, tmp_path: Path):
    """Packs that were stored when it ended are not sent again by the next, though no index names them."""
    full = DirectoryCount(depot.open().store)

    class EndsAtTheIndex(Act):
        async def __call__(self) -> None:
            raise StoreError("the network went away")

    ended = Between(full, "state/index/", EndsAtTheIndex())
    depot.wrap = lambda store: ended
    with pytest.raises(StoreError, match="went away"):
        await depot.save(source)
    before = full.packs_bytes
    assert before > 5 * 2**20
    depot.wrap = lambda store: full
    saved = await depot.save(source)
    assert full.packs_bytes - before < 100_000
    depot.wrap = lambda store: store
    await depot.restore(saved.record, tmp_path / "out")
    assert same_tree(source, tmp_path / "out")


class DirectoryCount(Between):
    """Counts the bytes of packs that are put."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "nothing", Act())
        self.packs_bytes = 0

    async def put(self, key: str, data: Data) -> None:
        self.packs_bytes += len(data) if key.startswith("packs/") else 0
        await super().put(key, data)


@pytest.mark.parametrize("moment", ["packs/", "state/index/", "state/pending/"])
async def test_a_prune_in_the_middle_of_a_save_loses_nothing(depot: Depot, source: Path, tmp_path: Path, moment: str):
    """The saver relied on chunks that nothing else needed any more, and paused while all of them were deleted."""
    first = await depot.save(source)
    (source / "new").write_bytes(b"new")
    settle()
    plain = depot.open("pruner")

    class PrunesEverything(Act):
        async def __call__(self) -> None:
            await plain.store.delete(f"state/commits/{0:08d}-{first.record.commit.id.seq:012d}")
            pruned = await prune(plain, Terms(int(time.time()) + 90 * DAY_S))
            assert pruned.deleted

    between = Between(depot.open().store, moment, PrunesEverything())
    depot.wrap = lambda store: between
    saved = await depot.save(source)
    depot.wrap = lambda store: store
    await depot.restore(saved.record, tmp_path / "out")
    assert same_tree(source, tmp_path / "out")


async def test_a_machine_notices_two_prunes_one_after_the_other(depot: Depot, source: Path, tmp_path: Path):
    """The first packs everything anew; what the machine remembers after it must let it notice the second."""
    later = int(time.time()) + 90 * DAY_S
    first = await depot.save(source)
    assert (await prune(depot.open("pruner"), Terms(later, repack_below=2.0))).repacked
    second = await depot.save(source)
    store = depot.open().store
    for saved in (first, second):
        await store.delete(commit_key(saved.record.commit.id))
    assert (await prune(depot.open("pruner"), Terms(later + 90 * DAY_S))).deleted
    third = await depot.save(source)
    await depot.restore(third.record, tmp_path / "out")
    assert same_tree(source, tmp_path / "out")


async def test_a_writer_that_cannot_read_notices_that_what_it_relied_on_first_is_gone(
    depot: Depot, source: Path, tmp_path: Path
):
    """It knows index objects by name alone, and must go on knowing those of its earlier saves after a later one."""
    keys = writer_keys(depot.keys, "trainer")
    await depot.save(source, depot.open("trainer", keys))
    store = depot.open().store
    early = [key async for key in store.keys("") if key.startswith(("packs/", "state/index/"))]
    (source / "new").write_bytes(b"new")
    settle()
    await depot.save(source, depot.open("trainer", keys))
    for key in early:  # as a prune deletes them once no commit needs them
        await store.delete(key)
    saved = await depot.save(source, depot.open("trainer", keys))
    await depot.restore(saved.record, tmp_path / "out")
    assert same_tree(source, tmp_path / "out")


async def test_a_file_that_never_stands_still_is_saved_as_it_was_read_and_named(depot: Depot, source: Path):
    """A log that is written all the time must not keep the rest from being saved, and is not called consistent."""
    repo = depot.open()

    class Writes(ThreadHand):
        async def ask(self, message: bytes) -> bytes:
            with (source / "large").open("ab") as file:
                file.write(b"x")
            return await super().ask(message)

    hands = [Writes(start_saving, repo.store)]
    saved = await save(repo, source, Draft(time.time_ns(), path=bytes(source)), hands, Progress())
    await hands[0].close()
    assert saved.record.commit.fuzzy == (b"large",)
    assert not saved.record.commit.consistent


async def test_two_machines_save_at_once(depot: Depot, source: Path, tmp_path: Path):
    """Commits are numbered by conditional writes: both come through, under two numbers."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_bytes(b"from the other machine")
    settle()
    one, two = await asyncio.gather(depot.save(source, depot.open("one")), depot.save(other, depot.open("two")))
    assert {one.record.commit.id.seq, two.record.commit.id.seq} == {1, 2}
    for saved, tree in ((one, source), (two, other)):
        await depot.restore(saved.record, tmp_path / f"out-{saved.record.commit.id.seq}")
        assert same_tree(tree, tmp_path / f"out-{saved.record.commit.id.seq}")


async def test_one_snapshot_is_cloned_to_several_machines_at_once(depot: Depot, source: Path, tmp_path: Path):
    """A farm starts from one commit: every machine has it whole, and the store is as it was."""
    saved = await depot.save(source)
    before = sorted(depot.top.glob("store/**/*"))
    await asyncio.gather(*(depot.restore(saved.record, tmp_path / f"machine-{number}") for number in range(4)))
    assert all(same_tree(source, tmp_path / f"machine-{number}") for number in range(4))
    assert sorted(depot.top.glob("store/**/*")) == before


async def _offer_junk(depot: Depot, body: bytes) -> None:
    """A host with a writer's key says that it has stored the chunk of `body`, and has stored junk."""
    mallory = depot.open("mallory", writer_keys(depot.keys, "mallory"))
    builder = PackBuilder(mallory.keys, mallory.new_name, lambda: int(time.time()))
    chunks = Chunks()
    chunks.add(chunk_id(body, depot.keys.chunk_key), len(body))
    builder.add(RAW, DATA, bytes(len(body)), chunks)
    pack, packed = builder.close()
    await mallory.store.put(pack_key(pack.name), bytes(packed))
    await mallory.add_to_index([pack])


async def test_a_chunk_that_a_hostile_host_offers_is_not_relied_on(depot: Depot, tmp_path: Path):
    """It may claim a chunk with junk: whoever took its word would not store the chunk, and lose it."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "precious").write_bytes(b"precious" * 1000)
    settle()
    await _offer_junk(depot, b"precious" * 1000)
    saved = await depot.save(source)
    assert saved.new_bytes == 8000
    await depot.restore(saved.record, tmp_path / "out")
    assert same_tree(source, tmp_path / "out")


class Gullible(Catalogue):
    """Takes everybody's word."""

    def add(self, packs, trusted):  # type: ignore[no-untyped-def]
        super().add(packs, trusted=True)


async def test_control_whoever_takes_its_word_does_not_store_the_chunk(depot: Depot, tmp_path: Path):
    """Negative control of the one above."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "precious").write_bytes(b"precious" * 1000)
    settle()
    await _offer_junk(depot, b"precious" * 1000)
    repo = depot.open()
    repo.catalogue = Gullible()
    assert (await depot.save(source, repo)).new_bytes == 0


async def test_a_writers_key_saves_and_what_it_saved_can_be_restored_by_the_owner(
    depot: Depot, source: Path, tmp_path: Path
):
    """Add-only hosts are of use, and a second save of theirs sends only what changed."""
    keys = writer_keys(depot.keys, "trainer")
    await depot.save(source, depot.open("trainer", keys))
    (source / "a" / "0.txt").write_bytes(b"changed")
    settle()
    saved = await depot.save(source, depot.open("trainer", keys))
    assert saved.new_bytes == 7
    await depot.restore(saved.record, tmp_path / "out")
    assert same_tree(source, tmp_path / "out")


class _Pruning(Act):
    """A prune of everything that no commit and no pending record keeps, as of much later."""

    def __init__(self, depot: Depot) -> None:
        self.plain = depot.open("pruner")

    async def __call__(self) -> None:
        await prune(self.plain, Terms(int(time.time()) + 90 * DAY_S))


async def test_what_a_save_took_over_from_one_that_was_ended_is_kept_from_prunes(
    depot: Depot, source: Path, tmp_path: Path
):
    """It must be among what the pending record names: a prune that runs just before the commit reads it there."""
    store = depot.open().store

    class EndsAtTheIndex(Act):
        async def __call__(self) -> None:
            raise StoreError("the network went away")

    ended = Between(store, "state/index/", EndsAtTheIndex())
    depot.wrap = lambda store: ended
    with pytest.raises(StoreError, match="went away"):
        await depot.save(source)
    depot.wrap = lambda store: store
    between = Between(store, "state/commits/", _Pruning(depot))
    depot.wrap = lambda store: between
    later_ns = time.time_ns() + 90 * DAY_S * 10**9  # the packs are old by now, and the saver is not
    saved = await depot.save(source, draft=Draft(later_ns, path=bytes(source)))
    depot.wrap = lambda store: store
    await depot.restore(saved.record, tmp_path / "out")
    assert same_tree(source, tmp_path / "out")


async def test_a_save_that_begins_again_leaves_no_pending_record(depot: Depot, source: Path):
    """It would keep packs that nobody needs for as long as the commit lasts that takes its number."""
    first = await depot.save(source)
    (source / "new").write_bytes(b"new")
    settle()

    class Forgets(_Pruning):
        async def __call__(self) -> None:
            await self.plain.store.delete(commit_key(first.record.commit.id))
            await super().__call__()

    between = Between(depot.open().store, "state/pending/", Forgets(depot))
    depot.wrap = lambda store: between
    saved = await depot.save(source)
    pending = [key async for key in between.keys("state/pending/")]
    assert pending == [f"state/pending/{saved.record.pending}"]


async def test_threads_that_saved_and_restored_leave_nothing_open(depot: Depot, source: Path, tmp_path: Path):
    """An agent saves for months in one process: a descriptor lost with each save ends it one day."""
    saved = await depot.save(source)
    await depot.restore(saved.record, tmp_path / "out")
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        (source / "new").write_bytes(b"%d" % number)
        settle()
        saved = await depot.save(source)
        await depot.restore(saved.record, tmp_path / "out")
    assert len(os.listdir("/proc/self/fd")) == before
