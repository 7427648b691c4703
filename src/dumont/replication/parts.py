"""Parts: what does not fit into one message of a link is sent in several, and what waits is bounded by its bytes."""

import asyncio
from collections import deque
from collections.abc import Iterable

from dumont.model.commit import Change
from dumont.wire.stream import Blob, CommitMessage, CommitPart, Manifest, StreamMessage

PART_BYTES_MAX = 4 * 2**20
"""A commit of more changes travels in parts. One entry alone may exceed it: a file of 1 TiB has 2 MiB of chunk ids."""
_CHANGE_BYTES = 96
_CHUNK_BYTES = 34
_BOUND_BYTES = 9


def weight(changes: Iterable[Change]) -> int:
    """About how many bytes `changes` take in a message."""
    total = 0
    for path, entry in ((change.path, change.entry) for change in changes):
        total += _CHANGE_BYTES + len(path)
        if entry is not None:
            total += _CHUNK_BYTES * len(entry.chunks) + _BOUND_BYTES * len(entry.bounds)
            total += len(entry.link) + len(entry.target)
            total += sum(len(name) + len(value) + 4 for name, value in entry.xattrs)
    return total


def parts(changes: Iterable[Change], bytes_max: int = PART_BYTES_MAX) -> list[tuple[Change, ...]]:
    """`changes` in order, cut so that each part is of about `bytes_max` at most; one empty part when there are none."""
    cut: list[tuple[Change, ...]] = []
    part: list[Change] = []
    size = 0
    for change in changes:
        more = weight((change,))
        if part and size + more > bytes_max:
            cut.append(tuple(part))
            part, size = [], 0
        part.append(change)
        size += more
    return [*cut, tuple(part)]


class Inbox:
    """Messages that were received and not yet handled, in order; None stands for the end of the link.

    `put` waits while `bytes_max` or more are held, so at most one message more than that is in memory.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: deque[tuple[int, StreamMessage | None]] = deque()
        self._changed = asyncio.Condition()
        self.held_bytes = 0

    async def put(self, message: StreamMessage) -> None:
        """Add a message."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.held_bytes < self._bytes_max)
            size = _size(message)
            self.held_bytes += size
            self._held.append((size, message))
            self._changed.notify_all()

    async def end(self) -> None:
        """Nothing more will come."""
        async with self._changed:
            self._held.append((0, None))
            self._changed.notify_all()

    async def get(self) -> StreamMessage | None:
        """The next message, or None."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._held))
            size, message = self._held.popleft()
            self.held_bytes -= size
            self._changed.notify_all()
            return message


def _size(message: StreamMessage) -> int:
    match message:
        case Blob(_, data):
            return _CHANGE_BYTES + len(data)
        case CommitMessage(changes=changes) | CommitPart(changes):
            return _CHANGE_BYTES + weight(changes)
        case Manifest(entries, _):
            return _CHANGE_BYTES + weight(entries)
    return _CHANGE_BYTES
