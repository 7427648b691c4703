"""Which machines are rented, kept beside another and let go, as the market has it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dumont.control.assign import assignment
from dumont.control.view import BeginSwitch, Failures, Fence, Promote, Reason, Release, ReleaseReason, Rent, View, Voice
from dumont.market.beliefs import Beliefs
from dumont.market.hazard import Prior
from dumont.model.commit import CommitId
from dumont.model.instance import Instance, InstanceState, Machine, Role
from dumont.model.offer import Interruption, Offer
from dumont.model.policy import OnDemand, Policy, Wish
from dumont.model.workspace import State, Workspace
from dumont.provider.base import Phase, Why
from dumont.wire.control import PeerStatus
from tests.unit.views import (
    NOBODY,
    NOW,
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
)

LATER_H = NOW.timestamp() / 3600 + 1
OFTEN = {"gpu-zone": Prior(events=30.0, hours=10.0)}
"""A domain whose machines are lost three times an hour: a spare beside one there pays."""


def gpu(name: str, price: int = 400_000, **others: Any) -> Offer:
    """A GPU on the host of that name, which is a failure domain of its own."""
    fields = {"provider": "vast", "machine": Machine.GPU, "name": "RTX 4090", "gpu": "RTX 4090", "gpus": 1}
    return Offer(id=name, price_micros_per_hour=price, **{**fields, "host": name, "domain": name, **others})


def cpu(name: str, price: int = 20_000, **others: Any) -> Offer:
    fields = {"provider": "gce", "machine": Machine.CPU, "name": "e2", "host": name, "domain": name}
    return Offer(id=name, price_micros_per_hour=price, **{**fields, **others})


def on_demand(name: str, price: int = 900_000) -> Offer:
    return gpu(name, price, spot=False, interruption=Interruption.NEVER)


def launching(**wish: Any) -> Workspace:
    fields = {"state": State.LAUNCHING, "epoch": 0, "primary_id": "", "ack_set": NOBODY, "promoted_at": None}
    return a_workspace(**fields, policy=Policy(gpu=Wish(**wish)))


def policy(**wish: Any) -> Policy:
    return Policy(gpu=Wish(**wish))


def rented(view: View) -> list[str]:
    """The offers that are rented now."""
    return [action.offer.id for action in do(view) if isinstance(action, Rent)]


def released(view: View) -> list[Release]:
    return [action for action in do(view) if isinstance(action, Release)]


def market(*offers: Offer, row: Workspace, **others: Any) -> View:
    return View(workspace=row, offers=offers, **others)


def instance(instance_id: str, offer: Offer, **others: Any) -> Instance:
    """The record of a machine rented from that offer."""
    same = {name: getattr(offer, name) for name in ("provider", "region", "host", "domain", "spot", "boot_s_max")}
    price = offer.price_micros_per_hour
    return an_instance(instance_id, **{**same, "product": offer.product, "price_micros_per_hour": price, **others})


# --- a race


def test_a_race_rents_in_distinct_domains_and_on_distinct_hosts() -> None:
    """What keeps one of them from starting must not keep the others."""
    offers = (
        gpu("a", 100_000, domain="zone-1"),
        gpu("b", 110_000, domain="zone-1"),
        gpu("c", 120_000, domain="zone-2"),
        gpu("d", 130_000, domain="zone-3", host="c"),
        gpu("e", 140_000, domain="zone-4"),
    )
    assert rented(market(*offers, row=launching(race=3))) == ["a", "c", "e"]


@pytest.mark.parametrize(("race", "expected"), [(1, ["a"]), (2, ["a", "b"]), (3, ["a", "b"])])
def test_a_race_is_as_large_as_policy_and_market_allow(race: int, expected: list[str]) -> None:
    """Two hosts make a race of two."""
    assert rented(market(gpu("a"), gpu("b", 500_000), row=launching(race=race))) == expected


def test_while_racers_start_nothing_more_is_rented() -> None:
    """A race is run once; its size is what it costs at most."""
    racers = [booting("g1", instance=instance("g1", gpu("a"), created_at=NOW)), booting("g2"), booting("c")]
    assert do(replace(a_view(*racers, row=launching(race=3)), offers=(gpu("d"), gpu("e")))) == []


def test_the_first_racer_that_can_lead_stays_and_the_losers_are_let_go() -> None:
    """Each further second of theirs is paid for nothing."""
    view = a_view(booting("g1"), seen("g2", idle("g2")), booting("g3"), booting("c"), row=launching(race=3))
    assert do(view) == [Promote("g2", 1, NOBODY, Reason.FIRST)]
    row = a_workspace(epoch=1, primary_id="g2", ack_set=NOBODY, policy=policy(race=3), state=State.LAUNCHING)
    leads = seen("g2", leading("g2", epoch=1, head=CommitId(1, 1), ok_seq=0, peers=()))
    losers = released(replace(view, workspace=row, sightings=(view.sightings[0], leads, *view.sightings[2:])))
    assert losers == [Release("g1", ReleaseReason.EXTRA), Release("g3", ReleaseReason.EXTRA)]


def test_racers_for_the_way_back_are_let_go_once_one_was_heard_of() -> None:
    """The CPU serves meanwhile, and the winner catches up."""
    row = on_cpu(ack_set=NOBODY, state=State.DEGRADED, policy=policy(race=2))
    view = a_view(seen("c", leading("c", peers=())), booting("g1"), seen("g2", idle("g2", 3)), row=row)
    assert released(view) == [Release("g1", ReleaseReason.EXTRA)]


# --- hosts that failed


def test_a_host_that_failed_is_not_rented_again_while_another_is_on_offer() -> None:
    """It fails the next time, too."""
    beliefs = Beliefs(shunned={"a": LATER_H})
    assert rented(market(gpu("a"), gpu("b", 700_000), row=launching(), beliefs=beliefs)) == ["b"]
    assert rented(market(gpu("a"), gpu("b", 700_000), row=launching())) == ["a"], "without the failure it is chosen"


def test_a_host_that_failed_is_tried_again_when_nothing_else_is_left() -> None:
    """Hours on the CPU for one failed boot would be a worse answer than another try."""
    beliefs = Beliefs(shunned={"a": LATER_H})
    assert rented(market(gpu("a"), row=launching(), beliefs=beliefs)) == ["a"]


def test_a_boot_that_failed_is_replaced_at_once_and_elsewhere() -> None:
    """The provider says itself that it will not come up; the host's failure is not in the history yet."""
    failed = booting("g", instance=instance("g", gpu("a"), created_at=NOW, token_hash="unspent"), why=Why.FAILED)
    view = replace(a_view(failed, booting("c"), row=launching()), offers=(gpu("a"), gpu("b", 700_000)))
    actions = do(view)
    assert actions == [
        Release("g", ReleaseReason.BOOT_TIMEOUT, Why.FAILED),
        Rent(Machine.GPU, replace(view.offers[1])),
    ]
    assert rented(replace(view, offers=view.offers[:1])) == [], "the same host is not asked in the same breath"


