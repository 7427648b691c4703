"""What stands: what of a wanted tree a target holds already, by reading it, and what is in it besides."""

import os
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from blake3 import blake3

from dumont.model.commit import HOLE, Entry, Kind
from dumont.repository.restoring.route import Making, Near
from dumont.snapshot.chunk import block_ranges, data_ranges, has_hole, is_zeros
from dumont.snapshot.dress import gives_owners
from dumont.snapshot.place import Place, is_absent
from dumont.snapshot.scan import walk, xattrs_of
from dumont.snapshot.tree import TOP, name_of, parent_of

REBUILD = -1
"""Stands before the numbers of wrong blocks when the file's length or holes are wrong too."""
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
}
Wrong = tuple[int, ...] | None
Ask = Callable[[list[tuple[bytes, Entry]]], Awaitable[list[Wrong]]]
"""Has files of the target examined."""


@dataclass
class Standing:
    """What is to be done about `makings`: those to `make`, those whose attributes only are to be set (`dress`).

    `seen` are the names that the target has, `extra` those of them that nobody wants.
    """

    seen: dict[bytes, os.stat_result]
    extra: list[bytes]
    make: list[Making] = field(default_factory=list)
    dress: list[Making] = field(default_factory=list)


def look_around(place: Place, wanted: dict[bytes, Entry], everything: bool, leave: bytes) -> Standing:
    """What the target has at the `wanted` paths, and, with `everything`, besides them but for what begins with `leave`.

    Then directories whose owner took his own rights away are opened up to us.
    """
    seen: dict[bytes, os.stat_result] = {}
    if not everything:
        for path in wanted:
            if (about := place.look(path)) is not None:
                seen[path] = about
        return Standing(seen, [])
    is_root = os.geteuid() == 0
    for path, about in walk(place):
        if leave and path.startswith(leave):
            continue
        seen[path] = about
        if not is_root and stat.S_ISDIR(about.st_mode) and about.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            place.unlock(path)
    return Standing(seen, [path for path in seen if path not in wanted])


async def compare(place: Place, standing: Standing, makings: list[Making], ask: Ask) -> None:
    """Sort `makings` into what `standing` says is to be done; what is right already is in neither list."""
    inodes = Counter((about.st_dev, about.st_ino) for about in standing.seen.values() if about.st_nlink > 1)
    owners_count = gives_owners()
    examined: list[Making] = []
    for making in makings:
        about = standing.seen.get(making.path)
        if about is None or _KINDS.get(stat.S_IFMT(about.st_mode)) is not making.entry.kind:
            standing.make.append(making)
        elif making.entry.kind is Kind.FILE:
            examined.append(making)
        elif not (
            _is_linked(standing, making, inodes)
            and _has_attributes(making.entry, about, owners_count)
            and (making.entry.kind is not Kind.SYMLINK or place.link_text(making.path) == making.entry.target)
        ):
            standing.make.append(making)
    answers = await ask([(making.path, making.entry) for making in examined])
    for making, wrong in zip(examined, answers, strict=True):
        about = standing.seen[making.path]
        if not wrong and _is_linked(standing, making, inodes):
            if wrong is None and _has_attributes(making.entry, about, owners_count):
                continue
            if about.st_nlink == 1 + len(making.names):
                standing.dress.append(making)
                continue
        making.near = _right_blocks(making, set(wrong or ()))
        standing.make.append(making)


def _right_blocks(making: Making, wrong: set[int]) -> dict[int, Near] | None:
    """Where the blocks lie that the file at its own path holds already."""
    entry = making.entry
    blocks = enumerate(zip(entry.chunks, block_ranges(entry.size, entry.bounds), strict=True))
    return {at: (making.path, start) for at, (chunk, (start, _)) in blocks if chunk != HOLE and at not in wrong} or None


