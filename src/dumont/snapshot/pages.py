"""Pages: what of a file lies in the page cache, and taking out again what only we brought in.

RWF_DONTCACHE is not enough: when two processes read neighbouring parts of a file, the kernel reads ahead from one into
the other's, and such pages stay. Kernels before 6.14 do not have it at all.
"""

import contextlib
import ctypes
import mmap
import os

_CACHESTAT = 451
"""cachestat(2), Linux 6.5; the same number on x86-64 and arm64."""
_COLD_BYTES_MAX = 256 * 2**10
_libc = ctypes.CDLL(None, use_errno=True)


class _Range(ctypes.Structure):
    _fields_ = (("start", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Counts(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "lately"))


def is_cold(fd: int) -> bool:
    """Whether next to nothing of the file is in memory. False also where the kernel does not tell."""
    counts = _Counts()
    whole = _Range(0, 0)
    failed = _libc.syscall(ctypes.c_long(_CACHESTAT), ctypes.c_int(fd), ctypes.byref(whole), ctypes.byref(counts), 0)
    return not failed and int(counts.cached) * mmap.PAGESIZE <= _COLD_BYTES_MAX


def drop(fd: int, start: int = 0, length: int = 0) -> None:
    """Take that part of the file out of memory (0: to its end), but for what somebody has mapped or must be written."""
    with contextlib.suppress(OSError):
        os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)