@pytest.mark.parametrize("why", [Why.PREEMPTED, Why.OUTBID])
def test_a_machine_taken_away_before_it_came_is_replaced_at_once(why: Why) -> None:
    """Nobody can have heard of it, so nobody contradicts."""
    taken = booting("g", phase=Phase.STOPPED, why=why, instance=instance("g", gpu("a"), token_hash="unspent"))
    view = replace(a_view(taken, booting("c"), row=launching()), offers=(gpu("a"), gpu("b", 700_000)))
    assert do(view)[0] == Release("g", ReleaseReason.DEAD, why)
    assert rented(view) == ["a"], "being outbid is no failure of the host"


def test_a_release_tells_why_its_provider_ended_the_machine() -> None:
    """The bill and the history of interruptions are read from it."""
    taken = {"phase": Phase.STOPPED, "witnesses": closed(Voice.AGENT, Voice.STREAM), "why": Why.OUTBID}
    row = a_workspace(ack_set=NOBODY, state=State.DEGRADED, single_copy_since=NOW)
    assert released(a_view(seen_leading(), seen_following(**taken), row=row)) == [
        Release("c", ReleaseReason.DEAD, Why.OUTBID)
    ]
    lost = seen("g2", instance=an_instance("g2", lost=True, branch="b"), **taken)
    assert released(a_view(seen_leading(), seen_following(), lost)) == [Release("g2", ReleaseReason.GONE, Why.OUTBID)]


