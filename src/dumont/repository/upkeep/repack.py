"""Repacking: chunks that are still needed move out of packs that are mostly not, each verified on its way."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dumont.errors import Corrupt, NotStored, StoreError
from dumont.repository.codec import Coder
from dumont.repository.pack import PACK_BYTES, Chunks, PackBuilder, PackReader, frame_ids
from dumont.repository.record import Frame, Pack, pack_key
from dumont.repository.repository import Repository
from dumont.store.base import Data


@dataclass
class Repacker:
    """Copies. `copied` are the new packs, not indexed yet; `damaged` says of packs that could not be copied, why."""

    repo: Repository
    now_s: int
    is_wanted: Callable[[bytes, str], bool]
    """Whether that chunk of that pack is to be copied."""
    pack_bytes: int = PACK_BYTES
    copied: list[Pack] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)

    async def copy(self, packs: Iterable[Pack]) -> None:
        """Copy what is wanted of `packs`. Raises StoreError, also when a copy does not read as it was stored."""
        coder = Coder()
        builder = PackBuilder(self.repo.keys, self.repo.new_name, lambda: self.now_s, self.pack_bytes)
        for pack in packs:
            try:
                await self._copy(pack, builder, coder)
            except (Corrupt, NotStored) as error:
                self.damaged[pack.name] = str(error)
        if builder.used:
            await self._put(builder)

    async def _copy(self, pack: Pack, builder: PackBuilder, coder: Coder) -> None:
        reader = PackReader(self.repo.keys, pack, coder)
        for number, frame in enumerate(pack.frames):
            wanted = [self.is_wanted(id, pack.name) for id in frame_ids(frame)]
            if not any(wanted):
                continue
            sealed = await self.repo.store.get_range(pack_key(pack.name), frame.offset, frame.length)
            plain, chunks = _picked(reader, number, reader.frame(number, sealed), wanted)
            encoded = coder.encode(frame.codec, memoryview(plain))
            if builder.is_full_for(len(encoded), len(chunks.lengths)):
                await self._put(builder)
            builder.add(frame.codec, frame.kind, encoded, chunks)

    async def _put(self, builder: PackBuilder) -> None:
        pack, body = builder.close()
        key = pack_key(pack.name)
        await self.repo.store.put(key, body)
        is_whole = await self._reads_as(key, body)
        body.release()
        if not is_whole:
            raise StoreError(f"pack {pack.name} does not read as it was stored: nothing is deleted; check the medium")
        self.copied.append(pack)

    async def _reads_as(self, key: str, body: Data) -> bool:
        """Whether that comes back from the store: soon it is all there is of these chunks (I5)."""
        try:
            return await self.repo.store.get(key) == body
        except NotStored:
            return False


def _picked(reader: PackReader, number: int, plain: memoryview, wanted: list[bool]) -> tuple[bytearray, Chunks]:
    """The wanted chunks of a frame, verified, and what they are. Raises Corrupt."""
    frame: Frame = reader.pack.frames[number]
    picked, chunks, start = bytearray(), Chunks(), 0
    for id, length, is_wanted in zip(frame_ids(frame), frame.lengths, wanted, strict=True):
        if is_wanted:
            picked += reader.chunk(number, plain, start, length, id)
            chunks.add(id, length)
        start += length
    return picked, chunks
