"""Maps: files of a workspace that some process may write to through shared memory.

Such writes raise no event and need not change a time stamp. Whoever maps a file keeps it open: once the last mapping
goes, the kernel tells of a file that was open for writing and is closed. So these files are all that hints leave out.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

_SHARED_AND_WRITABLE = re.compile(
    rb"^[0-9a-f]+-[0-9a-f]+ .w.s [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ (\d+) +(/.*)$", re.MULTILINE
)
_DELETED = b" (deleted)"


def mapped_files(directory: Path, pids: Iterable[int]) -> tuple[set[bytes], list[int]]:
    """Paths relative to `directory` that a process of `pids` has mapped shared and writable; and whom we may not ask.

    Paths in /proc/PID/maps are those of that process, which may live in a jail: a file is known by its inode.
    """
    top = os.fsencode(directory)
    found: set[bytes] = set()
    denied: list[int] = []
    asked: set[tuple[int, bytes]] = set()
    for pid in pids:
        try:
            maps = Path(f"/proc/{pid}/maps").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            denied.append(pid)
            continue
        for inode, name in _SHARED_AND_WRITABLE.findall(maps):
            if (mapping := (int(inode), name)) not in asked:
                asked.add(mapping)
                path = _inside(top, *mapping)
                if path is not None:
                    found.add(path)
    return found, denied


def _inside(top: bytes, inode: int, name: bytes) -> bytes | None:
    """The path below `top` of the mapped file called `name`; None when it lies elsewhere or is deleted."""
    for spelled in (name, name.replace(b"\\012", b"\n")):  # the kernel writes a newline, and only that, in octal
        for candidate in _candidates(top, spelled):
            try:
                seen = os.lstat(top + b"/" + candidate)
            except OSError:
                continue  # not there, or not a possible path at all
            if seen.st_ino == inode:
                return candidate
    return None


def _candidates(top: bytes, name: bytes) -> Iterable[bytes]:
    """`name` taken as a path of ours; then each of its tails, since `top` may be mounted elsewhere in a jail."""
    prefix = top.rstrip(b"/") + b"/"
    if name.startswith(prefix):
        yield name[len(prefix) :]
    tail = name
    while tail:
        tail = tail.partition(b"/")[2]
        if tail:
            yield tail
