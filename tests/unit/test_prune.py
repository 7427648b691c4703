"""What one prune does to a repository that holds still."""

from collections.abc import Awaitable, Callable

import pytest

from dumont.errors import BadInput, Corrupt, NotStored, WrongKey
from dumont.model.commit import CommitId
from dumont.repository.fetch import data_fetcher
from dumont.repository.naming import Needs, name_commit
from dumont.repository.record import DATA, TREE, VERSION, Doomed, Pending, pack_key
from dumont.repository.upkeep.forget import forget
from dumont.repository.upkeep.prune import LOCK, Prune, Terms, prune
from dumont.repository.upkeep.reach import Reach
from dumont.repository.upkeep.recovery import repair_index
from dumont.snapshot.tree import digest_listing
from dumont.store.base import Data
from tests.unit.tiny_repository import DAY_S, OpenStore, TinyRepository

A, B, C, D = (bytes([letter]) * 500 for letter in b"abcd")


async def later(tiny: TinyRepository, **other: object) -> Terms:
    return Terms(tiny.now_s + 2 * DAY_S, **other)  # type: ignore[arg-type]


async def readable(tiny: TinyRepository) -> int:
    """Reads everything of every commit; how many commits there are."""
    repo = tiny.again()
    listing = await repo.look()
    await repo.learn(listing)
    records = await repo.commits(listing)
    for record in records:
        reach = Reach(repo)
        await reach.add(record.commit.root)
        for chunk in (tiny.id(body) for body in (A, B, C, D)):
            if chunk in reach.chunks:
                await data_fetcher(repo).chunk(chunk)
    return len(records)


def packs(tiny: TinyRepository) -> set[str]:
    return {key.rpartition("/")[2] for key in tiny.store.objects if key.startswith("packs/")}


async def test_what_only_forgotten_commits_needed_goes() -> None:
    """The work of a prune, and all of it is told."""
    tiny = await TinyRepository.make()
    first = await tiny.save({b"a": [A], b"b": [B]})
    await tiny.save({b"c": [C]})
    await forget(tiny.again(), [first.commit.id])
    before = sum(len(body) for key, body in tiny.store.objects.items() if key.startswith("packs/"))
    would = await prune(tiny.again(), await later(tiny, dry_run=True))
    done = await prune(tiny.again(), await later(tiny))
    after = sum(len(body) for key, body in tiny.store.objects.items() if key.startswith("packs/"))
    assert (would.deleted, would.freed_bytes) == (done.deleted, done.freed_bytes) == (2, before - after)
    assert len(packs(tiny)) == 2 and await readable(tiny) == 1


async def test_a_dry_run_changes_nothing() -> None:
    """Or it would be no question but an answer."""
    tiny = await TinyRepository.make()
    first = await tiny.save({b"a": [A]})
    await tiny.save({b"c": [C]})
    await forget(tiny.again(), [first.commit.id])
    before = dict(tiny.store.objects)
    assert (await prune(tiny.again(), await later(tiny, dry_run=True))).deleted
    assert tiny.store.objects == before


async def test_a_pack_that_is_mostly_not_needed_is_repacked() -> None:
    """A chunk must not hold its whole pack for ever, and moves only when it is verified."""
    tiny = await TinyRepository.make()
    first = await tiny.save({b"a": [A], b"b": [B], b"c": [C]})
    await tiny.save({b"a": [A]})
    await forget(tiny.again(), [first.commit.id])
    done = await prune(tiny.again(), await later(tiny))
    assert done.repacked == 1 and done.freed_bytes > 900 and await readable(tiny) == 1
    assert not (await prune(tiny.again(), await later(tiny))).deleted


async def test_a_damaged_pack_is_not_repacked_and_not_deleted() -> None:
    """What can't be verified can't be moved; and the rest of the pack may be the only copy."""
    tiny = await TinyRepository.make()
    first = await tiny.save({b"a": [A], b"b": [B], b"c": [C]})
    await tiny.save({b"a": [A]})
    await forget(tiny.again(), [first.commit.id])
    repo = tiny.again()
    await repo.learn(await repo.look())
    spot = repo.catalogue.find(tiny.id(A))
    assert spot is not None
    key = pack_key(spot[0].name)
    body = bytearray(tiny.store.objects[key])
    body[spot[0].frames[spot[1]].offset] ^= 1
    tiny.store.objects[key] = bytes(body)
    done = await prune(tiny.again(), await later(tiny))
    assert list(done.damaged) == [spot[0].name] and key in tiny.store.objects


async def test_young_packs_are_left_alone() -> None:
    """A saver that is at work would have to send them again."""
    tiny = await TinyRepository.make()
    pack = await tiny.store_pack([(DATA, [D])])
    assert (await prune(tiny.again(), Terms(tiny.now_s + DAY_S - 1))).young == 1
    assert pack.name in packs(tiny)
    assert (await prune(tiny.again(), Terms(tiny.now_s + DAY_S))).deleted == 1


