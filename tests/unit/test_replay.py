"""The replay: exact accounting, no look-ahead, and what the policies do on traces small enough to work out by hand."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumont.errors import BadInput
from dumont.market.bench.ours import Ours
from dumont.market.bench.replay import ON_DEMAND, Now, Outcome, Policy, Setting, Sight, replay
from dumont.market.bench.report import off_reference, page
from dumont.market.bench.rivals import NextZone
from dumont.market.bench.standby import CAREFUL, StandbySetting, address_uptime, repeated
from dumont.market.bench.traces import ON_DEMAND_MICROS, SPOT_MICROS, Trace, Zone, together
from dumont.market.cost import Stake

GAP = 600
START = Setting(start_s=120.0)


def trace(*zones: str, gap_s: int = GAP) -> Trace:
    """A trace of zones written as one digit of capacity per tick."""
    changes = [
        tuple((i * gap_s, int(c)) for i, c in enumerate(digits) if i == 0 or c != digits[i - 1]) for digits in zones
    ]
    named = tuple(Zone(f"us-east-1{'abcdefgh'[i]}_x", change) for i, change in enumerate(changes))
    return Trace("small", gap_s, gap_s * len(zones[0]), named)


def ours(dollars: int = 50) -> Ours:
    return Ours(stake=Stake(value_micros_per_hour=dollars * 1_000_000))


def test_a_machine_works_after_its_start_and_is_paid_from_the_first_second() -> None:
    """Uptime counts what works, cost what is held; mixing them up flatters both."""
    outcome = replay(trace("1111"), NextZone(1), START)
    assert outcome.up_s == 2400 - 120
    assert outcome.spot_s == 2400
    assert outcome.cost_share == pytest.approx(SPOT_MICROS / ON_DEMAND_MICROS)


def test_a_loss_costs_one_start_when_another_zone_has_a_machine() -> None:
    """The reference policy's one number: losses times start."""
    outcome = replay(trace("1100", "1111"), NextZone(1), START)
    assert (outcome.interruptions, outcome.felt) == (1, 1)
    assert outcome.up_s == 2400 - 2 * 120
    assert outcome.spans == [(120.0, 1200.0), (1320.0, 2400.0)]


def test_capacity_one_means_available() -> None:
    """Copies of these traces write it the other way round; read so, a dead market looks perfect."""
    assert replay(trace("0000"), NextZone(1), START).up_s == 0
    assert replay(trace("0000"), NextZone(1), START).spot_s == 0


def test_on_demand_bridges_a_blackout_and_is_ended_when_spot_is_ready() -> None:
    """Two machines are paid for exactly one start."""
    outcome = replay(trace("10011"), NextZone(1, fallback=True), START)
    assert outcome.on_demand_s == 120 + 1200 + 120, "during the first start, the blackout, and the start after it"
    assert outcome.up_s == 3000 - 120 - 120


def test_a_spare_makes_a_loss_a_takeover() -> None:
    """The loss is not felt, and the takeover is counted with its own length."""
    outcome = replay(trace("1100", "1111"), NextZone(2), Setting(start_s=120.0, takeover_s=2.0))
    assert (outcome.interruptions, outcome.felt, outcome.takeovers) == (1, 0, 1)
    assert outcome.uptime == pytest.approx((2400 - 120 - 2) / 2400)


def test_two_zones_that_fall_together_take_the_spare_too() -> None:
    """A spare in a domain that shares the fate is no spare."""
    assert replay(trace("1100", "1101"), NextZone(2), START).felt == 1


def test_a_policy_without_a_listing_learns_by_asking_and_pays_for_refusals() -> None:
    """Refused attempts delay the machine that is got in the end."""
    setting = Setting(start_s=120.0, sight=Sight.ATTEMPTS, refusal_s=10.0)
    outcome = replay(trace("0000", "0000", "1111"), NextZone(1), setting)
    assert outcome.spans == [(140.0, 2400.0)]


