"""Bids: how often a bid of some level loses its machine, and which level is worth its price. Pure.

A bid is paid as it stands while the machine runs (pay as bid), and loses it when the lowest winning bid rises above it.
From a history of that lowest bid: events are the times it rose from at most the bid to above it, exposure the hours
that it spent at or below. Their rate gets the same Gamma prior as every hazard; the prior's rate falls with the bid's
headroom above the present lowest bid, by e for each HEADROOM_SCALE, but never below HEADROOM_FLOOR of it. Both come
from spot prices of p2 and p3 (the bench prints them); no public trace of a marketplace's bids exists.

Our own machines count as further bidders beside that one, each at its own bid: see `own_bids`.
"""

import math
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import sub
from typing import NamedTuple

from dumont.market.cost import Priced, Stake, expected_cost, micros, with_bid
from dumont.market.hazard import Hazard, Prior
from dumont.market.lives import OwnLife
from dumont.model.offer import Interruption, Offer

HEADROOMS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0)
"""The levels that are compared, above the lowest bid that wins now."""
HEADROOM_SCALE, HEADROOM_FLOOR = 0.06, 0.015
"""Such that no headroom is believed to be safer than it was there."""
SAMPLES_MAX = 500


@dataclass
class _Sorted:
    """Of all samples but the last: their bids, sorted, the hours spent at each, and those at the first n of them; and
    the higher one of each bid and the next, sorted. In arrays: lists of 300 histories fill no processor's cache.
    """

    levels: "array[int]"
    hours: "array[float]"
    sums: "array[float]"
    peaks: "array[int]"

    def after(self, come: Iterable[tuple[int, float, int]], gone: Iterable[tuple[int, float, int]]) -> "_Sorted":
        """With some steps more and some less; nothing is sorted anew."""
        found = _Sorted(self.levels[:], self.hours[:], self.sums, self.peaks[:])
        first = len(self.levels)
        for level, hours, peak in come:
            first = min(first, place := found._place(level, hours))
            found.levels.insert(place, level)
            found.hours.insert(place, hours)
            found.peaks.insert(bisect_left(found.peaks, peak), peak)
        for level, hours, peak in gone:
            first = min(first, place := found._place(level, hours))
            del found.levels[place], found.hours[place], found.peaks[bisect_left(found.peaks, peak)]
        found.sums = self.sums[:first]
        found.sums.extend(accumulate(found.hours[first:], initial=self.sums[first]))
        return found

    def _place(self, level: int, hours: float) -> int:
        """Among equal bids the shorter times come first, so that the sums do not depend on how it came about."""
        low, high = bisect_left(self.levels, level), bisect_right(self.levels, level)
        return bisect_left(self.hours, hours, low, high)


@dataclass(frozen=True)
class BidHistory:
    """The lowest winning bid over time: `(hours, micros per hour)`, oldest first, each valid until the next."""

    samples: tuple[tuple[float, int], ...] = ()

    def crossings(self, bid_micros: int, until_h: float) -> tuple[int, float]:
        """How often it rose above this bid, and for how many hours it was at or below."""
        if not self.samples:
            return 0, 0.0
        last_h, last = self.samples[-1]
        known = self._sorted
        below = bisect_right(known.levels, bid_micros)
        now_h = max(until_h, last_h) - last_h if last <= bid_micros else 0.0
        return below - bisect_right(known.peaks, bid_micros), known.sums[below] + now_h

    @property
    def lowest(self) -> int:
        """The last one seen; 0 when none was."""
        return self.samples[-1][1] if self.samples else 0

    def since(self, at_h: float) -> "BidHistory":
        """Only the samples from that hour on, and always the last one."""
        old = min(bisect_left(self.samples, (at_h, 0)), max(0, len(self.samples) - 1))
        return BidHistory(self.samples[old:]) if old else self

    def plus(self, samples: Iterable[tuple[float, int]]) -> "BidHistory":
        """This history and further samples, where the bid changed; the last SAMPLES_MAX of them.

        What was sorted stays sorted: a market changes everywhere at once, and placement asks about ten levels of
        hundreds of offers right after. A sample that comes late, from another process, is put where it belongs.
        """
        further = sorted(samples)
        last_h = self.samples[-1][0] if self.samples else -math.inf
        if any(at_h <= last_h and not self._holds(at_h, lowest) for at_h, lowest in further):
            return BidHistory().plus({*self.samples, *further})
        known = list(self.samples)
        for at_h, lowest in further:
            if not known or (at_h > known[-1][0] and lowest != known[-1][1]):
                known.append((at_h, lowest))
        return self if len(known) == len(self.samples) else self._grown(known)

    def _grown(self, known: list[tuple[float, int]]) -> "BidHistory":
        """The history of `known`, which starts with our samples. Sorted here, for whoever places must not wait."""
        first, dropped = len(self.samples), max(0, len(known) - SAMPLES_MAX)
        longer = BidHistory(tuple(known[dropped:]))
        if first > max(dropped, len(known) - first):
            come = (_step(known, at) for at in range(first - 1, len(known) - 1))
            gone = (_step(known, at) for at in range(dropped))
            longer.__dict__["_sorted"] = self._sorted.after(come, gone)  # where the property below keeps it
        longer._sorted  # noqa: B018
        return longer

    def _holds(self, at_h: float, lowest: int) -> bool:
        """Whether an earlier sample adds nothing: it is known, or older than what a full history remembers."""
        place = bisect_right(self.samples, (at_h, sys.maxsize))
        return self.samples[place - 1][1] == lowest if place else len(self.samples) == SAMPLES_MAX

    @cached_property
    def _sorted(self) -> _Sorted:
        times, bids = [at_h for at_h, _ in self.samples], [lowest for _, lowest in self.samples]
        spent = sorted(zip(bids, map(sub, times[1:], times), strict=False))
        hours = array("d", [hours for _, hours in spent])
        return _Sorted(
            levels=array("q", [level for level, _ in spent]),
            hours=hours,
            sums=array("d", accumulate(hours, initial=0.0)),
            peaks=array("q", sorted(map(max, bids, bids[1:]))),
        )


