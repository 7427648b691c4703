"""Whatever is changed, cut off or taken away in a repository is found, and the files hit are named, no others."""

import random
from collections.abc import Callable

import msgspec
import pytest

from dumont.errors import WrongKey
from dumont.model.commit import CommitId
from dumont.repository.keys import wrap_with_passphrase
from dumont.repository.record import CONFIG, DATA, SLOTS, VERSION, Doomed, Pack, index_key, pack_key
from dumont.repository.seal import EPHEMERAL_BYTES
from dumont.repository.upkeep.hits import Hit
from dumont.repository.upkeep.labels import label
from dumont.repository.upkeep.recovery import repair_index
from dumont.repository.upkeep.verify import Terms, Verdict, verify
from tests.unit.tiny_repository import TinyRepository

A, B, C, D = (bytes([letter]) * 300 for letter in b"abcd")
FIRST: dict[bytes, list[bytes]] = {b"one": [A], b"d/two": [B, A], b"d/empty": []}
SECOND: dict[bytes, list[bytes]] = {b"one": [A], b"d/two": [B, A], b"d/empty": [], b"e/three": [C], b"four": [D, D]}
FULL = Terms(read_data=True, vouch=False)


async def made() -> TinyRepository:
    tiny = await TinyRepository.make()
    await tiny.save(FIRST)
    await tiny.save(SECOND, name="second")
    await label(tiny.again(), CommitId(0, 1), tags=("t",))
    return tiny


def expected(tiny: TinyRepository, lost: set[bytes]) -> set[tuple[int, bytes, bool]]:
    """The files hit when the chunks `lost` are nowhere: `(seq, path, everything below)`, from what was saved alone."""
    found: set[tuple[int, bytes, bool]] = set()
    for seq, files in enumerate((FIRST, SECOND), 1):
        tree, _, root = tiny.tree(files)
        if root in lost or tree._id(b"") in lost:
            found.add((seq, b"", True))
            continue
        hidden = {above for above in (b"d", b"e") if above in tree and tree._id(above) in lost}
        found |= {(seq, above, True) for above in hidden}
        for path, blocks in files.items():
            if path.rpartition(b"/")[0] not in hidden and any(tiny.id(block) in lost for block in blocks):
                found.add((seq, path, False))
    return found


def told(verdict: Verdict) -> set[tuple[int, bytes, bool]]:
    assert verdict.hit_count == len(verdict.hits)
    return {(hit.commit.seq, hit.path, hit.below) for hit in verdict.hits}


async def packs_of(tiny: TinyRepository) -> dict[str, Pack]:
    repo = tiny.again()
    await repo.learn(await repo.look())
    return {pack_key(pack.name): pack for pack in repo.catalogue.packs.values()}


def ids(pack: Pack, is_hit: Callable[[int, int], bool]) -> set[bytes]:
    """The chunks of the frames for whose `(begin, end)` that is so."""
    hit = [frame for frame in pack.frames if is_hit(frame.offset, frame.offset + frame.length)]
    return {frame.ids[at : at + 32] for frame in hit for at in range(0, len(frame.ids), 32)}


async def test_a_sound_repository_is_called_sound() -> None:
    """A check that cries wolf is switched off."""
    tiny = await made()
    for terms in (Terms(), FULL):
        verdict = await verify(tiny.again(), terms)
        assert verdict.is_good and not verdict.leftovers and not verdict.hits, verdict
        assert (verdict.commits, verdict.packs) == (2, 4)
    sizes = sum(frame.length for pack in (await packs_of(tiny)).values() for frame in pack.frames)
    assert verdict.read_bytes == sizes


async def test_any_flipped_bit_of_a_pack_is_found_with_the_files_hit() -> None:
    """At the head, in each frame, in the footer, at the tail, and wherever chance falls."""
    tiny = await made()
    rng = random.Random(5)
    for key, pack in (await packs_of(tiny)).items():
        whole = tiny.store.objects[key]
        places = [0, 4, 5, 4 + EPHEMERAL_BYTES, *(frame.offset for frame in pack.frames)]
        places += [pack.frames[-1].offset + pack.frames[-1].length, len(whole) - 8, len(whole) - 1]
        for at in places + [rng.randrange(len(whole)) for _ in range(12)]:
            body = bytearray(whole)
            body[at] ^= 1 << rng.randrange(8)
            tiny.store.objects[key] = bytes(body)
            verdict = await verify(tiny.again(), FULL)
            assert key in {trouble.key for trouble in verdict.damage}, (key, at)
            assert told(verdict) == expected(tiny, ids(pack, lambda begin, end, at=at: begin <= at < end))  # type: ignore[misc]
        tiny.store.objects[key] = whole


async def test_a_pack_cut_off_or_gone_is_found_with_the_files_hit_without_reading_all() -> None:
    """Where it is cut, what lies before can still be read."""
    tiny = await made()
    for key, pack in (await packs_of(tiny)).items():
        whole = tiny.store.objects[key]
        for length in (0, 3, 40, pack.frames[0].offset + 10, pack.frames[-1].offset, len(whole) - 9, len(whole) - 1):
            tiny.store.objects[key] = whole[:length]
            for terms in (Terms(), FULL):
                verdict = await verify(tiny.again(), terms)
                assert key in {trouble.key for trouble in verdict.damage}, (key, length)
                assert told(verdict) == expected(tiny, ids(pack, lambda _, end, length=length: end > length))  # type: ignore[misc]
        del tiny.store.objects[key]
        verdict = await verify(tiny.again(), Terms())
        assert key in {trouble.key for trouble in verdict.damage}
        assert told(verdict) == expected(tiny, ids(pack, lambda *_: True))
        tiny.store.objects[key] = whole


