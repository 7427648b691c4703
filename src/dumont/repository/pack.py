"""Packs: many sealed frames in one object, which tells by itself what it holds.

    head | frame 0 | frame 1 | … | footer | length of the footer (4 bytes, little-endian) | MAGIC

The footer is the pack's own record, sealed like a frame: an index can be made again from packs alone.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import blake3

from dumont.errors import Corrupt
from dumont.repository.codec import Coder
from dumont.repository.keys import Keys
from dumont.repository.record import DATA, Frame, Pack, pack_key, pack_up, unpack
from dumont.repository.room import Room
from dumont.repository.seal import FOOTER, MAGIC, TAG_BYTES, Seal, read_head, seal_for, seal_of
from dumont.snapshot.chunk import ID_BYTES

PACK_BYTES = 32 * 2**20
PACK_PLAIN_BYTES_MAX = 2**30
"""What a pack decodes to at most: whoever verifies a stranger's pack has to bound its work."""
FRAME_BYTES = 2**20
"""Chunks are put together into frames of about this size; a larger chunk is a frame of its own."""
TAIL = struct.Struct("<I4s")
_FOOTER_BYTES_PER_CHUNK = 48
_FOOTER_BYTES_LEAST = 4096
_PLAIN_BYTES_ENOUGH = PACK_PLAIN_BYTES_MAX - 2**26
"""One more frame, at most a chunk of 16 MiB, stays below the bound."""


@dataclass
class PackBuilder:
    """Fills one buffer after the other with sealed frames. `name_pack` makes 32 new hexadecimal digits each time."""

    keys: Keys
    name_pack: Callable[[], str]
    now_s: Callable[[], int]
    pack_bytes: int = PACK_BYTES
    _room: Room = field(default_factory=Room)
    _name: str = ""
    _seal: Seal | None = None
    _used: int = 0
    _chunks: int = 0
    _plain: int = 0
    _frames: list[Frame] = field(default_factory=list)

    @property
    def used(self) -> int:
        """Bytes of the open pack; 0 when none is open."""
        return self._used

    def is_full_for(self, encoded_bytes: int, chunks: int) -> bool:
        """Whether a frame of that many encoded bytes should go into another pack."""
        more = encoded_bytes + TAG_BYTES + self._footer_bytes(chunks)
        return bool(self._frames) and (self._used + more > self.pack_bytes or self._plain > _PLAIN_BYTES_ENOUGH)

    def add(self, codec: int, kind: int, encoded: bytes | memoryview, chunks: "Chunks") -> None:
        """Seal a frame into the open pack."""
        seal = self._open(len(encoded) + TAG_BYTES + self._footer_bytes(len(chunks.lengths)))
        number = len(self._frames)
        about = frame_about(number, codec, kind, chunks.plain_bytes)
        length = seal.close_into(number, about, encoded, self._room.view[self._used :])
        ids = b"".join(chunks.ids)
        self._frames.append(Frame(self._used, length, codec, kind, chunks.plain_bytes, ids, chunks.lengths))
        self._used += length
        self._chunks += len(chunks.lengths)
        self._plain += chunks.plain_bytes

    def close(self) -> tuple[Pack, memoryview]:
        """The finished pack and its bytes, which are valid until the next `add`."""
        seal = self._seal
        assert seal is not None, "nothing was added"
        pack = Pack(self._name, seal.writer, seal.ephemeral, 0, self.now_s(), self._frames)
        footer = pack_up(pack)
        size = self._used + len(footer) + TAG_BYTES + TAIL.size
        body = self._room.at_least(size, self._used)[:size]
        length = seal.close_into(FOOTER, b"footer", footer, body[self._used :])
        TAIL.pack_into(body, self._used + length, length, MAGIC)
        self._seal, self._used, self._frames, self._chunks, self._plain = None, 0, [], 0, 0
        return Pack(pack.name, pack.writer, pack.ephemeral, size, pack.created_s, pack.frames), body

    def change_room(self, room: Room) -> Room:
        """Fill `room` from now on, so that the pack closed last stays as it is. Answers the room with that one."""
        assert not self._used, "a pack is open"
        before, self._room = self._room, room
        return before

    def _open(self, more: int) -> Seal:
        if self._seal is None:
            self._name = self.name_pack()
            self._seal = seal_for(self.keys, pack_key(self._name))
            head = self._seal.head()
            self._room.at_least(max(self.pack_bytes, len(head) + more))[: len(head)] = head
            self._used = len(head)
        self._room.at_least(self._used + more, self._used)
        return self._seal

    def _footer_bytes(self, chunks: int) -> int:
        return (self._chunks + chunks) * _FOOTER_BYTES_PER_CHUNK + _FOOTER_BYTES_LEAST


