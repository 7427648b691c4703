"""What is decided in each situation, one by one."""

from dataclasses import replace
from datetime import timedelta

import pytest

from dumont.control.decide import decide
from dumont.control.view import (
    Become,
    ChangeAckSet,
    Failures,
    Fence,
    Promote,
    Reason,
    Release,
    ReleaseReason,
    Rent,
    Sighting,
    View,
    Voice,
    Witness,
)
from dumont.model.commit import CommitId
from dumont.model.instance import InstanceState, Machine, Role
from dumont.model.policy import Policy
from dumont.model.workspace import State, Workspace
from dumont.provider.base import Phase
from dumont.wire.control import PeerStatus
from tests.unit.views import (
    CHANNELS,
    CUT_OFF,
    KILLED,
    NOBODY,
    NOW,
    OFFERS,
    a_view,
    a_workspace,
    an_instance,
    booting,
    closed,
    do,
    following,
    heard,
    idle,
    leading,
    on_cpu,
    seen,
    seen_following,
    seen_leading,
    silent,
    told,
)


def launching(**others: object) -> Workspace:
    fields = {"state": State.LAUNCHING, "epoch": 0, "primary_id": "", "ack_set": NOBODY, "promoted_at": None}
    return a_workspace(**{**fields, **others})


def degraded(**others: object) -> Workspace:
    since = NOW - timedelta(seconds=20)
    return a_workspace(**{"ack_set": NOBODY, "state": State.DEGRADED, "single_copy_since": since, **others})


# --- all is well


def test_a_healthy_workspace_is_left_alone() -> None:
    """Deciding again and again must not have any effect."""
    assert decide(a_view(), NOW) == []


def test_a_deleted_workspace_is_left_alone() -> None:
    """Its record stays for its epochs."""
    assert decide(a_view(row=a_workspace(state=State.DELETED)), NOW) == []


# --- launch


def test_a_launch_rents_the_cheapest_machine_of_each_kind() -> None:
    """One GPU and one CPU are the workspace's two copies."""
    cheapest = {
        rent.machine: rent.offer.price_micros_per_hour
        for rent in do(View(workspace=launching(), offers=OFFERS))
        if isinstance(rent, Rent)
    }
    assert cheapest == {"gpu": 400_000, "cpu": 10_000}


def test_nothing_is_rented_above_the_policys_price() -> None:
    """The policy is the user's purse."""
    row = launching(policy=Policy(gpu_price_micros_per_hour_max=399_999))
    assert [rent.machine for rent in do(View(workspace=row, offers=OFFERS)) if isinstance(rent, Rent)] == ["cpu"]


def test_what_is_intended_is_not_rented_again() -> None:
    """The intent is in the database before the provider answers (I4)."""
    intended = [booting(one, instance=an_instance(one, state=InstanceState.INTENDED, created_at=NOW)) for one in "gc"]
    assert do(a_view(*intended, row=launching())) == []


def test_the_first_gpu_that_is_there_is_promoted_at_epoch_one() -> None:
    """The empty tree needs no second copy yet."""
    view = a_view(seen("g", idle("g")), booting("c"), row=launching())
    assert do(view) == [Promote("g", 1, NOBODY, Reason.FIRST)]


def test_a_cpu_alone_is_not_promoted_at_launch() -> None:
    """The user asked for a GPU."""
    assert do(a_view(booting("g"), seen("c", idle("c")), row=launching())) == []


def test_a_name_that_was_used_before_goes_on_above_its_old_epochs() -> None:
    """The database keeps the epoch of a deleted workspace."""
    view = a_view(seen("g", idle("g")), booting("c"), row=launching(epoch=7))
    assert do(view) == [Promote("g", 8, NOBODY, Reason.FIRST)]


# --- joining and leaving


def test_a_standby_joins_once_it_holds_all_that_was_acknowledged() -> None:
    """From then on barriers need it."""
    assert do(a_view(row=degraded())) == [ChangeAckSet(frozenset({"c"}), "joined")]


