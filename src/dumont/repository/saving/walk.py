"""A walk: every directory below a top one, looked at. It may begin ahead, in a thread, while others are waited for."""

import operator
import os
import stat
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dumont.model.commit import Entry, Kind
from dumont.repository.record import NOTHING_EXCLUDED, Exclusion
from dumont.repository.saving.sieve import Sieve, sieve_for
from dumont.snapshot.place import Place, is_absent
from dumont.snapshot.scan import SPECIAL, xattrs_of
from dumont.snapshot.tree import TOP, join

_first = operator.itemgetter(0)


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


class Walk:
    """Over what lies in `directory`, but for what is excluded, parents first. Use it once.

    Raises OSError when the top itself can't be read, BadInput for a pattern that makes no sense.
    """

    def __init__(self, directory: Path, exclusion: Exclusion = NOTHING_EXCLUDED) -> None:
        self.exclusion = exclusion
        self._sights = _sights(directory, exclusion)
        self._ahead: list[Sight] = []
        self._failed: OSError | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Walk on in a thread until somebody asks for what was seen."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def sights(self) -> Iterator[Sight]:
        """Every directory, once."""
        if self._thread:
            self._stop.set()
            self._thread.join()
        if self._failed:
            raise self._failed
        yield from self._ahead
        self._ahead = []
        yield from self._sights

    def stop(self) -> None:
        """Walk no further; what was seen ahead is of no use."""
        if self._thread:
            self._stop.set()
            self._thread.join()
        self._sights.close()

    def _run(self) -> None:
        try:
            for sight in self._sights:
                self._ahead.append(sight)
                if self._stop.is_set():
                    return
        except OSError as error:
            self._failed = error


def _sights(directory: Path, exclusion: Exclusion) -> Generator[Sight]:
    with Place(directory) as place:
        sieve = sieve_for(exclusion, place)
        waiting = [TOP]
        while waiting:
            sight = look_into(place, waiting.pop(), sieve)
            waiting += [join(sight.path, sight.names[number]) for number in reversed(sight.folders)]
            yield sight


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


_FORMAT = 0o170000


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
