"""A live tree: a workspace's directory while programs work in it, read without changing anything.

Names of one inode are one thing: whoever reads one of them hears of the others too, because a write through one name,
or the removal of one, changes the entries of all, and the kernel's hints name only one.
"""

import asyncio
import os
import threading
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from dumont.errors import BadInput
from dumont.model.commit import HOLE, Entry, Kind
from dumont.snapshot.chunk import NO_KEY, chunk_id
from dumont.snapshot.index import Index, Known, Signature, is_racy, signature_of
from dumont.snapshot.links import Inode, Links
from dumont.snapshot.place import Place
from dumont.snapshot.reading import BlobSink, Grabbed, Reading
from dumont.snapshot.scan import OpenFile, has_moved, open_path, walk
from dumont.snapshot.tree import TOP, Tree

_STEP_BYTES = 2**20
_PAUSE_S_MAX = 1.0


@dataclass(frozen=True)
class Held(Grabbed):
    """What was grabbed, with its attributes. `hashed`: `entry` has its chunks already, there are no blocks.

    `racy`: the content was taken for unchanged on weaker evidence than usual; read it again when there is time.
    """

    signature: Signature | None = None
    read_at_ns: int = 0
    hashed: bool = False
    racy: bool = False


class LiveTree:
    """The tree at `directory`. `index` may hold what is known of it, changed by nobody since; it is kept up to date.

    All methods may run at the same time. `close` when done.
    """

    def __init__(self, directory: Path, index: Index | None = None, key: bytes = NO_KEY) -> None:
        self.directory = directory
        self.index = index if index is not None else Index()
        self.key = key
        self._links = Links()
        self._relinked: set[bytes] = set()
        self._lock = threading.Lock()
        self._nobody_is_frozen = threading.Event()
        self._nobody_is_frozen.set()
        self._grabber = ThreadPoolExecutor(1, "grab")  # of its own: a grab must not queue behind a slow copy
        now_ns = time.time_ns()
        for path, known in self.index.items():
            self._links.note(path, known.signature.inode if known.entry else None)
            racy = known.racy or is_racy(known.signature, now_ns)
            self.index.put(path, Known(known.signature, known.entry, racy))

    async def learn(self, known: Tree) -> None:
        """Take it that `known` is what is here, wherever attributes agree; nothing is read.

        Without this (or an index), a new name of an inode that was never read can't be told from a new file.
        """
        await asyncio.to_thread(self._learn, known)

    def _learn(self, known: Tree) -> None:
        with Place(self.directory) as place:
            for path, seen in walk(place):
                signature, entry = signature_of(seen), known.get(path)
                if entry is None or not _has_attributes(entry, signature):
                    continue
                with self._lock:
                    if self.index.get(path) is None:
                        self.index.put(path, Known(signature, entry, racy=True))
                    self._links.note(path, signature.inode)

    def close(self) -> None:
        """Let go of the thread that grabs."""
        self._grabber.shutdown(wait=False)

    def relinked(self) -> set[bytes]:
        """Paths whose entry changed because another name of their inode was copied; the next `grab` adds them."""
        with self._lock:
            return set(self._relinked)

    async def walk(self, below: bytes, known: Tree) -> set[bytes]:
        """Paths at or under `below` that differ from `known`, or might, or are gone."""
        expected = {below, *known.below(below)} if below in known else set(known.below(below))
        return await asyncio.to_thread(self._walk, below, known, expected)

    async def size(self, paths: Collection[bytes]) -> int:
        """How many bytes `grab` would copy for `paths`."""
        return await asyncio.to_thread(self._size, paths)

    async def copy(self, path: bytes, sink: BlobSink) -> Reading:
        """Read one path block by block, each handed to `sink`, holding one step (1 MiB or a block) in memory."""
        copying = _Copying(self, path)
        try:
            while copying.reading is None:
                for chunk, data in await asyncio.to_thread(copying.step):
                    await sink(chunk, data)
            return copying.reading
        finally:
            copying.close()

    async def grab(self, paths: Collection[bytes], bytes_max: int) -> list[Grabbed]:
        """Copy all `paths`, and names that share an inode with them, into memory, unhashed.

        Raises BadInput when they exceed `bytes_max`.
        """
        loop = asyncio.get_running_loop()
        self._nobody_is_frozen.clear()
        try:
            return await loop.run_in_executor(self._grabber, self._grab, paths, bytes_max)
        finally:
            self._nobody_is_frozen.set()

    async def digest(self, grabbed: list[Grabbed], sink: BlobSink) -> list[Reading]:
        """Hash what was grabbed, hand its blocks to `sink`, and answer with the entries."""
        held = [grab for grab in grabbed if isinstance(grab, Held)]
        assert len(held) == len(grabbed), "what another tree grabbed can't be digested here"
        ids = await asyncio.to_thread(self._hash, held)
        for blocks, chunks in ids.values():
            for chunk, data in zip(chunks, blocks, strict=True):
                if chunk != HOLE:
                    await sink(chunk, data)
        found = []
        for grab in held:
            entry = grab.entry
            if entry and not grab.hashed and entry.kind is Kind.FILE:
                entry = replace(entry, chunks=ids[id(grab.blocks)][1])
            found.append(_Found(grab.path, grab.signature, entry, grab.read_at_ns, racy=grab.racy))
        entries = self.note(found)
        return [Reading(grab.path, entry, uncovered=grab.uncovered) for grab, entry in zip(held, entries, strict=True)]

    def _hash(self, held: list[Held]) -> dict[int, tuple[tuple[bytes, ...], tuple[bytes, ...]]]:
        """Blocks and their ids by identity: names of one inode share their blocks."""
        ids = {}
        for grab in held:
            if id(grab.blocks) not in ids:
                chunks = tuple(chunk_id(block, self.key) if block else HOLE for block in grab.blocks)
                ids[id(grab.blocks)] = (grab.blocks, chunks)
        return ids

    def _walk(self, below: bytes, known: Tree, expected: set[bytes]) -> set[bytes]:
        changed: set[bytes] = set()
        with Place(self.directory) as place:
            for number, (path, seen) in enumerate(walk(place, below)):
                if number % 64 == 0:
                    self.wait_while_frozen()
                expected.discard(path)
                if not self._is_known(path, seen, known.get(path)):
                    changed.add(path)
        return changed | expected

    def _is_known(self, path: bytes, seen: os.stat_result, entry: Entry | None) -> bool:
        known = self.index.get(path)
        if known is None or known.racy or known.signature != signature_of(seen):
            return False
        return known.entry is entry or known.entry == entry

    def _size(self, paths: Collection[bytes]) -> int:
        total = 0
        with Place(self.directory) as place:
            for path in paths:
                opened = open_path(place, path, _uncut)
                if opened.file:
                    total += opened.file.data_bytes
                    opened.file.close()
        return total

    def _grab(self, paths: Collection[bytes], bytes_max: int) -> list[Grabbed]:
        with self._lock:
            relatives = self._relinked.difference(paths)
        with Place(self.directory) as place:
            grabbing = _Grabbing(self, place, bytes_max)
            for path in paths:
                relatives |= grabbing.take(path)
            while relatives := relatives.difference(grabbing.taken):
                for path in sorted(relatives):
                    relatives |= grabbing.take_relative(path)
        return list(grabbing.taken.values())

    def names(self, path: bytes, inode: Inode | None) -> set[bytes]:
        """Other names that are affected when `path` is found to name `inode`."""
        with self._lock:
            before = self._links.inode(path)
            names = self._links.names(inode) if inode else set()
            if before and before != inode:
                names |= self._links.names(before)
        names.discard(path)
        return names

    def wait_while_frozen(self) -> None:
        """Background work steps aside while the workload stands still: threads of Python share one lock."""
        self._nobody_is_frozen.wait(_PAUSE_S_MAX)

    def note(self, found: "Iterable[_Found]") -> list[Entry | None]:
        """Remember what was read; the entries, with their links."""
        found = list(found)
        with self._lock:
            affected: set[bytes] = set()
            for one in found:
                self._relinked.discard(one.path)
                if one.entry is None or one.entry.kind is not Kind.DIRECTORY:
                    affected |= self._forget_below(one.path)
                inode = one.signature.inode if one.signature and one.entry else None
                affected |= self._links.note(one.path, inode)
                affected |= self._links.names(inode) if inode else set()
            entries = [self._put(one) for one in found]
            self._relinked |= {path for path in affected if self._is_stale(path)}
        return entries

    def _forget_below(self, path: bytes) -> set[bytes]:
        affected: set[bytes] = set()
        for below in self.index.below(path):
            affected |= self._links.note(below, None)
            self.index.drop(below)
        return affected

    def _put(self, one: "_Found") -> Entry | None:
        entry = one.entry
        if one.signature is None:
            self.index.drop(one.path)
            return None
        if entry is not None and entry.link != (link := self._links.canonical(one.path)):
            entry = replace(entry, link=link)
        racy = one.racy or is_racy(one.signature, one.read_at_ns)
        self.index.put(one.path, Known(one.signature, entry, racy))
        return entry

    def _is_stale(self, path: bytes) -> bool:
        """Whether what we said last of `path` no longer fits what its inode was found to be."""
        known, inode = self.index.get(path), self._links.inode(path)
        if known is None or known.entry is None or inode is None:
            return False
        if known.entry.link != self._links.canonical(path):
            return True
        others = (self.index.get(other) for other in self._links.names(inode))
        return any(
            other.entry != known.entry and other.signature.ctime_ns > known.signature.ctime_ns
            for other in others
            if other is not None
        )


