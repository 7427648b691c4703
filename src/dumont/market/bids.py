"""Bids: how often a bid of some level loses its machine, and which level is worth its price. Pure.

A bid is paid as it stands while the machine runs (pay as bid), and loses it when the lowest winning bid rises above it.
From a history of that lowest bid: events are the times it rose from at most the bid to above it, exposure the hours
that it spent at or below. Their rate gets the same Gamma prior as every hazard; the prior's rate falls with the bid's
headroom above the present lowest bid, by e for each HEADROOM_SCALE, but never below HEADROOM_FLOOR of it. Both come
from spot prices of p2 and p3 (the bench prints them); no public trace of a marketplace's bids exists.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from dumont.market.cost import Priced, Stake, expected_cost, micros, with_bid
from dumont.market.hazard import Hazard, Prior
from dumont.model.offer import Interruption, Offer

HEADROOMS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0)
"""The levels that are compared, above the lowest bid that wins now."""
HEADROOM_SCALE, HEADROOM_FLOOR = 0.06, 0.015
"""Such that no headroom is believed to be safer than it was there."""


@dataclass(frozen=True)
class BidHistory:
    """The lowest winning bid over time: `(hours, micros per hour)`, oldest first, each valid until the next."""

    samples: tuple[tuple[float, int], ...] = ()

    def crossings(self, bid_micros: int, until_h: float) -> tuple[int, float]:
        """How often it rose above this bid, and for how many hours it was at or below."""
        if not self.samples:
            return 0, 0.0
        (last_h, last), (levels, hours, peaks) = self.samples[-1], self._sorted
        below = bisect_right(levels, bid_micros)
        now_h = max(until_h, last_h) - last_h if last <= bid_micros else 0.0
        return below - bisect_right(peaks, bid_micros), hours[below] + now_h

    @cached_property
    def _sorted(self) -> tuple[list[int], list[float], list[int]]:
        """Of all samples but the last: their bids, sorted; the hours spent at the first n of these; and the higher one
        of each and the next, sorted. Made once: placement asks about ten levels of hundreds of offers.
        """
        steps = list(pairwise(self.samples))
        spent = sorted((lowest, end_h - at_h) for (at_h, lowest), (end_h, _) in steps)
        peaks = sorted(max(lowest, after) for (_, lowest), (_, after) in steps)
        return [lowest for lowest, _ in spent], list(accumulate((h for _, h in spent), initial=0.0)), peaks


def outbid_hazard(offer: Offer, bid_micros: int, history: BidHistory, prior: Prior, now_h: float) -> Hazard:
    """How often a bid of this level loses the machine to another."""
    lowest = offer.min_bid_micros_per_hour or bid_micros
    headroom = max(0.0, bid_micros / lowest - 1.0) if lowest else 0.0
    events, hours = history.crossings(bid_micros, now_h)
    return Hazard(prior.events + events, prior.hours / headroom_share(headroom) + hours)


def headroom_share(headroom: float) -> float:
    """How often a bid of this headroom (0.1: a tenth above the lowest) is outbid, as a share of one of none."""
    return max(HEADROOM_FLOOR, math.exp(-headroom / HEADROOM_SCALE))


def bid_levels(offer: Offer, most_micros: int | None = None) -> Sequence[int]:
    """The bids to compare; [0], the listed price, for an offer that takes none.

    None is above `most_micros` (the machine's part alone), and none below what wins now.
    """
    lowest = offer.min_bid_micros_per_hour
    if lowest is None or offer.interruption is not Interruption.OUTBID:
        return [0]
    levels = {math.ceil(lowest * (1 + headroom)) for headroom in HEADROOMS}
    return sorted(level for level in levels if most_micros is None or level <= most_micros)


def best_bid(
    offer: Offer, other: Hazard, stake: Stake, bids: tuple[BidHistory, Prior, float], most_micros: int | None = None
) -> Priced | None:
    """The offer at the bid of least expected cost; None when no bid that wins is allowed.

    `other` is the hazard whatever is paid (the host fails, an on-demand renter comes); `bids` holds the history of
    lowest bids, the prior of being outbid, and the present hour.
    """
    history, prior, now_h = bids
    loss, work, fetched = (
        stake.restore_micros,
        stake.work_micros,
        stake.transfer_gb * (offer.ingress_micros_per_gb or 0),
    )
    sent = stake.sync_gb_per_hour * (offer.egress_micros_per_gb or 0)
    best: tuple[int, int] | None = None
    for level in bid_levels(offer, most_micros):
        if not level:
            return expected_cost(offer, other, stake)
        if best and level > best[0]:
            break  # the bid alone costs more, and the next ones are higher
        per_hour = outbid_hazard(offer, level, history, prior, now_h).per_hour + other.per_hour
        changing = level + micros(per_hour * loss) + micros(per_hour * work) + micros(per_hour * fetched + sent)
        best = min(best or (changing, level), (changing, level))
    if best is None:
        return None
    outbid = outbid_hazard(offer, best[1], history, prior, now_h)
    return expected_cost(with_bid(offer, best[1]), outbid.plus(other.per_hour), stake)