@pytest.mark.parametrize(
    "status",
    [
        leading(ack_version=0),
        leading(epoch=2),
        leading(ready=False),
        leading(peers=()),
        leading(peers=(PeerStatus("c", True, CommitId(3, 99)),)),
        leading(peers=(PeerStatus("c", True, CommitId(2, 100)),)),
        leading(peers=(PeerStatus("c", False, CommitId(3, 100)),)),
        leading(peers=(PeerStatus("c", True, None),)),
    ],
    ids=["unconfirmed", "old epoch", "not ready", "no peer", "behind", "acked before", "disconnected", "never acked"],
)
def test_a_standby_does_not_join_before(status: object) -> None:
    """It could be promoted without something that was answered OK (I1)."""
    view = a_view(seen_leading(status=status), seen_following(), row=degraded())
    assert not [action for action in do(view) if isinstance(action, ChangeAckSet)]


def test_a_single_copy_is_said_loudly_and_since_when() -> None:
    """The user decides what to do with that risk."""
    view = a_view(
        seen_leading(status=leading(peers=())), booting("c"), row=degraded(state=State.RUNNING, single_copy_since=None)
    )
    assert do(view) == [Become(State.DEGRADED, NOW)]
    assert told(view) == ["degraded"]


@pytest.mark.parametrize(
    ("peer", "why"),
    [
        (PeerStatus("c", False, CommitId(3, 90), silent_ms=3_100), "lost"),
        (PeerStatus("c", True, CommitId(3, 90), silent_ms=3_100), "lost"),
        (PeerStatus("c", False, CommitId(3, 90), refusal="DiskFull: no space left", silent_ms=10), "refused"),
        (PeerStatus("c", False, CommitId(3, 90), refusal="NotDurable: fsync failed", silent_ms=10), "refused"),
    ],
)
def test_a_lost_or_refusing_standby_is_left_out(peer: PeerStatus, why: str) -> None:
    """Barriers are unknown until then, and stay so: left out, it can't be promoted any more."""
    view = a_view(seen_leading(status=leading(peers=(peer,))), seen_following())
    assert do(view) == [ChangeAckSet(NOBODY, why)]


def test_a_standby_that_says_it_halted_is_left_out() -> None:
    """A full disk is a refusal, in words."""
    view = a_view(seen_leading(), seen_following(status=following(halted="the disk is full")))
    assert do(view) == [ChangeAckSet(NOBODY, "refused")]


def test_a_short_silence_of_the_standby_is_borne() -> None:
    """A new standby costs minutes; a hiccup costs milliseconds."""
    for peer in (
        PeerStatus("c", True, silent_ms=2_900),
        PeerStatus("c", False, refusal="the link broke", silent_ms=50),
    ):
        assert do(a_view(seen_leading(status=leading(peers=(peer,))), seen_following())) == []


def test_a_standby_that_only_the_server_cannot_hear_stays() -> None:
    """The data path never depends on the server."""
    for agent in (silent(Voice.AGENT, silent_s=60), closed(Voice.AGENT, silent_s=60)):
        assert (
            do(a_view(seen_leading(), seen_following(status_age_s=60.0, witnesses=agent + heard(Voice.STREAM)))) == []
        )


def test_nobody_is_left_out_on_the_word_of_a_primary_that_is_not_heard() -> None:
    """It may be acknowledging with that very standby."""
    old = leading(peers=(PeerStatus("c", False, silent_ms=60_000),))
    view = a_view(
        seen_leading(status=old, status_age_s=4.0), seen_following(witnesses=closed(Voice.AGENT, Voice.STREAM))
    )
    assert do(view) == []


def test_a_standby_is_not_left_out_on_the_word_of_a_primary_that_has_just_died() -> None:
    """Its last status is a second old and complains of the standby: yet that standby holds everything."""
    complaint = leading(peers=(PeerStatus("c", False, CommitId(3, 100), silent_ms=3_500),))
    for status_age_s, agent in ((0.5, closed(Voice.AGENT)), (1.5, heard(Voice.AGENT)), (0.5, silent(Voice.AGENT))):
        dying = seen_leading(status=complaint, status_age_s=status_age_s, witnesses=agent + heard(Voice.GATEWAY))
        assert do(a_view(dying, seen_following())) == []


def test_a_member_of_the_ack_set_is_not_let_go_before_it_is_left_out() -> None:
    """While it is in the set, it may be all that is left (I5)."""
    dead = seen_following(phase=Phase.STOPPED, witnesses=closed(Voice.AGENT, Voice.STREAM, silent_s=60))
    assert do(a_view(seen_leading(), dead)) == [ChangeAckSet(NOBODY, "lost")]
    assert do(a_view(seen_leading(witnesses=heard(Voice.GATEWAY)), dead)) == []


