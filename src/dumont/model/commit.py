"""A commit: one complete point in time of a workspace's tree, and the entries it is made of.

A tree maps paths to entries. A path is bytes relative to the workspace, `b""` being its top directory,
without leading or trailing slash. Files are cut into fixed blocks whose length follows from the file's size
(`block_bytes`), so an append or a change in place touches only its own blocks. A file of tensors is cut at their
beginnings first (`Entry.bounds`), so a tensor that did not change has the same blocks wherever it lies.
"""

import enum
from itertools import pairwise

import msgspec

HOLE = b""
"""Stands in `Entry.chunks` for a block that lies wholly in a hole and reads as zeros."""

_BLOCK_BYTES = ((16 * 2**20, 64 * 2**10), (4 * 2**30, 2**20))
_BLOCK_BYTES_MAX = 16 * 2**20


class Kind(enum.StrEnum):
    """What an entry is."""

    FILE = "f"
    DIRECTORY = "d"
    SYMLINK = "l"
    FIFO = "p"


class CommitId(msgspec.Struct, frozen=True, order=True, array_like=True):
    """`(epoch, seq)`: ordered, and unique within a workspace. `seq` goes on across epochs."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One name in a tree. `mode` holds permission bits only; `mtime_ns` may be negative (before 1970).

    `chunks[i]` is the id of block `i`, or HOLE. `sparse` files are written with their zero pages left out.
    `link` is b"" for an ordinary name; names of one inode all carry the smallest of their paths. `bounds` are offsets
    in bytes, strictly increasing, each > 0 and < `size`: the file is cut there first, and what lies between two of them
    into blocks from its own begin. They say how a file was cut and nothing of its content.
    """

    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    chunks: tuple[bytes, ...] = ()
    target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    link: bytes = b""
    sparse: bool = False
    bounds: tuple[int, ...] = ()


class Change(msgspec.Struct, frozen=True, array_like=True):
    """`path` now holds `entry`; None means that the name is gone (its children are listed on their own)."""

    path: bytes
    entry: Entry | None


class Commit(msgspec.Struct, frozen=True, array_like=True):
    """The record that makes a set of changes one point in time.

    `root` is the Merkle hash of the whole tree. `consistent` is True when the workload stood still while it was
    cut; otherwise `fuzzy` names the files that moved meanwhile. `uncovered` names what a commit can't hold
    (sockets, devices, unreadable files). `sealed` marks the last commit of a primary before a switchover.
    """

    id: CommitId
    parent: CommitId | None
    root: bytes
    at_ns: int
    consistent: bool
    fuzzy: tuple[bytes, ...] = ()
    uncovered: tuple[bytes, ...] = ()
    sealed: bool = False


def block_bytes(size: int) -> int:
    """The block length in bytes of a file of `size` bytes: 64 KiB up to 16 MiB, 1 MiB up to 4 GiB, else 16 MiB."""
    for size_max, block in _BLOCK_BYTES:
        if size <= size_max:
            return block
    return _BLOCK_BYTES_MAX


def block_count(size: int, bounds: tuple[int, ...] = ()) -> int:
    """How many blocks a file of `size` bytes, cut at `bounds`, has; 0 for an empty file."""
    block = block_bytes(size)
    if not bounds:
        return -(-size // block)
    return sum(-(-(end - begin) // block) for begin, end in pairwise((0, *bounds, size)))
