"""Packs: how chunks lie in the store, many in one object, and which object holds which chunk.

`packs/<id>` is the chunks one after the other, `index/<id>` their ids with offset and length, `<id>` the hash of the
pack. An index is written after its pack, so whatever an index names can be read.
"""

from collections import OrderedDict
from dataclasses import dataclass

import blake3
import msgspec

from dumont.errors import AlreadyStored, Corrupt, NotStored
from dumont.snapshot.chunk import NO_KEY, chunk_id
from dumont.store.base import Store

PACK_BYTES_MAX = 16 * 2**20
_PACKS_HELD_MAX = 4
_VERSION = 1


class PackIndex(msgspec.Struct, frozen=True):
    """`chunks`: id, offset and length in bytes of each chunk of a pack."""

    version: int
    chunks: list[tuple[bytes, int, int]]


@dataclass(frozen=True)
class _Spot:
    pack: str
    offset: int
    length: int


class Packs:
    """The chunks of one store. `open` first; what others add later is seen after the next `open`."""

    def __init__(self, store: Store, key: bytes = NO_KEY) -> None:
        self._store = store
        self._key = key
        self._spots: dict[bytes, _Spot] = {}
        self._indexed: set[str] = set()
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._parts: list[bytes] = []
        self._waiting: dict[bytes, tuple[int, int]] = {}
        self._bytes = 0
        self.stored_bytes = 0
        self.fetched_bytes = 0

    async def open(self) -> None:
        """Learn which chunks are stored. Raises Corrupt when an index can't be read."""
        async for name in self._store.keys("index/"):
            if name in self._indexed:
                continue
            try:
                index = msgspec.msgpack.decode(await self._store.get(name), type=PackIndex)
            except msgspec.DecodeError as error:
                raise Corrupt(f"{name} can't be read: {error}") from error
            pack = name.removeprefix("index/")
            for chunk, offset, length in index.chunks:
                self._spots.setdefault(chunk, _Spot(pack, offset, length))
            self._indexed.add(name)

    def has(self, chunk: bytes) -> bool:
        """Whether `chunk` is stored, or waits to be with the next pack."""
        return chunk in self._spots or chunk in self._waiting

    async def add(self, chunk: bytes, data: bytes) -> None:
        """Store a chunk, unless it is; at the latest when `finish` returns."""
        if self.has(chunk):
            return
        if self._bytes + len(data) > PACK_BYTES_MAX:
            await self.finish()
        self._waiting[chunk] = (self._bytes, len(data))
        self._parts.append(data)
        self._bytes += len(data)

    async def finish(self) -> None:
        """Return when every chunk that was added is stored."""
        if not self._waiting:
            return
        body = b"".join(self._parts)
        pack = blake3.blake3(body).hexdigest()
        index = PackIndex(_VERSION, [(chunk, *where) for chunk, where in self._waiting.items()])
        await put_once(self._store, f"packs/{pack}", body)
        await put_once(self._store, f"index/{pack}", msgspec.msgpack.encode(index))
        self._spots.update({chunk: _Spot(pack, *where) for chunk, where in self._waiting.items()})
        self._parts, self._waiting, self._bytes = [], {}, 0
        self.stored_bytes += len(body)

    async def read(self, chunk: bytes) -> bytes | None:
        """The data of a stored chunk, verified; None when it is not stored. Raises Corrupt."""
        spot = self._spots.get(chunk)
        if spot is None:
            return None
        pack = await self._pack(spot.pack)
        data = pack[spot.offset : spot.offset + spot.length]
        if chunk_id(data, self._key) != chunk:
            raise Corrupt(f"pack {spot.pack} does not hold chunk {chunk.hex()} where its index says")
        return data

    async def _pack(self, pack: str) -> bytes:
        if pack in self._held:
            self._held.move_to_end(pack)
            return self._held[pack]
        try:
            body = await self._store.get(f"packs/{pack}")
        except NotStored as error:
            raise Corrupt(f"pack {pack} is named by an index and not stored") from error
        self.fetched_bytes += len(body)
        self._held[pack] = body
        if len(self._held) > _PACKS_HELD_MAX:
            self._held.popitem(last=False)
        return body


async def put_once(store: Store, key: str, data: bytes) -> None:
    """Put an object whose key names its content: if it is there, it is the same."""
    try:
        await store.put(key, data)
    except AlreadyStored:
        return