def _step(samples: Sequence[tuple[float, int]], at: int) -> tuple[int, float, int]:
    """From one sample to the next: the bid, the hours spent at it, and the higher one of the two bids."""
    (began_h, lowest), (end_h, after) = samples[at], samples[at + 1]
    return lowest, end_h - began_h, max(lowest, after)


class Bidding(NamedTuple):
    """What is known of bids for one slice at `now_h`: the lowest bids that won, the prior, and our own machines."""

    history: BidHistory
    prior: Prior
    now_h: float
    own: Sequence[OwnLife] = ()


def own_bids(lives: Iterable[OwnLife], bid_micros: int, now_h: float) -> tuple[int, float]:
    """How often a machine bid for at this level would have been lost in these lives, and the hours they tell of.

    A life that was interrupted at a bid of at least this level counts, with its hours: a lower bid would not have
    lasted longer. At a lower bid it tells only that this level would have lasted at least so long, as does a censored
    life at this level or a lower one. A censored life at a higher bid tells nothing of it, nor one of an unknown bid.
    """
    events, hours = 0, 0.0
    for life in lives:
        lost = life.interrupted and life.bid_micros >= bid_micros
        if life.bid_micros and (lost or life.bid_micros <= bid_micros):
            events += lost
            hours += life.until_h(now_h) - life.began_h
    return events, hours


def outbid_hazard(offer: Offer, bid_micros: int, bidding: Bidding) -> Hazard:
    """How often a bid of this level loses the machine to another."""
    return Hazard(*_outbid(offer, bid_micros, bidding))


def _outbid(offer: Offer, bid_micros: int, bidding: Bidding) -> tuple[float, float]:
    """Its events and hours."""
    history, prior, now_h, own = bidding
    lowest = offer.min_bid_micros_per_hour or bid_micros
    headroom = max(0.0, bid_micros / lowest - 1.0) if lowest else 0.0
    events, hours = history.crossings(bid_micros, now_h)
    if own:
        own_events, own_hours = own_bids(own, bid_micros, now_h)
        events, hours = events + own_events, hours + own_hours
    return prior.events + events, prior.hours / headroom_share(headroom) + hours


def headroom_share(headroom: float) -> float:
    """How often a bid of this headroom (0.1: a tenth above the lowest) is outbid, as a share of one of none."""
    return max(HEADROOM_FLOOR, math.exp(-headroom / HEADROOM_SCALE))


def bid_levels(offer: Offer, most_micros: int | None = None) -> Sequence[int]:
    """The bids to compare; [0], the listed price, for an offer that takes none.

    None is above `most_micros` (the machine's part alone), and none below what wins now.
    """
    return list(_levels(offer, most_micros))


def _levels(offer: Offer, most_micros: int | None) -> Iterator[int]:
    """The same, one by one and rising: most are never asked for."""
    lowest = offer.min_bid_micros_per_hour
    if lowest is None or offer.interruption is not Interruption.OUTBID:
        yield 0
        return
    before = -1
    for headroom in HEADROOMS:
        level = math.ceil(lowest * (1 + headroom))
        if level > before and (most_micros is None or level <= most_micros):
            yield level
        before = level


def best_bid(
    offer: Offer, other: Hazard, stake: Stake, bidding: Bidding, most_micros: int | None = None
) -> Priced | None:
    """The offer at the bid of least expected cost; None when no bid that wins is allowed.

    `other` is the hazard whatever is paid (the host fails, an on-demand renter comes).
    """
    loss, work, fetched = (
        stake.restore_micros,
        stake.work_micros,
        stake.transfer_gb * (offer.ingress_micros_per_gb or 0),
    )
    sent = stake.sync_gb_per_hour * (offer.egress_micros_per_gb or 0)
    other_per_hour = other.per_hour
    best: tuple[int, int, tuple[float, float]] | None = None
    for level in _levels(offer, most_micros):
        if not level:
            return expected_cost(offer, other, stake)
        if best and level > best[0]:
            break  # the bid alone costs more, and the next ones are higher
        events, hours = outbid = _outbid(offer, level, bidding)
        per_hour = events / hours + other_per_hour
        changing = level + micros(per_hour * loss) + micros(per_hour * work) + micros(per_hour * fetched + sent)
        if best is None or changing < best[0]:
            best = (changing, level, outbid)
    if best is None:
        return None
    return expected_cost(with_bid(offer, best[1]), Hazard(*best[2]).plus(other_per_hour), stake)
