"""The page cache, as mincore(2) shows it: how much of a file lies in memory."""

import ctypes
import mmap
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_DONTCACHE = 0x80


def resident(path: Path) -> float:
    """The share of the file's pages that are in memory, 0 to 1."""
    size = path.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    vector = (ctypes.c_ubyte * pages)()
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as memory:
        start = ctypes.c_char.from_buffer(memory)
        if _libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), vector):
            raise OSError(ctypes.get_errno(), "mincore")
        del start
    return sum(page & 1 for page in vector) / pages


def evict(path: Path) -> None:
    """Write the file back, and take it out of memory."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def touch(path: Path) -> None:
    """Read the file into memory, as a program does that maps it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        memory.read()


def can_read_past(directory: Path) -> bool:
    """Whether kernel and file system read without leaving pages behind (RWF_DONTCACHE, Linux 6.14)."""
    probe = directory / "probe"
    probe.write_bytes(b"x" * mmap.PAGESIZE)
    with probe.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(mmap.PAGESIZE)], 0, _DONTCACHE)
        except OSError:
            return False
        finally:
            probe.unlink()
    return True
