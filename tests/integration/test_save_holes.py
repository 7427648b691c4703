"""Holes: a save sees them in files of any size, a restore brings them back, and neither stores nor writes them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dumont.snapshot.chunk import data_ranges, has_hole
from tests.integration.depot import Depot, same_tree, settle

PAGE = 4096


def write(path: Path, size: int, *pages: int) -> None:
    """A file with data in those pages, and nothing where no page is."""
    with path.open("wb") as file:
        for page in pages:
            os.pwrite(file.fileno(), os.urandom(PAGE), page * PAGE)
        os.ftruncate(file.fileno(), size)
        os.fsync(file.fileno())


def holes(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        return has_hole(data_ranges(fd, size), size)
    finally:
        os.close(fd)


def allotted(path: Path) -> int:
    return path.stat().st_blocks * 512


def has_room(path: Path, length: int) -> None:
    """Reserve room beyond the end, where the file system can."""
    subprocess.run(["fallocate", "--keep-size", "--offset", "0", "--length", str(length), path], check=False)


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    write(tree / "probe", 2 * PAGE, 1)
    if not holes(tree / "probe"):
        pytest.skip("this file system knows no holes")
    return tree


async def test_small_files_come_back_with_their_holes(tmp_path: Path, tree: Path) -> None:
    """A thousand small databases with holes may need a disk that they did not fill before."""
    write(tree / "begin", 100_000, 20)
    write(tree / "middle", 40 * PAGE, 0, 39)
    write(tree / "end", 10 * PAGE + 1, 0)
    write(tree / "nothing", 500_000)
    write(tree / "one page", 3 * PAGE, 0, 2)
    os.setxattr(tree / "one page", "user.large", os.urandom(1500))
    (tree / "deep").mkdir()
    write(tree / "deep" / "just below a large one", 2**20 - 1, 200)
    write(tree / "large", 3 * 2**20, 0, 500)
    (tree / "whole").write_bytes(os.urandom(50_000))
    settle()
    depot = await Depot.make(tmp_path / "depot")
    saved = await depot.save(tree)
    await depot.restore(saved.record, tmp_path / "copy")
    assert same_tree(tree, tmp_path / "copy")
    for path in (path for path in tree.rglob("*") if path.is_file()):
        copy = tmp_path / "copy" / path.relative_to(tree)
        assert holes(copy) == holes(path) == (path.name != "whole"), path.name
        assert allotted(copy) <= allotted(path) + PAGE, path.name  # attributes may need a page of their own
    assert (tmp_path / "copy" / "nothing").stat().st_blocks == 0
    assert saved.new_bytes < 50_000 + 10 * 2**16 and saved.stored_bytes < 50_000 + 11 * PAGE + 20_000


async def test_a_hole_that_room_beyond_the_end_makes_up_for_is_seen(tmp_path: Path, tree: Path) -> None:
    """As databases and downloads reserve room; by its size and its blocks such a file looks ordinary."""
    write(tree / "reserved", 30 * PAGE, 0)
    has_room(tree / "reserved", 200 * PAGE)
    subprocess.run(
        ["fallocate", "--punch-hole", "--offset", str(4 * PAGE), "--length", str(20 * PAGE), tree / "reserved"],
        check=False,
    )
    (tree / "reserved").read_bytes()  # what was reserved and is read is called data; a hole remains one
    settle()
    if allotted(tree / "reserved") <= 30 * PAGE or not holes(tree / "reserved"):
        pytest.skip("this file system reserves no room")
    depot = await Depot.make(tmp_path / "depot")
    saved = await depot.save(tree)
    await depot.restore(saved.record, tmp_path / "copy")
    assert holes(tmp_path / "copy" / "reserved")
    assert allotted(tmp_path / "copy" / "reserved") <= 10 * PAGE


async def test_such_holes_are_seen_when_a_file_of_a_known_folder_changes(tmp_path: Path, tree: Path) -> None:
    """Later saves look name by name, and the workers read files without their folders."""
    write(tree / "file", 3 * PAGE, 0, 1, 2)
    settle()
    depot = await Depot.make(tmp_path / "depot")
    await depot.save(tree)
    write(tree / "file", 3 * PAGE, 0, 2)
    os.setxattr(tree / "file", "user.large", os.urandom(1500))
    (tree / "another").write_bytes(b"ordinary")
    settle()
    saved = await depot.save(tree)
    await depot.restore(saved.record, tmp_path / "copy")
    assert same_tree(tree, tmp_path / "copy")
    assert holes(tmp_path / "copy" / "file")


async def test_what_stands_with_its_room_taken_gets_its_holes_back(tmp_path: Path, tree: Path) -> None:
    """A copy by hand has filled them; the bytes are right, and the disk is not."""
    write(tree / "small", 300_000, 30)
    write(tree / "large", 3 * 2**20, 100)
    settle()
    depot = await Depot.make(tmp_path / "depot")
    saved = await depot.save(tree)
    shutil.copytree(tree, tmp_path / "copy")
    for name in ("small", "large"):
        (tmp_path / "copy" / name).write_bytes((tree / name).read_bytes())
    assert not holes(tmp_path / "copy" / "large")
    restored = await depot.restore(saved.record, tmp_path / "copy")
    assert same_tree(tree, tmp_path / "copy")
    assert allotted(tmp_path / "copy" / "large") == allotted(tree / "large")
    assert restored.fetched_bytes < 10_000


async def test_what_was_reserved_and_never_written_reads_as_zeros_afterwards(tmp_path: Path, tree: Path) -> None:
    """Whatever becomes of its room, its bytes are right; a small one keeps its room, as the documentation says."""
    for name, size in (("small", 100 * PAGE), ("large", 800 * PAGE)):
        with (tree / name).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
            os.pwrite(file.fileno(), b"x" * PAGE, 0)
            os.fsync(file.fileno())
    settle()
    depot = await Depot.make(tmp_path / "depot")
    saved = await depot.save(tree)
    await depot.restore(saved.record, tmp_path / "copy")
    for name in ("small", "large"):
        assert (tmp_path / "copy" / name).read_bytes() == (tree / name).read_bytes()
    assert allotted(tmp_path / "copy" / "small") == 100 * PAGE
    assert saved.stored_bytes < 20_000