def examine(place: Place, path: bytes, entry: Entry, key: bytes) -> Wrong:
    """Which blocks the file at `path` lacks of `entry` (chunks named under `key`); () when only xattrs differ."""
    everything = (REBUILD, *range(len(entry.chunks)))
    try:
        fd = place.force(path, os.O_RDONLY)
    except OSError as error:
        if is_absent(error):
            return everything
        raise
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            return everything
        ranges = data_ranges(fd, about.st_size)
        wrong = tuple(_wrong_blocks(fd, entry, ranges, key))
        if about.st_size != entry.size or has_hole(ranges, about.st_size) != entry.sparse:
            return (REBUILD, *wrong)
        return wrong if wrong or xattrs_of(fd) != tuple(sorted(entry.xattrs)) else None
    finally:
        os.close(fd)


def _wrong_blocks(fd: int, entry: Entry, ranges: list[tuple[int, int]], key: bytes) -> Iterable[int]:
    room = memoryview(bytearray())
    at = 0
    for number, (chunk, (start, length)) in enumerate(
        zip(entry.chunks, block_ranges(entry.size, entry.bounds), strict=True)
    ):
        while at < len(ranges) and ranges[at][1] <= start:
            at += 1
        if at == len(ranges) or ranges[at][0] >= start + length:
            if chunk != HOLE:
                yield number  # a hole here, data there
            continue
        if len(room) < length:
            room = memoryview(bytearray(length))
        count = os.preadv(fd, [room[:length]], start)
        data = room[:count]
        if count < length or not (is_zeros(bytes(data)) if chunk == HOLE else blake3(data, key=key).digest() == chunk):
            yield number


def _is_linked(standing: Standing, making: Making, inodes: "Counter[tuple[int, int]]") -> bool:
    """Whether all names of `making`, and no others of the target, name one inode."""
    about = standing.seen[making.path]
    inode = about.st_dev, about.st_ino
    for name in making.names:
        other = standing.seen.get(name)
        if other is None or (other.st_dev, other.st_ino) != inode:
            return False
    return about.st_nlink == 1 or inodes[inode] <= 1 + len(making.names)


def _has_attributes(entry: Entry, about: os.stat_result, owners_count: bool) -> bool:
    """Whether mode, time and, where we can give them, owners are right."""
    is_mode_right = entry.kind is Kind.SYMLINK or stat.S_IMODE(about.st_mode) == entry.mode
    is_owner_right = not owners_count or (about.st_uid, about.st_gid) == (entry.uid, entry.gid)
    return is_mode_right and is_owner_right and about.st_mtime_ns == entry.mtime_ns


def in_the_way(standing: Standing, wanted: dict[bytes, Entry]) -> list[bytes]:
    """Names that must go before anything is put: directories where something else is wanted, and the reverse."""
    found = []
    for path, about in standing.seen.items():
        entry = wanted.get(path)
        is_directory = stat.S_ISDIR(about.st_mode)
        if path == TOP or entry is None:
            continue
        if is_directory != (entry.kind is Kind.DIRECTORY):
            found.append(path)
    return found


def remove(place: Place, path: bytes) -> None:
    """Take `path` away with all that is below it, never following a symlink; harmless when it is gone."""
    waiting = [path]
    while waiting:
        at = waiting[-1]
        try:
            below = _remove_one(place, at)
        except OSError as error:
            if not is_absent(error):
                raise
            below = []
        if below:
            waiting += below
        else:
            waiting.pop()
    place.forget()


def _remove_one(place: Place, path: bytes) -> list[bytes]:
    """Remove what has nothing in it; otherwise the paths of what has to go first."""
    if os.geteuid() != 0:
        place.unlock(parent_of(path))
    directory = place.directory(parent_of(path))
    about = os.stat(name_of(path), dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISDIR(about.st_mode):
        os.unlink(name_of(path), dir_fd=directory)
        return []
    if os.geteuid() != 0:
        place.unlock(path)
    names = os.listdir(place.directory(path))
    if names:
        return [path + b"/" + os.fsencode(name) for name in names]
    place.forget()
    os.rmdir(name_of(path), dir_fd=place.directory(parent_of(path)))
    return []
