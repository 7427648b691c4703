"""An author: turns what is in a real directory into the commit messages that a primary would send."""

import os
import time
from pathlib import Path

from dumont.model.commit import HOLE, Change, Commit, CommitId
from dumont.snapshot.chunk import NO_KEY
from dumont.snapshot.disk import WorkspaceDisk
from dumont.snapshot.index import Index
from dumont.snapshot.place import Place
from dumont.snapshot.scan import Cut, OpenFile, by_content, scan
from dumont.snapshot.tree import Tree
from dumont.wire.stream import Blob, CommitMessage


class Author:
    """`tree` is what the last commit held. Files are cut by `cut`, their chunks named under `key`."""

    def __init__(self, root: Path, key: bytes = NO_KEY, cut: Cut = by_content) -> None:
        self.root = root
        self.key = key
        self.cut = cut
        self.tree = Tree()
        self.head: Commit | None = None

    def commit(self) -> tuple[list[Blob], CommitMessage]:
        """The next commit of what is there now, and the blobs that a follower of the last one lacks."""
        with Place(self.root) as place:
            tree = scan(place, Index(), time.time_ns(), self.key, self.cut).tree
        changes = tuple(self.tree.diff(tree))
        blobs = self._blobs(changes)
        parent = self.head.id if self.head else None
        id = CommitId(1, parent.seq + 1 if parent else 1)
        self.head = Commit(id, parent, tree.root(), 0, consistent=True)
        message = CommitMessage(self.head, self.tree.root(), changes)
        self.tree = tree
        return blobs, message

    def _blobs(self, changes: tuple[Change, ...]) -> list[Blob]:
        blobs: dict[bytes, Blob] = {}
        for change in changes:
            chunks = change.entry.chunks if change.entry else ()
            wanted = [number for number, chunk in enumerate(chunks) if chunk != HOLE and not self.tree.has_chunk(chunk)]
            if wanted:
                file = OpenFile(
                    os.open(os.path.join(os.fsencode(self.root), change.path), os.O_RDONLY), change.path, self.cut
                )
                for number in wanted:
                    blobs[chunks[number]] = Blob(chunks[number], file.block(number))
                file.close()
        return list(blobs.values())


async def journal(disk: WorkspaceDisk, blobs: list[Blob], message: CommitMessage) -> None:
    """What a standby does before it acknowledges."""
    for blob in blobs:
        await disk.blob(blob)
    await disk.record(message)
    await disk.sync()


async def follow(disk: WorkspaceDisk, author: Author) -> CommitMessage:
    """Journal and apply the author's next commit."""
    blobs, message = author.commit()
    await journal(disk, blobs, message)
    await disk.apply(message)
    return message
