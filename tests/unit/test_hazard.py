"""Interruption hazard: the estimator, its interval, and what others say of a domain."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.errors import BadInput
from dumont.market.hazard import (
    MEMORY_HOURS,
    Hazard,
    History,
    Prior,
    from_reliability,
    hazard,
    prior_from_capacity_history,
)
from dumont.market.quantile import gamma_cdf, gamma_quantile

PRIOR = Prior(1.0, 3.0)


def test_a_run_that_lasts_is_believed_in_more_and_more() -> None:
    """Spot machines that survived their first hours are the ones to keep; a constant rate would not say so."""
    history = History(at_h=0.0, up_since_h=0.0)
    rates = [hazard(history, PRIOR, float(hour)).per_hour for hour in range(0, 48, 6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0] / 10


def test_a_domain_that_was_lost_often_is_believed_in_less() -> None:
    """Otherwise the machine that comes back in the same bad zone would be rented again and again."""
    calm = History(at_h=0.0, up_since_h=0.0).seen(True, 5.0)
    wild = History(at_h=0.0, up_since_h=0.0)
    for hour in range(1, 6):
        wild = wild.seen(hour % 2 == 0, float(hour))
    assert wild.events == pytest.approx(sum(math.exp(-h / MEMORY_HOURS) for h in (0, 2, 4)))
    fresh = [History(at_h=h.at_h, events=h.events, hours=h.hours, up_since_h=5.0) for h in (calm, wild)]
    assert hazard(fresh[1], PRIOR, 5.0).per_hour > 2 * hazard(fresh[0], PRIOR, 5.0).per_hour


def test_what_was_not_watched_is_no_interruption() -> None:
    """A domain that nobody looked at in between may have gone and come back; nothing is known of its losses."""
    before = History(at_h=0.0, up_since_h=0.0)
    assert before.seen(False, 1.0).events == 1.0
    assert before.found(False, 1.0).events == 0.0
    assert before.found(False, 1.0).up_since_h is None
    assert before.found(True, 100.0).hours == 0.0 and before.found(True, 100.0).up_since_h == 100.0


def test_a_run_that_was_seen_to_begin_is_trusted_less_than_one_of_unknown_age() -> None:
    """Most runs end young; a machine that was there when the first look was taken is likely in a long one."""
    young = History(at_h=0.0).seen(True, 0.5)
    unknown = History(at_h=0.5, up_since_h=0.5)
    assert young.fresh and not unknown.fresh
    assert hazard(young, PRIOR, 0.5).per_hour == pytest.approx(2 * hazard(unknown, PRIOR, 0.5).per_hour)


def test_a_history_does_not_go_back() -> None:
    """Two looks in the wrong order would count hours below zero."""
    with pytest.raises(BadInput, match="forward"):
        History(at_h=2.0).seen(True, 1.0)


def test_hours_and_ends_fade_alike() -> None:
    """Then an old rate is forgotten towards the prior and not towards zero."""
    history = History(at_h=0.0, up_since_h=0.0).seen(False, 10.0)
    later = history.seen(False, 10.0 + MEMORY_HOURS)
    assert later.events == pytest.approx(math.exp(-1))
    assert later.hours == pytest.approx(history.hours * math.exp(-1))


@given(shape=st.floats(0.2, 40), hours=st.floats(0.01, 1e5))
def test_the_mean_lies_in_the_interval_and_the_interval_holds_its_probability(shape: float, hours: float) -> None:
    """An interval that did not hold what it says would be decoration."""
    found = Hazard(shape, hours)
    inside = gamma_cdf(found.high * hours, shape) - gamma_cdf(found.low * hours, shape)
    assert inside == pytest.approx(0.90, abs=1e-6)
    assert found.low < found.high
    if shape >= 1:
        assert found.low < found.per_hour < found.high


@pytest.mark.parametrize(
    ("probability", "shape", "expected"),
    [
        (0.95, 1.0, 2.995732),
        (0.05, 1.0, 0.0512933),
        (0.95, 5.0, 9.153519),
        (0.05, 10.0, 5.425406),
        (0.5, 0.5, 0.2274682),
    ],
)
def test_quantiles_agree_with_tables(probability: float, shape: float, expected: float) -> None:
    """Half of the chi-square quantiles that every table prints: chi2(p, 2 x shape) / 2."""
    assert gamma_quantile(probability, shape) == pytest.approx(expected, rel=1e-5)


@given(hours=st.floats(0.1, 1e4), ahead=st.floats(0.0, 1e4))
def test_expected_losses_and_survival_tell_the_same(hours: float, ahead: float) -> None:
    """Both come from one distribution (Lomax): the chance to last is (1 + t/b)^-a."""
    found = Hazard(1.0, hours)
    assert found.survival(ahead) == pytest.approx(1 / (1 + ahead / hours))
    assert found.events_within(ahead) <= found.per_hour * ahead + 1e-9


def test_adding_a_cause_adds_its_rate() -> None:
    """Independent causes compete: their rates add up."""
    assert Hazard(2.0, 10.0).plus(0.3).per_hour == pytest.approx(0.5)


def test_a_capacity_history_becomes_a_weak_prior() -> None:
    """Google tells the share of stops that were preemptions; half of them means as many as users' own stops."""
    assert prior_from_capacity_history([0.5], own_stops_per_hour=0.1).per_hour == pytest.approx(0.1)
    assert prior_from_capacity_history([0.9]).per_hour > prior_from_capacity_history([0.1]).per_hour
    recent = prior_from_capacity_history([0.1, 0.1, 0.9]).per_hour
    assert recent > prior_from_capacity_history([0.9, 0.1, 0.1]).per_hour, "newest last, and newest counts most"
    for bad in ([], [1.5], [-0.1]):
        with pytest.raises(BadInput, match="preemption rate"):
            prior_from_capacity_history(bad)


def test_a_capacity_history_of_certain_preemption_is_still_finite() -> None:
    """A rate of exactly 1 would otherwise divide by zero."""
    assert math.isfinite(prior_from_capacity_history([1.0]).per_hour)


def test_a_better_score_means_fewer_failures() -> None:
    """A marketplace's reliability is read as the share of time that the host is there."""
    assert from_reliability(1.0) == 0.0
    assert from_reliability(0.99) < from_reliability(0.9)
    assert math.isfinite(from_reliability(0.0))


def test_hours_of_presence_add_up_to_what_memory_holds() -> None:
    """A domain that was there for one hour has one hour less what faded meanwhile; for ever, the whole memory."""
    hour = History(at_h=0.0, up_since_h=0.0).seen(True, 1.0)
    assert hour.hours == pytest.approx(MEMORY_HOURS * (1 - math.exp(-1 / MEMORY_HOURS)))
    assert hour.seen(True, 2.0).hours == pytest.approx(History(at_h=0.0, up_since_h=0.0).seen(True, 2.0).hours)
    assert hour.seen(True, 1000.0).hours == pytest.approx(MEMORY_HOURS)
    assert hour.seen(False, 1.0).seen(False, 2.0).hours < hour.hours
