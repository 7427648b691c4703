"""Links: which names share an inode, in a live tree and in a committed one."""

from collections.abc import Callable, Iterable

from dumont.model.commit import Entry

Inode = tuple[int, int]
"""Device and inode number."""


class Links:
    """The names of each inode of a live tree, as last seen. Knows names that are no directories."""

    def __init__(self) -> None:
        self._inode: dict[bytes, Inode] = {}
        self._names: dict[Inode, set[bytes]] = {}

    def note(self, path: bytes, inode: Inode | None) -> set[bytes]:
        """`path` names `inode` now, or nothing (None). Returns the other names whose group changed by that."""
        before = self._inode.get(path)
        if before == inode:
            return set()
        affected: set[bytes] = set()
        if before is not None:
            del self._inode[path]
            left = self._names[before]
            left.discard(path)
            affected |= left
            if not left:
                del self._names[before]
        if inode is not None:
            names = self._names.setdefault(inode, set())
            affected |= names
            names.add(path)
            self._inode[path] = inode
        return affected

    def names(self, inode: Inode) -> set[bytes]:
        """All known names of `inode`."""
        return set(self._names.get(inode, ()))

    def inode(self, path: bytes) -> Inode | None:
        """What `path` was last seen to name."""
        return self._inode.get(path)

    def canonical(self, path: bytes) -> bytes:
        """What `Entry.link` of `path` must say: the smallest name of its group; b"" when it is alone."""
        inode = self._inode.get(path)
        names = self._names[inode] if inode is not None else ()
        return min(names) if len(names) > 1 else b""


class Groups:
    """The paths of a tree by their `link`."""

    def __init__(self, entries: Iterable[tuple[bytes, Entry]] = ()) -> None:
        self._members: dict[bytes, set[bytes]] = {}
        for path, entry in entries:
            self.move(path, None, entry)

    def move(self, path: bytes, before: Entry | None, after: Entry | None) -> None:
        """`path` held `before` and now holds `after`."""
        if before and before.link:
            members = self._members[before.link]
            members.discard(path)
            if not members:
                del self._members[before.link]
        if after and after.link:
            self._members.setdefault(after.link, set()).add(path)

    def members(self, link: bytes) -> set[bytes]:
        """All paths that carry `link`."""
        return set(self._members.get(link, ()))

    def settled(self, path: bytes, entry: Entry, get: Callable[[bytes], Entry | None]) -> bytes:
        """The `link` that `path` can have on a disk: names in a group that differ can't share an inode.

        Only a fuzzy commit, whose names of one inode were read at different times, has such groups.
        """
        if not entry.link:
            return b""
        equal = [member for member in self._members.get(entry.link, ()) if get(member) == entry]
        return min(equal) if len(equal) > 1 else b""
