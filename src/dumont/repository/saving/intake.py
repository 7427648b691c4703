"""The intake: a hand that reads files, names their chunks, and puts those that are new into packs.

It is asked to read a batch, answers with the chunks' ids, and is told later which of them to keep; so that the
coordinator decides what is new for all hands while this one reads on.
"""

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import blake3
import msgspec

from dumont.errors import BadInput
from dumont.repository.codec import RAW, Coder, codec_of
from dumont.repository.hands import Blocking
from dumont.repository.keys import Keys
from dumont.repository.pack import FRAME_BYTES, Chunks, PackBuilder
from dumont.repository.probe import DENSE, NEAR_LINK, SOME_LINK, TEXT, Choice, Compression, kind_of
from dumont.repository.record import DATA, NOTHING_EXCLUDED, TREE, Exclusion, Pack
from dumont.repository.room import Room
from dumont.repository.saving.sending import Sending
from dumont.repository.saving.sieve import sieve_for
from dumont.repository.saving.whole import (
    ROOM_BYTES,
    SLACK_BYTES,
    SMALL_BLOCK_BYTES,
    FoldersRead,
    Reader,
    ReadFolders,
    has_holes,
    has_xattrs,
)
from dumont.snapshot.chunk import ID_BYTES, is_zeros
from dumont.snapshot.index import RACY_NS
from dumont.snapshot.pages import drop
from dumont.snapshot.place import Place, is_absent
from dumont.snapshot.scan import xattrs_of

_PROBED_BYTES_MIN = 32 * 2**10
_PROBED_EVERY_BYTES = 4 * SMALL_BLOCK_BYTES
_LARGE_PROBED_EVERY_BYTES = 4 * FRAME_BYTES
_RUN_BYTES_MIN = FRAME_BYTES // 4
CHANGED, GONE, HOLES = "changed", "gone", "holes"
_NO_ID = bytes(ID_BYTES)
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_DONTCACHE = 0x80  # RWF_DONTCACHE, Linux 6.14: pages that this read brings in go again, others stay


_Read = tuple[str, tuple[tuple[bytes, bytes], ...]]
"""Why a file could not be read, "" when it was; and its `user.` attributes."""


class Job(msgspec.Struct, frozen=True):
    """What a hand must know first. `top` is the directory that is saved, but for what is `excluded`."""

    top: bytes
    keys: Keys
    pack_bytes: int
    excluded: Exclusion = NOTHING_EXCLUDED
    compression: Compression = Compression.AUTO


class ReadFiles(msgspec.Struct, frozen=True, tag="files", array_like=True):
    """Read whole small files: `(directory, [(name, size, ctime_ns), …])`. Answered by FilesRead."""

    folders: list[tuple[bytes, list[tuple[bytes, int, int]]]]


class ReadBlocks(msgspec.Struct, frozen=True, tag="blocks", array_like=True):
    """Read `(start, length)` blocks of one file of `size` bytes, last changed at `ctime_ns`. Answered by BlocksRead.

    `was_cold`: nobody has the file in memory, so it should not stay there because of us.
    """

    path: bytes
    size: int
    ctime_ns: int
    sparse: bool
    blocks: list[tuple[int, int]]
    was_cold: bool = False


class Keep(msgspec.Struct, frozen=True, tag="keep", array_like=True):
    """Of the oldest batch that was read: the numbers of the chunks to keep, or None for all. Answered by Kept."""

    chunks: list[int] | None


class KeepTrees(msgspec.Struct, frozen=True, tag="trees", array_like=True):
    """Keep these directory objects. Answered by Kept."""

    bodies: list[bytes]


class Finish(msgspec.Struct, frozen=True, tag="finish", array_like=True):
    """Store what is kept and not stored yet. Answered by Kept."""


class FilesRead(msgspec.Struct, frozen=True, array_like=True):
    """`ids` of all chunks, file by file. `odd`: number of a file → why its ids are all zeros: CHANGED, GONE, HOLES (it
    has some, and is to be read in blocks) or an error in words. `xattrs`: number of a file → its `user.` attributes,
    if it has any."""

    ids: bytes
    odd: dict[int, str]
    xattrs: dict[int, tuple[tuple[bytes, bytes], ...]]


class BlocksRead(msgspec.Struct, frozen=True, array_like=True):
    """`ids` of the blocks, all zeros for one that is a hole. `moved`: the file may not be what it was at `ctime_ns`."""

    ids: bytes
    moved: bool


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """Packs that were stored since the last answer."""

    packs: list[Pack]