@pytest.mark.parametrize(("age_s", "reasons"), [(299.0, []), (301.0, [ReleaseReason.BOOT_TIMEOUT])])
def test_a_slow_provider_is_given_the_time_that_its_offer_asks_for(age_s: float, reasons: list[ReleaseReason]) -> None:
    """An image of 10 GB takes minutes; a host that needs longer has failed."""
    created_at = NOW - timedelta(seconds=age_s)
    slow = instance("g", gpu("a", boot_s_max=300.0), created_at=created_at, token_hash="unspent")
    view = a_view(booting("g", age_s=age_s, instance=slow), booting("c"), row=launching())
    assert [one.reason for one in released(view)] == reasons


def test_a_kind_that_can_be_had_does_not_wait_for_one_that_cannot() -> None:
    """A GPU market without capacity must not leave a workspace without its second copy."""
    failures = {Machine.GPU: Failures(9, NOW - timedelta(seconds=10))}
    assert rented(market(gpu("a"), cpu("b"), row=launching(), failures=failures)) == ["b"]


# --- what the policy allows


def test_any_of_the_names_that_the_policy_allows_will_do() -> None:
    """When the first choice is sold out, the next name is rented; another never is."""
    row = launching(names=("RTX 4090", "RTX 3090"))
    offers = (gpu("a", 300_000), gpu("b", 350_000, gpu="RTX 3090"), gpu("c", 1_000, gpu="GTX 1060"))
    assert rented(market(*offers, row=row)) == ["a"]
    assert rented(market(*offers[1:], row=row)) == ["b"]
    assert rented(market(offers[2], row=row)) == []


@pytest.mark.parametrize(
    ("allowed", "spot", "expected"),
    [
        (OnDemand.NEVER, True, ["spot"]),
        (OnDemand.NEVER, False, []),
        (OnDemand.FALLBACK, True, ["spot"]),
        (OnDemand.FALLBACK, False, ["sure"]),
        (OnDemand.ALWAYS, True, ["sure"]),
    ],
)
def test_on_demand_is_rented_only_as_the_policy_says(allowed: OnDemand, spot: bool, expected: list[str]) -> None:
    """It costs a multiple."""
    offers = [on_demand("sure"), *([gpu("spot")] if spot else [])]
    assert rented(market(*offers, row=launching(on_demand=allowed, race=2))) == expected


def test_above_the_price_nothing_is_rented_and_the_cpu_goes_on() -> None:
    """The policy is the user's purse; the workspace stays where it is."""
    row = on_cpu(
        ack_set=NOBODY, state=State.DEGRADED, single_copy_since=NOW, policy=policy(on_demand=OnDemand.FALLBACK)
    )
    view = a_view(seen("c", leading("c", peers=())), row=row)
    assert do(replace(view, offers=(gpu("a", 1_000_001), on_demand("b", 1_000_001)))) == []
    assert rented(replace(view, offers=(gpu("a", 1_000_000),))) == ["a"]


# --- failure domains


def test_the_standby_is_kept_out_of_the_gpus_domain() -> None:
    """What takes the GPU away must not take the standby with it."""
    leads = seen_leading(instance=instance("g", gpu("a", domain="zone-1")), status=leading(peers=()))
    row = a_workspace(ack_set=NOBODY, state=State.DEGRADED, single_copy_since=NOW)
    offers = (cpu("near", 1_000, domain="zone-1"), cpu("same-host", 2_000, host="a"), cpu("far", 50_000))
    assert rented(replace(a_view(leads, row=row), offers=offers)) == ["far"]
    assert rented(replace(a_view(leads, row=row), offers=offers[:2])) == ["near"], "any second copy beats none"


