"""Restoring what is hostile or broken: nothing wrong is put in place, nothing outside is touched, and it is said."""

import os
from pathlib import Path

import blake3
import msgspec
import pytest

from dumont.demo.walker import describe, differences
from dumont.errors import Corrupt
from dumont.model.commit import Entry, Kind
from dumont.repository.keys import writer_keys
from dumont.repository.record import DATA, TREE, CommitRecord, pack_key
from dumont.repository.repository import Repository
from dumont.snapshot.chunk import chunk_id
from dumont.snapshot.tree import NOTHING, TOP
from tests.integration.archivist import Archivist, archive, name_root, new_repository
from tests.integration.returning import Spoilt, bring_back, left_over

DIRECTORY = Entry(Kind.DIRECTORY, 0o755, 0, 0, 0)
EMPTY_FILE = Entry(Kind.FILE, 0o644, 0, 0, 0)
Listing = list[tuple[bytes, Entry | None, bytes]]


async def store_listing(archivist: Archivist, listing: Listing) -> bytes:
    """Store a directory object; its id."""
    body = msgspec.msgpack.encode(listing)
    id = blake3.blake3(body).digest()
    await archivist.add(TREE, id, body)
    return id


async def planted(archivist: Archivist, listing: Listing) -> CommitRecord:
    """A commit whose top directory is `listing`, hashes and all right."""
    return await name_root(archivist, [(TOP, DIRECTORY, await store_listing(archivist, listing))])


@pytest.mark.parametrize(
    "name", [b"../outside", b"/tmp/outside", b"..", b".", b"", b"a\0b", b"a/../../outside", b"x" * 256]
)
async def test_a_manifest_cannot_name_what_is_outside(tmp_path: Path, name: bytes) -> None:
    """Manifests come from hosts, and hosts are strangers."""
    repository = await new_repository(Spoilt())
    record = await planted(Archivist(repository), [(name, EMPTY_FILE, b"")])
    with pytest.raises(Corrupt):
        await bring_back(repository, record, tmp_path / "copy")
    assert not (tmp_path / "outside").exists()
    assert left_over(tmp_path) == []


SOME = bytes(32)
ABSURD = [
    Entry(Kind.FILE, 0o10000, 0, 0, 0),
    Entry(Kind.FILE, 0o644, -1, 0, 0),
    Entry(Kind.FILE, 0o644, 0, 2**32 - 1, 0),
    Entry(Kind.FILE, 0o644, 0, 0, 0, size=2**63, sparse=True),
    Entry(Kind.FILE, 0o644, 0, 0, 0, size=5, chunks=()),
    Entry(Kind.FILE, 0o644, 0, 0, 0, size=5, chunks=(SOME, SOME)),
    Entry(Kind.FILE, 0o644, 0, 0, 0, size=5, chunks=(b"short",)),
    Entry(Kind.FILE, 0o644, 0, 0, 0, size=5, chunks=(b"",)),
    Entry(Kind.FILE, 0o644, 0, 0, 0, size=5, chunks=(SOME, SOME), bounds=(5,)),
    Entry(Kind.FILE, 0o644, 0, 0, 0, size=5, chunks=(SOME, SOME), bounds=(-1,)),
    Entry(Kind.FILE, 0o644, 0, 0, 0, target=b"x"),
    Entry(Kind.FILE, 0o644, 0, 0, 0, link=b"../x"),
    Entry(Kind.FILE, 0o644, 0, 0, 0, xattrs=((b"security.capability", b"x"),)),
    Entry(Kind.SYMLINK, 0o777, 0, 0, 0),
    Entry(Kind.SYMLINK, 0o777, 0, 0, 0, target=b"a\0b"),
    Entry(Kind.DIRECTORY, 0o777, 0, 0, 0, size=5, chunks=(SOME,)),
]


@pytest.mark.parametrize("number", range(len(ABSURD)))
async def test_a_manifest_cannot_hold_absurd_entries(tmp_path: Path, number: int) -> None:
    """What no save wrote is no reason to guess."""
    repository = await new_repository(Spoilt())
    record = await planted(Archivist(repository), [(b"absurd", ABSURD[number], NOTHING)])
    with pytest.raises(Corrupt, match="absurd"):
        await bring_back(repository, record, tmp_path / "copy")


