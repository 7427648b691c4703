"""Bid histories: a history that grew is the one that was made at once, and growing sorts nothing anew."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from dumont.market.bids import SAMPLES_MAX, BidHistory

Samples = list[tuple[float, int]]
SAMPLES = st.lists(st.tuples(st.integers(0, 60).map(float), st.integers(1, 9)), max_size=40)


def brute(samples: Samples, bid: int, until_h: float) -> tuple[int, float]:
    """What `crossings` promises, step by step."""
    ends = [*samples[1:], (max(until_h, samples[-1][0]), samples[-1][1])] if samples else []
    rose = sum(one <= bid < after for (_, one), (_, after) in zip(samples, ends, strict=True))
    return rose, sum(end_h - at_h for (at_h, lowest), (end_h, _) in zip(samples, ends, strict=True) if lowest <= bid)


@given(SAMPLES, st.integers(1, 10), st.integers(0, 10))
def test_a_history_that_grew_is_the_one_made_at_once(samples: Samples, chunk: int, bid: int) -> None:
    """A restarted server makes it at once; both must believe the same, to the last bit."""
    ordered = sorted(dict(samples).items())
    grown = BidHistory()
    for start in range(0, len(ordered), chunk):
        grown = grown.plus(ordered[start : start + chunk])
        assert grown.crossings(bid, 60.0) == brute(list(grown.samples), bid, 60.0)
    at_once = BidHistory().plus(ordered)
    assert grown == at_once
    assert grown.crossings(bid, 70.0) == at_once.crossings(bid, 70.0) == BidHistory(grown.samples).crossings(bid, 70.0)


@given(SAMPLES, st.randoms(use_true_random=False))
def test_samples_that_come_late_end_where_they_belong(samples: Samples, rng: Random) -> None:
    """Another process's sample may be read after a later one of ours, and more than once."""
    ordered = sorted({at_h: number for number, (at_h, _) in enumerate(samples)}.items())
    late = ordered.copy()
    rng.shuffle(late)
    grown = BidHistory()
    for sample in late:
        grown = grown.plus([sample]).plus([sample])
    assert grown == BidHistory().plus(ordered)


def test_only_changes_are_kept_and_the_first_of_two_at_one_moment_counts() -> None:
    """A market that stands still must not fill the history."""
    history = BidHistory().plus([(0.0, 5), (1.0, 5), (2.0, 7)])
    assert history.samples == ((0.0, 5), (2.0, 7))
    assert history.plus([(1.5, 5), (2.0, 7), (3.0, 7)]) is history
    assert (history.lowest, BidHistory().lowest) == (7, 0)


def test_a_full_history_drops_its_oldest_and_still_adds_up() -> None:
    """Its sorted parts must lose exactly what it lost."""
    samples = [(float(hour), 400 + hour * 37 % 11) for hour in range(3 * SAMPLES_MAX)]
    history = BidHistory().plus(samples[:SAMPLES_MAX])
    for start in range(SAMPLES_MAX, len(samples), 7):
        history = history.plus(samples[start : start + 7])
    assert history == BidHistory(tuple(samples[-SAMPLES_MAX:]))
    for bid in range(398, 413):
        now_h = samples[-1][0] + 5.0
        assert history.crossings(bid, now_h) == brute(samples[-SAMPLES_MAX:], bid, now_h)


def test_the_old_is_dropped_but_never_the_last() -> None:
    """A bid that has not moved for months is still the lowest that wins."""
    history = BidHistory(((0.0, 5), (2.0, 7), (4.0, 6)))
    assert history.since(2.0).samples == ((2.0, 7), (4.0, 6))
    assert history.since(9.0).samples == ((4.0, 6),)
    assert history.since(0.0) is history
    assert BidHistory().since(1.0) == BidHistory()


class Counted(int):
    """A bid that counts how often it is compared."""

    times = 0

    def __lt__(self, other: int) -> bool:
        Counted.times += 1
        return int(self) < int(other)

    def __gt__(self, other: int) -> bool:
        Counted.times += 1
        return int(self) > int(other)


def comparisons(samples: Samples, history: BidHistory) -> int:
    Counted.times = 0
    history.plus(samples).crossings(500, 1e6)
    return Counted.times


def test_one_more_sample_does_not_sort_the_history_anew() -> None:
    """All histories change at once, and placement waits: that took 0.14 s for 300 offers."""
    samples = [(float(hour), Counted(400 + hour * 7919 % 997)) for hour in range(SAMPLES_MAX)]
    grown = BidHistory().plus(samples)
    grown.crossings(500, 1e6)
    further = [(float(SAMPLES_MAX), Counted(777))]
    assert comparisons(further, grown) < 100
    assert comparisons([*samples, *further], BidHistory()) > 1000, "the control: made at once it is sorted"