@dataclass
class _Batch:
    """Chunks of data in one buffer: `(start, end)` of each; an empty one is not for keeping."""

    room: Room
    ids: bytes
    ranges: list[tuple[int, int]]


@dataclass(frozen=True)
class Outside:
    """Chance and time, as a hand has them. `entropy` names packs; `now_ns`, Unix time, dates them; `files_ns` is the
    clock of the file system that is read; `choice` learns how to encode from what takes how long."""

    entropy: Callable[[int], bytes] = os.urandom
    now_ns: Callable[[], int] = time.time_ns
    files_ns: Callable[[], int] = time.time_ns
    choice: Callable[[float, Compression], Choice] = Choice


OUTSIDE = Outside()


def start_saving(message: bytes, blocking: Blocking) -> "Intake":
    """The worker of a save: its first message is a Job."""
    return Intake(msgspec.msgpack.decode(message, type=Job), blocking)


class Intake:
    """The worker. Holds two or three batches, one pack and one frame of each kind of bytes in memory."""

    def __init__(self, job: Job, blocking: Blocking, outside: Outside = OUTSIDE) -> None:
        self._files_ns = outside.files_ns
        self._key = job.keys.chunk_key
        self._place = Place(Path(os.fsdecode(job.top)))
        self._sieve = sieve_for(job.excluded, self._place)
        self._flags = _OPEN | os.O_NOATIME if os.geteuid() == 0 else _OPEN
        self._dontcache = _DONTCACHE
        self._batches: deque[_Batch] = deque()
        self._spare: list[Room] = []
        self._filling = Filling(job, blocking, outside)
        self._decode = msgspec.msgpack.Decoder(ReadFolders | ReadFiles | ReadBlocks | Keep | KeepTrees | Finish).decode

    def handle(self, message: bytes) -> bytes:
        request = self._decode(message)
        match request:
            case ReadFolders():
                answer: msgspec.Struct = self._read_folders(request)
            case ReadFiles():
                answer = self._read_files(request)
            case ReadBlocks():
                answer = self._read_blocks(request)
            case Keep():
                self._keep(request)
                answer = Kept(self._filling.taken())
            case KeepTrees():
                for body in request.bodies:
                    self._filling.add_tree(body)
                answer = Kept(self._filling.taken())
            case Finish():
                self._filling.finish()
                answer = Kept(self._filling.taken())
        return msgspec.msgpack.encode(answer)

    def end(self) -> None:
        self._place.close()

    def _read_folders(self, request: ReadFolders) -> FoldersRead:
        batch = self._batch(ROOM_BYTES + 1)
        racy_from_ns = min(request.racy_from_ns, self._files_ns() - RACY_NS)  # a clock may be set back meanwhile
        reader = Reader(self._place, self._key, batch.room.view[: ROOM_BYTES + 1], racy_from_ns)
        reader.sieve = self._sieve
        folders = reader.read(request.paths)
        batch.ids, batch.ranges = b"".join(reader.ids), reader.ranges
        return FoldersRead(batch.ids, folders)

    def _read_files(self, request: ReadFiles) -> FilesRead:
        racy_from_ns = self._files_ns() - RACY_NS
        total = sum(size for _, files in request.folders for _, size, _ in files)
        batch = self._batch(total + 1)  # the byte more tells whether a file has grown
        ids: list[bytes] = []
        odd: dict[int, str] = {}
        xattrs: dict[int, tuple[tuple[bytes, bytes], ...]] = {}
        number = at = 0
        view = batch.room.view
        hashed, key, ranges = blake3.blake3, self._key, batch.ranges
        for path, files in request.folders:
            folder, missing = self._folder(path)
            for name, size, ctime_ns in files:
                end = at + size
                why, more = missing or self._read_file(name, folder, view[at : end + 1], ctime_ns)
                if not why and ctime_ns > racy_from_ns:
                    why = CHANGED  # or might have been, without showing it
                if why:
                    odd[number] = why
                    count = -(-size // SMALL_BLOCK_BYTES)
                    ids += [_NO_ID] * count
                    ranges += [(0, 0)] * count
                else:
                    while at < end:
                        cut = min(at + SMALL_BLOCK_BYTES, end)
                        ids.append(hashed(view[at:cut], key=key).digest())
                        ranges.append((at, cut))
                        at = cut
                if more:
                    xattrs[number] = more
                number += 1
        batch.ids = b"".join(ids)
        return FilesRead(batch.ids, odd, xattrs)

    def _folder(self, path: bytes) -> tuple[int, _Read | None]:
        """The open directory, to be used before another is asked for; or what there is to say of each of its files."""
        try:
            return self._place.directory(path), None
        except OSError as error:
            return -1, _not_opened(error)

    def _read_file(self, name: bytes, directory: int, room: memoryview, ctime_ns: int) -> _Read:
        """Read one file into `room`, which has a byte more than it should take."""
        try:
            fd = self._open(name, directory)
        except OSError as error:
            return _not_opened(error)
        try:
            size = len(room) - 1
            length = os.readv(fd, [room])
            look = os.fstat(fd)
            if length != size or look.st_ctime_ns != ctime_ns:
                return CHANGED, ()
            xattrs = xattrs_of(fd) if has_xattrs(fd) else ()
            if (xattrs or look.st_blocks * 512 > size + SLACK_BYTES) and has_holes(fd, size):
                return HOLES, ()
            return "", xattrs
        except OSError as error:
            return f"unreadable: {error.strerror}", ()
        finally:
            os.close(fd)

    def _open(self, name: bytes, directory: int) -> int:
        try:
            return os.open(name, self._flags, dir_fd=directory)
        except PermissionError:
            return os.open(name, _OPEN, dir_fd=directory)

    def _read_blocks(self, request: ReadBlocks) -> BlocksRead:
        batch = self._batch(sum(length for _, length in request.blocks))
        moved = False
        try:
            fd = self._place.open(request.path, os.O_RDONLY)
        except OSError:
            fd = -1
            moved = True
        racy_from_ns = self._files_ns() - RACY_NS
        ids = []
        at = 0
        view = batch.room.view
        try:
            for start, length in request.blocks:
                block = view[at : at + length]
                moved |= not self._fill(fd, block, start)
                if request.sparse and is_zeros(block):
                    ids.append(_NO_ID)
                    batch.ranges.append((0, 0))
                else:
                    ids.append(blake3.blake3(block, key=self._key).digest())
                    batch.ranges.append((at, at + length))
                at += length
            moved = moved or request.ctime_ns > racy_from_ns or not _is_as_before(os.fstat(fd), request)
        finally:
            if fd >= 0:
                if request.was_cold and request.blocks:
                    first, (last, length) = request.blocks[0][0], request.blocks[-1]
                    drop(fd, first, last + length - first)
                os.close(fd)
        batch.ids = b"".join(ids)
        return BlocksRead(batch.ids, moved)

    def _fill(self, fd: int, block: memoryview, start: int) -> bool:
        """Read a block; what is not there any more is zeros, and makes this False."""
        at = 0
        while at < len(block) and fd >= 0:
            try:
                length = os.preadv(fd, [block[at:]], start + at, self._dontcache)
            except OSError as error:
                if not self._dontcache or error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    break
                self._dontcache = 0
                continue
            if not length:
                break
            at += length
        block[at:] = bytes(len(block) - at)
        return at == len(block)

    def _batch(self, length: int) -> _Batch:
        room = self._spare.pop() if self._spare else Room()
        room.at_least(length)
        batch = _Batch(room, b"", [])
        self._batches.append(batch)
        return batch

    def _keep(self, request: Keep) -> None:
        if not self._batches:
            raise BadInput("there is no batch to keep")
        batch = self._batches.popleft()
        numbers = range(len(batch.ranges)) if request.chunks is None else request.chunks
        self._filling.add(batch.room.view, batch.ids, batch.ranges, numbers)
        self._spare.append(batch.room)


def _not_opened(error: OSError) -> _Read:
    absent = is_absent(error) or error.errno == errno.ENXIO
    return (GONE if absent else f"unreadable: {error.strerror}"), ()


def _is_as_before(now: os.stat_result, request: ReadBlocks) -> bool:
    return now.st_ctime_ns == request.ctime_ns and now.st_size == request.size


class Filling:
    """Puts chunks into frames by their kind of bytes, frames into packs, and packs into the store."""

    def __init__(self, job: Job, blocking: Blocking, outside: Outside = OUTSIDE) -> None:
        self._coder = Coder()
        self._choice = outside.choice(NEAR_LINK if blocking.is_near else SOME_LINK, job.compression)
        self._builder = PackBuilder(
            job.keys, lambda: outside.entropy(16).hex(), lambda: outside.now_ns() // 10**9, job.pack_bytes
        )
        self._sending = Sending(blocking, self._builder, self._choice.note_link)
        self._open: dict[tuple[str, int], _Frame] = {}

    def taken(self) -> list[Pack]:
        """Packs that were stored since the last call."""
        return self._sending.taken()

    def add(self, view: memoryview, ids: bytes, ranges: list[tuple[int, int]], numbers: Sequence[int]) -> None:
        """Add chunks of `view`. Neighbours of one kind become frames as they lie; the rest is collected."""
        for kind, start, end, run in self._runs(view, ranges, numbers):
            names = [ids[number * ID_BYTES : (number + 1) * ID_BYTES] for number in run]
            lengths = [ranges[number][1] - ranges[number][0] for number in run]
            if end - start >= _RUN_BYTES_MIN:
                self._emit(kind, DATA, view[start:end], Chunks(names, lengths, end - start))
                continue
            at = start
            for name, length in zip(names, lengths, strict=True):
                self._collect(kind, DATA, view[at : at + length], name)
                at += length

    def add_tree(self, body: bytes) -> None:
        """Add a directory object."""
        self._collect(TEXT, TREE, memoryview(bytearray(body)), blake3.blake3(body).digest())

    def finish(self) -> None:
        """Store everything that was added."""
        for kind, frame_kind in list(self._open):
            self._emit_open(kind, frame_kind)
        if self._builder.used:
            self._sending.send()
        self._sending.settle()

    def _runs(
        self, view: memoryview, ranges: list[tuple[int, int]], numbers: Sequence[int]
    ) -> Iterator[tuple[str, int, int, list[int]]]:
        """`(kind, start, end, numbers)` of neighbouring chunks that make a frame."""
        kind, start, end, probed_at, was_whole = TEXT, 0, 0, 0, False
        run: list[int] = []
        for number in numbers:
            first, last = ranges[number]
            if first == last:
                continue
            every_bytes = _PROBED_EVERY_BYTES if last - first < FRAME_BYTES else _LARGE_PROBED_EVERY_BYTES
            if first == end and was_whole and end - probed_at < every_bytes:
                now = kind  # it goes on in the same file, most likely
            elif last - first < _PROBED_BYTES_MIN:
                now = TEXT
            else:
                now, probed_at = kind_of(self._coder, view[first:last]), first
            if run and (first != end or now != kind or last - start > FRAME_BYTES):
                yield kind, start, end, run
                run = []
            if not run:
                start = first
            kind, end, was_whole = now, last, last - first >= SMALL_BLOCK_BYTES
            run.append(number)
        if run:
            yield kind, start, end, run

    def _collect(self, kind: str, frame_kind: int, data: memoryview, id: bytes) -> None:
        frame = self._open.setdefault((kind, frame_kind), _Frame())
        if frame.chunks.lengths and frame.chunks.plain_bytes + len(data) > FRAME_BYTES:
            self._emit_open(kind, frame_kind)
        frame.add(id, data)

    def _emit_open(self, kind: str, frame_kind: int) -> None:
        frame = self._open[kind, frame_kind]
        if frame.chunks.lengths:
            self._emit(kind, frame_kind, frame.room.view[: frame.chunks.plain_bytes], frame.chunks)
            frame.chunks = Chunks()

    def _emit(self, kind: str, frame_kind: int, plain: memoryview, chunks: Chunks) -> None:
        recipe = self._choice.recipe(kind)
        codec = codec_of(recipe)
        began = time.thread_time()  # a codec has to be paid by the processor; who else wants it is not its fault
        encoded = self._coder.encode(recipe, plain)
        if kind != DENSE:
            self._choice.note_frame(kind, recipe, time.thread_time() - began, max(1, len(plain)), len(encoded))
        if len(encoded) >= len(plain):
            codec, encoded = RAW, plain
        if self._builder.is_full_for(len(encoded), len(chunks.lengths)):
            self._sending.send()
        self._builder.add(codec, frame_kind, encoded, chunks)


class _Frame:
    """A frame that is being collected."""

    def __init__(self) -> None:
        self.room = Room()
        self.chunks = Chunks()

    def add(self, id: bytes, data: memoryview) -> None:
        at = self.chunks.plain_bytes
        self.room.at_least(max(FRAME_BYTES, at + len(data)), at)[at : at + len(data)] = data
        self.chunks.add(id, len(data))
