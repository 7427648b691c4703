"""Expected cost: what an hour on an offer really costs, interruptions included, with every part listed. Pure.

per hour = price + hazard x (restore time + work at risk) x value of time + transfer + standby

Money is in millionths of a US dollar. Each part is rounded to the nearest one, half away from zero, and the total is
exactly the sum of the parts.
"""

import enum
import math
from copy import copy
from dataclasses import dataclass
from functools import cached_property

from dumont.market.hazard import Hazard
from dumont.model.offer import Offer

SECONDS_PER_HOUR = 3600.0


class Part(enum.StrEnum):
    """What an hour costs is made of.

    RESTORE: the time until the GPU works again. WORK: what has to be computed again. TRANSFER: what a new machine
    fetches, and what replication sends. STANDBY: the CPU machine beside it.
    """

    MACHINE = "machine"
    DISK = "disk"
    ADDRESS = "address"
    RESTORE = "restore"
    WORK = "work"
    TRANSFER = "transfer"
    STANDBY = "standby"


PRICE_PARTS = frozenset({Part.MACHINE, Part.DISK, Part.ADDRESS})
"""What the provider's bill says."""


@dataclass(frozen=True, kw_only=True)
class Stake:
    """What an interruption costs this workspace.

    `value_micros_per_hour` is what an hour without the GPU is worth. `restore_s` is measured: from the loss until the
    work goes on, on a new GPU; `takeover_s` when a spare takes over. `work_at_risk_s` is what is computed again after
    one, on average. `transfer_gb` is what a new machine fetches, `sync_gb_per_hour` what replication sends.
    """

    value_micros_per_hour: int = 2_000_000
    restore_s: float = 120.0
    takeover_s: float = 2.5
    work_at_risk_s: float = 0.0
    transfer_gb: float = 0.0
    sync_gb_per_hour: float = 0.0
    standby_micros_per_hour: int = 0

    @property
    def restore_h(self) -> float:
        return self.restore_s / SECONDS_PER_HOUR

    @property
    def restore_micros(self) -> float:
        """What the time until the work goes on costs, per interruption."""
        return self.restore_s / SECONDS_PER_HOUR * self.value_micros_per_hour

    @property
    def work_micros(self) -> float:
        """What the work that is computed again costs, per interruption."""
        return self.work_at_risk_s / SECONDS_PER_HOUR * self.value_micros_per_hour

    @property
    def loss_micros(self) -> float:
        """What one interruption costs."""
        return self.restore_micros + self.work_micros

    @property
    def takeover_micros(self) -> float:
        """What one takeover by a machine that is ready costs."""
        return self.takeover_s / SECONDS_PER_HOUR * self.value_micros_per_hour


@dataclass(frozen=True, kw_only=True)
class Priced:
    """An offer with its expected cost. The offer carries the bid that was chosen."""

    offer: Offer
    parts: tuple[tuple[Part, int], ...]
    hazard: Hazard

    @cached_property
    def micros_per_hour(self) -> int:
        """The expected cost of an hour: the sum of the parts."""
        return sum(micros for _, micros in self.parts)

    @cached_property
    def price_micros_per_hour(self) -> int:
        """What the provider's bill says of an hour without interruption, transfer aside."""
        return sum(micros for part, micros in self.parts if part in PRICE_PARTS)

    def part(self, part: Part) -> int:
        return dict(self.parts)[part]


def expected_cost(offer: Offer, hazard: Hazard, stake: Stake) -> Priced:
    """What an hour on this offer is expected to cost, at its bid if it has one and at its listed price otherwise."""
    disk, address = disk_micros(offer), offer.address_micros_per_hour or 0
    per_hour = hazard.per_hour
    fetched = per_hour * stake.transfer_gb * (offer.ingress_micros_per_gb or 0)
    sent = stake.sync_gb_per_hour * (offer.egress_micros_per_gb or 0)
    parts = (
        (Part.MACHINE, machine_micros(offer)),
        (Part.DISK, disk),
        (Part.ADDRESS, address),
        (Part.RESTORE, micros(per_hour * stake.restore_micros)),
        (Part.WORK, micros(per_hour * stake.work_micros)),
        (Part.TRANSFER, micros(fetched + sent)),
        (Part.STANDBY, stake.standby_micros_per_hour),
    )
    return Priced(offer=offer, parts=parts, hazard=hazard)


def disk_micros(offer: Offer) -> int:
    """The disk's part of the price; where the provider does not tell it apart, what else its listed price holds."""
    if offer.disk_micros_per_hour is not None:
        return offer.disk_micros_per_hour
    if offer.compute_micros_per_hour is None:
        return 0
    rest = offer.price_micros_per_hour - offer.compute_micros_per_hour - (offer.address_micros_per_hour or 0)
    return max(0, rest)


def machine_micros(offer: Offer) -> int:
    """The machine's part of the price: the bid, else what the provider says of it, else the rest of the whole."""
    if offer.bid_micros_per_hour:
        return offer.bid_micros_per_hour
    if offer.compute_micros_per_hour is not None:
        return offer.compute_micros_per_hour
    return offer.price_micros_per_hour - disk_micros(offer) - (offer.address_micros_per_hour or 0)


def with_bid(offer: Offer, bid_micros: int) -> Offer:
    """The offer at this bid; its price is then what the bill will say (pay as bid)."""
    rest = (offer.disk_micros_per_hour or 0) + (offer.address_micros_per_hour or 0)
    bidding = copy(offer)  # `replace` goes through all fields, and placement does this for hundreds of offers
    object.__setattr__(bidding, "bid_micros_per_hour", bid_micros)
    object.__setattr__(bidding, "price_micros_per_hour", bid_micros + rest)
    return bidding


def micros(amount: float) -> int:
    """The nearest integer, half away from zero."""
    return math.floor(amount + 0.5) if amount >= 0 else -math.floor(-amount + 0.5)