def _uncut(path: bytes, size: int) -> tuple[int, ...]:
    """To know how long a file is, nobody need look for tensors in it."""
    return ()


def _has_attributes(entry: Entry, signature: Signature) -> bool:
    size = signature.size if entry.kind is Kind.FILE else 0
    return (entry.mtime_ns, entry.size) == (signature.mtime_ns, size) and (
        (entry.kind is Kind.DIRECTORY) == (signature.inode is None)
    )


@dataclass(frozen=True)
class _Found:
    path: bytes
    signature: Signature | None
    entry: Entry | None
    read_at_ns: int
    racy: bool = False


class _Grabbing:
    """One grab: each inode is read once, whatever the number of its names."""

    def __init__(self, live: LiveTree, place: Place, bytes_max: int) -> None:
        self.taken: dict[bytes, Grabbed] = {}
        self._live = live
        self._place = place
        self._left = bytes_max
        self._bytes_max = bytes_max
        self._by_inode: dict[Inode, Held] = {}

    def take(self, path: bytes) -> set[bytes]:
        """Read `path`; the names that are affected by what it holds."""
        read_at_ns = time.time_ns()
        opened = open_path(self._place, path)
        signature = signature_of(opened.seen) if opened.seen else None
        inode = signature.inode if signature else None
        try:
            twin = self._by_inode.get(inode) if inode else None
            if twin and opened.entry:
                held = Held(path, twin.entry, twin.blocks, "", twin.signature, twin.read_at_ns, twin.hashed)
            else:
                blocks = self._blocks(opened.file) if opened.file else ()
                held = Held(path, opened.entry, blocks, opened.uncovered, signature, read_at_ns)
        finally:
            if opened.file:
                opened.file.close()
        if inode and held.entry:
            self._by_inode[inode] = held
        self.taken[path] = held
        return self._live.names(path, inode if held.entry else None)

    def take_relative(self, path: bytes) -> set[bytes]:
        """Read a path that nobody named, but that shares its inode with one; its content may be known already."""
        seen = self._place.look(path)
        known = self._live.index.get(path)
        signature = signature_of(seen) if seen else None
        if signature is None or signature.inode in self._by_inode or known is None or known.entry is None:
            return self.take(path)
        twin = self._read_twin(signature)
        if twin is None and not self._is_same_content(signature, known.signature):
            return self.take(path)
        entry = twin.entry if twin else known.entry
        self.taken[path] = Held(path, entry, (), "", signature, time.time_ns(), hashed=True, racy=twin is None)
        return self._live.names(path, signature.inode)

    def _read_twin(self, signature: Signature) -> Known | None:
        """Another name of the inode that was read, whole, since the inode last changed."""
        for name in self._live.names(TOP, signature.inode):
            known = self._live.index.get(name)
            if known and known.entry and known.signature == signature:
                return known
        return None

    @staticmethod
    def _is_same_content(now: Signature, before: Signature) -> bool:
        """A name less or more changes ctime. A write that hides behind one has a hint of its own."""
        return replace(now, ctime_ns=0, nlink=0) == replace(before, ctime_ns=0, nlink=0)

    def _blocks(self, file: OpenFile) -> tuple[bytes, ...]:
        self._left -= file.data_bytes
        if self._left < 0:
            raise BadInput(f"what is to be grabbed exceeds {self._bytes_max} bytes; copy it first")
        return tuple(file.block(number) for number in range(file.count))


