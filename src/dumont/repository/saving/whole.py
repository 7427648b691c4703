"""A whole folder: listed, looked at, read and encoded by a hand at once, where nothing in it is out of the ordinary.

Out of the ordinary is what needs more than one look: large files, holes, names of one inode, symlinks, what changed a
moment ago, what can't be read. The coordinator looks at such a folder name by name (`survey.py`).
"""

import errno
import os
import stat
from typing import Any

import blake3
import msgspec

from dumont.model.commit import Entry, Kind
from dumont.repository.saving.sieve import Sieve
from dumont.repository.saving.walk import Mark, mark_of, names_in, own_entry
from dumont.snapshot.chunk import data_ranges, has_hole
from dumont.snapshot.place import Place
from dumont.snapshot.scan import xattrs_of
from dumont.snapshot.tree import digest_listing, encode_listing

SMALL_BLOCK_BYTES = 64 * 2**10
SMALL_FILE_BYTES_MAX = 2**20
"""Files below this size are read whole, many in a batch; their blocks are of SMALL_BLOCK_BYTES (`model.commit`)."""
ROOM_BYTES = 8 * 2**20
"""What the files of one answer may hold together."""
_ENOUGH_BYTES = 4 * 2**20
_ENOUGH_FILES = 512
_NAMES_MAX = 2048
SLACK_BYTES = 4095
"""What a file may be allotted beyond its size, for that is whole blocks. More may make up for holes, and so may room
for attributes: such a file is asked for them, though it seems to have none."""
_MODE, _FORMAT = 0o7777, 0o170000
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_encode = msgspec.msgpack.Encoder().encode


class ReadFolders(msgspec.Struct, frozen=True, tag="folders", array_like=True):
    """Read whole folders, from the first on as many as fit. Whatever changed at `racy_from_ns` or later may change
    again without showing it. Answered by FoldersRead."""

    paths: list[bytes]
    racy_from_ns: int


class Whole(msgspec.Struct, frozen=True, array_like=True):
    """One folder. `names`, `marks` and `entries` are msgpack lists as in a `survey.Page`; a folder's entry is None.

    `folders` are the numbers of names that are folders. Without any, `body` is the folder's object and `id` its name.
    """

    own: Entry
    names: msgspec.Raw
    marks: msgspec.Raw
    entries: msgspec.Raw
    folders: list[int]
    body: bytes
    id: bytes
    files: int
    plain_bytes: int


class FoldersRead(msgspec.Struct, frozen=True, array_like=True):
    """At least the first of the folders; None for one that is out of the ordinary. `ids`: of all chunks in order."""

    ids: bytes
    folders: list[Whole | None]