async def test_any_flipped_bit_of_any_other_object_is_found() -> None:
    """Config, slots, index, commits, labels, pending and doomed records: each bit of them means something."""
    tiny = await made()
    await tiny.repo.put_record("state/doomed/x", Doomed(VERSION, ["00" * 16]))
    slot = wrap_with_passphrase(tiny.repo.keys.secret, b"secret", bytes(16), "a friend's")
    await tiny.store.put(f"{SLOTS}one", msgspec.msgpack.encode(slot))
    rng = random.Random(6)
    assert not (await verify(tiny.again(), Terms())).damage
    for key in [key for key in tiny.store.objects if not key.startswith("packs/") and tiny.store.objects[key]]:
        whole = tiny.store.objects[key]
        bits = {rng.randrange(8 * len(whole)) for _ in range(25)} | {0, 8 * len(whole) - 1, 8 * 36 + 7}
        for bit in bits if key != CONFIG else range(0, 8 * len(whole), 7):
            body = bytearray(whole)
            body[bit // 8] ^= 1 << bit % 8
            tiny.store.objects[key] = bytes(body)
            verdict = await verify(tiny.again(), Terms())
            assert key in {trouble.key for trouble in verdict.damage}, (key, bit)
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            tiny.store.objects[key] = whole[:length]
            assert key in {trouble.key for trouble in (await verify(tiny.again(), Terms())).damage}, (key, length)
        tiny.store.objects[key] = whole


async def test_a_missing_object_is_found() -> None:
    """A commit that went is told from a forgotten one by its pending record, as long as that is there."""
    tiny = await made()
    for key in list(tiny.store.objects):
        if key.startswith(("state/pending/", "state/labels/")):
            continue  # nothing lacks without these
        whole = tiny.store.objects.pop(key)
        verdict = await verify(tiny.again(), Terms())
        if key.startswith("state/commits/"):
            assert any("0.1" in found.what or "0.2" in found.what for found in verdict.leftovers), key
        elif key.startswith("state/index/"):
            assert any(found.key.startswith("packs/") for found in verdict.leftovers) and verdict.hits
        else:
            assert key in {trouble.key for trouble in verdict.damage}
        tiny.store.objects[key] = whole


async def test_a_lost_index_is_made_again_from_the_packs() -> None:
    """The data is enough."""
    tiny = await made()
    await tiny.save({b"theirs": [b"z" * 50]}, writer="other")
    indexes = [key for key in tiny.store.objects if key.startswith("state/index/")]
    for number, key in enumerate(indexes):
        if number % 2:
            tiny.store.objects[key] = tiny.store.objects[key][:-1]
        else:
            del tiny.store.objects[key]
    assert (await verify(tiny.again(), Terms())).hit_count
    done = await repair_index(tiny.again())
    assert (done.packs, done.removed, done.unreadable) == (6, 1, {})
    verdict = await verify(tiny.again(), FULL)
    assert verdict.is_good and not verdict.leftovers
    repo = tiny.again()
    await repo.learn(await repo.look())
    assert repo.catalogue.relies_on(tiny.id(A)) and not repo.catalogue.relies_on(tiny.id(b"z" * 50))


async def test_what_proved_good_is_vouched_for_and_what_did_not_is_not() -> None:
    """So what a host that may only add has stored comes to be shared, and a lie never does."""
    tiny = await made()
    await tiny.save({b"theirs": [b"z" * 50]}, writer="other")
    pack = await tiny.store_pack([(DATA, [b"y" * 50])], tiny.again("other").keys)
    frame = pack.frames[0]
    lie = frame.__class__(frame.offset, frame.length, frame.codec, frame.kind, 50, tiny.id(b"x"), [50])
    false = pack.__class__(pack.name, pack.writer, pack.ephemeral, pack.size, pack.created_s, [lie])
    [name] = await tiny.again("other").add_to_index([false])
    verdict = await verify(tiny.again(), Terms(read_data=True))
    assert verdict.vouched == 2 and {trouble.key for trouble in verdict.damage} == {pack_key(pack.name)}
    assert index_key(name) in tiny.store.objects
    repo = tiny.again()
    await repo.learn(await repo.look())
    assert repo.catalogue.relies_on(tiny.id(b"z" * 50)) and not repo.catalogue.relies_on(tiny.id(b"x"))


async def test_a_second_whole_copy_saves_the_files() -> None:
    """Damage is told, and no file is named that can be restored."""
    tiny = await made()
    await tiny.repo.add_to_index([await tiny.store_pack([(DATA, [A])])])
    key, pack = next(
        (key, pack) for key, pack in (await packs_of(tiny)).items() if tiny.id(B) in ids(pack, lambda *_: True)
    )
    del tiny.store.objects[key]
    verdict = await verify(tiny.again(), FULL)
    assert not verdict.is_good
    assert told(verdict) == expected(tiny, ids(pack, lambda *_: True) - {tiny.id(A)})


async def test_many_hits_are_counted_and_a_few_are_named() -> None:
    """A report that nobody can read helps nobody."""
    tiny = await TinyRepository.make()
    await tiny.save({b"%d" % number: [A] for number in range(50)})
    for key, pack in (await packs_of(tiny)).items():
        if tiny.id(A) in ids(pack, lambda *_: True):
            del tiny.store.objects[key]
    verdict = await verify(tiny.again(), Terms(hits_max=3))
    assert verdict.hit_count == 50
    assert verdict.hits == [Hit(CommitId(0, 1), "", path) for path in (b"0", b"1", b"10")]


async def test_who_may_only_add_can_not_check() -> None:
    """And is told why."""
    tiny = await made()
    with pytest.raises(WrongKey):
        await verify(tiny.again("writer"), Terms())
