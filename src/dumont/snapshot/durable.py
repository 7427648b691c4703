"""Durable writing: what must be on the disk before anything may be said about it, and what its errors mean."""

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import blake3

from dumont.errors import Corrupt, DiskFull, NotDurable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CHECK_BYTES = 32
_libc = ctypes.CDLL(None, use_errno=True)
_PUNCH_HOLE_KEEP_SIZE = 0x03


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Tell a full disk (DiskFull) and a failing one (NotDurable) apart from other errors while `what` is written."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"no space left for {what}: free some, or use a larger disk") from error
        if error.errno == errno.EIO:
            raise NotDurable(f"the disk failed while {what} was written: {error}") from error
        raise


def flush(fd: int, what: str) -> None:
    """fsync. Raises NotDurable; never retried, for the kernel forgets what it could not write."""
    _flush(os.fsync, fd, what)


def flush_data(fd: int, what: str) -> None:
    """fdatasync. Raises NotDurable; never retried."""
    _flush(os.fdatasync, fd, what)


def flush_directory(directory: Path) -> None:
    """fsync a directory, so that names made or removed in it last."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flush(fd, str(directory))
    finally:
        os.close(fd)


def flush_file_system(fd: int, what: str) -> None:
    """syncfs: everything written to the file system that `fd` is on (Linux ≥ 5.8 reports errors of it)."""
    if _libc.syncfs(fd) != 0:
        raise NotDurable(f"{what} could not be made durable: {os.strerror(ctypes.get_errno())}")


def punch_hole(fd: int, start: int, length: int) -> bool:
    """Make `length` bytes from `start` a hole; False where the file system can't."""
    result = _libc.fallocate(
        ctypes.c_int(fd), ctypes.c_int(_PUNCH_HOLE_KEEP_SIZE), ctypes.c_int64(start), ctypes.c_int64(length)
    )
    return bool(result == 0)


def write_whole(fd: int, data: bytes | memoryview, at: int) -> None:
    """Write all of `data` at offset `at`."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written


def replace_file(path: Path, body: bytes) -> None:
    """Put `body`, with a check before it, at `path`: after a crash there is the old file or the new one."""
    temporary = path.with_name(path.name + ".new")
    with writing(str(path)):
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_whole(fd, _check(body) + body, 0)
            flush(fd, str(path))
        finally:
            os.close(fd)
        os.rename(temporary, path)
        flush_directory(path.parent)


def read_checked(path: Path) -> bytes | None:
    """What `replace_file` put there; None when nothing. Raises Corrupt when it does not match its check."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    body = data[_CHECK_BYTES:]
    if data[:_CHECK_BYTES] != _check(body):
        raise Corrupt(f"{path} does not match its check: this disk is not to be trusted")
    return body


def _check(body: bytes) -> bytes:
    return blake3.blake3(body).digest(_CHECK_BYTES)


def _flush(call: Callable[[int], None], fd: int, what: str) -> None:
    try:
        call(fd)
    except OSError as error:
        raise NotDurable(f"{what} could not be made durable: {error}") from error
