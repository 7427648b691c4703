"""A survey: what lies in a directory tree now, folder by folder, beside what a past save remembers of it.

Only attributes are looked at. Where they are all as remembered, so is the content; the rest is to be read.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from dumont.model.commit import HOLE, Entry, Kind
from dumont.repository.saving.sieve import Sieve
from dumont.repository.saving.walk import Glance, Mark, Sight, links_of, look_into, mark_of
from dumont.repository.saving.whole import Whole
from dumont.snapshot.index import RACY_NS
from dumont.snapshot.place import Place
from dumont.snapshot.tree import TOP, Tree, join

_FORMAT = 0o170000
_encode = msgspec.msgpack.Encoder().encode
_decode_names = msgspec.msgpack.Decoder(list[bytes]).decode
_decode_marks = msgspec.msgpack.Decoder(list[Mark | None]).decode
_decode_entries = msgspec.msgpack.Decoder(list[Entry | None]).decode


class Page(msgspec.Struct, frozen=True, array_like=True):
    """What a save remembers of one folder, its lists encoded: most are compared as they are, and never taken apart.

    A mark is None where a later change might have hidden (`index.RACY_NS`). `id` names the folder's listing.
    """

    path: bytes
    own: Entry
    encoded_names: msgspec.Raw
    encoded_marks: msgspec.Raw
    encoded_entries: msgspec.Raw
    id: bytes

    @property
    def names(self) -> list[bytes]:
        """What lies in the folder, in order."""
        return _decode_names(self.encoded_names)

    @property
    def marks(self) -> list[Mark | None]:
        """A mark for each name."""
        return _decode_marks(self.encoded_marks)

    @property
    def entries(self) -> list[Entry | None]:
        """An entry for each name; None for a folder's."""
        return _decode_entries(self.encoded_entries)

    def is_as(self, glance: Glance) -> bool:
        """Whether nothing of the folder has changed."""
        return self.encoded_names == glance.names and self.encoded_marks == glance.marks and self.own == glance.own


@dataclass
class Folder:
    """One directory of the survey. `entries[i]` is None while the content of `names[i]` is not known.

    `folders` are the numbers of names that are directories. With a `page` it is as remembered, and has no entries,
    and names only where somebody asks for one by its number.
    `whole`: a hand has read all of it, nothing is a directory, and names, marks and entries are there.
    """

    path: bytes
    own: Entry
    names: list[bytes] = field(default_factory=list)
    marks: list[Mark | None] = field(default_factory=list)
    entries: list[Entry | None] = field(default_factory=list)
    page: Page | None = None
    folders: list[int] = field(default_factory=list)
    whole: Whole | None = None

    def remembered(self, id: bytes, racy_from_ns: int) -> Page:
        """The page to remember. Marks whose change came at or after `racy_from_ns` are left out."""
        if self.whole is not None:
            return Page(self.path, self.own, self.whole.names, self.whole.marks, self.whole.entries, id)
        if self.page is not None and self.page.id == id:
            return self.page
        marks = [mark if mark and mark[3] < racy_from_ns else None for mark in self.marks]
        return Page(self.path, self.own, _raw(self.names), _raw(marks), _raw(self.entries), id)

    def open_page(self) -> None:
        """Take everything out of the page: something of the folder has to change after all."""
        if self.page is not None and not self.entries:
            self.names, self.marks, self.entries = self.page.names, self.page.marks, self.page.entries


@dataclass
class Survey:
    """`folders` by path, parents first. `linked`: (device, inode) → where it is named, for files with several names.

    `uncovered`: paths that can't be saved, with the reason. `began_ns`: the wall clock when it began. `holey`: files
    that are known to have holes, though they may take all their room. `chunks`: those of whole folders.
    """

    began_ns: int
    folders: dict[bytes, Folder] = field(default_factory=dict)
    linked: dict[tuple[int, int], list[tuple[Folder, int]]] = field(default_factory=dict)
    uncovered: dict[bytes, str] = field(default_factory=dict)
    holey: set[bytes] = field(default_factory=set)
    chunks: set[bytes] = field(default_factory=set)
    files: int = 0
    plain_bytes: int = 0

    @property
    def racy_from_ns(self) -> int:
        """Whatever changed since then may change again without showing it."""
        return self.began_ns - RACY_NS


def survey(
    place: Place, glances: dict[bytes, Glance], pages: dict[bytes, Page], found: Survey, sieve: Sieve | None = None
) -> Iterator[tuple[Folder, int, os.stat_result]]:
    """Fill `found`, and yield what is to be read: files, as `(folder, number of the name, attributes)`.

    `glances` are those of a walk over `place` with the same `sieve`. What it did not see, and what has changed, is
    looked at here. Raises OSError when the top itself can't be read.
    """
    waiting = [TOP]
    while waiting:
        path = waiting.pop()
        glance, page = glances.get(path), pages.get(path)
        if glance is not None and page is not None and page.is_as(glance):
            _take_over(glance, page, found)
        else:
            yield from look_over(place, look_into(place, path, sieve), page, found)
        if (folder := found.folders.get(path)) is not None:
            waiting += [join(path, folder.names[number]) for number in reversed(folder.folders)]


