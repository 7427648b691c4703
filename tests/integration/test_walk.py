"""A walk by a process of its own: what it saw stands for a look only where nothing has changed since."""

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from dumont.repository.hands import Hand
from dumont.repository.progress import Progress
from dumont.repository.record import NOTHING_EXCLUDED, Exclusion
from dumont.repository.saving.memory import recall
from dumont.repository.saving.save import Draft, Saved, save
from dumont.repository.saving.walk import Glance, Walk, look_into, mark_of
from dumont.snapshot.place import Place
from tests.integration.archivist import scanned
from tests.integration.depot import Depot, settle
from tests.trees import torture


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    torture(source / "odd")
    for folder in ("a/b", "c", "empty"):
        (source / folder).mkdir(parents=True)
        (source / folder / "file").write_bytes(os.urandom(3_000))
    os.link(source / "a/b/file", source / "c/other name")
    settle()
    return source


def _save(depot: Depot, source: Path, walk: Walk | None) -> Saved:
    return asyncio.run(depot.save(source, draft=Draft(time.time_ns(), path=bytes(source), walk=walk)))


def test_another_process_sees_what_a_look_sees(source: Path):
    """A save takes its word for directories in which nothing has changed."""
    glances = Walk(source).glances()
    with Place(source) as place:
        for path, glance in glances.items():
            sight = look_into(place, path, None)
            assert (glance.own, glance.folders, glance.uncovered) == (sight.own, sight.folders, sight.uncovered)
            assert msgspec.msgpack.decode(glance.names) == sight.names
            assert msgspec.msgpack.decode(glance.marks) == [list(mark_of(look)) for look in sight.looks]
    assert set(glances) == {os.fsencode(os.path.relpath(top, source)) for top, _, _ in os.walk(source)} - {b"."} | {b""}


def test_a_save_after_a_walk_has_the_root_of_one_without(tmp_path: Path, source: Path):
    """Hard links over several directories, odd names and all: what is taken over must add up to the same tree."""
    depot = asyncio.run(Depot.make(tmp_path / "depot"))
    first = _save(depot, source, None)
    (source / "c" / "new").write_bytes(b"new")
    (source / "a" / "b" / "file").write_bytes(b"changed under both of its names")
    (source / "empty" / "file").unlink()
    settle()
    second = _save(depot, source, Walk(source))
    assert second.record.commit.root == scanned(source, depot.keys.chunk_key).root() != first.record.commit.root
    assert second.uncovered == first.uncovered
    assert (second.record.files, second.record.plain_bytes) == _counted(source)
    again = _save(depot, source, Walk(source))
    assert again.record.commit.root == second.record.commit.root and again.new_bytes == 0
    assert (again.record.files, again.record.plain_bytes) == _counted(source)


def _counted(source: Path) -> tuple[int, int]:
    files = [Path(top) / name for top, _, names in os.walk(source) for name in names]
    sizes = [path.lstat().st_size for path in files if path.is_file() and not path.is_symlink()]
    return len(sizes), sum(sizes)


def test_what_changes_after_the_walk_is_saved_where_another_look_is_taken(tmp_path: Path, source: Path):
    """A directory that was made meanwhile has no glance, and one that went has one too many."""
    depot = asyncio.run(Depot.make(tmp_path / "depot"))
    _save(depot, source, None)
    (source / "c" / "new").write_bytes(b"new")  # so that there is something to look at again
    glances = Walk(source).glances()
    assert b"c" in glances
    (source / "c" / "later").mkdir()
    (source / "c" / "later" / "file").write_bytes(b"later")
    settle()
    saved = _save(depot, source, _Seen(glances))
    assert saved.record.commit.root == scanned(source, depot.keys.chunk_key).root()


