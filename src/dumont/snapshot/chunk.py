"""Chunks: a file's fixed blocks, their ids, and the holes between its data.

A chunk's id is BLAKE3 keyed with the workspace's key. A *sparse* file is one with a hole anywhere; its zero pages are
left out when it is written, and a block of it that reads as zeros is a HOLE whether or not the disk stores it.
"""

import errno
import os
from collections.abc import Iterator

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


def is_zeros(data: bytes) -> bool:
    """Whether every byte of `data` is zero."""
    if len(data) <= len(_ZEROS):
        return data == _ZEROS[: len(data)]
    return data == bytes(len(data))


def block_range(size: int, number: int) -> tuple[int, int]:
    """Where block `number` of a file of `size` bytes starts, and its length in bytes."""
    block = block_bytes(size)
    start = number * block
    return start, min(block, size - start)


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
