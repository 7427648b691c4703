"""A standby that is being taken back is exchanged while it lives: the new one joins beside it, then stands alone."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dumont.control.assign import assignment
from dumont.control.view import (
    BeginSwitch,
    ChangeAckSet,
    Fence,
    Promote,
    Reason,
    Release,
    ReleaseReason,
    Sighting,
    View,
)
from dumont.model.commit import CommitId
from dumont.model.instance import Instance, Role
from dumont.model.workspace import Workspace
from dumont.provider.base import Phase, Why
from dumont.wire.control import Peer, PeerStatus, Status
from tests.unit.views import (
    CHANNELS,
    KILLED,
    NOBODY,
    NOW,
    a_view,
    a_workspace,
    an_instance,
    closed,
    do,
    endpoints,
    following,
    heard,
    idle,
    leading,
    seen,
)

BOTH = frozenset({"c", "c2"})
HEAD = CommitId(3, 100)
TAKES_OVER = Promote("c", 4, NOBODY, Reason.FAILOVER)


def younger(**others: Any) -> Instance:
    """The record of the standby that was rented after `c`."""
    return an_instance("c2", created_at=NOW - timedelta(minutes=1), **others)


def leads(*peers: PeerStatus, **others: Any) -> Sighting:
    """The primary `g`, whose standbys are these."""
    status = leading(peers=peers or (PeerStatus("c", True, HEAD), PeerStatus("c2", True, HEAD)))
    witnesses = others.pop("witnesses", heard(*CHANNELS))
    return seen("g", replace_status(status, **others), witnesses=witnesses)


def replace_status(status: Status, **others: Any) -> Status:
    return Status(**{name: getattr(status, name) for name in status.__struct_fields__} | others)


def old(**others: Any) -> Sighting:
    """The standby `c`, which is being taken back."""
    return seen("c", following(leaving="preempted"), **others)


def new(status: Status | None = None, **others: Any) -> Sighting:
    return seen("c2", status or following("c2"), **{"instance": younger(), **others})


def both(**others: Any) -> Workspace:
    """The row when the new one has joined beside the old one."""
    return a_workspace(**{"ack_set": BOTH, **others})


def roles(view: View) -> dict[str, Role]:
    return {s.instance.id: assignment(view, s.instance.id).role for s in view.sightings}


def test_who_comes_for_a_standby_that_leaves_follows_beside_it() -> None:
    """It is caught up by the time the other one ends."""
    view = a_view(leads(), old(), new(idle("c2", 3)))
    assert roles(view) == {"g": Role.PRIMARY, "c": Role.STANDBY, "c2": Role.STANDBY}
    here = [Peer(one, endpoints(one), dial=True, keeper=True) for one in ("c", "c2")]
    assert assignment(view, "g").peers == tuple(here)
    assert assignment(view, "c2").peers == (Peer("g", endpoints("g"), dial=False),)


@pytest.mark.parametrize(
    "unfit",
    [
        new(idle("c2", 3, leaving="preempted")),
        new(idle("c2", 3), witnesses=KILLED),
        seen("c2", instance=younger()),
        new(idle("c2", 3, halted="the disk is full")),
        new(idle("c2", 3), instance=replace(younger(), created_at=NOW - timedelta(hours=1))),
    ],
    ids=["leaves too", "dead", "boots", "full", "older"],
)
def test_nobody_else_follows_beside_it(unfit: Sighting) -> None:
    """It would cost bandwidth, and never take the place: of two members the older may be promoted."""
    view = a_view(leads(), old(), unfit)
    assert roles(view)["c2"] is Role.NONE
    assert [action for action in do(view) if isinstance(action, ChangeAckSet)] == []


def test_the_exchange_goes_by_way_of_both() -> None:
    """At no moment does a barrier answer OK for what only one other machine than the next standby holds."""
    assert do(a_view(leads(), old(), new())) == [ChangeAckSet(BOTH, "joined")]
    assert do(a_view(leads(), old(), new(), row=both())) == [ChangeAckSet(frozenset({"c2"}), "exchanged")]
    after = a_workspace(ack_set=frozenset({"c2"}))
    done = a_view(leads(), old(), new(), row=after)
    assert do(done) == [Release("c", ReleaseReason.EXTRA, Why.PREEMPTED)]
    assert roles(done) == {"g": Role.PRIMARY, "c": Role.NONE, "c2": Role.STANDBY}


@pytest.mark.parametrize(
    "primary",
    [
        leads(PeerStatus("c", True, HEAD), PeerStatus("c2", True, CommitId(3, 91))),
        leads(PeerStatus("c", True, HEAD), PeerStatus("c2", True, CommitId(2, 100))),
        leads(PeerStatus("c", True, HEAD), PeerStatus("c2", False, HEAD)),
        leads(PeerStatus("c", True, HEAD), PeerStatus("c2", True, HEAD, silent_ms=2_100)),
        leads(PeerStatus("c", True, HEAD)),
        leads(ack_version=0),
        leads(ready=False),
    ],
    ids=["far behind", "of another epoch", "not connected", "silent", "not there", "unconfirmed", "not serving"],
)
def test_who_is_not_close_does_not_join(primary: Sighting) -> None:
    """Barriers would wait for it."""
    assert do(a_view(primary, old(), new())) == []


@pytest.mark.parametrize(
    "primary",
    [
        leads(ack_version=0),
        leads(PeerStatus("c", True, HEAD), PeerStatus("c2", True, CommitId(3, 99))),
    ],
    ids=["the primary may still use the set before", "it lacks what was answered OK"],
)
def test_the_old_one_stays_until_the_new_one_can_lack_nothing(primary: Sighting) -> None:
    """What the primary answered OK on the old one's word alone would be lost with the primary."""
    assert do(a_view(primary, old(), new(), row=both())) == []


