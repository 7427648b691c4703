"""Routes: from which frames of which packs the content of what is to be made comes, cut into units of work."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from dumont.model.commit import HOLE, Entry
from dumont.repository.catalogue import Catalogue
from dumont.repository.pack import Spot
from dumont.repository.record import Pack
from dumont.repository.restoring.unit import (
    FRAME_BYTES_MAX,
    GAP_BYTES,
    NOT_HELD,
    RUN_BYTES,
    Item,
    Part,
    Piece,
    Source,
    Unit,
)
from dumont.snapshot.chunk import block_ranges

PIECES_MAX = 512
"""Small files cost more by their number than by their bytes: a unit has at most so many."""
LOCAL_BYTES = 32 * 2**20
"""How much of files of the target is copied in one unit."""
_CHUNKS_TOLD_MAX = 16
"""Leaving the ids of so few chunks out of a message would cost more than sending them."""
_NO_RUN, _SEVERAL = -1, -2
_LOCAL = ""


class Making(msgspec.Struct, gc=False):
    """One inode to be made, and linked to `names` besides `path`. `number` tells it from others.

    `near` tells of blocks, by their numbers, where in the target they lie already. `left` counts pieces that are not
    written yet; it means something only while several units make it.
    """

    number: int
    entry: Entry
    path: bytes
    names: tuple[bytes, ...] = ()
    near: dict[int, "Near"] | None = None
    run: int = _NO_RUN
    pieces: int = 0
    left: int = 0

    def item(self, pieces: int) -> Item:
        """What a hand is told of it when it has all of its content in `pieces`, or finishes it (-1)."""
        entry = self.entry if len(self.entry.chunks) <= _CHUNKS_TOLD_MAX else _bare(self.entry)
        return Item(self.number, pieces, entry, self.path, self.names)


Near = tuple[bytes, int]
"""The path of a file in the target, and an offset in it."""
Wish = tuple[int, int, bytes, Making, int]
"""A chunk's start in its frame or source, its length, its id, and the offset in the file where it belongs."""
Place = tuple[str, int]
"""A pack's name and the number of a frame; or `_LOCAL` and the number of a source."""


@dataclass
class _Run:
    """Neighbouring frames, to be read at once; without a pack, what is taken of each of `sources`.

    `newest_ns` is the latest mtime among what is made of them.
    """

    pack: Pack | None
    frames: list[tuple[int, list[Wish]]] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    newest_ns: int = -(2**63)


Order = Callable[[list[_Run]], list[_Run]]
"""In which order what is read at once is read."""


def newest_first(runs: list[_Run]) -> list[_Run]:
    """By the latest mtime of what is made of them."""
    return sorted(runs, key=lambda run: -run.newest_ns)


