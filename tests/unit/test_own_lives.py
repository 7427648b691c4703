"""Lives of our own machines: which ends are interruptions, and what they teach of a domain and of a bid."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.market.beliefs import Beliefs, hazard_of
from dumont.market.bids import Bidding, BidHistory, outbid_hazard, own_bids
from dumont.market.hazard import FRESH, MEMORY_HOURS, PRIORS, History, Prior, hazard
from dumont.market.lives import Held, OwnLife, held, life_of
from dumont.market.placement import rank
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Need
from tests.records import AT, an_instance
from tests.unit.markets import STAKE, offer, on_demand

PRIOR = Prior(1.0, 3.0)
START_H = AT.timestamp() / 3600


def life(began_h: float, ended_h: float | None, interrupted: bool = False, bid: int = 0) -> OwnLife:
    return OwnLife(
        id=f"{began_h}", domain="d", began_h=began_h, ended_h=ended_h, interrupted=interrupted, bid_micros=bid
    )


@pytest.mark.parametrize(
    ("ended", "joined", "interrupted"),
    [
        ("outbid", True, True),
        ("preempted", True, True),
        ("preempted", False, True),  # taken away while it booted: the provider said so
        ("extra", True, False),  # we let it go ourselves
        ("deleted", True, False),
        ("branch_saved", True, False),
        ("dead", True, False),  # nobody knows why (I6)
        ("gone", True, False),
        ("unreachable", True, False),
        ("offline", True, False),  # its host may come back (I6)
        ("no_credit", True, False),  # our own account
        ("failed", True, False),
        ("", True, False),  # it is still held
        ("boot_timeout", False, None),  # it failed to boot
        ("failed", False, None),
        ("extra", False, None),
        ("deleted", False, None),
        ("", False, None),  # it is booting, or its rent was refused
    ],
)
def test_only_what_the_provider_took_is_an_interruption(ended: str, joined: bool, interrupted: bool | None) -> None:
    """A machine that we ended, whose end nobody knows, or that never came up was not taken away."""
    end = AT + timedelta(hours=2) if ended else None
    found = life_of(an_instance(domain="d", token_hash="" if joined else "h", ended=ended, ended_at=end))
    if interrupted is None:
        assert found is None
    else:
        assert found is not None
        assert (found.interrupted, found.ended_h is None) == (interrupted, not ended)
        assert found.until_h(START_H + 5.0) - found.began_h == pytest.approx(2.0 if ended else 5.0)


def test_on_demand_machines_and_those_without_a_domain_have_no_life() -> None:
    """Nobody takes the first back, and of the second nobody knows what it shares."""
    taken = {"token_hash": "", "ended": "preempted", "ended_at": AT}
    assert life_of(an_instance(domain="d", spot=False, **taken)) is None
    assert life_of(an_instance(domain="", **taken)) is None


def test_machines_that_we_let_go_lower_a_hazard_and_those_taken_away_raise_it() -> None:
    """An own life is an observation: ten hours without an end say something, whoever ended it afterwards."""
    none = hazard(None, PRIOR, 10.0).per_hour
    calm = hazard(None, PRIOR, 10.0, [life(0.0, 10.0)]).per_hour
    wild = hazard(None, PRIOR, 10.0, [life(9.0, 10.0, True), life(9.5, 10.0, True)]).per_hour
    assert calm < none < wild
    exposure = MEMORY_HOURS * (1 - math.exp(-10.0 / MEMORY_HOURS))
    assert calm == pytest.approx(1.0 / (3.0 + exposure))
    short = MEMORY_HOURS * (2 - math.exp(-1.0 / MEMORY_HOURS) - math.exp(-0.5 / MEMORY_HOURS))
    assert wild == pytest.approx(3.0 / (3.0 + short))


def test_the_prior_stays_what_it_is_and_lives_fade() -> None:
    """A loss of last month must not keep us from a zone for ever."""
    old = [life(0.0, 1.0, True)]
    assert hazard(None, PRIOR, 30 * 24.0, old).per_hour == pytest.approx(PRIOR.per_hour, rel=1e-6)
    assert hazard(None, PRIOR, 5.0, []) == hazard(None, PRIOR, 5.0)


def test_a_loss_of_our_own_ends_the_run_that_the_listing_sees() -> None:
    """Google lists a zone without pause: its age would outweigh any number of our own losses."""
    listed = History(at_h=0.0, up_since_h=0.0).seen(True, 500.0)
    before = hazard(listed, PRIOR, 500.0)
    after = hazard(listed, PRIOR, 500.0, [life(498.0, 500.0, True)])
    assert after.per_hour > 20 * before.per_hour
    events, hours = 1.0 + 1.0, 3.0 + listed.hours + MEMORY_HOURS * (1 - math.exp(-2.0 / MEMORY_HOURS))
    assert after.per_hour == pytest.approx(FRESH * events / hours)
    let_go = hazard(listed, PRIOR, 500.0, [life(498.0, 500.0, False)])
    assert let_go.per_hour <= before.per_hour, "one that we ended ourselves ends no run"


@given(
    st.lists(st.tuples(st.floats(0, 99), st.floats(0, 50), st.booleans()), max_size=12),
    st.floats(0, 200),
    st.booleans(),
)
def test_any_lives_leave_a_hazard_that_can_be_worked_with(
    spans: list[tuple[float, float, bool]], now_h: float, listed: bool
) -> None:
    """Never nought, never endless; also for lives whose clock was ahead of ours."""
    lives = [life(began, began + lasted, taken) for began, lasted, taken in spans]
    history = History(at_h=0.0, up_since_h=0.0) if listed else None
    found = hazard(history, PRIOR, now_h, lives)
    assert 0 < found.per_hour < 1000
    assert 0 <= found.low < found.high


@pytest.mark.parametrize(
    ("one", "level", "expected"),
    [
        (life(0.0, 4.0, True, 500), 400, (1, 4.0)),  # a lower bid would have been lost as well
        (life(0.0, 4.0, True, 500), 500, (1, 4.0)),
        (life(0.0, 4.0, True, 500), 600, (0, 4.0)),  # a higher one would have lasted so long at least
        (life(0.0, 4.0, False, 500), 400, (0, 0.0)),  # a lower one may have been lost before
        (life(0.0, 4.0, False, 500), 500, (0, 4.0)),
        (life(0.0, 4.0, False, 500), 600, (0, 4.0)),
        (life(0.0, None, False, 500), 500, (0, 7.0)),  # still held, seven hours later
        (life(0.0, 4.0, True, 0), 500, (0, 0.0)),  # what was bid is not known
    ],
)
def test_what_a_life_at_one_bid_tells_of_another(one: OwnLife, level: int, expected: tuple[int, float]) -> None:
    """Otherwise a machine held at a high bid would make a low one look safe."""
    assert own_bids([one], level, 7.0) == expected


def test_being_outbid_ourselves_raises_the_hazard_of_that_bid_and_of_the_host() -> None:
    """What happens to us counts as what the listing shows."""
    bidding = offer("bid", 400_000, interruption=Interruption.OUTBID, min_bid_micros_per_hour=400_000, domain="d")
    daily = PRIORS[Interruption.OUTBID]
    outbid = (life(0.0, 1.0, True, 440_000), life(2.0, 3.0, True, 440_000))
    before = outbid_hazard(bidding, 440_000, Bidding(BidHistory(), daily, 10.0))
    after = outbid_hazard(bidding, 440_000, Bidding(BidHistory(), daily, 10.0, outbid))
    assert (after.shape, after.hours) == (before.shape + 2, before.hours + 2.0)
    (plain,) = rank([bidding], Need(machine=Machine.GPU), Beliefs(stake=STAKE), 10.0)
    (burnt,) = rank([bidding], Need(machine=Machine.GPU), Beliefs(stake=STAKE, own={"d": outbid}), 10.0)
    assert burnt.micros_per_hour > plain.micros_per_hour


def test_lives_count_for_their_own_domain_and_for_spot_machines_alone() -> None:
    """Another zone's losses are its own, and nobody takes back what is on demand."""
    here, there = offer("a", domain="d"), offer("b", domain="other")
    beliefs = Beliefs(own={"d": (life(0.0, 1.0, True),)})
    assert hazard_of(here, beliefs, 1.0).per_hour > hazard_of(here, Beliefs(), 1.0).per_hour
    assert hazard_of(there, beliefs, 1.0) == hazard_of(there, Beliefs(), 1.0)
    steady = on_demand(domain="d")
    assert hazard_of(steady, beliefs, 1.0) == hazard_of(steady, Beliefs(), 1.0)
    assert beliefs.lives_of(here) and not beliefs.lives_of(there) and not beliefs.lives_of(steady)


def test_what_stands_behind_a_hazard_is_counted() -> None:
    """A figure is shown with its evidence (I9)."""
    lives = [life(0.0, 4.0, True), life(1.0, None), life(3.0, 5.0)]
    assert held(lives, 6.0) == Held(lives=3, interrupted=1, hours=4.0 + 5.0 + 2.0)
    assert held([], 6.0) == Held()
