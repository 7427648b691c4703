"""A crew: the hands of a restore, kept busy with units, and what they could not do, tried elsewhere.

What hands finish is made durable in batches, a batch with one call, and only then gets its final names.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dumont.model.commit import HOLE, Entry
from dumont.repository.catalogue import Catalogue
from dumont.repository.hands import Hand
from dumont.repository.progress import Progress
from dumont.repository.restoring.growing import Growth
from dumont.repository.restoring.route import Batch, Making, Order, Routes, apart, newest_first
from dumont.repository.restoring.route import Place as Where
from dumont.repository.restoring.unit import SMALL_BYTES_MAX, Answer, Examine, Finish, Search, Settle, Unit
from dumont.snapshot.chunk import block_ranges

_AT_ONCE = 2
"""Messages under way to each hand: one that it works on, one that waits."""
_BATCH_FILES = 32_768
_BATCH_BYTES = 512 * 2**20
_GROWN_FILES = 131_072
"""A tree that grows takes more, for nothing is remembered of its files."""
_EARLY_UNITS, _EARLY_FILES, _EARLY_CHUNKS_MAX = 8, 1_500, 16_384
"""While directories are made and small files planned, hands would be idle. One unit of large files for so many small
ones takes about that long, if the large ones are so few that planning those takes no time."""
_EXAMINED_BYTES = 64 * 2**20
_EXAMINED_FILES = 256
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Answer).decode


@dataclass
class Crew:
    """`flush` makes durable what was built, and may wait. `clock` gives seconds. `hit`: what failed, and why.

    `growth`: the target is empty, and a tree for it grows aside. `is_near`: so is the store. `held`: files of the
    target that are held aside, by the paths they had.
    """

    hands: Sequence[Hand]
    catalogue: Catalogue
    flush: Callable[[], None]
    clock: Callable[[], float]
    progress: Progress
    is_near: bool = False
    growth: Growth | None = None
    held: dict[bytes, int] = field(default_factory=dict)
    hit: dict[int, str] = field(default_factory=dict)
    fetched_bytes: int = 0
    _makings: dict[int, Making] = field(default_factory=dict)
    _batch: Batch = field(default_factory=lambda: Batch(_BATCH_FILES, _BATCH_FILES, _BATCH_BYTES))
    _tried: dict[bytes, set[Where]] = field(default_factory=dict)
    _ready: deque[Unit | Finish] = field(default_factory=deque)
    _under_way: Counter[int] = field(default_factory=Counter)
    _settled: int = 0
    _settling: list[asyncio.Task[None]] = field(default_factory=list)
    _beside: list[asyncio.Task[None]] = field(default_factory=list)
    _parked: list[Making] | None = None

    async def examine(self, files: list[tuple[bytes, Entry]]) -> list[tuple[int, ...] | None]:
        """What each of those files of the target lacks, as `Answer.wrong` says it."""
        return [wrong for answer in await self._ask_about(files, Examine) for wrong in answer.wrong]

    async def search(self, files: list[tuple[bytes, Entry]]) -> list[tuple[int, ...]]:
        """Which blocks of those entries each of those files of the target holds, as `Answer.found` says it."""
        return [found for answer in await self._ask_about(files, Search) for found in answer.found]

    async def _ask_about(self, files: list[tuple[bytes, Entry]], kind: type[Examine | Search]) -> list[Answer]:
        requests = [kind(share) for share in _shares(files)]
        answers = [Answer()] * len(requests)
        waiting = iter(enumerate(requests))

        async def lane(hand: Hand) -> None:
            for number, request in waiting:
                answers[number] = _decode(await hand.ask(_encode(request)))

        if requests:
            await self._all(lane)
        return answers

    async def make(self, makings: list[Making]) -> None:
        """Make everything and put it in place, small things first. What failed is in `hit` afterwards."""
        self._makings = {making.number: making for making in makings}
        small = [making for making in makings if making.entry.size <= SMALL_BYTES_MAX]
        large = [making for making in makings if making.entry.size > SMALL_BYTES_MAX]
        large_units = self._units(large, lambda runs: apart(runs, len(self.hands)))
        try:
            if self.growth:
                self._batch, self._parked = Batch(_GROWN_FILES, _BATCH_FILES, _BATCH_BYTES), []
                self._begin_early(small, large, large_units)
                await to_the_end(self.growth.begin)
            await self._stage(self._units(small, newest_first))
            self.progress.working_set_s = self.clock() - self.progress.started_s
            if self.growth:
                self._unpark()
                self._beside.append(asyncio.create_task(to_the_end(self.growth.finish)))
            await self._stage(large_units)
        finally:
            for task in (*self._settling, *self._beside):
                task.cancel()
            await asyncio.gather(*self._settling, *self._beside, return_exceptions=True)

    def _begin_early(self, small: list[Making], large: list[Making], units: Iterator[Unit]) -> None:
        """Give hands something to do until there is a plan of what is small; all but one, for whoever plans is one."""
        if not self.is_near or sum(len(making.entry.chunks) for making in large) > _EARLY_CHUNKS_MAX:
            return
        for _ in range(min(_EARLY_UNITS, len(small) // _EARLY_FILES)):
            for hand in self.hands[:-1] or self.hands:
                if (unit := self._next(units)) is not None:
                    self._beside.append(asyncio.create_task(self._carry_out(hand, unit)))

    async def _stage(self, units: Iterator[Unit]) -> None:
        """Make these, and wait until they are in place: to make what is small durable, with nothing large beside it."""

        async def lane(hand: Hand) -> None:
            while (message := self._next(units)) is not None:
                await self._carry_out(hand, message)

        await self._all(lane)
        if self._beside:
            await asyncio.gather(*self._beside)
            self._beside.clear()
            await self._all(lane)  # what followed from it
        self._batch.turn()
        self._settle_what_is_done()
        await asyncio.gather(*self._settling)

    async def _carry_out(self, hand: Hand, message: Unit | Finish) -> None:
        answer = _decode(await hand.ask(_encode(message)))
        self._take(message, answer)
        self._under_way[message.batch] -= 1
        self._settle_what_is_done()

    def _next(self, units: Iterator[Unit]) -> Unit | Finish | None:
        if self._ready:
            return self._ready.popleft()
        unit = next(units, None)
        if unit is not None:
            self._under_way[unit.batch] += 1
        return unit

    def _push(self, message: Unit | Finish) -> None:
        """Let it be done next. Its batch waits for it."""
        self._under_way[message.batch] += 1
        self._ready.append(message)

    def _units(self, makings: list[Making], order: Order) -> Iterator[Unit]:
        routes = Routes(self.catalogue, self._tried, self.held)
        yield from routes.units(makings, self._batch, order)
        for number, why in routes.lost.items():
            self.hit.setdefault(number, why)

    def _take(self, message: Unit | Finish, answer: Answer) -> None:
        """Note what a hand did, and see to what follows from it."""
        self.fetched_bytes += answer.fetched_bytes
        self.progress.moved_bytes += answer.fetched_bytes
        if isinstance(message, Finish):
            for item in message.items:
                self._built(self._makings[item.number])
            return
        dropped = set(answer.dropped)
        for item in message.items:
            if item.pieces >= 0 and item.number not in dropped:
                self._built(self._makings[item.number])
        self._count_pieces(message, set(answer.bad))
        if answer.bad:
            self._try_elsewhere(message, answer)

    def _count_pieces(self, unit: Unit, bad: set[bytes]) -> None:
        """Several units make some of the items: those whose last piece was written can be finished."""
        if all(item.pieces >= 0 for item in unit.items):
            return
        for part in unit.parts:
            for piece in part.pieces:
                if piece.id in bad:
                    continue
                for index, _ in _targets(piece.item, piece.at, piece.more):
                    if unit.items[index].pieces < 0:
                        making = self._makings[unit.items[index].number]
                        making.left -= 1
                        self.progress.done_bytes += piece.length
                        if not making.left and making.number not in self.hit:
                            self._finish(making)

    def _unpark(self) -> None:
        """The directories are in the target now."""
        parked, self._parked = self._parked or [], None
        for making in parked:
            self._finish(making)

    def _finish(self, making: Making) -> None:
        is_large = making.entry.size > SMALL_BYTES_MAX
        if is_large and self._parked is not None:
            self._parked.append(making)  # what is large lands at once, and there is no directory for it yet
            return
        batch = self._batch.number if is_large else self._batch.note([making])
        self._push(Finish(batch, is_large, [making.item(-1)]))

    def _try_elsewhere(self, unit: Unit, answer: Answer) -> None:
        """Plan anew what was not whole where it lay. Items that a hand dropped for it are made from several units."""
        bad = set(answer.bad)
        wishes: list[tuple[Making, int, int, bytes]] = []
        for part in unit.parts:
            for piece in part.pieces:
                if piece.id not in bad:
                    continue
                for index, at in _targets(piece.item, piece.at, piece.more):
                    making = self._makings[unit.items[index].number]
                    where = unit.pack, part.number
                    self._tried.setdefault(piece.id, set()).add(where)
                    if unit.items[index].pieces < 0:
                        wishes.append((making, at, piece.length, piece.id))
        for number in answer.dropped:
            making = self._makings[number]
            blocks = zip(making.entry.chunks, block_ranges(making.entry.size, making.entry.bounds), strict=True)
            every = [(making, at, length, chunk) for chunk, (at, length) in blocks if chunk != HOLE]
            making.left = len(every)
            wishes += every
        routes = Routes(self.catalogue, self._tried)
        for again in routes.again(wishes, self._batch):
            self._push(again)
        for number, why in routes.lost.items():
            self.hit.setdefault(number, f"{why}; {answer.why}")

    def _built(self, making: Making) -> None:
        self.progress.done_files += 1
        if making.left == making.pieces:
            self.progress.done_bytes += making.entry.size

    def _settle_what_is_done(self) -> None:
        for task in self._settling[-2:]:
            if task.done():
                task.result()  # what could not be made durable ends the restore at once
        while self._settled < self._batch.number and not self._under_way[self._settled]:
            before = self._settling[-1] if self._settling else None
            self._settling.append(asyncio.create_task(self._settle(self._settled, before)))
            self._settled += 1

    async def _settle(self, batch: int, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await before
        await asyncio.to_thread(self.flush)
        if self.growth and not batch:
            await to_the_end(self.growth.move_in)
        await asyncio.gather(*(hand.ask(_encode(Settle(batch))) for hand in self.hands))

    async def _all(self, lane: Callable[[Hand], Coroutine[Any, Any, None]]) -> None:
        """Run `_AT_ONCE` lanes on each hand; when one fails, the others end and its error is raised."""
        tasks = [asyncio.ensure_future(lane(hand)) for _ in range(_AT_ONCE) for hand in self.hands]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def to_the_end(work: Callable[[], None]) -> None:
    """Have a thread do `work`. Who is cancelled waits for it: it holds open directories that are closed next."""
    thread = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait([thread])
        raise


def _targets(item: int, at: int, more: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    yield item, at
    for place in range(0, len(more), 2):
        yield more[place], more[place + 1]


def _shares(files: list[tuple[bytes, Entry]]) -> Iterator[list[tuple[bytes, Entry]]]:
    some: list[tuple[bytes, Entry]] = []
    size = 0
    for path, entry in files:
        if some and (size >= _EXAMINED_BYTES or len(some) >= _EXAMINED_FILES):
            yield some
            some, size = [], 0
        some.append((path, entry))
        size += entry.size
    if some:
        yield some
