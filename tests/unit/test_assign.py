"""Assignments and routes, read off a view."""

from dataclasses import replace

from dumont.control.assign import assignment, route
from dumont.model.commit import CommitId
from dumont.model.instance import InstanceState, Role
from dumont.model.policy import Policy, Service
from dumont.provider.base import Phase
from dumont.wire.control import Endpoints, Peer
from tests.unit.views import (
    CHANNELS,
    a_view,
    a_workspace,
    an_instance,
    booting,
    closed,
    endpoints,
    following,
    idle,
    leading,
    seen,
    seen_following,
    seen_leading,
    silent,
)


def test_the_primary_is_told_everything_that_it_leads_by() -> None:
    """An assignment replaces the one before: what is missing in it is gone."""
    policy = Policy(service=Service(run="train"), barrier_timeout_s=7.0, store_every_s=30.0)
    row = a_workspace(policy=policy, owner_keys=("ssh-ed25519 A",), host_key="KEY")
    told = assignment(a_view(row=row), "g")
    assert (told.workspace, told.epoch, told.role, told.primary_id) == ("vox", 3, Role.PRIMARY, "g")
    assert (told.ack_set, told.ack_version, told.seal, told.branch, told.restore) == (("c",), 1, False, "", None)
    assert (told.service, told.on_gpu, told.owner_keys, told.host_key) == (
        Service(run="train"),
        True,
        ("ssh-ed25519 A",),
        "KEY",
    )
    assert (told.barrier_timeout_s, told.store_every_s) == (7.0, 30.0)


def test_the_gpu_dials_whatever_role_it_plays() -> None:
    """GPU hosts sit behind address translation; nobody can dial them."""
    assert assignment(a_view(), "g").peers == (Peer("c", endpoints("c"), dial=True, keeper=True),)
    assert assignment(a_view(), "c").peers == (Peer("g", endpoints("g"), dial=False),)
    row = a_workspace(primary_id="c", ack_set=frozenset({"g"}))
    view = a_view(seen("c", leading("c")), seen("g", following("g")), row=row)
    assert assignment(view, "c").peers == (Peer("g", endpoints("g"), dial=False),)
    assert assignment(view, "g").peers == (Peer("c", endpoints("c"), dial=True, keeper=True),)


def test_of_two_of_a_kind_the_standby_dials() -> None:
    """Exactly one side must."""
    row = a_workspace(primary_id="c2", ack_set=frozenset({"c"}))
    view = a_view(seen("c2", leading("c2")), seen_following(), row=row)
    assert assignment(view, "c2").peers[0].dial is False
    assert assignment(view, "c").peers[0].dial is True


def test_the_standby_follows_and_nobody_else_does() -> None:
    """The ack set has one member at most; a second copy would cost bandwidth and promise nothing."""
    view = a_view(seen_leading(), seen_following(), seen("c2", idle("c2")))
    assert assignment(view, "c").role is Role.STANDBY
    assert assignment(view, "c").primary_id == "g"
    assert (assignment(view, "c2").role, assignment(view, "c2").peers) == (Role.NONE, ())


def test_a_machine_that_still_boots_will_find_its_role_when_it_comes() -> None:
    """Its first assignment already says whom to follow."""
    view = a_view(seen_leading(), booting("c"), row=a_workspace(ack_set=frozenset()))
    assert assignment(view, "c").role is Role.STANDBY
    assert assignment(view, "g").peers == (Peer("c", Endpoints(""), dial=True, keeper=True),)


def test_before_the_first_promotion_nobody_has_a_role() -> None:
    """Agents boot without one."""
    row = a_workspace(primary_id="", epoch=0, ack_set=frozenset(), promoted_at=None)
    view = a_view(seen("g", idle("g")), seen("c", idle("c")), row=row)
    assert [assignment(view, one).role for one in "gc"] == [Role.NONE, Role.NONE]


def test_a_fenced_instance_is_told_to_keep_its_branch() -> None:
    """Its divergent files are to be browsed, never merged."""
    lost = seen("g", leading(), instance=an_instance("g", lost=True, branch="g-e3"))
    row = a_workspace(primary_id="c", epoch=4, ack_set=frozenset())
    told = assignment(a_view(lost, seen_following(), row=row), "g")
    assert (told.role, told.epoch, told.branch, told.primary_id, told.peers) == (Role.NONE, 4, "g-e3", "c", ())


def test_an_instance_that_is_let_go_or_unknown_has_no_role() -> None:
    """It may still be there for a while."""
    going = seen("c", following(), instance=an_instance("c", state=InstanceState.RELEASING))
    view = a_view(seen_leading(), going, row=a_workspace(ack_set=frozenset()))
    assert assignment(view, "c").role is Role.NONE
    assert assignment(view, "nobody").role is Role.NONE
    assert assignment(view, "g").peers == ()


def test_a_switchover_asks_the_primary_alone_to_seal() -> None:
    """The target follows on until it holds what was sealed."""
    row = a_workspace(primary_id="c", ack_set=frozenset({"g"}), switching_to="g")
    view = a_view(seen("c", leading("c")), seen("g", following("g")), row=row)
    assert assignment(view, "c").seal
    assert not assignment(view, "g").seal


def test_a_machine_restores_from_the_store_only_when_every_copy_has_ended() -> None:
    """Otherwise it would start from an older commit than somebody holds."""
    row = a_workspace(stored=CommitId(3, 90))
    gone = seen_leading(phase=Phase.GONE, witnesses=closed(*CHANNELS))
    fresh = booting("g2", status=idle("g2"))
    both_gone = a_view(gone, seen_following(phase=Phase.GONE, witnesses=closed(*CHANNELS)), fresh, row=row)
    assert (assignment(both_gone, "g2").role, assignment(both_gone, "g2").restore) == (Role.NONE, CommitId(3, 90))
    cut_off = a_view(gone, seen_following(phase=Phase.UNKNOWN, witnesses=silent(*CHANNELS)), fresh, row=row)
    assert assignment(cut_off, "g2").restore is None


def test_the_route_leads_to_the_primary_once_it_is_ready() -> None:
    """Its own endpoints, under the workspace's fixed ports."""
    to = route(a_view())
    assert (to.workspace, to.epoch, to.ssh_port, to.http_port) == ("vox", 3, 2201, 8001)
    assert (to.instance_id, to.endpoints) == ("g", endpoints("g"))


def test_while_the_new_primary_is_not_ready_connections_wait() -> None:
    """The route of the epoch before must not be followed any more."""
    row = a_workspace(primary_id="c", epoch=4, ack_set=frozenset())
    for status in (following(), following(epoch=4, role=Role.NONE), leading("c", epoch=4, ready=False)):
        to = route(a_view(seen("c", status), row=row))
        assert (to.epoch, to.instance_id, to.endpoints) == (4, "c", None)


def test_a_server_that_just_started_does_not_take_the_route_away() -> None:
    """With the id and no endpoints a gateway keeps what it has: the data path never depends on the server."""
    to = route(a_view(replace(seen_leading(), status=None)))
    assert (to.epoch, to.instance_id, to.endpoints) == (3, "g", None)


def test_nobody_serves_while_the_primary_is_sealed_or_there_is_none() -> None:
    """Connections wait until the switchover is over."""
    sealed = leading(ready=False, sealed=CommitId(3, 100))
    assert route(a_view(seen_leading(status=sealed))).instance_id == ""
    assert route(a_view(row=a_workspace(primary_id=""))).instance_id == ""
    assert route(a_view(seen_leading(instance=an_instance("g", lost=True)))).endpoints is None
