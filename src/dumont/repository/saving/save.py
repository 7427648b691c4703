"""Saving: a directory tree becomes a commit in a repository. Whatever fails on the way leaves nothing that could be
taken for one, and what was stored is not sent again.

Chunks come first, in packs, with the directories' objects; then index objects; last the commit (`naming.py`). Reading,
hashing, encoding, sealing and storing is the hands' work (`intake.py`); here it is decided what is read and kept.
"""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec.structs import replace

from dumont.errors import NotStored, StoreError
from dumont.model.commit import Commit, CommitId
from dumont.repository.batch import batches
from dumont.repository.hands import Hand
from dumont.repository.naming import Needs, name_commit
from dumont.repository.pack import PACK_BYTES
from dumont.repository.probe import Compression
from dumont.repository.progress import Progress
from dumont.repository.record import (
    DATA,
    NOTHING_EXCLUDED,
    PACKS,
    VERSION,
    CommitRecord,
    Exclusion,
    Pack,
    index_key,
)
from dumont.repository.repository import Listing, Repository
from dumont.repository.saving.gathering import Found, Gathering
from dumont.repository.saving.intake import Finish, Job, KeepTrees, Kept, start_saving
from dumont.repository.saving.memory import Memory, distrust, memory_of, recall, remember
from dumont.repository.saving.shape import Shape, shape
from dumont.repository.saving.sieve import sieve_for
from dumont.repository.saving.survey import Page, Survey, changed_since, keep_links, survey, survey_known
from dumont.repository.saving.sweep import Sweep
from dumont.repository.saving.walk import Walk
from dumont.snapshot.place import Place
from dumont.snapshot.scan import by_content, like
from dumont.snapshot.tree import Tree

__all__ = ["Draft", "Saved", "save", "start_saving"]

_ATTEMPTS = 5
_TREES_BYTES = 4 * 2**20
_TREES_BYTES_MIN = 2**20
_INDEX_PACKS = 64
_FINISH = msgspec.msgpack.encode(Finish())


@dataclass(frozen=True)
class Draft:
    """What a save is called. `at_ns`: the wall clock, Unix time. `path`: where the tree lies on `host`.

    `commit`: the commit that this is to be (its id, parent and what it names as fuzzy or uncovered), None for the next
    number. `known`: the tree that this commit has; then only what the repository lacks of it is read, and files that
    differ by now are named as fuzzy. `prefix`: that of a branch, or "". `walk`: over the same directory with the same
    exclusion, under way. `excluded`: what is left out of a tree that is not `known`. `compression`: of what is stored
    now; what is stored already stays as it is. `files_ns`: the clock of the tree's file system, Unix time.
    """

    at_ns: int
    name: str = ""
    tags: tuple[str, ...] = ()
    host: str = ""
    path: bytes = b""
    commit: Commit | None = None
    known: Tree | None = None
    prefix: str = ""
    walk: Walk | None = None
    excluded: Exclusion = NOTHING_EXCLUDED
    compression: Compression = Compression.AUTO
    files_ns: Callable[[], int] = time.time_ns


@dataclass(frozen=True)
class Saved:
    """The commit as it is stored. `new_bytes` of plain chunks are new; packs of `stored_bytes` were added.

    `uncovered`: paths that a commit can't hold, with the reason.
    """

    record: CommitRecord
    new_bytes: int
    stored_bytes: int
    uncovered: dict[bytes, str]


async def save(repo: Repository, source: Path, draft: Draft, hands: Sequence[Hand], progress: Progress) -> Saved:
    """Store the directory `source` as a commit. `hands` are workers begun with `start_saving` and not used before.

    Saving the same commit twice is harmless. Raises AlreadyStored when another commit has that id, StoreError,
    BadInput, OSError when `source` itself can't be read.
    """
    assert draft.walk is None or draft.walk.exclusion == draft.excluded, "a walk sees what the save is to hold"
    assert draft.known is None or draft.excluded == NOTHING_EXCLUDED, "what is known is saved as it is known"
    listing = repo.seen or await repo.look()
    with Place(source) as place:
        saving = _Saving(repo, source, place, draft, hands, progress, walk=draft.walk)
        for _ in range(_ATTEMPTS):
            try:
                needs = await saving.store(listing)
            except NotStored:  # a prune replaced index objects since they were listed
                listing = await repo.look()
                continue
            saved = await saving.name(listing, needs)
            if saved is not None:
                return saved
            await saving.forget_lost(needs)
            listing = await repo.look()  # a prune came between: what it took is stored again
    raise StoreError("prunes kept on deleting what this save relies on; run it again when they are done")


