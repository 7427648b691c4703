"""The published call rates, kept by the emulated service for each endpoint and caller."""

from collections import deque
from dataclasses import dataclass, field

from dumont.emulate.vast.faults import Fault, Kind

THRESHOLDS_S = {
    "search": 0.0,
    "create": 4.5,
    "list": 1.0,
    "show": 2.0,
    "state": 1.0,
    "bid": 5.5,
    "destroy": 3.0,
    "reboot": 1.0,
    "recycle": 1.0,
    "logs": 0.0,
    "result": 0.0,
    "keys": 1.0,
    "user": 0.0,
    "charges": 1.0,
    "names": 0.0,
}
"""Seconds between two calls, from Vast.ai's documentation (contract, rate limiting); 0: none is published."""

SEARCHES_PER_MINUTE = 10
MINUTE_S = 60.0


@dataclass
class Limits:
    """When each caller was last answered."""

    last: dict[tuple[str, str], float] = field(default_factory=dict)
    searches: dict[str, deque[float]] = field(default_factory=dict)

    def refusal(self, endpoint: str, caller: str, now: float) -> Fault | None:
        """The 429 that a call at `now` (seconds) gets; None, and the call counted, when it is in time."""
        if endpoint == "search":
            recent = self.searches.setdefault(caller, deque())
            while recent and recent[0] <= now - MINUTE_S:
                recent.popleft()
            if len(recent) >= SEARCHES_PER_MINUTE:
                return Fault(endpoint=endpoint, kind=Kind.RATE_TEXT)
            recent.append(now)
            return None
        threshold_s = THRESHOLDS_S[endpoint]
        last = self.last.get((endpoint, caller))
        if last is not None and now - last < threshold_s - 1e-6:
            kind = Kind.RATE_ENVELOPE if endpoint == "destroy" else Kind.RATE_TEXT_THRESHOLD
            return Fault(endpoint=endpoint, kind=kind, threshold_s=threshold_s)
        self.last[endpoint, caller] = now
        return None
