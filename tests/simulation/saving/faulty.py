"""Drivers with one protection switched off each, for negative controls: a world must notice what that loses."""

from pathlib import Path

import msgspec
from msgspec.structs import replace

from dumont.repository.cache import Cache
from dumont.repository.keys import Keys
from dumont.repository.record import PACKS, STATE, pack_key
from dumont.repository.saving.memory import Memory
from dumont.repository.upkeep.prune import Prune
from dumont.store.base import Data
from tests.simulation.saving.gate import PAGE_KEYS, Line
from tests.simulation.saving.host import Disk
from tests.simulation.saving.witness import is_commit
from tests.simulation.saving.world import Drivers


class _Shortsighted(Disk):
    """Of the index objects that a saver relied on it keeps those that the save before relied on, too: none after a
    prune that packed everything anew."""

    def put(self, name: str, plain: bytes) -> None:
        if name.startswith("save-") and (before := self.get(name)):
            memory, known = (msgspec.msgpack.decode(body, type=Memory) for body in (plain, before))
            plain = msgspec.msgpack.encode(replace(memory, indexes=memory.indexes & known.indexes))
        super().put(name, plain)


def _shortsighted(keys: Keys) -> Cache:
    return (_Shortsighted if keys.can_read else Disk)(Path("/nowhere"), keys.cache_key)


def _shortsighted_writers(keys: Keys) -> Cache:
    return (Disk if keys.can_read else _Shortsighted)(Path("/nowhere"), keys.cache_key)


class _Hiding(Line):
    """Listings leave out what begins with `hidden`."""

    hidden = ""

    async def page(self, prefix: str, after: str) -> list[str]:
        found = [key async for key in self.memory.keys(prefix) if key > after and not key.startswith(self.hidden)]
        return found[:PAGE_KEYS]


class _HidesDoom(_Hiding):
    hidden = f"{STATE}doomed/"


class _HidesPending(_Hiding):
    hidden = f"{STATE}pending/"


class _Losing(Line):
    """Says of some objects that they are stored, and does not store them."""

    def is_lost(self, key: str) -> bool:
        raise NotImplementedError

    async def put(self, key: str, data: Data) -> None:
        if not self.is_lost(key):
            await super().put(key, data)


class _LosesPending(_Losing):
    def is_lost(self, key: str) -> bool:
        return key.startswith(f"{STATE}pending/")


class _LosesDoom(_Losing):
    def is_lost(self, key: str) -> bool:
        return key.startswith(f"{STATE}doomed/")


class _LosesVoid(_Losing):
    def is_lost(self, key: str) -> bool:
        return is_commit(key)


class _ShowsAllPacks(Line):
    """Lists packs that have gone."""

    async def page(self, prefix: str, after: str) -> list[str]:
        if prefix != PACKS:
            return await super().page(prefix, after)
        return [key for key in sorted(map(pack_key, self.witness.ever)) if key > after][:PAGE_KEYS]


class _Overwriting(Line):
    """A store without conditional writes: of two commits with one number, the later stays."""

    async def put(self, key: str, data: Data) -> None:
        if is_commit(key):
            await self.exists(key)
            await self.memory.delete(key)
        await super().put(key, data)


class _DoesNotLookAgain(Prune):
    async def _look_again(self, doomed: set[str]) -> set[str]:
        return set()


FAULTY = {
    "a saver that remembers too few index objects": Drivers(disk=_shortsighted),
    "a write-only host that forgets index objects of its saves": Drivers(disk=_shortsighted_writers, writers=1),
    "a saver that does not see what is doomed": Drivers(line=_HidesDoom),
    "a saver whose pending records are not stored": Drivers(line=_LosesPending),
    "a saver that believes any index object": Drivers(line=_ShowsAllPacks),
    "a store without conditional writes": Drivers(line=_Overwriting),
    "a prune that sees no pending records": Drivers(upkeep_line=_HidesPending),
    "a prune that does not say what it will delete": Drivers(upkeep_line=_LosesDoom),
    "a prune that removes pending records by age": Drivers(upkeep_line=_LosesVoid),
    "a prune that does not look again": Drivers(prune=_DoesNotLookAgain),
}
