"""The shape of a survey: its folders' listings, hashed from the leaves up into the root of a tree."""

from dataclasses import dataclass, field

from msgspec.structs import replace

from dumont.model.commit import Entry
from dumont.repository.saving.survey import Folder, Page, Survey
from dumont.snapshot.tree import NOTHING, TOP, digest_listing, encode_listing, join


@dataclass
class Shape:
    """`ids` of the folders' listings, by path. `bodies`: listings by id, of changed folders, and the root's."""

    root: bytes = b""
    ids: dict[bytes, bytes] = field(default_factory=dict)
    bodies: dict[bytes, bytes] = field(default_factory=dict)


def shape(found: Survey, pages: dict[bytes, Page], everything: bool) -> Shape:
    """Settle names of one inode, leave out what has no entry, and hash. `everything`: give all bodies."""
    _link(found)
    made = Shape()
    for folder in reversed(found.folders.values()):
        page = folder.page
        if folder.whole is not None:
            made.ids[folder.path] = folder.whole.id
            made.bodies[folder.whole.id] = folder.whole.body
            continue
        if page is not None and not everything and _has_same_folders(folder, made, found, pages):
            made.ids[folder.path] = page.id
            continue
        if page is not None:
            folder.open_page()
        body = _listing(folder, made, found)
        id = digest_listing(body)
        made.ids[folder.path] = id
        if page is None or page.id != id or everything:
            folder.page = page if page is not None and page.id == id else None
            made.bodies[id] = body
    made.bodies.pop(NOTHING, None)
    top = found.folders[TOP]
    body = encode_listing([(TOP, top.own, made.ids[TOP])])
    made.root = digest_listing(body)
    made.bodies[made.root] = body
    return made


def _has_same_folders(folder: Folder, made: Shape, found: Survey, pages: dict[bytes, Page]) -> bool:
    for number in folder.folders:
        path = join(folder.path, folder.names[number])
        page = pages.get(path)
        if page is None or path not in made.ids or made.ids[path] != page.id or found.folders[path].own != page.own:
            return False
    return True


def _listing(folder: Folder, made: Shape, found: Survey) -> bytes:
    """The folder's object. Names without an entry go."""
    listing = []
    is_folder = set(folder.folders)
    keep = []
    for number, name in enumerate(folder.names):
        entry, below = folder.entries[number], b""
        if number in is_folder:
            path = join(folder.path, name)
            child = found.folders.get(path)
            entry = child.own if child else None
            below = made.ids[path] if child else b""
            folder.entries[number] = entry
        if entry is not None:
            listing.append((name, entry, below))
            keep.append(number)
    if len(keep) < len(folder.names):
        folder.names = [folder.names[number] for number in keep]
        folder.marks = [folder.marks[number] for number in keep]
        folder.entries = [folder.entries[number] for number in keep]
        folder.folders = [at for at, number in enumerate(keep) if number in is_folder]
    return encode_listing(listing)


def _link(found: Survey) -> None:
    """Give names of one inode their common name: the smallest of their paths."""
    for places in found.linked.values():
        paths = [join(folder.path, folder.names[number]) for folder, number in places]
        link = min(paths) if len(paths) > 1 else b""
        for folder, number in places:
            if folder.page is not None and not folder.entries:
                folder.open_page()
            entry: Entry | None = folder.entries[number]
            if entry is not None and entry.link != link:
                folder.entries[number] = replace(entry, link=link)
                folder.page = None
