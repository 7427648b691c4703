"""What was observed of a market: lowest winning bids, what a provider told of its capacity, and looks at its offers.

Observations, not estimates: whoever estimates better later can start from them again.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class BidPoint:
    """The lowest bid that won a slice of a host (so many GPUs of it) from that moment on, in micro-dollars an hour."""

    at: datetime
    provider: str
    slice: str
    lowest_micros_per_hour: int


@dataclass(frozen=True, kw_only=True)
class CapacityAnswer:
    """What a provider told at that moment of one failure domain: shares of stopped machines that it had preempted.

    `rates` lie between 0 and 1, the newest last.
    """

    at: datetime
    provider: str
    domain: str
    rates: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """The last look at a provider's offers, and as text what all looks until then have counted (`market.tally`)."""

    at: datetime
    provider: str
    seen: str
