"""A GPU on demand is a fallback: once spot ones are to be had again, one is rented, and the workspace moves to it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from dumont.control.decide import decide
from dumont.control.view import BeginSwitch, ChangeAckSet, Notify, Release, ReleaseReason, Rent, View, Voice, Witness
from dumont.model.instance import Instance, Machine
from dumont.model.offer import Interruption, Offer
from dumont.model.policy import OnDemand, Policy, Wish
from dumont.model.workspace import State, Workspace
from tests.unit.test_placing import cpu, gpu, launching
from tests.unit.views import (
    NOBODY,
    NOW,
    a_view,
    a_workspace,
    an_instance,
    booting,
    do,
    following,
    idle,
    leading,
    on_cpu,
    seen,
    seen_following,
    seen_leading,
    told,
)

FALLBACK = Policy(gpu=Wish(on_demand=OnDemand.FALLBACK), gpu_price_micros_per_hour_max=2_000_000)


def fallback(**others: Any) -> Instance:
    """The record of a GPU on demand."""
    return an_instance("g", product="RTX 4090", provider="vast", spot=False, price_micros_per_hour=900_000, **others)


def relief(**others: Any) -> Instance:
    return an_instance("g2", product="RTX 4090", provider="vast", host="a", domain="a", **others)


def on_demand(name: str, price: int = 900_000) -> Offer:
    return gpu(name, price, spot=False, interruption=Interruption.NEVER)


def leads_on_demand(*more: Any, row: Workspace | None = None, offers: tuple[Offer, ...] = ()) -> View:
    view = a_view(seen_leading(instance=fallback()), seen_following(), *more, row=row or a_workspace(policy=FALLBACK))
    return replace(view, offers=offers)


def test_a_spot_gpu_is_rented_beside_a_fallback_as_soon_as_there_is_one() -> None:
    """On demand costs three times as much; it was rented because there was nothing else."""
    view = leads_on_demand(offers=(gpu("a"), on_demand("b")))
    assert [action.offer.id for action in do(view) if isinstance(action, Rent)] == ["a"]
    assert do(leads_on_demand(offers=(on_demand("b"),))) == []


def test_who_always_wants_on_demand_is_not_moved() -> None:
    """That policy is a wish, and not a fallback."""
    policy = Policy(gpu=Wish(on_demand=OnDemand.ALWAYS), gpu_price_micros_per_hour_max=2_000_000)
    assert do(leads_on_demand(row=a_workspace(policy=policy), offers=(gpu("a"),))) == []


def test_without_the_way_back_to_a_gpu_nobody_comes_for_a_fallback() -> None:
    """The workspace would be moved to the CPU, and stay there beside two GPUs that are paid for."""
    policy = Policy(gpu=FALLBACK.gpu, gpu_price_micros_per_hour_max=2_000_000, return_to_gpu=False)
    row = a_workspace(policy=policy)
    assert do(leads_on_demand(row=row, offers=(gpu("a"),))) == []
    beside = seen("g2", idle("g2", 3), instance=relief())
    assert not [a for a in do(leads_on_demand(beside, row=row)) if isinstance(a, BeginSwitch)]


def test_the_relief_stays_while_it_boots() -> None:
    """It would be let go as the second of its kind, and rented again for ever."""
    view = leads_on_demand(booting("g2", instance=relief(created_at=NOW)), offers=(gpu("b"),))
    assert do(view) == []


def test_the_workspace_moves_by_way_of_its_standby_once_the_relief_is_there() -> None:
    """There is one standby, and only it can be switched to."""
    ready = seen("g2", idle("g2", 3), instance=relief())
    assert do(leads_on_demand(ready)) == [BeginSwitch("c")]


def test_a_move_to_save_money_waits_as_every_other_does() -> None:
    """A workspace that just moved has work to do."""
    row = a_workspace(policy=FALLBACK, promoted_at=NOW - timedelta(seconds=1))
    assert do(leads_on_demand(seen("g2", idle("g2", 3), instance=relief()), row=row)) == []


def test_the_relieved_machine_makes_room_for_the_one_that_came() -> None:
    """As a member of the ack set it would be switched back to, and never let go."""
    row = on_cpu(ack_set=frozenset({"g"}), policy=FALLBACK)
    former = seen("g", following("g"), instance=fallback())
    ready = seen("g2", idle("g2", 3), instance=relief())
    view = a_view(seen("c", leading("c")), former, ready, row=row)
    assert do(view) == [ChangeAckSet(NOBODY, "relieved")]
    alone = on_cpu(ack_set=NOBODY, ack_version=2, state=State.DEGRADED, policy=FALLBACK)
    later = a_view(seen("c", leading("c", peers=(), ack_version=2)), former, ready, row=alone)
    assert Release("g", ReleaseReason.EXTRA) in do(later)


def test_a_spot_gpu_that_is_being_taken_back_relieves_nobody() -> None:
    """Its replacement on demand would count as leaving itself, and one more would be rented at every look."""
    leaves = seen_leading(status=leading(leaving="preempted"))
    row = a_workspace(policy=FALLBACK, state=State.SWITCHING, switching_to="c", promoted_at=NOW - timedelta(minutes=9))
    missing = a_view(leaves, seen_following(), row=row)
    assert do(replace(missing, offers=(on_demand("b"),))) == [Rent(Machine.GPU, on_demand("b"))]
    replacement = booting("g2", instance=replace(fallback(created_at=NOW), id="g2"))
    coming = a_view(leaves, seen_following(), replacement, row=row)
    assert do(replace(coming, offers=(on_demand("b"),))) == []


def test_gpu_and_standby_of_one_pass_are_rented_from_different_providers() -> None:
    """An outage, or an empty account, takes all machines of one provider at once."""
    offers = (gpu("a"), cpu("v", 10_000, provider="vast"), cpu("g", 20_000, provider="gce"))
    view = View(workspace=launching(), offers=offers)
    assert [action.offer.id for action in do(view) if isinstance(action, Rent)] == ["a", "g"]


def test_a_standby_has_room_to_work() -> None:
    """The cheapest machine of all has too little memory for the agent beside a service."""
    offers = (gpu("a"), cpu("micro", 5_000, ram_mb=1_000), cpu("small", 10_000, ram_mb=2_000))
    view = View(workspace=launching(), offers=offers)
    assert [action.offer.id for action in do(view) if isinstance(action, Rent)] == ["a", "small"]


def test_a_machine_that_booted_for_long_is_not_let_go_as_it_joins() -> None:
    """Its engine speaks before its pulse does, and until then nobody had heard of it for as long as it boots."""
    never_heard = (Witness(Voice.AGENT, None, 90.0), Witness(Voice.STREAM, None))
    created_at = NOW - timedelta(seconds=90)
    joined = seen("c", idle("c", 3), instance=an_instance("c", created_at=created_at), witnesses=never_heard)
    row = a_workspace(ack_set=NOBODY, state=State.DEGRADED)
    view = a_view(seen_leading(status=leading(peers=())), joined, row=row)
    assert [action for action in do(view) if isinstance(action, Release)] == []
    long_gone = replace(joined, status_age_s=80.0)
    gone = a_view(seen_leading(status=leading(peers=())), long_gone, row=row)
    assert [action.reason for action in do(gone) if isinstance(action, Release)] == [ReleaseReason.UNREACHABLE]


def test_it_is_said_once_that_nobody_offers_what_is_wanted() -> None:
    """A launch that waits for ever without a word looks like a bug."""
    view = View(workspace=launching(names=("H100",)), offers=(gpu("a"), cpu("c")))
    assert told(view) == ["no_offer"]
    assert told(replace(view, told_of_no_offer=frozenset({an_instance("g").machine}))) == []


def test_a_notice_of_no_offer_carries_what_was_wanted() -> None:
    """So that a person can ask for less."""
    view = View(workspace=launching(names=("H100",)), offers=(cpu("c"),))
    facts = next(action.facts for action in decide(view, NOW) if isinstance(action, Notify))
    assert (facts["machine"], facts["names"]) == ("gpu", "H100")
