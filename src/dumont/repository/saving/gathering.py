"""A gathering: everything that a survey found to be read is read by the hands, and what is new of it is kept.

Each hand has one batch being read and one being judged, so that none waits for the coordinator.
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from os import stat_result
from typing import Any

import msgspec
from msgspec.structs import replace

from dumont.model.commit import HOLE, Entry, Kind
from dumont.repository.batch import batches
from dumont.repository.hands import Hand
from dumont.repository.progress import Progress
from dumont.repository.record import Pack
from dumont.repository.saving.intake import (
    CHANGED,
    GONE,
    HOLES,
    BlocksRead,
    FilesRead,
    Keep,
    Kept,
    ReadBlocks,
    ReadFiles,
)
from dumont.repository.saving.survey import Folder, Survey
from dumont.repository.saving.walk import mark_of
from dumont.repository.saving.whole import SMALL_BLOCK_BYTES, SMALL_FILE_BYTES_MAX
from dumont.snapshot.chunk import ID_BYTES, block_ranges
from dumont.snapshot.index import RACY_NS
from dumont.snapshot.pages import drop
from dumont.snapshot.place import Place
from dumont.snapshot.scan import Cut, open_path
from dumont.snapshot.tree import join

BATCH_BYTES = 8 * 2**20
_BATCH_FILES = 512
_TRIES = 3
_NO_ID = bytes(ID_BYTES)
_MODE = 0o7777
_encode = msgspec.msgpack.encode
_decode_files = msgspec.msgpack.Decoder(FilesRead).decode
_decode_blocks = msgspec.msgpack.Decoder(BlocksRead).decode
_decode_kept = msgspec.msgpack.Decoder(Kept).decode
Found = Iterator[tuple[Folder, int, stat_result]]


async def together(drives: "Sequence[Coroutine[Any, Any, None]]") -> None:
    """Wait for all; when one raises, the others are ended, and that is raised."""
    tasks = [asyncio.ensure_future(drive) for drive in drives]
    try:  # no TaskGroup: whoever saves answers to what a hand raised, not to a group of it
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class _Files:
    """A batch of small files: the folder, the number of the name and the attributes of each."""

    request: ReadFiles
    files: list[tuple[Folder, int, stat_result]]


@dataclass
class _Large:
    """A file that is read in blocks. `waiting`: batches not read yet. `tries`: how often it moved meanwhile."""

    folder: Folder
    number: int
    entry: Entry
    chunks: list[bytes]
    waiting: int = 0
    tries: int = 0
    was_cold: bool = False
    moved: bool = False


@dataclass
class _Blocks:
    """A batch of blocks of one large file. `numbers` are those of its chunks."""

    request: ReadBlocks
    file: _Large
    numbers: list[int]


@dataclass
class Gathering:
    """`is_stored` gives something true for a chunk that need not be kept; `on_packs` hears of packs that were stored.

    `fuzzy`: paths that moved while they were read, whatever was tried. What has gone meanwhile has no entry.
    """

    place: Place
    found: Survey
    is_stored: Callable[[bytes], object]
    on_packs: Callable[[list[Pack]], Awaitable[None]]
    progress: Progress
    cut: Cut
    fuzzy: set[bytes] = field(default_factory=set)
    _claimed: set[bytes] = field(default_factory=set)
    _large: deque[tuple[Folder, int, int]] = field(default_factory=deque)
    _again: deque[tuple[Folder, int, int]] = field(default_factory=deque)

    async def run(self, to_read: Found, hands: Sequence[Hand]) -> None:
        """Read it all. Raises what a hand raised."""
        while True:
            work = self._work(to_read)
            await together([self._drive(hand, work) for hand in hands])
            if self._again:
                await asyncio.sleep(RACY_NS / 1e9)
            elif not self._large:
                return
            self._large.extend(self._again)
            self._again.clear()
            to_read = iter(())

    async def _drive(self, hand: Hand, work: "Iterator[_Files | _Blocks]") -> None:
        judged: tuple[_Files | _Blocks, asyncio.Task[bytes]] | None = None
        asked: list[asyncio.Task[bytes]] = []
        try:
            while True:
                batch = next(work, None)
                reading = asyncio.create_task(hand.ask(_encode(batch.request))) if batch else None
                asked = [task for task in (judged and judged[1], reading) if task]
                if judged is not None:
                    await self._settle(hand, judged[0], await judged[1])
                if batch is None or reading is None:
                    return
                judged = batch, reading
                await asyncio.sleep(0)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)  # or what the second raised is told as a bug

    async def _settle(self, hand: Hand, batch: _Files | _Blocks, answer: bytes) -> None:
        """Take the answer in, and tell the hand what to keep."""
        if isinstance(batch, _Files):
            ids = self._take_files(batch, _decode_files(answer))
        else:
            ids = self._take_blocks(batch, _decode_blocks(answer))
        await self.keep(hand, ids)

    async def keep(self, hand: Hand, ids: bytes) -> list[bytes]:
        """Tell the hand which chunks of its oldest batch to keep. Returns the ids of all of them."""
        chunks = [ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)]
        kept = _decode_kept(await hand.ask(_encode(Keep(self._new(chunks)))))
        if kept.packs:
            await self.on_packs(kept.packs)
        return chunks

    def _new(self, chunks: list[bytes]) -> list[int] | None:
        """The numbers of chunks that nobody has yet; None when all are new."""
        claimed, is_stored = self._claimed, self.is_stored
        different = set(chunks)
        is_all = len(different) == len(chunks) and _NO_ID not in different and claimed.isdisjoint(different)
        if is_all and not any(map(is_stored, chunks)):
            claimed |= different
            return None
        keep = []
        for number, chunk in enumerate(chunks):
            if chunk in claimed or chunk == _NO_ID or is_stored(chunk):
                continue
            claimed.add(chunk)
            keep.append(number)
        return keep

    def _work(self, to_read: Found) -> "Iterator[_Files | _Blocks]":
        """Batches: small files in the order they are found, then the large ones."""
        files: list[tuple[Folder, int, stat_result]] = []
        length = 0
        total = files_total = 0
        holey = self.found.holey
        for folder, number, look in to_read:
            size = look.st_size
            total += size
            files_total += 1
            if (
                size >= SMALL_FILE_BYTES_MAX
                or look.st_blocks * 512 < size
                or (holey and self._is_holey(folder, number))
            ):
                self._large.append((folder, number, 0))
                continue
            if files and (length + size > BATCH_BYTES or len(files) >= _BATCH_FILES):
                yield _batch(files)
                files, length = [], 0
            files.append((folder, number, look))
            length += size
        if self.progress.total_bytes is None:
            self.progress.total_bytes, self.progress.total_files = total, files_total
        if files:
            yield _batch(files)
        while self._large:
            yield from self._blocks_of(*self._large.popleft())

    def _is_holey(self, folder: Folder, number: int) -> bool:
        return join(folder.path, folder.names[number]) in self.found.holey

    def _blocks_of(self, folder: Folder, number: int, tries: int) -> "Iterator[_Blocks]":
        path = join(folder.path, folder.names[number])
        opened = open_path(self.place, path, self.cut)
        if opened.uncovered:
            self.found.uncovered[path] = opened.uncovered
        if opened.entry is None or opened.seen is None:
            return
        if opened.file is None:
            folder.entries[number] = opened.entry if opened.entry.kind is not Kind.DIRECTORY else None
            self.fuzzy.add(path)
            return
        try:
            folder.marks[number] = mark_of(opened.seen)
            ranges = list(block_ranges(opened.file.size, opened.file.bounds))
            chunks = [HOLE if opened.file.is_hole(at) else _NO_ID for at in range(len(ranges))]
        finally:
            opened.file.close()
        large = _Large(folder, number, opened.entry, chunks, tries=tries, was_cold=opened.file.was_cold)
        wanted = [at for at, chunk in enumerate(chunks) if chunk != HOLE]
        numbered = list(batches(wanted, lambda at: ranges[at][1], BATCH_BYTES))
        large.waiting = len(numbered)
        if not numbered:
            self._finish(large)
        for numbers in numbered:
            blocks = [ranges[at] for at in numbers]
            request = ReadBlocks(
                path, opened.file.size, opened.seen.st_ctime_ns, opened.file.sparse, blocks, large.was_cold
            )
            yield _Blocks(request, large, numbers)

    def _take_files(self, batch: _Files, answer: FilesRead) -> bytes:
        at = total = 0
        ids, odd, xattrs = answer.ids, answer.odd, answer.xattrs
        for number, (folder, name_number, look) in enumerate(batch.files):
            size = look.st_size
            total += size
            end = at + -(-size // SMALL_BLOCK_BYTES) * ID_BYTES
            if number in odd:
                self._take_odd(folder, name_number, odd[number])
            else:
                one = end - at == ID_BYTES
                chunks = (ids[at:end],) if one else tuple(ids[cut : cut + ID_BYTES] for cut in range(at, end, ID_BYTES))
                entry = Entry(Kind.FILE, look.st_mode & _MODE, look.st_uid, look.st_gid, look.st_mtime_ns, size, chunks)
                folder.entries[name_number] = replace(entry, xattrs=xattrs[number]) if number in xattrs else entry
            at = end
        self.progress.done_files += len(batch.files)
        self.progress.done_bytes += total
        return ids

    def _take_odd(self, folder: Folder, number: int, why: str) -> None:
        if why == CHANGED:
            self._again.append((folder, number, 0))
        elif why == HOLES:
            self._large.append((folder, number, 0))
        elif why != GONE:
            self.found.uncovered[join(folder.path, folder.names[number])] = why

    def _take_blocks(self, batch: _Blocks, answer: BlocksRead) -> bytes:
        file = batch.file
        for at, number in enumerate(batch.numbers):
            chunk = answer.ids[at * ID_BYTES : (at + 1) * ID_BYTES]
            file.chunks[number] = HOLE if chunk == _NO_ID else chunk
        file.moved |= answer.moved
        file.waiting -= 1
        self.progress.done_bytes += sum(length for _, length in batch.request.blocks)
        if not file.waiting:
            self._finish(file)
        return answer.ids

    def _finish(self, file: _Large) -> None:
        """All of it is read: if it moved meanwhile, again; what never stands still is taken as it was, and named."""
        if file.was_cold:
            self._drop(join(file.folder.path, file.folder.names[file.number]))
        if file.moved and file.tries + 1 < _TRIES:
            self._again.append((file.folder, file.number, file.tries + 1))
            return
        if file.moved:
            self.fuzzy.add(join(file.folder.path, file.folder.names[file.number]))
            file.folder.marks[file.number] = None
        self.progress.done_files += 1
        file.folder.entries[file.number] = replace(file.entry, chunks=tuple(file.chunks))

    def _drop(self, path: bytes) -> None:
        """Take out of memory what the kernel read ahead of one hand where another had been already."""
        try:
            fd = self.place.open(path, os.O_RDONLY)
        except OSError:
            return  # it went, or became something else
        try:
            drop(fd)
        finally:
            os.close(fd)


def _batch(files: list[tuple[Folder, int, stat_result]]) -> _Files:
    folders: list[tuple[bytes, list[tuple[bytes, int, int]]]] = []
    last: Folder | None = None
    for folder, number, look in files:
        if folder is not last:
            folders.append((folder.path, []))
            last = folder
        folders[-1][1].append((folder.names[number], look.st_size, look.st_ctime_ns))
    return _Files(ReadFiles(folders), files)
