"""Everything a Linux tree can hold survives a save and a restore, as seen by a walker that shares no code with us."""

import os
import time
from pathlib import Path

import blake3
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

from dumont.demo.walker import describe, differences
from dumont.errors import AlreadyStored, Corrupt, NotStored
from dumont.model.commit import Commit, CommitId, Entry, Kind
from dumont.snapshot.index import Index
from dumont.snapshot.live import LiveTree
from dumont.snapshot.place import Place
from dumont.snapshot.restore import restore
from dumont.snapshot.save import branch_prefix, list_commits, save, tree_key
from dumont.snapshot.scan import scan
from dumont.snapshot.tree import TOP, Tree
from dumont.store.directory import DirectoryStore
from dumont.store.memory import MemoryStore
from tests.trees import Operation, add_a_socket, change, nobody, operations, torture

FIRST = CommitId(1, 1)


def draft(seq: int = 1) -> Commit:
    return Commit(CommitId(1, seq), None, b"", 0, consistent=True)


def scanned(root: Path) -> Tree:
    with Place(root) as place:
        return scan(place, Index(), time.time_ns()).tree


async def test_everything_survives_a_save_and_a_restore(tmp_path: Path, short_dir: Path) -> None:
    """A workspace is the user's whole machine: what is lost in its smallest corner is lost work."""
    torture(tmp_path / "tree")
    (tmp_path / "store").mkdir()
    store = DirectoryStore(tmp_path / "store")
    saved = await save(store, LiveTree(tmp_path / "tree"), None, draft())
    restored = await restore(store, FIRST, tmp_path / "copy")
    assert differences(describe(tmp_path / "tree"), describe(tmp_path / "copy")) == []
    assert saved.commit.consistent
    assert restored.tree.root() == saved.commit.root == scanned(tmp_path / "tree").root()
    assert (tmp_path / "copy" / "beyond 4 GiB").stat().st_blocks * 512 < 2**20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "store", "tree"]


async def test_what_cannot_be_held_is_named(short_dir: Path) -> None:
    """Silence about a socket would be a promise that it is safe."""
    root = short_dir / "tree"
    root.mkdir()
    add_a_socket(root / "socket")
    (root / "file").write_bytes(b"x")
    saved = await save(MemoryStore(), LiveTree(root), None, draft())
    assert saved.commit.uncovered == (b"socket",)
    assert b"socket" not in saved.tree
    assert b"file" in saved.tree


async def test_what_is_unreadable_is_named(short_dir: Path) -> None:
    """As an ordinary user there are files and directories that we can't read."""
    root = short_dir / "tree"
    (root / "closed").mkdir(parents=True)
    (root / "secret").write_bytes(b"x")
    (root / "open").write_bytes(b"x")
    for path, mode in ((root / "closed", 0), (root / "secret", 0), (root, 0o755), (short_dir, 0o755)):
        path.chmod(mode)
    with nobody():
        saved = await save(MemoryStore(), LiveTree(root), None, draft())
    assert saved.commit.uncovered == (b"closed", b"secret")
    assert [path for path, _ in saved.tree.entries()] == [b"", b"closed", b"open"]


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
        store = MemoryStore()
        await save(store, LiveTree(short_dir / "a"), None, draft())
        await restore(store, FIRST, short_dir / "b")
        await restore(store, FIRST, short_dir / "new")
        expected = describe(short_dir / "a")
        assert differences(expected, describe(short_dir / "b")) == []
        assert differences(expected, describe(short_dir / "new")) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=operations, second=operations)
