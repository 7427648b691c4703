"""The journal: what a standby acknowledged, in segments of checked frames, until the files it made are durable.

A frame is a kind, a length, a check over both and the body, and the body: a blob (its 32-byte id and data) or a commit
message. Blobs come before the commit that needs them. What follows the last whole commit is torn, and dropped.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import blake3
import msgspec

from dumont.errors import Corrupt, DiskFull
from dumont.snapshot.chunk import ID_BYTES
from dumont.snapshot.durable import flush_data, flush_directory, write_whole, writing
from dumont.wire.stream import Blob, CommitMessage

SEGMENT_BYTES = 64 * 2**20
_BUFFER_BYTES = 2**20
_HEADER = struct.Struct(">cI16s")
_BLOB, _COMMIT = b"B", b"C"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CommitMessage).decode


@dataclass(frozen=True)
class Spot:
    """Where a blob's data lies."""

    segment: int
    offset: int
    length: int


@dataclass(frozen=True)
class Logged:
    """A whole commit in the journal. `segment` is the oldest one that it needs; `size` its bytes there."""

    message: CommitMessage
    segment: int
    size: int


class Journal:
    """Append-only. One writer; `read` may be called from another thread for what was flushed.

    Raises DiskFull and NotDurable. Nothing is durable before `sync` returned.
    """

    def __init__(self, directory: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._files: dict[int, int] = {}
        self._spots: dict[bytes, tuple[Spot, ...]] = {}
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._segment = 0
        self._end = 0  # of the current segment, as far as it is written
        self._whole = (0, 0)  # segment and offset where the last whole commit ends
        self._unsynced: set[int] = set()
        self._new_names = False
        self.partial_bytes = 0
        self.partial_segment = 0

    @property
    def segment(self) -> int:
        """The segment that is written now."""
        return self._segment

    @property
    def needed(self) -> int:
        """The oldest segment that a commit after the last whole one needs."""
        return self.partial_segment if self.partial_bytes else self._segment

    def recover(self, first: int) -> list[Logged]:
        """Open what is there from segment `first` on: its whole commits in order. The torn rest is cut off."""
        self.close()
        self._directory.mkdir(exist_ok=True)
        logged: list[Logged] = []
        for segment in self._segments():
            if segment < first:
                self._path(segment).unlink()
        segments = self._segments() or [first]
        for segment in segments:
            self._open(segment)
        self._segment, self._whole = segments[0], (segments[0], 0)
        needed, size = segments[0], 0
        for segment in segments:
            needed, end = needed if size else segment, 0
            for end, message, length in self._frames(segment):
                size += length
                if message is not None:
                    logged.append(Logged(message, needed, size))
                    needed, size, self._whole = segment, 0, (segment, end)
            if end < os.fstat(self._files[segment]).st_size:
                break  # torn: nothing after it can be relied on
        self.drop_partial()
        for segment in self._segments():  # what a killed writer left in the page cache has to be durable from now on
            flush_data(self._files[segment], str(self._path(segment)))
        flush_directory(self._directory)
        return logged

    def blob(self, blob: Blob) -> None:
        """Append a blob."""
        self._append(_BLOB, blob.id + blob.data)
        offset = self._end + self._buffered - len(blob.data)
        self._note(blob.id, Spot(self._segment, offset, len(blob.data)))
        if self._buffered >= _BUFFER_BYTES:
            self._flush_or_drop()

    def commit(self, message: CommitMessage) -> Logged:
        """Append the record that makes the blobs since the last one count."""
        self._append(_COMMIT, _encode(message))
        self._flush_or_drop()
        logged = Logged(message, self.partial_segment, self.partial_bytes)
        self._whole = (self._segment, self._end)
        self.partial_bytes = 0
        return logged

    def is_to_flush(self, length: int) -> bool:
        """Whether appending `length` bytes more writes them out."""
        return self._buffered + length >= _BUFFER_BYTES

    def flush(self) -> None:
        """Hand what was appended to the kernel."""
        if not self._buffer:
            return
        with writing("the journal"):
            write_whole(self._files[self._segment], b"".join(self._buffer), self._end)
        self._end += self._buffered
        self._buffer, self._buffered = [], 0
        self._unsynced.add(self._segment)

    def sync(self) -> None:
        """Return when everything appended is durable."""
        self.flush()
        for segment in sorted(self._unsynced):
            flush_data(self._files[segment], str(self._path(segment)))
        self._unsynced.clear()
        if self._new_names:
            flush_directory(self._directory)
            self._new_names = False

    def drop_partial(self) -> None:
        """Forget, and free, what no commit record followed."""
        segment, end = self._whole
        self._buffer, self._buffered = [], 0
        self._keep_spots(lambda spot: (spot.segment, spot.offset) < (segment, end))
        for later in [number for number in self._files if number > segment]:
            self._delete(later)
        self._segment, self._end = segment, end
        if segment not in self._files:
            self._open(segment)
        with writing("the journal"):
            os.ftruncate(self._files[segment], end)
        self.partial_bytes = 0

    def has(self, chunk: bytes) -> bool:
        """Whether a whole commit brought a blob of that id."""
        return self._spot(chunk) is not None

    def read(self, chunk: bytes) -> bytes | None:
        """The data of a blob that a whole commit brought; None when it is not here."""
        spot = self._spot(chunk)
        if spot is None:
            return None
        data = os.pread(self._files[spot.segment], spot.length, spot.offset)
        if len(data) != spot.length:
            raise Corrupt(f"{self._path(spot.segment)} is shorter than what was written to it")
        return data

    def delete_before(self, segment: int) -> None:
        """Delete segments older than `segment`: the files that their commits made are durable."""
        old = {number for number in self._files if number < min(segment, self._segment)}
        if old:
            self._keep_spots(lambda spot: spot.segment not in old)
        for number in old:
            self._delete(number)

    def restart(self) -> int:
        """Begin a new segment, the number of which is returned. Older ones are kept until `delete_before`."""
        self.drop_partial()
        self._next_segment()
        self._whole = (self._segment, 0)
        return self._segment

    def close(self) -> None:
        """Close all files; what was not flushed is lost."""
        for fd in self._files.values():
            os.close(fd)
        self._files = {}
        self._spots = {}
        self._buffer, self._buffered = [], 0
        self._unsynced.clear()
        self.partial_bytes = 0

    def _spot(self, chunk: bytes) -> Spot | None:
        return next((spot for spot in self._spots.get(chunk, ()) if (spot.segment, spot.offset) < self._whole), None)

    def _note(self, chunk: bytes, spot: Spot) -> None:
        self._spots[chunk] = (*self._spots.get(chunk, ()), spot)

    def _keep_spots(self, wanted: Callable[[Spot], bool]) -> None:
        kept = {chunk: tuple(filter(wanted, spots)) for chunk, spots in list(self._spots.items())}
        self._spots = {chunk: spots for chunk, spots in kept.items() if spots}

    def _flush_or_drop(self) -> None:
        """What a full disk does not take is forgotten at once, so that it can't be written half or later."""
        try:
            self.flush()
        except DiskFull:
            self.drop_partial()
            raise

    def _append(self, kind: bytes, body: bytes) -> None:
        if self._end + self._buffered >= self._segment_bytes:
            self.flush()
            self._next_segment()
        if self.partial_bytes == 0:
            self.partial_segment = self._segment
        header = _HEADER.pack(kind, len(body), _check(kind, body))
        self._buffer += [header, body]
        self._buffered += len(header) + len(body)
        self.partial_bytes += len(header) + len(body)

    def _next_segment(self) -> None:
        self._segment += 1
        self._end = 0
        self._open(self._segment)

    def _frames(self, segment: int) -> Iterator[tuple[int, CommitMessage | None, int]]:
        """`(end, commit or None, length)` of each good frame, up to the first torn one."""
        fd, at = self._files[segment], 0
        while header := os.pread(fd, _HEADER.size, at):
            if len(header) < _HEADER.size:
                return
            kind, length, check = _HEADER.unpack(header)
            start = at + _HEADER.size
            body = os.pread(fd, length, start)
            if len(body) < length or check != _check(kind, body):
                return
            at = start + length
            message = _decode(body) if kind == _COMMIT else None
            if kind == _BLOB:
                self._note(body[:ID_BYTES], Spot(segment, start + ID_BYTES, length - ID_BYTES))
            yield at, message, _HEADER.size + length

    def _segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self._directory.glob("*.segment"))

    def _path(self, segment: int) -> Path:
        return self._directory / f"{segment:010}.segment"

    def _open(self, segment: int) -> None:
        with writing("the journal"):
            self._files[segment] = os.open(self._path(segment), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._new_names = True

    def _delete(self, segment: int) -> None:
        os.close(self._files.pop(segment))
        self._unsynced.discard(segment)
        self._path(segment).unlink(missing_ok=True)


def _check(kind: bytes, body: bytes) -> bytes:
    hasher = blake3.blake3(kind + len(body).to_bytes(4, "big"))
    hasher.update(body)
    return hasher.digest(16)
