"""Properties of decide, over any view and over whole lives of a tiny world."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dumont.control.decide import decide
from dumont.control.view import (
    TIMING,
    Become,
    BeginSwitch,
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
from dumont.model.workspace import MOVES, State, Wanted
from dumont.provider.base import Phase
from dumont.wire.control import PeerStatus, Status
from tests.unit.tiny_world import World, run
from tests.unit.views import CHANNELS, NOW, OFFERS, a_workspace, an_instance, endpoints, following, leading, seen

IDS = ("g", "c", "g2", "c2")
ANY_VIEW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ANY_LIFE = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

commits = st.builds(CommitId, st.integers(2, 3), st.integers(1, 5))
seconds = st.sampled_from([0.0, 0.5, 2.1, 2.5, 4.0, 12.0, 40.0, 70.0, 130.0])
moments = st.one_of(st.none(), st.builds(lambda s: NOW - timedelta(seconds=s), seconds))


def peers() -> st.SearchStrategy[tuple[PeerStatus, ...]]:
    peer = st.builds(
        PeerStatus,
        st.sampled_from(IDS),
        st.booleans(),
        st.one_of(st.none(), commits),
        st.sampled_from(["", "", "DiskFull: no room"]),
        st.sampled_from([0, 500, 4000]),
    )
    return st.lists(peer, max_size=2).map(tuple)


@st.composite
def statuses(draw: st.DrawFn, instance_id: str) -> Status:
    some_commit = st.one_of(st.none(), commits)
    return Status(
        instance_id=instance_id,
        epoch=draw(st.sampled_from([2, 3, 3, 3, 3, 4])),
        role=draw(st.sampled_from(list(Role))),
        endpoints=endpoints(instance_id),
        ready=draw(st.booleans()),
        head=draw(some_commit),
        ack_version=draw(st.integers(0, 1)),
        ok_seq=draw(st.integers(0, 5)),
        peers=draw(peers()),
        sealed=draw(st.one_of(st.none(), st.none(), commits)),
        stream_up=draw(st.booleans()),
        stream_seen=draw(st.booleans()),
        stream_silent_ms=draw(st.sampled_from([0, 100, 2500])),
        halted=draw(st.sampled_from(["", "", "", "the disk is full"])),
        leaving=draw(st.sampled_from(["", "", "", "preempted"])),
    )


@st.composite
def sightings(draw: st.DrawFn, instance_id: str) -> Sighting:
    phase = draw(st.sampled_from(list(Phase)))
    up = {Phase.GONE: False, Phase.STOPPED: False, Phase.UNKNOWN: None}.get(phase, True)
    channels = [
        Witness(voice, draw(st.sampled_from([True, True, False, None])), draw(seconds))
        for voice in (Voice.AGENT, Voice.STREAM, Voice.GATEWAY)
        if draw(st.booleans())
    ]
    lost = draw(st.sampled_from([False, False, False, True]))
    return Sighting(
        instance=an_instance(
            instance_id,
            state=draw(st.sampled_from([InstanceState.RENTED, InstanceState.RENTED, *InstanceState][:-1])),
            lost=lost,
            branch=f"{instance_id}-e2" if lost else "",
            created_at=NOW - timedelta(seconds=draw(seconds)),
        ),
        phase=phase,
        status=draw(st.one_of(st.none(), statuses(instance_id))),
        status_age_s=draw(seconds),
        witnesses=(*channels, Witness(Voice.PROVIDER, up)),
    )


@st.composite
def any_views(draw: st.DrawFn) -> View:
    """Views that need not make sense: databases and agents may say anything."""
    some_id = st.sampled_from(["", *IDS])
    ack_set = frozenset(draw(st.lists(st.sampled_from(IDS), max_size=2)))
    primary_id = draw(st.sampled_from(["", *(one for one in IDS if one not in ack_set)]))
    row = a_workspace(
        primary_id=primary_id,
        ack_set=ack_set if primary_id else frozenset(),
        ack_version=draw(st.integers(0, 1)),
        switching_to=draw(st.one_of(st.just(""), some_id)) if primary_id else "",
        state=draw(st.sampled_from(list(State))),
        wanted=draw(st.sampled_from([Wanted.RUNNING, Wanted.RUNNING, Wanted.DELETED])),
        promoted_at=draw(moments),
        single_copy_since=draw(moments),
        stored=draw(st.one_of(st.none(), commits)),
    )
    present = [draw(sightings(one)) for one in IDS if draw(st.booleans())]
    return View(
        workspace=row,
        sightings=tuple(present),
        offers=OFFERS if draw(st.booleans()) else (),
        failovers_last_hour=draw(st.integers(0, 3)),
        switch_began_at=draw(moments),
        failures={kind: Failures(draw(st.integers(0, 3)), draw(moments)) for kind in Machine},
        branches=tuple(draw(st.lists(st.sampled_from(["g-e2", "c-e2"]), max_size=1))),
    )


@st.composite
def likely_views(draw: st.DrawFn) -> View:
    """Views near the turning points: a workspace that runs, and a few things that are not as they should be."""
    leader, other = draw(st.sampled_from([("g", "c"), ("c", "g")]))
    switching = draw(st.booleans()) and leader == "c"
    row = a_workspace(
        primary_id=leader,
        ack_set=frozenset() if draw(st.booleans()) and not switching else frozenset({other}),
        switching_to=other if switching else "",
        state=draw(st.sampled_from([State.RUNNING, State.DEGRADED, State.FAILING_OVER, State.LOST, State.SWITCHING])),
        stored=draw(st.sampled_from([None, CommitId(3, 90)])),
    )
    head = CommitId(3, 100)
    acked = draw(st.sampled_from([head, head, CommitId(3, 99), CommitId(2, 100), None]))
    leads = leading(
        leader,
        peers=(PeerStatus(other, draw(st.booleans()), acked, silent_ms=draw(st.sampled_from([0, 0, 4000]))),),
        ack_version=draw(st.sampled_from([1, 1, 0])),
        sealed=head if switching and draw(st.booleans()) else None,
        ok_seq=draw(st.sampled_from([99, 100])),
    )
    follows = following(other, head=draw(st.sampled_from([head, head, CommitId(3, 99), None])))
    found = [
        seen(leader, leads, witnesses=draw(witnesses(CHANNELS)), phase=draw(phases)),
        seen(other, follows, witnesses=draw(witnesses(CHANNELS[:2])), phase=draw(phases)),
    ]
    found += [draw(sightings(one)) for one in ("g2", "c2") if draw(st.sampled_from([True, False, False]))]
    keep = draw(st.sampled_from([2, 2, 2, 1]))
    return View(workspace=row, sightings=tuple(found[:keep] + found[2:]), offers=OFFERS, switch_began_at=draw(moments))


phases = st.sampled_from([Phase.RUNNING, Phase.RUNNING, Phase.UNKNOWN, Phase.STOPPED])


@st.composite
def witnesses(draw: st.DrawFn, voices: tuple[Voice, ...]) -> tuple[Witness, ...]:
    """All well, or all ill, or each as it comes."""
    well, ill = (
        st.sampled_from([(True, 0.1)]),
        st.sampled_from([(False, 0.3), (False, 11.0), (True, 2.5), (None, 70.0)]),
    )
    each = draw(st.sampled_from([well, ill, st.one_of(well, ill)]))
    return tuple(Witness(voice, *draw(each)) for voice in voices)


def views() -> st.SearchStrategy[View]:
    return st.one_of(likely_views(), any_views())


def decided(view: View, kind: Any) -> list[Any]:
    return [action for action in decide(view, NOW) if isinstance(action, kind)]


def senior(view: View, ack_set: frozenset[str]) -> str:
    """The oldest of them, "" when it can't be known."""
    known = [s.instance for s in view.sightings if s.instance.id in ack_set]
    return "" if len(known) < len(ack_set) else min(((one.created_at, one.id) for one in known), default=("", ""))[1]


