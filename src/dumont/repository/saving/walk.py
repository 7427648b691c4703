"""A walk: every directory below a top one, looked at by a process of its own, while this one is busy otherwise."""

import operator
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from dumont.model.commit import Entry, Kind
from dumont.repository.errand import Errand
from dumont.repository.record import NOTHING_EXCLUDED, Exclusion
from dumont.repository.saving.sieve import Sieve, sieve_for
from dumont.snapshot.place import Place, is_absent
from dumont.snapshot.scan import SPECIAL, xattrs_of
from dumont.snapshot.tree import TOP, join

_FORMAT = 0o170000
_first = operator.itemgetter(0)

Mark = tuple[int, int, int, int, int, int, int, int]
"""Attributes that prove a name unchanged: inode, size, mtime, ctime (ns), mode, uid, gid, links. No mtime suffices."""


@dataclass(slots=True)
class Sight:
    """One directory: its own entry, and names in order with their attributes. `folders`: numbers of directories.

    `uncovered`: paths that can't be saved, with the reason. `own` None: the directory itself could not be read.
    """

    path: bytes
    own: Entry | None
    names: list[bytes] = field(default_factory=list)
    looks: list[os.stat_result] = field(default_factory=list)
    folders: list[int] = field(default_factory=list)
    uncovered: dict[bytes, str] = field(default_factory=dict)


class Glance(msgspec.Struct, frozen=True, array_like=True):
    """One directory as another process saw it. `names` and `marks` are msgpack lists as in a `survey.Page`.

    `folders`: numbers of directories. `links`: `(number, device, inode)` of each name whose inode has several.
    """

    path: bytes
    own: Entry
    names: msgspec.Raw
    marks: msgspec.Raw
    folders: list[int]
    links: list[tuple[int, int, int]]
    uncovered: dict[bytes, str]
    files: int
    plain_bytes: int


class Walk:
    """Over what lies in `directory`, but for what is excluded, by a process of its own.

    Make it while this program has one thread, use it once.

    What it saw is as good as a look taken by oneself, as far as it goes: that may be nowhere.
    """

    def __init__(self, directory: Path, exclusion: Exclusion = NOTHING_EXCLUDED) -> None:
        self.exclusion = exclusion
        self._errand = Errand(lambda is_wanted: _seen_from(directory, exclusion, is_wanted))

    def glances(self) -> dict[bytes, Glance]:
        """Directories by their paths; waits for the walk to end."""
        body = self._errand.result()
        try:
            return {glance.path: glance for glance in _decode(body)} if body else {}
        except msgspec.DecodeError:
            return {}  # it was ended meanwhile

    def stop(self) -> None:
        """End it instead of asking for what it saw."""
        self._errand.stop()


def _seen_from(directory: Path, exclusion: Exclusion, is_wanted: Callable[[], bool]) -> bytes:
    """Every directory that can be read, as an encoded list of Glance, unless nobody waits for it any more."""
    found = []
    with Place(directory) as place:
        sieve = sieve_for(exclusion, place)
        waiting = [TOP]
        while waiting and is_wanted():
            sight = look_into(place, waiting.pop(), sieve)
            waiting += [join(sight.path, sight.names[number]) for number in reversed(sight.folders)]
            if sight.own is not None:
                found.append(_glance(sight, sight.own))
    return _encode(found)


def _glance(sight: Sight, own: Entry) -> Glance:
    sizes = [look.st_size for look in sight.looks if look.st_mode & _FORMAT == stat.S_IFREG]
    return Glance(
        sight.path,
        own,
        msgspec.Raw(_encode(sight.names)),
        msgspec.Raw(_encode([mark_of(look) for look in sight.looks])),
        sight.folders,
        links_of(sight.looks),
        sight.uncovered,
        len(sizes),
        sum(sizes),
    )


def links_of(looks: list[os.stat_result]) -> list[tuple[int, int, int]]:
    """`(number, device, inode)` of each name that is not the only one of its inode."""
    return [
        (number, look.st_dev, look.st_ino)
        for number, look in enumerate(looks)
        if look.st_nlink > 1 and not stat.S_ISDIR(look.st_mode)
    ]


def mark_of(look: os.stat_result) -> Mark:
    """The mark in what stat answered."""
    return (
        look.st_ino,
        look.st_size,
        look.st_mtime_ns,
        look.st_ctime_ns,
        look.st_mode,
        look.st_uid,
        look.st_gid,
        look.st_nlink,
    )


def look_into(place: Place, path: bytes, sieve: Sieve | None) -> Sight:
    """One directory, now. Raises OSError when that is the top and can't be read."""
    try:
        fd = place.directory(path)
        own = own_entry(fd)
        seen = names_in(fd, path, sieve)
    except OSError as error:
        if path == TOP:
            raise
        return Sight(path, None) if is_absent(error) else _closed(place, path, error)
    seen.sort(key=_first)
    sight = Sight(path, own)
    _look(sight, seen)
    return sight


def names_in(fd: int, path: bytes, sieve: Sieve | None) -> "list[tuple[bytes, os.DirEntry[str]]]":
    """The names in the open directory at `path` that are saved, in no order. Raises OSError."""
    if sieve is not None:
        return sieve.names(path, fd)
    with os.scandir(fd) as names:
        return [(os.fsencode(name.name), name) for name in names]


def _look(sight: Sight, seen: "list[tuple[bytes, os.DirEntry[str]]]") -> None:
    for name, entry in seen:
        try:
            look = entry.stat(follow_symlinks=False)
        except OSError as error:
            if not is_absent(error):
                sight.uncovered[join(sight.path, name)] = f"unreadable: {error.strerror}"
            continue
        kind = look.st_mode & _FORMAT
        if kind in SPECIAL:
            sight.uncovered[join(sight.path, name)] = SPECIAL[kind]
            continue
        if kind == stat.S_IFDIR:
            sight.folders.append(len(sight.looks))
        sight.looks.append(look)
        sight.names.append(name)


def _closed(place: Place, path: bytes, error: OSError) -> Sight:
    """A directory that is there and can't be read: it is kept, empty, and named."""
    try:
        seen = place.look(path)
    except OSError:
        seen = None
    own = _entry(seen) if seen and stat.S_ISDIR(seen.st_mode) else None
    return Sight(path, own, uncovered={path: f"what is in it is unreadable: {error.strerror}"})


def own_entry(fd: int) -> Entry:
    """The entry of an open directory."""
    return _entry(os.fstat(fd), xattrs_of(fd))


def _entry(seen: os.stat_result, xattrs: tuple[tuple[bytes, bytes], ...] = ()) -> Entry:
    mode = stat.S_IMODE(seen.st_mode)
    return Entry(Kind.DIRECTORY, mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, xattrs=xattrs)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Glance]).decode
