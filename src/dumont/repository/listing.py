"""Listings: the directory objects of a stored tree, read from its root down, each verified and checked."""

import msgspec

from dumont.errors import BadInput, Corrupt
from dumont.model.commit import Entry, Kind
from dumont.repository.fetch import Fetcher
from dumont.snapshot.check import NAME_BYTES_MAX, check_attributes, is_plain_directory, is_plain_file
from dumont.snapshot.tree import NOTHING, TOP, Tree

Listing = list[tuple[bytes, Entry | None, bytes]]
PATHS_MAX = 20_000_000
"""A directory that many names lead to is stored once: without a bound, a small repository could claim any size."""
_decode = msgspec.msgpack.Decoder(Listing).decode


async def read_entries(fetcher: Fetcher, root: bytes) -> dict[bytes, Entry]:
    """Every path of the stored tree `root`, directories before what is in them.

    Raises Corrupt when an object lacks, lies about itself, or holds what no tree can.
    """
    entries: dict[bytes, Entry] = {}
    if root == NOTHING:
        return entries
    level: list[tuple[bytes, bytes]] = []
    for name, entry, below in _listing(await fetcher.chunk(root), root):
        if name != TOP or entry is None or entry.kind is not Kind.DIRECTORY or entries:
            raise Corrupt(f"{root.hex()} is not the root of a tree")
        _check(TOP, entry)
        entries[TOP] = entry
        level.append((TOP, below))
    while level:
        wanted = list(dict.fromkeys(id for _, id in level if id != NOTHING))
        bodies = dict(zip(wanted, await fetcher.chunks(wanted), strict=True))
        below_them: list[tuple[bytes, bytes]] = []
        for path, id in level:
            if id != NOTHING:
                below_them += _add(entries, path, _listing(bodies[id], id))
            if len(entries) > PATHS_MAX:
                raise Corrupt(f"tree {root.hex()} claims more than {PATHS_MAX} names")
        level = below_them
    return entries


def tree_of(entries: dict[bytes, Entry], root: bytes) -> Tree:
    """The tree of those entries. Raises Corrupt when it is another than `root` names."""
    tree = Tree(entries)
    if tree.root() != root:
        raise Corrupt(f"what is stored of tree {root.hex()} makes another one")
    return tree


def _listing(body: bytes, id: bytes) -> Listing:
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"directory {id.hex()} can't be read: {error}") from error


def _add(entries: dict[bytes, Entry], path: bytes, listing: Listing) -> list[tuple[bytes, bytes]]:
    """Put what a directory lists among `entries`; the directories in it, with their ids."""
    found = []
    above = path + b"/" if path else b""
    before = b""
    for name, entry, below in listing:
        if name <= before or b"/" in name or b"\0" in name or name in (b".", b"..") or len(name) > NAME_BYTES_MAX:
            raise Corrupt(f"the stored directory {path!r} holds the impossible name {name!r}, or one twice")
        if entry is None:
            raise Corrupt(f"the stored tree can't be restored: {above + name!r} has no entry")
        before = name
        child = above + name
        entries[child] = entry
        if is_plain_file(entry):
            continue
        if not is_plain_directory(entry):
            _check(child, entry)
        if entry.kind is Kind.DIRECTORY:
            found.append((child, below))
    return found


def _check(path: bytes, entry: Entry) -> None:
    try:
        check_attributes(path, entry)
    except BadInput as error:
        raise Corrupt(f"the stored tree can't be restored because of {path!r}: {error}") from error
