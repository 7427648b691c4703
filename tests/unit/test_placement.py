"""Placement: what is rented, raced, kept as a spare, moved to and let go, by expected cost."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dumont.market.beliefs import Beliefs, Pressure, observe
from dumont.market.cost import Stake
from dumont.market.hazard import History
from dumont.market.placement import (
    Choice,
    Held,
    Moves,
    Rules,
    apart,
    choose,
    rank,
    satisfies,
    saving_micros,
    spare_micros_per_hour,
)
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Need
from dumont.model.policy import OnDemand
from tests.unit.markets import STAKE, held, offer, on_demand, priced

NEED = Need(machine=Machine.GPU, on_demand=True)
CHEAP = replace(STAKE, value_micros_per_hour=1_000_000)
DEAR = replace(STAKE, value_micros_per_hour=2_000_000_000)


def names(choice: Choice) -> list[str]:
    return [one.offer.id for one in choice.rent]


def test_the_offer_of_least_expected_cost_comes_first_and_not_the_cheapest() -> None:
    """An hour on a machine that is taken away all the time is dearer than its price says."""
    wild, calm = offer("wild", 900_000), offer("calm", 1_000_000)
    seen = {"domain of wild": History(0.0, events=20.0, hours=20.0), "domain of calm": History(0.0, 0.0, 24.0, -48.0)}
    ranked = rank([wild, calm], NEED, Beliefs(stake=STAKE, domains=seen), 0.0)
    assert [one.offer.id for one in ranked] == ["calm", "wild"]
    free = rank([wild, calm], NEED, Beliefs(stake=replace(STAKE, value_micros_per_hour=0), domains=seen), 0.0)
    assert [one.offer.id for one in free] == ["wild", "calm"], "when interruptions cost nothing the price decides"


def test_a_host_that_failed_is_left_out_for_a_while() -> None:
    """A marketplace's broken host is often its cheapest; without this it is rented for ever."""
    broken, good = offer("broken", 1, host="h1"), offer("good", host="h2")
    beliefs = Beliefs(stake=STAKE, shunned={"h1": 11.0})
    assert [one.offer.id for one in rank([broken, good], NEED, beliefs, 10.5)] == ["good"]
    assert len(rank([broken, good], NEED, beliefs, 11.0)) == 2


def test_what_is_not_told_satisfies_no_bound() -> None:
    """A missing reliability or memory is not a good one (I6)."""
    need = replace(NEED, vram_mb_min=20_000, reliability_min=0.9)
    assert satisfies(offer(reliability=0.95), need)
    assert not satisfies(offer(reliability=None), need)
    assert not satisfies(offer(reliability=0.95, vram_mb=None), need)


def test_types_regions_and_kinds_that_were_not_allowed_are_left_out() -> None:
    """Falling back across types stops at those that the user allows."""
    need = replace(NEED, gpu_names=frozenset({"RTX 4090", "RTX 3090"}), regions=frozenset({"BR"}), on_demand=False)
    assert satisfies(offer(region="BR"), need)
    assert satisfies(offer(gpu="RTX 3090", region="southamerica-east1"), need)
    assert not satisfies(offer(gpu="L4", region="BR"), need)
    assert not satisfies(offer(region="US"), need)
    assert not satisfies(on_demand(region="BR"), need)
    assert not satisfies(offer(region="BR", price=2_000_000), replace(need, price_micros_per_hour_max=1_999_999))


def test_a_missed_gpu_is_raced_for_in_domains_apart() -> None:
    """Two machines of one zone are refused, slow or lost together; k in one zone is no race."""
    ranked = [
        priced(offer("a1", domain="a"), 0.1),
        priced(offer("a2", domain="a"), 0.1),
        priced(offer("b"), 0.2),
        priced(offer("c"), 0.3),
    ]
    assert names(choose(ranked, [], Rules(race=2), STAKE)) == ["a1", "b"]
    assert names(choose(ranked, [], Rules(race=1), STAKE)) == ["a1"]


def test_racers_that_lost_are_let_go() -> None:
    """At most one of k is kept; the others would be an orphan bill."""
    racers = [held(offer("a"), 0.1), held(offer("b"), 0.1, ready=False), held(offer("c"), 0.1, ready=False)]
    choice = choose([], racers, Rules(race=3), CHEAP)
    assert set(choice.end) == {"b", "c"}


def test_nothing_is_started_twice() -> None:
    """`decide` is asked many times a second while a machine boots."""
    assert choose([priced(offer("b"), 0.1)], [held(offer("a"), 0.1, ready=False)], Rules(), STAKE) == Choice()


def test_on_demand_is_taken_only_when_no_spot_is_there_and_the_policy_allows_it() -> None:
    """The policy says whether it may cost more than spot, or else the workspace stays on its CPU."""
    spot, steady = priced(offer("spot"), 0.5), priced(on_demand(), 0.001)
    assert names(choose([steady, spot], [], Rules(), STAKE)) == ["spot"]
    assert names(choose([steady], [], Rules(), STAKE)) == ["steady"]
    stays = choose([steady], [], Rules(on_demand=OnDemand.NEVER), STAKE)
    assert (names(stays), stays.why) == ([], "stay on the CPU")
    assert names(choose([steady, spot], [], Rules(on_demand=OnDemand.ALWAYS), STAKE)) == ["steady"]


