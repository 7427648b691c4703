"""Call rates: one limiter for each of Vast.ai's endpoints, shared by all calls with one key."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from dumont.clock import Clock


@dataclass(frozen=True, kw_only=True)
class Pace:
    """At most `calls` in any `period_s` seconds."""

    calls: int = 1
    period_s: float


PACES: Mapping[str, Pace] = {
    "search": Pace(calls=10, period_s=60.0),
    "create": Pace(period_s=4.5),
    "list": Pace(period_s=1.0),
    "show": Pace(period_s=2.0),
    "state": Pace(period_s=1.0),
    "bid": Pace(period_s=5.5),
    "destroy": Pace(period_s=3.0),
    "logs": Pace(period_s=1.0),
    "keys": Pace(period_s=1.0),
    "user": Pace(period_s=1.0),
    "names": Pace(period_s=1.0),
}
"""As Vast.ai publishes them (contract, rate limiting); for logs, user and names nothing is published."""

MARGIN_S = 0.05
"""Two calls leave this much further apart than the rate: they may come closer together on their way."""
ARRIVAL_S_MAX = 1.0
"""A call is taken to have arrived by then: a slow create must not hold the next one back."""


class Limiter:
    """Lets the calls of one endpoint through, not faster than its pace."""

    def __init__(self, pace: Pace, clock: Clock) -> None:
        self.pace = pace
        self._clock = clock
        self._recent: deque[float] = deque()
        self._not_before = clock.monotonic()

    async def turn(self, *, background: bool = False) -> float:
        """Return when the next call may leave, and count it. A background call leaves a third of the rate free.

        The answer is its departure (monotonic seconds), for `answered`.
        """
        while (wait_s := self._wait_s(self._clock.monotonic(), background=background)) > 0:
            await self._clock.sleep(wait_s)
        departure = self._clock.monotonic()  # nothing was awaited since it was found free
        self._recent.append(departure)
        return departure

    def has_room(self, *, background: bool = False) -> bool:
        """Whether a call could leave at once."""
        return self._wait_s(self._clock.monotonic(), background=background) <= 0

    def answered(self, departure: float) -> None:
        """Count a call from its answer on: it may have arrived as late as that, and the next one arrives faster."""
        if departure in self._recent:
            self._recent.remove(departure)
            self._recent.append(min(self._clock.monotonic(), departure + ARRIVAL_S_MAX))

    def put_off(self, seconds: float) -> None:
        """No call of this endpoint before so many seconds from now: the service said so to one of them."""
        self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    def slow_down(self, interval_s: float) -> None:
        """The service names a longer interval than we kept; keep it from now on."""
        if interval_s * self.pace.calls > self.pace.period_s:
            self.pace = Pace(period_s=interval_s)

    def _wait_s(self, now: float, *, background: bool) -> float:
        while self._recent and self._recent[0] + self.pace.period_s + MARGIN_S <= now:
            self._recent.popleft()
        calls = max(self.pace.calls - self.pace.calls // 3, 1) if background else self.pace.calls
        wait_s = self._not_before - now
        if len(self._recent) >= calls:
            wait_s = max(wait_s, self._recent[-calls] + self.pace.period_s + MARGIN_S - now)
        return wait_s


class Limiters:
    """The limiters of one key. Share one of these between drivers that use the same key."""

    def __init__(self, clock: Clock, paces: Mapping[str, Pace] = PACES) -> None:
        self._limiters = {name: Limiter(pace, clock) for name, pace in paces.items()}

    def of(self, endpoint: str) -> Limiter:
        return self._limiters[endpoint]