def test_what_is_left_out_is_left_out_by_the_walk_too(tmp_path: Path, source: Path):
    """Of a tree that was saved whole before, and whole again afterwards: what is remembered must not bring it back."""
    depot = asyncio.run(Depot.make(tmp_path / "depot"))
    whole = _save(depot, source, None)
    excluded = Exclusion((b"a/b", b"*/other name"))
    walk = Walk(source, excluded)
    less = Draft(time.time_ns(), path=bytes(source), walk=walk, excluded=excluded)
    kept = asyncio.run(depot.save(source, draft=less))
    fresh = asyncio.run(depot.save(source, depot.open("another machine"), replace(less, walk=None)))
    assert kept.record.commit.root == fresh.record.commit.root != whole.record.commit.root
    assert (kept.record.files, kept.record.plain_bytes) == (fresh.record.files, fresh.record.plain_bytes)
    assert _save(depot, source, Walk(source)).record.commit.root == whole.record.commit.root
    with pytest.raises(AssertionError, match="a walk sees what the save is to hold"):
        asyncio.run(depot.save(source, draft=replace(less, walk=_Seen({}))))


class _Seen(Walk):
    """A walk that ended a while ago."""

    def __init__(self, glances: dict[bytes, Glance]) -> None:
        self.exclusion = NOTHING_EXCLUDED
        self._glances = glances

    def glances(self) -> dict[bytes, Glance]:
        return self._glances


def test_a_false_glance_would_hide_a_change(tmp_path: Path, source: Path):
    """The negative control: the comparison with what is remembered is all that tells a change."""
    depot = asyncio.run(Depot.make(tmp_path / "depot"))
    _save(depot, source, None)
    stale = Walk(source).glances()
    (source / "c" / "file").write_bytes(b"changed")
    settle()
    hidden = _save(depot, source, _Seen(stale))
    assert hidden.record.commit.root != scanned(source, depot.keys.chunk_key).root()
    seen = _save(depot, source, Walk(source))
    assert seen.record.commit.root == scanned(source, depot.keys.chunk_key).root()


def test_a_walk_that_is_killed_costs_time_and_nothing_else(tmp_path: Path, source: Path):
    """It may be ended by a person or for want of memory, in the middle of an answer."""
    depot = asyncio.run(Depot.make(tmp_path / "depot"))
    _save(depot, source, None)
    (source / "c" / "new").write_bytes(b"new")
    settle()
    walk = Walk(source)
    os.kill(walk._errand._pid, signal.SIGKILL)
    saved = _save(depot, source, walk)
    assert saved.record.commit.root == scanned(source, depot.keys.chunk_key).root()


def test_a_walk_that_nobody_wants_ends(source: Path):
    """A tree of millions of names must not be walked on for a program that has gone on or ended."""
    walk = Walk(source)
    walk.stop()
    with pytest.raises(ChildProcessError):
        os.waitpid(walk._errand._pid, 0)


class _Idle(Hand):
    """A hand that says that it is needed."""

    async def ask(self, message: bytes) -> bytes:
        raise AssertionError("there was nothing to read")

    async def close(self) -> None:
        """There is nothing to end."""


def test_a_save_without_changes_needs_no_hands_and_rewrites_no_memory(tmp_path: Path, source: Path):
    """It is what is done most often: nothing may begin for it, and what is remembered stays as it is."""
    depot = asyncio.run(Depot.make(tmp_path / "depot"))
    _save(depot, source, None)
    _save(depot, source, Walk(source))
    repo = depot.open()
    before = {path.name: path.stat().st_ino for path in repo.cache.directory.iterdir()}
    draft = Draft(time.time_ns(), path=bytes(source), walk=Walk(source))
    saved = asyncio.run(save(repo, source, draft, [_Idle(), _Idle()], Progress()))
    assert saved.record.commit.root == scanned(source, depot.keys.chunk_key).root()
    assert {path.name: path.stat().st_ino for path in repo.cache.directory.iterdir()} == before
    (source / "c" / "new").write_bytes(b"new")
    with pytest.raises(AssertionError, match="nothing to read"):
        asyncio.run(save(depot.open(), source, replace(draft, walk=None), [_Idle()], Progress()))


def test_what_changed_only_in_its_attributes_is_remembered(tmp_path: Path, source: Path):
    """Else each further save would read it again."""
    depot = asyncio.run(Depot.make(tmp_path / "depot"))
    _save(depot, source, None)
    os.utime(source / "c" / "file")
    settle()
    _save(depot, source, Walk(source))
    memory = recall(depot.open(), bytes(source))
    assert memory is not None
    (page,) = [page for page in memory.pages if page.path == b"c"]
    assert page.marks == [mark_of(os.lstat(source / "c" / os.fsdecode(name))) for name in page.names]