def status_of(view: View, instance_id: str) -> Status | None:
    found = view.sighting(instance_id)
    return found.status if found else None


@ANY_VIEW
@given(views())
def test_ownership_changes_once_at_a_time(view: View) -> None:
    """Each change is decided on a row that the next would find changed."""
    assert len(decided(view, Promote | ChangeAckSet | BeginSwitch)) <= 1


@ANY_VIEW
@given(views())
def test_the_epoch_exceeds_every_epoch_that_anybody_knows(view: View) -> None:
    """A second primary at one epoch could be acknowledged as well (I2)."""
    known = [view.workspace.epoch, *(s.status.epoch for s in view.sightings if s.status)]
    for promotion in decided(view, Promote):
        assert promotion.epoch > max(known)


@ANY_VIEW
@given(views())
def test_whoever_takes_over_holds_all_that_was_acknowledged(view: View) -> None:
    """Only the oldest member of the ack set does, or who has exactly what the primary sealed (I1)."""
    row = view.workspace
    for promotion in decided(view, Promote):
        status = status_of(view, promotion.instance_id)
        if promotion.instance_id == row.primary_id or promotion.reason is Reason.FIRST:
            continue
        if promotion.reason is Reason.FAILOVER:
            assert promotion.instance_id in row.ack_set
            assert promotion.ack_set == frozenset()
            if len(row.ack_set) > 1:
                assert promotion.instance_id == senior(view, row.ack_set)
        elif promotion.reason is Reason.SWITCHOVER:
            primary = status_of(view, row.primary_id)
            assert status and primary and primary.sealed
            assert status.head == primary.sealed
            assert promotion.ack_set <= {row.primary_id}
        else:
            assert promotion.reason in (Reason.RESTORE, Reason.RECOVER)


