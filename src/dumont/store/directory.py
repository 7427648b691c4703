"""A store in a directory of this machine, which fsyncs: object and names survive a power cut before `put` returns.

An object is written aside, fsynced, and linked to its name, which fails if the name is taken. Names that begin with a
dot are ours and no keys.
"""

import asyncio
import errno
import os
import stat
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dumont.errors import AlreadyStored, BadInput, NotStored, StoreError
from dumont.store.base import Data
from dumont.store.prefix import checked_key, checked_range

_ASIDE = ".aside"
_LARGE_BYTES = 2**19
_STALE_S = 24 * 3600.0
_RWF_DONTCACHE = 0x80
"""preadv2(2): pages that this read brings into the page cache leave it afterwards; others stay."""


class DirectoryStore:
    """The driver of the port `Store` over the directory `top`, which must exist. Several processes may share it."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._swept = False
        self._lasting: set[Path] = set()
        self._past_cache = True

    async def put(self, key: str, data: Data) -> None:
        """Store `data`, durably. Raises AlreadyStored when `key` is taken."""
        await asyncio.to_thread(self._put, self._path(key), data)

    async def get(self, key: str) -> bytes:
        """The object at `key`. Raises NotStored."""
        return await asyncio.to_thread(self._get, self._path(key), 0, None)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`, fewer where the object ends before. Raises NotStored."""
        checked_range(start, length)
        return await asyncio.to_thread(self._get, self._path(key), start, length)

    def read_into(self, key: str, start: int, room: memoryview) -> int:
        """Fill `room` with the bytes from `start`, past the page cache where the kernel can; how many there were.

        A pack that was read is not needed soon again, and what else the machine keeps in memory is. Raises NotStored.
        """
        checked_range(start, len(room))
        path = self._path(key)
        with _in_words(path):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                raise NotStored(f"there is no {key} in the store") from None
            try:
                if len(room) >= _LARGE_BYTES:  # read ahead, it would be what another process reads, and would stay
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
                filled = 0
                while filled < len(room):
                    count = self._read_past_cache(fd, room[filled:], start + filled)
                    if not count:
                        break
                    filled += count
                _drop(fd, start, filled)
                return filled
            finally:
                os.close(fd)

    def _read_past_cache(self, fd: int, room: memoryview, start: int) -> int:
        if self._past_cache:
            try:
                return os.preadv(fd, [room], start, _RWF_DONTCACHE)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                self._past_cache = False  # before Linux 6.14, or a file system that can't
        return os.preadv(fd, [room], start)

    async def size(self, key: str) -> int:
        """The object's length in bytes. Raises NotStored."""
        size = await asyncio.to_thread(self._size, self._path(key))
        if size is None:
            raise NotStored(f"there is no {key} in the store")
        return size

    async def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        return await asyncio.to_thread(self._size, self._path(key)) is not None

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        """Keys that begin with `prefix`, in order of names."""
        folder = prefix.rpartition("/")[0]
        if folder:
            self._path(folder)
        for key in await asyncio.to_thread(self._keys, folder, prefix):
            yield key

    async def delete(self, key: str) -> None:
        """Remove the object at `key`, durably; harmless when there is none."""
        await asyncio.to_thread(self._delete, self._path(key))

    async def drop_folders(self, prefix: str) -> None:
        """Remove the empty folders under `prefix`, durably, and its own; nobody may be writing there any more."""
        await asyncio.to_thread(self._drop_folders, self._path(prefix.rstrip("/")))

    def _drop_folders(self, path: Path) -> None:
        with _in_words(path):
            for folder, _folders, _files in os.walk(path, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                        raise
            self._lasting = {one for one in self._lasting if not one.is_relative_to(path)}
            if path.parent.is_dir():
                _flush_folder(path.parent)

    def _path(self, key: str) -> Path:
        if any(part.startswith(".") for part in checked_key(key).split("/")):
            raise BadInput(f"{key[:80]!r} is not the key of an object: a part begins with a dot")
        return self._top / key

    def _put(self, path: Path, data: Data) -> None:
        aside = self._top / _ASIDE
        temporary = aside / f"{os.getpid()}-{uuid.uuid4().hex}"
        with _in_words(path):
            aside.mkdir(exist_ok=True)
            self._sweep(aside)
            unsure = _make_folders(path.parent, self._top, self._lasting)
            try:
                _write(temporary, data)
                _link(temporary, path)
            except FileExistsError:
                self._flush(path.parent, unsure)  # its writer may not have come so far; the caller may rely on it now
                raise AlreadyStored(f"{path.relative_to(self._top)} is stored already") from None
            finally:
                temporary.unlink(missing_ok=True)
            self._flush(path.parent, unsure)

    def _flush(self, folder: Path, unsure: list[Path]) -> None:
        """Make the names in `folder` durable, and those of the folders `unsure`."""
        for each in dict.fromkeys([folder, *(one.parent for one in unsure)]):
            _flush_folder(each)
        self._lasting.update(unsure)

    def _get(self, path: Path, start: int, length: int | None) -> bytes:
        with _in_words(path):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                raise NotStored(f"there is no {path.relative_to(self._top)} in the store") from None
            try:
                about = os.fstat(fd)
                if not stat.S_ISREG(about.st_mode):
                    raise NotStored(f"there is no {path.relative_to(self._top)} in the store")
                left = max(0, about.st_size - start)
                return _read(fd, start, left if length is None else min(left, length))
            finally:
                os.close(fd)

    def _size(self, path: Path) -> int | None:
        with _in_words(path):
            try:
                about = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return about.st_size if stat.S_ISREG(about.st_mode) else None

    def _keys(self, folder: str, prefix: str) -> list[str]:
        """Walks by names alone, for there may be hundreds of thousands; what can't be read is an error, not absent.

        Folders are read in order of names, as the port promises: prunes and savers beside each other rely on it.
        """
        found: list[str] = []
        unread = [folder]
        while unread:
            below = unread.pop()
            path = self._top / below if below else self._top
            with _in_words(path):
                try:
                    entries = os.scandir(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                with entries:
                    folders: list[str] = []
                    for entry in entries:
                        key = f"{below}/{entry.name}" if below else entry.name
                        if entry.name.startswith("."):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                                folders.append(key)
                        elif key.startswith(prefix) and entry.is_file(follow_symlinks=False):
                            found.append(key)
                    unread += sorted(folders, reverse=True)
        return sorted(found)

    def _delete(self, path: Path) -> None:
        with _in_words(path):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            _flush_folder(path.parent)

    def _sweep(self, aside: Path) -> None:
        """Remove what killed writers left, once, when it is so old that nobody can be writing it."""
        if self._swept:
            return
        self._swept = True
        oldest = time.time() - _STALE_S
        for path in aside.iterdir():
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
            except FileNotFoundError:
                continue


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """What the medium refuses, as a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(f"the store's disk is full: free space under {path.parent}, or move the store") from error
        raise StoreError(f"the store can't use {path}: {error.strerror}") from error


def _read(fd: int, start: int, length: int) -> bytes:
    """Exactly `length` bytes from `start`; one call and no copy unless the kernel gives less than was asked."""
    parts: list[bytes] = []
    while length:
        part = os.pread(fd, length, start)
        if not part:
            raise StoreError("an object in the store became shorter while it was read: something else writes there")
        parts.append(part)
        start += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write(path: Path, data: Data) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
        _drop(fd, 0, len(data))
    finally:
        os.close(fd)


def _drop(fd: int, start: int, length: int) -> None:
    """Take a large object, or what was read of one, out of the page cache, also where the kernel left it there."""
    if length >= _LARGE_BYTES:
        with suppress(OSError):
            os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)


def _link(temporary: Path, path: Path) -> None:
    """Give what is complete its name, unless that is taken. Raises FileExistsError, StoreError."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        raise StoreError(
            f"the file system of {path.parent} has no hard links, so that two writers could overwrite one another: "
            "keep the store on ext4, XFS, Btrfs, ZFS or NFS"
        ) from error


def _make_folders(folder: Path, top: Path, lasting: set[Path]) -> list[Path]:
    """Make `folder` and what lacks above it; those of them whose names may not be durable yet.

    A folder that was there may have been made by another process an instant ago: only what is `lasting` is sure.
    """
    folders: list[Path] = []
    while folder != top:
        folders.append(folder)
        folder = folder.parent
    missing = [folder for folder in folders if not folder.is_dir()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
    return [folder for folder in folders if folder not in lasting or folder in missing]


def _flush_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
