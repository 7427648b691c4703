"""Labels, what commits hold, and how they differ."""

import asyncio

import pytest

from dumont.errors import BadInput, NotStored
from dumont.model.commit import CommitId
from dumont.repository.repository import Repository
from dumont.repository.upkeep.browse import entries_at, find_commit, rows
from dumont.repository.upkeep.compare import Difference, compare
from dumont.repository.upkeep.forget import forget, forget_by_policy
from dumont.repository.upkeep.labels import label
from dumont.repository.upkeep.retention import Policy
from dumont.store.base import Data
from tests.unit.tiny_repository import OpenStore, TinyRepository

A, B, C = (bytes([letter]) * 100 for letter in b"abc")


async def learned(tiny: TinyRepository) -> Repository:
    repo = tiny.again()
    await repo.learn(await repo.look())
    return repo


async def test_the_last_label_counts() -> None:
    """A name can be given, changed and taken away; what is not said stays as it was."""
    tiny = await TinyRepository.make()
    saved = await tiny.save({b"a": [A]}, tags=("x",))
    id = saved.commit.id
    await label(tiny.again(), id, name="first")
    await label(tiny.again(), id, tags=("y", "z"))
    [row] = await rows(tiny.again())
    assert (row.name, row.tags) == ("first", ("y", "z"))
    await label(tiny.again(), id, name="")
    [row] = await rows(tiny.again())
    assert (row.name, row.tags) == ("", ("y", "z"))
    assert len([key for key in tiny.store.objects if key.startswith("state/labels/")]) == 1


async def test_two_who_label_at_once_lose_nothing_of_each_other() -> None:
    """One gives a name, the other tags: both are there at last."""
    tiny = await TinyRepository.make()
    id = (await tiny.save({b"a": [A]})).commit.id
    await asyncio.gather(label(tiny.again(), id, name="kept"), label(tiny.again(), id, tags=("t",)))
    [row] = await rows(tiny.again())
    assert (row.name, row.tags) == ("kept", ("t",))


async def test_a_label_that_comes_late_is_said_again() -> None:
    """Its number may be free again, below one that counts."""
    tiny = await TinyRepository.make()
    id = (await tiny.save({b"a": [A]})).commit.id

    class Late(OpenStore):
        async def put(self, key: str, data: Data) -> None:
            if key.endswith("000001"):
                for name in ("second", "third"):
                    await label(tiny.again(), id, name=name)
            await super().put(key, data)

    late = tiny.again()
    late.store = Late()
    late.store.objects = tiny.store.objects
    await label(late, id, tags=("late",))
    [row] = await rows(tiny.again())
    assert (row.name, row.tags) == ("third", ("late",))


async def test_a_name_is_one_commits_and_makes_sense() -> None:
    """Restoring by name must mean one thing."""
    tiny = await TinyRepository.make()
    first, second = (await tiny.save({b"a": [A]})).commit.id, (await tiny.save({b"b": [B]})).commit.id
    await label(tiny.again(), first, name="release")
    for name in ("release", "two\nlines", " padded", "a,b", "x" * 200):
        with pytest.raises(BadInput):
            await label(tiny.again(), second, name=name)
    with pytest.raises(NotStored):
        await label(tiny.again(), CommitId(0, 9), name="other")


async def test_a_name_given_later_keeps_for_ever_and_forgetting_takes_labels_along() -> None:
    """Else the next night's policy would forget what somebody has just named."""
    tiny = await TinyRepository.make()
    ids = [(await tiny.save({b"a": [A], b"n%d" % number: [B]})).commit.id for number in range(4)]
    await label(tiny.again(), ids[1], name="release")
    await label(tiny.again(), ids[0], tags=("t",))
    would = await forget_by_policy(tiny.again(), Policy(last=1), tiny.now_s, dry_run=True)
    assert [record.commit.id for record in would.forgotten] == [ids[0], ids[2]]
    await forget_by_policy(tiny.again(), Policy(last=1), tiny.now_s)
    assert [row.id for row in await rows(tiny.again())] == [ids[1], ids[3]]
    assert len([key for key in tiny.store.objects if key.startswith("state/labels/")]) == 1