class Curious:
    """A policy that notes what it is shown."""

    def start(self, zones: tuple[str, ...]) -> None:
        self.seen: list[tuple[float, tuple[bool, ...] | None]] = []

    def decide(self, now: Now) -> None:
        self.seen.append((now.at_s, now.up))


def test_without_a_listing_nothing_of_the_zones_is_shown() -> None:
    """The two kinds of knowledge must not be mixed up."""
    blind = Curious()
    replay(trace("1010"), blind, Setting(sight=Sight.ATTEMPTS))
    assert {up for _, up in blind.seen} == {None}


@settings(deadline=None, max_examples=40)
@given(
    st.integers(8, 24).flatmap(lambda n: st.lists(st.text("0112", min_size=n, max_size=n), min_size=1, max_size=4)),
    st.data(),
)
def test_no_policy_looks_ahead(zones: list[str], data: st.DataObject) -> None:
    """What is done until some moment must not depend on what comes after it: change the future, and compare."""
    cut = data.draw(st.integers(1, len(zones[0]) - 1))
    other = [z[:cut] + data.draw(st.text("01", min_size=len(z) - cut, max_size=len(z) - cut)) for z in zones]
    policies: list[tuple[Policy, Policy]] = [
        (ours(), ours()),
        (ours(1600), ours(1600)),
        (NextZone(2, True), NextZone(2, True)),
    ]
    for one, two in policies:
        first, second = replay(trace(*zones), one, START), replay(trace(*other), two, START)
        assert _until(first, cut * GAP) == _until(second, cut * GAP)


class Prophet(NextZone):
    """Knows the future: takes the zone that lasts longest from now."""

    def __init__(self, whole: Trace) -> None:
        super().__init__()
        self.whole = whole

    def _rent(self, now: Now) -> None:
        def lasts_until(zone: int) -> float:
            changes = self.whole.zones[zone].changes
            return next((at_s for at_s, machines in changes if at_s > now.at_s and not machines), float("inf"))

        for zone in sorted(range(self.zones), key=lasts_until, reverse=True):
            if now.rent(zone):
                return


def test_a_policy_that_looked_ahead_would_be_caught() -> None:
    """The negative control of the check above: with another future the prophet acts otherwise before it."""
    one, other = trace("111100", "111111"), trace("111111", "111100")
    outcomes = [replay(t, Prophet(t), START) for t in (one, other)]
    assert _until(outcomes[0], 4 * GAP) != _until(outcomes[1], 4 * GAP)


def _until(outcome: Outcome, at_s: float) -> list[tuple[float, float]]:
    """What was rented, and what worked, before that moment."""
    worked = [(a, min(b, at_s)) for a, b in outcome.spans if a < at_s]
    return worked + [(since_s, zone) for since_s, zone in outcome.rented if since_s < at_s]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(4, 24).flatmap(lambda n: st.lists(st.text("0123", min_size=n, max_size=n), min_size=1, max_size=4)),
    st.sampled_from([0, 50, 1600]),
)
def test_time_is_accounted_for_whatever_the_market_does(zones: list[str], dollars: int) -> None:
    """Spans do not overlap, sum to the uptime, and nobody works who is not paid."""
    outcome = replay(trace(*zones), ours(dollars), START)
    assert sum(b - a for a, b in outcome.spans) == pytest.approx(outcome.up_s)
    assert all(b <= c for (_, b), (c, _) in zip(outcome.spans, outcome.spans[1:], strict=False))
    assert outcome.up_s <= outcome.spot_s + outcome.on_demand_s + 1e-6
    assert outcome.up_s <= outcome.span_s
    assert outcome.felt <= outcome.interruptions


def test_ours_falls_back_and_comes_back_without_a_second_gap() -> None:
    """The return to spot is made before on demand is given up."""
    outcome = replay(trace("1110000111111111", gap_s=3600), ours(), START)
    assert len(outcome.spans) == 2, "one gap at the loss, none at the return"
    assert outcome.on_demand_s < 6 * 3600


