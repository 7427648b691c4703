"""Pruning: packs that nothing needs are deleted, safely beside savers, whatever pauses or dies, and without a clock.

The prune says which packs it will delete before it looks for the last time at what is needed (docs/snapshots.md); each
step may be the last, and the next prune carries on. Times only decide how long unfinished work is left alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from dumont.errors import AlreadyStored, BadInput, Corrupt, NotStored, WrongKey
from dumont.model.commit import CommitId
from dumont.repository.pack import PACK_BYTES
from dumont.repository.record import PACKS, STATE, VERSION, CommitRecord, Doomed, Pack, pack_key
from dumont.repository.repository import Listing, Repository, gather
from dumont.repository.upkeep.claims import Claims
from dumont.repository.upkeep.reach import Reach
from dumont.repository.upkeep.repack import Repacker
from dumont.repository.upkeep.revision import revise_index
from dumont.repository.upkeep.share import Shares, lacking, rescued, shares

LOCK = f"{STATE}prune-lock"
GRACE_S = 24 * 3600
_SMALL = 4
"""A pack of less than one part in _SMALL of the usual size is small; small ones are put together once they fill one."""
_LOOKS_MAX = 20
_SURVEYS_MAX = 3


@dataclass(frozen=True)
class Terms:
    """How to prune. `now_s`: Unix time. Younger packs and pending records than `grace_s` are left alone.

    A pack is repacked when less than `repack_below` of it is needed (0: never). `break_lock`: you know that the prune
    which left its lock has ended. `owner`: whoever never has two prunes of a repository at once, as a server, and so
    knows that a lock of that name was left by one that has ended; "" for anybody else.

    `after`: the primary of a workspace may have paused while it stored a commit after that one. It can store it under
    no other number, so its claim is kept whatever its age.
    """

    now_s: int
    grace_s: int = GRACE_S
    repack_below: float = 0.5
    pack_bytes: int = PACK_BYTES
    dry_run: bool = False
    break_lock: bool = False
    owner: str = ""
    after: CommitId | None = None


@dataclass
class Pruned:
    """What a prune did or, as a dry run, would do. Sizes are of what is stored, in bytes.

    `young` packs wait for the grace to end; `held` ones are needed by nothing but savers that are not done.
    `damaged`: packs that could not be repacked, and why; `check` tells more.
    """

    dry_run: bool
    packs: int = 0
    packs_bytes: int = 0
    deleted: int = 0
    deleted_bytes: int = 0
    repacked: int = 0
    copied_bytes: int = 0
    young: int = 0
    held: int = 0
    rescued: int = 0
    pending_removed: int = 0
    void_commits: int = 0
    index_objects_replaced: int = 0
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def freed_bytes(self) -> int:
        """What the store holds less; copies are taken off, which a dry run does not know."""
        return self.deleted_bytes - self.copied_bytes


class Lock(msgspec.Struct, frozen=True):
    """Who prunes, since when (Unix time)."""

    version: int
    id: str
    at_s: int
    owner: str = ""


@dataclass
class _View:
    """The repository as one look showed it. `present`: names of packs. `others`: of packs that other prunes doomed."""

    listing: Listing
    present: set[str]
    others: set[str]


async def prune(repo: Repository, terms: Terms) -> Pruned:
    """Free what nothing needs. Raises BadInput when another prune holds the lock, Corrupt when something needed lacks.

    Whatever it raises, nothing that is needed was deleted, and running it again carries on.
    """
    return await Prune(repo, terms).run()


class Prune:
    """One prune. Its steps are methods, in the order in which they run."""

    claims = Claims

    def __init__(self, repo: Repository, terms: Terms) -> None:
        if not repo.keys.secret:
            raise WrongKey("a writer's key can't prune: use the repository's passphrase")
        self._repo = repo
        self._terms = terms
        self._lock = Lock(VERSION, repo.new_name(), terms.now_s, terms.owner)
        self._own = repo.new_name()
        self._reach = Reach(repo)
        self._orphans: dict[str, tuple[int, int]] = {}
        self._shares = Shares()
        self._worth: list[Pack] = []
        self.done = Pruned(terms.dry_run)

    async def run(self) -> Pruned:
        """All of it."""
        if self._terms.dry_run:
            await self._choose()
            return self.done
        await self._take_lock()
        try:
            await self._run()
        finally:
            await self._give_lock_back()
        return self.done

    async def _run(self) -> None:
        view, doomed = await self._choose()
        doomed |= await self._repack(doomed)
        if doomed:
            await self._repo.put_record(f"{STATE}doomed/{self._own}", Doomed(VERSION, sorted(doomed)))
        stay = await self._look_again(doomed) if doomed else set()
        self.done.rescued = len(stay)
        await self._delete(view, doomed - stay)

    async def _choose(self) -> tuple[_View, set[str]]:
        """Which packs nothing needs. Those that are to be repacked are kept for the next step."""
        view = await self._survey()
        claims = self._claims()
        held = await claims.settle(view.listing, change=not self._terms.dry_run)
        self.done.pending_removed, self.done.void_commits = claims.removed, claims.voided
        catalogue = self._repo.catalogue
        found = shares(catalogue, self._reach.chunks, view.present)
        await self._read_orphans(sorted(view.present - set(catalogue.packs)))
        unneeded = {name for name, live in found.live.items() if not live} | set(self._orphans)
        self.done.held = len(unneeded & held)
        unneeded -= held
        young = {name for name in unneeded if self._is_young(name)}
        doomed = unneeded - young
        self._shares = found
        self._worth = self._worth_repacking(found, doomed | held | view.others)
        self._count(view, doomed, len(young))
        return view, doomed

    def _claims(self) -> Claims:
        return self.claims(self._repo, self._terms.now_s, self._terms.grace_s, self._terms.after)

    async def _repack(self, doomed: set[str]) -> set[str]:
        """Copy what is needed out of packs that are mostly not; those packs."""
        if not self._worth:
            return set()
        keeper = self._shares.keeper
        repacker = Repacker(
            self._repo, self._terms.now_s, lambda chunk, pack: keeper.get(chunk) == pack, self._terms.pack_bytes
        )
        await repacker.copy(self._worth)
        await self._repo.add_to_index(repacker.copied)
        self.done.damaged = repacker.damaged
        self.done.copied_bytes = sum(pack.size for pack in repacker.copied)
        return {pack.name for pack in self._worth} - set(repacker.damaged)

    async def _look_again(self, doomed: set[str]) -> set[str]:
        """Everybody who looks from now on knows of the doomed packs. Which of them somebody relied on before that?

        Pending records are read before commits are listed: one that goes meanwhile leaves a commit behind.
        """
        held = await self._claims().held(await self._repo.look())
        view = await self._survey()
        sure = view.present - (view.others - doomed)
        return (doomed & held) | rescued(self._repo.catalogue, self._reach.chunks, doomed, sure)

    async def _delete(self, before: _View, gone: set[str]) -> None:
        """First from the index, then the packs, then the record that doomed them."""
        await self._check_lock()
        listing = await self._repo.look()
        self.done.index_objects_replaced = await revise_index(self._repo, listing, gone)
        await self._check_lock()
        self.done.deleted = len(gone)
        self.done.deleted_bytes = sum(self._size(name) for name in gone)
        await gather(self._repo.store.delete(pack_key(name)) for name in sorted(gone))
        for name in sorted(before.listing.doomed | {self._own}):
            await self._repo.store.delete(f"{STATE}doomed/{name}")

    async def _survey(self) -> _View:
        """A view in which everything that commits need is somewhere.

        A number that is forgotten and taken again may name a commit that is younger than the view: so look again.
        """
        for looks_left in reversed(range(_SURVEYS_MAX)):
            view = await self._view()
            try:
                await self._read_commits(view.listing)
                if nowhere := lacking(self._repo.catalogue, self._reach.chunks, view.present):
                    raise Corrupt(_lacking(nowhere))
            except Corrupt:
                if not looks_left:
                    raise
            else:
                break
        return view

    async def _view(self) -> _View:
        """Look, learn, and read what others doomed; again when something went meanwhile."""
        for _ in range(_LOOKS_MAX):
            listing = await self._repo.look()
            try:
                await self._repo.learn(listing)
                records = [await self._doomed_by(name) for name in sorted(listing.doomed) if name != self._own]
            except NotStored:
                continue
            present = {key.rpartition("/")[2] async for key in self._repo.store.keys(PACKS)}
            return _View(listing, present, set().union(*records))
        raise BadInput("the repository changes all the time: is another prune running? Try again when it has ended")

    async def _doomed_by(self, name: str) -> list[str]:
        return (await self._repo.get_record(f"{STATE}doomed/{name}", Doomed)).packs

    async def _read_commits(self, listing: Listing) -> None:
        """All of them each time: a number that is forgotten and taken again names another commit than before."""
        keys = (*listing.commits, *listing.branches)
        for record in await gather(self._commit(key) for key in keys):
            if record and not record.void:
                await self._reach.add(record.commit.root)

    async def _commit(self, key: str) -> CommitRecord | None:
        try:
            return await self._repo.get_record(key, CommitRecord)
        except NotStored:
            return None  # forgotten meanwhile

    async def _read_orphans(self, names: Iterable[str]) -> None:
        """Packs that no index names: when they were made (0 where they don't tell), and their size in bytes."""
        for name in names:
            try:
                pack = await self._repo.read_pack_record(name)
                self._orphans[name] = pack.created_s, pack.size
            except Corrupt:
                self._orphans[name] = 0, 0
            except NotStored:
                continue

    def _worth_repacking(self, found: Shares, without: set[str]) -> list[Pack]:
        catalogue, terms = self._repo.catalogue, self._terms
        usable = [
            catalogue.packs[name]
            for name in sorted(found.live)
            if name in catalogue.trusted_packs and name not in without and not self._is_young(name)
        ]
        sparse = [pack for pack in usable if found.of(pack.name) < terms.repack_below]
        small = [
            pack
            for pack in usable
            if pack.size * _SMALL < terms.pack_bytes and found.of(pack.name) >= terms.repack_below
        ]
        return sparse + (small if sum(pack.size for pack in small) >= terms.pack_bytes else [])

    def _is_young(self, name: str) -> bool:
        pack = self._repo.catalogue.packs.get(name)
        age_s = self._terms.now_s - (pack.created_s if pack else self._orphans[name][0])
        return abs(age_s) < self._terms.grace_s  # a clock that is far ahead must not keep a pack for ever

    def _size(self, name: str) -> int:
        pack = self._repo.catalogue.packs.get(name)
        return pack.size if pack else self._orphans.get(name, (0, 0))[1]

    def _count(self, view: _View, doomed: set[str], young: int) -> None:
        self.done.packs, self.done.young = len(view.present), young
        self.done.packs_bytes = sum(self._size(name) for name in view.present)
        self.done.deleted, self.done.repacked = len(doomed), len(self._worth)
        self.done.deleted_bytes = sum(self._size(name) for name in doomed)

    async def _take_lock(self) -> None:
        if self._terms.break_lock or await self._is_ours():
            await self._repo.store.delete(LOCK)
        try:
            await self._repo.put_record(LOCK, self._lock)
        except AlreadyStored as error:
            raise BadInput(
                "another prune holds the repository's lock. When you know that it has ended, use --break-lock"
            ) from error

    async def _is_ours(self) -> bool:
        """Whether a prune of the same owner left its lock."""
        try:
            return bool(self._terms.owner) and (await self._repo.get_record(LOCK, Lock)).owner == self._terms.owner
        except NotStored:
            return False

    async def _has_lock(self) -> bool:
        try:
            return (await self._repo.get_record(LOCK, Lock)).id == self._lock.id
        except NotStored:
            return False

    async def _check_lock(self) -> None:
        if not await self._has_lock():
            raise BadInput("somebody broke this prune's lock; it ends here. Nothing that is needed was deleted")

    async def _give_lock_back(self) -> None:
        if await self._has_lock():
            await self._repo.store.delete(LOCK)


def _lacking(chunks: list[bytes]) -> str:
    return (
        f"commits need {len(chunks)} chunks that no pack holds, as {chunks[0].hex()}: nothing is deleted from a "
        "damaged repository. `dumont snapshot check` names the files; `check --repair-index` may find the chunks"
    )