async def test_a_clock_far_ahead_keeps_no_pack_for_ever() -> None:
    """A writer's clock is its own business."""
    tiny = await TinyRepository.make()
    await tiny.store_pack([(DATA, [D])])
    assert (await prune(tiny.again(), Terms(tiny.now_s - 3650 * DAY_S))).deleted == 1


async def test_two_prunes_at_once_are_refused_until_the_lock_is_broken() -> None:
    """Of two, one could take what the other relies on."""
    tiny = await TinyRepository.make()
    await tiny.repo.put_record(LOCK, Doomed(VERSION, []))
    del tiny.store.objects[LOCK]
    other = Prune(tiny.again(), Terms(tiny.now_s))
    await other._take_lock()
    with pytest.raises(BadInput, match="break-lock"):
        await prune(tiny.again(), Terms(tiny.now_s))
    await prune(tiny.again(), Terms(tiny.now_s, break_lock=True))
    with pytest.raises(BadInput, match="broke"):
        await other._check_lock()


async def test_a_damaged_repository_is_not_pruned() -> None:
    """What seems not to be needed may be what is needed, when the index is not whole."""
    tiny = await TinyRepository.make()
    first = await tiny.save({b"a": [A]})
    await tiny.save({b"c": [C]})
    await forget(tiny.again(), [first.commit.id])
    for key in [key for key in tiny.store.objects if key.startswith("state/index/")]:
        del tiny.store.objects[key]
    with pytest.raises(Corrupt):
        await prune(tiny.again(), await later(tiny))
    assert len(packs(tiny)) == 4 and LOCK not in tiny.store.objects
    assert (await repair_index(tiny.again())).packs == 4
    assert (await prune(tiny.again(), await later(tiny))).deleted == 2 and await readable(tiny) == 1


async def test_what_a_stranger_offers_neither_replaces_nor_becomes_what_is_trusted() -> None:
    """A hostile host may claim a chunk with junk; then a prune must keep every copy, and vouch for none."""
    tiny = await TinyRepository.make()
    honest = await tiny.save({b"a": [A]}, writer="honest")
    hostile = tiny.again("hostile")
    junk = await tiny.store_pack([(DATA, [B])], hostile.keys)
    lie = junk.__class__(
        junk.name,
        junk.writer,
        junk.ephemeral,
        junk.size,
        junk.created_s,
        [
            frame.__class__(f.offset, f.length, f.codec, f.kind, 500, tiny.id(A), [500])
            for f in junk.frames
            for frame in [f]
        ],
    )
    await hostile.add_to_index([lie])
    gone = await tiny.save({b"d": [D]}, writer="honest")
    await tiny.save({b"c": [C]})
    await forget(tiny.again(), [gone.commit.id])
    await prune(tiny.again(), await later(tiny))
    repo = tiny.again()
    await repo.learn(await repo.look())
    assert repo.catalogue.relies_on(tiny.id(A)) is None
    assert len(repo.catalogue.places(tiny.id(A))) == 2
    assert not repo.catalogue.places(tiny.id(D))
    assert honest.commit.id == CommitId(0, 1) and await readable(tiny) == 2


async def test_an_offer_does_not_mask_a_trusted_pack() -> None:
    """An index object of a stranger may name a pack of ours and lie about it, and may be learned first."""
    tiny = await TinyRepository.make()
    await tiny.save({b"a": [A]})
    repo = tiny.again()
    await repo.learn(await repo.look())
    true = next(pack for pack in repo.catalogue.packs.values() if tiny.id(A) in pack.frames[0].ids)
    frame = true.frames[0]
    false = true.__class__(
        true.name,
        true.writer,
        true.ephemeral,
        true.size,
        true.created_s,
        [frame.__class__(frame.offset, frame.length, frame.codec, frame.kind, 500, tiny.id(B), [500])],
    )
    for first, second in ((false, true), (true, false)):
        catalogue = repo.catalogue.__class__()
        catalogue.add([first], trusted=first is true)
        catalogue.add([second], trusted=second is true)
        assert catalogue.relies_on(tiny.id(A)) == true and catalogue.relies_on(tiny.id(B)) is None


async def test_a_saver_that_was_not_heard_of_loses_its_number() -> None:
    """Removing its pending record alone would let it name a commit whose packs are gone."""
    tiny = await TinyRepository.make()
    pack = await tiny.store_pack([(DATA, [D])])
    await tiny.repo.add_to_index([pack])
    pending = Pending(VERSION, CommitId(0, 1), [pack.name], created_s=tiny.now_s)
    await tiny.repo.put_record("state/pending/0-1-x", pending)
    young = await prune(tiny.again(), Terms(tiny.now_s + DAY_S - 1))
    assert (young.void_commits, young.deleted) == (0, 0)
    done = await prune(tiny.again(), await later(tiny))
    assert (done.void_commits, done.pending_removed, done.deleted) == (1, 1, 1)
    with pytest.raises(NotStored):
        await tiny.again().commit(CommitId(0, 1))
    assert (await tiny.save({b"a": [A]})).commit.id == CommitId(0, 2)


