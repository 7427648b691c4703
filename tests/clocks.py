"""A clock for tests: time that nobody has to wait for."""

import asyncio
from datetime import UTC, datetime, timedelta

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class HandClock:
    """Time that passes by sleeping, and when a test moves `seconds`. It notes how long each sleep was."""

    def __init__(self, seconds: float = 0.0, began: datetime = BEGAN) -> None:
        self.seconds = seconds
        self.slept_s: list[float] = []
        self._began = began

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)
