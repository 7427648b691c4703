"""Restoring: a stored commit becomes a tree on this machine, verified block by block, and nothing outside of it.

Onto an existing tree only differences are fetched. Files are built aside by hands and put in place whole and durable:
what a killed restore leaves is right as far as it came, and the next one goes on from there.
"""

import asyncio
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from dumont.errors import BadInput, Corrupt
from dumont.model.commit import Commit, Entry, Kind
from dumont.repository.fetch import Fetcher, directory_fetcher
from dumont.repository.hands import Hand
from dumont.repository.listing import read_entries, tree_of
from dumont.repository.progress import Progress
from dumont.repository.record import CommitRecord
from dumont.repository.repository import Repository
from dumont.repository.restoring.aside import Aside, aside_parent, aside_prefix, sweep_asides
from dumont.repository.restoring.choice import chosen
from dumont.repository.restoring.crew import Crew, to_the_end
from dumont.repository.restoring.donor import at_risk, find_donors
from dumont.repository.restoring.growing import Growth, begin_tree, move_in, umask_in
from dumont.repository.restoring.landing import SHARED, start_restoring
from dumont.repository.restoring.route import Making
from dumont.repository.restoring.standing import Standing, compare, in_the_way, look_around, remove
from dumont.repository.restoring.unit import SMALL_BYTES_MAX, Job
from dumont.snapshot.dress import dress, dress_directory, dress_new, gives_owners
from dumont.snapshot.durable import flush_file_system, writing
from dumont.snapshot.place import Place
from dumont.snapshot.tree import TOP, Tree, name_of, parent_of
from dumont.store.base import ReadsInto

__all__ = ["Restored", "Wanted", "read_tree", "restore", "start_restoring"]
_NAMED_MAX = 20


@dataclass(frozen=True)
class Wanted:
    """How to restore. `only`: patterns of paths; nothing else is touched, and nothing removed. `keep_extra`: what the
    commit does not have stays. `aside`: an existing directory on the target's file system where files are built; beside
    the target unless given. `with_tree`: `Restored.tree` is wanted. `clock` gives seconds, like `progress.started_s`.
    """

    only: tuple[bytes, ...] = ()
    aside: Path | None = None
    keep_extra: bool = False
    with_tree: bool = False
    progress: Progress = field(default_factory=Progress)
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Restored:
    """What the target holds now, durably: `commit`, or what was wanted `only` of it: `files` of `plain_bytes`.

    `tree`, if it was wanted, is the commit's. `fetched_bytes` came from the store. Without `owners`, files belong to
    whoever restored them: only root can give them to others.
    """

    commit: Commit
    tree: Tree | None
    fetched_bytes: int
    files: int
    plain_bytes: int
    owners: bool


async def restore(
    repository: Repository, record: CommitRecord, target: Path, hands: Sequence[Hand], wanted: Wanted | None = None
) -> Restored:
    """Make the directory `target` equal to the commit. It and what is in it may exist; its parent must.

    `hands` were started with `start_restoring`; they are ended. Raises Corrupt when something can't be had whole or
    would lead out of `target` (everything else is in place then), DiskFull, NotDurable, BadInput, StoreError.
    """
    try:
        return await _Restoring(repository, record.commit, hands, wanted or Wanted()).run(target)
    finally:
        for hand in hands:
            await hand.close()


async def read_tree(repository: Repository, root: bytes) -> Tree:
    """The stored tree `root`; `learn` first. Raises Corrupt when an object lacks, lies about itself, or holds what no
    tree can, and StoreError.
    """
    return tree_of(await read_entries(directory_fetcher(repository), root), root)


