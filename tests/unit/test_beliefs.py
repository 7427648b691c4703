"""Beliefs: what a look at the market teaches, and what it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.market.beliefs import WATCH_HOURS, Beliefs, group_of, hazard_of, observe
from dumont.market.hazard import PRIORS, Prior
from dumont.model.offer import Interruption
from tests.unit.markets import offer, on_demand

A = offer("a", region="east")


def test_what_is_not_listed_any_more_was_interrupted() -> None:
    """That is how a public listing tells of other people's losses."""
    beliefs = observe(Beliefs(), [A], frozenset({A.domain}), 0.0)
    beliefs = observe(beliefs, [A], frozenset(), 0.5)
    assert beliefs.domains[A.domain].events == 1.0
    assert beliefs.pressures[group_of(A)].events == 1.0


def test_a_look_after_a_long_time_away_teaches_no_loss() -> None:
    """A server that was off for a day must not count everything that changed as interrupted in that moment."""
    beliefs = observe(Beliefs(), [A], frozenset({A.domain}), 0.0)
    beliefs = observe(beliefs, [A], frozenset(), 2 * WATCH_HOURS)
    assert beliefs.domains[A.domain].events == 0.0
    assert group_of(A) not in beliefs.pressures


def test_nothing_is_learned_of_what_was_not_looked_at() -> None:
    """An offer that a narrower search did not return is not gone (I6)."""
    other = offer("b", region="east")
    beliefs = observe(Beliefs(), [A, other], frozenset({A.domain, other.domain}), 0.0)
    beliefs = observe(beliefs, [other], frozenset({other.domain}), 0.5)
    assert beliefs.domains[A.domain].up_since_h == 0.0


def test_beliefs_are_not_changed_in_place() -> None:
    """`decide` may be run again on the same view."""
    before = observe(Beliefs(), [A], frozenset({A.domain}), 0.0)
    observe(before, [A], frozenset(), 0.5)
    assert before.domains[A.domain].events == 0.0


def test_what_others_say_is_a_prior_and_not_the_last_word() -> None:
    """Google's history for a zone matters at first; what we saw ourselves outweighs it."""
    gentle = Beliefs(priors={A.domain: Prior(2.0, 2000.0)})
    assert hazard_of(A, gentle, 0.0).per_hour < hazard_of(A, Beliefs(), 0.0).per_hour
    for hour in range(40):
        up = frozenset({A.domain}) if hour % 2 == 0 else frozenset[str]()
        gentle = observe(gentle, [A], up, hour / 2)
    assert hazard_of(A, gentle, 20.0).per_hour > 5 * Prior(2.0, 2000.0).per_hour


def test_on_demand_has_the_hazard_of_hardware() -> None:
    """A machine that nobody takes back still stands on a host that may fail."""
    assert hazard_of(on_demand(), Beliefs(), 0.0).per_hour == pytest.approx(PRIORS[Interruption.NEVER].per_hour)
    shaky, firm = on_demand(reliability=0.9), on_demand(reliability=0.999)
    assert hazard_of(shaky, Beliefs(), 0.0).per_hour > hazard_of(firm, Beliefs(), 0.0).per_hour


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=30))
def test_whatever_is_seen_leaves_a_hazard_that_can_be_worked_with(looks: list[tuple[float, bool]]) -> None:
    """Never nought, never endless, whatever order of presence and absence."""
    beliefs, now_h = Beliefs(), 0.0
    for gap_h, there in looks:
        now_h += gap_h
        beliefs = observe(beliefs, [A], frozenset({A.domain}) if there else frozenset(), now_h)
    found = hazard_of(A, beliefs, now_h)
    assert 0 < found.per_hour < 1000
    assert 0 <= found.low < found.high


def test_a_machine_that_is_bid_for_is_lost_to_its_host_as_well() -> None:
    """The bid's own hazard comes on top; a bad host is bad at any bid."""
    bid = offer("bid", interruption=Interruption.OUTBID, min_bid_micros_per_hour=400_000)
    yearly = PRIORS[Interruption.NEVER].per_hour
    assert hazard_of(bid, Beliefs(), 0.0).per_hour == pytest.approx(yearly)
    shaky = offer("bid", interruption=Interruption.OUTBID, min_bid_micros_per_hour=400_000, reliability=0.9)
    assert hazard_of(shaky, Beliefs(), 0.0).per_hour == pytest.approx(yearly + 0.1 / (0.9 * 12))
    unpriced = offer("bid", interruption=Interruption.OUTBID)
    assert hazard_of(unpriced, Beliefs(), 0.0).per_hour == pytest.approx(PRIORS[Interruption.OUTBID].per_hour)
