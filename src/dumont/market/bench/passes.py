"""`python -m dumont.market.bench.passes`: what a placement pass costs in processor time, after all bids changed.

Processor time (user and system) of this process, not of the clock on the wall: it holds on a busy machine.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping

from dumont.market.beliefs import Beliefs, slice_of
from dumont.market.bids import SAMPLES_MAX, BidHistory
from dumont.market.placement import rank
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Need, Offer

NEED = Need(machine=Machine.GPU)
STEP_H = 1 / 60


def market(offers: int, samples: int, rng: random.Random) -> tuple[list[Offer], dict[str, BidHistory]]:
    """So many slices with so long a history of lowest bids each, a minute between two changes."""
    shelf, bids = [], {}
    for number in range(offers):
        level = rng.randrange(200_000, 900_000)
        seen = [(at * STEP_H, round(level * rng.uniform(0.8, 1.4))) for at in range(samples)]
        one = Offer(
            id=str(number),
            provider="vast",
            machine=Machine.GPU,
            name="RTX 4090",
            gpu="RTX 4090",
            gpus=1,
            price_micros_per_hour=seen[-1][1],
            interruption=Interruption.OUTBID,
            min_bid_micros_per_hour=seen[-1][1],
            domain=f"vast/{number}",
            reliability=0.99,
        )
        shelf.append(one)
        bids[slice_of(one)] = BidHistory().plus(seen)
    return shelf, bids


def changed(bids: Mapping[str, BidHistory], at_h: float, rng: random.Random) -> dict[str, BidHistory]:
    """Every history with one more sample."""
    return {name: one.plus([(at_h, one.lowest + rng.randrange(1, 9_999))]) for name, one in bids.items()}


def measure(offers: int, samples: int, rounds: int) -> dict[str, float]:
    """Milliseconds of processor time, medians over so many rounds.

    `loaded`: the first pass after a start. `taken_in`: giving each history its new sample. `first`: the pass after
    that. `again`: the same once more.
    """
    rng = random.Random(7)
    shelf, bids = market(offers, samples, rng)
    now_h = samples * STEP_H
    found: dict[str, list[float]] = {"loaded": [], "taken_in": [], "first": [], "again": []}
    found["loaded"].append(_ms(lambda: rank(shelf, NEED, Beliefs(bids=bids), now_h)))
    for _ in range(rounds):
        now_h += STEP_H
        before = bids
        began = time.process_time()
        bids = changed(before, now_h, rng)
        found["taken_in"].append((time.process_time() - began) * 1000)
        beliefs = Beliefs(bids=bids)
        for name in ("first", "again"):
            found[name].append(_ms(lambda beliefs=beliefs, at_h=now_h: rank(shelf, NEED, beliefs, at_h)))  # type: ignore[misc]
    return {name: round(statistics.median(times), 1) for name, times in found.items()}


def _ms(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def main(arguments: list[str] | None = None) -> int:
    """0, once it is measured."""
    parser = argparse.ArgumentParser(prog="python -m dumont.market.bench.passes", description=__doc__)
    parser.add_argument("--offers", type=int, default=300)
    parser.add_argument("--samples", type=int, default=SAMPLES_MAX)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    print(json.dumps(measure(options.offers, options.samples, options.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
