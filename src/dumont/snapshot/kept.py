"""What a replica's disk holds: its promise, its head commit and the tree."""

from dataclasses import dataclass, field

import msgspec

from dumont.model.commit import Commit, CommitId
from dumont.snapshot.tree import Tree


class Promise(msgspec.Struct, frozen=True):
    """What a replica must never forget: the highest epoch it has seen, and the commit it sealed in it.

    `ack_version`: no ack set of this epoch that is older than that is to be used any more, if it leads.
    `unsure_epoch`: its machine restarted in that epoch, and since then its tree, which may lack what was acknowledged,
    was neither led nor replaced; 0 when it is not so.
    """

    epoch: int = 0
    sealed: CommitId | None = None
    ack_version: int = 0
    unsure_epoch: int = 0


class Pledge(msgspec.Struct, frozen=True):
    """A promise with the boot of the machine it was made in (Linux's `boot_id`; containers share their host's)."""

    promise: Promise
    boot_id: str


@dataclass(frozen=True)
class Kept:
    """What a disk holds after a start: `head` is None unless `tree` is exactly that commit.

    `rebooted`: the machine, not only our process, started anew since the promise; what was not fsynced may be gone.
    """

    promise: Promise = Promise()
    head: Commit | None = None
    tree: Tree = field(default_factory=Tree)
    rebooted: bool = False
