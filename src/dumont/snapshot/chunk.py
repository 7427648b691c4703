"""Chunks: a file's blocks, their ids, and the holes between its data.

A chunk's id is BLAKE3 keyed with the workspace's key. A *sparse* file is one with a hole anywhere; its zero pages are
left out when it is written, and a block of it that reads as zeros is a HOLE whether or not the disk stores it.
"""

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, pairwise

import blake3

from dumont.model.commit import block_bytes

ID_BYTES = 32
NO_KEY = bytes(32)
"""The key of chunks until workspaces have keys of their own."""
PAGE_BYTES = 4096
_ZEROS = bytes(2**20)


def chunk_id(data: bytes, key: bytes = NO_KEY) -> bytes:
    """32 bytes that name `data`."""
    return blake3.blake3(data, key=key).digest()


def is_zeros(data: bytes | memoryview) -> bool:
    """Whether every byte of `data` is zero."""
    if len(data) <= len(_ZEROS):
        return data == _ZEROS[: len(data)]
    return data == bytes(len(data))


def block_range(size: int, number: int, bounds: tuple[int, ...] = ()) -> tuple[int, int]:
    """Where block `number` of a file of `size` bytes, cut at `bounds`, starts, and its length in bytes."""
    block = block_bytes(size)
    if not bounds:
        start = number * block
        return start, min(block, size - start)
    firsts = _first_numbers(size, _Same(bounds))
    segment = bisect_right(firsts, number) - 1
    begin = bounds[segment - 1] if segment else 0
    end = bounds[segment] if segment < len(bounds) else size
    start = begin + (number - firsts[segment]) * block
    return start, min(block, end - start)


def block_ranges(size: int, bounds: tuple[int, ...] = ()) -> Iterator[tuple[int, int]]:
    """The `(start, length)` in bytes of every block of a file of `size` bytes that is cut at `bounds`, in order."""
    block = block_bytes(size)
    for begin, end in pairwise((0, *bounds, size)):
        for start in range(begin, end, block):
            yield start, min(block, end - start)


class _Same:
    """Bounds as a key that is told by identity: hashing thousands of offsets for each block would cost more than it."""

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self.bounds = bounds

    def __hash__(self) -> int:
        return id(self.bounds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.bounds is other.bounds


@lru_cache(maxsize=32)
def _first_numbers(size: int, same: _Same) -> list[int]:
    """The number of the first block of each segment."""
    block = block_bytes(size)
    segments = pairwise((0, *same.bounds))
    return list(accumulate((-(-(end - begin) // block) for begin, end in segments), initial=0))


def data_ranges(fd: int, size: int) -> list[tuple[int, int]]:
    """`(start, end)` of each stretch of data, holes left out. One stretch where the file system can't tell."""
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # nothing but a hole up to the end
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                return [(0, size)]
            raise
        if start < size:
            ranges.append((start, min(at, size)))
    return ranges


def has_hole(ranges: list[tuple[int, int]], size: int) -> bool:
    """Whether `ranges` leave any of the `size` bytes out."""
    return sum(end - start for start, end in ranges) < size


def stretches(data: bytes) -> Iterator[tuple[int, bytes]]:
    """`(offset, bytes)` of the stretches of `data` between its zero pages."""
    start = None
    for at in range(0, len(data), PAGE_BYTES):
        if is_zeros(data[at : at + PAGE_BYTES]):
            if start is not None:
                yield start, data[start:at]
            start = None
        elif start is None:
            start = at
    if start is not None:
        yield start, data[start:]
