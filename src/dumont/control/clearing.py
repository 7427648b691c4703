"""Clearing: the histories of removed workspaces, measured, and deleted from the store when their time is over.

What is decided is written into the database before anything is touched, and from then on never undone. Then what a
repository is opened with goes first, so that nobody takes half of one for a whole, whoever looks; last the record goes.
Level-triggered: a server that was killed at any instant goes on where it was. A new workspace of the same name has a
folder of its own in the store (`model.workspace.folder_of`), which is never that of a past.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from dumont.control.act import Acts, Fact
from dumont.control.shell import outcome
from dumont.control.vault import Vault
from dumont.errors import DumontError, NotStored, StoreError
from dumont.model.past import Past
from dumont.repository.apart import apart
from dumont.repository.record import CONFIG, SECOND_CONFIG, STATE
from dumont.repository.repository import gather
from dumont.store.base import HasFolders, Store
from dumont.store.prefix import PrefixStore, workspace_prefix

DELETED = "history_deleted"
FAILED = "history_not_deleted"
SURE_S = 3600.0
"""So long must a history have been over, by a clock that nobody sets: another that runs ahead for a while ends none."""
_BATCH = 1000
_LOOKS_MAX = 5


@dataclass(frozen=True)
class Amount:
    """How much of a history there is, or was."""

    objects: int = 0
    bytes: int = 0


async def measure(part: Store) -> Amount:
    """What lies in a part of the store. Raises StoreError."""
    amount = Amount()
    async for keys in _batches(part):
        amount = _more(amount, await gather(_size(part, key) for key in keys))
    return amount


async def clear(store: Store, folder: str) -> Amount:
    """Delete all that the store calls `folder`, whose end is written down; how much it was. Again is harmless.

    Raises StoreError, also when somebody goes on writing there.
    """
    prefix = workspace_prefix(folder)
    part = PrefixStore(store, prefix)
    amount = Amount()
    for key in (CONFIG, SECOND_CONFIG):  # without them it is no repository; each is gone for good before the next
        amount = _more(amount, [await _size(part, key)])
        await part.delete(key)
    for _ in range(_LOOKS_MAX):
        keys = [key async for key in part.keys("")]
        if not keys:
            break
        keys.sort(key=lambda key: not key.startswith(STATE))  # commits before what they are made of
        for start in range(0, len(keys), _BATCH):
            some = keys[start : start + _BATCH]
            amount = _more(amount, await gather(_size(part, key) for key in some))
            await gather(part.delete(key) for key in some)
    else:
        raise StoreError(f"something goes on writing below {prefix}, which is being deleted")
    if isinstance(store, HasFolders):
        await store.drop_folders(prefix)
    return amount


class Clearing:
    """One server process's work on all pasts, one at a time."""

    def __init__(self, acts: Acts, vault: Vault) -> None:
        self._acts = acts
        self._vault = vault
        self._over_since: dict[str, float] = {}
        self._told: dict[str, str] = {}

    async def round_all(self) -> None:
        """Delete what is to go. What one raises keeps no other's."""
        pasts = await self._acts.database.pasts()
        for known in (self._over_since, self._told):
            for folder in known.keys() - {past.folder for past in pasts}:
                del known[folder]
        for past in pasts:
            await outcome(asyncio.create_task(self._visit(past)), "a removed workspace's history could not be deleted")

    async def _visit(self, past: Past) -> None:
        if not past.ending:
            if not self._is_surely_over(past):
                return
            ending = replace(past, ending=True)
            if not await self._acts.database.change_past(past, ending):
                return  # somebody gave it more time
            past = ending
        began = self._acts.clock.monotonic()
        try:
            amount = await apart(lambda: clear(self._vault.store, past.folder))
        except DumontError as error:
            await self._complain(past, str(error))
            return
        self._vault.drop(past.folder)
        took_ms = round((self._acts.clock.monotonic() - began) * 1000)
        facts: dict[str, Fact] = {"history": past.folder, "objects": amount.objects, "freed_bytes": amount.bytes}
        await self._note(past, DELETED, facts | {"took_ms": took_ms})
        await self._acts.database.drop_past(past)

    def _is_surely_over(self, past: Past) -> bool:
        if not past.is_over(self._acts.clock.now()):
            self._over_since.pop(past.folder, None)
            return False
        now = self._acts.clock.monotonic()
        return now - self._over_since.setdefault(past.folder, now) >= SURE_S

    async def _complain(self, past: Past, why: str) -> None:
        """On the timeline once, as long as it is the same."""
        if self._told.get(past.folder) != why:
            self._told[past.folder] = why
            await self._note(past, FAILED, {"history": past.folder, "why": why})

    async def _note(self, past: Past, kind: str, facts: dict[str, Fact]) -> None:
        async with self._acts.lock(past.workspace):
            await self._acts.note(past.workspace, kind, facts)


async def _batches(part: Store) -> AsyncIterator[list[str]]:
    some: list[str] = []
    async for key in part.keys():
        some.append(key)
        if len(some) == _BATCH:
            yield some
            some = []
    yield some


async def _size(part: Store, key: str) -> int | None:
    """In bytes; None when there is nothing."""
    try:
        return await part.size(key)
    except NotStored:
        return None


def _more(amount: Amount, sizes: list[int | None]) -> Amount:
    there = [size for size in sizes if size is not None]
    return Amount(amount.objects + len(there), amount.bytes + sum(there))
