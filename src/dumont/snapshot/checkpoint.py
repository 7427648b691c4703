"""A checkpoint: a whole tree that is durable on disk, from which the journal goes on."""

from pathlib import Path

import msgspec

from dumont.errors import Corrupt
from dumont.model.commit import Commit, Entry
from dumont.snapshot.durable import read_checked, replace_file
from dumont.snapshot.index import Index, Known, Signature
from dumont.snapshot.tree import Tree

VERSION = 1


class Checkpoint(msgspec.Struct, frozen=True):
    """`segment`: the first of the journal that is still needed. `commit` None: the tree is no commit's.

    `signatures` are those of paths whose content need not be read again as long as they stay.
    """

    version: int
    commit: Commit | None
    segment: int
    entries: list[tuple[bytes, Entry]]
    signatures: list[tuple[bytes, Signature]]

    def tree(self) -> Tree:
        """The tree of it."""
        return Tree(dict(self.entries))


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, or None. Raises Corrupt when it can't be read."""
    body = read_checked(path)
    if body is None:
        return None
    try:
        checkpoint = msgspec.msgpack.decode(body, type=Checkpoint)
    except msgspec.DecodeError as error:
        raise Corrupt(f"{path} can't be read: {error}") from error
    if checkpoint.version != VERSION:
        raise Corrupt(f"{path} is of version {checkpoint.version}, this program writes {VERSION}")
    return checkpoint


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace what is at `path`, durably. Raises DiskFull and NotDurable."""
    replace_file(path, msgspec.msgpack.encode(checkpoint))


def note_signatures(index: Index, checkpoint: Checkpoint, changed_later: set[bytes]) -> None:
    """Let `index` vouch for what `checkpoint` knew, except for paths that commits after it changed."""
    entries = dict(checkpoint.entries)
    for path, signature in checkpoint.signatures:
        if path not in changed_later:
            index.put(path, Known(signature, entries[path]))