@pytest.mark.parametrize(
    "listing",
    [
        [(b"a", EMPTY_FILE, b""), (b"a", EMPTY_FILE, b"")],
        [(b"b", EMPTY_FILE, b""), (b"a", EMPTY_FILE, b"")],
        [(b"a", None, b"")],
        [(b"a", ("b", 0o600, 0, 0, 0), b"")],
        [(b"a", ("c", 0o600, 0, 0, 0), b"")],
        ["nonsense"],
    ],
)
async def test_a_directory_cannot_be_ambiguous(tmp_path: Path, listing: Listing) -> None:
    """Two entries of one name, devices, and what is no listing at all."""
    repository = await new_repository(Spoilt())
    record = await planted(Archivist(repository), listing)
    with pytest.raises(Corrupt):
        await bring_back(repository, record, tmp_path / "copy")


async def test_nothing_is_written_through_a_symlink(tmp_path: Path) -> None:
    """Neither one that the manifest brings nor one that lies in the target already."""
    outside = tmp_path / "outside"
    outside.mkdir()
    repository = await new_repository(Spoilt())
    archivist = Archivist(repository)
    inner = await store_listing(archivist, [(b"file", EMPTY_FILE, b"")])
    link = Entry(Kind.SYMLINK, 0o777, 0, 0, 0, target=os.fsencode(outside))
    record = await planted(archivist, [(b"door", DIRECTORY, inner), (b"way", link, inner)])
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "door").symlink_to(outside)
    (tmp_path / "copy" / "way").mkdir()
    await bring_back(repository, record, tmp_path / "copy")
    assert list(outside.iterdir()) == []
    assert (tmp_path / "copy" / "door" / "file").exists()
    assert (tmp_path / "copy" / "way").is_symlink()


async def test_a_symlink_swapped_in_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    """The workload's owner may not be the one who restores."""
    outside, copy = tmp_path / "outside", tmp_path / "copy"
    outside.mkdir()
    (tmp_path / "tree" / "door").mkdir(parents=True)
    (tmp_path / "tree" / "door" / "file").write_bytes(os.urandom(3 * 2**20))
    store = Spoilt()
    repository = await new_repository(store)
    record = await archive(Archivist(repository), tmp_path / "tree")

    class Swapping(Spoilt):
        async def get_range(self, key: str, start: int, length: int) -> bytes:
            if (copy / "door").is_dir() and not (copy / "door").is_symlink():
                (copy / "door").rmdir()
                (copy / "door").symlink_to(outside)
            return await store.get_range(key, start, length)

    repository.store = Swapping()
    repository.store._objects = store._objects
    with pytest.raises(Corrupt, match="somebody else works"):
        await bring_back(repository, record, copy)
    assert list(outside.iterdir()) == []


async def test_links_that_lie_are_no_links(tmp_path: Path) -> None:
    """Names that say they are one inode, and differ, are files of their own; one that names nobody is too."""
    repository = await new_repository(Spoilt())
    archivist = Archivist(repository)
    listing: Listing = [
        (b"a", Entry(Kind.FILE, 0o644, 0, 0, 0, link=b"a"), b""),
        (b"b", Entry(Kind.FILE, 0o600, 0, 0, 0, link=b"a"), b""),
        (b"c", Entry(Kind.FILE, 0o644, 0, 0, 0, link=b"a"), b""),
        (b"d", Entry(Kind.FILE, 0o644, 0, 0, 0, link=b"nobody"), b""),
    ]
    record = await planted(archivist, listing)
    await bring_back(repository, record, tmp_path / "copy")
    found = {name: (tmp_path / "copy" / name).stat() for name in "abcd"}
    assert found["a"].st_ino == found["c"].st_ino and found["a"].st_nlink == 2
    assert (found["b"].st_nlink, found["d"].st_nlink) == (1, 1)


async def test_a_chunk_of_another_length_than_its_block_is_refused(tmp_path: Path) -> None:
    """Otherwise a file would be longer than its entry says, or hold what is beside it."""
    repository = await new_repository(Spoilt())
    archivist = Archivist(repository)
    data = b"longer than five"
    chunk = chunk_id(data, repository.keys.chunk_key)
    await archivist.add(DATA, chunk, data)
    record = await planted(archivist, [(b"f", Entry(Kind.FILE, 0o644, 0, 0, 0, size=5, chunks=(chunk,)), b"")])
    with pytest.raises(Corrupt, match="'f'"):
        await bring_back(repository, record, tmp_path / "copy")
    assert not (tmp_path / "copy" / "f").exists()