class _Copying:
    """One copy, a step at a time in threads. `reading` is set when all is read."""

    def __init__(self, live: LiveTree, path: bytes) -> None:
        self.reading: Reading | None = None
        self._live = live
        self._path = path
        self._file: OpenFile | None = None
        self._entry: Entry | None = None
        self._seen: os.stat_result | None = None
        self._chunks: list[bytes] = []
        self._read_at_ns = 0
        self._uncovered = ""
        self._closed = False
        self._stepping = threading.Lock()

    def step(self) -> list[tuple[bytes, bytes]]:
        """Read on for about a step; chunks with their data."""
        self._live.wait_while_frozen()
        with self._stepping:
            if self._closed:
                return []
            if not self._read_at_ns:
                self._open()
            got: list[tuple[bytes, bytes]] = []
            taken = 0
            while self._file and len(self._chunks) < self._file.count and taken < _STEP_BYTES:
                data = self._file.block(len(self._chunks))
                chunk = chunk_id(data, self._live.key) if data else HOLE
                self._chunks.append(chunk)
                taken += len(data)
                if data:
                    got.append((chunk, data))
            if self._file is None or len(self._chunks) == self._file.count:
                self._finish()
            return got

    def close(self) -> None:
        """Close the file; a step that still runs is waited for."""
        with self._stepping:
            self._closed = True
            if self._file:
                self._file.close()

    def _open(self) -> None:
        self._read_at_ns = time.time_ns()
        with Place(self._live.directory) as place:
            opened = open_path(place, self._path)
        self._file, self._entry, self._seen = opened.file, opened.entry, opened.seen
        self._uncovered = opened.uncovered

    def _finish(self) -> None:
        with Place(self._live.directory) as place:
            moved = has_moved(place, self._path, self._seen)
        moved = moved or (self._file is not None and self._file.short)
        if self._entry and self._entry.kind is Kind.FILE:
            self._entry = replace(self._entry, chunks=tuple(self._chunks))
        signature = signature_of(self._seen) if self._seen else None
        found = _Found(self._path, signature, self._entry, self._read_at_ns, racy=moved)
        self.reading = Reading(self._path, self._live.note([found])[0], moved, self._uncovered)