def test_an_engine_that_started_anew_does_not_cost_the_standby() -> None:
    """It knows no peer yet; the standby tells how long the stream has really been down."""
    view = a_view(
        seen_leading(status=leading(peers=())), seen_following(status=following(stream_up=False, stream_silent_ms=300))
    )
    assert do(view) == []


def test_a_dead_standby_is_released_and_another_rented_at_once_when_the_provider_confirms() -> None:
    """Every second with a single copy is a risk."""
    dead = seen_following(phase=Phase.STOPPED, witnesses=closed(Voice.AGENT, Voice.STREAM))
    actions = do(a_view(seen_leading(), dead, row=degraded()))
    assert actions == [Release("c", ReleaseReason.DEAD), Rent(OFFERS[3].machine, OFFERS[3])]


def test_a_silent_standby_is_given_some_seconds() -> None:
    """A network that hiccups should not cost a full copy."""
    for silent_s, expected in ((9.0, []), (11.0, [ReleaseReason.DEAD])):
        quiet = seen_following(witnesses=silent(Voice.AGENT, Voice.STREAM, silent_s=silent_s))
        view = a_view(seen_leading(status=leading(peers=())), quiet, row=degraded())
        assert [action.reason for action in do(view) if isinstance(action, Release)] == expected


def test_a_standby_that_goes_on_refusing_is_replaced() -> None:
    """A larger or healthier machine may hold the copy."""
    view = a_view(seen_leading(), seen_following(status=following(halted="the disk is full")), row=degraded())
    assert do(view) == [Release("c", ReleaseReason.REFUSED), Rent(OFFERS[3].machine, OFFERS[3])]


def test_a_standby_that_the_primary_cannot_reach_is_replaced() -> None:
    """Both sides are there, and the way between them is not."""
    row = degraded(single_copy_since=NOW - timedelta(seconds=40))
    peer = PeerStatus("c", False, silent_ms=31_000)
    apart = heard(Voice.AGENT) + closed(Voice.STREAM, silent_s=31.0)
    view = a_view(seen_leading(status=leading(peers=(peer,))), seen_following(witnesses=apart), row=row)
    assert do(view)[0] == Release("c", ReleaseReason.UNREACHABLE)


# --- failover

TAKEN_OVER = [Promote("c", 4, NOBODY, Reason.FAILOVER), Fence("g", "g-e3")]


@pytest.mark.parametrize(
    "witnesses", [KILLED, CUT_OFF, closed(Voice.AGENT, Voice.STREAM), silent(Voice.AGENT, Voice.STREAM)]
)
@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.UNKNOWN, Phase.STOPPED])
def test_a_dead_primary_is_replaced_by_the_member_of_the_ack_set(witnesses: tuple[Witness, ...], phase: Phase) -> None:
    """Whatever the provider says or fails to say; the former primary is fenced in the same breath."""
    assert do(a_view(seen_leading(witnesses=witnesses, phase=phase), seen_following())) == TAKEN_OVER


def test_a_primary_that_has_no_record_any_more_is_dead() -> None:
    """Nothing can be fenced then."""
    assert do(a_view(seen_following())) == [Promote("c", 4, NOBODY, Reason.FAILOVER)]


@pytest.mark.parametrize(
    "witnesses",
    [
        closed(Voice.AGENT) + heard(Voice.STREAM, Voice.GATEWAY),
        closed(Voice.GATEWAY) + heard(Voice.AGENT, Voice.STREAM),
        closed(Voice.PROVIDER) + heard(*CHANNELS),
        silent(Voice.AGENT, Voice.GATEWAY, silent_s=60) + heard(Voice.STREAM),
        silent(*CHANNELS, silent_s=2.1),
        silent(Voice.AGENT, silent_s=60),
        (),
    ],
)
def test_a_suspicion_is_not_a_failover(witnesses: tuple[Witness, ...]) -> None:
    """One witness never decides."""
    assert do(a_view(seen_leading(witnesses=witnesses), seen_following())) == []


