"""The replication stream: what a primary and a standby say to each other.

The GPU side dials whichever role it plays; the direction of data does not depend on who dialled. Blobs of a commit
come before its record; the record makes them count.
"""

import msgspec

from dumont.model.commit import Change, Commit, CommitId

VERSION = 1
"""Both sides must speak the same version; a mismatch is refused in words."""


class StreamHello(msgspec.Struct, frozen=True, tag="hello"):
    """First message of either side. `head` and `root` are the sender's newest whole commit, if it has one."""

    version: int
    workspace: str
    instance_id: str
    epoch: int
    head: CommitId | None
    root: bytes


class Manifest(msgspec.Struct, frozen=True, tag="manifest"):
    """Standby → primary, after a primary's hello that showed another root: the tree that the standby has."""

    entries: tuple[Change, ...]
    last: bool


class Blob(msgspec.Struct, frozen=True, tag="blob"):
    """One chunk that the next commit needs."""

    id: bytes
    data: bytes


class CommitPart(msgspec.Struct, frozen=True, tag="part"):
    """The first changes of the next commit, when they are too many for one message."""

    changes: tuple[Change, ...]


class CommitMessage(msgspec.Struct, frozen=True, tag="commit"):
    """A whole commit, as changes from the tree with `parent_root`. On a link, what parts brought before comes first."""

    commit: Commit
    parent_root: bytes
    changes: tuple[Change, ...]


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """Standby → primary: this commit and all before it are fsynced here, at this epoch."""

    id: CommitId


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """Standby → primary: no acknowledgement, and why. `epoch` is the highest the standby persisted."""

    epoch: int
    reason: str
    detail: str = ""


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Primary → standby, a few times a second. `sent_at` is the primary's own monotonic clock, echoed unread."""

    epoch: int
    sent_at: float


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """Standby → primary: still following this epoch."""

    epoch: int
    sent_at: float


StreamMessage = StreamHello | Manifest | Blob | CommitPart | CommitMessage | Ack | Refusal | Ping | Pong
