"""A cut: bringing the index of a primary's tree up to one point in time, like a live migration.

Copy what is dirty while the workload runs, again what changed meanwhile, and when little is left freeze the workload
for that remainder, so that a database and its log match. What can't be cut short enough is *fuzzy*, and named.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from dumont.clock import Clock
from dumont.errors import BadInput
from dumont.model.commit import Change, Entry, Kind
from dumont.replication.ports import BlobSink, Grabbed, Happening, Hint, Reading, Source
from dumont.replication.watch import DirtySet
from dumont.snapshot.tree import TOP, Tree

_BATCH = 128
_BATCH_BYTES_MAX = 8 * 2**20
_OVERFLOW = Hint(TOP, Happening.OVERFLOW)


@dataclass(frozen=True)
class Pace:
    """Bounds of a cut. `duty_max` is the largest share of time that background cuts may keep a workload frozen."""

    interval_s: float = 0.1
    duty_max: float = 0.02
    freeze_timeout_s: float = 0.02
    frozen_bytes_max: int = 16 * 2**20
    frozen_paths_max: int = 1_000
    rounds_max: int = 6


@dataclass(frozen=True)
class Cut:
    """What a cut found out. `frozen_s` is how long the workload stood still for it."""

    consistent: bool
    fuzzy: tuple[bytes, ...] = ()
    frozen_s: float = 0.0


@dataclass
class _Remainder:
    """What was still to be read when the workload was frozen."""

    frozen: bool = False
    paths: list[bytes] = field(default_factory=list)
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

    async def cut(self, sink: BlobSink, declared: Collection[bytes] = ()) -> Cut:
        """Bring `tree` up to one point in time that is no earlier than this call, handing new blocks to `sink`."""
        self._dirty.declare(declared)
        self._dirty.take(self._source.hints())
        if not self._dirty and not self._source.mapped():
            return Cut(consistent=True)
        rest = _Remainder()
        for attempt in range(self.pace.rounds_max):
            await self._copy_until_little_is_left(sink, rounds=1 if attempt else self.pace.rounds_max)
            rest = await self._freeze_for_the_rest(sink)
            if rest.frozen and not self._dirty:
                return Cut(consistent=not rest.too_large, fuzzy=rest.too_large, frozen_s=rest.frozen_s)
        return await self._fuzzy(sink, rest)

    async def _copy_until_little_is_left(self, sink: BlobSink, rounds: int) -> None:
        for _ in range(rounds):
            paths = await self._to_read()
            few = len(paths) <= self.pace.frozen_paths_max
            if few and await self._source.size(paths) <= self.pace.frozen_bytes_max // 2:
                self._dirty.declare(paths)
                return
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
        for below in self._dirty.walks():
            self._dirty.declare(await self._source.walk(below, self.tree))
        return self._dirty.paths(self.tree)

    async def _freeze_for_the_rest(self, sink: BlobSink) -> _Remainder:
        """Read the remainder while the workload stands still. Whatever was not read stays dirty."""
        grabbed: list[Grabbed] = []
        rest = _Remainder()
        began = self._clock.monotonic()
        try:
            rest.frozen = await self._source.freeze(self.pace.freeze_timeout_s)
            self._dirty.take(self._source.hints())
            if rest.frozen and not self._dirty.everything:
                mapped = self._source.mapped()
                rest.too_large = await self._too_large(mapped)
                self._dirty.declare(mapped.difference(rest.too_large))
                rest.paths = await self._to_read()
                grabbed = await self._grab(rest.paths)
        finally:
            await self._source.thaw()
            rest.frozen_s = self._clock.monotonic() - began
        for reading in await self._source.digest(grabbed, sink):
            self._note(reading)
        return rest

    async def _grab(self, paths: list[bytes]) -> list[Grabbed]:
        if len(paths) <= self.pace.frozen_paths_max:
            try:
                return await self._source.grab(paths, self.pace.frozen_bytes_max)
            except BadInput:
                pass  # too much for one freeze: the next round copies it first
        self._dirty.declare(paths)
        return []

    async def _too_large(self, mapped: set[bytes]) -> tuple[bytes, ...]:
        """Files written through shared memory that are too large to be read while the workload is frozen."""
        bound = self.pace.frozen_bytes_max // 4
        return tuple([path for path in sorted(mapped) if await self._source.size([path]) > bound])

    async def _fuzzy(self, sink: BlobSink, rest: _Remainder) -> Cut:
        """Read what is left while the workload runs, and name all that may have moved meanwhile."""
        moved: set[bytes] = set(rest.too_large) | self._source.mapped()
        paths = await self._to_read()
        for path in paths:
            reading = await self._source.copy(path, sink)
            self._note(reading)
            moved.add(path)
        self._dirty.take(later := self._source.hints())
        moved.update(hint.path for hint in later)
        files = (path for path in moved if (entry := self.tree.get(path)) and entry.kind is Kind.FILE)
        return Cut(consistent=False, fuzzy=tuple(sorted(files)), frozen_s=rest.frozen_s)

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