async def test_the_newest_is_not_forgotten_by_a_slip() -> None:
    """Nor is anything else of that call."""
    tiny = await TinyRepository.make()
    ids = [(await tiny.save({b"a": [A], b"n%d" % number: [B]})).commit.id for number in range(2)]
    with pytest.raises(BadInput, match="even-last"):
        await forget(tiny.again(), ids)
    assert len(await rows(tiny.again())) == 2
    await forget(tiny.again(), ids, even_last=True)
    assert await rows(tiny.again()) == []


async def test_a_commit_is_found_by_number_name_or_as_the_latest() -> None:
    """As people name it."""
    tiny = await TinyRepository.make()
    first, second = await tiny.save({b"a": [A]}, name="release"), await tiny.save({b"b": [B]})
    for text, record in (("latest", second), ("release", first), ("0.1", first), ("2", second)):
        assert (await find_commit(tiny.again(), text)).commit == record.commit
    for text, error in (("9", NotStored), ("nothing", BadInput)):
        with pytest.raises(error):
            await find_commit(tiny.again(), text)


async def test_a_directory_of_a_commit_is_listed() -> None:
    """Reading only what lies on the way."""
    tiny = await TinyRepository.make()
    root = (await tiny.save({b"a": [A], b"d/b": [B, A], b"d/c": [C]})).commit.root
    repo = await learned(tiny)
    assert [path for path, _ in await entries_at(repo, root, b"")] == [b"a", b"d"]
    assert [(path, entry.size) for path, entry in await entries_at(repo, root, b"d")] == [(b"d/b", 200), (b"d/c", 100)]
    assert [path for path, _ in await entries_at(repo, root, b"d/b")] == [b"d/b"]
    for path in (b"x", b"a/b", b"d/x/y"):
        with pytest.raises(NotStored):
            await entries_at(repo, root, path)
    with pytest.raises(BadInput):
        await entries_at(repo, root, b"../x")


async def test_differences_are_told_apart() -> None:
    """Added, removed, changed and renamed, with what it weighs."""
    tiny = await TinyRepository.make()
    before = await tiny.save({b"same/x": [A], b"d/gone": [B], b"d/changed": [A], b"d/old": [C, C]})
    after = await tiny.save({b"same/x": [A], b"d/new": [A, B], b"d/changed": [C], b"e/moved": [C, C]})
    found = await compare(await learned(tiny), before.commit.root, after.commit.root)
    assert [(one.difference, one.path, one.old_path) for one in found.differing] == [
        (Difference.CONTENT, b"d/changed", b""),
        (Difference.REMOVED, b"d/gone", b""),
        (Difference.ADDED, b"d/new", b""),
        (Difference.ADDED, b"e", b""),
        (Difference.RENAMED, b"e/moved", b"d/old"),
    ]
    assert (found.added_bytes, found.removed_bytes, found.changed_bytes) == (200, 100, 100)
    assert not (await compare(await learned(tiny), after.commit.root, after.commit.root)).differing


async def test_equal_directories_are_not_read() -> None:
    """A comparison of two commits costs what differs."""
    tiny = await TinyRepository.make()
    before = await tiny.save({b"same/x": [A], b"d/a": [B]})
    after = await tiny.save({b"same/x": [A], b"d/a": [C]})
    repo = await learned(tiny)
    same = tiny.tree({b"x": [A]})[0].directory_object(b"")
    spot = repo.catalogue.find(tiny.tree({b"same/x": [A]})[0]._id(b"same"))
    assert spot is not None and same
    key = f"packs/{spot[0].name[:2]}/{spot[0].name}"
    body = bytearray(tiny.store.objects[key])
    body[spot[0].frames[spot[1]].offset] ^= 1
    tiny.store.objects[key] = bytes(body)
    found = await compare(repo, before.commit.root, after.commit.root)
    assert [one.path for one in found.differing] == [b"d/a"]
