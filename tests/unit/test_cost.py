"""Expected cost: exact money, every part listed, and worse when anything gets worse."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.market.bids import Bidding, BidHistory, best_bid, bid_levels, headroom_share, outbid_hazard
from dumont.market.cost import Part, Stake, expected_cost, machine_micros, micros
from dumont.market.hazard import Hazard, Prior
from dumont.model.offer import Interruption, Offer
from tests.unit.markets import STAKE, offer, on_demand

RATES = st.floats(1e-6, 20.0)
MONEY = st.integers(0, 10**9)
CALM = Hazard(1.0, 1000.0)
DAILY = Prior(1.0, 24.0)


def bidding(lowest: int = 400_000, **more: object) -> Offer:
    return offer("bid", lowest, interruption=Interruption.OUTBID, min_bid_micros_per_hour=lowest, **more)


def test_every_part_of_the_price_is_listed() -> None:
    """`--explain` shows these lines; what is not in them is not in the total."""
    stake = Stake(
        value_micros_per_hour=36_000_000,
        restore_s=100.0,
        work_at_risk_s=50.0,
        transfer_gb=10.0,
        sync_gb_per_hour=2.0,
        standby_micros_per_hour=15_000,
    )
    given_offer = offer(
        price=1_000_000,
        compute_micros_per_hour=900_000,
        disk_micros_per_hour=95_000,
        address_micros_per_hour=5_000,
        ingress_micros_per_gb=1_000,
        egress_micros_per_gb=20_000,
    )
    found = expected_cost(given_offer, Hazard(1.0, 2.0), stake)
    assert dict(found.parts) == {
        Part.MACHINE: 900_000,
        Part.DISK: 95_000,
        Part.ADDRESS: 5_000,
        Part.RESTORE: 500_000,
        Part.WORK: 250_000,
        Part.TRANSFER: 45_000,
        Part.STANDBY: 15_000,
    }
    assert found.micros_per_hour == 1_810_000
    assert found.price_micros_per_hour == 1_000_000


@given(price=MONEY, rate=RATES, more=RATES, value=MONEY)
def test_more_interruptions_never_cost_less(price: int, rate: float, more: float, value: int) -> None:
    """Else a market could look better by being worse."""
    stake = replace(STAKE, value_micros_per_hour=value)
    low, high = sorted((rate, rate + more))
    calm, wild = (expected_cost(offer(price=price), Hazard(1.0, 1 / r), stake) for r in (low, high))
    assert calm.micros_per_hour <= wild.micros_per_hour


@given(price=MONEY, rate=RATES, longer=st.floats(0, 1e5), value=MONEY)
def test_a_longer_restore_never_costs_less(price: int, rate: float, longer: float, value: int) -> None:
    """The measured restore time is what makes a cheap and wild market dear."""
    stake = replace(STAKE, value_micros_per_hour=value)
    slow = replace(stake, restore_s=stake.restore_s + longer)
    here = offer(price=price)
    assert expected_cost(here, Hazard(1.0, 1 / rate), stake).micros_per_hour <= (
        expected_cost(here, Hazard(1.0, 1 / rate), slow).micros_per_hour
    )


@given(price=MONEY, rate=RATES, value=MONEY)
def test_the_total_is_exactly_the_sum_of_integers(price: int, rate: float, value: int) -> None:
    """Money is exact: no part is a float, and nothing is rounded twice."""
    found = expected_cost(offer(price=price), Hazard(1.0, 1 / rate), replace(STAKE, value_micros_per_hour=value))
    assert all(type(amount) is int for _, amount in found.parts)
    assert found.micros_per_hour == sum(amount for _, amount in found.parts)
    assert found.price_micros_per_hour == price


def test_halves_are_rounded_away_from_zero() -> None:
    """Rounding to even would favour one side of a comparison by where it happens to lie."""
    assert [micros(amount) for amount in (0.5, 1.5, 2.5, -0.5, -1.5)] == [1, 2, 3, -1, -2]


def test_without_its_parts_the_whole_price_is_the_machines() -> None:
    """Providers that tell only a total must not come out free."""
    assert machine_micros(offer(price=700_000)) == 700_000
    assert machine_micros(offer(price=700_000, disk_micros_per_hour=100_000)) == 600_000


def test_a_bid_is_raised_when_being_outbid_is_dear() -> None:
    """The bid is a decision: what an interruption costs decides how far above the lowest it goes."""
    idle, precious = Stake(value_micros_per_hour=0), Stake(value_micros_per_hour=200_000_000, restore_s=300.0)
    none = Bidding(BidHistory(), DAILY, 0.0)
    low, high = best_bid(bidding(), CALM, idle, none), best_bid(bidding(), CALM, precious, none)
    assert low is not None and high is not None
    assert low.offer.bid_micros_per_hour == 400_000
    assert high.offer.bid_micros_per_hour > 440_000
    assert high.price_micros_per_hour == high.offer.bid_micros_per_hour, "pay as bid"


def test_a_history_of_spikes_decides_the_level() -> None:
    """A price that jumps by a third every few hours makes it worth to bid above the spikes, and no further."""
    samples = tuple((float(hour), 530_000 if hour % 6 == 5 else 400_000) for hour in range(600))
    stake = Stake(value_micros_per_hour=50_000_000, restore_s=180.0)
    found = best_bid(bidding(), CALM, stake, Bidding(BidHistory(samples), DAILY, 600.0))
    assert found is not None
    assert 530_000 <= found.offer.bid_micros_per_hour <= 600_000


def test_crossings_count_only_rises_above_the_bid() -> None:
    """A price that stays above, or falls, takes nothing from anybody."""
    history = BidHistory(((0.0, 10), (1.0, 30), (2.0, 40), (3.0, 10), (5.0, 20)))
    assert history.crossings(20, 9.0) == (1, 1.0 + 2.0 + 4.0)
    assert history.crossings(5, 9.0) == (0, 0.0)
    assert history.crossings(50, 9.0) == (0, 9.0)


@given(one=st.integers(400_000, 900_000), other=st.integers(400_000, 900_000))
def test_a_higher_bid_is_never_outbid_more_without_a_history(one: int, other: int) -> None:
    """With nothing seen the prior alone speaks, and it must not reward bidding less."""
    low, high = sorted((one, other))
    rates = [outbid_hazard(bidding(), bid, Bidding(BidHistory(), DAILY, 0.0)).per_hour for bid in (low, high)]
    assert rates[0] >= rates[1]
    assert 0 < headroom_share(1.0) < headroom_share(0.1) < headroom_share(0.0) == 1.0


def test_no_bid_goes_above_what_is_allowed() -> None:
    """The policy's highest price holds for bids as well."""
    assert max(bid_levels(bidding(), 450_000)) <= 450_000
    assert bid_levels(bidding(), 399_999) == []
    assert best_bid(bidding(), CALM, STAKE, Bidding(BidHistory(), DAILY, 0.0), 399_999) is None


def test_what_takes_no_bid_is_paid_as_listed() -> None:
    """Google and on-demand machines have a price and nothing to decide."""
    found = best_bid(on_demand(), CALM, STAKE, Bidding(BidHistory(), DAILY, 0.0))
    assert found is not None and found.offer.bid_micros_per_hour == 0
    assert found.price_micros_per_hour == pytest.approx(3_000_000)
