"""A machine that is told of its end: the workspace has moved by then, and nobody had to detect anything."""

from tests.simulation.machine import Swaps
from tests.simulation.world import simulate

NOTICED = Swaps(focus=("_preempt_with_notice",))
UNHEARD = Swaps(focus=("_preempt_with_notice",), heeds_notice=False)
SEEDS = range(300, 312)


def _promotions(swaps: Swaps) -> dict[str, int]:
    """How often somebody was promoted in those worlds, by reason."""
    found: dict[str, int] = {}
    for seed in SEEDS:
        for reason, times in simulate(seed, swaps=swaps).reasons:
            found[reason] = found.get(reason, 0) + times
    return found


def test_a_planned_switchover_beats_the_failover() -> None:
    """The notice comes seconds to half a minute ahead; without it the same preemptions are failovers."""
    heard, unheard = _promotions(NOTICED), _promotions(UNHEARD)
    assert unheard["failover"] >= 5
    assert heard.get("failover", 0) <= unheard["failover"] // 2  # both copies may be told of their end at once
    assert heard["switchover"] > unheard["failover"]
