"""Everything a Linux tree can hold survives a save and a restore, as seen by a walker that shares no code with us.

Saved here is what an agent saves: a commit that was cut before, whose tree is known.
"""

import os
from pathlib import Path

import pytest

from dumont.demo.merkle import root as walked_root
from dumont.demo.walker import describe, differences
from dumont.errors import AlreadyStored, Corrupt, NotStored
from dumont.model.commit import Commit, CommitId
from dumont.repository.keys import wrap_with_key
from dumont.repository.record import PACKS, STATE, branch_prefix
from dumont.repository.repository import create_repository
from dumont.repository.restoring.restore import Wanted, read_tree
from dumont.repository.saving.save import Draft, Saved
from dumont.snapshot.tree import Tree
from dumont.store.base import Data, Store
from dumont.store.directory import DirectoryStore
from dumont.store.memory import MemoryStore
from tests.integration.archivist import scanned
from tests.integration.depot import KEY, Depot, settle
from tests.tensor_files import safetensors
from tests.trees import add_a_socket, nobody, torture

FIRST = CommitId(1, 1)


@pytest.fixture(name="depot")
async def _depot(tmp_path: Path) -> Depot:
    return await Depot.make(tmp_path / "depot")


def tree_of(depot: Depot, root: Path) -> Tree:
    """What a cut finds there."""
    settle()
    return scanned(root, depot.keys.chunk_key)


async def saved(depot: Depot, root: Path, known: Tree | None = None, seq: int = 1, prefix: str = "") -> Saved:
    """Store the commit 1.`seq` of `root`, whose tree is `known`, or what is there now."""
    known = known or tree_of(depot, root)
    commit = Commit(CommitId(1, seq), None, b"", 0, consistent=True)
    return await depot.save(root, draft=Draft(0, commit=commit, known=known, prefix=prefix))


async def test_everything_survives_a_save_and_a_restore(depot: Depot, tmp_path: Path, short_dir: Path) -> None:
    """A workspace is the user's whole machine: what is lost in its smallest corner is lost work."""
    torture(tmp_path / "tree")
    stored = await saved(depot, tmp_path / "tree")
    restored = await depot.restore(stored.record, tmp_path / "copy", Wanted(with_tree=True))
    assert differences(describe(tmp_path / "tree"), describe(tmp_path / "copy")) == []
    commit = stored.record.commit
    assert commit.consistent, commit.fuzzy
    assert restored.tree is not None
    assert restored.tree.root() == commit.root == tree_of(depot, tmp_path / "tree").root()
    assert walked_root(tmp_path / "copy", depot.keys.chunk_key) == commit.root.hex()
    assert (tmp_path / "copy" / "beyond 4 GiB").stat().st_blocks * 512 < 2**20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "depot", "tree"]


async def test_what_an_agent_cut_and_what_everything_else_finds_is_one_tree(depot: Depot, tmp_path: Path) -> None:
    """The same files, saved by a commit's tree and by a walk of their own, must be one root and the same chunks."""
    torture(tmp_path / "tree")
    cut = await saved(depot, tmp_path / "tree")
    walked = await depot.save(tmp_path / "tree")
    assert walked.record.commit.root == cut.record.commit.root
    assert walked.stored_bytes == 0


async def test_what_cannot_be_held_is_named(depot: Depot, short_dir: Path) -> None:
    """Silence about a socket would be a promise that it is safe."""
    root = short_dir / "tree"
    root.mkdir()
    add_a_socket(root / "socket")
    (root / "file").write_bytes(b"x")
    settle()
    record = (await depot.save(root)).record
    tree = await _read(depot, record.commit.root)
    assert record.commit.uncovered == (b"socket",)
    assert b"socket" not in tree
    assert b"file" in tree