async def test_a_pending_record_that_leads_elsewhere_is_nobodys() -> None:
    """A stranger's prefix must not make a prune write where it wants."""
    tiny = await TinyRepository.make()
    pending = Pending(VERSION, CommitId(0, 1), [], prefix="doomed/x/")
    await tiny.repo.put_record("state/pending/0-1-x", pending)
    assert (await prune(tiny.again(), await later(tiny))).void_commits == 0
    assert not [key for key in tiny.store.objects if key.startswith(("state/doomed", "state/pending"))]


async def test_many_small_packs_and_index_objects_become_few() -> None:
    """Hourly saves would otherwise make every later one slower."""
    tiny = await TinyRepository.make()
    for number in range(40):
        await tiny.save({b"a": [bytes([number]) * 300], b"keep%d" % number: [A]})
    before = len(packs(tiny))
    await prune(tiny.again(), await later(tiny, pack_bytes=16_000))
    listing = await tiny.again().look()
    assert len(packs(tiny)) < before / 2 and len(listing.indexes) < 5 and await readable(tiny) == 40


async def test_who_may_only_add_can_not_prune() -> None:
    """And is told so before anything is read."""
    tiny = await TinyRepository.make()
    with pytest.raises(WrongKey):
        await prune(tiny.again("writer"), Terms(0))


async def test_a_doomed_record_that_goes_while_it_is_read_is_no_reason_to_go_on() -> None:
    """Its prune has ended since we looked, and may have deleted what was still indexed then."""
    tiny = await TinyRepository.make()
    saved = await tiny.save({b"a": [A]})

    class Ending(OpenStore):
        async def get(self, key: str) -> bytes:
            if key.startswith("state/doomed/"):
                raise NotStored(key)
            return await super().get(key)

    await tiny.repo.put_record("state/doomed/x", Doomed(VERSION, ["00" * 16]))
    repo = tiny.again()
    await repo.learn(await repo.look())
    needs = Needs(frozenset(repo.catalogue.packs), repo.learned)
    ended = tiny.again()
    ended.store = Ending()
    ended.store.objects = tiny.store.objects
    assert await name_commit(ended, saved, needs, "", renumber=True) is None
    assert await name_commit(repo, saved, needs, "", renumber=True) is not None


async def test_a_tree_that_could_not_be_read_whole_is_not_taken_for_read() -> None:
    """A prune looks again when something is younger than its view. What it had read of a tree by then was taken for all
    of it, and what lay below went."""
    tiny = await TinyRepository.make()
    repo = tiny.again()
    tree, bodies, root = tiny.tree({b"d/a": [A]})
    below = digest_listing(tree.directory_object(b"d"))
    above = await tiny.store_pack([(TREE, [body for id, body in bodies.items() if id != below])])
    late = await tiny.store_pack([(TREE, [bodies[below]])])
    repo.catalogue.add([above], trusted=True)
    reach = Reach(repo)
    with pytest.raises(Corrupt):
        await reach.add(root)
    repo.catalogue.add([late], trusted=True)
    await reach.add(root)
    assert reach.chunks == {*bodies, tiny.id(A)}


class _Retaking(OpenStore):
    """When a prune dooms packs for the first time, `act` runs just before."""

    def __init__(self, act: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.act: Callable[[], Awaitable[None]] | None = act

    async def put(self, key: str, data: Data) -> None:
        act, self.act = (None, self.act) if not key.startswith("state/doomed/") else (self.act, None)
        if act is not None:
            await act()
        await super().put(key, data)


async def test_a_number_that_is_taken_again_names_another_commit_than_before() -> None:
    """Between a prune's looks the newest commit was forgotten, and its number taken: the last look must see that."""
    tiny = await TinyRepository.make()
    await tiny.save({b"a": [A]})
    old = await tiny.save({b"b": [B]})
    third = await tiny.save({b"c": [C]})
    await forget(tiny.again(), [third.commit.id], even_last=True)

    async def retake() -> None:
        await forget(tiny.again(), [old.commit.id], even_last=True)
        again = await tiny.save({b"c": [C]})
        assert again.commit.id == old.commit.id
        # As a prune does with the pending record of a saver that is done.
        await tiny.store.delete(f"state/pending/{again.pending}")

    store = _Retaking(retake)
    store.objects = tiny.store.objects
    repo = tiny.again()
    repo.store = store
    await prune(repo, Terms(tiny.now_s + 2 * DAY_S))
    assert await readable(tiny) == 2
