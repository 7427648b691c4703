"""Upkeep: the server thins each workspace's commits in the store by its policy, and prunes what nothing needs any more.

Level-triggered: what was done is read from the store each time, so a server that was killed at any instant carries on
with the next round. No lock of the workspace is held meanwhile, for nothing here can take what others need: which
commits may be restored only grows upwards (`thinning.Anchors`), and what they hold is guarded against savers, and they
against us, by the repository's own protocol (docs/snapshots.md, "Pruning"). Hosts still have no right to delete (I7).
"""

import asyncio
from dataclasses import dataclass, replace

import structlog

from dumont.control.act import Acts, Fact
from dumont.control.clearing import Clearing
from dumont.control.observe import Observatory
from dumont.control.shell import outcome
from dumont.control.thinning import RESTING, Anchors, Thinning, thin
from dumont.control.vault import Vault
from dumont.db.base import Database
from dumont.errors import DumontError
from dumont.model.commit import CommitId
from dumont.model.policy import Retention
from dumont.model.workspace import Wanted, Workspace
from dumont.repository.apart import apart
from dumont.repository.catalogue import Catalogue
from dumont.repository.record import CommitRecord
from dumont.repository.repository import Listing, Repository
from dumont.repository.upkeep.arrivals import Arrivals, arrived, dated, read_arrivals, write_arrivals
from dumont.repository.upkeep.forget import forget
from dumont.repository.upkeep.labels import labelled
from dumont.repository.upkeep.prune import GRACE_S, Pruned, Terms, prune
from dumont.repository.upkeep.soundness import require_sound

LOOK_EVERY_S = 60.0
ROUND_EVERY_S = 3 * 3600
"""A workspace's store grows by some five hundred objects in that time, which each save lists."""
OWNER = "server"
"""Whose prune locks ours are. One server process at a time serves a store, and goes through it one by one."""
THINNED = "store_thinned"
FAILED = "store_upkeep_failed"

log = structlog.get_logger()


@dataclass(frozen=True)
class Order:
    """What one round is to do. `now_s`: Unix time; `grace_s`: how long unfinished saves are left alone."""

    retention: Retention
    anchors: Anchors
    now_s: int
    grace_s: int = GRACE_S


@dataclass(frozen=True)
class Tidied:
    """What one round did: the commits that it let go and those that stay, and what the prune deleted."""

    thinning: Thinning
    pruned: Pruned

    def facts(self) -> dict[str, Fact]:
        """For the timeline. Bytes are those of the packs that were deleted, less the copies that were made."""
        done, forgotten = self.pruned, self.thinning.forgotten
        facts: dict[str, Fact] = {"forgotten": len(forgotten), "kept": len(self.thinning.kept)}
        if forgotten:
            facts |= {"first": str(forgotten[0].commit.id), "last": str(forgotten[-1].commit.id)}
        return facts | {"packs_deleted": done.deleted, "freed_bytes": done.freed_bytes}


async def tidy(repo: Repository, order: Order) -> Tidied:
    """One round over one workspace's repository, which nobody has learned anything of yet.

    Raises Corrupt, and nothing that is needed was deleted, when something needed lacks; StoreError; BadInput when
    somebody else prunes. To run it again carries on.
    """
    listing = await repo.catch_up()
    records, arrivals = await _dated(repo, listing, order.now_s)
    thinning = thin(records, order.retention, order.anchors, order.now_s)
    await write_arrivals(repo, listing, arrivals)
    if thinning.forgotten:
        await require_sound(repo, thinning.kept)
        await forget(repo, [record.commit.id for record in thinning.forgotten], even_last=True)
    after = order.anchors.stored or CommitId(0, 0)
    return Tidied(thinning, await prune(repo, Terms(order.now_s, order.grace_s, owner=OWNER, after=after)))


async def read_dated(repo: Repository, now_s: int) -> list[CommitRecord]:
    """The commits with the times by which a round at `now_s` (Unix time) thins them. Changes nothing.

    Raises Corrupt, StoreError.
    """
    return (await _dated(repo, await repo.look(), now_s))[0]


async def anchors_of(row: Workspace, database: Database, observatory: Observatory) -> Anchors:
    """What a workspace may have to be restored from."""
    relied = {branch.forked_from for branch in await database.branches(row.name)}
    for instance in await database.instances(row.name):
        if status := observatory.heard_of(instance.id).status:
            relied |= {status.head, status.sealed, status.stored}
    return Anchors(row.stored, frozenset(id for id in relied if id))