async def test_what_is_unreadable_is_named(short_dir: Path) -> None:
    """As an ordinary user there are files and directories that we can't read."""
    root = short_dir / "tree"
    (root / "closed").mkdir(parents=True)
    (root / "secret").write_bytes(b"x")
    (root / "open").write_bytes(b"x")
    short_dir.chmod(0o777)
    for path, mode in ((root / "closed", 0), (root / "secret", 0), (root, 0o755)):
        path.chmod(mode)
    settle()
    with nobody():
        depot = await Depot.make(short_dir / "depot")
        record = (await depot.save(root)).record
        tree = await _read(depot, record.commit.root)
    assert record.commit.uncovered == (b"closed", b"secret")
    assert [path for path, _ in tree.entries()] == [b"", b"closed", b"open"]


async def test_only_new_chunks_are_stored_and_only_differences_fetched(depot: Depot, tmp_path: Path) -> None:
    """One engine, two sinks: a checkpoint that changes a little costs a little."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "big").write_bytes(os.urandom(5 * 2**20))
    first = await saved(depot, root)
    await depot.restore(first.record, tmp_path / "copy")
    with (root / "big").open("r+b") as file:
        file.seek(2**20)
        file.write(b"changed")
    (root / "small").write_bytes(b"new")
    second = await saved(depot, root, seq=2)
    assert first.new_bytes == 5 * 2**20
    assert second.new_bytes == 65536 + 3
    restored = await depot.restore(second.record, tmp_path / "copy")
    assert restored.fetched_bytes < 2**20
    assert differences(describe(root), describe(tmp_path / "copy")) == []
    repo = depot.open()
    assert [record.commit.id.seq for record in await repo.commits(await repo.look())] == [1, 2]


async def test_a_file_that_moved_since_its_commit_is_named(depot: Depot, tmp_path: Path) -> None:
    """A stored commit that is not what was cut must say so: it is fuzzy, and lists the file."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "still").write_bytes(b"still")
    (root / "moves").write_bytes(b"before")
    tree = tree_of(depot, root)
    (root / "moves").write_bytes(b"after!")
    record = (await saved(depot, root, tree)).record
    assert not record.commit.consistent
    assert record.commit.fuzzy == (b"moves",)
    await depot.restore(record, tmp_path / "copy")
    assert (tmp_path / "copy" / "moves").read_bytes() == b"after!"