def test_a_new_gpu_is_kept_out_of_the_standbys_domain() -> None:
    """The same, the other way round."""
    leads = seen("c", leading("c", peers=()), instance=instance("c", cpu("x", domain="zone-1")))
    row = on_cpu(ack_set=NOBODY, state=State.DEGRADED, single_copy_since=NOW)
    offers = (gpu("near", 100_000, domain="zone-1"), gpu("far", 500_000))
    assert rented(replace(a_view(leads, row=row), offers=offers)) == ["far"]


# --- spares


def spare_view(*others: Any, value: int = 20_000_000, prior: bool = True, spares: int = 1) -> View:
    """GPU `g` leads in a zone that loses machines often, CPU `c` acknowledges; what else is there is given."""
    leads = seen_leading(instance=instance("g", gpu("a", domain="gpu-zone")))
    row = a_workspace(policy=replace_policy(policy(spares=spares), value))
    beliefs = Beliefs(priors=OFTEN if prior else {"gpu-zone": Prior(events=1.0, hours=9_000.0)})
    return replace(a_view(leads, seen_following(), *others, row=row), offers=(gpu("b"),), beliefs=beliefs)


def replace_policy(wanted: Policy, value: int) -> Policy:
    return Policy(gpu=wanted.gpu, value_micros_per_hour=value)


def test_a_spare_is_rented_while_it_pays() -> None:
    """Losing the GPU three times an hour costs more than a second one."""
    assert rented(spare_view()) == ["b"]
    assert rented(spare_view(spares=0)) == []
    assert rented(spare_view(prior=False)) == [], "it is hardly ever lost"
    assert rented(spare_view(value=100)) == [], "an hour without the GPU is worth less than a spare"


@pytest.mark.parametrize("status", [None, idle("g2", 3)], ids=["starting", "ready"])
def test_a_spare_that_does_not_pay_any_more_is_let_go(status: Any) -> None:
    """Prices and hazards move."""
    spare = seen("g2", status, instance=instance("g2", gpu("b"), created_at=NOW))
    assert do(spare_view(spare)) == []
    assert released(spare_view(spare, prior=False)) == [Release("g2", ReleaseReason.EXTRA)]
    assert rented(spare_view(spare, prior=False)) == []


def test_no_more_spares_are_kept_than_the_policy_says() -> None:
    """A racer that came too late is no spare; what is ready is kept before what starts."""
    starting = booting("g2", instance=instance("g2", gpu("b", 1_000)))
    ready = seen("g3", idle("g3", 3), instance=instance("g3", gpu("d", 1_000)))
    assert released(spare_view(starting, ready)) == [Release("g2", ReleaseReason.EXTRA)]


def test_after_a_loss_the_spare_is_the_gpu_and_no_other_is_rented_before_it_is_ready() -> None:
    """That is what it was paid for."""
    row = on_cpu(ack_set=NOBODY, state=State.DEGRADED, single_copy_since=NOW, policy=policy(spares=1))
    spare = seen("g2", following("g2", head=None, applied=None))
    assert rented(a_view(seen("c", leading("c", peers=())), spare, row=row)) == []


# --- machines that are about to be taken away

LEAVING = "preempted"


def test_a_leaving_standby_is_replaced_while_it_still_serves() -> None:
    """Half a minute's notice is longer than many a boot."""
    leaving = seen_following(status=following(leaving=LEAVING), instance=instance("c", cpu("x")))
    view = replace(a_view(seen_leading(), leaving), offers=(cpu("x"), cpu("y", 30_000)))
    assert do(view) == [Rent(Machine.CPU, view.offers[1])], "and not where it is just being taken away"
    assert do(a_view(seen_leading(), leaving, booting("c2"))) == [], "which is not surplus"
    assert do(a_view(seen_leading(), leaving, seen("c2", idle("c2", 3)))) == []


def test_a_leaving_primary_is_switched_away_from_at_once() -> None:
    """A planned switchover loses nothing, neither writes nor seconds of detection."""
    leaves = seen_leading(status=leading(leaving=LEAVING))
    row = a_workspace(promoted_at=NOW - timedelta(seconds=0.5), policy=Policy(return_to_gpu=False))
    actions = do(replace(a_view(leaves, seen_following(), row=row), failovers_last_hour=9))
    assert [type(action).__name__ for action in actions] == ["BeginSwitch"]
    assert getattr(actions[0], "to", "") == "c"


