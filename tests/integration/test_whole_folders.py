"""Whole folders: what a hand reads in one go is what a look at each name finds, and what is odd is not read so."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from dumont.repository.hands import ThreadHand
from dumont.repository.saving.intake import Job, start_saving
from dumont.repository.saving.memory import recall
from dumont.repository.saving.survey import Page
from dumont.repository.saving.walk import mark_of
from dumont.repository.saving.whole import ROOM_BYTES, FoldersRead, Reader, ReadFolders
from dumont.snapshot.chunk import chunk_id
from dumont.snapshot.index import RACY_NS
from dumont.snapshot.place import Place
from dumont.snapshot.tree import TOP, Tree
from tests.integration.archivist import scanned
from tests.integration.depot import Depot, settle, started
from tests.trees import torture

KEY = bytes(range(32))


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for folder in ("a/b", "empty", "c"):
        (source / folder).mkdir(parents=True)
    for number in range(40):
        (source / ("a", "a/b", "c", "")[number % 4] / f"{number}").write_bytes(bytes([number]) * number * 5_000)
    os.setxattr(source / "a/b/1", "user.note", b"kept")
    os.setxattr(source / "c", "user.note", b"kept too")
    settle()
    return source


def _reader(top: Path, racy_from_ns: int | None = None) -> Reader:
    racy_from_ns = time.time_ns() - RACY_NS if racy_from_ns is None else racy_from_ns
    return Reader(Place(top), KEY, memoryview(bytearray(ROOM_BYTES + 1)), racy_from_ns)


async def test_a_first_save_has_the_root_that_a_tree_put_together_otherwise_has(tmp_path: Path, source: Path):
    """The format says what a tree's root is; how a save comes by it must not show."""
    torture(source / "odd")
    settle()
    depot = await Depot.make(tmp_path / "depot")
    saved = await depot.save(source)
    assert saved.record.commit.root == scanned(source, depot.keys.chunk_key).root()
    assert saved.record.files == sum(len(names) for _, _, names in os.walk(source / "a")) + 20 + _odd_files(source)


def _odd_files(source: Path) -> int:
    found = (Path(top) / name for top, _, names in os.walk(source / "odd") for name in names)
    return sum(path.is_file() and not path.is_symlink() for path in found)


async def test_what_is_remembered_of_whole_folders_is_what_stands_on_disk(tmp_path: Path, source: Path):
    """The next save takes a file over by its marks: a wrong one hides a change, or costs a reading of everything."""
    depot = await Depot.make(tmp_path / "depot")
    await depot.save(source)
    memory = recall(depot.open(), bytes(source))
    assert memory is not None
    tree = scanned(source, depot.keys.chunk_key)
    assert {page.path for page in memory.pages} == {b"", b"a", b"a/b", b"c", b"empty"}
    for page in memory.pages:
        _compare(page, source, tree)


def _compare(page: Page, source: Path, tree: Tree) -> None:
    top = source / os.fsdecode(page.path)
    assert page.own == tree.get(page.path)
    assert page.names == sorted(os.listdir(os.fsencode(top)))
    assert page.marks == [mark_of(os.lstat(os.fsencode(top) + b"/" + name)) for name in page.names]
    above = page.path + b"/" if page.path else b""
    assert page.entries == [tree.get(above + name) for name in page.names]
    assert page.id == tree._id(page.path)


def test_a_whole_folder_is_the_object_that_a_tree_has_for_it(source: Path):
    """Byte for byte: the object's hash is what the folder above holds."""
    reader = _reader(source)
    (whole,) = reader.read([b"c"])
    tree = scanned(source, KEY)
    assert whole is not None
    assert whole.body == tree.directory_object(b"c")
    entry = tree.get(b"c/2")
    assert entry is not None
    assert entry.chunks[0] in reader.ids
    assert whole.own.xattrs


def _large(folder: Path) -> None:
    (folder / "odd").write_bytes(bytes([1]) * 2**20)


def _holed(folder: Path) -> None:
    with open(folder / "odd", "wb") as file:
        file.truncate(50_000)