@pytest.mark.parametrize(
    "standby",
    [
        seen_following(status=following(head=None)),
        seen_following(status=following(halted="fsync failed")),
        seen_following(status_age_s=3.5),
        seen_following(status=None),
        seen_following(witnesses=closed(Voice.AGENT) + heard(Voice.STREAM)),
    ],
    ids=["no head", "halted", "stale", "never heard", "closed just now"],
)
def test_a_standby_that_may_not_be_well_is_waited_for(standby: Sighting) -> None:
    """Promoting a machine that is dead as well would only lose the way back."""
    view = a_view(seen_leading(witnesses=KILLED), standby)
    assert do(view) == [Become(State.FAILING_OVER)]


def test_a_standby_whose_pulse_alone_broke_is_promoted() -> None:
    """Its engine goes on reporting."""
    pulse_gone = closed(Voice.AGENT, silent_s=4.0) + heard(Voice.STREAM)
    assert do(a_view(seen_leading(witnesses=KILLED), seen_following(witnesses=pulse_gone))) == TAKEN_OVER


def test_a_standby_that_was_left_out_is_never_promoted() -> None:
    """It may lack what was acknowledged after it (I2); the primary may yet come back."""
    view = a_view(seen_leading(witnesses=CUT_OFF), seen_following(), row=degraded())
    since = degraded().single_copy_since
    assert do(view) == [Become(State.LOST, since)]
    assert told(view) == ["lost"]


def test_a_primary_that_comes_back_goes_on() -> None:
    """Nobody was promoted meanwhile, so its epoch still stands."""
    view = a_view(row=a_workspace(state=State.LOST))
    assert do(view) == [Become(State.RUNNING)]


def test_after_a_promotion_doors_may_be_closed_for_a_moment() -> None:
    """A gateway that finds them closed is no witness of a failure yet."""
    row = a_workspace(promoted_at=NOW - timedelta(seconds=1), epoch=4)
    starting = seen_leading(status=leading(epoch=3, ready=False), witnesses=KILLED)
    view = a_view(starting, seen_following(), row=row)
    assert not [action for action in do(view) if isinstance(action, Promote)]
    later = replace(view, workspace=replace(row, promoted_at=NOW - timedelta(seconds=4)))
    assert [type(action) for action in do(later)] == [Promote, Fence]


def test_a_primary_that_says_it_cannot_go_on_is_replaced() -> None:
    """It is no guess of somebody else's: its disk failed, or its machine started anew and may have lost writes."""
    for status in (leading(ready=False, halted="fsync failed"), leading(ready=False, role=Role.NONE, rebooted=True)):
        assert do(a_view(seen_leading(status=status), seen_following())) == TAKEN_OVER
    assert do(a_view(seen_leading(status=leading(halted="a warning from before")), seen_following())) == []


def test_a_single_copy_whose_machine_started_anew_goes_on_loudly() -> None:
    """It is all there is."""
    restarted = seen_leading(status=leading(ready=False, role=Role.NONE, rebooted=True))
    view = a_view(restarted, row=degraded())
    assert do(view) == [Promote("g", 4, NOBODY, Reason.RESTART)]
    assert told(view) == ["restarted_single_copy"]


def test_after_a_failover_the_missing_kind_is_rented() -> None:
    """The CPU leads; a GPU is to come back."""
    lost = seen("g", leading(), instance=an_instance("g", lost=True, branch="g-e3"), witnesses=silent(Voice.AGENT))
    row = degraded(epoch=4, primary_id="c")
    view = a_view(lost, seen("c", leading("c", epoch=4, peers=())), row=row)
    assert do(view) == [Rent(OFFERS[1].machine, OFFERS[1])]


def test_a_crash_between_promotion_and_fence_is_made_good() -> None:
    """The former primary is found by what it says, or by its silence since before the promotion."""
    row = degraded(epoch=4, primary_id="c", promoted_at=NOW - timedelta(seconds=30))
    now_leads = seen("c", leading("c", epoch=4, peers=()))
    back = seen("g", leading())
    halted = seen("g", idle("g", epoch=4, halted="holds files that nobody acknowledged"))
    silent_since = seen("g", None, witnesses=silent(Voice.AGENT, Voice.STREAM, silent_s=12.0))
    for former, branch in ((back, "g-e3"), (halted, "g-e4"), (silent_since, "g-e4")):
        assert do(a_view(former, now_leads, row=row))[0] == Fence("g", branch)


# --- fenced instances


