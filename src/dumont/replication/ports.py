"""What replication needs of the machine it runs on: a tree to read, a disk to keep promises on, a watchdog.

Each has one driver for a real machine (`agent/`, `snapshot/`) and one for the simulator (`tests/simulation/`).
"""

import enum
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from dumont.clock import Clock
from dumont.model.commit import Commit, CommitId
from dumont.snapshot.kept import Kept, Promise
from dumont.snapshot.reading import BlobSink, Grabbed, Reading
from dumont.snapshot.tree import Tree
from dumont.wire.control import Assignment, BranchSaved
from dumont.wire.stream import Blob, CommitMessage

# Values that the drivers below us (`snapshot/`) make; they are part of these ports.
__all__ = ["BlobSink", "Disk", "Doors", "Grabbed", "Happening", "Hint", "History", "Host", "Kept", "Promise"]
__all__ += ["Numbers", "Reading", "Source", "Watchdog"]


class Happening(enum.StrEnum):
    """What a hint says of a path."""

    TOUCHED = "touched"  # content, attributes, or the name itself: read it again
    SUBTREE = "subtree"  # a directory appeared or moved here: walk everything under it
    OVERFLOW = "overflow"  # hints were lost: walk the whole workspace


@dataclass(frozen=True)
class Hint:
    """One thing the kernel told us. Hints may be late, double or missing; never proof that nothing happened."""

    path: bytes
    happening: Happening = Happening.TOUCHED


class Source(Protocol):
    """A primary's live tree. Paths are relative to the workspace. Nothing here changes the tree.

    `hints` drains, without waiting, everything that the kernel has queued: a write that returned before the call is in
    this or an earlier answer, except what `mapped` names. `mapped` lists files that some process may change through
    shared memory, which no hint tells. `walk` lists every path at or under `below` whose attributes differ from
    `known` (compare ctime too, treat recent ones as changed) and the known paths that are gone. `copy` reads one path
    while the workload runs, handing each block to the sink. `grab` reads all `paths` at once into memory; raises
    BadInput when they exceed `bytes_max`. `digest` hashes what was grabbed and hands its blocks to the sink.
    `freeze` stops the workload's processes, True when all stand still; `thaw` lets them run, and is always called.
    `close` gives watches and files back.
    """

    def hints(self) -> list[Hint]: ...

    def mapped(self) -> set[bytes]: ...

    async def walk(self, below: bytes, known: Tree) -> set[bytes]: ...

    async def size(self, paths: Collection[bytes]) -> int: ...

    async def copy(self, path: bytes, sink: BlobSink) -> Reading: ...

    async def grab(self, paths: Collection[bytes], bytes_max: int) -> list[Grabbed]: ...

    async def digest(self, grabbed: list[Grabbed], sink: BlobSink) -> list[Reading]: ...

    async def freeze(self, timeout_s: float) -> bool: ...

    async def thaw(self) -> None: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """An instance's own storage: its promise, the journal of commits, and the materialised tree.

    `load` recovers: it finishes whole journaled commits, drops torn ones, and answers what is there. `promise` and
    `sync` return only when everything before them is fsynced; after a failed fsync every later call raises
    NotDurable. A full disk raises DiskFull. `blob` and `record` append to the journal. `drop_partial` forgets blobs
    that no record followed. `apply` materialises one journaled commit, in order; a crash in the middle is repaired by
    `load`. `set_head` durably notes that the tree on disk is exactly `commit` (that a primary sealed); None: it isn't.
    `pending_bytes` is what is journaled and not yet applied.
    """

    pending_bytes: int

    async def load(self) -> Kept: ...

    async def promise(self, promise: Promise) -> None: ...

    async def blob(self, blob: Blob) -> None: ...

    async def record(self, message: CommitMessage) -> None: ...

    async def sync(self) -> None: ...

    async def drop_partial(self) -> None: ...

    async def apply(self, message: CommitMessage) -> None: ...

    async def set_head(self, commit: Commit | None, tree: Tree) -> None: ...


class Watchdog(Protocol):
    """The small parent that outlives the agent: it alone stops, continues and ends the workload by lease and epoch."""

    def lead(self, epoch: int) -> None:
        """This instance is primary at `epoch`; a lease starts now."""

    def renew(self, epoch: int, sent_at: float) -> None:
        """Somebody entitled answered a question sent at `sent_at` (monotonic): the lease runs from then."""

    def end(self, epoch: int) -> None:
        """A higher epoch exists: the workload of every lower one is over."""


class Doors(Protocol):
    """The way in for people and the workload: SSH, HTTP and the supervised command.

    `open` lets them in at an epoch (idempotent), `close` throws all out at once, `prepare` does so too and learns the
    keys, so that opening takes no time. `quiesce` runs the user's `on_switch` and ends workload and shells in good
    order; raises Refused when it can't be sure that nothing of them runs any more. `serving` is the epoch now served, 0
    for none.
    """

    @property
    def serving(self) -> int: ...

    def prepare(self, assignment: Assignment) -> None: ...

    def open(self, assignment: Assignment, head: Commit | None) -> None: ...

    def close(self) -> None: ...

    async def quiesce(self, assignment: Assignment) -> None: ...


class History(Protocol):
    """The store, as an agent may use it: add a branch, and fetch a commit into the empty workspace directory."""

    async def keep_branch(
        self, name: str, tree: Tree, forked_from: CommitId | None, paths: set[bytes]
    ) -> BranchSaved: ...

    async def restore(self, id: CommitId) -> Kept: ...


class Numbers(Protocol):
    """The newest commit id that a primary here gave out, so that no id is given twice in one epoch.

    It outlives the engine's process, not the machine's power: a machine that started anew leads only at a higher epoch.
    """

    def last(self) -> CommitId | None: ...

    def note(self, id: CommitId) -> None: ...


@dataclass(frozen=True)
class Host:
    """The machine under a replica, as ports. `watch` opens the live tree, with its watches set before it returns."""

    disk: Disk
    watchdog: Watchdog
    doors: Doors
    history: History
    numbers: Numbers
    clock: Clock
    watch: Callable[[Tree], Awaitable[Source]]