def test_a_leaving_primary_whose_standby_lags_is_replaced_and_not_yet_switched() -> None:
    """What the standby still lacks would be the pause; the failover stays as a way out."""
    lags = leading(leaving=LEAVING, peers=(PeerStatus("c", True, CommitId(3, 10)),))
    view = replace(a_view(seen_leading(status=lags), seen_following()), offers=(gpu("b"),))
    assert do(view) == [Rent(Machine.GPU, view.offers[0])]


def test_a_leaving_cpu_that_is_alone_hands_over_to_another_cpu() -> None:
    """No GPU is to be had: without this the only copy would go with its machine."""
    alone = seen("c", leading("c", leaving=LEAVING, peers=()), witnesses=heard(Voice.AGENT, Voice.GATEWAY))
    row = on_cpu(ack_set=NOBODY, state=State.DEGRADED, single_copy_since=NOW)
    next_one = seen("c2", idle("c2", 3))
    view = replace(a_view(alone, next_one, row=row), offers=())
    assert (assignment(view, "c2").role, assignment(view, "c").peers[0].instance_id) == (Role.STANDBY, "c2")
    peers = (PeerStatus("c2", True, CommitId(3, 100)),)
    alone = replace(alone, status=leading("c", leaving=LEAVING, peers=peers))
    joined = a_view(alone, seen("c2", following("c2")), row=on_cpu(ack_set=frozenset({"c2"})))
    assert do(replace(joined, offers=())) == [BeginSwitch("c2")]
    staying = replace(view, sightings=(replace(alone, status=leading("c", peers=())), next_one))
    assert assignment(staying, "c2").role is Role.NONE, "two of a kind are no standby for each other otherwise"


def test_nobody_switches_back_to_a_machine_that_is_leaving() -> None:
    """It was left for that."""
    leaving = seen("g", following("g", leaving=LEAVING))
    view = a_view(leaving, seen("c", leading("c"), witnesses=heard(Voice.AGENT, Voice.GATEWAY)), row=on_cpu())
    assert rented(replace(view, offers=(gpu("b"),))) == ["b"]
    assert [type(action) for action in do(replace(view, offers=()))] == []


def test_a_leaving_spare_is_let_go_and_another_rented_if_it_pays() -> None:
    """It will be of no use to anybody; and that its provider takes it back is what its record is to say."""
    spare = seen("g2", idle("g2", 3, leaving=LEAVING), instance=instance("g2", gpu("d", 1_000)))
    view = spare_view(spare)
    assert (released(view), rented(view)) == ([Release("g2", ReleaseReason.EXTRA, Why.PREEMPTED)], ["b"])


def test_a_leaving_primary_that_is_gone_is_failed_over_as_any_other() -> None:
    """The notice is a help, no promise."""
    gone = seen_leading(status=leading(leaving=LEAVING), witnesses=closed(Voice.AGENT, Voice.STREAM))
    assert [type(action) for action in do(a_view(gone, seen_following()))] == [Promote, Fence]


# --- effort


class Unread(tuple[Offer, ...]):
    """Offers that must not be looked at."""

    def __iter__(self) -> Iterator[Offer]:
        raise AssertionError("the market was ranked although nothing is missing")


def test_the_market_is_not_ranked_while_nothing_is_missing() -> None:
    """A pass comes ten times a second for every workspace."""
    unread = Unread([gpu("a"), cpu("b")])
    row = a_workspace(policy=policy(race=3))
    for view in (a_view(row=row), a_view(seen_leading(), seen_following(), booting("g2"), row=row)):
        do(replace(view, offers=unread))
    with pytest.raises(AssertionError):
        do(replace(a_view(seen_leading(), row=replace(row, ack_set=NOBODY)), offers=unread))


def test_what_is_intended_counts_as_there() -> None:
    """The intent is written before the provider answers (I4)."""
    intended = booting("g", instance=an_instance("g", state=InstanceState.INTENDED, created_at=NOW))
    assert rented(replace(a_view(intended, booting("c"), row=launching(race=2)), offers=(gpu("a"), gpu("b")))) == []
