"""Comparing two stored commits: what was added, removed, changed or renamed. Equal directories are not read."""

import enum
from collections import defaultdict
from dataclasses import dataclass, field

from dumont.model.commit import Entry, Kind
from dumont.repository.repository import Repository
from dumont.repository.upkeep.reach import Directories, Directory, is_directory
from dumont.snapshot.tree import EMPTY_DIRECTORY, TOP, join


class Difference(enum.StrEnum):
    """How a path differs. METADATA: only mode, owner, times, xattrs or the other names of it."""

    ADDED = "added"
    REMOVED = "removed"
    CONTENT = "content"
    METADATA = "metadata"
    RENAMED = "renamed"


@dataclass(frozen=True)
class Differing:
    """A path that differs, with what it was and is. `old_path` is where a renamed file was."""

    difference: Difference
    path: bytes
    before: Entry | None
    after: Entry | None
    old_path: bytes = b""


@dataclass
class Comparison:
    """Everything that differs, in order of paths. Bytes are sizes of files; of changed ones, the new size."""

    differing: list[Differing] = field(default_factory=list)
    added_bytes: int = 0
    removed_bytes: int = 0
    changed_bytes: int = 0

    def count(self, difference: Difference) -> int:
        """How many paths differ like that."""
        return sum(found.difference is difference for found in self.differing)


async def compare(repo: Repository, before: bytes, after: bytes) -> Comparison:
    """What turns the tree with root `before` into that with root `after`; the catalogue must know both.

    Raises Corrupt when a directory can't be read, StoreError. Costs what differs.
    """
    directories = Directories(repo)
    found: list[Differing] = []
    pairs: list[tuple[bytes, bytes, bytes]] = [(TOP, before, after)]
    while pairs:
        path, left, right = pairs.pop()
        if left == right:
            continue
        olds = _by_name(await directories.get(left))
        news = _by_name(await directories.get(right))
        for name in sorted(olds.keys() | news.keys()):
            old, old_below = olds.get(name, (None, EMPTY_DIRECTORY))
            new, new_below = news.get(name, (None, EMPTY_DIRECTORY))
            child = join(path, name) if name else path
            if old != new:
                found.append(Differing(_difference(old, new), child, old, new))
            pairs.append((child, old_below, new_below))
    comparison = Comparison(sorted(_with_renames(found), key=lambda one: one.path))
    for one in comparison.differing:
        if one.difference is Difference.ADDED and one.after:
            comparison.added_bytes += one.after.size
        elif one.difference is Difference.REMOVED and one.before:
            comparison.removed_bytes += one.before.size
        elif one.difference is Difference.CONTENT and one.after:
            comparison.changed_bytes += one.after.size
    return comparison


def _by_name(listing: Directory) -> dict[bytes, tuple[Entry | None, bytes]]:
    return {name: (entry, below if is_directory(entry) else EMPTY_DIRECTORY) for name, entry, below in listing}


def _difference(old: Entry | None, new: Entry | None) -> Difference:
    if old is None:
        return Difference.ADDED
    if new is None:
        return Difference.REMOVED
    return Difference.METADATA if _content(old) == _content(new) else Difference.CONTENT


def _content(entry: Entry) -> tuple[object, ...]:
    """What reading the path gives. The same bytes cut otherwise count as changed: their chunks are not the same."""
    return entry.kind, entry.size, entry.chunks, entry.target


def _with_renames(found: list[Differing]) -> list[Differing]:
    """Pairs of a removed and an added file of the same content become one renamed one."""
    removed: dict[tuple[object, ...], list[Differing]] = defaultdict(list)
    for one in reversed(found):
        if one.difference is Difference.REMOVED and one.before and one.before.kind is Kind.FILE and one.before.size:
            removed[_content(one.before)].append(one)
    gone: set[bytes] = set()
    result = []
    for one in found:
        olds = removed.get(_content(one.after)) if one.difference is Difference.ADDED and one.after else None
        if olds:
            old = olds.pop()
            gone.add(old.path)
            result.append(Differing(Difference.RENAMED, one.path, old.before, one.after, old.path))
        else:
            result.append(one)
    return [one for one in result if not (one.difference is Difference.REMOVED and one.path in gone)]
