"""A cut: bringing the index of a primary's tree up to one point in time, like a live migration.

Copy what is dirty while the workload runs, again what changed meanwhile, and when little is left freeze the workload
for that remainder, so that a database and its log match. What can't be cut short enough is *fuzzy*, and named.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from dumont.clock import Clock
from dumont.errors import BadInput
from dumont.model.commit import Change, Entry, Kind
from dumont.replication.ports import BlobSink, Grabbed, Happening, Hint, Reading, Source
from dumont.replication.watch import DirtySet
from dumont.snapshot.tree import TOP, Tree, parent_of

_BATCH = 128
_PATH_COST_BYTES = 64 * 2**10  # opening a file takes about as long as reading so much
_BATCH_BYTES_MAX = 8 * 2**20
_OVERFLOW = Hint(TOP, Happening.OVERFLOW)


@dataclass(frozen=True)
class Pace:
    """Bounds of a cut. `duty_max` is the largest share of time that background cuts may keep a workload frozen.

    What costs up to `little_bytes` is read while frozen; more is copied first, as long as that makes it less.
    `frozen_s_max` is when a freeze is given up, whatever was still to be read. Files that are written through shared
    memory, and too large to be read while frozen, are read before it up to `mapped_bytes_max` each if somebody waits.
    """

    interval_s: float = 0.1
    duty_max: float = 0.02
    freeze_timeout_s: float = 0.02
    frozen_s_max: float = 0.25
    little_bytes: int = 2**20
    frozen_bytes_max: int = 16 * 2**20
    frozen_paths_max: int = 1_000
    mapped_bytes_max: int = 256 * 2**20
    rounds_max: int = 6


@dataclass(frozen=True)
class Cut:
    """What a cut found out. `frozen_s` is how long the workload stood still for it, all attempts together."""

    consistent: bool
    fuzzy: tuple[bytes, ...] = ()
    frozen_s: float = 0.0


@dataclass
class _Remainder:
    """What was still to be read when the workload was frozen. `whole`: all of it was, and none of it is missing."""

    whole: bool = False
    too_large: tuple[bytes, ...] = ()
    frozen_s: float = 0.0


class Cutter:
    """Owns the index (`tree`) of a live tree and what changed in it since the last commit was taken."""

    def __init__(self, source: Source, tree: Tree, clock: Clock, pace: Pace | None = None) -> None:
        self._source = source
        self._clock = clock
        self._dirty = DirtySet()
        self._before: dict[bytes, Entry | None] = {}
        self.tree = tree
        self.pace = pace or Pace()
        self.uncovered: dict[bytes, str] = {}

    def distrust_everything(self) -> None:
        """Nothing is known of the live tree any more: the next cut walks it all."""
        self._dirty.take([_OVERFLOW])

    def close(self) -> None:
        """Read no more of the live tree."""
        self._source.close()

    def quiet(self) -> bool:
        """Whether no hint came since the last cut. Says nothing of writes through shared memory."""
        self._dirty.take(self._source.hints())
        return not self._dirty and not self._before

    @property
    def pending(self) -> set[bytes]:
        """Paths that changed since the last commit was taken."""
        return {path for path, entry in self._before.items() if self.tree.get(path) != entry}

    def take_changes(self) -> tuple[Change, ...]:
        """The changes since the last call, sorted by path; from now on they count as committed."""
        changes = tuple(Change(path, self.tree.get(path)) for path in sorted(self.pending))
        self._before = {}
        return changes

    async def cut(self, sink: BlobSink, declared: Collection[bytes] = (), *, thorough: bool = False) -> Cut:
        """Bring `tree` up to one point in time that is no earlier than this call, handing new blocks to `sink`.

        `thorough`: somebody waits for it, so large files that are written through shared memory are read too.
        """
        self._dirty.declare(declared)
        self._dirty.take(self._source.hints())
        mapped = self._source.mapped()
        if not self._dirty and not mapped:
            return Cut(consistent=True)
        if thorough:
            self._dirty.declare(await self._not_above(self.pace.mapped_bytes_max, mapped))
        rest, frozen_s = _Remainder(), 0.0
        for attempt in range(self.pace.rounds_max):
            await self._copy_until_little_is_left(sink, rounds=1 if attempt else self.pace.rounds_max)
            rest = await self._freeze_for_the_rest(sink)
            frozen_s += rest.frozen_s
            if rest.whole:
                self._dirty.declare(self._misplaced())
            if rest.whole and not self._dirty:
                return Cut(consistent=not rest.too_large, fuzzy=rest.too_large, frozen_s=frozen_s)
        return Cut(consistent=False, fuzzy=await self._fuzzy(sink, rest), frozen_s=frozen_s)

    async def _copy_until_little_is_left(self, sink: BlobSink, rounds: int) -> None:
        """Copy what is dirty, again and again, until little is, or what fits into a freeze and gets no less."""
        before = float("inf")
        for _ in range(rounds):
            paths = await self._to_read()
            if len(paths) <= self.pace.frozen_paths_max:
                size = await self._source.size(paths)
                cost = size + _PATH_COST_BYTES * len(paths)
                fits = size <= self.pace.frozen_bytes_max // 2
                if fits and (cost <= self.pace.little_bytes or cost > before / 2):
                    self._dirty.declare(paths)
                    return
                before = cost
            for start in range(0, len(paths), _BATCH):
                await self._copy(paths[start : start + _BATCH], sink)

    async def _copy(self, paths: list[bytes], sink: BlobSink) -> None:
        """Read while the workload runs: small files many at a time, large ones block by block."""
        try:
            readings = await self._source.digest(await self._source.grab(paths, _BATCH_BYTES_MAX), sink)
        except BadInput:
            readings = [await self._source.copy(path, sink) for path in paths]
        for reading in readings:
            self._note(reading)

    async def _to_read(self) -> list[bytes]:
        """Every path known to be dirty now, after walking what has to be walked."""
        self._dirty.take(self._source.hints())
        walks = self._dirty.walks()
        try:
            while walks:
                self._dirty.declare(await self._source.walk(walks[-1], self.tree))
                walks.pop()
        finally:
            self._dirty.take(Hint(below, Happening.SUBTREE) for below in walks)  # given up half-way
        return self._dirty.paths(self.tree)

    async def _freeze_for_the_rest(self, sink: BlobSink) -> _Remainder:
        """Read the remainder while the workload stands still. Whatever was not read stays dirty."""
        grabbed: list[Grabbed] = []
        rest = _Remainder()
        bound = self.pace.frozen_bytes_max // 4
        asked = self._source.mapped()  # now, for asking takes time
        small = await self._not_above(bound, asked)
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self.pace.frozen_s_max):
                frozen = await self._source.freeze(self.pace.freeze_timeout_s)
                self._dirty.take(self._source.hints())
                if frozen and not self._dirty.everything:
                    mapped = self._source.mapped()
                    small |= await self._not_above(bound, mapped - asked)
                    rest.too_large = tuple(sorted(mapped - small))
                    self._dirty.declare(mapped & small)
                    grabbed = await self._grab(await self._to_read())
                    rest.whole = True
        except TimeoutError:
            pass  # the workload must go on; what was not read is dirty still
        finally:
            await self._source.thaw()
            rest.frozen_s = self._clock.monotonic() - began
        for reading in await self._source.digest(grabbed, sink):
            self._note(reading)
        return rest

    async def _grab(self, paths: list[bytes]) -> list[Grabbed]:
        grabbed: list[Grabbed] | None = None
        try:
            if len(paths) <= self.pace.frozen_paths_max:
                grabbed = await self._source.grab(paths, self.pace.frozen_bytes_max)
        except BadInput:
            pass  # too much for one freeze: the next round copies it first
        finally:
            if grabbed is None:
                self._dirty.declare(paths)
        return grabbed or []

    async def _not_above(self, bytes_max: int, mapped: set[bytes]) -> set[bytes]:
        """Those of `mapped` that are not larger."""
        return {path for path in mapped if await self._source.size([path]) <= bytes_max}

    async def _fuzzy(self, sink: BlobSink, rest: _Remainder) -> tuple[bytes, ...]:
        """Read what is left while the workload runs, and name all that may have moved meanwhile.

        What vanished may have a new name, that was looked at before it had it: then we look again.
        """
        moved: set[bytes] = set(rest.too_large) | self._source.mapped()
        for _ in range(self.pace.rounds_max):
            paths = await self._to_read()
            vanished = False
            for path in paths:
                reading = await self._source.copy(path, sink)
                vanished |= reading.entry is None and not reading.uncovered
                self._note(reading)
            self._dirty.take(later := self._source.hints())
            moved.update(paths, (hint.path for hint in later))
            if not vanished:
                break
        while misplaced := self._misplaced():  # no disk can hold them; they are dirty, and read again by the next cut
            self._dirty.declare(misplaced)
            moved |= misplaced
            for path in misplaced:
                self._set(path, None)
        kinds = ((path, self.tree.get(path)) for path in moved)
        return tuple(sorted(path for path, entry in kinds if entry is None or entry.kind is Kind.FILE))

    def _misplaced(self) -> set[bytes]:
        """Paths that changed and that lie, by the index, in what is no directory: not all was read at one moment."""
        found: set[bytes] = set()
        for path in self._before:
            if not _is_directory(self.tree.get(path)):
                found.update(self.tree.below(path))
            if path != TOP and path in self.tree and not _is_directory(self.tree.get(parent_of(path))):
                found.add(path)
        return found

    def _note(self, reading: Reading) -> None:
        """Put into the index what a path was found to hold."""
        path = reading.path
        if reading.uncovered:
            self.uncovered[path] = reading.uncovered
        else:
            self.uncovered.pop(path, None)
        if reading.moved:
            self._dirty.declare([path])
        if reading.entry is None or reading.entry.kind is not Kind.DIRECTORY:
            for below in self.tree.below(path):
                self._set(below, None)
        self._set(path, reading.entry)

    def _set(self, path: bytes, entry: Entry | None) -> None:
        before = self.tree.get(path)
        if before == entry:
            return
        self._before.setdefault(path, before)
        if entry is None:
            self.tree.remove(path)
        else:
            self.tree.put(path, entry)


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is Kind.DIRECTORY
