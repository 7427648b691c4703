"""The index: what each path of a live tree held when it was last read, and the attributes that prove it unchanged."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from dumont.model.commit import Entry
from dumont.snapshot.links import Inode
from dumont.snapshot.tree import TOP, parent_of

RACY_NS = 50 * 10**6
"""A change this close before a reading might be followed by one that the clock of ctime does not tell apart."""


class Signature(msgspec.Struct, frozen=True, array_like=True):
    """Attributes of a path: whatever is done to it changes one of them, if only ctime."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int
    nlink: int

    @property
    def inode(self) -> Inode | None:
        """What the path names; None for a directory."""
        return None if stat.S_ISDIR(self.mode) else (self.dev, self.ino)


@dataclass(frozen=True)
class Known:
    """`entry` None: the path exists and can't be held in a commit. `racy`: to be read again whatever it shows."""

    signature: Signature
    entry: Entry | None
    racy: bool = False


class Index:
    """Paths with what is known of them. While others read, one thread at a time may write."""

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}
        self._children: dict[bytes, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, path: bytes) -> Known | None:
        """What is known of `path`."""
        return self._known.get(path)

    def put(self, path: bytes, known: Known) -> None:
        """Remember what `path` held."""
        self._known[path] = known
        while path != TOP:  # up to the top: what is above may be unknown, and what is below must be found from there
            above = parent_of(path)
            children = self._children.get(above)
            if children is not None:
                children.add(path)
                return
            self._children[above] = {path}
            path = above

    def drop(self, path: bytes) -> None:
        """Know nothing of `path` any more."""
        if self._known.pop(path, None) is None:
            return
        while path != TOP and path not in self._known and path not in self._children:
            above = parent_of(path)
            children = self._children[above]
            children.discard(path)
            if not children:
                del self._children[above]
            path = above

    def below(self, path: bytes) -> list[bytes]:
        """Every known path strictly under `path`."""
        found: list[bytes] = []
        waiting = [path]
        while waiting:
            children = self._children.get(waiting.pop(), ())
            found += [path for path in children if path in self._known]
            waiting += children
        return found

    def clear(self) -> None:
        """Know nothing."""
        self._known.clear()
        self._children.clear()

    def items(self) -> list[tuple[bytes, Known]]:
        """Everything known, as of now."""
        return list(self._known.items())

    def signatures(self, entries: Iterator[tuple[bytes, Entry]]) -> list[tuple[bytes, Signature]]:
        """The signatures of those `entries` that are known to be what is on disk, and not racy."""
        found = []
        for path, entry in entries:
            known = self._known.get(path)
            if known and not known.racy and (known.entry is entry or known.entry == entry):
                found.append((path, known.signature))
        return found


def signature_of(seen: os.stat_result) -> Signature:
    """The signature in what stat answered."""
    return Signature(
        seen.st_dev,
        seen.st_ino,
        seen.st_size,
        seen.st_mtime_ns,
        seen.st_ctime_ns,
        seen.st_mode,
        seen.st_uid,
        seen.st_gid,
        seen.st_nlink,
    )


def is_racy(signature: Signature, read_at_ns: int) -> bool:
    """Whether a later change could hide: ctime within RACY_NS of the reading (or, by a clock set back, after it)."""
    return signature.ctime_ns > read_at_ns - RACY_NS
