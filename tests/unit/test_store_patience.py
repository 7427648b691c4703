"""Patience with a store: bounds, pauses, and what ends it at once. In virtual time."""

import random

import pytest

from dumont.errors import AlreadyStored, StoreError
from dumont.store.patience import Again, Attempt, Patience, Persistence
from tests.clocks import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


PATIENCE = Patience(total_s=60.0, first_pause_s=1.0, longest_pause_s=8.0, slowest_bytes_per_s=100)


async def test_what_passes_is_repeated_until_it_has(clock: HandClock) -> None:
    """With a number, from which a caller knows that it may have been heard before."""
    numbers: list[int] = []

    async def call(attempt: Attempt) -> str:
        numbers.append(attempt.number)
        if attempt.number < 4:
            raise Again("busy")
        return "done"

    assert await Persistence(PATIENCE, clock, random.Random(1)).insist(call) == "done"
    assert numbers == [1, 2, 3, 4]


async def test_pauses_double_up_to_the_longest_and_differ_by_chance(clock: HandClock) -> None:
    """A thousand clients that return together bring the service down again."""

    async def call(attempt: Attempt) -> None:
        raise Again("busy")

    with pytest.raises(StoreError, match=r"busy \(given up after \d+ attempts in \d+ s\)") as caught:
        await Persistence(PATIENCE, clock, random.Random(1)).insist(call)
    assert not isinstance(caught.value, Again)
    for pause, whole in zip(clock.slept_s, [1, 2, 4, 8, 8, 8, 8], strict=False):
        assert whole / 2 <= pause <= whole
    assert 40 < clock.monotonic() < 60
    assert len(set(clock.slept_s)) == len(clock.slept_s)


async def test_more_bytes_are_given_more_time(clock: HandClock) -> None:
    """A slow line is not a broken one."""

    async def call(attempt: Attempt) -> None:
        raise Again("busy")

    with pytest.raises(StoreError):
        await Persistence(PATIENCE, clock, random.Random(1)).insist(call, size=10_000)
    assert 140 < clock.monotonic() < 160


async def test_a_final_answer_is_not_repeated(clock: HandClock) -> None:
    """Nothing changes by asking again."""

    async def call(attempt: Attempt) -> None:
        raise AlreadyStored("taken")

    with pytest.raises(AlreadyStored):
        await Persistence(PATIENCE, clock, random.Random(1)).insist(call)
    assert clock.slept_s == []