@dataclass
class _Saving:
    """One save. `store` may be called again: what is stored by then is not stored twice."""

    repo: Repository
    source: Path
    place: Place
    draft: Draft
    hands: Sequence[Hand]
    progress: Progress
    found: Survey = field(default_factory=lambda: Survey(0))
    made: Shape = field(default_factory=Shape)
    fuzzy: set[bytes] = field(default_factory=set)
    packs: list[Pack] = field(default_factory=list)
    adopted: list[Pack] = field(default_factory=list)
    unindexed: list[Pack] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    indexes: set[str] = field(default_factory=set)
    learned: Listing | None = None
    walk: Walk | None = None
    memory: Memory | None = None
    hired: bool = False
    began_s: float = field(default_factory=time.monotonic)

    async def store(self, listing: Listing) -> Needs:
        """Make sure that everything is in the store, and say what this relies on."""
        self.indexes &= listing.indexes
        memory = self.memory = recall(self.repo, self.draft.path) if self.draft.known is None else None
        trusted = memory is not None and not memory.indexes - listing.indexes and not listing.doomed
        if not trusted:
            await self._learn(listing)
        if memory is not None and not trusted:
            memory = distrust(memory, self.repo.catalogue)
        self.found = Survey(self.draft.files_ns())
        pages = {page.path: page for page in memory.pages} if memory else {}
        is_new = memory is None and self.draft.known is None
        to_read = iter(()) if is_new else self._to_read(pages)
        first = list(itertools.islice(to_read, 1))
        if is_new or first:
            await self._learn(listing)
            await self._hire()
            await self._adopt()
            await self._gather(itertools.chain(first, to_read), is_new)
        finishing = [asyncio.ensure_future(hand.ask(_FINISH)) for hand in self.hands if is_new or first]
        await asyncio.sleep(0)  # they put their last packs meanwhile
        try:
            self.made = shape(self.found, pages, everything=not trusted)
        finally:
            finished = await asyncio.gather(*finishing)
        await self._take_all(finished)
        relied = memory.packs if memory else frozenset()
        if memory is None or not trusted or self.made.root != memory.root:
            await self._learn(listing)
            await self._store_trees()
            await self._index()
            relied |= self._relied()
        if memory is None or not trusted:
            return Needs(relied, self.repo.learned | self.indexes)
        indexes = memory.indexes if relied == memory.packs else memory.indexes | self.repo.learned | self.indexes
        return Needs(relied, indexes, memory.packs)

    async def forget_lost(self, needs: Needs) -> None:
        """Rely no more on packs that are not there, and say no longer that they hold anything."""
        stored = {key.rpartition("/")[2] async for key in self.repo.store.keys(PACKS)}
        lost = needs.packs - stored
        self.lost |= lost
        if not lost.isdisjoint(pack.name for pack in self.packs + self.adopted):
            self.packs = [pack for pack in self.packs if pack.name not in lost]
            stay = self.packs + [pack for pack in self.adopted if pack.name not in lost]
            before, self.indexes = self.indexes, set(await self.repo.add_to_index(stay))
            with contextlib.suppress(StoreError):  # who may only add leaves it to a prune
                for name in before:  # after the others: commits of other machines may rely on what stays
                    await self.repo.store.delete(index_key(name))

    async def name(self, listing: Listing, needs: Needs) -> Saved | None:
        """Store the commit, and remember what it relies on; None when some of that may be gone again."""
        stored = sum(pack.size for pack in self.packs)
        new = sum(frame.plain_bytes for pack in self.packs for frame in pack.frames if frame.kind == DATA)
        record = CommitRecord(
            VERSION,
            self._commit(listing),
            self.draft.name,
            self.draft.tags,
            self.draft.host,
            self.draft.path,
            self.found.files,
            self.found.plain_bytes,
            stored,
            int((time.monotonic() - self.began_s) * 1000),
            excluded=self.draft.excluded,
        )
        named = await name_commit(self.repo, record, needs, self.draft.prefix, renumber=self.draft.commit is None)
        if named is None:
            return None
        if self.draft.known is None and (memory := memory_of(self.found, self.made, needs)) != self.memory:
            remember(self.repo, self.draft.path, memory)
        return Saved(named, new, stored, self.found.uncovered)

    def _commit(self, listing: Listing) -> Commit:
        commit = self.draft.commit
        if commit is None:
            last = listing.last_seq()
            parent = CommitId(0, last) if last else None
            commit = Commit(CommitId(0, last + 1), parent, b"", self.draft.at_ns, consistent=True)
        return replace(
            commit,
            root=self.made.root,
            consistent=commit.consistent and not self.fuzzy,
            fuzzy=tuple(sorted(self.fuzzy.union(commit.fuzzy))),
            uncovered=tuple(sorted(set(commit.uncovered).union(self.found.uncovered))),
        )

    async def _learn(self, listing: Listing) -> None:
        """Once for each listing: to learn one again is to forget the packs that were indexed since it was made."""
        if self.learned is listing:
            return
        await self.repo.learn(listing)
        doomed = await self.repo.doomed_packs(listing) if self.repo.keys.can_read else set()
        self.repo.catalogue.doomed = doomed | self.lost
        self.learned = listing

    def _to_read(self, pages: dict[bytes, Page]) -> Found:
        if self.draft.known is None:
            walk, self.walk = self.walk, None
            sieve = sieve_for(self.draft.excluded, self.place)
            return survey(self.place, walk.glances() if walk else {}, pages, self.found, sieve)
        return survey_known(self.place, self.draft.known, self._is_stored, self.found)

    def _is_stored(self, chunk: bytes) -> bool:
        return self.repo.catalogue.relies_on(chunk) is not None

    async def _hire(self) -> None:
        """Tell the hands what they work on: a save that finds nothing new needs none."""
        if not self.hired:
            self.hired = True
            draft = self.draft
            job = Job(os.fsencode(self.source), self.repo.keys, PACK_BYTES, draft.excluded, draft.compression)
            await asyncio.gather(*(hand.ask(msgspec.msgpack.encode(job)) for hand in self.hands))

    async def _gather(self, to_read: Found, is_new: bool) -> None:
        """Have the hands read. `is_new`: nothing of the tree is remembered, and all of it is to be read."""
        known = self.draft.known
        cut = by_content if known is None else like(known)
        is_stored = self.repo.catalogue.relies_on
        gathering = Gathering(self.place, self.found, is_stored, self._take, self.progress, cut)
        if is_new:
            if self.walk:
                self.walk.stop()
                self.walk = None
            sweep = Sweep(gathering, sieve_for(self.draft.excluded, self.place))
            await sweep.run(self.hands)
            to_read = iter(sweep.left)
        await gathering.run(to_read, self.hands)
        self.fuzzy |= gathering.fuzzy
        if known is not None:
            keep_links(self.found, known)
            self.fuzzy |= changed_since(self.found, known)

    async def _store_trees(self) -> None:
        """Have the hands keep directory objects that are not stored, in batches by turns."""
        await self._hire()
        bodies = [body for id, body in self.made.bodies.items() if not self._is_stored(id)]
        share = sum(map(len, bodies)) // len(self.hands) + 1
        asked = []
        for turn, batch in enumerate(batches(bodies, len, max(_TREES_BYTES_MIN, min(share, _TREES_BYTES)))):
            asked.append(self.hands[turn % len(self.hands)].ask(msgspec.msgpack.encode(KeepTrees(batch))))
        asked += [hand.ask(_FINISH) for hand in self.hands]
        await self._take_all(await asyncio.gather(*asked))

    async def _take_all(self, answers: Sequence[bytes]) -> None:
        for answer in answers:
            await self._take(msgspec.msgpack.decode(answer, type=Kept).packs)

    async def _take(self, packs: list[Pack]) -> None:
        self.packs += packs
        self.unindexed += packs
        self.progress.moved_bytes += sum(pack.size for pack in packs)
        if len(self.unindexed) >= _INDEX_PACKS:
            await self._index()

    async def _index(self) -> None:
        if self.unindexed:
            packs, self.unindexed = self.unindexed, []
            self.indexes.update(await self.repo.add_to_index(packs))

    async def _adopt(self) -> None:
        """Rely on whole packs that a save before us stored and did not come to index. They are looked for once more
        before the commit is named."""
        orphans = await self.repo.orphans() if self.repo.keys.can_read else []
        if orphans:
            self.adopted += orphans
            self.indexes.update(await self.repo.add_to_index(orphans))

    def _relied(self) -> frozenset[str]:
        """The packs that hold what has changed, or everything when nothing is remembered."""
        chunks = self.found.chunks.union(self.made.bodies)
        for folder in self.found.folders.values():
            for entry in folder.entries:
                if entry and entry.chunks:
                    chunks.update(entry.chunks)
        return frozenset(self.repo.catalogue.holding(chunks))