class _Restoring:
    """One restore."""

    def __init__(self, repository: Repository, commit: Commit, hands: Sequence[Hand], wanted: Wanted) -> None:
        self._repository = repository
        self._commit = commit
        self._hands = hands
        self._wanted = wanted
        self._entries: dict[bytes, Entry] = {}
        self._makings: list[Making] = []
        self._matched: set[bytes] | None = None
        self._dressed: set[bytes] = set()
        self._unlocked: dict[bytes, int] = {}
        self._new_owner: tuple[int, int] | None = None
        self._umask = 0o777
        self._made_right: set[bytes] = set()

    async def run(self, target: Path) -> Restored:
        """Carry it out."""
        fetcher = directory_fetcher(self._repository)
        tree = await self._read(fetcher)
        target = await asyncio.to_thread(_made, target)
        progress = self._wanted.progress
        progress.moved_bytes += fetcher.fetched_bytes
        files = [making.entry for making in self._makings if making.entry.kind is Kind.FILE]
        progress.total_files = len(self._makings)
        progress.total_bytes = sum(entry.size for entry in files)
        with Place(target) as place:
            crew = Crew(
                self._hands,
                self._repository.catalogue,
                lambda: flush_file_system(place.top, str(target)),
                self._wanted.clock,
                progress,
                isinstance(self._repository.store, ReadsInto),
            )
            try:
                await self._work(target, place, crew)
            except OSError as error:
                raise BadInput(f"{target} can't be restored to: {error}") from error
        if crew.hit:
            raise Corrupt(self._complaint(crew.hit))
        fetched = fetcher.fetched_bytes + crew.fetched_bytes
        return Restored(self._commit, tree, fetched, len(files), progress.total_bytes, gives_owners())

    async def _read(self, fetcher: Fetcher) -> Tree | None:
        """Learn what is wanted, and what has to be made for it."""
        if not self._repository.learned:
            await self._repository.catch_up()
        self._entries = await read_entries(fetcher, self._commit.root)
        tree = tree_of(self._entries, self._commit.root) if self._wanted.with_tree else None
        if self._wanted.only:
            self._entries, self._matched = chosen(self._entries, self._wanted.only)
            if not self._matched:
                raise BadInput("nothing in the commit has such a name: `dumont snapshot ls` shows what is in it")
        self._makings = list(makings_of(self._entries, self._matched))
        return tree

    async def _work(self, target: Path, place: Place, crew: Crew) -> None:
        parent = self._wanted.aside or aside_parent(target, place.top)
        await asyncio.to_thread(sweep_asides, parent, target.name)
        aside = Aside(parent, target.name, self._repository.new_name)
        try:
            os.mkdir(SHARED, 0o700, dir_fd=aside.fd)
            inside = aside_prefix(target.name) if parent == target else b""
            if _is_empty(place, inside):
                with begin_tree(aside.fd) as tree:
                    await self._brief(target, place, aside, grows=True)
                    crew.growth = self._growth(tree, place)
                    await crew.make(self._makings)
            else:
                await self._brief(target, place, aside, grows=False)
                make, extra = await self._compare(place, crew, aside, inside)
                await crew.make(make)
                if not crew.hit:
                    await asyncio.to_thread(self._remove_extra, place, extra)
            await asyncio.to_thread(aside.remove)
            await to_the_end(lambda: self._dress_directories(place, self._dressed))
            await asyncio.to_thread(crew.flush)
        finally:
            for hand in self._hands:
                await hand.close()
            aside.remove()

    def _growth(self, tree: Place, place: Place) -> Growth:
        """What is done for a `tree` that grows for the empty `place`."""
        large: set[bytes] = {TOP}
        for making in self._makings:
            if making.entry.size > SMALL_BYTES_MAX:
                for path in (making.path, *making.names):
                    while (path := parent_of(path)) not in large:
                        large.add(path)

        def begin() -> None:
            about = os.fstat(tree.top)
            self._new_owner, self._umask = (about.st_uid, about.st_gid), umask_in(tree)
            self._make_directories(tree, Standing({}, []))

        def moved_in() -> None:
            with writing("the tree"):
                move_in(tree, place, self._entries)

        def finish() -> None:
            whole = self._dressed - large  # nothing will be put there any more
            self._dress_directories(place, whole)
            self._dressed -= whole

        return Growth(begin, moved_in, finish)

    async def _brief(self, target: Path, place: Place, aside: Aside, *, grows: bool) -> None:
        """Tell the hands where they work."""
        about = os.fstat(place.top)
        inode = about.st_dev, about.st_ino
        job = Job(os.fsencode(target), inode, os.fsencode(aside.path), self._repository.keys, grows)
        message = msgspec.msgpack.encode(job)
        await asyncio.gather(*(hand.ask(message) for hand in self._hands))

    async def _compare(self, place: Place, crew: Crew, aside: Aside, inside: bytes) -> tuple[list[Making], list[bytes]]:
        """What is to be made, and what is to go at the end. Afterwards nothing stands in the way of it."""
        everything = self._matched is None
        standing = await asyncio.to_thread(look_around, place, self._entries, everything, inside)
        self._check_above(standing)
        await compare(place, standing, self._makings, crew.examine)
        await find_donors(standing, self._makings, crew.search)
        crew.held = await asyncio.to_thread(_hold, place, aside, at_risk(standing, self._entries))
        await asyncio.to_thread(self._clear, place, standing)
        await asyncio.to_thread(self._make_directories, place, standing)
        await asyncio.to_thread(self._dress_files, place, standing.dress)
        waiting = {making.number for making in standing.make}
        done = [making for making in self._makings if making.number not in waiting]
        crew.progress.done_files += len(done)
        crew.progress.done_bytes += sum(making.entry.size for making in done)
        return standing.make, [] if self._wanted.keep_extra else standing.extra

    def _check_above(self, standing: Standing) -> None:
        """Restoring single paths removes nothing else: what stands in their way is named. Raises BadInput."""
        if self._matched is None:
            return
        for path in in_the_way(standing, self._entries):
            if path not in self._matched or stat.S_ISDIR(standing.seen[path].st_mode):
                raise BadInput(f"{os.fsdecode(path)!r} is something else here than in the commit: move it away first")

    def _clear(self, place: Place, standing: Standing) -> None:
        with writing("the tree"):
            for path in sorted(in_the_way(standing, self._entries)):
                remove(place, path)

    def _make_directories(self, place: Place, standing: Standing) -> None:
        is_root = os.geteuid() == 0
        with writing("the tree"):
            for path, entry in self._entries.items():
                if entry.kind is not Kind.DIRECTORY:
                    continue
                about = standing.seen.get(path)
                is_there = path == TOP or (about is not None and stat.S_ISDIR(about.st_mode))
                if not is_there:
                    mode = 0o700
                    if self._can_be_made_right(entry):
                        mode = entry.mode
                        self._made_right.add(path)
                    os.mkdir(name_of(path), mode, dir_fd=place.directory(parent_of(path)))
                elif about is not None and not is_root and about.st_mode & stat.S_IRWXU != stat.S_IRWXU:
                    place.unlock(path)
                    self._unlocked[path] = stat.S_IMODE(about.st_mode)
                if not is_there or self._matched is None or path in self._matched:
                    self._dressed.add(path)

    def _can_be_made_right(self, entry: Entry) -> bool:
        """Whether a directory of a growing tree lacks only its times when it is made with its mode."""
        is_ours = (entry.uid, entry.gid) == self._new_owner and not entry.xattrs
        return is_ours and entry.mode & stat.S_IRWXU == stat.S_IRWXU and not entry.mode & (self._umask | ~0o777)

    def _dress_files(self, place: Place, makings: list[Making]) -> None:
        with writing("the tree"):
            for making in makings:
                dress(place.directory(parent_of(making.path)), name_of(making.path), making.entry)

    def _dress_directories(self, place: Place, paths: set[bytes]) -> None:
        """Deepest first, when nothing changes in them any more: below what is closed nothing could be dressed."""
        with writing("the tree"):
            for path, entry in reversed(self._entries.items()):
                if path in paths and path in self._made_right:
                    times, above = (entry.mtime_ns, entry.mtime_ns), place.directory(parent_of(path))
                    os.utime(name_of(path), ns=times, dir_fd=above, follow_symlinks=False)
                elif path in paths and path != TOP and self._new_owner:
                    dress_new(place.directory(path), entry, self._new_owner, -1)
                elif path in paths:
                    dress_directory(place.directory(path), entry)
                elif path in self._unlocked:
                    os.fchmod(place.directory(path), self._unlocked[path])

    def _remove_extra(self, place: Place, extra: list[bytes]) -> None:
        gone = set(extra)
        with writing("the tree"):
            for path in extra:
                if parent_of(path) not in gone:
                    remove(place, path)

    def _complaint(self, hit: dict[int, str]) -> str:
        """What to tell of files that could not be restored."""
        paths = [os.fsdecode(making.path) for making in self._makings if making.number in hit]
        names = ", ".join(repr(path) for path in sorted(paths)[:_NAMED_MAX])
        more = f" and {len(paths) - _NAMED_MAX} more" if len(paths) > _NAMED_MAX else ""
        why = hit[min(hit)]
        return f"{len(paths)} files can't be restored, everything else was: {names}{more} ({why})"


