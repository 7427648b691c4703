"""Kaplan-Meier with censoring, against values worked out by hand and in the literature."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.errors import BadInput
from dumont.market.survival import Life, kaplan_meier

REMISSION = [(h, True) for h in (6, 6, 6, 7, 10, 13, 16, 22, 23)]
REMISSION += [(h, False) for h in (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)]


def test_the_textbook_example_comes_out() -> None:
    """Freireich's 21 patients on 6-MP, in every textbook: S(6) = 0.857, S(10) = 0.753, S(23) = 0.448 (SE 0.135)."""
    curve = kaplan_meier([Life(float(hours), ended) for hours, ended in REMISSION])
    assert curve.share(6) == pytest.approx(0.8571, abs=1e-4)
    assert curve.share(10) == pytest.approx(0.7529, abs=1e-4)
    assert curve.share(23) == pytest.approx(0.4482, abs=1e-4)
    assert curve.median_h == 23
    assert [step.at_risk for step in curve.steps] == [21, 17, 15, 12, 11, 7, 6]


def test_greenwoods_interval_is_the_published_one() -> None:
    """For the same data at 95 %, log(-log) scale: 0.620 to 0.952 after 6 weeks (R's survfit, conf.type log-log)."""
    curve = kaplan_meier([Life(float(hours), ended) for hours, ended in REMISSION], level=0.95)
    assert curve.steps[0].low == pytest.approx(0.6197, abs=1e-3)
    assert curve.steps[0].high == pytest.approx(0.9516, abs=1e-3)


def test_a_machine_that_we_ended_ourselves_is_not_counted_as_lost() -> None:
    """Otherwise moving away from good machines would make them look bad."""
    moved = kaplan_meier([Life(1.0, False), Life(1.0, False), Life(5.0, True)])
    lost = kaplan_meier([Life(1.0, True), Life(1.0, True), Life(5.0, True)])
    assert moved.share(2.0) == 1.0
    assert lost.share(2.0) == pytest.approx(1 / 3)


def test_the_mean_is_the_area_under_the_curve() -> None:
    """Without censoring it is the plain mean."""
    assert kaplan_meier([Life(h, True) for h in (1.0, 2.0, 6.0)]).mean_h() == pytest.approx(3.0)
    assert kaplan_meier([Life(h, True) for h in (1.0, 2.0, 6.0)]).mean_h(within_h=2.0) == pytest.approx(5 / 3)


@given(st.lists(st.tuples(st.floats(0, 1000), st.booleans()), min_size=1, max_size=40))
def test_the_curve_only_falls_and_stays_within_its_interval(lives: list[tuple[float, bool]]) -> None:
    """Shares of machines lie between 0 and 1 whatever was recorded."""
    curve = kaplan_meier([Life(hours, ended) for hours, ended in lives])
    shares = [step.share for step in curve.steps]
    assert shares == sorted(shares, reverse=True)
    assert all(
        0 <= step.low <= step.share + 1e-12 and step.share <= step.high + 1e-12 <= 1 + 2e-12 for step in curve.steps
    )


def test_nothing_gives_no_curve() -> None:
    """A curve of nobody would say that everything lasts for ever."""
    with pytest.raises(BadInput, match="at least one"):
        kaplan_meier([])


def test_the_median_is_the_first_time_that_half_are_gone() -> None:
    """Exactly half counts; with more than half left there is no median to tell."""
    assert kaplan_meier([Life(h, True) for h in (1.0, 2.0, 3.0, 4.0)]).median_h == 2.0
    assert kaplan_meier([Life(1.0, True), Life(5.0, False), Life(5.0, False)]).median_h is None


def test_once_nobody_is_left_the_interval_stays_open_above() -> None:
    """Greenwood's variance is not defined there; a certain nought would be a claim."""
    last = kaplan_meier([Life(h, True) for h in (1.0, 2.0, 3.0)]).steps[-1]
    assert (last.share, last.low) == (0.0, 0.0) and last.high > 0.1


@pytest.mark.parametrize("lives", [[Life(-1.0, True)], [Life(2.0, True), Life(-0.1, False)]])
def test_a_life_of_less_than_nothing_is_refused(lives: list[Life]) -> None:
    """A clock that went back must not become a statistic."""
    with pytest.raises(BadInput, match="none shorter"):
        kaplan_meier(lives)
