"""The timeline: what the emulated cloud does later, in order, on a clock given as an argument."""

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dumont.clock import Clock

Act = Callable[[], Awaitable[None]]


@dataclass(order=True)
class Entry:
    """One act that is due at `due` (seconds of the clock)."""

    due: float
    number: int
    act: Act = field(compare=False)


class Timeline:
    """Acts that are due later. Nothing happens by itself: `run_due` does what is due by now."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._entries: list[Entry] = []
        self._numbers = itertools.count()
        self._running = asyncio.Lock()
        self._acting_at: float | None = None
        self._origin = clock.now() - timedelta(seconds=clock.monotonic())

    @property
    def now(self) -> float:
        """Seconds of the clock; while an act runs, the instant at which it was due."""
        return self.clock.monotonic() if self._acting_at is None else self._acting_at

    def date(self, at: float | None = None) -> datetime:
        """The instant `at`, in UTC."""
        return self._origin + timedelta(seconds=self.now if at is None else at)

    def after(self, seconds: float, act: Act) -> None:
        """Let `act` happen in `seconds` from now."""
        heapq.heappush(self._entries, Entry(self.now + seconds, next(self._numbers), act))

    async def run_due(self) -> None:
        """Do what is due by now, in order, and what that makes due."""
        async with self._running:
            while self._entries and self._entries[0].due <= self.clock.monotonic():
                entry = heapq.heappop(self._entries)
                self._acting_at = entry.due
                try:
                    await entry.act()
                finally:
                    self._acting_at = None

    async def run_forever(self, every_s: float) -> None:
        """Do what is due as time passes, for a clock that passes by itself."""
        while True:
            await self.run_due()
            await self.clock.sleep(every_s)