def makings_of(entries: dict[bytes, Entry], matched: set[bytes] | None) -> Iterator[Making]:
    """What is to be made of `entries` (only of those `matched`): names of one inode together, directories left out.

    Names that say they are linked, and differ, can't be one inode; only a fuzzy commit has such.
    """
    number = 0
    linked: dict[Entry, list[bytes]] = {}
    for path, entry in entries.items():
        if entry.kind is Kind.DIRECTORY or (matched is not None and path not in matched):
            continue
        if entry.link:
            linked.setdefault(entry, []).append(path)
            continue
        yield Making(number, entry, path)
        number += 1
    for entry, paths in linked.items():
        paths.sort()
        yield Making(number, entry, paths[0], tuple(paths[1:]))
        number += 1


def _hold(place: Place, aside: Aside, paths: set[bytes]) -> dict[bytes, int]:
    """Keep what can be kept of these files of the target when their names are taken; under which numbers."""
    return {path: number for number, path in enumerate(sorted(paths)) if aside.hold(place, path, number)}


def _is_empty(place: Place, inside: bytes) -> bool:
    """Whether nothing is there, but for what begins with `inside`, if that is not empty."""
    with os.scandir(place.top) as names:
        return all(inside and os.fsencode(name.name).startswith(inside) for name in names)


def _made(target: Path) -> Path:
    """The directory, made if it is not there, with no symlink in its path."""
    try:
        target.mkdir(mode=0o700, exist_ok=True)
        return target.resolve(strict=True)
    except OSError as error:
        raise BadInput(f"{target} can't be made: {error.strerror}; the directory above it must exist") from error
