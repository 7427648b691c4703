"""Stored trees, read only as far as somebody asks: what lies at a path, and where two of them differ."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.model.commit import Entry, Kind
from dumont.repository.upkeep.reach import Directories, Directory
from dumont.snapshot.tree import EMPTY_DIRECTORY, TOP, join
from dumont.standalone.output import shown_path


@dataclass(frozen=True)
class Difference:
    """A path whose entry is `before` in one tree and `after` in the other; None where it is not."""

    path: bytes
    before: Entry | None
    after: Entry | None

    @property
    def kind(self) -> str:
        """`added`, `removed`, `modified` (its content or what it is) or `attributes` (only mode, owner, time, …)."""
        if self.before is None or self.after is None:
            return "added" if self.before is None else "removed"
        same = _content(self.before) == _content(self.after)
        return "attributes" if same else "modified"


async def entries_at(directories: Directories, root: bytes, path: bytes) -> list[tuple[bytes, Entry]]:
    """What the directory `path` of the tree `root` holds, or the one file there. Raises BadInput, Corrupt."""
    found = _named(await directories.get(root), TOP)
    walked = TOP
    for name in [part for part in path.split(b"/") if part]:
        below = await directories.get(found[1]) if found and found[0].kind is Kind.DIRECTORY else []
        found = _named(below, name)
        walked = join(walked, name)
        if found is None:
            raise BadInput(_("there is no {path} in the commit").format(path=shown_path(walked)))
    if found is None:
        return []
    if found[0].kind is not Kind.DIRECTORY:
        return [(walked, found[0])]
    return [(join(walked, name), entry) for name, entry, _below in await directories.get(found[1]) if entry]


async def differences(directories: Directories, before: bytes, after: bytes) -> AsyncIterator[Difference]:
    """Where the trees `before` and `after` differ, in order of paths. Directories that are equal are not read."""
    waiting = [(TOP, before, after)]
    while waiting:
        path, one, other = waiting.pop()
        if one == other:
            continue
        old = {name: (entry, below) for name, entry, below in await directories.get(one)}
        new = {name: (entry, below) for name, entry, below in await directories.get(other)}
        below_them = []
        for name in sorted(old.keys() | new.keys()):
            left, left_below = old.get(name, (None, EMPTY_DIRECTORY))
            right, right_below = new.get(name, (None, EMPTY_DIRECTORY))
            child = name if path == TOP else join(path, name)
            if left != right:
                yield Difference(child, left, right)
            below_them.append((child, _listing_of(left, left_below), _listing_of(right, right_below)))
        waiting += reversed(below_them)


def _named(listing: Directory, name: bytes) -> tuple[Entry, bytes] | None:
    return next(((entry, below) for one, entry, below in listing if one == name and entry), None)


def _listing_of(entry: Entry | None, below: bytes) -> bytes:
    return below if entry is not None and entry.kind is Kind.DIRECTORY else EMPTY_DIRECTORY


def _content(entry: Entry) -> tuple[Kind, int, tuple[bytes, ...], bytes]:
    return entry.kind, entry.size, entry.chunks, entry.target
