"""A donor: a file of the target that holds blocks of what is to be made elsewhere, so that these need not be fetched.

What was renamed or copied is found so. It is looked for only where something is lacking, and a donor is believed
nothing: each block is hashed when it is found, and again when it is taken.
"""

import os
import stat
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import chain

from blake3 import blake3

from dumont.model.commit import HOLE, Entry, Kind
from dumont.repository.restoring.route import Making, Near
from dumont.repository.restoring.standing import Standing, in_the_way
from dumont.repository.restoring.unit import SMALL_BYTES_MAX
from dumont.snapshot.chunk import block_ranges
from dumont.snapshot.place import Place
from dumont.snapshot.tree import TOP, name_of, parent_of

_TRIES_MAX = 4
"""So many files are searched for one, at most."""
Found = tuple[int, ...]
Ask = Callable[[list[tuple[bytes, Entry]]], Awaitable[Sequence[Found]]]
"""Has files of the target searched for blocks of those entries; the numbers of the blocks that each holds."""


async def find_donors(standing: Standing, makings: list[Making], ask: Ask) -> None:
    """Note in `near` of what `standing` says is to be made where else its blocks lie. `makings`: all that is wanted."""
    lacking = [making for making in standing.make if _lacks(making)]
    if not lacking:
        return
    made = {making.number for making in standing.make}
    _copy(lacking, makings, made)
    lacking = [making for making in lacking if _lacks(making)]
    known = {name for making in makings if making.number not in made for name in (making.path, *making.names)}
    strangers = _Strangers({making.entry.size for making in lacking}, standing, known)
    turns = [(making, strangers.like(making)) for making in lacking]
    while asked := [(paths.popleft(), making) for making, paths in turns if paths and _lacks(making)]:
        answers = await ask([(path, making.entry) for path, making in asked])
        for (path, making), found in zip(asked, answers, strict=True):
            _note(making, path, found)


def at_risk(standing: Standing, wanted: dict[bytes, Entry]) -> set[bytes]:
    """Donors whose names others take, perhaps before everything was taken from them."""
    users: dict[bytes, set[int]] = defaultdict(set)
    for making in standing.make:
        for path, _ in (making.near or {}).values():
            users[path].add(making.number)
    own = {making.path: making.number for making in standing.make}
    donors = {path for path, numbers in users.items() if numbers != {own.get(path)}}
    taken = {name for making in standing.make for name in (making.path, *making.names)}
    blocked = set(in_the_way(standing, wanted)) if donors else set()
    return {path for path in donors if path in taken or not blocked.isdisjoint(_above(path))}