@dataclass
class Chunks:
    """Chunks that make a frame, in order."""

    ids: list[bytes] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    plain_bytes: int = 0

    def add(self, id: bytes, length: int) -> None:
        """One more at the end."""
        self.ids.append(id)
        self.lengths.append(length)
        self.plain_bytes += length


Spot = tuple[Pack, int, int, int]
"""Where a chunk lies: the pack, the number of its frame, the start within that frame's plain bytes, the length."""


class PackReader:
    """Opens the frames of one pack. Decoded bytes are valid until the next call of the same coder."""

    def __init__(self, keys: Keys, pack: Pack, coder: Coder) -> None:
        self._seal = seal_of(keys, pack_key(pack.name), pack.writer, pack.ephemeral)
        self._chunk_key = keys.chunk_key
        self._coder = coder
        self.pack = pack

    def frame(self, number: int, sealed: bytes | memoryview) -> memoryview:
        """The plain bytes of frame `number`, whose chunks are not hashed yet. Raises Corrupt."""
        frame = self.pack.frames[number]
        if len(sealed) != frame.length:
            raise Corrupt(f"pack {self.pack.name} was cut off in frame {number}")
        about = frame_about(number, frame.codec, frame.kind, frame.plain_bytes)
        return memoryview(self._coder.decode(frame.codec, self._seal.open(number, about, sealed), frame.plain_bytes))

    def chunk(self, number: int, plain: memoryview, start: int, length: int, id: bytes) -> memoryview:
        """A chunk of an opened frame, hashed. Raises Corrupt when it is not the one of that id."""
        data = plain[start : start + length]
        is_data = self.pack.frames[number].kind == DATA
        digest = blake3.blake3(data, key=self._chunk_key) if is_data else blake3.blake3(data)
        if digest.digest() != id:
            raise Corrupt(f"pack {self.pack.name} does not hold chunk {id.hex()} where its index says")
        return data


def spots(pack: Pack) -> Iterator[tuple[bytes, Spot]]:
    """Every chunk of a pack, by id. Raises Corrupt when its record contradicts itself."""
    for number, frame in enumerate(pack.frames):
        check_frame(pack, frame)
        start = 0
        for at, length in enumerate(frame.lengths):
            yield frame.ids[at * ID_BYTES : (at + 1) * ID_BYTES], (pack, number, start, length)
            start += length


def check_frame(pack: Pack, frame: Frame) -> None:
    """Raises Corrupt for a frame that makes no sense."""
    whole = len(frame.ids) == ID_BYTES * len(frame.lengths) and sum(frame.lengths) == frame.plain_bytes
    if not whole or min(frame.lengths, default=0) < 0 or frame.offset < 0 or frame.offset + frame.length > pack.size:
        raise Corrupt(f"the record of pack {pack.name} contradicts itself")


def frame_about(number: int, codec: int, kind: int, plain_bytes: int) -> bytes:
    """What a frame's seal is bound to besides its pack: its place, codec, kind and length."""
    return struct.pack("<IBBQ", number, codec, kind, plain_bytes)


def footer_length(tail: bytes, name: str) -> int:
    """How many bytes the footer takes, by the last TAIL.size bytes of a pack. Raises Corrupt."""
    if len(tail) != TAIL.size:
        raise Corrupt(f"pack {name} was cut off")
    length, magic = TAIL.unpack(tail)
    if magic != MAGIC:
        raise Corrupt(f"pack {name} was cut off or changed at its end")
    return int(length)


def read_footer(keys: Keys, name: str, head: bytes, footer: bytes, size: int) -> Pack:
    """The record of the pack `name` of `size` bytes from its head and sealed footer. Raises Corrupt, WrongKey."""
    writer, ephemeral, _ = read_head(pack_key(name), head)
    seal = seal_of(keys, pack_key(name), writer, ephemeral)
    pack = unpack(seal.open(FOOTER, b"footer", footer), Pack, pack_key(name))
    if pack.name != name:
        raise Corrupt(f"pack {name} says that it is {pack.name}")
    return Pack(name, writer, ephemeral, size, pack.created_s, pack.frames)


def frame_ids(frame: Frame) -> Sequence[bytes]:
    """The ids of a frame's chunks."""
    return [frame.ids[at : at + ID_BYTES] for at in range(0, len(frame.ids), ID_BYTES)]