@pytest.mark.parametrize("size", [200_000, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
async def test_what_stood_still_is_not_called_fuzzy(depot: Depot, tmp_path: Path, size: int) -> None:
    """A save reads small files in another way than a cut does; neither preallocated nor tensor files may tell."""
    root = tmp_path / "tree"
    root.mkdir()
    fd = os.open(root / "preallocated", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, size)
    os.pwrite(fd, b"x" * 10, 0)
    os.close(fd)
    tensors = safetensors({"a": os.urandom(100_000), "b": os.urandom(size // 3)})
    (root / "tensors").write_bytes(tensors[:size].ljust(size, b"t"))
    tree = tree_of(depot, root)
    record = (await saved(depot, root, tree)).record
    assert record.commit.fuzzy == ()
    assert record.commit.root == tree.root()


async def test_a_file_that_went_since_its_commit_is_named(depot: Depot, tmp_path: Path) -> None:
    """Not even the names of what is gone may be missing without a word."""
    root = tmp_path / "tree"
    (root / "below").mkdir(parents=True)
    (root / "below" / "goes").write_bytes(b"before")
    (root / "stays").write_bytes(b"before")
    tree = tree_of(depot, root)
    (root / "below" / "goes").unlink()
    record = (await saved(depot, root, tree)).record
    assert record.commit.fuzzy == (b"below/goes",)
    await depot.restore(record, tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy" / "below").iterdir()] == []


async def test_links_survive_when_only_one_name_is_read_again(depot: Depot, tmp_path: Path) -> None:
    """Only files whose chunks lack are read; their other names must not become copies, nor the commit fuzzy."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "b").write_bytes(b"one inode")
    os.link(root / "b", root / "a")
    whole = await saved(depot, root)
    assert whole.record.commit.consistent
    assert whole.record.commit.root == tree_of(depot, root).root()
    part = Tree({path: entry for path, entry in tree_of(depot, root).entries() if path != b"a"})
    other = await Depot.make(tmp_path / "other")
    branch = await saved(
        other, root, Tree({p: e for p, e in scanned(root, other.keys.chunk_key).entries() if p in part})
    )
    assert branch.record.commit.consistent
    await other.restore(branch.record, tmp_path / "copy")
    assert (tmp_path / "copy" / "b").read_bytes() == b"one inode"


async def test_a_commit_is_stored_once(depot: Depot, tmp_path: Path) -> None:
    """Two primaries that both think they are may not write one history."""
    (tmp_path / "tree").mkdir()
    await saved(depot, tmp_path / "tree")
    await saved(depot, tmp_path / "tree")
    (tmp_path / "tree" / "other").touch()
    with pytest.raises(AlreadyStored):
        await saved(depot, tmp_path / "tree")


async def test_a_branch_is_kept_apart(depot: Depot, tmp_path: Path) -> None:
    """Divergent files are to browse and copy from, never to be taken for the history."""
    (tmp_path / "tree").mkdir()
    record = (await saved(depot, tmp_path / "tree", prefix=branch_prefix("lost-1"))).record
    repo = depot.open()
    listing = await repo.look()
    assert await repo.commits(listing) == []
    assert len(listing.branches) == 1
    with pytest.raises(NotStored):
        await repo.commit(FIRST)
    assert await repo.commit(FIRST, branch_prefix("lost-1")) == record
    await depot.restore(record, tmp_path / "copy")


async def test_a_save_that_died_is_no_commit(tmp_path: Path) -> None:
    """The record comes last: packs without it are nothing."""

    class Dying(MemoryStore):
        async def put(self, key: str, data: Data) -> None:
            if key.startswith(f"{STATE}commits/"):
                raise ConnectionError("died")
            await super().put(key, data)

    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x")
    store = Dying()
    repo = await create_repository(store, lambda secret, salt: wrap_with_key(secret, KEY, salt), os.urandom)
    depot = Depot(tmp_path / "depot", repo.keys, lambda _: store)
    with pytest.raises(ConnectionError):
        await saved(depot, tmp_path / "tree")
    assert (await repo.look()).commits == ()


class Lying(DirectoryStore):
    """A store in which a bit of all objects of one kind is flipped when they are read."""

    kind = ""

    async def get(self, key: str) -> bytes:
        return self._flipped(key, await super().get(key))

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._flipped(key, await super().get(key))[start : start + length]

    def read_into(self, key: str, start: int, room: memoryview) -> int:
        length = super().read_into(key, start, room)
        if length and key.startswith(self.kind):
            room[length // 2] ^= 1
        return length

    def _flipped(self, key: str, body: bytes) -> bytes:
        if not body or not key.startswith(self.kind):
            return body
        changed = bytearray(body)
        changed[len(body) // 2] ^= 1
        return bytes(changed)


@pytest.mark.parametrize("kind", [PACKS, f"{STATE}index/", f"{STATE}commits/"])
async def test_a_flipped_bit_is_never_restored(depot: Depot, tmp_path: Path, kind: str) -> None:
    """Better no tree than a wrong one; and nothing half-written is left under a final name."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "file").write_bytes(os.urandom(200_000))
    await saved(depot, root)

    def lying(_: Store) -> Store:
        store = Lying(depot.top / "store")
        store.kind = kind
        return store

    depot.wrap = lying
    with pytest.raises(Corrupt):
        await depot.restore(await depot.open().commit(FIRST), tmp_path / "copy")
    assert not (tmp_path / "copy" / "file").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_walker_tells_differences() -> None:
    """A comparer that finds nothing proves nothing."""
    a: dict[bytes, dict[str, object]] = {b"x": {"kind": "file", "mode": "0o644"}, b"y": {"kind": "file"}}
    b: dict[bytes, dict[str, object]] = {b"x": {"kind": "file", "mode": "0o600"}, b"z": {"kind": "file"}}
    assert len(differences(a, b)) == 3


async def _read(depot: Depot, root: bytes) -> Tree:
    repo = depot.open()
    await repo.learn(await repo.look())
    return await read_tree(repo, root)