def fenced(**others: object) -> View:
    """CPU `c` leads, fenced `g` is still there, `g2` has taken its place."""
    lost = an_instance("g", lost=True, branch="g-e3")
    fields = {"instance": lost, "witnesses": heard(Voice.AGENT)}
    row = on_cpu(ack_set=frozenset({"g2"}), policy=Policy(return_to_gpu=False))
    rest = (seen("c", leading("c", peers=(PeerStatus("g2", True, CommitId(3, 100)),))), seen("g2", following("g2")))
    return a_view(seen("g", idle("g", 3), **{**fields, **others}), *rest, row=row)


def test_a_fenced_instance_stays_until_its_branch_is_kept() -> None:
    """Its files may be dear to somebody."""
    view = fenced()
    assert do(view) == []
    assert do(replace(view, branches=("g-e3",))) == [Release("g", ReleaseReason.BRANCH_SAVED)]


def test_a_fenced_instance_that_ended_holds_nothing_any_more() -> None:
    """The provider says so, and its agent does not contradict."""
    assert do(fenced(phase=Phase.GONE, witnesses=closed(Voice.AGENT))) == [Release("g", ReleaseReason.GONE)]
    assert do(fenced(phase=Phase.GONE)) == []


def test_a_fenced_instance_that_stays_away_is_given_up_with_a_word() -> None:
    """Its bill runs on, but not for ever."""
    assert do(fenced(witnesses=silent(Voice.AGENT, silent_s=119.0))) == []
    view = fenced(witnesses=silent(Voice.AGENT, silent_s=121.0))
    assert (do(view), told(view)) == ([Release("g", ReleaseReason.FENCE_TIMEOUT)], ["branch_given_up"])


def test_nothing_fenced_is_let_go_before_its_successor_serves() -> None:
    """Destruction is last (I5)."""
    view = replace(fenced(), branches=("g-e3",))
    starting = replace(view.sightings[1], status=leading("c", ready=False))
    assert do(replace(view, sightings=(view.sightings[0], starting, view.sightings[2]))) == []


# --- surplus, and machines that never came


def test_a_second_machine_of_a_kind_is_let_go() -> None:
    """An intent that was repeated by two servers costs twice."""
    assert do(a_view(seen_leading(), seen_following(), seen("g2", idle("g2", 3)))) == [
        Release("g2", ReleaseReason.EXTRA)
    ]
    assert do(a_view(seen_leading(), seen_following(), booting("c2"))) == [Release("c2", ReleaseReason.EXTRA)]


def test_of_two_machines_that_boot_the_first_to_come_stays() -> None:
    """Until then nobody knows which of them works."""
    assert do(a_view(booting("g"), booting("g2"), booting("c"), row=launching())) == []
    view = a_view(seen_leading(status=leading(peers=())), booting("c"), seen("c2", idle("c2", 3)), row=degraded())
    assert do(view) == [Release("c", ReleaseReason.EXTRA)]


def test_a_machine_that_never_comes_is_replaced() -> None:
    """A host may be broken from the start."""
    view = a_view(seen_leading(), booting("c", age_s=61.0), row=degraded())
    assert do(view) == [Release("c", ReleaseReason.BOOT_TIMEOUT), Rent(OFFERS[3].machine, OFFERS[3])]
    assert do(a_view(seen_leading(), booting("c", age_s=59.0), row=degraded())) == []


def test_a_restarted_server_waits_for_machines_to_come_back() -> None:
    """It has heard of nobody yet; that is not their fault."""
    listened = (Witness(Voice.AGENT, None, 5.0), Witness(Voice.STREAM, None, 5.0))
    assert do(a_view(seen_leading(), seen("c", None, witnesses=listened), row=degraded())) == []


def test_failed_rents_are_damped() -> None:
    """A market without capacity is not asked ten times a second."""
    for times, since_s, rents in ((1, 1.9, 0), (1, 2.1, 2), (3, 7.9, 0), (3, 8.1, 2), (50, 299, 0), (50, 301, 2)):
        at = NOW - timedelta(seconds=since_s)
        view = View(workspace=launching(), offers=OFFERS, failures=dict.fromkeys(Machine, Failures(times, at)))
        assert len(do(view)) == rents


def test_without_an_offer_nothing_is_rented() -> None:
    """The next pass looks again."""
    assert do(View(workspace=launching())) == []
