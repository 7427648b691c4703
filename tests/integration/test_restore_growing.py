"""Restoring onto nothing: a tree grows aside and is moved in, and whoever meddles with it gains nothing."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dumont.demo.walker import describe, differences
from dumont.errors import Corrupt, DumontError, StoreError
from dumont.model.commit import Entry, Kind
from dumont.repository.progress import Progress
from dumont.repository.restoring.crew import to_the_end
from dumont.repository.restoring.restore import Wanted
from dumont.repository.restoring.route import Batch, Making
from dumont.snapshot.place import Place
from dumont.store.directory import DirectoryStore
from dumont.store.memory import MemoryStore
from tests.integration.archivist import Archivist, archive, new_repository
from tests.integration.returning import Spoilt, bring_back, left_over

_watched: list[list[str]] = []
sys.addaudithook(lambda event, _: _watched[-1].append(event) if _watched and event.startswith("os.") else None)


def growing(top: Path) -> Path:
    """The tree that grows for the target `top / "copy"`."""
    (aside,) = top.glob(".copy.restoring-*")
    return aside / "tree"


def small_tree(top: Path) -> Path:
    """A tree of small files in directories, one of them open to nobody."""
    tree = top / "tree"
    for path in ("top", "door/file", "door/deep/er/file", "closed/file", "door/twin"):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(path.encode() * 100)
    os.link(tree / "door/twin", tree / "closed/twin")
    (tree / "closed").chmod(0o000)
    return tree


async def meddled(top: Path, meddle: Callable[[], None]) -> None:
    """Restore the small tree to `copy` while `meddle` is done before its first file is made."""
    tree = small_tree(top)
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), tree)
    reads = 0

    class Watched(Spoilt):
        async def get_range(self, key: str, start: int, length: int) -> bytes:
            nonlocal reads
            if list(top.glob(".copy.restoring-*/tree/door")):  # directory objects are read before
                reads += 1
                if reads == 1:
                    meddle()
            return await super().get_range(key, start, length)

    store = Watched()
    store._objects = repository.store._objects  # type: ignore[attr-defined]
    repository.store = store
    await bring_back(repository, record, top / "copy")
    assert reads


async def test_small_files_need_no_rename_of_their_own(tmp_path: Path) -> None:
    """There may be a hundred thousand of them; what has several names is put in place by itself."""
    tree = tmp_path / "tree"
    for number in range(300):
        (tree / f"{number % 7}/{number % 3}").mkdir(parents=True, exist_ok=True)
        (tree / f"{number % 7}/{number % 3}/{number}").write_bytes(b"x" * number)
    (tree / "large").write_bytes(os.urandom(2 * 2**20))
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), tree)
    _watched.append([])
    try:
        await bring_back(repository, record, tmp_path / "copy")
    finally:
        events = _watched.pop()
    assert differences(describe(tree), describe(tmp_path / "copy")) == []
    assert events.count("os.rename") == 8
    (tmp_path / "copy" / "large").unlink()
    _watched.append([])
    try:
        await bring_back(repository, record, tmp_path / "copy")
    finally:
        events = _watched.pop()
    assert events.count("os.rename") == 1, "onto a tree that is there, only what lacks"


def test_only_what_grows_takes_more_files() -> None:
    """A hand remembers each file of a later batch until it is durable, and has a budget for that."""
    batch = Batch(5, 2, 2**30)
    making = Making(0, Entry(Kind.FILE, 0o644, 0, 0, 0), b"a")
    assert [batch.note([making]) for _ in range(10)] == [0] * 5 + [1] * 2 + [2] * 2 + [3]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o027, 0o000])
async def test_modes_come_back_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Where a mode survives the umask, a directory is made with it; others are given it afterwards."""
    tree = tmp_path / "tree"
    for mode in (0o700, 0o711, 0o755, 0o750, 0o777, 0o2775, 0o1777, 0o500, 0o000):
        (tree / f"{mode:o}" / "below").mkdir(parents=True)
        (tree / f"{mode:o}" / "file").write_bytes(b"x")
        (tree / f"{mode:o}" / "file").chmod(mode & 0o777)
        (tree / f"{mode:o}").chmod(mode)
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), tree)
    before = os.umask(umask)
    try:
        await bring_back(repository, record, tmp_path / "copy")
    finally:
        os.umask(before)
    assert differences(describe(tree), describe(tmp_path / "copy")) == []


@pytest.mark.parametrize("reads", range(4))
async def test_what_is_broken_off_leaves_nothing_half_done(tmp_path: Path, reads: int) -> None:
    """Until all small files are whole, the target holds none of them; and the same command goes on."""
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    for number in range(9):
        (tree / "d" / str(number)).write_bytes(os.urandom(900_000))
    store = Spoilt()
    repository = await new_repository(store)
    record = await archive(Archivist(repository, pack_bytes=2**20), tree)
    await bring_back(repository, record, tmp_path / "first")  # what the index says is known now
    store.reads_left = reads
    with pytest.raises(StoreError):
        await bring_back(repository, record, tmp_path / "copy")
    assert not (tmp_path / "copy").exists() or list((tmp_path / "copy").iterdir()) == []
    assert left_over(tmp_path) == []
    store.reads_left = None
    await bring_back(repository, record, tmp_path / "copy")
    assert differences(describe(tree), describe(tmp_path / "copy")) == []