def test_ours_prefers_the_zone_that_lasts() -> None:
    """After hours of watching, the zone that comes and goes is not where it flees to."""
    flapping, steady, lost = "10" * 24, "1" * 48, "1" * 40 + "0" * 8
    outcome = replay(trace(flapping, lost, steady, gap_s=3600), ours(), START)
    assert outcome.interruptions <= 2


def _address(gpu: list[tuple[float, float]], cpu: list[tuple[float, float]], setting: StandbySetting) -> float:
    gpu_outcome = Outcome(span_s=10_000.0, spans=gpu)
    cpu_outcome = Outcome(span_s=30_000.0, spans=cpu)
    return address_uptime(gpu_outcome, cpu_outcome, 10_000.0, setting).mean


def test_the_address_answers_while_either_machine_does() -> None:
    """A gap of the GPU costs two moves and not the gap, as long as the standby is there."""
    quick = StandbySetting(lost_s=1.0, moved_s=2.0)
    gpu = [(0.0, 4000.0), (5000.0, 10_000.0)]
    assert _address(gpu, [(0.0, 30_000.0)], quick) == pytest.approx(1 - 3.0 / 10_000)
    assert _address(gpu, [], quick) == pytest.approx(1 - 1003.0 / 10_000)
    assert _address(gpu, [(0.0, 30_000.0)], CAREFUL) < _address(gpu, [(0.0, 30_000.0)], quick)


def test_a_repeated_recording_goes_on_where_it_began() -> None:
    """Recordings of CPUs are shorter than those of GPUs; the seam must not add an outage."""
    twice = repeated(trace("1101"), 2)
    assert twice.span_s == 2 * 4 * GAP
    assert replay(twice, NextZone(1), Setting(start_s=0.0)).up_s == 6 * GAP


def test_halves_and_relabelled_ticks_keep_their_shape() -> None:
    """The second half must not know the first, and another clock must only stretch time."""
    whole = trace("11010011")
    first, second = whole.halves()
    assert first.zones[0].changes == ((0, 1), (1200, 0), (1800, 1))
    assert second.zones[0].changes == ((0, 0), (1200, 1))
    slower = together({"a": whole}, "slow", ["a"], gap_s=2 * GAP)
    assert slower.span_s == 2 * whole.span_s
    assert slower.zones[0].changes[1] == (2 * 1200, 0)
    with pytest.raises(BadInput, match="different ticks"):
        together({"a": whole, "b": trace("11", gap_s=60)}, "mixed", ["a", "b"])


def test_a_simulator_off_its_references_is_noticed() -> None:
    """The negative control of the bench's own check."""
    row = {
        "trace": "t",
        "machines": 1,
        "start_s": 120,
        "uptime": 99.0,
        "uptime_reference": 99.0,
        "cost": 30.0,
        "cost_reference": 30.0,
    }
    assert off_reference([row]) == []
    assert len(off_reference([row | {"uptime": 99.5}, row | {"cost": 31.0}])) == 2


def test_on_demand_is_always_to_be_had() -> None:
    """As in the reference; the traces say nothing of on-demand stock-outs."""

    class Steady(Curious):
        def decide(self, now: Now) -> None:
            if not now.machines:
                assert now.rent(ON_DEMAND)

    assert replay(trace("0000"), Steady(), START).up_s == 2400 - 120


def test_the_page_shows_the_committed_results() -> None:
    """Figures on a page that no result holds are figures nobody can check (I9)."""
    root = Path(__file__).resolve().parents[2]
    written = (root / "docs/market.md").read_text()
    results = json.loads((root / "bench/results/market.json").read_text())
    assert page(written, results) == written, "make bench-market writes both"
    assert off_reference(results["checks"]) == []
    with pytest.raises(BadInput, match="put them where"):
        page("no tables here", results)