def test_back_from_on_demand_the_new_machine_is_ready_before_the_old_one_ends() -> None:
    """Going back to spot must not cost the GPU's uptime."""
    steady, spot = held(on_demand(), 0.001), held(offer("spot"), 0.1, ready=False)
    assert names(choose([priced(offer("spot"), 0.1)], [steady], Rules(), STAKE)) == ["spot"]
    assert choose([], [steady, spot], Rules(), STAKE) == Choice()
    assert choose([], [steady, replace(spot, ready=True)], Rules(), STAKE).end == ("steady",)


def test_a_spare_is_rented_while_it_is_worth_its_price_and_in_another_domain() -> None:
    """What takes the GPU away must not take its spare with it."""
    best = held(offer("a", domain="zone 1"), 0.5)
    ranked = [priced(offer("twin", domain="zone 1"), 0.4), priced(offer("b", domain="zone 2"), 0.6)]
    assert names(choose(ranked, [best], Rules(), DEAR)) == ["b"]
    assert choose(ranked, [best], Rules(), CHEAP) == Choice()
    assert choose(ranked, [best], Rules(spares=0, moves=Moves.NEVER), DEAR) == Choice()


def test_a_spare_that_does_not_pay_any_more_is_let_go_and_not_taken_back_at_once() -> None:
    """The hazard falls as a machine grows older; the spare must not come and go around one threshold."""
    rules, spare = Rules(moves=Moves.NEVER), held(offer("b"), 0.02)
    rates = [0.5 * 0.97**n for n in range(200)]
    stake = replace(STAKE, value_micros_per_hour=300_000_000)
    paid = [choose([], [held(offer("a"), rate), held(offer("b"), rate)], rules, stake).end == () for rate in rates]
    taken = [bool(choose([spare.priced], [held(offer("a"), rate)], rules, stake).rent) for rate in rates]
    assert paid.index(False) > taken.index(False), "kept for longer than it would be rented"


def test_a_move_needs_to_save_more_than_it_costs() -> None:
    """Two machines are paid while the new one starts, and the takeover is felt."""
    rules = Rules(spares=0)
    now = held(offer("now", 1_000_000), 0.1)
    assert choose([priced(offer("alike", 990_000), 0.1)], [now], rules, STAKE) == Choice()
    assert names(choose([priced(offer("better", 500_000), 0.1)], [now], rules, STAKE)) == ["better"]
    assert choose([priced(offer("better", 500_000), 0.1)], [now], replace(rules, moves=Moves.NEVER), STAKE) == Choice()
    back_only = replace(rules, moves=Moves.FROM_ON_DEMAND)
    assert choose([priced(offer("better", 500_000), 0.1)], [now], back_only, STAKE) == Choice()


def test_machines_apart_share_neither_domain_nor_host() -> None:
    """The CPU standby and the GPU on one physical host would be lost together."""
    gpu = held(offer("gpu", domain="d1", host="h1"), 0.1)
    others = [
        priced(offer("same host", domain="d2", host="h1"), 0.1),
        priced(offer("same domain", domain="d1", host="h2"), 0.1),
        priced(offer("apart", domain="d2", host="h2"), 0.1),
        priced(offer("untold", domain="", host=""), 0.1),
    ]
    assert [one.offer.id for one in apart(others, [gpu])] == ["apart", "untold"]


def test_losses_in_a_region_make_its_other_zones_look_worse() -> None:
    """Interruptions of one type and region come together; the neighbour zone is not the place to flee to."""
    here = [offer(f"z{n}", region="east") for n in range(3)] + [offer("far", region="west")]
    up = frozenset(o.domain for o in here)
    beliefs = observe(Beliefs(stake=STAKE), here, up, 0.0)
    beliefs = observe(beliefs, here, up, 5.0)
    before = {one.offer.id: one.hazard.per_hour for one in rank(here, NEED, beliefs, 5.0)}
    lost = up - {here[0].domain, here[1].domain}
    beliefs = observe(beliefs, here, lost, 5.1)
    after = {one.offer.id: one.hazard.per_hour for one in rank(here, NEED, beliefs, 5.1)}
    assert after["z2"] > 1.2 * before["z2"]
    assert after["far"] <= before["far"]


def test_a_pressure_fades() -> None:
    """Yesterday's bad hour says little about today."""
    pressure = Pressure(0.0).seen(4, 0.1, 1.0)
    assert pressure.factor(1.0) > 2.5
    assert 0.95 < pressure.factor(25.0) < 1.05


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Held], list[str]]:
    count = draw(st.integers(0, 4))
    machines = [
        held(
            offer(f"h{n}", draw(st.integers(1, 5_000_000)))
            if draw(st.booleans())
            else on_demand(f"h{n}", draw(st.integers(1, 9_000_000))),
            draw(st.floats(0.001, 5)),
            ready=draw(st.booleans()),
        )
        for n in range(count)
    ]
    return machines, [machine.id for machine in machines]


