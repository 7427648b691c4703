"""Content: where the blocks of a new file come from, each verified, and how they are written."""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from dumont.errors import Corrupt
from dumont.model.commit import HOLE, Entry, Kind
from dumont.snapshot.chunk import NO_KEY, PAGE_BYTES, block_range, block_ranges, chunk_id, stretches
from dumont.snapshot.durable import punch_hole, write_whole
from dumont.snapshot.place import Place, is_absent
from dumont.snapshot.tree import Tree


class Blobs(Protocol):
    """Chunks that lie ready outside the tree. `read` answers None for one that does not."""

    def has(self, chunk: bytes) -> bool: ...

    def read(self, chunk: bytes) -> bytes | None: ...


@dataclass(frozen=True)
class Shelf:
    """A tree on disk whose files may be read for their blocks."""

    place: Place
    tree: Tree


@dataclass(frozen=True)
class _Spot:
    place: Place
    path: bytes
    offset: int
    length: int


class Content:
    """Finds blocks: among `blobs`, in the files at `near` paths of the first shelf, then in all shelves.

    Blobs that are `far` are asked last. Everything found is verified under `key`.
    """

    def __init__(
        self, blobs: Blobs, shelves: list[Shelf], near: Iterable[bytes], far: bool = False, key: bytes = NO_KEY
    ) -> None:
        self._blobs = blobs
        self._far = far
        self._key = key
        self._shelves = shelves
        self._near = near
        self._spots: dict[bytes, list[_Spot]] = {}
        self._searched = 0

    def block(self, chunk: bytes) -> tuple[bytes, bool]:
        """The data of `chunk`, and whether it came from a shelf. Raises Corrupt when nobody has it whole."""
        if not self._far and (data := self._blob(chunk)) is not None:
            return data, False
        while self._searched < 2:
            if (data := self._from_shelves(chunk)) is not None:
                return data, True
            self._search()
        if (data := self._from_shelves(chunk)) is not None:
            return data, True
        if self._far and (data := self._blob(chunk)) is not None:
            return data, False
        raise Corrupt(f"chunk {chunk.hex()} is neither among the blobs nor whole in the tree")

    def _blob(self, chunk: bytes) -> bytes | None:
        data = self._blobs.read(chunk)
        if data is not None and chunk_id(data, self._key) != chunk:
            raise Corrupt(f"the blob of chunk {chunk.hex()} does not match it")
        return data

    def _from_shelves(self, chunk: bytes) -> bytes | None:
        for spot in self._spots.get(chunk, ()):
            try:
                fd = spot.place.force(spot.path, os.O_RDONLY)
            except OSError as error:
                if is_absent(error) or error.errno == errno.ENXIO:
                    continue
                raise
            try:
                data = os.pread(fd, spot.length, spot.offset)
            finally:
                os.close(fd)
            if chunk_id(data, self._key) == chunk:
                return data
        return None

    def _search(self) -> None:
        """Look a little further: a whole tree's chunks are listed only when what changed does not hold enough."""
        self._searched += 1
        if self._searched == 1:
            shelf = self._shelves[0]
            self._list(shelf, ((path, entry) for path in self._near if (entry := shelf.tree.get(path))))
            return
        for shelf in self._shelves:
            self._list(shelf, shelf.tree.entries())

    def _list(self, shelf: Shelf, entries: Iterable[tuple[bytes, Entry]]) -> None:
        for path, entry in entries:
            if entry.kind is not Kind.FILE:
                continue
            for chunk, (start, length) in zip(entry.chunks, block_ranges(entry.size, entry.bounds), strict=True):
                if chunk != HOLE:
                    self._spots.setdefault(chunk, []).append(_Spot(shelf.place, path, start, length))


def write_block(fd: int, entry: Entry, number: int, data: bytes) -> None:
    """Write block `number` of the file that `entry` describes, leaving zero pages out where it is sparse.

    The block must read as zeros so far, or hold no holes. Raises Corrupt when `data` has not the length of the block.
    """
    start, length = block_range(entry.size, number, entry.bounds)
    if len(data) != length:
        raise Corrupt(f"block {number} has {len(data)} bytes where {length} belong")
    if not entry.sparse:
        write_whole(fd, data, start)
        return
    for offset, part in stretches(data):
        write_whole(fd, part, start + offset)


def clear_block(fd: int, entry: Entry, number: int) -> None:
    """Make block `number` a hole, or zeros where the file system can't."""
    start, length = block_range(entry.size, number, entry.bounds)
    whole_pages = -(-length // PAGE_BYTES) * PAGE_BYTES  # of a page that is cut off by the end, all has to go
    if not punch_hole(fd, start, whole_pages):
        write_whole(fd, bytes(length), start)