def _take_over(glance: Glance, page: Page, found: Survey) -> None:
    """A directory in which nothing has changed."""
    names = page.names if glance.folders or glance.links else []
    folder = Folder(glance.path, glance.own, names, page=page, folders=glance.folders)
    found.folders[glance.path] = folder
    found.uncovered.update(glance.uncovered)
    found.files += glance.files
    found.plain_bytes += glance.plain_bytes
    for number, device, inode in glance.links:
        found.linked.setdefault((device, inode), []).append((folder, number))


def look_over(
    place: Place, sight: Sight, page: Page | None, found: Survey
) -> Iterator[tuple[Folder, int, os.stat_result]]:
    """As `survey`, of one directory. `page` is what is remembered of it."""
    found.uncovered.update(sight.uncovered)
    if sight.own is None:
        return
    marks: list[Mark | None] = [mark_of(look) for look in sight.looks]
    folder = Folder(sight.path, sight.own, sight.names, marks, folders=sight.folders)
    found.folders[sight.path] = folder
    yield from _compare(place, folder, page, sight.looks, found)


def _compare(
    place: Place, folder: Folder, page: Page | None, looks: list[os.stat_result], found: Survey
) -> Iterator[tuple[Folder, int, os.stat_result]]:
    """Take over what is remembered; yield what is not."""
    sizes = [look.st_size for look in looks if look.st_mode & _FORMAT == stat.S_IFREG]
    found.files += len(sizes)
    found.plain_bytes += sum(sizes)
    for number, device, inode in links_of(looks):
        found.linked.setdefault((device, inode), []).append((folder, number))
    if page and page.names == folder.names and page.marks == folder.marks and page.own == folder.own:
        folder.page = page
        return
    if page is None:
        for number, look in enumerate(looks):
            if look.st_mode & _FORMAT == stat.S_IFREG:
                folder.entries.append(None)
                yield folder, number, look
            else:
                folder.entries.append(_small_entry(place, folder, folder.names[number], look, found))
        return
    known = {name: (mark, entry) for name, mark, entry in zip(page.names, page.marks, page.entries, strict=True)}
    for number, (name, mark, look) in enumerate(zip(folder.names, folder.marks, looks, strict=True)):
        before, entry = known.get(name, (None, None))
        if before is not None and before == mark and not stat.S_ISDIR(look.st_mode):
            folder.entries.append(entry)
        elif stat.S_ISREG(look.st_mode):
            folder.entries.append(None)
            yield folder, number, look
        else:
            folder.entries.append(_small_entry(place, folder, name, look, found))


def _small_entry(place: Place, folder: Folder, name: bytes, look: os.stat_result, found: Survey) -> Entry | None:
    """What is no file: it is known at a look. A directory's entry is filled in when its folder is."""
    mode = stat.S_IMODE(look.st_mode)
    if stat.S_ISFIFO(look.st_mode):
        return Entry(Kind.FIFO, mode, look.st_uid, look.st_gid, look.st_mtime_ns)
    if stat.S_ISLNK(look.st_mode):
        try:
            target = place.link_text(join(folder.path, name))
        except OSError as error:
            found.uncovered[join(folder.path, name)] = f"it went while it was looked at: {error.strerror}"
            return None
        return Entry(Kind.SYMLINK, mode, look.st_uid, look.st_gid, look.st_mtime_ns, target=target)
    return None


def survey_known(
    place: Place, known: Tree, is_stored: Callable[[bytes], bool], found: Survey
) -> Iterator[tuple[Folder, int, os.stat_result]]:
    """As `survey`, for a directory that holds, or held a moment ago, `known`: only what is not stored is to be read."""
    for path, entry in known.entries():
        if entry.kind is Kind.DIRECTORY:
            found.folders[path] = Folder(path, entry)
    for path, folder in found.folders.items():
        for name in known.children(path):
            child = known.get(join(path, name))
            if child is None:
                continue
            number = len(folder.names)
            if child.kind is Kind.DIRECTORY:
                folder.folders.append(number)
            found.files += child.kind is Kind.FILE
            found.plain_bytes += child.size
            folder.names.append(name)
            folder.marks.append(None)
            folder.entries.append(child)
            if all(chunk == HOLE or is_stored(chunk) for chunk in child.chunks):
                continue
            folder.entries[number] = None
            look = place.look(join(path, name))
            if look is not None and stat.S_ISREG(look.st_mode):
                folder.names[number] = name
                if child.sparse:
                    found.holey.add(join(path, name))
                yield folder, number, look


def keep_links(found: Survey, known: Tree) -> None:
    """Give files that were read again the common name of their inode, known from when all its names were seen."""
    for folder in found.folders.values():
        for number, (name, entry) in enumerate(zip(folder.names, folder.entries, strict=True)):
            before = known.get(join(folder.path, name)) if entry is not None and entry.kind is Kind.FILE else None
            if entry is not None and before is not None and before.link and before.kind is Kind.FILE:
                folder.entries[number] = replace(entry, link=before.link)


def changed_since(found: Survey, known: Tree) -> set[bytes]:
    """Paths whose entry is no longer that of `known`, their links left aside."""
    changed = set()
    for folder in found.folders.values():
        for name, entry in zip(folder.names, folder.entries, strict=True):
            path = join(folder.path, name)
            before = known.get(path)
            if (
                before
                and before.kind is Kind.FILE
                and (entry is None or replace(entry, link=b"") != replace(before, link=b""))
            ):
                changed.add(path)
    return changed


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))
