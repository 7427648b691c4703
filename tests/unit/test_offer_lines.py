"""What `dumont offers --explain` shows: every part, how it came about, and nothing that does not add up."""

from hypothesis import given
from hypothesis import strategies as st

from dumont.api.offers import shown_offer, shown_stake
from dumont.cli.offers import calculation, interruptions
from dumont.client.results import OfferShown
from dumont.market.bids import Bidding, BidHistory, best_bid
from dumont.market.cost import Priced, Stake, expected_cost
from dumont.market.hazard import Hazard, Prior
from dumont.market.lives import Held
from dumont.model.offer import Interruption
from tests.unit.markets import STAKE, offer


def shown(priced: Priced) -> OfferShown:
    return shown_offer(priced, Held())


@given(st.integers(0, 10**8), st.floats(1e-4, 10), st.floats(0, 100), st.integers(0, 10**6))
def test_the_lines_sum_to_the_expected_cost(price: int, rate: float, gb: float, standby: int) -> None:
    """Money that is in the total and in no line is money nobody can check."""
    stake = Stake(transfer_gb=gb, standby_micros_per_hour=standby, work_at_risk_s=60.0)
    found = shown(expected_cost(offer(price=price, ingress_micros_per_gb=700), Hazard(1.0, 1 / rate), stake))
    assert sum(found.parts.values()) == found.cost_micros_per_hour
    assert all(calculation(part, found, shown_stake(stake)) for part in found.parts)


def test_the_calculation_can_be_done_by_hand_from_the_line() -> None:
    """0.5 an hour x 120 s x $50 = $0.8333."""
    found = shown(expected_cost(offer(), Hazard(1.0, 2.0), STAKE))
    assert calculation("restore", found, shown_stake(STAKE)) == "0.5000 an hour × 120.0 s × US$ 50.00 an hour"
    assert found.parts["restore"] == 833_333


def test_a_bid_is_shown_beside_the_lowest_that_wins() -> None:
    """Who pays more than the market asks wants to see by how much."""
    bidding = offer(price=400_000, interruption=Interruption.OUTBID, min_bid_micros_per_hour=400_000)
    found = best_bid(bidding, Hazard(1.0, 1000.0), STAKE, Bidding(BidHistory(), Prior(1.0, 24.0), 0.0))
    assert found is not None
    assert "US$ 0.4000" in calculation("machine", shown(found), shown_stake(STAKE))


def test_the_hazard_is_never_shown_without_its_interval() -> None:
    """A rate from one day of history is not the same as one from a year. In interruptions a day, 90 % between."""
    short, long = (shown(expected_cost(offer(), Hazard(n, n * 10.0), STAKE)) for n in (1.0, 100.0))
    assert interruptions(short) == "2.40 (0.12–7.19)"
    assert interruptions(long).startswith("2.40 (2.0")
