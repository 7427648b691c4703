"""Restoring onto something: what is right stays, what differs is fetched, what is too much goes."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from dumont.demo.walker import describe, differences
from dumont.errors import StoreError
from dumont.repository.restoring.restore import Wanted
from dumont.store.memory import MemoryStore
from tests.integration.archivist import Archivist, archive, new_repository
from tests.integration.returning import Spoilt, bring_back, left_over
from tests.trees import Operation, add_a_socket, change, nobody, operations, torture


def spoil(copy: Path, outside: Path) -> None:
    """Everything that may have become of a tree since."""
    about = (copy / "block").stat()
    (copy / "block").write_bytes(b"?" * about.st_size)
    os.utime(copy / "block", ns=(about.st_atime_ns, about.st_mtime_ns))
    with (copy / "large").open("r+b") as file:
        file.seek(5 * 2**20)
        file.write(b"changed")
    with (copy / "more").open("ab") as file:
        file.write(b"appended")
    (copy / "zeros").unlink()
    (copy / "extra" / "deep").mkdir(parents=True)
    (copy / "extra" / "deep" / "file").touch()
    (copy / "extra" / "door").symlink_to(outside)
    shutil.rmtree(copy / "deep" / "er")
    (copy / "deep" / "er").symlink_to(outside)
    (copy / "nothing").unlink()
    (copy / "nothing" / "now a directory").mkdir(parents=True)
    shutil.rmtree(copy / "empty directory")
    (copy / "empty directory").write_bytes(b"now a file")
    (copy / "one").chmod(0o600)
    os.setxattr(copy / "one", "user.more", b"x")
    (copy / "twin 1").unlink()
    (copy / "twin 1").write_bytes(b"one inode")
    os.link(copy / "setuid", copy / "another name")
    os.link(copy / ("long" * 63), outside / "name outside")
    (copy / ("long" * 63)).chmod(0o777)
    (copy / "holes").write_bytes((copy / "holes").read_bytes())
    (copy / "dangling").unlink()
    (copy / "dangling").symlink_to("elsewhere")
    (copy / "fifo").unlink()
    add_a_socket(copy / "fifo")


async def test_whatever_became_of_a_tree_it_is_made_right(short_dir: Path) -> None:
    """A restore that leaves one byte of today in the tree of yesterday is worse than none."""
    torture(short_dir / "tree")
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), short_dir / "tree")
    copy, outside = short_dir / "copy", short_dir / "outside"
    outside.mkdir()
    await bring_back(repository, record, copy)
    spoil(copy, outside)
    assert differences(describe(short_dir / "tree"), describe(copy)) != []
    mode_outside = (outside / "name outside").stat().st_mode
    restored = await bring_back(repository, record, copy)
    assert differences(describe(short_dir / "tree"), describe(copy)) == []
    assert [path.name for path in outside.iterdir()] == ["name outside"]
    assert (outside / "name outside").stat().st_mode == mode_outside
    assert restored.fetched_bytes < 5 * 2**20


async def test_what_is_right_is_neither_fetched_nor_touched(tmp_path: Path) -> None:
    """Running a restore again costs reading, and no traffic; nobody's open file is replaced."""
    torture(tmp_path / "tree")
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), tmp_path / "tree")
    await bring_back(repository, record, tmp_path / "copy")
    before = {path: os.lstat(path).st_ino for path in (tmp_path / "copy").rglob("*")}
    restored = await bring_back(repository, record, tmp_path / "copy")
    assert {path: os.lstat(path).st_ino for path in (tmp_path / "copy").rglob("*")} == before
    assert restored.fetched_bytes < 10_000  # directories
    assert differences(describe(tmp_path / "tree"), describe(tmp_path / "copy")) == []