def apart(runs: list[_Run], hands: int) -> list[_Run]:
    """So that `hands` which take turns work on different files: two that write to one file wait for each other."""
    length = -(-len(runs) // max(1, hands))
    return [runs[at] for turn in range(length) for at in range(turn, len(runs), length)]


class Routes:
    """The ways to the content of some `makings`. `lost` are those that need a chunk that is nowhere, and which.

    `held`: files of the target, by their paths, that are held aside under those numbers.
    """

    def __init__(
        self, catalogue: Catalogue, tried: dict[bytes, set[Place]], held: dict[bytes, int] | None = None
    ) -> None:
        self._catalogue = catalogue
        self._tried = tried
        self._held = held or {}
        self._sources: dict[bytes, int] = {}
        self.lost: dict[int, str] = {}

    def units(self, makings: list[Making], batch: "Batch", order: Order) -> Iterator[Unit]:
        """Units that make them, made one by one as they are asked for."""
        bare = []
        frames: dict[Place, list[Wish]] = {}
        packs: dict[str, Pack] = {}
        for making in makings:
            if making.entry.chunks:
                self._wish(making, range(len(making.entry.chunks)), frames, packs)
            if not making.pieces and making.number not in self.lost:
                bare.append(making)
        runs = order(list(self._runs(frames, packs)))
        for at in range(0, len(bare), PIECES_MAX):
            part = bare[at : at + PIECES_MAX]
            yield Unit(batch.note(part), "", "", b"", [], [making.item(0) for making in part], [])
        for run in runs:
            yield self._unit(run, batch)

    def again(self, wishes: list[tuple[Making, int, int, bytes]], batch: "Batch") -> list[Unit]:
        """Units for single blocks that were not had: of each the making, its offset and length, and the chunk."""
        frames: dict[Place, list[Wish]] = {}
        packs: dict[str, Pack] = {}
        for making, at, length, chunk in wishes:
            spot = self._spot(chunk, length)
            if spot is None:
                self._lose(making, chunk)
                continue
            making.run = _SEVERAL
            packs[spot[0].name] = spot[0]
            frames.setdefault((spot[0].name, spot[1]), []).append((spot[2], length, chunk, making, at))
        return [self._unit(run, batch) for run in self._runs(frames, packs)]

    def _wish(self, making: Making, numbers: range, frames: dict[Place, list[Wish]], packs: dict[str, Pack]) -> None:
        entry = making.entry
        near = making.near
        if len(entry.chunks) == 1 and not near and not entry.sparse:
            self._wish_one(making, frames, packs)
            return
        pieces = 0
        wishes: list[tuple[Place, Wish]] = []
        for number, chunk, (at, length) in zip(
            numbers, entry.chunks, block_ranges(entry.size, entry.bounds), strict=True
        ):
            if chunk == HOLE:
                continue
            if near and number in near:
                path, start = near[number]
                source = self._sources.setdefault(path, len(self._sources))
                wishes.append(((_LOCAL, source), (start, length, chunk, making, at)))
                pieces += 1
                continue
            spot = self._spot(chunk, length)
            if spot is None:
                self._lose(making, chunk)
                return
            pack = spot[0]
            packs[pack.name] = pack
            wishes.append(((pack.name, spot[1]), (spot[2], length, chunk, making, at)))
            pieces += 1
        for place, wish in wishes:
            known = frames.get(place)
            if known is None:
                frames[place] = [wish]
            else:
                known.append(wish)
        making.pieces = making.left = pieces

    def _wish_one(self, making: Making, frames: dict[Place, list[Wish]], packs: dict[str, Pack]) -> None:
        """As `_wish`, for a file of one block, as most are."""
        chunk, length = making.entry.chunks[0], making.entry.size
        spot = self._spot(chunk, length)
        if spot is None:
            self._lose(making, chunk)
            return
        pack, number, start, _ = spot
        packs[pack.name] = pack
        frames.setdefault((pack.name, number), []).append((start, length, chunk, making, 0))
        making.pieces = making.left = 1

    def _spot(self, chunk: bytes, length: int) -> Spot | None:
        """Where to read a block of that length that was not tried in vain."""
        spot = self._catalogue.find(chunk)
        if spot is not None and chunk not in self._tried and _fits(spot, length):
            return spot
        tried = self._tried.get(chunk, ())
        for spot in self._catalogue.places(chunk):
            if (spot[0].name, spot[1]) not in tried and _fits(spot, length):
                return spot
        return None

    def _lose(self, making: Making, chunk: bytes) -> None:
        known = self._catalogue.find(chunk)
        what = "is not whole where it lies" if chunk in self._tried else "fits not where it is named"
        self.lost[making.number] = f"chunk {chunk.hex()} {what if known else 'is in no pack'}"

    def _unit(self, run: _Run, batch: "Batch") -> Unit:
        items: list[Item] = []
        index: dict[int, int] = {}
        whole: list[Making] = []
        parts = []
        for number, wishes in run.frames:
            pieces: list[Piece] = []
            for start, length, chunk, making, at in wishes:
                place = index.get(making.number)
                if place is None:
                    place = index[making.number] = len(items)
                    if making.run == _SEVERAL:
                        items.append(Item(making.number, -1, _outline(making.entry)))
                    else:
                        items.append(making.item(making.pieces))
                        whole.append(making)
                pieces.append(Piece(start, length, chunk, place, at))
            parts.append(_part(run.pack, number, _merged(pieces)))
        label = batch.note(whole)
        if run.pack is None:
            return Unit(label, "", "", b"", run.sources, items, parts)
        return Unit(label, run.pack.name, run.pack.writer, run.pack.ephemeral, [], items, parts)

    def _runs(self, frames: dict[Place, list[Wish]], packs: dict[str, Pack]) -> Iterator[_Run]:
        """Cut frames and sources into runs, and tell each making which is its only one."""
        by_pack: dict[str, list[int]] = {}
        for name, number in frames:
            by_pack.setdefault(name, []).append(number)
        count = 0
        for name, numbers in by_pack.items():
            if name == _LOCAL:
                runs = self._local_runs(frames)
            else:
                runs = _cut(packs[name], [(number, frames[name, number]) for number in sorted(numbers)])
            for run in runs:
                _mark(run, count)
                count += 1
                yield run

    def _local_runs(self, frames: dict[Place, list[Wish]]) -> Iterator[_Run]:
        """What is taken from files of the target: a large one in slices, small ones together."""
        run = _Run(None)
        size = pieces = 0
        for path, number in self._sources.items():
            source = Source(path, self._held.get(path, NOT_HELD))
            for part in _slices(frames.get((_LOCAL, number), [])):
                more = sum(wish[1] for wish in part)
                if run.frames and (size + more > LOCAL_BYTES or pieces + len(part) > PIECES_MAX):
                    yield run
                    run, size, pieces = _Run(None), 0, 0
                run.frames.append((len(run.sources), part))
                run.sources.append(source)
                size += more
                pieces += len(part)
        if run.frames:
            yield run


class Batch:
    """Numbers groups of finished files, each of which is made durable at once. `note` says that more go to the last.

    The first takes `first_files_max`, others `files_max`.
    """

    def __init__(self, first_files_max: int, files_max: int, bytes_max: int) -> None:
        self._first_files_max, self._files_max, self._bytes_max = first_files_max, files_max, bytes_max
        self._files = self._bytes = 0
        self.number = 0

    def note(self, makings: list[Making]) -> int:
        """These will be finished; the number of the batch that they are in."""
        files_max = self._files_max if self.number else self._first_files_max
        if self._files >= files_max or self._bytes >= self._bytes_max:
            self.turn()
        self._files += len(makings)
        self._bytes += sum(making.entry.size for making in makings)
        return self.number

    def turn(self) -> None:
        """Let nothing more into this one."""
        self.number += 1
        self._files = self._bytes = 0


def _mark(run: _Run, number: int) -> None:
    """Tell what is made of a run which it is."""
    for _, wishes in run.frames:
        for wish in wishes:
            making = wish[3]
            if making.run == _NO_RUN:
                making.run = number
            elif making.run != number:
                making.run = _SEVERAL
            if making.entry.mtime_ns > run.newest_ns:
                run.newest_ns = making.entry.mtime_ns


def _cut(pack: Pack, frames: list[tuple[int, list[Wish]]]) -> Iterator[_Run]:
    run = _Run(pack)
    begin = end = pieces = 0
    for number, wishes in frames:
        frame = pack.frames[number]
        for at in range(0, len(wishes), PIECES_MAX):
            some = wishes[at : at + PIECES_MAX]
            after = frame.offset + frame.length
            is_far = frame.offset > end + GAP_BYTES or frame.offset < end or after - begin > RUN_BYTES
            if run.frames and (is_far or pieces + len(some) > PIECES_MAX):
                yield run
                run, pieces = _Run(pack), 0
            if not run.frames:
                begin = frame.offset
            run.frames.append((number, some))
            pieces += len(some)
            end = after
    if run.frames:
        yield run


def _slices(wishes: list[Wish]) -> Iterator[list[Wish]]:
    """Blocks of one file of the target, shared out."""
    part: list[Wish] = []
    size = 0
    for wish in wishes:
        if part and (size >= LOCAL_BYTES or len(part) >= PIECES_MAX):
            yield part
            part, size = [], 0
        part.append(wish)
        size += wish[1]
    if part:
        yield part


def _part(pack: Pack | None, number: int, pieces: list[Piece]) -> Part:
    if pack is None:
        return Part(0, 0, 0, 0, 0, 0, pieces)
    frame = pack.frames[number]
    return Part(number, frame.offset, frame.length, frame.codec, frame.kind, frame.plain_bytes, pieces)


def _fits(spot: Spot, length: int) -> bool:
    pack, number, _, there = spot
    frame = pack.frames[number]
    return there == length and max(frame.plain_bytes, frame.length) <= FRAME_BYTES_MAX


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Each chunk once, with all the places where it belongs."""
    if len({piece.id for piece in pieces}) == len(pieces):
        return pieces
    merged: dict[tuple[int, int, bytes], Piece] = {}
    for piece in pieces:
        key = piece.start, piece.length, piece.id
        first = merged.get(key)
        more = (*first.more, piece.item, piece.at) if first else ()
        merged[key] = Piece(*key, first.item, first.at, more) if first else piece
    return list(merged.values())


def _outline(entry: Entry) -> Entry:
    """What a hand has to know of a file before it is finished."""
    return Entry(entry.kind, 0, 0, 0, 0, entry.size, sparse=entry.sparse)


def _bare(entry: Entry) -> Entry:
    """Without its chunks."""
    return Entry(
        entry.kind,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime_ns,
        entry.size,
        (),
        entry.target,
        entry.xattrs,
        b"",
        entry.sparse,
    )
