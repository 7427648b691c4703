"""Tensors: where they begin in the files that hold them, so an unchanged one has the same chunks wherever it lies.

Told by what a file holds and never by its name. What is said here is a choice of where to cut and no more: a file that
lies about itself, or changes while it is read, is cut badly and saved rightly.
"""

import struct
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Annotated

import msgspec

SEGMENT_BYTES_MIN = 64 * 2**10
"""A tensor smaller than this begins no segment: it would cost a chunk id, and its neighbours a cut, for nothing."""
BOUNDS_MAX = 20_000
FILE_BYTES_MIN = 2**20
HEADER_BYTES_MAX = 16 * 2**20
"""The format allows 100 MB. 20,000 tensors take 3 MB, and a hostile header takes ten times its size once it is read."""
DIRECTORY_BYTES_MAX = 8 * 2**20

Pread = Callable[[int, int], bytes]
"""`(length, offset)` in bytes, like `os.pread`: the bytes there, fewer at the end of the file."""

_Offset = Annotated[int, msgspec.Meta(ge=0)]


class _Tensor(msgspec.Struct, gc=False):
    """One value of a safetensors header; `__metadata__` has no offsets."""

    data_offsets: tuple[_Offset, _Offset] | None = None


class _Malformed(ValueError):
    """The file is not what its first bytes promise."""


_HEADER = msgspec.json.Decoder(dict[str, _Tensor])
_LOCAL, _MEMBER, _END, _LOCATOR, _END_64 = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_LOCAL_FORM = struct.Struct("<4s22xHH")
_MEMBER_FORM = struct.Struct("<4s6xH8xIIHHH8xI")
_END_FORM = struct.Struct("<4s8xIIH")
_LOCATOR_FORM = struct.Struct("<4s4xQ4x")
_END_64_FORM = struct.Struct("<4s36xQQ")
_COMMENT_BYTES_MAX = 2**16 - 1
_STORED = 0
_IN_ZIP64 = 2**32 - 1


def read_bounds(pread: Pread, size: int) -> tuple[int, ...]:
    """Where a file of `size` bytes is to be cut, for `Entry.bounds`: () unless it is safetensors or a stored zip.

    `torch.save` and `numpy.savez` write such zips. At most BOUNDS_MAX offsets, SEGMENT_BYTES_MIN apart and before the
    end; the first may lie closer to the begin, for what comes before the first tensor is no tensor's. Reads at most
    24 MiB and one header a tensor. Raises only what `pread` raises.
    """
    if size < FILE_BYTES_MIN:
        return ()
    first = pread(9, 0)
    try:
        if first.startswith(_LOCAL):
            return _spaced(_stored_members(pread, size), size)
        if len(first) == 9 and first.endswith(b"{"):
            return _spaced(_safetensors(pread, size, int.from_bytes(first[:8], "little")), size)
    except (_Malformed, struct.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()
    return ()


def _spaced(tensors: Iterable[tuple[int, int]], size: int) -> tuple[int, ...]:
    """Bounds from the `(start, end)` of tensors: each large one's start, and its end where a long rest follows."""
    bounds: list[int] = []
    large = sorted((start, end) for start, end in tensors if end - start >= SEGMENT_BYTES_MIN)
    for (start, end), (following, _) in pairwise([*large, (size, size)]):
        if len(bounds) >= BOUNDS_MAX - 1:
            break
        if not bounds or start - bounds[-1] >= SEGMENT_BYTES_MIN:
            bounds.append(start)
            if following - end >= SEGMENT_BYTES_MIN:
                bounds.append(end)
    return tuple(bounds)


def _safetensors(pread: Pread, size: int, length: int) -> list[tuple[int, int]]:
    """`(start, end)` of each tensor. The format: https://github.com/huggingface/safetensors#format."""
    data = 8 + length
    if length > HEADER_BYTES_MAX or data > size:
        raise _Malformed("no safetensors header is this long")
    header = _HEADER.decode(_read(pread, length, 8))
    tensors = [
        (data + tensor.data_offsets[0], data + tensor.data_offsets[1])
        for tensor in header.values()
        if tensor.data_offsets
    ]
    if any(end > size for _, end in tensors):
        raise _Malformed("a tensor lies beyond the end")
    return tensors


def _stored_members(pread: Pread, size: int) -> list[tuple[int, int]]:
    """`(start, end)` of the large uncompressed members. The format: PKWARE's APPNOTE.TXT, 4.3.7 to 4.3.16 and 4.5.3."""
    at, length = _directory(pread, size)
    members = sorted(_large_members(_read(pread, length, at)))
    found = []
    for header, held in members[:BOUNDS_MAX]:
        if header + _LOCAL_FORM.size > at:
            raise _Malformed("a member lies beyond the directory")
        magic, name, extra = _LOCAL_FORM.unpack(_read(pread, _LOCAL_FORM.size, header))
        start = header + _LOCAL_FORM.size + name + extra
        if magic != _LOCAL or start + held > at:
            raise _Malformed("a member is not where the directory says")
        found.append((start, start + held))
    return found


def _directory(pread: Pread, size: int) -> tuple[int, int]:
    """Where the central directory starts, and its length."""
    tail = min(size, _COMMENT_BYTES_MAX + _END_FORM.size + _LOCATOR_FORM.size)
    data = _read(pread, tail, size - tail)
    end = data.rfind(_END)
    if end < 0:
        raise _Malformed("no end of the central directory")
    _, length, at, _ = _END_FORM.unpack_from(data, end)
    locator = end - _LOCATOR_FORM.size
    if locator >= 0 and data.startswith(_LOCATOR, locator):
        _, end_64 = _LOCATOR_FORM.unpack_from(data, locator)
        if end_64 + _END_64_FORM.size > size:
            raise _Malformed("the zip64 end lies beyond the end")
        magic, length, at = _END_64_FORM.unpack(_read(pread, _END_64_FORM.size, end_64))
        if magic != _END_64:
            raise _Malformed("no zip64 end where it should be")
    if length > DIRECTORY_BYTES_MAX or at + length > size:
        raise _Malformed("the central directory is too long")
    return at, length


def _large_members(directory: bytes) -> list[tuple[int, int]]:
    """`(offset of the local header, bytes held)` of each large uncompressed member."""
    found, at = [], 0
    while at < len(directory):
        magic, method, packed, held, name, extra, comment, header = _MEMBER_FORM.unpack_from(directory, at)
        if magic != _MEMBER:
            raise _Malformed("no member where one should be")
        at += _MEMBER_FORM.size + name
        if _IN_ZIP64 in (packed, held, header):
            held, packed, header = _widened(directory[at : at + extra], held, packed, header)
        if method == _STORED and packed == held >= SEGMENT_BYTES_MIN:
            found.append((header, held))
        at += extra + comment
    return found


def _widened(extra: bytes, *narrow: int) -> list[int]:
    """`narrow` fields with those that did not fit taken from the zip64 extra field."""
    at = 0
    while at < len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            wide = struct.iter_unpack("<Q", extra[at + 4 : at + 4 + length // 8 * 8])
            return [next(wide, (field,))[0] if field == _IN_ZIP64 else field for field in narrow]
        at += 4 + length
    return list(narrow)


def _read(pread: Pread, length: int, offset: int) -> bytes:
    data = pread(length, offset)
    if len(data) != length:
        raise _Malformed("the file ends too early")
    return data
