"""What is restored is what was stored: onto nothing, onto something, and only a part of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dumont.demo.walker import describe, differences
from dumont.errors import BadInput
from dumont.repository.blocks import read_file
from dumont.repository.hands import ThreadHand
from dumont.repository.progress import Progress
from dumont.repository.restoring.restore import Wanted, read_tree
from dumont.repository.saving.save import Draft, save, start_saving
from dumont.store.directory import DirectoryStore
from dumont.store.memory import MemoryStore
from tests.integration.archivist import Archivist, archive, new_repository
from tests.integration.returning import Spoilt, bring_back, left_over
from tests.trees import torture


async def test_everything_comes_back(tmp_path: Path) -> None:
    """A workspace is the user's whole machine: what is lost in its smallest corner is lost work."""
    torture(tmp_path / "tree")
    (tmp_path / "store").mkdir()
    repository = await new_repository(DirectoryStore(tmp_path / "store"))
    record = await archive(Archivist(repository), tmp_path / "tree")
    wanted = Wanted(with_tree=True)
    restored = await bring_back(repository, record, tmp_path / "copy", wanted)
    assert differences(describe(tmp_path / "tree"), describe(tmp_path / "copy")) == []
    assert restored.tree is not None and restored.tree.root() == record.commit.root
    assert (tmp_path / "copy" / "beyond 4 GiB").stat().st_blocks * 512 < 2**20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "store", "tree"]
    assert wanted.progress.done_bytes == wanted.progress.total_bytes
    assert wanted.progress.done_files == wanted.progress.total_files
    assert wanted.progress.working_set_s is not None


async def test_without_anything_special_hands_may_be_processes(tmp_path: Path) -> None:
    """The fast way: forked before there are threads, so it is tried in a process of its own."""
    torture(tmp_path / "tree")
    (tmp_path / "store").mkdir()
    repository = await new_repository(DirectoryStore(tmp_path / "store"))
    record = await archive(Archivist(repository), tmp_path / "tree")
    script = f"""
import asyncio, os
from pathlib import Path
from dumont.model.commit import CommitId
from dumont.repository.hands import fork_hands
from dumont.repository.repository import open_repository, read_config, unlock
from dumont.repository.restoring.restore import restore, start_restoring
from dumont.store.directory import DirectoryStore

def store():
    return DirectoryStore(Path({str(tmp_path / "store")!r}))

hands = fork_hands(2, start_restoring, store)

async def main():
    config = await read_config(store())
    repository = open_repository(store(), config, unlock([config.slot], bytes(range(32))), os.urandom)
    record = await repository.commit(CommitId(1, {record.commit.id.seq}))
    await restore(repository, record, Path({str(tmp_path / "copy")!r}), hands)

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert differences(describe(tmp_path / "tree"), describe(tmp_path / "copy")) == []
    assert left_over(tmp_path) == []


async def test_an_empty_directory_comes_back(tmp_path: Path) -> None:
    """The smallest tree there is."""
    (tmp_path / "tree").mkdir(mode=0o711)
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), tmp_path / "tree")
    await bring_back(repository, record, tmp_path / "copy")
    assert differences(describe(tmp_path / "tree"), describe(tmp_path / "copy")) == []


@pytest.mark.parametrize("frame_bytes", [1, 100_000, 2**20])
async def test_files_are_put_together_from_many_frames_and_packs(tmp_path: Path, frame_bytes: int) -> None:
    """A file may be spread over packs, and a chunk may belong to many files, or many times to one."""
    tree = tmp_path / "tree"
    tree.mkdir()
    block = os.urandom(65536)
    for number in range(40):
        (tree / f"{number}").write_bytes(block * (number % 4) + os.urandom(number * 5000))
    (tree / "large").write_bytes(b"".join(os.urandom(2**20) for _ in range(18)) + bytes(3 * 2**20))
    repository = await new_repository(MemoryStore())
    archivist = Archivist(repository, frame_bytes, pack_bytes=2 * 2**20)
    record = await archive(archivist, tree)
    assert len(archivist.packs) > 5
    await bring_back(repository, record, tmp_path / "copy")
    assert differences(describe(tree), describe(tmp_path / "copy")) == []


async def test_a_restore_writes_nothing_to_the_store(tmp_path: Path) -> None:
    """A farm of machines restores from one snapshot at once, perhaps with a key that may only read."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x")
    store = Spoilt()
    repository = await new_repository(store)
    record = await archive(Archivist(repository), tmp_path / "tree")
    before = store.puts
    await bring_back(repository, record, tmp_path / "one")
    await bring_back(repository, record, tmp_path / "two")
    assert store.puts == before


