"""Applying: turning a tree on disk into the next commit's, in an order that a crash at any instant leaves repairable.

First everything that needs blocks of the present tree is built aside, and made durable; only then is the tree changed:
blocks in place, names taken away, names put, attributes last. Whoever repairs finds each block in the tree, in what was
built aside, or among the blobs.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dumont.errors import Corrupt
from dumont.model.commit import HOLE, Change, Entry, Kind
from dumont.snapshot.chunk import NO_KEY
from dumont.snapshot.content import Blobs, Content, Shelf, clear_block, write_block
from dumont.snapshot.dress import dress, dress_directory
from dumont.snapshot.durable import flush, writing
from dumont.snapshot.links import Groups
from dumont.snapshot.place import Place, is_absent
from dumont.snapshot.plan import How, Plan, Planner, Unit, changed_blocks
from dumont.snapshot.tree import Tree, checked, name_of, parent_of

_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST)


def go_on(step: str) -> None:
    """Between two steps nothing happens, except in a test that crashes there."""


@dataclass
class Workshop:
    """What applying needs: the place, an empty directory aside on the same file system, and where blobs are.

    `others` are further trees to take blocks from. Without `in_place` no file changes under its final name. `step` is
    called before each change, with its name. Blobs that are `far` are used only for what no tree here holds. `key` is
    what the chunks of all of them are named under.
    """

    place: Place
    aside: Path
    blobs: Blobs
    others: list[Shelf] = field(default_factory=list)
    in_place: bool = True
    step: Callable[[str], None] = go_on
    far: bool = False
    key: bytes = NO_KEY


class Application:
    """One step from `old` to the tree that `changes` make of it. Neither `old` nor `groups` may be used meanwhile."""

    def __init__(self, shop: Workshop, old: Tree, groups: Groups, changes: tuple[Change, ...]) -> None:
        self._shop = shop
        self._place = shop.place
        self._old = old
        self._planner = Planner(old, groups, shop.blobs.has, shop.in_place)
        self._changes = changes
        self._plan = Plan([], [], [], {}, set())
        shelves = [Shelf(shop.place, old), *shop.others]
        self._content = Content(shop.blobs, shelves, [change.path for change in changes], shop.far, shop.key)
        self._aside = -1
        self._built: dict[int, str] = {}  # number of a unit → the name of its new inode aside
        self._must_last = False
        self._unlocked: set[bytes] = set()
        self.changing = False

    def run(self) -> set[bytes]:
        """Carry it out; the paths whose attributes on disk changed. `changing` tells whether an error left traces.

        Raises DiskFull, NotDurable, and Corrupt when a block is missing.
        """
        for change in self._changes:
            checked(change.path)
        self._plan = self._planner.plan(self._changes)
        self._shop.aside.mkdir(parents=True, exist_ok=True)
        self._aside = os.open(self._shop.aside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with writing("the tree"):
                self._build_aside()
                self.changing = True
                self._patch()
                self._take_away()
                self._put()
                self._dress()
        finally:
            os.close(self._aside)
        self.changing = False
        return self._plan.touched

    def _build_aside(self) -> None:
        for number, unit in enumerate(self._plan.units):
            if unit.how is How.RENAME:
                self._shop.step("link aside")
                self._unlock(parent_of(unit.source))
                self._built[number] = name = f"{number}"
                parent = self._place.directory(parent_of(unit.source))
                os.link(name_of(unit.source), name, src_dir_fd=parent, dst_dir_fd=self._aside, follow_symlinks=False)
                self._must_last = True
            elif unit.how is How.BUILD:
                self._shop.step("build aside")
                self._built[number] = name = f"{number}"
                self._build(name, unit.entry)
        if self._must_last:
            self._shop.step("make what was built aside last")
            flush(self._aside, "what was built aside")

    def _build(self, name: str, entry: Entry) -> None:
        if entry.kind is Kind.SYMLINK:
            os.symlink(entry.target, name, dir_fd=self._aside)
        elif entry.kind is Kind.FIFO:
            os.mkfifo(name, 0o600, dir_fd=self._aside)
        else:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._aside)
            try:
                self._fill(fd, entry)
            finally:
                os.close(fd)
        if entry.kind is not Kind.DIRECTORY:
            dress(self._aside, os.fsencode(name), entry)

    def _fill(self, fd: int, entry: Entry) -> None:
        os.ftruncate(fd, entry.size)
        must_last = False
        for number, chunk in enumerate(entry.chunks):
            if chunk != HOLE:
                data, from_tree = self._content.block(chunk)
                must_last |= from_tree
                write_block(fd, entry, number, data)
        if must_last:
            flush(fd, "what was built aside")
            self._must_last = True

    def _patch(self) -> None:
        for unit in self._plan.units:
            if unit.how is not How.PATCH:
                continue
            self._shop.step("open for changes in place")
            self._unlock(parent_of(unit.source))
            fd = self._place.force(unit.source, os.O_RDWR)
            try:
                self._patch_blocks(fd, unit)
            finally:
                os.close(fd)

    def _patch_blocks(self, fd: int, unit: Unit) -> None:
        old, entry = self._old.get(unit.source), unit.entry
        assert old is not None
        self._shop.step("truncate")
        os.ftruncate(fd, entry.size)
        for number, chunk in changed_blocks(old, entry):
            self._shop.step("change a block")
            if chunk == HOLE or entry.sparse:
                clear_block(fd, entry, number)
            if chunk != HOLE:
                write_block(fd, entry, number, self._content.block(chunk)[0])

    def _take_away(self) -> None:
        for path in self._plan.gone:
            self._shop.step("take a name away")
            self._remove(path)
        self._place.forget()

    def _remove(self, path: bytes) -> None:
        """Take `path` away, with whatever no commit could hold (a socket) below it."""
        self._unlock(parent_of(path))
        try:
            directory = self._place.directory(parent_of(path))
            seen = os.stat(name_of(path), dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISDIR(seen.st_mode):
                os.unlink(name_of(path), dir_fd=directory)
                return
            self._unlock(path)
            self._empty(path)
            os.rmdir(name_of(path), dir_fd=self._place.directory(parent_of(path)))
        except OSError as error:
            if not is_absent(error):
                raise
        finally:
            self._place.forget()

    def _empty(self, path: bytes) -> None:
        """Remove all that is in the directory at `path`."""
        for name in os.listdir(self._place.directory(path)):
            self._remove(path + b"/" + os.fsencode(name))

    def _put(self) -> None:
        for path in self._plan.directories:
            self._shop.step("make a directory")
            self._make_directory(path)
        for number, unit in enumerate(self._plan.units):
            names = list(unit.names)
            source = unit.source
            if number in self._built:
                self._shop.step("put a name")
                source = names.pop(0)
                self._move_in(self._built[number], source)
            for name in names:
                self._shop.step("link a name")
                self._link(source, name)
            if unit.how is not How.BUILD and self._old.get(unit.source) != unit.entry:
                self._shop.step("dress a file")
                self._unlock(parent_of(source))
                dress(self._place.directory(parent_of(source)), name_of(source), unit.entry)

    def _make_directory(self, path: bytes) -> None:
        self._unlock(parent_of(path))
        for _ in range(2):
            try:
                os.mkdir(name_of(path), 0o700, dir_fd=self._place.directory(parent_of(path)))
                return
            except FileExistsError:
                seen = self._place.look(path)
                if seen and stat.S_ISDIR(seen.st_mode):
                    return
                self._remove(path)
        raise Corrupt(f"{path!r} can't be made: somebody else works in this tree")

    def _move_in(self, built: str, path: bytes) -> None:
        self._unlock(parent_of(path))
        try:
            self._rename(built, path)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            self._remove(path)
            self._rename(built, path)

    def _rename(self, built: str, path: bytes) -> None:
        directory = self._place.directory(parent_of(path))
        os.rename(built, name_of(path), src_dir_fd=self._aside, dst_dir_fd=directory)

    def _link(self, source: bytes, path: bytes) -> None:
        """Make `path` a name of the inode at `source`, whatever it names now, without a moment of naming nothing."""
        self._unlock(parent_of(source))
        self._unlock(parent_of(path))
        directory = self._place.directory(parent_of(source))
        os.link(name_of(source), "link", src_dir_fd=directory, dst_dir_fd=self._aside, follow_symlinks=False)
        self._move_in("link", path)
        with suppress(FileNotFoundError):
            os.unlink("link", dir_fd=self._aside)  # renaming one name of an inode over another does nothing

    def _dress(self) -> None:
        """Set the attributes of directories, deepest first, when nothing changes in them any more."""
        dressed = dict(self._plan.dressed)
        for path in self._unlocked - dressed.keys():
            entry = self._planner.get(path)
            if entry and entry.kind is Kind.DIRECTORY:
                dressed[path] = entry
        for path in sorted(dressed, reverse=True):
            self._shop.step("dress a directory")
            self._unlock(path)
            dress_directory(self._place.directory(path), dressed[path])
        self._plan.touched |= dressed.keys()

    def _unlock(self, path: bytes) -> None:
        """Make sure that we may work in the directory at `path`; root may anyway."""
        if os.geteuid() != 0:
            self._unlocked.update(self._place.unlock(path))
