"""Patience with a store that is far away: how long an attempt may take, how often it is repeated, and when it ends."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from dumont.clock import Clock
from dumont.errors import StoreError

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """Bounds of one call: no attempt begins after `total_s`, and none lasts longer than `attempt_s`.

    Both grow by the time that the bytes of the call need at `slowest_bytes_per_s`, so that a large object is not given
    up on a line that is slow and works. Pauses double from `first_pause_s` up to `longest_pause_s`, and are shortened
    by chance to between half and whole, so that many clients do not return together.
    """

    attempt_s: float = 30.0
    total_s: float = 120.0
    slowest_bytes_per_s: int = 256 * 1024
    first_pause_s: float = 0.2
    longest_pause_s: float = 10.0

    def extra_s(self, size: int) -> float:
        """What `size` bytes may take beyond the bounds, in seconds."""
        return size / self.slowest_bytes_per_s

    def pause_s(self, attempts: int, rng: random.Random) -> float:
        """How long to wait after that many attempts failed."""
        whole = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(attempts - 1, 30))
        return whole * rng.uniform(0.5, 1.0)


class Again(StoreError):
    """An attempt failed for what may pass; the message says why, for the case that it does not."""


class Attempt:
    """One attempt: its `number`, from 1, and its deadline, which moves when it learns how much there is to carry."""

    def __init__(self, number: int, deadline: asyncio.Timeout) -> None:
        self.number = number
        self._deadline = deadline

    def allow(self, seconds: float) -> None:
        """The attempt may take `seconds` from now on."""
        self._deadline.reschedule(asyncio.get_running_loop().time() + seconds)


class Persistence:
    """Repeats what fails for a passing reason, as long as `patience` lasts."""

    def __init__(self, patience: Patience, clock: Clock, rng: random.Random) -> None:
        self.patience = patience
        self._clock = clock
        self._rng = rng

    async def insist(self, call: Callable[[Attempt], Awaitable[T]], size: int = 0) -> T:
        """What `call` returns, which moves `size` bytes. Raises StoreError once patience is over, and whatever else
        than Again `call` raises, at once."""
        begun = self._clock.monotonic()
        end = begun + self.patience.total_s + self.patience.extra_s(size)
        number = 0
        while True:
            number += 1
            try:
                async with asyncio.timeout(self.patience.attempt_s + self.patience.extra_s(size)) as deadline:
                    return await call(Attempt(number, deadline))
            except Again as error:
                why = str(error)
            except TimeoutError:
                why = "it did not answer in time: check the network, and whether the service has an outage"
            pause_s = self.patience.pause_s(number, self._rng)
            now = self._clock.monotonic()
            if now + pause_s >= end:
                times = f"{number} attempts" if number > 1 else "one attempt"
                raise StoreError(f"{why} (given up after {times} in {now - begun:.0f} s)")
            await self._clock.sleep(pause_s)