async def test_only_some_paths_come_back(tmp_path: Path) -> None:
    """One file out of a large commit, and nothing else is touched."""
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    for path in ("a/b/wanted.txt", "a/b/other.txt", "a/left", "c/deep/er/wanted.txt", "c/x"):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(path.encode())
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), tree)
    (copy / "a").mkdir(parents=True)
    (copy / "a" / "mine").write_bytes(b"mine")
    (copy / "a" / "left").write_bytes(b"changed here")
    (copy / "a").chmod(0o700)
    restored = await bring_back(repository, record, copy, Wanted(only=(b"**/wanted.txt", b"c/deep")))
    found = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file())
    assert found == ["a/b/wanted.txt", "a/left", "a/mine", "c/deep/er/wanted.txt"]
    assert (copy / "a" / "left").read_bytes() == b"changed here"
    assert (copy / "a").stat().st_mode & 0o777 == 0o700
    assert restored.files == 2
    with pytest.raises(BadInput):
        await bring_back(repository, record, copy, Wanted(only=(b"no such name",)))


async def test_what_is_in_the_way_of_single_paths_is_named_and_left(tmp_path: Path) -> None:
    """Whoever asks for one file does not expect a directory to go for it."""
    (tmp_path / "tree" / "d").mkdir(parents=True)
    (tmp_path / "tree" / "d" / "file").write_bytes(b"x")
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), tmp_path / "tree")
    (tmp_path / "outside").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "d").symlink_to(tmp_path / "outside")
    (tmp_path / "two" / "d" / "file" / "mine").mkdir(parents=True)
    for target in ("one", "two"):
        with pytest.raises(BadInput, match="something else here"):
            await bring_back(repository, record, tmp_path / target, Wanted(only=(b"d/file",)))
    assert list((tmp_path / "outside").iterdir()) == []
    assert (tmp_path / "two" / "d" / "file" / "mine").is_dir()


async def test_the_tree_and_single_files_can_be_read_without_restoring(tmp_path: Path) -> None:
    """Browsing a commit needs no disk."""
    torture(tmp_path / "tree")
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), tmp_path / "tree")
    tree = await read_tree(repository, record.commit.root)
    assert tree.root() == record.commit.root
    for name in (b"large", b"holes", b"nothing"):
        entry = tree.get(name)
        assert entry is not None
        body = b"".join([block async for block in read_file(repository, entry)])
        assert body == (tmp_path / "tree" / name.decode()).read_bytes()


async def test_a_target_that_is_nobodys_to_write_above_is_built_within(tmp_path: Path) -> None:
    """A mounted disk has its parent on another file system; a home directory lies in one that is root's."""
    torture(tmp_path / "tree")
    repository = await new_repository(MemoryStore())
    record = await archive(Archivist(repository), tmp_path / "tree")
    copy = tmp_path / "copy"
    for _ in range(2):
        copy.mkdir(exist_ok=True)
        (copy / "extra").touch()
        await bring_back(repository, record, copy, Wanted(aside=copy))
        assert differences(describe(tmp_path / "tree"), describe(copy)) == []


async def test_what_a_save_stored_comes_back(tmp_path: Path) -> None:
    """Both halves of the engine, together; and again after a change, of which only the difference is fetched."""
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    torture(tree)
    repository = await new_repository(MemoryStore())
    fetched = []
    for text in ("first", "second"):
        (tree / "one more").write_text(text)
        hands = [ThreadHand(start_saving, repository.store)]
        saved = await save(repository, tree, Draft(at_ns=1), hands, Progress())
        for hand in hands:
            await hand.close()
        fetched.append((await bring_back(repository, saved.record, copy)).fetched_bytes)
        assert differences(describe(tree), describe(copy)) == []
    assert fetched[1] < 20_000 < fetched[0]
