"""A scan: reading paths of a tree on this machine into entries, their content block by block."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from dumont.model.commit import HOLE, Entry, Kind, block_count
from dumont.snapshot.chunk import NO_KEY, block_range, chunk_id, data_ranges, has_hole, is_zeros
from dumont.snapshot.index import Index, Known, Signature, is_racy, signature_of
from dumont.snapshot.links import Links
from dumont.snapshot.pages import is_cold
from dumont.snapshot.place import Place, is_absent
from dumont.snapshot.tensors import read_bounds
from dumont.snapshot.tree import TOP, Tree, join

_LARGE_BYTES = 2**20
_DENIED = (errno.EACCES, errno.EPERM)
_NO_XATTRS = (errno.ENOTSUP, errno.EOPNOTSUPP)
SPECIAL = {stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


Cut = Callable[[bytes, int], tuple[int, ...] | None]
"""Told a path and the file's size in bytes, the bounds to cut it at; None: as its content suggests."""


def by_content(path: bytes, size: int) -> tuple[int, ...] | None:
    """Cut every file as what it holds suggests."""
    return None


def like(tree: Tree) -> Cut:
    """Cut files as in `tree`, to be compared with it: how a file was cut need not follow from what it holds now."""

    def cut(path: bytes, size: int) -> tuple[int, ...] | None:
        entry = tree.get(path)
        return entry.bounds if entry and entry.kind is Kind.FILE and entry.size == size else None

    return cut