def test_of_two_members_the_older_takes_over() -> None:
    """The primary may not have heard of the younger one, and have answered OK without it."""
    ahead = new(following("c2", head=CommitId(3, 200), applied=CommitId(3, 200)))
    view = a_view(leads(witnesses=KILLED), old(), ahead, row=both())
    assert do(view) == [TAKES_OVER, Fence("g", "g-e3")]
    gone = a_view(leads(witnesses=KILLED), old(witnesses=KILLED), ahead, row=both())
    assert [action for action in do(gone) if isinstance(action, Promote)] == []
    unknown = a_view(leads(witnesses=KILLED), ahead, row=both())
    assert [action for action in do(unknown) if isinstance(action, Promote)] == []


def test_a_primary_that_restarted_during_the_exchange_is_replaced_by_the_older() -> None:
    """As by any member; only once that one has ended for good is there no other copy."""
    restarted = seen("g", leading(role=Role.NONE, ready=False, rebooted=True), witnesses=heard(*CHANNELS))
    assert do(a_view(restarted, old(), new(), row=both()))[0] == TAKES_OVER
    ended = old(witnesses=closed(*CHANNELS), phase=Phase.GONE)
    assert do(a_view(restarted, ended, new(), row=both())) == [Promote("g", 4, NOBODY, Reason.RESTART)]


def test_a_new_standby_that_fails_leaves_the_old_one_as_it_was() -> None:
    """The old one was in every set that the primary may be using."""
    primary = leads(PeerStatus("c", True, HEAD), PeerStatus("c2", False, HEAD, silent_ms=4_000))
    lost = a_view(primary, old(), new(witnesses=KILLED), row=both())
    assert do(lost) == [ChangeAckSet(frozenset({"c"}), "lost")]


def test_an_old_one_that_ends_early_leaves_its_place_to_who_holds_everything() -> None:
    """Without a moment in which there is a single copy, unless nobody knows what the new one lacks."""
    ended = old(witnesses=closed(*CHANNELS), phase=Phase.GONE)
    gone = PeerStatus("c", False, HEAD, silent_ms=4_000)
    holds = leads(gone, PeerStatus("c2", True, HEAD))
    assert do(a_view(holds, ended, new(), row=both())) == [ChangeAckSet(frozenset({"c2"}), "exchanged")]
    unheard = new(status_age_s=5.0)
    assert do(a_view(holds, ended, unheard, row=both())) == [ChangeAckSet(frozenset({"c2"}), "exchanged")]
    unconfirmed = leads(gone, PeerStatus("c2", True, HEAD), ack_version=0)
    assert do(a_view(unconfirmed, ended, new(), row=both())) == [ChangeAckSet(NOBODY, "lost")]
    lacks = leads(gone, PeerStatus("c2", True, CommitId(3, 99)))
    assert do(a_view(lacks, ended, new(), row=both())) == []


def test_a_primary_that_is_taken_back_is_switched_from_once_the_exchange_is_over() -> None:
    """To the one that stays: the other will end as well."""
    leaves = leads(leaving="preempted")
    assert do(a_view(leaves, old(), new(), row=both())) == [ChangeAckSet(frozenset({"c2"}), "exchanged")]
    row = a_workspace(ack_set=frozenset({"c2"}))
    assert do(a_view(leaves, old(), new(), row=row)) == [BeginSwitch("c2")]


def test_nobody_is_switched_to_while_two_are_in_the_ack_set() -> None:
    """A standby that restarted has forgotten its notice; one of both is on its way out all the same."""
    row = a_workspace(ack_set=BOTH, promoted_at=NOW - timedelta(hours=1))
    early = a_view(leads(leaving="preempted", ack_version=0), seen("c", following()), new(), row=row)
    assert [action for action in do(early) if isinstance(action, BeginSwitch | ChangeAckSet)] == []
    forgot = a_view(leads(leaving="preempted"), seen("c", following()), new(), row=row)
    assert do(forgot) == [ChangeAckSet(frozenset({"c2"}), "exchanged")]


def test_a_gpu_standby_that_leaves_is_exchanged_for_the_next_gpu() -> None:
    """After a switchover to the CPU the former primary is the standby until it ends."""
    peers = (PeerStatus("g", True, HEAD), PeerStatus("g2", True, HEAD))
    cpu = seen("c", leading("c", peers=peers), witnesses=heard(*CHANNELS))
    leaves = seen("g", following("g", leaving="preempted"))
    comes = seen("g2", following("g2"), instance=an_instance("g2", created_at=NOW - timedelta(minutes=1)))
    row = a_workspace(primary_id="c", ack_set=frozenset({"g"}))
    assert do(a_view(cpu, leaves, comes, row=row)) == [ChangeAckSet(frozenset({"g", "g2"}), "joined")]
