"""A view: everything `decide` may know of one workspace, and the actions it may ask for.

The hub builds a view from the database, the agents' statuses, the gateway's probes and the provider's answers. It reads
the workspace's row *last*, so that no status in the view can be newer than the row.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dumont.market.beliefs import Beliefs
from dumont.model.instance import Instance, Machine
from dumont.model.workspace import State, Workspace
from dumont.provider.base import Offer, Phase, Why
from dumont.wire.control import Status


class Voice(enum.Enum):
    """Who tells us of an instance.

    AGENT: its pulse link's beats (one whose `heard_ms_ago` exceeds 1,000 is not life). STREAM: the other side of its
    replication stream: of a primary, the standby's status; of a standby, the primary's PeerStatus. GATEWAY: the probe
    of a primary. PROVIDER: the machine's phase.
    """

    AGENT = "agent"
    STREAM = "stream"
    GATEWAY = "gateway"
    PROVIDER = "provider"


@dataclass(frozen=True)
class Witness:
    """What one voice says. `up` True: open; False: closed or refused; None: never open while we could have seen it.

    `silent_s` is the time since its last word, or, if there was none, since we have been listening; never longer than
    we have been awake (`detect.silence`). `detect` has a function that makes each kind of witness.
    """

    voice: Voice
    up: bool | None
    silent_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """One instance (any that is not GONE) and what was last observed of it. `why` is the provider's word for its end.

    `status` is its last one, however old; `status_age_s` the time since it came, in seconds.
    """

    instance: Instance
    phase: Phase = Phase.UNKNOWN
    why: Why = Why.UNTOLD
    status: Status | None = None
    status_age_s: float = 0.0
    witnesses: tuple[Witness, ...] = ()


@dataclass(frozen=True)
class Failures:
    """How often renting came to nothing in the last hour, as far as waiting can help, and when it last did."""

    times: int = 0
    last_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class View:
    """One workspace as it is now.

    `sightings` holds every instance of it that is not GONE, oldest first. `failovers_last_hour` counts promotions by
    failover, `give_ups_last_hour` those by giving a switchover up. `switch_began_at` is when the present `switching_to`
    was set (the time of its event, or of the hub's first sight of it). `failures` tells, for each kind of machine, of
    rents that the provider refused and of releases whose reason `is_failure`; a refusal of a host's offer is not
    counted, for that host is avoided. `branches` names the branches that the database holds.
    `told_of_no_offer` are kinds of which the timeline said lately that nobody offers one.
    `beliefs` is what is known of the market, hosts that failed this workspace among it; `restore_s` how long it took
    lately from the loss of a GPU until the next one worked, in seconds, None when it never happened.
    """

    workspace: Workspace
    sightings: tuple[Sighting, ...] = ()
    offers: tuple[Offer, ...] = ()
    failovers_last_hour: int = 0
    give_ups_last_hour: int = 0
    last_switchover_at: datetime | None = None
    switch_began_at: datetime | None = None
    failures: Mapping[Machine, Failures] = field(default_factory=dict)
    branches: tuple[str, ...] = ()
    told_of_no_offer: frozenset[Machine] = frozenset()
    beliefs: Beliefs = Beliefs()
    restore_s: float | None = None

    def sighting(self, instance_id: str) -> Sighting | None:
        """The sighting of that instance, or None."""
        return next((seen for seen in self.sightings if seen.instance.id == instance_id), None)

    @property
    def primary(self) -> Sighting | None:
        """The sighting of the row's primary; None when there is none (any more)."""
        return self.sighting(self.workspace.primary_id)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long things may take, in seconds. `lease_s` runs from the send time of a question that was answered."""

    lease_s: float = 2.0
    margin_s: float = 0.2
    """Added to the lease before silence of all channels decides."""
    status_fresh_s: float = 3.0
    """An older status proves nothing about the present."""
    status_now_s: float = 1.0
    """A primary's word against its standby counts only if it is no older (statuses come every 0.25 s)."""
    rejoin_s: float = 10.0
    """An agent that did not dial in again for so long, while we listened, is as silent as one that stopped."""
    start_grace_s: float = 3.0
    """After a promotion the new primary's ports may still be closed; that is not a failure."""
    standby_lost_s: float = 3.0
    """A standby silent or closed for longer is left out of the ack set."""
    refuse_grace_s: float = 3.0
    """A standby that still refuses so long after it was left out is replaced."""
    silent_replace_s: float = 10.0
    """A standby that is dead is replaced after so long, or at once if the provider says that it ended."""
    unreachable_s: float = 30.0
    """A standby whose stream is down for longer is replaced, even if its agent answers."""
    seal_timeout_s: float = 10.0
    """A switchover (beyond the policy's `switch_grace_s`) that takes longer is given up."""
    boot_timeout_s: float = 60.0
    """An instance that was never heard of for so long is replaced."""
    fence_timeout_s: float = 120.0
    """A fenced instance that is not heard of for longer is released, branch or not."""
    branch_timeout_s: float = 1200.0
    """A fenced instance that is connected may take so long to keep its branch."""
    settle_max_s: float = 300.0
    """The most that flapping can put off a switchover."""
    rent_backoff_s: float = 1.0
    """Doubled with each failed rent of the last hour, up to `settle_max_s`."""
    catch_up_commits_max: int = 8
    """A standby so many commits behind its primary's head may be switched to."""


TIMING = Timing()


class Reason(enum.StrEnum):
    """Why somebody is promoted.

    RESTORE: from the store. RECOVER: replicas know a higher epoch than the database. RESTART: the primary's machine
    started anew, and no other copy is left.
    """

    FIRST = "first"
    FAILOVER = "failover"
    SWITCHOVER = "switchover"
    GIVE_UP = "give_up"
    RESTORE = "restore"
    RECOVER = "recover"
    RESTART = "restart"


class ReleaseReason(enum.StrEnum):
    """Why an instance is let go."""

    EXTRA = "extra"
    DEAD = "dead"
    GONE = "gone"
    BOOT_TIMEOUT = "boot_timeout"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    BRANCH_SAVED = "branch_saved"
    FENCE_TIMEOUT = "fence_timeout"
    DELETED = "deleted"

    @property
    def is_failure(self) -> bool:
        """Whether the next rent of this workspace should wait a little longer for it."""
        return self in (ReleaseReason.BOOT_TIMEOUT, ReleaseReason.REFUSED, ReleaseReason.UNREACHABLE)


@dataclass(frozen=True)
class Rent:
    """Write an INTENDED instance down, then rent `offer` under its id."""

    machine: Machine
    offer: Offer


@dataclass(frozen=True)
class Promote:
    """Compare-and-set the row to this primary, epoch and ack set; then tell the agents."""

    instance_id: str
    epoch: int
    ack_set: frozenset[str]
    reason: Reason


@dataclass(frozen=True)
class ChangeAckSet:
    """Compare-and-set the row's ack set. `reason` in a word: `joined`, `exchanged`, `relieved`, `lost`, `refused`."""

    ack_set: frozenset[str]
    reason: str


@dataclass(frozen=True)
class BeginSwitch:
    """Compare-and-set the row's `switching_to`; the primary is asked to seal."""

    to: str


@dataclass(frozen=True)
class Fence:
    """Mark the instance's record lost and note the branch that its divergent files are to be kept under."""

    instance_id: str
    branch: str


@dataclass(frozen=True)
class Release:
    """Mark the instance RELEASING, ask the provider to end it (finding it by label if need be), GONE once confirmed.

    `why` is what its provider said of its end.
    """

    instance_id: str
    reason: ReleaseReason
    why: Why = Why.UNTOLD


@dataclass(frozen=True)
class Snapshot:
    """Ask the primary to bring its head to the store now."""


@dataclass(frozen=True)
class Become:
    """Save the workspace's state (through `model.workspace.move`) and since when there is a single copy."""

    state: State
    single_copy_since: datetime | None = None


@dataclass(frozen=True)
class Notify:
    """Tell the user: an event of that kind with these facts. Asked for only beside an action that changes a record."""

    kind: str
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict, hash=False)


Action = Rent | Promote | ChangeAckSet | BeginSwitch | Fence | Release | Snapshot | Become | Notify
"""Carried out in the order given. When a compare-and-set answers False the rest of the list is dropped and a new view
is taken. After any action that changed something, decide again at once."""