class OpenFile:
    """A regular file being read. Size and bounds are what they were when it was opened; `short`: it shrank since.

    `was_cold`: it is large, and next to nothing of it was in memory.

    A sparse file has no bounds: where its holes lie would no longer follow from whole blocks.
    """

    def __init__(self, fd: int, path: bytes = TOP, cut: Cut = by_content) -> None:
        self._fd = fd
        self.seen = os.fstat(fd)
        self.size = self.seen.st_size
        self.was_cold = self.size >= _LARGE_BYTES and is_cold(fd)
        self._ranges = data_ranges(fd, self.size)
        self.sparse = has_hole(self._ranges, self.size)
        self.bounds = () if self.sparse else self._bounds(cut(path, self.size))
        self.count = block_count(self.size, self.bounds)
        self.short = False

    def _bounds(self, given: tuple[int, ...] | None) -> tuple[int, ...]:
        if given is not None:
            return given
        return read_bounds(lambda length, offset: os.pread(self._fd, length, offset), self.size)

    @property
    def data_bytes(self) -> int:
        """How many bytes its blocks hold, those in holes left out."""
        if not self.sparse:
            return self.size
        return sum(block_range(self.size, number)[1] for number in range(self.count) if self._has_data(number))

    def block(self, number: int) -> bytes:
        """Block `number`; HOLE when it lies in a hole, or reads as zeros in a file that has holes."""
        if self.sparse and not self._has_data(number):
            return HOLE
        start, length = block_range(self.size, number, self.bounds)
        data = os.pread(self._fd, length, start)
        while len(data) < length:
            more = os.pread(self._fd, length - len(data), start + len(data))
            if not more:
                self.short = True
                data += bytes(length - len(data))
            data += more
        return HOLE if self.sparse and is_zeros(data) else data

    def close(self) -> None:
        """Close it; harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def is_hole(self, number: int) -> bool:
        """Whether block `number` lies wholly in a hole, as far as the file system tells."""
        return self.sparse and not self._has_data(number)

    def _has_data(self, number: int) -> bool:
        start, length = block_range(self.size, number)
        return any(begin < start + length and end > start for begin, end in self._ranges)


@dataclass
class Opened:
    """One path as it was found. `entry` has no chunks and no `link` yet; `file` is for the caller to close."""

    path: bytes
    seen: os.stat_result | None = None
    entry: Entry | None = None
    uncovered: str = ""
    file: OpenFile | None = None


@dataclass
class Scan:
    """A whole tree as it was found. `moved` changed while it was read."""

    tree: Tree = field(default_factory=Tree)
    uncovered: dict[bytes, str] = field(default_factory=dict)
    moved: set[bytes] = field(default_factory=set)


def open_path(place: Place, path: bytes, cut: Cut = by_content) -> Opened:
    """Look at `path` and, if it is a regular file, open it. Never waits, never follows a symlink."""
    try:
        seen = place.look(path)
    except OSError as error:
        if error.errno in _DENIED:
            return Opened(path, uncovered=f"unreadable: {error.strerror}")
        raise
    if seen is None:
        return Opened(path)
    try:
        return _open_seen(place, path, seen, cut)
    except OSError as error:
        if is_absent(error):
            return Opened(path)  # it vanished, or became something else, since we looked
        if error.errno in _DENIED:
            return _unreadable(path, seen, error)
        raise


def _open_seen(place: Place, path: bytes, seen: os.stat_result, cut: Cut) -> Opened:
    kind = stat.S_IFMT(seen.st_mode)
    if kind == stat.S_IFLNK:
        return Opened(path, seen, _entry(Kind.SYMLINK, seen, target=place.link_text(path)))
    if kind == stat.S_IFIFO:
        return Opened(path, seen, _entry(Kind.FIFO, seen))
    if kind == stat.S_IFDIR:
        return Opened(path, seen, _entry(Kind.DIRECTORY, seen, xattrs=xattrs_of(place.directory(path))))
    if kind != stat.S_IFREG:
        return Opened(path, seen, uncovered=SPECIAL.get(kind, "neither file, directory, symlink nor fifo"))
    fd = _open_unnoticed(place, path, seen)
    try:
        file = OpenFile(fd, path, cut)
        if not stat.S_ISREG(file.seen.st_mode):
            raise FileNotFoundError(errno.ENOENT, "replaced by something else while it was opened")
        entry = _entry(Kind.FILE, file.seen, xattrs=xattrs_of(fd))
        entry = replace(entry, size=file.size, sparse=file.sparse, bounds=file.bounds)
        return Opened(path, file.seen, entry, file=file)
    except OSError:
        os.close(fd)
        raise


def _open_unnoticed(place: Place, path: bytes, seen: os.stat_result) -> int:
    """Open for reading without touching the access time, where we may."""
    if seen.st_uid == os.geteuid() or os.geteuid() == 0:
        try:
            return place.open(path, os.O_RDONLY | os.O_NOATIME)
        except PermissionError:
            pass  # root without CAP_FOWNER
    return place.open(path, os.O_RDONLY)


def _unreadable(path: bytes, seen: os.stat_result, error: OSError) -> Opened:
    if stat.S_ISDIR(seen.st_mode):
        entry = _entry(Kind.DIRECTORY, seen)
        return Opened(path, seen, entry, uncovered=f"what is in it is unreadable: {error.strerror}")
    return Opened(path, seen, uncovered=f"unreadable: {error.strerror}")


def _entry(
    kind: Kind, seen: os.stat_result, target: bytes = b"", xattrs: tuple[tuple[bytes, bytes], ...] = ()
) -> Entry:
    mode = stat.S_IMODE(seen.st_mode)
    return Entry(kind, mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, target=target, xattrs=xattrs)


def xattrs_of(fd: int) -> tuple[tuple[bytes, bytes], ...]:
    """The `user.` attributes, sorted by name."""
    try:
        names = [name for name in os.listxattr(fd) if name.startswith("user.")]
        return tuple(sorted((os.fsencode(name), os.getxattr(fd, name)) for name in names))
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return ()
        if error.errno == errno.ENODATA:  # one went away between the two calls
            return xattrs_of(fd)
        raise


def walk(place: Place, below: bytes = TOP) -> Iterator[tuple[bytes, os.stat_result]]:
    """`below` and everything under it with its attributes, as far as it can be read. Parents come first."""
    top = place.look(below)
    if top is None:
        return
    yield below, top
    waiting = [below] if stat.S_ISDIR(top.st_mode) else []
    while waiting:
        at = waiting.pop()
        try:
            with os.scandir(place.directory(at)) as names:
                found = [(os.fsencode(name.name), _attributes(name)) for name in names]
        except OSError as error:
            if is_absent(error) or error.errno in _DENIED:
                continue
            raise
        for name, seen in found:
            if seen is None:
                continue
            path = join(at, name)
            yield path, seen
            if stat.S_ISDIR(seen.st_mode):
                waiting.append(path)


def _attributes(name: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return name.stat(follow_symlinks=False)
    except OSError as error:
        if is_absent(error) or error.errno in _DENIED:
            return None
        raise


def has_moved(place: Place, path: bytes, before: os.stat_result | None) -> bool:
    """Whether `path` is no longer what it was when `before` was seen."""
    try:
        after = place.look(path)
    except OSError as error:
        if error.errno in _DENIED:
            return before is not None
        raise
    if before is None or after is None:
        return before is not after
    return signature_of(before) != signature_of(after)


def scan(place: Place, index: Index, now_ns: int, key: bytes = NO_KEY, cut: Cut = by_content) -> Scan:
    """Read the whole tree, hashing under `key` what `index` can't vouch for, and leave in `index` what was found.

    To compare with a tree that is already cut, `cut` has to be `like` that tree.
    `now_ns` is the wall clock when the scan starts: what changed shortly before it is marked as racy.
    """
    found = Scan()
    links = Links()
    entries: dict[bytes, Entry] = {}
    for path, seen in walk(place):
        signature = signature_of(seen)
        known = index.get(path)
        if not (known and known.entry and not known.racy and known.signature == signature):
            known = _read(open_path(place, path, cut), place, found, now_ns, key)
        if known is None or known.entry is None:
            index.drop(path)
            continue
        index.put(path, known)
        entries[path] = known.entry
        links.note(path, known.signature.inode)
    for path, entry in entries.items():
        link = links.canonical(path)
        if entry.link != link:
            entry = replace(entry, link=link)
            known = index.get(path)
            assert known is not None
            index.put(path, Known(known.signature, entry, known.racy))
        found.tree.put(path, entry)
    for path, _ in index.items():
        if path not in found.tree:
            index.drop(path)
    return found


def _read(opened: Opened, place: Place, found: Scan, now_ns: int, key: bytes) -> Known | None:
    path, entry = opened.path, opened.entry
    if opened.uncovered:
        found.uncovered[path] = opened.uncovered
    if opened.file and entry:
        try:
            blocks = (opened.file.block(number) for number in range(opened.file.count))
            entry = replace(entry, chunks=tuple(chunk_id(block, key) if block else HOLE for block in blocks))
            if opened.file.short:
                found.moved.add(path)
        finally:
            opened.file.close()
    if has_moved(place, path, opened.seen):
        found.moved.add(path)
    if entry is None or opened.seen is None:
        return None
    signature: Signature = signature_of(opened.seen)
    return Known(signature, entry, racy=path in found.moved or is_racy(signature, now_ns))
