"""What is decided about the way back to a GPU."""

from dataclasses import replace
from datetime import timedelta

import pytest

from dumont.control.view import (
    BeginSwitch,
    Fence,
    Promote,
    Reason,
    Sighting,
    View,
    Voice,
    Witness,
)
from dumont.model.commit import CommitId
from dumont.model.instance import Role
from dumont.model.policy import Policy
from dumont.model.workspace import State
from dumont.wire.control import PeerStatus
from tests.unit.views import (
    CHANNELS,
    KILLED,
    NOBODY,
    NOW,
    a_view,
    an_instance,
    do,
    following,
    heard,
    idle,
    leading,
    on_cpu,
    seen,
)


def caught_up(**others: object) -> View:
    return a_view(seen("g", following("g")), seen("c", leading("c"), witnesses=heard(*CHANNELS)), row=on_cpu(**others))


def test_a_caught_up_gpu_is_switched_to() -> None:
    """The CPU is only there to hold the place."""
    assert do(caught_up()) == [BeginSwitch("g")]


def test_who_wants_to_stay_on_the_cpu_stays() -> None:
    """The policy is the user's."""
    assert do(caught_up(policy=Policy(return_to_gpu=False))) == []


@pytest.mark.parametrize(
    ("failovers", "give_ups", "since_s", "switches"),
    [
        (0, 0, 1.9, False),
        (0, 0, 2.1, True),
        (1, 0, 3.9, False),
        (1, 0, 4.1, True),
        (2, 1, 15.9, False),
        (2, 1, 16.1, True),
        (60, 0, 299, False),
        (60, 0, 301, True),
    ],
)
def test_flapping_puts_the_switchover_off(failovers: int, give_ups: int, since_s: float, switches: bool) -> None:
    """Each failure of the last hour doubles the time to settle, up to five minutes."""
    view = replace(
        caught_up(promoted_at=NOW - timedelta(seconds=since_s)),
        failovers_last_hour=failovers,
        give_ups_last_hour=give_ups,
    )
    assert (do(view) == [BeginSwitch("g")]) is switches


def test_a_gpu_that_lags_is_not_switched_to() -> None:
    """The pause would be as long as what it still lacks."""
    lagging = leading("c", peers=(PeerStatus("g", True, CommitId(3, 91)),))
    view = a_view(seen("g", following("g")), seen("c", lagging, witnesses=heard(*CHANNELS)), row=on_cpu())
    assert do(view) == []


def switching(primary: Sighting, target: Sighting | None, began_s: float = 1.0) -> View:
    row = on_cpu(switching_to="g", state=State.SWITCHING)
    present = [primary, *([target] if target else [])]
    return a_view(*present, row=row, switch_began_at=NOW - timedelta(seconds=began_s))


SEALED = leading("c", ready=False, sealed=CommitId(3, 101), head=CommitId(3, 101))


def test_the_target_is_promoted_with_exactly_the_sealed_commit() -> None:
    """The former primary holds it too, so the new one starts with a full ack set."""
    view = switching(seen("c", SEALED), seen("g", following("g", head=CommitId(3, 101))))
    assert do(view) == [Promote("g", 4, frozenset({"c"}), Reason.SWITCHOVER)]


def test_the_target_waits_for_the_sealed_commit() -> None:
    """One commit less would lose what was acknowledged last."""
    assert do(switching(seen("c", SEALED), seen("g", following("g")))) == []
    assert do(switching(seen("c", leading("c")), seen("g", following("g")))) == []


def test_a_sealed_primary_that_died_meanwhile_is_left_out() -> None:
    """What it sealed is all there."""
    dead = seen("c", SEALED, witnesses=KILLED)
    view = switching(dead, seen("g", following("g", head=CommitId(3, 101))))
    assert do(view) == [Promote("g", 4, NOBODY, Reason.SWITCHOVER)]


def test_a_primary_that_dies_before_it_sealed_is_failed_over() -> None:
    """The target is in the ack set like any standby."""
    view = switching(seen("c", leading("c"), witnesses=KILLED), seen("g", following("g")))
    assert do(view) == [Promote("g", 4, NOBODY, Reason.FAILOVER), Fence("c", "c-e3")]


@pytest.mark.parametrize(
    ("target", "began_s", "kept"),
    [
        (None, 1.0, NOBODY),
        (seen("g", following("g"), witnesses=KILLED), 1.0, {"g"}),
        (seen("g", following("g", halted="the disk is full")), 1.0, {"g"}),
        (seen("g", following("g"), instance=an_instance("g", lost=True)), 1.0, NOBODY),
        (seen("g", following("g")), 12.1, {"g"}),
    ],
    ids=["gone", "dead", "halted", "lost", "too late"],
)
def test_a_switchover_that_fails_is_given_up_with_a_new_epoch(
    target: Sighting | None, began_s: float, kept: frozenset[str]
) -> None:
    """A sealed primary acknowledges nothing more in its epoch; only a new one lets it go on.

    Whoever holds what was acknowledged stays in the ack set: the primary's machine may have restarted just now.
    """
    assert do(switching(seen("c", SEALED), target, began_s)) == [Promote("c", 4, frozenset(kept), Reason.GIVE_UP)]


def test_who_restarted_as_the_switchover_was_given_up_to_it_is_failed_over() -> None:
    """It says so at its new epoch, in which it refused to lead; the target is in the ack set still."""
    refusing = seen("c", idle("c", 3, rebooted=True), witnesses=heard(*CHANNELS))
    decided = do(a_view(seen("g", following("g")), refusing, row=on_cpu(promoted_at=NOW)))
    assert decided == [Promote("g", 4, NOBODY, Reason.FAILOVER), Fence("c", "c-e3")]


def test_a_primary_that_can_neither_seal_nor_lead_is_failed_over() -> None:
    """Given up to it, the workspace would be lost, although the target holds everything that was acknowledged."""
    stuck = leading("c", ready=False, halted="the disk is full")
    decided = do(switching(seen("c", stuck), seen("g", following("g")), 12.1))
    assert decided == [Promote("g", 4, NOBODY, Reason.FAILOVER), Fence("c", "c-e3")]


@pytest.mark.parametrize("began_s", [1.0, 12.1])
def test_a_primary_that_restarted_during_a_switchover_is_failed_over(began_s: float) -> None:
    """It may lack what was acknowledged, which the target holds: giving up to it would be a loss."""
    restarted = leading("c", role=Role.NONE, ready=False, rebooted=True)
    decided = do(switching(seen("c", restarted), seen("g", following("g")), began_s))
    assert decided[0] == Promote("g", 4, NOBODY, Reason.FAILOVER)


def test_a_sealing_primary_whose_target_fails_is_not_taken_for_dead() -> None:
    """Its doors are shut for the switchover and its stream is closed by the target: its agent still answers."""
    witnesses = (Witness(Voice.AGENT, True), Witness(Voice.STREAM, False, 1.0), Witness(Voice.GATEWAY, False, 1.0))
    sealing = seen("c", leading("c", ready=False), witnesses=witnesses)
    target = seen("g", following("g", halted="an fsync failed"))
    assert do(switching(sealing, target)) == [Promote("c", 4, frozenset({"g"}), Reason.GIVE_UP)]
