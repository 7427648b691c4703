"""Fetching: chunks from a repository to memory, verified, each from whichever of its places holds it whole."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable

import blake3

from dumont.errors import Corrupt, NotStored
from dumont.repository.codec import Coder
from dumont.repository.pack import PackReader, Spot
from dumont.repository.record import pack_key
from dumont.repository.repository import Repository, gather
from dumont.snapshot.chunk import chunk_id

KEPT_BYTES = 64 * 2**20
"""Decoded frames that are kept, besides the one in use."""
Frame = tuple[str, int]
"""A frame, by its pack's name and its number."""


class Fetcher:
    """Reads chunks of one purpose: `digest` names them. `fetched_bytes` came from the store so far."""

    def __init__(self, repository: Repository, digest: Callable[[bytes], bytes]) -> None:
        self._repository = repository
        self._digest = digest
        self._coder = Coder()
        self._frames: OrderedDict[Frame, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._fetching: dict[Frame, asyncio.Task[bytes]] = {}
        self.fetched_bytes = 0

    async def chunks(self, ids: Iterable[bytes]) -> list[bytes]:
        """The chunks of those ids, several frames at a time. Raises Corrupt when one is nowhere whole, StoreError."""
        ids = list(ids)
        frames: dict[Frame, list[tuple[bytes, Spot]]] = {}
        for id in ids:
            if spot := self._repository.catalogue.find(id):
                frames.setdefault((spot[0].name, spot[1]), []).append((id, spot))
        found: dict[bytes, bytes] = {}
        await gather(self._pick(wanted, found) for wanted in frames.values())
        for id in ids:
            if id not in found:
                found[id] = await self.chunk(id)
        return [found[id] for id in ids]

    async def _pick(self, wanted: list[tuple[bytes, Spot]], found: dict[bytes, bytes]) -> None:
        """Chunks of one frame, as far as they are whole there."""
        try:
            plain = await self._frame(wanted[0][1])
        except (Corrupt, NotStored):
            return
        for id, (_, _, start, length) in wanted:
            data = plain[start : start + length]
            if self._digest(data) == id:
                found[id] = data

    async def chunk(self, id: bytes) -> bytes:
        """The chunk `id`. Raises Corrupt when it is nowhere whole, StoreError."""
        why = "no index names a pack that holds it"
        for spot in self._repository.catalogue.places(id):
            try:
                data = (await self._frame(spot))[spot[2] : spot[2] + spot[3]]
            except (Corrupt, NotStored) as error:
                why = str(error)
                continue
            if self._digest(data) == id:
                return data
            why = f"pack {spot[0].name} holds something else where its index says"
        raise Corrupt(f"chunk {id.hex()} can't be had: {why}")

    async def _frame(self, spot: Spot) -> bytes:
        """The plain bytes of the frame where that is."""
        key = spot[0].name, spot[1]
        plain = self._frames.get(key)
        if plain is None:
            task = self._fetching.get(key)
            if task is None:
                task = self._fetching[key] = asyncio.create_task(self._fetch(spot))
                task.add_done_callback(lambda _: self._fetching.pop(key, None))
            plain = await asyncio.shield(task)
        else:
            self._frames.move_to_end(key)
        return plain

    async def _fetch(self, spot: Spot) -> bytes:
        pack, number, _, _ = spot
        frame = pack.frames[number]
        sealed = await self._repository.store.get_range(pack_key(pack.name), frame.offset, frame.length)
        self.fetched_bytes += len(sealed)
        plain = bytes(PackReader(self._repository.keys, pack, self._coder).frame(number, sealed))
        self._frames[pack.name, number] = plain
        self._kept_bytes += len(plain)
        while self._kept_bytes > KEPT_BYTES and len(self._frames) > 1:
            self._kept_bytes -= len(self._frames.popitem(last=False)[1])
        return plain


def directory_fetcher(repository: Repository) -> Fetcher:
    """For directory objects."""
    return Fetcher(repository, lambda data: blake3.blake3(data).digest())


def data_fetcher(repository: Repository) -> Fetcher:
    """For the chunks of files."""
    return Fetcher(repository, lambda data: chunk_id(data, repository.keys.chunk_key))