async def test_what_the_commit_lacks_may_stay(tmp_path: Path) -> None:
    """Where somebody asks for it."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x")
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), tmp_path / "tree")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine").touch()
    await bring_back(repository, record, tmp_path / "copy", Wanted(keep_extra=True))
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["file", "mine"]
    await bring_back(repository, record, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["file"]


async def test_an_ordinary_user_restores_what_is_read_only(short_dir: Path) -> None:
    """Module caches are made of read-only directories; their owner may still replace them, and so must we."""
    short_dir.chmod(0o777)
    with nobody():
        for name, content in (("a", b"first"), ("b", b"second, longer")):
            (short_dir / name / "cache" / "deep").mkdir(parents=True)
            (short_dir / name / "cache" / "deep" / "file").write_bytes(content)
            os.setxattr(short_dir / name / "cache" / "deep" / "file", "user.x", content)
            for path, mode in (("cache/deep/file", 0o444), ("cache/deep", 0o555), ("cache", 0o500)):
                (short_dir / name / path).chmod(mode)
        repository = await new_repository(MemoryStore())
        record = await archive(Archivist(repository), short_dir / "a")
        restored = await bring_back(repository, record, short_dir / "b")
        await bring_back(repository, record, short_dir / "new")
        expected = describe(short_dir / "a")
        assert differences(expected, describe(short_dir / "b")) == []
        assert differences(expected, describe(short_dir / "new")) == []
    assert not restored.owners


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations, operations)
def test_any_tree_becomes_any_other(first: list[Operation], second: list[Operation]) -> None:
    """Nobody can list what trees may differ in."""
    parent = Path(tempfile.mkdtemp(prefix="dt-"))
    try:
        (parent / "tree").mkdir()
        (parent / "copy").mkdir()
        change(parent / "tree", first)
        change(parent / "copy", first[::2] + second)

        async def run() -> None:
            repository = await new_repository(MemoryStore())
            record = await archive(Archivist(repository, frame_bytes=100_000), parent / "tree")
            await bring_back(repository, record, parent / "copy")

        asyncio.run(run())
        assert differences(describe(parent / "tree"), describe(parent / "copy")) == []
    finally:
        shutil.rmtree(parent)


@pytest.mark.parametrize("reads", [3, 6, 9, 14])
async def test_a_restore_that_broke_off_is_gone_on_with(tmp_path: Path, reads: int) -> None:
    """Whatever stands under its final name is whole, and what is there is not fetched again."""
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    tree.mkdir()
    for number in range(6):
        (tree / f"small {number}").write_bytes(os.urandom(50_000))
        (tree / f"large {number}").write_bytes(os.urandom(3 * 2**20))
    store = Spoilt()
    repository = await new_repository(store)
    record = await archive(Archivist(repository), tree)
    await repository.learn(await repository.look())
    store.reads_left = reads
    with contextlib.suppress(StoreError):
        await bring_back(repository, record, copy)
    assert left_over(tmp_path) == []
    there = {path.name for path in copy.iterdir() if path.is_file()} if copy.exists() else set()
    assert all((copy / name).read_bytes() == (tree / name).read_bytes() for name in there)
    store.reads_left = None
    restored = await bring_back(repository, record, copy)
    assert differences(describe(tree), describe(copy)) == []
    missing = sum(path.stat().st_size for path in tree.iterdir() if path.name not in there)
    assert restored.fetched_bytes < missing + 2**20 + 10_000


async def test_a_restore_that_is_cancelled_leaves_whole_files_only(tmp_path: Path) -> None:
    """Ctrl-C at any time is as good as a power cut."""
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    tree.mkdir()
    for number in range(8):
        (tree / f"{number}").write_bytes(os.urandom(2 * 2**20))
    store = Spoilt()
    repository = await new_repository(store)
    record = await archive(Archivist(repository), tree)

    class Interrupting(Spoilt):
        async def get_range(self, key: str, start: int, length: int) -> bytes:
            if key.startswith("packs/") and length > 2**20:
                restoring.cancel()
            return await store.get_range(key, start, length)

    repository.store = Interrupting()
    repository.store._objects = store._objects
    restoring = asyncio.ensure_future(bring_back(repository, record, copy))
    with pytest.raises(asyncio.CancelledError):
        await restoring
    assert left_over(tmp_path) == []
    assert all(path.read_bytes() == (tree / path.name).read_bytes() for path in copy.iterdir())


async def test_what_a_killed_run_left_aside_is_removed_and_a_living_one_is_left_alone(tmp_path: Path) -> None:
    """Otherwise each kill would cost disk for good; and two runs must not take away each other's files."""
    (tmp_path / "tree").mkdir()
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), tmp_path / "tree")
    dead, living, other, strange = (
        tmp_path / f".{name}.restoring-{rest}"
        for name, rest in (("copy", "0" * 32), ("copy", "1" * 32), ("other", "2" * 32), ("copy", "my notes"))
    )
    for path in (dead, living, other, strange):
        (path / "shared").mkdir(parents=True)
        (path / "shared" / "file").touch()
    fd = os.open(living, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    try:
        await bring_back(repository, record, tmp_path / "copy")
    finally:
        os.close(fd)
    assert [path.exists() for path in (dead, living, other, strange)] == [False, True, True, True]