class Reader:
    """Reads folders one after the other into `room`, of ROOM_BYTES and one more, which tells whether a file has grown.

    `ids` and `ranges` are those of the chunks that were read. `sieve`: holds back what is excluded, if anything is.
    """

    sieve: Sieve | None = None

    def __init__(self, place: Place, key: bytes, room: memoryview, racy_from_ns: int) -> None:
        self.ids: list[bytes] = []
        self.ranges: list[tuple[int, int]] = []
        self._place = place
        self._key = key
        self._room = room
        self._racy_from_ns = racy_from_ns
        self._flags = _OPEN | os.O_NOATIME if os.geteuid() == 0 else _OPEN
        self._at = 0
        self._files = 0
        self._is_full = False

    def read(self, paths: list[bytes]) -> list[Whole | None]:
        """The folders at `paths`, until it is enough for one answer."""
        folders: list[Whole | None] = []
        for path in paths:
            before = self._at, self._files, len(self.ids)
            whole = self._folder(path)
            if whole is None:
                self._at, self._files, count = before
                del self.ids[count:], self.ranges[count:]
                if self._is_full and folders:
                    break  # it fits into the next answer, perhaps
                self._is_full = False
            folders.append(whole)
            if self._at >= _ENOUGH_BYTES or self._files >= _ENOUGH_FILES:
                break
        return folders

    def _folder(self, path: bytes) -> Whole | None:
        try:
            directory = self._place.directory(path)
            own = own_entry(directory)
            seen = dict(names_in(directory, path, self.sieve))
            return self._names(own, seen, directory) if len(seen) <= _NAMES_MAX else None
        except OSError:
            return None  # whoever looks name by name finds out what it is

    def _names(self, own: Entry, seen: "dict[bytes, os.DirEntry[str]]", directory: int) -> Whole | None:
        begin = self._at
        names = sorted(seen)
        marks: list[Mark | None] = []
        entries: list[Entry | None] = []
        folders = []
        for number, name in enumerate(names):
            found = seen[name]
            if found.is_file(follow_symlinks=False):
                if not self._file(name, directory, marks, entries):
                    return None
            elif found.is_dir(follow_symlinks=False):
                look = found.stat(follow_symlinks=False)
                if not stat.S_ISDIR(look.st_mode):
                    return None
                marks.append(mark_of(look) if look.st_ctime_ns < self._racy_from_ns else None)
                entries.append(None)
                folders.append(number)
            else:
                return None
        files = len(names) - len(folders)
        self._files += files
        body = b"" if folders else encode_listing([(*pair, b"") for pair in zip(names, entries, strict=True)])
        id = b"" if folders else digest_listing(body)
        return Whole(own, _raw(names), _raw(marks), _raw(entries), folders, body, id, files, self._at - begin)

    def _file(self, name: bytes, directory: int, marks: list[Mark | None], entries: list[Entry | None]) -> bool:
        """Read a small file into the room, and add its mark and entry. False: it is out of the ordinary.

        A save of small files is this function; hence few calls and few looks at attributes.
        """
        try:
            fd = os.open(name, self._flags, dir_fd=directory)
        except PermissionError:
            fd = os.open(name, _OPEN, dir_fd=directory)
        try:
            look = os.fstat(fd)
            mode, inode, _, links, uid, gid, size = look[:7]
            ctime_ns = look.st_ctime_ns
            allotted = look.st_blocks * 512
            if (
                mode & _FORMAT != stat.S_IFREG
                or links != 1
                or size >= SMALL_FILE_BYTES_MAX
                or allotted < size
                or ctime_ns >= self._racy_from_ns
            ):
                return False
            at, room = self._at, self._room
            end = at + size
            if end >= len(room):
                self._is_full = True
                return False
            length = os.readv(fd, [room[at : end + 1]])
            if length != size or os.fstat(fd).st_ctime_ns != ctime_ns:
                return False
            xattrs = xattrs_of(fd) if has_xattrs(fd) else ()
            if (xattrs or allotted > size + SLACK_BYTES) and has_holes(fd, size):
                return False
        finally:
            os.close(fd)
        mtime_ns = look.st_mtime_ns
        if 0 < size <= SMALL_BLOCK_BYTES:
            id = blake3.blake3(room[at:end], key=self._key).digest()
            self.ids.append(id)
            self.ranges.append((at, end))
            self._at = end
            chunks: tuple[bytes, ...] = (id,)
        else:
            chunks = self._chunks(at, end)
        marks.append((inode, size, mtime_ns, ctime_ns, mode, uid, gid, links))
        entries.append(Entry(Kind.FILE, mode & _MODE, uid, gid, mtime_ns, size, chunks, b"", xattrs))
        return True

    def _chunks(self, at: int, end: int) -> tuple[bytes, ...]:
        """The ids of the blocks between two places of the room."""
        first = len(self.ids)
        while at < end:
            cut = min(at + SMALL_BLOCK_BYTES, end)
            self.ids.append(blake3.blake3(self._room[at:cut], key=self._key).digest())
            self.ranges.append((at, cut))
            at = cut
        self._at = end
        return tuple(self.ids[first:])


def has_holes(fd: int, size: int) -> bool:
    """Whether the file system knows of a hole in the open file."""
    return has_hole(data_ranges(fd, size), size)


def has_xattrs(fd: int) -> bool:
    """Whether the open file has any attributes, which costs less than reading them."""
    try:
        return bool(os.listxattr(fd))
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP):
            return False
        raise


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))