async def test_any_tree_restores_onto_any_other(
    first: list[Operation], second: list[Operation], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A restore onto an existing tree fetches only differences, and must still end in exactly the commit."""
    top = tmp_path_factory.mktemp("any")
    (top / "a").mkdir()
    (top / "b").mkdir()
    change(top / "a", first)
    change(top / "b", second)
    store = MemoryStore()
    await save(store, LiveTree(top / "a"), None, draft())
    await restore(store, FIRST, top / "b")
    assert differences(describe(top / "a"), describe(top / "b")) == []


async def test_only_new_chunks_are_stored_and_only_differences_fetched(tmp_path: Path) -> None:
    """One engine, two sinks: a checkpoint that changes a little costs a little."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "big").write_bytes(os.urandom(5 * 2**20))
    store = MemoryStore()
    live = LiveTree(root)
    first = await save(store, live, None, draft(1))
    await restore(store, CommitId(1, 1), tmp_path / "copy")
    with (root / "big").open("r+b") as file:
        file.seek(2**20)
        file.write(b"changed")
    (root / "small").write_bytes(b"new")
    second = await save(store, live, None, draft(2))
    assert first.stored_bytes == 5 * 2**20
    assert second.stored_bytes == 65536 + 3
    restored = await restore(store, CommitId(1, 2), tmp_path / "copy")
    assert restored.fetched_bytes == 65536 + 3
    assert differences(describe(root), describe(tmp_path / "copy")) == []
    assert [commit.id.seq for commit in await list_commits(store)] == [1, 2]


async def test_a_file_that_moved_since_its_commit_is_named(tmp_path: Path) -> None:
    """A stored commit that is not what was cut must say so: it is fuzzy, and lists the file."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "still").write_bytes(b"still")
    (root / "moves").write_bytes(b"before")
    tree = scanned(root)
    (root / "moves").write_bytes(b"after!")
    store = MemoryStore()
    saved = await save(store, LiveTree(root), tree, draft())
    assert not saved.commit.consistent
    assert saved.commit.fuzzy == (b"moves",)
    await restore(store, FIRST, tmp_path / "copy")
    assert (tmp_path / "copy" / "moves").read_bytes() == b"after!"


async def test_links_survive_when_only_one_name_is_read_again(tmp_path: Path) -> None:
    """Only files whose chunks lack are read; their other names must not become copies, nor the commit fuzzy."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "b").write_bytes(b"one inode")
    os.link(root / "b", root / "a")
    saved = await save(MemoryStore(), LiveTree(root), scanned(root), draft())
    assert saved.commit.consistent
    assert saved.tree.root() == scanned(root).root()
    part = Tree({path: entry for path, entry in scanned(root).entries() if path != b"a"})
    store = MemoryStore()
    branch = await save(store, LiveTree(root), part, draft())
    assert branch.commit.consistent
    await restore(store, FIRST, tmp_path / "copy")
    assert (tmp_path / "copy" / "b").read_bytes() == b"one inode"


async def test_a_commit_is_stored_once(tmp_path: Path) -> None:
    """Two primaries that both think they are may not write one history."""
    (tmp_path / "tree").mkdir()
    store = MemoryStore()
    await save(store, LiveTree(tmp_path / "tree"), None, draft())
    await save(store, LiveTree(tmp_path / "tree"), None, draft())
    (tmp_path / "tree" / "other").touch()
    with pytest.raises(AlreadyStored):
        await save(store, LiveTree(tmp_path / "tree"), None, draft())


async def test_a_branch_is_kept_apart(tmp_path: Path) -> None:
    """Divergent files are to browse and copy from, never to be taken for the history."""
    (tmp_path / "tree").mkdir()
    store = MemoryStore()
    await save(store, LiveTree(tmp_path / "tree"), None, draft(), branch_prefix("lost-1"))
    assert await list_commits(store) == []
    assert len(await list_commits(store, branch_prefix("lost-1"))) == 1
    with pytest.raises(NotStored):
        await restore(store, FIRST, tmp_path / "copy")
    await restore(store, FIRST, tmp_path / "copy", branch_prefix("lost-1"))


async def test_a_save_that_died_is_no_commit(tmp_path: Path) -> None:
    """The record comes last: packs without it are nothing."""

    class Dying(MemoryStore):
        async def put(self, key: str, data: bytes) -> None:
            if key.startswith("commits/"):
                raise ConnectionError("died")
            await super().put(key, data)

    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x")
    store = Dying()
    with pytest.raises(ConnectionError):
        await save(store, LiveTree(tmp_path / "tree"), None, draft())
    assert await list_commits(store) == []


class Lying(MemoryStore):
    """A store whose objects somebody may exchange."""

    def exchange(self, key: str, data: bytes) -> None:
        self._objects[key] = data


@pytest.mark.parametrize("kind", ["packs/", "trees/", "commits/", "index/"])
async def test_a_flipped_bit_is_never_restored(tmp_path: Path, kind: str) -> None:
    """Better no tree than a wrong one; and nothing half-written is left under a final name."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "file").write_bytes(os.urandom(200_000))
    store = Lying()
    await save(store, LiveTree(root), None, draft())
    for key in [key async for key in store.keys(kind)]:
        body = bytearray(await store.get(key))
        body[len(body) // 2] ^= 1
        store.exchange(key, bytes(body))
    with pytest.raises(Corrupt):
        await restore(store, FIRST, tmp_path / "copy")
    assert not (tmp_path / "copy" / "file").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def planted(store: Lying, listing: list[tuple[bytes, Entry | None, bytes]]) -> None:
    """Store a commit whose top directory is `listing`, hashes and all right."""
    directory = msgspec.msgpack.encode(listing)
    below = blake3.blake3(directory).digest()
    store.exchange(tree_key(below), directory)
    top = msgspec.msgpack.encode([(TOP, Entry(Kind.DIRECTORY, 0o755, 0, 0, 0), below)])
    root = blake3.blake3(top).digest()
    store.exchange(tree_key(root), top)
    record = msgspec.msgpack.encode({"version": 1, "commit": replace(draft(), root=root)})
    store.exchange("commits/1-1", record)


EMPTY_FILE = Entry(Kind.FILE, 0o644, 0, 0, 0)
NOTHING = blake3.blake3(msgspec.msgpack.encode([])).digest()


@pytest.mark.parametrize(
    "name", [b"../outside", b"/tmp/outside", b"..", b".", b"", b"a\0b", b"a/../../outside", b"x" * 256]
)
async def test_a_manifest_cannot_name_what_is_outside(tmp_path: Path, name: bytes) -> None:
    """Manifests come from hosts, and hosts are strangers."""
    store = Lying()
    planted(store, [(name, EMPTY_FILE, b"")])
    with pytest.raises(Corrupt):
        await restore(store, FIRST, tmp_path / "copy")
    assert not (tmp_path / "outside").exists()


async def test_nothing_is_written_through_a_symlink(tmp_path: Path) -> None:
    """Neither one that the manifest brings nor one that lies in the target already."""
    (tmp_path / "outside").mkdir()
    store = Lying()
    directory = Entry(Kind.DIRECTORY, 0o755, 0, 0, 0)
    inner = msgspec.msgpack.encode([(b"file", EMPTY_FILE, b"")])
    store.exchange(tree_key(blake3.blake3(inner).digest()), inner)
    planted(store, [(b"door", directory, blake3.blake3(inner).digest())])
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "door").symlink_to(tmp_path / "outside")
    await restore(store, FIRST, tmp_path / "copy")
    assert list((tmp_path / "outside").iterdir()) == []
    assert (tmp_path / "copy" / "door" / "file").exists()
    link = Entry(Kind.SYMLINK, 0o777, 0, 0, 0, target=os.fsencode(tmp_path / "outside"))
    planted(store, [(b"door", link, blake3.blake3(inner).digest())])
    with pytest.raises(Corrupt):
        await restore(store, FIRST, tmp_path / "copy2")
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_walker_tells_differences() -> None:
    """A comparer that finds nothing proves nothing."""
    a: dict[bytes, dict[str, object]] = {b"x": {"kind": "file", "mode": "0o644"}, b"y": {"kind": "file"}}
    b: dict[bytes, dict[str, object]] = {b"x": {"kind": "file", "mode": "0o600"}, b"z": {"kind": "file"}}
    assert len(differences(a, b)) == 3
