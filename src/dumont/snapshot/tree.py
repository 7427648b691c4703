"""A tree: every path of a workspace with its entry, Merkle-hashed by directory, so that a change costs O(changes).

A directory's id is BLAKE3 over the msgpack list of its `[name, entry, id of the subtree]` in order of names; the root
is the id of a list that holds the top directory itself. Two trees with one root hold the same names, bytes, modes,
owners, times, links, holes and xattrs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import blake3
import msgspec

from dumont.errors import BadInput
from dumont.model.commit import HOLE, Change, Entry, Kind

TOP = b""
Listing = list[tuple[bytes, Entry | None, bytes]]
"""A directory's object: name, entry and, for a directory, the id of its own listing; sorted by name."""
encode_listing = msgspec.msgpack.Encoder().encode


class Tree:
    """A mutable map of paths to entries that knows its root. A parent need not be put before its children.

    Whoever reads a tree that moves may find a name, and none of the directory above it: such a name counts like any.
    """

    def __init__(self, entries: Mapping[bytes, Entry] | None = None) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._names: dict[bytes, set[bytes]] = {}
        self._ids: dict[bytes, bytes] = {}
        self._chunks: Counter[bytes] = Counter()
        for path, entry in (entries or {}).items():
            self.put(path, entry)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, path: bytes) -> bool:
        return path in self._entries

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`, or None."""
        return self._entries.get(path)

    def put(self, path: bytes, entry: Entry) -> None:
        """Set the entry at `path`."""
        before = self._entries.get(path)
        if before == entry:
            return
        self._count(before, -1)
        self._count(entry, +1)
        self._entries[path] = entry
        if before is None:
            self._hang(path)
        self._forget(path)

    def remove(self, path: bytes) -> None:
        """Take `path` out; children are removed on their own. Harmless when there is none."""
        before = self._entries.pop(path, None)
        if before is None:
            return
        self._count(before, -1)
        self._unhang(path)
        self._forget(path)

    def apply(self, changes: Iterable[Change]) -> None:
        """Make each change, in order."""
        for change in changes:
            if change.entry is None:
                self.remove(change.path)
            else:
                self.put(change.path, change.entry)

    def children(self, path: bytes) -> list[bytes]:
        """Names directly under `path`, sorted, also those that have no entry but lead to one."""
        return sorted(self._names.get(path, ()))

    def below(self, path: bytes) -> list[bytes]:
        """Every path with an entry strictly under `path`, parents before their children."""
        found: list[bytes] = []
        waiting = [path]
        while waiting:
            at = waiting.pop()
            below = [join(at, name) for name in self._names.get(at, ())]
            found += [path for path in below if path in self._entries]
            waiting += [path for path in below if path in self._names]
        return sorted(found)

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        """All paths with their entries, sorted by path: parents come before their children."""
        for path in sorted(self._entries):
            yield path, self._entries[path]

    def has_chunk(self, chunk_id: bytes) -> bool:
        """Whether some file of the tree holds that chunk."""
        return self._chunks[chunk_id] > 0

    def copy(self) -> "Tree":
        """An independent tree with the same entries."""
        tree = Tree()
        tree._entries = dict(self._entries)
        tree._names = {path: set(names) for path, names in self._names.items()}
        tree._ids = dict(self._ids)
        tree._chunks = Counter(self._chunks)
        return tree

    def diff(self, target: "Tree") -> list[Change]:
        """The changes that turn this tree into `target`, sorted by path. Costs O(both trees)."""
        changes = [Change(path, None) for path in self._entries if path not in target]
        changes += [Change(path, entry) for path, entry in target.entries() if self._entries.get(path) != entry]
        return sorted(changes, key=lambda change: change.path)

    def root(self) -> bytes:
        """32 bytes that name this tree's whole content; the hash of nothing for an empty tree."""
        top = self._entries.get(TOP)
        return _digest([(TOP, top, self._id(TOP))] if top or self._names else [])

    def directory_object(self, path: bytes) -> bytes:
        """The serialized directory whose BLAKE3 is its id."""
        self._id(path)
        return encode_listing(self._listing(path))

    def _id(self, path: bytes) -> bytes:
        """The id of the directory at `path`; deep trees are walked without recursion."""
        stack = [path]
        while stack:
            at = stack[-1]
            above = at + b"/" if at else b""
            missing = [
                child
                for name in self._names.get(at, ())
                if (child := above + name) in self._names and child not in self._ids
            ]
            if missing:
                stack += missing
                continue
            stack.pop()
            if at not in self._ids:
                self._ids[at] = _digest(self._listing(at))
        return self._ids[path]

    def _listing(self, path: bytes) -> Listing:
        above = path + b"/" if path else b""
        listing = []
        for name in self.children(path):
            child = above + name
            entry = self._entries.get(child)
            is_directory = entry is None or entry.kind is Kind.DIRECTORY
            listing.append((name, entry, self._ids.get(child, NOTHING) if is_directory else b""))
        return listing

    def _hang(self, path: bytes) -> None:
        """Make `path` reachable from the top, through directories that have no entry where it must be."""
        while path != TOP:
            above = parent_of(path)
            names = self._names.get(above)
            if names is not None:
                names.add(name_of(path))
                return
            self._names[above] = {name_of(path)}
            path = above

    def _unhang(self, path: bytes) -> None:
        """Take the name of `path` away, and those above it that led nowhere else."""
        while path != TOP and path not in self._entries and path not in self._names:
            above = parent_of(path)
            names = self._names[above]
            names.discard(name_of(path))
            if not names:
                del self._names[above]
            path = above

    def _forget(self, path: bytes) -> None:
        self._ids.pop(path, None)
        while path != TOP:
            path = parent_of(path)
            self._ids.pop(path, None)

    def _count(self, entry: Entry | None, by: int) -> None:
        for chunk in entry.chunks if entry else ():
            if chunk != HOLE:
                self._chunks[chunk] += by
                if not self._chunks[chunk]:
                    del self._chunks[chunk]


def join(parent: bytes, name: bytes) -> bytes:
    """The path of `name` in directory `parent`."""
    return parent + b"/" + name if parent else name


def parent_of(path: bytes) -> bytes:
    """The directory that holds `path`; TOP for a name at the top."""
    return path.rpartition(b"/")[0]


def name_of(path: bytes) -> bytes:
    """The last part of `path`."""
    return path.rpartition(b"/")[2]


def checked(path: bytes) -> bytes:
    """`path` if it stays inside a workspace. Raises BadInput for absolute paths, `.`, `..`, empty parts and NUL."""
    if path == TOP:
        return path
    if path.startswith(b"/") or b"\0" in path or any(part in (b"", b".", b"..") for part in path.split(b"/")):
        raise BadInput(f"{path!r} is not a path inside a workspace")
    return path


def digest_listing(body: bytes) -> bytes:
    """The 32 bytes that name an encoded listing."""
    return blake3.blake3(body).digest()


def _digest(listing: Listing) -> bytes:
    return digest_listing(encode_listing(listing))


NOTHING = _digest([])
"""The id of an empty directory's listing."""
EMPTY_DIRECTORY = NOTHING
