"""Whether a restored tree equals what was saved: names, kinds, contents, and modes and times where they are kept."""

import os
import stat
from pathlib import Path

from blake3 import blake3

READ_BYTES = 4 * 2**20


def differences(saved: Path, restored: Path, *, dressed: bool, limit: int = 5) -> list[str]:
    """What differs, in words, at most `limit` of it. `dressed`: modes and times of files count as well."""
    old, new = _listing(saved), _listing(restored)
    found = [f"{name} is missing" for name in sorted(old.keys() - new.keys())[:limit]]
    found += [f"{name} was not saved" for name in sorted(new.keys() - old.keys())[:limit]]
    for name in sorted(old.keys() & new.keys()):
        if len(found) >= limit:
            break
        if word := _difference(saved / name, restored / name, (old[name], new[name]), dressed=dressed):
            found.append(f"{name} differs in {word}")
    return found[:limit]


def _listing(tree: Path) -> dict[str, os.stat_result]:
    root = str(tree)
    return {
        os.path.join(top, name)[len(root) + 1 :]: os.lstat(os.path.join(top, name))
        for top, folders, names in os.walk(tree)
        for name in folders + names
    }


def _difference(saved: Path, restored: Path, stats: tuple[os.stat_result, os.stat_result], *, dressed: bool) -> str:
    old, new = stats
    if stat.S_IFMT(old.st_mode) != stat.S_IFMT(new.st_mode):
        return "kind"
    if dressed and stat.S_IMODE(old.st_mode) != stat.S_IMODE(new.st_mode):
        return "mode"
    if stat.S_ISLNK(old.st_mode):
        return "" if os.readlink(saved) == os.readlink(restored) else "where it points"
    if not stat.S_ISREG(old.st_mode):
        return ""
    if dressed and old.st_mtime_ns != new.st_mtime_ns:
        return "time of change"
    if old.st_size != new.st_size or _digest(saved) != _digest(restored):
        return "content"
    return ""


def _digest(path: Path) -> bytes:
    digest = blake3()
    with path.open("rb", buffering=0) as file:
        while part := file.read(READ_BYTES):
            digest.update(part)
    return digest.digest()
