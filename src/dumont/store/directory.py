"""A store in a directory of this machine, which fsyncs: object and names survive a power cut before `put` returns.

An object is written aside, fsynced, and linked to its name, which fails if the name is taken. Names that begin with a
dot are ours and no keys.
"""

import asyncio
import errno
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from dumont.errors import AlreadyStored, BadInput, NotStored, StoreError
from dumont.store.prefix import checked_key

_ASIDE = ".aside"
_STALE_S = 24 * 3600.0


class DirectoryStore:
    """The driver of the port `Store` over the directory `top`, which must exist. Several processes may share it."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._swept = False

    async def put(self, key: str, data: bytes) -> None:
        """Store `data`, durably. Raises AlreadyStored when `key` is taken."""
        await asyncio.to_thread(self._put, self._path(key), data)

    async def get(self, key: str) -> bytes:
        """The object at `key`. Raises NotStored."""
        return await asyncio.to_thread(self._get, self._path(key))

    async def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        return await asyncio.to_thread(self._path(key).is_file)

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        """Keys that begin with `prefix`, in order of names."""
        folder = prefix.rpartition("/")[0]
        top = self._path(folder) if folder else self._top
        for key in await asyncio.to_thread(self._keys, top, prefix):
            yield key

    async def delete(self, key: str) -> None:
        """Remove the object at `key`, durably; harmless when there is none."""
        await asyncio.to_thread(self._delete, self._path(key))

    def _path(self, key: str) -> Path:
        if any(part.startswith(".") for part in checked_key(key).split("/")):
            raise BadInput(f"{key[:80]!r} is not the key of an object: a part begins with a dot")
        return self._top / key

    def _put(self, path: Path, data: bytes) -> None:
        aside = self._top / _ASIDE
        temporary = aside / f"{os.getpid()}-{uuid.uuid4().hex}"
        with _in_words(path):
            aside.mkdir(exist_ok=True)
            self._sweep(aside)
            made = _make_folders(path.parent, self._top)
            try:
                _write(temporary, data)
                os.link(temporary, path, follow_symlinks=False)
            except FileExistsError:
                _flush_folder(path.parent)  # its writer may not have come so far; the caller may rely on it now
                raise AlreadyStored(f"{path.relative_to(self._top)} is stored already") from None
            finally:
                temporary.unlink(missing_ok=True)
            for folder in [path.parent, *made]:
                _flush_folder(folder)

    def _get(self, path: Path) -> bytes:
        with _in_words(path):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                with open(fd, "rb") as file:
                    return file.read()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise NotStored(f"there is no {path.relative_to(self._top)} in the store") from None

    def _keys(self, top: Path, prefix: str) -> list[str]:
        found = []
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                key = (Path(folder) / name).relative_to(self._top).as_posix()
                if key.startswith(prefix) and not name.startswith("."):
                    found.append(key)
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


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_folders(folder: Path, top: Path) -> list[Path]:
    """Make `folder` and what lacks above it; the folders whose names must be made durable for that."""
    missing: list[Path] = []
    while folder != top and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for child in reversed(missing):
        child.mkdir(exist_ok=True)
    return [child.parent for child in missing]


def _flush_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
