"""Batches: things put together until they weigh enough."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")


def batches(things: Iterable[_T], weigh: Callable[[_T], int], most: int) -> Iterator[list[_T]]:
    """`things` in order, in lists that weigh at most `most`; one that weighs more is a list of its own."""
    batch: list[_T] = []
    weight = 0
    for thing in things:
        more = weigh(thing)
        if batch and weight + more > most:
            yield batch
            batch, weight = [], 0
        batch.append(thing)
        weight += more
    if batch:
        yield batch