async def test_nothing_meddled_is_the_control(tmp_path: Path) -> None:
    """Negative control of those below: without anybody's meddling the same restore succeeds."""
    await meddled(tmp_path, lambda: None)
    (tmp_path / "tree" / "closed").chmod(0o700)
    (tmp_path / "copy" / "closed").chmod(0o700)
    assert (tmp_path / "copy/closed/twin").stat().st_ino == (tmp_path / "copy/door/twin").stat().st_ino
    assert (tmp_path / "copy/door/deep/er/file").read_bytes() == b"door/deep/er/file" * 100


async def test_a_symlink_in_place_of_a_directory_that_grows_leads_nowhere(tmp_path: Path) -> None:
    """Only we may write there, but whoever else is root or us may be wrong too."""
    outside = tmp_path / "outside"
    outside.mkdir()

    def swap() -> None:
        door = growing(tmp_path) / "door"
        door.rename(tmp_path / "moved")
        door.symlink_to(outside)
        (outside / "probe").write_bytes(b"")
        assert (door / "probe").exists(), "control: a path that is simply followed does lead there"
        (outside / "probe").unlink()

    with pytest.raises(DumontError):
        await meddled(tmp_path, swap)
    assert list(outside.iterdir()) == []
    assert list((tmp_path / "copy").iterdir()) == []
    assert left_over(tmp_path) == []


async def test_a_symlink_in_place_of_a_file_that_grows_is_not_written_through(tmp_path: Path) -> None:
    """A name that is taken in the growing tree is no name for us."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    with pytest.raises(DumontError):
        await meddled(tmp_path, lambda: (growing(tmp_path) / "door" / "file").symlink_to(outside))
    assert outside.read_bytes() == b"mine"
    assert list((tmp_path / "copy").iterdir()) == []


@pytest.mark.parametrize("as_directory", [True, False])
async def test_what_somebody_puts_into_the_empty_target_meanwhile_stays(tmp_path: Path, as_directory: bool) -> None:
    """It was empty when we looked: what came since is not ours to replace."""
    door = tmp_path / "copy" / "door"

    def put() -> None:
        if as_directory:
            door.mkdir()
            (door / "mine").write_bytes(b"mine")
        else:
            door.write_bytes(b"mine")

    with pytest.raises(Corrupt, match="somebody else works"):
        await meddled(tmp_path, put)
    assert (door / "mine" if as_directory else door).read_bytes() == b"mine"
    assert left_over(tmp_path) == []


async def test_what_a_killed_run_left_growing_is_removed_without_following_it(tmp_path: Path) -> None:
    """It holds the tree as far as it came, and perhaps symlinks of that."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_bytes(b"mine")
    left = tmp_path / f".copy.restoring-{'a' * 32}" / "tree" / "deep" / "er"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"ha")
    (left / "way").symlink_to(outside)
    await meddled(tmp_path, lambda: None)
    assert left_over(tmp_path) == []
    assert (outside / "mine").read_bytes() == b"mine"


@pytest.mark.parametrize("spoil", [False, True])
async def test_large_files_that_are_begun_early_are_right_too(tmp_path: Path, spoil: bool) -> None:
    """While small files are planned, hands take large ones; a pack that is broken counts for those as well."""
    tree = tmp_path / "tree"
    for number in range(3_100):
        (tree / f"{number % 40}").mkdir(parents=True, exist_ok=True)
        (tree / f"{number % 40}" / f"{number}").write_bytes(b"%d" % number)
    for name in ("a", "b"):
        (tree / "1" / name).write_bytes(os.urandom(7 * 2**20))
    (tmp_path / "store").mkdir()
    repository = await new_repository(DirectoryStore(tmp_path / "store"))
    archivist = Archivist(repository)
    await archive(archivist, tree, seq=1)
    record = await archive(Archivist(repository), tree, seq=2)
    if spoil:
        for pack in archivist.packs:
            path = tmp_path / "store" / "packs" / pack.name[:2] / pack.name
            body = bytearray(path.read_bytes())
            for frame in pack.frames:
                body[frame.offset + 5] ^= 1 if frame.kind == 0 else 0
            path.write_bytes(body)
    wanted = Wanted(progress=Progress())
    await bring_back(repository, record, tmp_path / "copy", wanted)
    assert differences(describe(tree), describe(tmp_path / "copy")) == []
    assert wanted.progress.done_files == 3_102
    assert wanted.progress.done_bytes == wanted.progress.total_bytes


async def test_whoever_is_cancelled_waits_for_its_thread() -> None:
    """The thread holds open directories: were they closed, it would work in others that get their numbers."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait()
        ended.set()

    task = asyncio.create_task(to_the_end(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


def test_a_place_opens_what_is_deeper_than_it_keeps_open(tmp_path: Path) -> None:
    """Directories on the way are kept, the oldest of them let go."""
    deep = tmp_path.joinpath(*["d"] * 150)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")
    path = b"/".join([b"d"] * 150)
    with Place(tmp_path) as place:
        for _ in range(2):
            assert os.listdir(place.directory(path)) == ["file"]
            assert os.listdir(place.directory(path[:1])) == ["d"]
        assert len(place._directories) <= 64
