"""A plan: how a tree on disk becomes the next commit's with the least work. Pure; nothing here touches a disk.

What has content is an inode, not a name: names that carry one `link` are one *unit*. A unit keeps an inode that has its
content already, or changes one in place, or takes over that of a name that goes away, or is built anew.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dumont.model.commit import HOLE, Change, Entry, Kind, block_bytes
from dumont.snapshot.links import Groups
from dumont.snapshot.tree import TOP, Tree, parent_of

IN_PLACE_BYTES_MIN = 2**20


class How(enum.StrEnum):
    """Where a unit's inode comes from."""

    KEEP = "keep"  # `source` names it, and its content is right
    PATCH = "patch"  # `source` names it; some of its blocks change
    RENAME = "rename"  # `source` names it, and goes away
    BUILD = "build"  # there is none


@dataclass
class Unit:
    """One inode of the next tree. `names` are those that don't name it yet."""

    entry: Entry
    how: How = How.BUILD
    source: bytes = b""
    names: list[bytes] = field(default_factory=list)
    all_names: list[bytes] = field(default_factory=list)


@dataclass
class Plan:
    """`gone`: names to take away first, deepest first. `directories`: to make, parents first.

    `dressed`: directories whose attributes are to be set at the end. `touched`: all paths whose attributes on disk
    change by carrying this out, if only ctime.
    """

    gone: list[bytes]
    directories: list[bytes]
    units: list[Unit]
    dressed: dict[bytes, Entry]
    touched: set[bytes]


class Planner:
    """Plans one step from `old` (and its `groups`, which are moved on to the next tree).

    `has` tells which chunks lie ready outside the tree. Without `in_place` no file is changed under its final name.
    """

    def __init__(self, old: Tree, groups: Groups, has: Callable[[bytes], bool], in_place: bool) -> None:
        self._old = old
        self._groups = groups
        self._has = has
        self._in_place = in_place
        self._new: dict[bytes, Entry | None] = {}
        self._before: dict[bytes, bytes] = {}  # path → the inode it names, by that inode's smallest name
        self._after: dict[bytes, bytes] = {}
        self._claimed: dict[bytes, bytes] = {}  # inode → the unit that takes it over

    def plan(self, changes: Iterable[Change]) -> Plan:
        """What is to be done. `changes` hold each path once."""
        self._new = {change.path: change.entry for change in changes}
        affected = self._move_groups()
        units = self._units(affected)
        self._choose(units)
        gone = sorted((path for path in self._new if self._must_go(path)), reverse=True)
        directories = sorted(
            path
            for path, entry in self._new.items()
            if path != TOP and _is_directory(entry) and not _is_directory(self._old.get(path))
        )
        dressed = {path: entry for path, entry in self._new.items() if entry and _is_directory(entry)}
        for path in [*gone, *directories, *(name for unit in units for name in unit.names)]:
            above = parent_of(path)
            entry = self.get(above)
            if path != TOP and entry and _is_directory(entry):
                dressed[above] = entry
        touched = {*self._new, *affected, *dressed}
        return Plan(gone, directories, units, dressed, touched)

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path` in the next tree."""
        return self._new[path] if path in self._new else self._old.get(path)

    def _move_groups(self) -> set[bytes]:
        """All paths that have content and whose inode may change, with the inodes before and after."""
        entries = [entry for path in self._new for entry in (self._old.get(path), self._new[path]) if entry]
        affected = set(self._new).union(*(self._groups.members(entry.link) for entry in entries if entry.link))
        for path in affected:
            entry = self._old.get(path)
            if entry and not _is_directory(entry):
                self._before[path] = self._groups.settled(path, entry, self._old.get) or path
        for path, entry in self._new.items():
            self._groups.move(path, self._old.get(path), entry)
        affected |= {member for entry in entries if entry.link for member in self._groups.members(entry.link)}
        for path in affected:
            entry = self.get(path)
            if entry and not _is_directory(entry):
                self._after[path] = self._groups.settled(path, entry, self.get) or path
        return affected

    def _units(self, affected: set[bytes]) -> list[Unit]:
        units: dict[bytes, Unit] = {}
        for path in sorted(affected & self._after.keys()):
            entry = self.get(path)
            assert entry is not None
            units.setdefault(self._after[path], Unit(entry)).all_names.append(path)
        return list(units.values())

    def _choose(self, units: list[Unit]) -> None:
        """Give each unit its inode. Unchanged names keep theirs; then content that fits; then what is cheap."""
        for unit in units:
            for path in unit.all_names:
                if path not in self._new and self._before.get(path) == self._after[path]:
                    self._take(unit, How.KEEP, path)
        self._choose_own(units, How.KEEP, same_content)
        self._choose_renames(units)
        self._choose_own(units, How.PATCH, self._can_patch)
        for unit in units:
            kept = unit.how in (How.KEEP, How.PATCH)
            inode = self._before[unit.source] if kept else None
            unit.names = [path for path in unit.all_names if not kept or self._before.get(path) != inode]

    def _choose_own(self, units: list[Unit], how: How, fits: Callable[[Entry | None, Entry], bool]) -> None:
        for unit in units:
            for path in unit.all_names:
                if unit.how is How.BUILD and self._is_free(path) and fits(self._old.get(path), unit.entry):
                    self._take(unit, how, path)

    def _choose_renames(self, units: list[Unit]) -> None:
        leaving: dict[tuple[object, ...], list[bytes]] = {}
        for path in sorted(self._new, reverse=True):
            entry = self._old.get(path)
            if entry and entry.kind is Kind.FILE and entry.size and not entry.link and self._is_free(path):
                leaving.setdefault(_content(entry), []).append(path)
        for unit in units:
            paths = leaving.get(_content(unit.entry))
            if unit.how is How.BUILD and paths:
                self._take(unit, How.RENAME, paths.pop())

    def _take(self, unit: Unit, how: How, path: bytes) -> None:
        unit.how, unit.source = how, path
        self._claimed[self._before[path]] = unit.all_names[0]

    def _is_free(self, path: bytes) -> bool:
        return path in self._before and self._before[path] not in self._claimed

    def _can_patch(self, old: Entry | None, new: Entry) -> bool:
        if not self._in_place or not old or old.kind is not Kind.FILE or new.kind is not Kind.FILE:
            return False
        if old.size < IN_PLACE_BYTES_MIN or old.sparse != new.sparse:
            return False
        if old.bounds != new.bounds or block_bytes(old.size) != block_bytes(new.size):
            return False
        return all(chunk == HOLE or self._has(chunk) for _, chunk in changed_blocks(old, new))

    def _must_go(self, path: bytes) -> bool:
        old, new = self._old.get(path), self._new[path]
        if old is None or path == TOP:
            return False
        return new is None or _is_directory(old) != _is_directory(new)


def changed_blocks(old: Entry, new: Entry) -> list[tuple[int, bytes]]:
    """`(number, chunk)` of the blocks of `new` that `old`, which is cut at the same places, has not."""
    before = old.chunks
    return [
        (number, chunk) for number, chunk in enumerate(new.chunks) if number >= len(before) or before[number] != chunk
    ]


def same_content(old: Entry | None, new: Entry) -> bool:
    """Whether two entries differ in attributes only."""
    return old is not None and _content(old) == _content(new)


def _content(entry: Entry) -> tuple[object, ...]:
    return entry.kind, entry.size, entry.chunks, entry.target, entry.sparse


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is Kind.DIRECTORY
