"""Verifying: everything that lies in a repository is looked at, and on demand read, opened, decoded and hashed.

What is wrong is told apart from what savers and prunes leave behind when they are ended, which costs room only.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import msgspec

from dumont.errors import Corrupt, NotStored, WrongKey
from dumont.repository.catalogue import Catalogue
from dumont.repository.codec import Coder
from dumont.repository.keyring import GOING
from dumont.repository.keys import Slot, is_whole
from dumont.repository.pack import PackReader, check_frame, frame_ids
from dumont.repository.progress import Progress
from dumont.repository.record import (
    CONFIG,
    PACKS,
    SECOND_CONFIG,
    SLOTS,
    STATE,
    VERSION,
    CommitRecord,
    Config,
    Doomed,
    IndexObject,
    Labels,
    Pack,
    Pending,
    Record,
    commit_key,
    commit_of,
    index_key,
    pack_key,
    unpack,
)
from dumont.repository.repository import Listing, Repository, gather, marker_key
from dumont.repository.seal import open_object
from dumont.repository.upkeep.arrivals import Arrivals, is_arrivals
from dumont.repository.upkeep.hits import Hit, Lost, find_hits
from dumont.repository.upkeep.prune import LOCK, Lock
from dumont.repository.upkeep.revision import put_index

RUN_BYTES = 4 * 2**20
HITS_MAX = 1000
_PACKS_AT_ONCE = 3
_Place = tuple[str, bytes]


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the object `key`."""

    key: str
    what: str


@dataclass(frozen=True)
class Terms:
    """`read_data`: read every byte. `vouch`: say of packs of others that proved good that they may be relied on.

    At most `hits_max` of the files hit are listed.
    """

    read_data: bool = False
    vouch: bool = True
    hits_max: int = HITS_MAX


@dataclass
class Verdict:
    """`damage` is to be acted upon; `leftovers` cost room until a prune. `hits`: files that can't be restored.

    `hit_count` counts all of them; `read_bytes` those of frames that were read; `vouched` packs.
    """

    damage: list[Trouble] = field(default_factory=list)
    leftovers: list[Trouble] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    hit_count: int = 0
    commits: int = 0
    packs: int = 0
    chunks: int = 0
    read_bytes: int = 0
    vouched: int = 0

    @property
    def is_good(self) -> bool:
        """Whether everything that was looked at is as it was stored."""
        return not self.damage and not self.hit_count


async def verify(repo: Repository, terms: Terms, progress: Progress | None = None) -> Verdict:
    """Look at everything. Raises WrongKey for keys that can't read, StoreError when the store does not answer.

    Savers may go on; what a prune deletes meanwhile may be reported as missing.
    """
    if not repo.keys.secret:
        raise WrongKey("a writer's key reads nothing: use the repository's passphrase")
    own = replace(repo, cache=None, catalogue=Catalogue(), learned=frozenset())
    return await _Verification(own, terms, progress or Progress()).run()


