"""Mending: making a tree on disk equal to a commit's, whatever state a crash left it in."""

import shutil
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from dumont.errors import Corrupt
from dumont.model.commit import Change
from dumont.snapshot.apply import Application, Workshop, go_on
from dumont.snapshot.chunk import NO_KEY
from dumont.snapshot.content import Blobs, Shelf
from dumont.snapshot.dress import gives_owners
from dumont.snapshot.index import Index
from dumont.snapshot.links import Groups
from dumont.snapshot.place import Place
from dumont.snapshot.scan import like, scan
from dumont.snapshot.tree import Tree


@dataclass
class Mender:
    """Works on the tree at `directory` with what `blobs` and the directories under `aside` hold besides."""

    directory: Path
    aside: Path
    blobs: Blobs
    index: Index
    now_ns: Callable[[], int]
    step: Callable[[str], None] = go_on
    key: bytes = NO_KEY
    found: Tree = field(default_factory=Tree)

    def look(self, wanted: Tree) -> Tree:
        """Read the tree that is there, as far as `index` can't vouch for it, cut like `wanted`."""
        with Place(self.directory) as place:
            self.found = scan(place, self.index, self.now_ns(), self.key, like(wanted)).tree
        return self.found

    def mend(self, wanted: Tree) -> bool:
        """Make the tree equal to `wanted`, and see that it is. False when blocks are missing; `found` tells what is.

        Raises DiskFull and NotDurable.
        """
        changes = remaining(self.look(wanted), wanted)
        if not changes:
            return True
        try:
            touched = self._apply(changes)
        except Corrupt:
            self.look(wanted)
            return False
        for path in touched:
            self.index.drop(path)
        return not remaining(self.look(wanted), wanted)

    def _apply(self, changes: tuple[Change, ...]) -> Collection[bytes]:
        with ExitStack() as stack:
            place = stack.enter_context(Place(self.directory))
            shelves = []
            for left_over in leftovers(self.aside):
                shelf_place = stack.enter_context(Place(left_over))
                shelves.append(Shelf(shelf_place, scan(shelf_place, Index(), self.now_ns(), self.key).tree))
            shop = Workshop(place, fresh(self.aside), self.blobs, shelves, step=self.step, key=self.key)
            return Application(shop, self.found, Groups(self.found.entries()), changes).run()


def remaining(actual: Tree, wanted: Tree) -> tuple[Change, ...]:
    """What has to change on a disk that holds `actual`, so that it holds as much of `wanted` as it can.

    Owners count only where this process can give them.
    """
    groups = Groups(wanted.entries())
    owners_count = gives_owners()
    changes = [Change(path, None) for path, _ in actual.entries() if path not in wanted]
    for path, entry in wanted.entries():
        there = actual.get(path)
        settled = replace(entry, link=groups.settled(path, entry, wanted.get)) if entry.link else entry
        if there is not None and not owners_count:
            settled = replace(settled, uid=there.uid, gid=there.gid)
        if there != settled:
            changes.append(Change(path, entry))
    return tuple(sorted(changes, key=lambda change: change.path))


def leftovers(aside: Path) -> list[Path]:
    """Directories that interrupted work left aside."""
    return sorted(path for path in aside.iterdir() if path.is_dir()) if aside.exists() else []


def fresh(aside: Path) -> Path:
    """A name for a new directory aside."""
    numbers = [int(path.name) for path in leftovers(aside) if path.name.isdigit()]
    return aside / f"{max(numbers, default=0) + 1}"


def sweep(aside: Path) -> None:
    """Remove everything aside; nobody needs it any more."""
    for path in leftovers(aside):
        shutil.rmtree(path)
