"""A walker: describes what is in a directory, and compares two such descriptions. It shares no code with the engine.

What it sees of each name: kind, permissions, owner, modification time in ns, size, SHA-256 of the content, whether it
has holes, the target of a symlink, `user.` attributes, and which other names share its inode.
"""

import errno
import hashlib
import os
import stat
from collections import defaultdict
from pathlib import Path

Facts = dict[str, object]
_BLOCK_BYTES = 2**20
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def describe(root: Path) -> dict[bytes, Facts]:
    """Facts of every name under `root`, which is b"" itself. Nobody may write there meanwhile."""
    found: dict[bytes, Facts] = {}
    names: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        full = os.path.join(os.fsencode(root), path) if path else os.fsencode(root)
        seen = os.lstat(full)
        found[path] = _facts(full, seen)
        if stat.S_ISDIR(seen.st_mode):
            waiting += [path + b"/" + name if path else name for name in os.listdir(full)]
        elif seen.st_nlink > 1:
            names[seen.st_dev, seen.st_ino].append(path)
    for group in names.values():
        for path in group:
            found[path]["names of the inode"] = sorted(group)
    return found


def differences(a: dict[bytes, Facts], b: dict[bytes, Facts]) -> list[str]:
    """What differs between two descriptions, one line each; nothing when they are equal.

    Sockets and devices that only one side has don't count.
    """
    lines = []
    for path in sorted(a.keys() | b.keys()):
        mine, others = a.get(path), b.get(path)
        if (mine or others or {}).get("kind") in ("socket", "device") and not (mine and others):
            continue
        if mine is None or others is None:
            lines.append(f"{path!r}: only in the {'second' if mine is None else 'first'}")
            continue
        for fact in sorted(mine.keys() | others.keys()):
            if mine.get(fact) != others.get(fact):
                lines.append(f"{path!r}: {fact} is {mine.get(fact)!r}, and {others.get(fact)!r}")
    return lines


def _facts(full: bytes, seen: os.stat_result) -> Facts:
    facts: Facts = {
        "kind": _KINDS.get(stat.S_IFMT(seen.st_mode), "unknown"),
        "mode": oct(stat.S_IMODE(seen.st_mode)),
        "owner": (seen.st_uid, seen.st_gid),
        "mtime_ns": seen.st_mtime_ns,
        "names of the inode": [],
    }
    if stat.S_ISREG(seen.st_mode):
        facts |= _content(full, seen.st_size)
    if stat.S_ISLNK(seen.st_mode):
        facts["target"] = os.readlink(full)
    if stat.S_ISREG(seen.st_mode) or stat.S_ISDIR(seen.st_mode):
        facts["attributes"] = _attributes(full)
    return facts


def _content(full: bytes, size: int) -> Facts:
    """The hash is over blocks with their offsets, those of zeros left out: holes cost nothing and change nothing."""
    digest = hashlib.sha256()
    with open(full, "rb", buffering=0) as file:
        fd = file.fileno()
        holes = size > 0 and os.lseek(fd, 0, os.SEEK_HOLE) < size
        at = 0
        while at < size:
            at = max(at, _next_data(fd, at, size) // _BLOCK_BYTES * _BLOCK_BYTES)
            if at >= size:
                break
            data = os.pread(fd, _BLOCK_BYTES, at)
            if not data:
                raise RuntimeError(f"{full!r} shrank while it was described")
            if data != bytes(len(data)):
                digest.update(b"%d " % at + data)
            at += _BLOCK_BYTES
    return {"size": size, "sha256": digest.hexdigest(), "holes": holes}


def _next_data(fd: int, start: int, size: int) -> int:
    try:
        return os.lseek(fd, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size + _BLOCK_BYTES
        raise


def _attributes(full: bytes) -> list[tuple[str, bytes]]:
    try:
        names = sorted(name for name in os.listxattr(full, follow_symlinks=False) if name.startswith("user."))
        return [(name, os.getxattr(full, name, follow_symlinks=False)) for name in names]
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EACCES):
            return []
        raise