async def two_copies(tmp_path: Path) -> tuple[Repository, Spoilt, CommitRecord, list[str]]:
    """A repository in which two packs hold the same file; the packs' keys, and a commit of it and of another file."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "doubly stored").write_bytes(os.urandom(200_000))
    store = Spoilt()
    repository = await new_repository(store)
    first = Archivist(repository)
    await archive(first, tree, seq=1)
    (tree / "stored once").write_bytes(b"x" * 1000)
    second = Archivist(repository)
    record = await archive(second, tree, seq=2)
    return repository, store, record, [pack_key(pack.name) for pack in (*first.packs, *second.packs)]


@pytest.mark.parametrize("spoilt", [0, 1])
async def test_a_chunk_that_is_broken_in_one_pack_is_taken_from_another(tmp_path: Path, spoilt: int) -> None:
    """Two copies are of use only if the second is looked at."""
    repository, store, record, packs = await two_copies(tmp_path)
    store.flip(packs[spoilt], 100)
    await bring_back(repository, record, tmp_path / "copy")
    assert differences(describe(tmp_path / "tree"), describe(tmp_path / "copy")) == []


async def test_a_pack_that_is_gone_is_done_without_where_another_holds_the_chunk(tmp_path: Path) -> None:
    """As above, and the directories' objects too."""
    repository, store, record, packs = await two_copies(tmp_path)
    store.lose(packs[0])
    await bring_back(repository, record, tmp_path / "copy")
    assert differences(describe(tmp_path / "tree"), describe(tmp_path / "copy")) == []


async def test_what_is_broken_everywhere_is_named_and_the_rest_comes_back(tmp_path: Path) -> None:
    """Better all other files than none; and never a wrong byte under a right name."""
    repository, store, record, packs = await two_copies(tmp_path)
    for key in packs:
        store.flip(key, 100)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "extra").touch()
    with pytest.raises(Corrupt, match="doubly stored") as caught:
        await bring_back(repository, record, tmp_path / "copy")
    assert "stored once" not in str(caught.value)
    assert (tmp_path / "copy" / "stored once").read_bytes() == b"x" * 1000
    assert not (tmp_path / "copy" / "doubly stored").exists()
    assert (tmp_path / "copy" / "extra").exists()
    assert left_over(tmp_path) == []


async def test_what_no_index_knows_is_named(tmp_path: Path) -> None:
    """An index object may be lost too."""
    repository = await new_repository(Spoilt())
    archivist = Archivist(repository)
    listing: Listing = [(b"f", Entry(Kind.FILE, 0o644, 0, 0, 0, size=5, chunks=(SOME,)), b""), (b"g", EMPTY_FILE, b"")]
    record = await planted(archivist, listing)
    with pytest.raises(Corrupt, match=r"'f'.*in no pack"):
        await bring_back(repository, record, tmp_path / "copy")
    assert (tmp_path / "copy" / "g").exists()


async def test_what_a_writer_stores_under_a_false_name_is_never_taken(tmp_path: Path) -> None:
    """A host that may add can offer anything; what it offers is hashed."""
    tree = tmp_path / "tree"
    tree.mkdir()
    content = os.urandom(5000)
    (tree / "file").write_bytes(content)
    store = Spoilt()
    repository = await new_repository(store)
    record = await archive(Archivist(repository), tree)
    stranger = Archivist(repository, keys=writer_keys(repository.keys, "host"))
    await stranger.add(DATA, chunk_id(content, repository.keys.chunk_key), b"?" * 5000)
    await stranger._close_frame()
    await stranger._close_pack()
    repository.catalogue.add(stranger.packs, trusted=False)
    honest = next(key for key in [key async for key in store.keys("packs/")] if stranger.packs[0].name not in key)
    await bring_back(repository, record, tmp_path / "copy")
    assert (tmp_path / "copy" / "file").read_bytes() == content
    store.flip(honest, 100)
    with pytest.raises(Corrupt, match="'file'"):
        await bring_back(repository, record, tmp_path / "copy2")