@given(
    situations(),
    st.lists(st.tuples(st.integers(1, 5_000_000), st.floats(0.001, 5), st.booleans()), max_size=4),
    st.sampled_from([0, 10_000_000, 100_000_000, 2_000_000_000]),
    st.integers(1, 3),
    st.integers(0, 2),
)
def test_a_choice_never_ends_the_last_ready_machine_and_comes_to_rest(
    situation: tuple[list[Held], list[str]],
    market: list[tuple[int, float, bool]],
    value: int,
    race: int,
    spares: int,
) -> None:
    """Whatever is held: no GPU is thrown away for nothing, and choices that are carried out come to rest."""
    stake = Stake(value_micros_per_hour=value)
    machines, _ = situation
    machines = [
        Held(id=m.id, priced=priced(m.priced.offer, m.priced.hazard.per_hour, stake), ready=m.ready) for m in machines
    ]
    ranked = sorted(
        (
            priced(offer(f"o{n}", p) if spot else on_demand(f"o{n}", p), rate, stake)
            for n, (p, rate, spot) in enumerate(market)
        ),
        key=lambda one: one.micros_per_hour,
    )
    rules = Rules(race=race, spares=spares)
    for _ in range(8):
        choice = choose(ranked, machines, rules, stake)
        if any(m.ready for m in machines):
            assert any(m.ready and m.id not in choice.end for m in machines)
            assert len(choice.rent) <= 1
        if not choice.rent and not choice.end:
            return
        machines = [m for m in machines if m.id not in choice.end]
        taken = {one.offer.id for one in choice.rent}
        ranked = [one for one in ranked if one.offer.id not in taken]
        machines += [Held(id=one.offer.id, priced=one, ready=False) for one in choice.rent]
    raise AssertionError("it never came to rest")


def test_a_local_offer_that_is_never_interrupted_counts_as_spot() -> None:
    """What matters to the policy is how it is sold; the embedded provider's machines are not a fallback."""
    local = offer("local", interruption=Interruption.NEVER, spot=True, domain="")
    ranked = rank([local], replace(NEED, on_demand=False), Beliefs(stake=STAKE), 0.0)
    assert names(choose(ranked, [], Rules(on_demand=OnDemand.NEVER), STAKE)) == ["local"]


def test_disk_and_address_count_against_what_a_bid_may_cost() -> None:
    """The policy bounds the bill, and the bill is more than the bid."""
    bid = offer(
        "bid",
        480_000,
        interruption=Interruption.OUTBID,
        min_bid_micros_per_hour=400_000,
        disk_micros_per_hour=70_000,
        address_micros_per_hour=10_000,
    )
    (found,) = rank([bid], replace(NEED, price_micros_per_hour_max=500_000), Beliefs(stake=DEAR), 0.0)
    assert found.price_micros_per_hour <= 500_000
    assert 400_000 < found.offer.bid_micros_per_hour <= 420_000
    (free,) = rank([bid], NEED, Beliefs(stake=DEAR), 0.0)
    assert free.offer.bid_micros_per_hour > 420_000


def test_a_spare_is_worth_what_it_saves_and_no_more() -> None:
    """0.5 an hour x 0.7 that work x (120 s - 20 s) x $36 an hour = $0.35; a slow takeover saves nothing."""
    stake = Stake(value_micros_per_hour=36_000_000, restore_s=120.0, takeover_s=20.0)
    best = priced(offer(), 0.5, stake)
    assert spare_micros_per_hour(best, stake) == 350_000
    assert spare_micros_per_hour(best, replace(stake, takeover_s=120.0)) == 0
    assert spare_micros_per_hour(best, replace(stake, takeover_s=500.0)) == 0


def test_what_a_move_saves_can_be_worked_out_by_hand() -> None:
    """4 h x $0.50 saved, less 0.1 h of both at $0.50, less a takeover of 36 s at $10: $2.00 - $0.05 - $0.10."""
    stake = Stake(value_micros_per_hour=10_000_000, restore_s=360.0, takeover_s=36.0)
    alone = Rules(spares=0)
    now, then = (priced(offer(price=price), 0.1, stake) for price in (1_000_000, 500_000))
    assert saving_micros(now, then, alone, stake) == 1_850_000
    assert saving_micros(then, now, alone, stake) < 0


def test_on_demand_gives_way_to_a_spot_spare_and_not_the_other_way_round() -> None:
    """Two spot machines are cheaper than one on demand; the dear one goes once both are ready."""
    first, second, steady = held(offer("a"), 0.5), held(offer("b"), 0.5), held(on_demand(), 0.001)
    stake = replace(STAKE, value_micros_per_hour=100_000_000)
    machines = [
        Held(id=m.id, priced=priced(m.priced.offer, m.priced.hazard.per_hour, stake), ready=True)
        for m in (first, second, steady)
    ]
    assert choose([], machines, Rules(), stake).end == ("steady",)