@ANY_VIEW
@given(views())
def test_one_witness_never_causes_a_failover(view: View) -> None:
    """A server frozen for ten seconds, or one broken link, must not (I6)."""
    primary = view.primary
    if primary is None or primary.instance.lost:
        return
    closed = {w.voice for w in primary.witnesses if w.up is False}
    channels = [w for w in primary.witnesses if w.voice is not Voice.PROVIDER]
    existing = [w for w in channels if w.up is not None or w.silent_s > TIMING.rejoin_s]
    all_silent = bool(existing) and all(w.silent_s > TIMING.lease_s + TIMING.margin_s for w in existing)
    status = primary.status
    says_so_itself = status is not None and bool(status.halted or status.rebooted)
    if len(closed) <= 1 and not all_silent and not says_so_itself:
        takeovers = (Reason.FAILOVER, Reason.RESTORE)
        assert not [one for one in decided(view, Promote) if one.reason in takeovers]


@ANY_VIEW
@given(views())
def test_who_may_be_promoted_changes_only_when_the_primary_confirmed_the_set_and_it_holds_all(view: View) -> None:
    """A member that lacks something answered OK before could be promoted without it (I1)."""
    row, primary = view.workspace, status_of(view, view.workspace.primary_id)
    for change in decided(view, ChangeAckSet):
        assert len(change.ack_set) <= 2
        assert row.primary_id not in change.ack_set
        before, after = senior(view, row.ack_set), senior(view, change.ack_set)
        if after in ("", before):
            continue
        member = after
        assert row.ack_set == frozenset() or member in row.ack_set
        assert primary is not None
        assert (primary.epoch, primary.ack_version, primary.role) == (row.epoch, row.ack_version, Role.PRIMARY)
        acked = [peer.acked for peer in primary.peers if peer.instance_id == member]
        assert any(one and one.epoch == row.epoch and one.seq >= primary.ok_seq for one in acked)


@ANY_VIEW
@given(views())
def test_nothing_that_plays_a_role_is_released(view: View) -> None:
    """Destruction is last (I5); deleting the workspace is the user's own wish."""
    row = view.workspace
    for release in decided(view, Release):
        if release.reason is ReleaseReason.DELETED:
            assert row.wanted is Wanted.DELETED or row.state is State.DELETING
        else:
            assert release.instance_id not in {row.primary_id, *row.ack_set}


@ANY_VIEW
@given(views())
def test_what_the_provider_cannot_say_removes_nothing(view: View) -> None:
    """Its error says nothing about any machine (I6): no more is released than if it had said that all run."""

    def all_in(phase: Phase, up: bool | None) -> View:
        said = [
            replace(
                s,
                phase=phase,
                witnesses=tuple(replace(w, up=up) if w.voice is Voice.PROVIDER else w for w in s.witnesses),
            )
            for s in view.sightings
        ]
        return replace(view, sightings=tuple(said))

    unknown = {release.instance_id for release in decided(all_in(Phase.UNKNOWN, None), Release)}
    running = {release.instance_id for release in decided(all_in(Phase.RUNNING, True), Release)}
    assert unknown <= running