def _linked(folder: Path) -> None:
    os.link(folder / "2", folder / "odd")


def _symlink(folder: Path) -> None:
    (folder / "odd").symlink_to("2")


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "odd")


def _crowd(folder: Path) -> None:
    for number in range(2_049):
        (folder / f"odd{number}").touch()


@pytest.mark.parametrize("make", [_large, _holed, _linked, _symlink, _fifo, _crowd])
def test_a_folder_with_something_odd_is_not_read_whole(source: Path, make: Callable[[Path], None]):
    """Each of these needs what only the look at each name does; and nothing read of the folder may be left over."""
    make(source / "c")
    settle()
    reader = _reader(source)
    before, odd, after = reader.read([b"a/b", b"c", b"empty"])
    assert before is not None
    assert odd is None
    assert after is not None
    assert sum(end - start for start, end in reader.ranges) == before.plain_bytes
    assert len(reader.ids) == len(reader.ranges)


def test_a_file_that_changed_a_moment_ago_is_not_taken_from_a_whole_folder(source: Path):
    """A change that follows within one tick of the clock would not show in its marks."""
    newest_ns = max(os.stat(source / "c" / name).st_ctime_ns for name in os.listdir(source / "c"))
    assert _reader(source, newest_ns).read([b"c"]) == [None]
    assert _reader(source, newest_ns + 1).read([b"c"]) != [None]


async def test_a_hand_asks_its_own_clock_too_what_changed_a_moment_ago(tmp_path: Path):
    """The save began by a clock that was set back since: what changes now looks older than its begin."""
    depot = await Depot.make(tmp_path / "depot")
    source = tmp_path / "source"
    source.mkdir()
    ahead_ns = time.time_ns() + 3600 * 10**9
    question = msgspec.msgpack.encode(ReadFolders([TOP], ahead_ns))
    async with started(lambda: ThreadHand(start_saving, depot.open().store), 1) as (hand,):
        await hand.ask(msgspec.msgpack.encode(Job(bytes(source), depot.keys, 2**20)))
        (source / "new").write_bytes(b"new")
        answer = msgspec.msgpack.decode(await hand.ask(question), type=FoldersRead)
        took_ns = time.time_ns() - os.stat(source / "new").st_ctime_ns
        assert answer.folders == [None] or took_ns > RACY_NS  # a machine this slow shows nothing
        settle()
        answer = msgspec.msgpack.decode(await hand.ask(question), type=FoldersRead)
        assert answer.folders != [None]


def test_what_does_not_fit_into_an_answer_is_left_for_the_next(tmp_path: Path):
    """A hand's memory is bounded, whatever the folders hold."""
    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
        for number in range(7 if folder == "two" else 3):
            (tmp_path / folder / str(number)).write_bytes(bytes([number]) * (2**20 - 1))
    (tmp_path / "two" / "more").write_bytes(b"x" * (2**20 - 1))
    settle()
    reader = _reader(tmp_path)
    (one,) = reader.read([b"one", b"two"])
    assert one is not None
    assert len(reader.ids) == len(reader.ranges) == 3 * 16
    (two,) = _reader(tmp_path).read([b"two", b"three"])
    assert two is not None


def test_a_folder_that_never_fits_is_looked_at_name_by_name(tmp_path: Path):
    """Else it would be asked for again for ever."""
    for number in range(9):
        (tmp_path / str(number)).write_bytes(bytes([number]) * (2**20 - 1))
    settle()
    assert _reader(tmp_path).read([TOP]) == [None]


def test_a_folder_that_has_gone_is_none(tmp_path: Path):
    """It went between the answer that named it and the question."""
    assert _reader(tmp_path).read([b"gone"]) == [None]


def test_ids_are_those_of_the_files_blocks(source: Path):
    """What the hand is told to keep are numbers into them."""
    reader = _reader(source)
    reader.read([b"c"])
    expected = []
    for name in sorted(os.listdir(source / "c")):
        data = (source / "c" / name).read_bytes()
        expected += [chunk_id(data[at : at + 2**16], KEY) for at in range(0, len(data), 2**16)]
    assert reader.ids == expected