def search(place: Place, path: bytes, entry: Entry, key: bytes) -> Found:
    """The numbers of the blocks of `entry` (chunks named under `key`) that the file at `path` holds where they belong.

    Most candidates are something else altogether: three blocks are tried first.
    """
    try:
        fd = place.open(path, os.O_RDONLY)
    except OSError:
        return ()  # it went, or is not ours to read
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size != entry.size:
            return ()
        ranges = block_ranges(entry.size, entry.bounds)
        blocks = [(number, *pair) for number, pair in enumerate(zip(entry.chunks, ranges, strict=True)) if pair[0]]
        if not blocks:
            return ()
        room = memoryview(bytearray(max(length for _, _, (_, length) in blocks)))
        tried = {at: _holds(fd, *blocks[at][1:], key, room) for at in (0, len(blocks) // 2, len(blocks) - 1)}
        if not any(tried.values()):
            return ()
        return tuple(
            number
            for at, (number, chunk, where) in enumerate(blocks)
            if (tried[at] if at in tried else _holds(fd, chunk, where, key, room))
        )
    except OSError:
        return ()  # what can't be read is fetched
    finally:
        os.close(fd)


def _holds(fd: int, chunk: bytes, where: tuple[int, int], key: bytes, room: memoryview) -> bool:
    start, length = where
    count = os.preadv(fd, [room[:length]], start)
    return count == length and bool(blake3(room[:length], key=key).digest() == chunk)


def _lacks(making: Making) -> bool:
    entry = making.entry
    if entry.kind is not Kind.FILE or not entry.chunks:
        return False
    return len(making.near or ()) < len(entry.chunks) - entry.chunks.count(HOLE)


def _note(making: Making, path: bytes, found: Iterable[int]) -> None:
    """The file at `path` holds those blocks where they belong."""
    if not found:
        return
    near = making.near = {} if making.near is None else making.near
    wanted = set(found).difference(near)
    for number, (start, _) in enumerate(block_ranges(making.entry.size, making.entry.bounds)):
        if number in wanted:
            near[number] = path, start


def _copy(lacking: list[Making], makings: list[Making], made: set[int]) -> None:
    """Find chunks in files that were just examined. `made`: the numbers of those that are not right as they stand."""
    wanted = {
        chunk for making in lacking for at, chunk in enumerate(making.entry.chunks) if at not in (making.near or ())
    }
    wanted.discard(HOLE)
    found: dict[bytes, Near] = {}
    for making in makings:
        entry = making.entry
        is_right = making.number not in made
        if entry.kind is not Kind.FILE or not (is_right or making.near) or wanted.isdisjoint(entry.chunks):
            continue
        for at, (chunk, (start, _)) in enumerate(
            zip(entry.chunks, block_ranges(entry.size, entry.bounds), strict=True)
        ):
            if chunk in wanted and (is_right or at in (making.near or ())):
                found.setdefault(chunk, (making.path, start))
    if not found:
        return
    for making in lacking:
        near = {} if making.near is None else making.near
        for at, chunk in enumerate(making.entry.chunks):
            if chunk in found and at not in near:
                near[at] = found[chunk]
        making.near = near or None


class _Strangers:
    """Files of the target of those `sizes` that nothing is known of yet, which is all but `known`."""

    def __init__(self, sizes: set[int], standing: Standing, known: set[bytes]) -> None:
        self._by_both: dict[tuple[int, int, bytes], list[bytes]] = defaultdict(list)
        self._by_time: dict[tuple[int, int], list[bytes]] = defaultdict(list)
        self._by_name: dict[tuple[int, bytes], list[bytes]] = defaultdict(list)
        self._by_size: dict[int, list[bytes]] = defaultdict(list)
        inodes: set[tuple[int, int]] = set()
        for path, about in standing.seen.items() if sizes else ():
            if about.st_size not in sizes or not stat.S_ISREG(about.st_mode) or path in known:
                continue
            inode = about.st_dev, about.st_ino
            if inode in inodes:
                continue
            inodes.add(inode)
            self._by_both[about.st_size, about.st_mtime_ns, name_of(path)].append(path)
            self._by_time[about.st_size, about.st_mtime_ns].append(path)
            self._by_name[about.st_size, name_of(path)].append(path)
            self._by_size[about.st_size].append(path)

    def like(self, making: Making) -> deque[bytes]:
        """Those that may hold what it is to hold, the likeliest first.

        What is moved keeps its time, and what is copied its name, mostly. Large files are rarely of one size by chance.
        """
        size, mtime_ns, name = making.entry.size, making.entry.mtime_ns, name_of(making.path)
        alike: list[Sequence[bytes]] = [
            self._by_both.get((size, mtime_ns, name), ()),
            self._by_time.get((size, mtime_ns), ()),
            self._by_name.get((size, name), ()),
            self._by_size.get(size, ()) if size > SMALL_BYTES_MAX else (),
        ]
        likeliest = dict.fromkeys(chain.from_iterable(paths[: _TRIES_MAX + 1] for paths in alike))
        return deque([path for path in likeliest if path != making.path][:_TRIES_MAX])


def _above(path: bytes) -> Iterator[bytes]:
    """`path`, and the directories that it lies in."""
    while path != TOP:
        yield path
        path = parent_of(path)