@ANY_VIEW
@given(views())
def test_one_machine_of_a_kind_is_rented_at_a_time_and_only_if_none_is_there(view: View) -> None:
    """Two would be paid for."""
    rents = decided(view, Rent)
    assert len({rent.machine for rent in rents}) == len(rents)
    assert all(rent.offer.machine is rent.machine for rent in rents)
    left = {action.instance_id for action in decided(view, Release | Fence)}
    kept = {
        s.instance.machine
        for s in view.sightings
        if s.instance.state in (InstanceState.INTENDED, InstanceState.RENTED)
        and not s.instance.lost
        and s.instance.id not in left
        and s.phase not in (Phase.GONE, Phase.STOPPED)
        and not (s.status and s.status.leaving)
    }
    assert not {rent.machine for rent in rents} & kept


@ANY_VIEW
@given(views())
def test_every_move_is_a_legal_one(view: View) -> None:
    """An illegal move would end each pass in an error."""
    row = view.workspace
    for become in decided(view, Become):
        assert become.state is row.state or become.state in MOVES[row.state]
        assert (become.state, become.single_copy_since) != (row.state, row.single_copy_since)
        if become.state is State.RUNNING and row.state is not State.RUNNING:
            assert row.ack_set


class Fault:
    """Something bad that happens to a world."""

    KINDS = ("kill", "cut", "heal", "unknown", "known", "restart", "wait", "halt", "notice")

    def __init__(self, kind: str, which: int, seconds: float) -> None:
        self.kind, self.which, self.seconds = kind, which, seconds

    def __repr__(self) -> str:
        return f"{self.kind}({self.which}) then {self.seconds:g} s"

    def strike(self, world: World) -> None:
        hosts = world.present()
        host = hosts[self.which % len(hosts)] if hosts else None
        if self.kind == "restart":
            world.restart_server()
        elif host is not None and self.kind in ("kill", "halt") and self._would_be_the_last(world):
            return  # paired loss is another promise: see the store
        elif host is not None:
            host.killed = host.killed or self.kind == "kill"
            host.cut = {"cut": True, "heal": False}.get(self.kind, host.cut)
            host.unknown = {"unknown": True, "known": False}.get(self.kind, host.unknown)
            host.leaving = "preempted" if self.kind == "notice" else host.leaving
            if self.kind == "halt" and host.role is Role.STANDBY:
                host.halted = "the disk is full"

    def _would_be_the_last(self, world: World) -> bool:
        members = sorted(world.row.ack_set, key=lambda one: (world.hosts[one].instance.created_at, one))
        holders = {world.row.primary_id, *members[:1]} - {""}
        alive = [h for h in holders if h in world.hosts and not world.hosts[h].killed and not world.hosts[h].halted]
        return len(alive) < 2


faults = st.builds(
    Fault, st.sampled_from(Fault.KINDS), st.integers(0, 3), st.sampled_from([0.25, 0.5, 1.0, 2.5, 5.0, 15.0])
)


@ANY_LIFE
@given(st.lists(faults, max_size=8), st.booleans())
def test_after_any_life_everything_is_well_and_nothing_acknowledged_is_lost(
    struck: list[Fault], has_gateway: bool
) -> None:
    """Safety is asserted by the world at each step; then the faults stop, and it must converge."""
    world = World(has_gateway=has_gateway)
    run(world, 10)
    assert world.is_well
    for fault in struck:
        fault.strike(world)
        run(world, fault.seconds)
    for host in world.hosts.values():
        host.cut = host.unknown = False
    run(world, 30)
    world.step_s = 1.0
    run(world, 900, until_well=True)
    assert world.is_well, (world.row, world.present())


@ANY_LIFE
@given(st.integers(1, 12), st.booleans())
def test_a_restarted_server_alone_changes_nothing(steps: int, has_gateway: bool) -> None:
    """An upgrade must not cost a failover, nor a machine."""
    world = World(has_gateway=has_gateway)
    run(world, 10)
    before = (world.row, set(world.hosts))
    for _ in range(steps):
        world.restart_server()
        run(world, 0.5)
    run(world, 5)
    assert (world.row, set(world.hosts)) == before


@ANY_VIEW
@given(views())
def test_nothing_is_let_go_as_surplus_and_rented_again(view: View) -> None:
    """That would go round for ever, and each round costs money."""
    surplus = {one.instance_id for one in decided(view, Release) if one.reason is ReleaseReason.EXTRA}
    kinds = {s.instance.machine for s in view.sightings if s.instance.id in surplus}
    assert not kinds & {rent.machine for rent in decided(view, Rent)}