def unlearned(repo: Repository) -> Repository:
    """For work in another thread: with nothing learned, that nobody else uses."""
    return replace(repo, catalogue=Catalogue(), learned=frozenset())


class Upkeep:
    """One server process's loop over all workspaces and pasts, one at a time, each in a thread of its own.

    `due` is set when there is something to do at once.
    """

    def __init__(
        self,
        acts: Acts,
        observatory: Observatory,
        vault: Vault,
        grace_s: int = GRACE_S,
        due: asyncio.Event | None = None,
    ) -> None:
        self._acts = acts
        self._database = acts.database
        self._observatory = observatory
        self._vault = vault
        self._clearing = Clearing(acts, vault)
        self._wake = due or asyncio.Event()
        self._grace_s = grace_s
        self._due: dict[str, float] = {}
        self._told: dict[str, str] = {}

    async def run(self) -> None:
        """Look after every workspace, for ever."""
        while True:
            due = asyncio.create_task(self._wake.wait())
            tick = asyncio.create_task(self._acts.clock.sleep(LOOK_EVERY_S))
            try:
                await asyncio.wait({due, tick}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                due.cancel()
                tick.cancel()
            self._wake.clear()
            await outcome(asyncio.create_task(self.round_all()), "a round of upkeep failed")

    async def round_all(self) -> None:
        """Every workspace that is due, and every past. What one raises keeps no other's."""
        await outcome(
            asyncio.create_task(self._clearing.round_all()), "removed workspaces' histories were not looked at"
        )
        rows = await self._database.workspaces()
        for name in (self._due.keys() | self._told.keys()) - {row.name for row in rows}:
            self._due.pop(name, None)
            self._told.pop(name, None)
        for row in rows:
            await outcome(asyncio.create_task(self._visit(row)), "upkeep of a workspace's store failed")

    async def _visit(self, row: Workspace) -> None:
        now = self._acts.clock.monotonic()
        if row.state not in RESTING or row.wanted is Wanted.DELETED or now < self._due.get(row.name, now):
            return
        if row.name not in self._due and (left_s := ROUND_EVERY_S - await self._age_s(row.name)) > 0:
            self._due[row.name] = now + left_s  # another server process was here not long ago
            return
        self._due[row.name] = now + ROUND_EVERY_S
        await self.tidy(row.name)

    async def tidy(self, name: str) -> Tidied | None:
        """One round over a workspace's store now, whatever its age; None, and told on the timeline, when it failed."""
        row = await self._database.workspace(name)  # before the store is read: what it names is there by then
        order = Order(
            row.policy.retention, await anchors_of(row, self._database, self._observatory), self._now_s(), self._grace_s
        )
        repo = await self._repository(name)
        began = self._acts.clock.monotonic()
        try:
            done = await apart(lambda: tidy(repo, order))
        except DumontError as error:
            await self._complain(name, str(error))
            return None
        if done.thinning.why and order.anchors.stored and not order.retention.keeps_all:
            await self._complain(name, done.thinning.why)
        else:
            self._told.pop(name, None)
        if done.thinning.forgotten or done.pruned.deleted:
            took_ms = round((self._acts.clock.monotonic() - began) * 1000)
            await self._note(name, THINNED, done.facts() | {"took_ms": took_ms})
        return done

    async def _age_s(self, name: str) -> int:
        """How many seconds ago its store was last looked after."""
        repo = await self._repository(name)
        arrivals: Arrivals = await apart(lambda: _read_arrivals(repo))
        return abs(self._now_s() - arrivals.looked_s)  # a clock that was far ahead must not put it off for years

    async def _repository(self, name: str) -> Repository:
        return unlearned(await self._vault.open(name))

    async def _complain(self, name: str, why: str) -> None:
        """On the timeline once, as long as it is the same."""
        if self._told.get(name) != why:
            self._told[name] = why
            await self._note(name, FAILED, {"why": why})

    async def _note(self, name: str, kind: str, facts: dict[str, Fact]) -> None:
        async with self._acts.lock(name):
            await self._acts.note(name, kind, facts)

    def _now_s(self) -> int:
        return int(self._acts.clock.now().timestamp())


async def _dated(repo: Repository, listing: Listing, now_s: int) -> tuple[list[CommitRecord], Arrivals]:
    records = await labelled(repo, listing)
    arrivals = arrived(await read_arrivals(repo, listing), records, now_s)
    return dated(records, arrivals), arrivals


async def _read_arrivals(repo: Repository) -> Arrivals:
    return await read_arrivals(repo, await repo.look())
