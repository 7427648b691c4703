"""A reading: what one path of a live tree held when it was looked at."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dumont.model.commit import Entry

BlobSink = Callable[[bytes, bytes], Awaitable[None]]
"""Takes a chunk's id and its data; waits while too much is in flight."""


@dataclass(frozen=True)
class Reading:
    """What one path held when it was read. `entry` None: there is no such name (any more).

    `moved`: it changed while being read. `uncovered`: why it can't be held in a commit (socket, device, unreadable),
    or "".
    """

    path: bytes
    entry: Entry | None
    moved: bool = False
    uncovered: str = ""


@dataclass(frozen=True)
class Grabbed:
    """The raw bytes and attributes of one path, copied fast while the workload stands still, hashed afterwards."""

    path: bytes
    entry: Entry | None
    blocks: tuple[bytes, ...] = ()
    uncovered: str = ""
