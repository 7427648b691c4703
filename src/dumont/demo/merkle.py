"""The root of a tree, computed a second time from the format's description alone, sharing no code with the engine.

The format: a directory's id is BLAKE3 over the msgpack list of `[name, entry, id of the subtree]` of its names in
order; the root is the id of a list that holds the top directory under the empty name. An entry is `[kind, mode, uid,
gid, mtime_ns, size, chunks, target, xattrs, link, sparse, bounds]`. A chunk's id is BLAKE3 keyed with the workspace's
chunk key; of a file with a hole, blocks of zeros have the empty id. Blocks are 64 KiB in files up to 16 MiB, 1 MiB up
to 4 GiB, else 16 MiB. Bounds, at which a file is cut first, are the begins of tensors and stored zip members of 64 KiB
or more, in files of 1 MiB or more without holes, and the ends of those that 64 KiB or more of something else follow.
"""

import errno
import json
import os
import stat
import zipfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import IO

import blake3
import msgspec

_Entry = list[object]
_NO_KEY = bytes(32)
_LARGE = 64 * 2**10
_KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p"}
_encode = msgspec.msgpack.Encoder().encode


def root(tree: Path, key: bytes = _NO_KEY) -> str:
    """The root of what is in a directory now, in hexadecimal. Nobody may write there meanwhile."""
    return _Walk(os.fsencode(tree), key).root().hex()


class _Walk:
    def __init__(self, top: bytes, key: bytes) -> None:
        self._top = top
        self._key = key
        self._links = _first_names(top)

    def root(self) -> bytes:
        return _digest([[b"", self._entry(b"", os.lstat(self._top)), self._directory(b"")]])

    def _directory(self, path: bytes) -> bytes:
        listing: list[_Entry] = []
        for name in sorted(os.listdir(os.path.join(self._top, path))):
            child = path + b"/" + name if path else name
            info = os.lstat(os.path.join(self._top, child))
            if stat.S_IFMT(info.st_mode) in _KINDS:
                below = self._directory(child) if stat.S_ISDIR(info.st_mode) else b""
                listing.append([name, self._entry(child, info), below])
        return _digest(listing)

    def _entry(self, path: bytes, info: os.stat_result) -> _Entry:
        full = os.path.join(self._top, path) if path else self._top
        kind = _KINDS[stat.S_IFMT(info.st_mode)]
        size, sparse, target = 0, False, b""
        chunks: list[bytes] = []
        bounds: list[int] = []
        if kind == "f":
            size = info.st_size
            chunks, sparse, bounds = _content(full, size, self._key)
        elif kind == "l":
            target = os.readlink(full)
        link = self._links.get((info.st_dev, info.st_ino), b"") if kind != "d" else b""
        mode = stat.S_IMODE(info.st_mode)
        attributes = [] if kind in "lp" else _xattrs(full)
        owner, time = [info.st_uid, info.st_gid], info.st_mtime_ns
        return [kind, mode, *owner, time, size, chunks, target, attributes, link, sparse, bounds]


def _first_names(top: bytes) -> dict[tuple[int, int], bytes]:
    """The smallest of the paths of each inode that has several names in the tree."""
    names: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for folder, _, files in os.walk(top):
        for name in files:
            full = os.path.join(folder, name)
            info = os.lstat(full)
            if info.st_nlink > 1:
                names[info.st_dev, info.st_ino].append(os.path.relpath(full, top))
    return {inode: min(paths) for inode, paths in names.items() if len(paths) > 1}


def _content(path: bytes, size: int, key: bytes) -> tuple[list[bytes], bool, list[int]]:
    """The ids of a file's blocks, whether it has a hole, and its bounds."""
    block = 64 * 2**10 if size <= 16 * 2**20 else 2**20 if size <= 4 * 2**30 else 16 * 2**20
    chunks: list[bytes] = []
    with open(path, "rb", buffering=0) as source:
        sparse = _has_hole(source.fileno(), size)
        bounds = [] if sparse or size < 2**20 else _bounds(_tensors(source), size)
        ranges = [
            (at, min(block, end - at)) for begin, end in pairwise([0, *bounds, size]) for at in range(begin, end, block)
        ]
        for start, length in ranges:
            data = os.pread(source.fileno(), length, start)
            is_hole = sparse and data.count(0) == length
            chunks.append(b"" if is_hole else blake3.blake3(data, key=key).digest())
    return chunks, sparse, bounds


def _bounds(tensors: list[tuple[int, int]], size: int) -> list[int]:
    bounds = []
    large = sorted((start, end) for start, end in tensors if end - start >= _LARGE)
    for (start, end), (following, _) in pairwise([*large, (size, size)]):
        bounds += [start, end] if following - end >= _LARGE else [start]
    return bounds


def _tensors(source: IO[bytes]) -> list[tuple[int, int]]:
    """`(start, end)` of what a well-made file of tensors holds; the engine's own reader is made for others too."""
    head = os.pread(source.fileno(), 9, 0)
    found = []
    if head.startswith(b"PK\x03\x04") and zipfile.is_zipfile(source):
        for member in zipfile.ZipFile(source).infolist():
            local = os.pread(source.fileno(), 30, member.header_offset)
            start = member.header_offset + 30 + sum(int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
            if member.compress_type == zipfile.ZIP_STORED:
                found.append((start, start + member.file_size))
    elif head.endswith(b"{") and (length := int.from_bytes(head[:8], "little")) < 2**24:
        try:
            header = json.loads(os.pread(source.fileno(), length, 8))
        except ValueError:
            return []
        offsets = [value["data_offsets"] for value in header.values() if "data_offsets" in value]
        found = [(8 + length + start, 8 + length + end) for start, end in offsets]
    return found


def _has_hole(descriptor: int, size: int) -> bool:
    if size == 0:
        return False
    try:
        return os.lseek(descriptor, 0, os.SEEK_HOLE) < size
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP):
            return False
        raise


def _xattrs(path: bytes) -> list[list[bytes]]:
    try:
        names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            return []
        raise
    return [[name, os.getxattr(path, name, follow_symlinks=False)] for name in names if name.startswith(b"user.")]


def _digest(listing: list[_Entry]) -> bytes:
    return blake3.blake3(_encode(listing)).digest()
