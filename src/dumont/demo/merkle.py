"""The root of a tree, computed a second time from the format's description alone, sharing no code with the engine.

The format: a directory's id is BLAKE3 over the msgpack list of `[name, entry, id of the subtree]` of its names in
order; the root is the id of a list that holds the top directory under the empty name. An entry is `[kind, mode, uid,
gid, mtime_ns, size, chunks, target, xattrs, link, sparse]`. A chunk's id is BLAKE3 keyed with 32 zero bytes; of a file
with a hole, blocks of zeros have the empty id. Blocks are 64 KiB in files up to 16 MiB, 1 MiB up to 4 GiB, else 16 MiB.
"""

import errno
import os
import stat
from collections import defaultdict
from pathlib import Path

import blake3
import msgspec

_Entry = list[object]
_KEY = bytes(32)
_KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p"}
_encode = msgspec.msgpack.Encoder().encode


def root(tree: Path) -> str:
    """The root of what is in a directory now, in hexadecimal. Nobody may write there meanwhile."""
    return _Walk(os.fsencode(tree)).root().hex()


class _Walk:
    def __init__(self, top: bytes) -> None:
        self._top = top
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
        if kind == "f":
            size = info.st_size
            chunks, sparse = _content(full, size)
        elif kind == "l":
            target = os.readlink(full)
        link = self._links.get((info.st_dev, info.st_ino), b"") if kind != "d" else b""
        mode = stat.S_IMODE(info.st_mode)
        attributes = [] if kind in "lp" else _xattrs(full)
        return [kind, mode, info.st_uid, info.st_gid, info.st_mtime_ns, size, chunks, target, attributes, link, sparse]


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


def _content(path: bytes, size: int) -> tuple[list[bytes], bool]:
    """The ids of a file's blocks, and whether it has a hole."""
    block = 64 * 2**10 if size <= 16 * 2**20 else 2**20 if size <= 4 * 2**30 else 16 * 2**20
    chunks: list[bytes] = []
    with open(path, "rb", buffering=0) as source:
        sparse = _has_hole(source.fileno(), size)
        for start in range(0, size, block):
            length = min(block, size - start)
            data = os.pread(source.fileno(), length, start)
            is_hole = sparse and data.count(0) == length
            chunks.append(b"" if is_hole else blake3.blake3(data, key=_KEY).digest())
    return chunks, sparse


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
