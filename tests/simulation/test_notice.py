"""A machine that is told of its end: the workspace has moved by then, and nobody had to detect anything."""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.machine import Swaps
from tests.simulation.world import simulate

SEEDS = range(400, 450)
"""As many as it takes: one world has one or two preemptions of a primary, and among a dozen worlds chance decides."""


def _promotions(heeds_notice: bool) -> Counter[str]:
    """How often somebody was promoted in those worlds, by reason."""
    found: Counter[str] = Counter()
    with ProcessPoolExecutor(max_workers=2) as pool:
        for reasons in pool.map(_reasons, SEEDS, [heeds_notice] * len(SEEDS), chunksize=5):
            found.update(reasons)
    return found


def _reasons(seed: int, heeds_notice: bool) -> dict[str, int]:
    swaps = Swaps(focus=("_preempt_with_notice",), heeds_notice=heeds_notice)
    return dict(simulate(seed, swaps=swaps).reasons)


@pytest.mark.timeout(600)
def test_a_planned_switchover_beats_the_failover() -> None:
    """The notice comes seconds to half a minute ahead; without it the same preemptions are failovers."""
    heard, unheard = _promotions(True), _promotions(False)
    assert unheard["failover"] >= 5
    assert heard["failover"] <= unheard["failover"] // 4  # both copies may be told of their end at once
    assert heard["switchover"] > unheard["failover"]
