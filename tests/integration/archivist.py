"""An archivist: stores a directory tree as a commit, simply, so that restores are tested apart from saves."""

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path

import blake3
import msgspec

from dumont.model.commit import HOLE, Commit, CommitId, Entry, Kind
from dumont.repository.codec import RAW, Coder
from dumont.repository.keys import Keys, wrap_with_key
from dumont.repository.pack import FRAME_BYTES, Chunks, PackBuilder
from dumont.repository.probe import DENSE, Choice, kind_of
from dumont.repository.record import DATA, TREE, VERSION, CommitRecord, Pack, commit_key, pack_key
from dumont.repository.repository import Repository, create_repository
from dumont.snapshot.chunk import block_ranges, chunk_id
from dumont.snapshot.index import Index
from dumont.snapshot.place import Place
from dumont.snapshot.scan import scan
from dumont.snapshot.tree import TOP, Tree
from dumont.store.base import Store

KEY = bytes(range(32))


def counted() -> "Entropy":
    """Bytes that look random and are the same each time."""
    counter = itertools.count()
    return Entropy(counter)


@dataclass
class Entropy:
    """Names objects, one after the other."""

    counter: "itertools.count[int]"

    def __call__(self, length: int) -> bytes:
        return blake3.blake3(b"%d" % next(self.counter)).digest(length)


async def new_repository(store: Store) -> Repository:
    """An empty repository that a fixed key opens."""
    return await create_repository(store, lambda secret, salt: wrap_with_key(secret, KEY, salt), counted())


@dataclass
class Archivist:
    """Puts what it is given into packs. `frame_bytes`: chunks go into frames of about this size."""

    repository: Repository
    frame_bytes: int = FRAME_BYTES
    pack_bytes: int = 32 * 2**20
    keys: Keys | None = None
    packs: list[Pack] = field(default_factory=list)
    _have: set[bytes] = field(default_factory=set)
    _coder: Coder = field(default_factory=Coder)

    def __post_init__(self) -> None:
        keys = self.keys or self.repository.keys
        self._builder = PackBuilder(keys, self.repository.new_name, lambda: 1, self.pack_bytes)
        self._plain, self._chunks, self._kind, self._what = bytearray(), Chunks(), DATA, DENSE
        self._choice = Choice()

    async def add(self, kind: int, id: bytes, data: bytes) -> None:
        """Store a chunk under that id, whatever it holds; once."""
        if id in self._have:
            return
        self._have.add(id)
        what = kind_of(self._coder, memoryview(bytearray(data)))
        if self._chunks.lengths and (
            len(self._plain) + len(data) > self.frame_bytes or kind != self._kind or what != self._what
        ):
            await self._close_frame()
        self._kind, self._what = kind, what
        self._plain += data
        self._chunks.add(id, len(data))

    async def finish(self) -> list[Pack]:
        """Store what is left, and the index; the packs."""
        await self._close_frame()
        await self._close_pack()
        await self.repository.add_to_index(self.packs)
        return self.packs

    async def _close_frame(self) -> None:
        if not self._chunks.lengths:
            return
        codec = self._choice.codec(self._what) if self._plain else RAW
        encoded = self._coder.encode(codec, memoryview(self._plain)) if self._plain else b""
        if self._builder.is_full_for(len(encoded), len(self._chunks.lengths)):
            await self._close_pack()
        self._builder.add(codec, self._kind, encoded, self._chunks)
        self._plain, self._chunks = bytearray(), Chunks()

    async def _close_pack(self) -> None:
        if not self._builder.used:
            return
        pack, body = self._builder.close()
        await self.repository.store.put(pack_key(pack.name), bytes(body))
        self.packs.append(pack)


def scanned(root: Path, key: bytes) -> Tree:
    """The tree that is there."""
    with Place(root) as place:
        return scan(place, Index(), time.time_ns(), key).tree


async def archive(archivist: Archivist, root: Path, seq: int = 1) -> CommitRecord:
    """Store the tree at `root` as commit 1.`seq`, with its record."""
    tree = scanned(root, archivist.repository.keys.chunk_key)
    for path, entry in tree.entries():
        if entry.kind is Kind.FILE:
            await archive_file(archivist, root, path, entry)
    for path, entry in tree.entries():
        if entry.kind is Kind.DIRECTORY:
            body = tree.directory_object(path)
            await archivist.add(TREE, blake3.blake3(body).digest(), body)
    top = blake3.blake3(tree.directory_object(TOP)).digest()
    return await name_root(archivist, [(TOP, tree.get(TOP), top)], seq)


async def archive_file(archivist: Archivist, root: Path, path: bytes, entry: Entry) -> None:
    """Store the chunks of one file."""
    with (root / path.decode("utf8", "surrogateescape")).open("rb") as file:
        for chunk, (start, length) in zip(entry.chunks, block_ranges(entry.size, entry.bounds), strict=True):
            if chunk != HOLE:
                file.seek(start)
                data = file.read(length)
                assert chunk_id(data, archivist.repository.keys.chunk_key) == chunk
                await archivist.add(DATA, chunk, data)


async def name_root(
    archivist: Archivist, listing: list[tuple[bytes, Entry | None, bytes]], seq: int = 1
) -> CommitRecord:
    """Store the object of the root that has this listing, everything that waits, and the commit."""
    body = msgspec.msgpack.encode(listing)
    root = blake3.blake3(body).digest()
    await archivist.add(TREE, root, body)
    await archivist.finish()
    record = CommitRecord(VERSION, Commit(CommitId(1, seq), None, root, 0, consistent=True))
    await archivist.repository.put_record(commit_key(record.commit.id), record)
    return record