class _Verification:
    def __init__(self, repo: Repository, terms: Terms, progress: Progress) -> None:
        self._repo, self._terms, self._progress = repo, terms, progress
        self._bad: set[_Place] = set()
        self._offers: dict[str, list[Pack]] = {}
        self._faulty: set[str] = set()
        self._done = Verdict()

    async def run(self) -> Verdict:
        listing = await self._repo.look()
        await self._check_config()
        await self._check_marker()
        await self._check_index(listing)
        present = {key async for key in self._repo.store.keys(PACKS)}
        await self._check_packs(present)
        if self._terms.read_data:
            await self._read_packs()
        records = await self._check_commits(listing)
        await self._check_savers(listing)
        await self._check_others(listing, present)
        lost = Lost(self._repo, self._bad)
        self._done.hits, self._done.hit_count = await find_hits(self._repo, records, lost, self._terms.hits_max)
        await self._vouch()
        return self._done

    async def _check_config(self, key: str = CONFIG) -> None:
        keys = self._repo.keys
        try:
            body = await self._repo.store.get(key)
            config = msgspec.msgpack.decode(body, type=Config)
        except NotStored:
            self._damage(key, await self._without_config())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._damage(key, f"can't be read: {error}")
        else:
            same = (config.version, config.repository, config.public) == (VERSION, keys.repository, keys.public)
            if not same or msgspec.msgpack.encode(config) != body or not is_whole(config.slot, keys.secret):
                self._damage(key, "was changed: nobody may be able to open the repository with it")

    async def _without_config(self) -> str:
        if await self._repo.store.exists(SECOND_CONFIG):
            return "is missing: whoever removed the first passphrase was ended; `key remove REPO first` puts it there"
        return "is missing: nobody can open the repository without it"

    async def _check_marker(self) -> None:
        keys = self._repo.keys
        if not await self._repo.store.exists(marker_key(keys.repository)):
            self._damage(marker_key(keys.repository), "is missing; the next save or look makes it again")

    async def _check_index(self, listing: Listing) -> None:
        for name in sorted(listing.indexes):
            key = index_key(name)
            try:
                plain, writer = open_object(self._repo.keys, key, await self._repo.store.get(key))
                packs = unpack(plain, IndexObject, key).packs
                for pack in packs:
                    for frame in pack.frames:
                        check_frame(pack, frame)
            except (Corrupt, NotStored) as error:
                self._damage(key, f"{error}; `check --repair-index` makes it again from the packs")
                continue
            self._repo.catalogue.add(packs, trusted=not writer)
            if writer:
                self._offers.setdefault(writer, []).extend(packs)
        self._repo.learned = listing.indexes

    async def _check_packs(self, present: set[str]) -> None:
        packs = self._repo.catalogue.packs.values()
        self._done.packs = len(packs)
        self._done.chunks = len(self._repo.catalogue)
        await gather(self._check_pack(pack, pack_key(pack.name) in present) for pack in packs)

    async def _check_pack(self, pack: Pack, is_present: bool) -> None:
        key = pack_key(pack.name)
        try:
            if not is_present and not await self._repo.store.exists(key):
                raise NotStored(key)
            if await self._repo.read_pack_record(pack.name) != pack:
                self._spoil(pack, [], "holds another thing than the index says")
        except NotStored:
            self._spoil(pack, range(len(pack.frames)), "is missing")
        except Corrupt as error:
            size = await self._repo.store.size(key)
            cut = [number for number, frame in enumerate(pack.frames) if frame.offset + frame.length > size]
            self._spoil(pack, cut, str(error))

    async def _read_packs(self) -> None:
        packs = list(self._repo.catalogue.packs.values())
        self._progress.total_bytes = sum(pack.size for pack in packs)
        free = asyncio.Semaphore(_PACKS_AT_ONCE)
        await gather(self._read_pack(pack, free) for pack in packs)

    async def _read_pack(self, pack: Pack, free: asyncio.Semaphore) -> None:
        async with free:
            try:
                reader = PackReader(self._repo.keys, pack, Coder())
                for run in _runs(pack):
                    await self._read_run(reader, run)
            except NotStored:
                self._faulty.add(pack.name)
            except Corrupt as error:
                self._spoil(pack, range(len(pack.frames)), str(error))

    async def _read_run(self, reader: PackReader, run: list[int]) -> None:
        first, last = reader.pack.frames[run[0]], reader.pack.frames[run[-1]]
        length = last.offset + last.length - first.offset
        sealed = await self._repo.store.get_range(pack_key(reader.pack.name), first.offset, length)
        self._done.read_bytes += len(sealed)
        self._progress.done_bytes += len(sealed)
        self._progress.moved_bytes += len(sealed)
        await asyncio.to_thread(self._open_run, reader, run, memoryview(sealed))

    def _open_run(self, reader: PackReader, run: list[int], sealed: memoryview) -> None:
        pack = reader.pack
        base = pack.frames[run[0]].offset
        for number in run:
            frame = pack.frames[number]
            begin = frame.offset - base
            try:
                plain = reader.frame(number, sealed[begin : begin + frame.length])
            except Corrupt as error:
                self._spoil(pack, [number], str(error))
                continue
            start = 0
            for id, length in zip(frame_ids(frame), frame.lengths, strict=True):
                try:
                    reader.chunk(number, plain, start, length, id)
                except Corrupt as error:
                    self._bad.add((pack.name, id))
                    self._faulty.add(pack.name)
                    self._damage(pack_key(pack.name), str(error))
                start += length

    async def _check_commits(self, listing: Listing) -> list[tuple[str, CommitRecord]]:
        records = []
        for key in (*listing.commits, *listing.branches):
            try:
                record = await self._repo.get_record(key, CommitRecord)
                if record.commit.id != commit_of(key):
                    raise Corrupt(f"the record of commit {commit_of(key)} is that of {record.commit.id}")
            except NotStored:
                continue  # forgotten meanwhile
            except Corrupt as error:
                self._damage(key, f"{error}: the commit can't be restored")
                continue
            if not record.void:
                records.append((key, record))
        self._done.commits = len(records)
        return records

    async def _check_savers(self, listing: Listing) -> None:
        for name in sorted(listing.pending):
            key = f"{STATE}pending/{name}"
            pending = await self._record(key, Pending)
            if pending and commit_key(pending.commit, pending.prefix) not in (*listing.commits, *listing.branches):
                self._leftover(key, f"a saver has not come to name commit {pending.commit}, or somebody deleted that")
        for name in sorted(listing.doomed):
            if doomed := await self._record(f"{STATE}doomed/{name}", Doomed):
                self._leftover(f"{STATE}doomed/{name}", f"a prune of {len(doomed.packs)} packs did not end, or is on")

    async def _check_others(self, listing: Listing, present: set[str]) -> None:
        named = {commit_key(commit_of(key)).rpartition("/")[2] for key in listing.commits}
        for key in sorted(listing.others):
            if key == LOCK:
                if lock := await self._record(key, Lock):
                    self._leftover(key, f"a prune that began at Unix time {lock.at_s} did not end, or is on")
            elif key.startswith(f"{STATE}labels/"):
                if await self._record(key, Labels) and key.split("/")[2] not in named:
                    self._leftover(key, "labels of a commit that is not there")
            elif is_arrivals(key):
                await self._record(key, Arrivals)
            elif key.startswith(SLOTS):
                await self._check_slot(key)
            elif key == SECOND_CONFIG:
                await self._check_config(key)
            elif key.startswith(GOING):
                self._leftover(key, "somebody is removing that passphrase, or was ended; `key remove` goes on")
            elif key != marker_key(self._repo.keys.repository):
                self._leftover(key, "is nothing that this program knows")
        for key in sorted(present - {pack_key(name) for name in self._repo.catalogue.packs}):
            try:
                await self._repo.read_pack_record(key.rpartition("/")[2])
                self._leftover(key, "no index names it: a saver was ended, or is at work")
            except NotStored:
                continue
            except Corrupt as error:
                self._leftover(key, f"no index names it, and it is not whole: {error}")

    async def _check_slot(self, key: str) -> None:
        try:
            if is_whole(msgspec.msgpack.decode(await self._repo.store.get(key), type=Slot), self._repo.keys.secret):
                return
        except NotStored:
            return
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # said below
        self._damage(key, "was changed: the passphrase or key that it is for may not open the repository any more")

    async def _record(self, key: str, type: type[Record]) -> Record | None:
        try:
            return await self._repo.get_record(key, type)
        except NotStored:
            return None
        except Corrupt as error:
            self._damage(key, str(error))
            return None

    async def _vouch(self) -> None:
        """Say of offers that proved good that their chunks may be relied on."""
        if not (self._terms.read_data and self._terms.vouch) or self._repo.keys.writer:
            return
        trusted = self._repo.catalogue.trusted_packs
        good = {pack.name: pack for pack in self._repo.catalogue.packs.values()}
        good = {name: pack for name, pack in good.items() if name not in self._faulty and name not in trusted}
        await put_index(self._repo, list(good.values()), self._repo.keys.writer)
        self._done.vouched = len(good)

    def _spoil(self, pack: Pack, frames: "Iterator[int] | range | list[int]", what: str) -> None:
        self._faulty.add(pack.name)
        self._damage(pack_key(pack.name), what)
        for number in frames:
            self._bad.update((pack.name, id) for id in frame_ids(pack.frames[number]))

    def _damage(self, key: str, what: str) -> None:
        self._done.damage.append(Trouble(key, what))

    def _leftover(self, key: str, what: str) -> None:
        self._done.leftovers.append(Trouble(key, what))


def _runs(pack: Pack) -> Iterator[list[int]]:
    """Numbers of frames that lie one after the other, about RUN_BYTES at a time."""
    run: list[int] = []
    for number, frame in enumerate(pack.frames):
        if run:
            first, last = pack.frames[run[0]], pack.frames[run[-1]]
            if last.offset + last.length != frame.offset or frame.offset + frame.length - first.offset > RUN_BYTES:
                yield run
                run = []
        run.append(number)
    if run:
        yield run
