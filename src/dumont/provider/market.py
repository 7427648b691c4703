"""The market of the in-memory provider: which hosts it has, what they ask, and how they disappoint."""

import enum
from dataclasses import dataclass, replace
from random import Random

from dumont.model.offer import Interruption, Need, Offer

PRICE_RANGE = (0.5, 2.0)
"""How far a price may drift from where it began, as factors."""


class Boots(enum.Enum):
    """How machines of a host come up. FAIL: the provider says that they could not be started. NEVER: it says that they
    run, and their agents never come.
    """

    WELL = "well"
    FAIL = "fail"
    NEVER = "never"


@dataclass(kw_only=True)
class Host:
    """One host, or one kind of machine of a zone. `room`: so many machines at a time, None for any number.

    `open` False: it has nothing for rent. `boot_s` is how long a machine is STARTING, in seconds.
    """

    offer: Offer
    room: int | None = None
    boots: Boots = Boots.WELL
    boot_s: float = 0.0
    open: bool = True

    def __post_init__(self) -> None:
        self._listed_at_first = self.offer

    def drift(self, rng: Random, step: float) -> None:
        """Let the price move by at most the share `step`, and a lowest bid with it."""
        offer, first = self.offer, self._listed_at_first
        factor = offer.price_micros_per_hour / first.price_micros_per_hour * rng.uniform(1 - step, 1 + step)
        self.ask(min(max(factor, PRICE_RANGE[0]), PRICE_RANGE[1]))

    def ask(self, factor: float) -> None:
        """Ask so many times what was asked at first."""
        first = self._listed_at_first
        lowest = first.min_bid_micros_per_hour
        self.offer = replace(
            self.offer,
            price_micros_per_hour=max(1, round(first.price_micros_per_hour * factor)),
            min_bid_micros_per_hour=None if lowest is None else max(1, round(lowest * factor)),
        )


def fits(offer: Offer, need: Need) -> bool:
    """Whether a search for this need lists the offer."""
    on_demand = offer.interruption is Interruption.NEVER
    if offer.machine is not need.machine or not (need.on_demand if on_demand else need.spot):
        return False
    if need.gpu_names and offer.gpu not in need.gpu_names:
        return False
    if need.regions and not need.regions & {offer.region, offer.zone}:
        return False
    most = need.price_micros_per_hour_max
    return most is None or offer.price_micros_per_hour <= most


def highest_bid(offer: Offer) -> int | None:
    """What a renter of this offer bids for the machine; None where there is nothing to bid."""
    if offer.interruption is not Interruption.OUTBID or offer.min_bid_micros_per_hour is None:
        return None
    return offer.bid_micros_per_hour or offer.min_bid_micros_per_hour
