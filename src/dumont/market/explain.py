"""The parts of an offer's expected cost, each with how it came about, for people. Pure."""

from dataclasses import dataclass

from dumont.i18n import _
from dumont.market.cost import Part, Priced, Stake
from dumont.market.hazard import LEVEL

_MICROS = 1_000_000


@dataclass(frozen=True)
class Line:
    """One part: its name in the language spoken now, micro-dollars per hour, and the calculation behind it."""

    part: Part
    name: str
    micros_per_hour: int
    how: str


def explain(priced: Priced, stake: Stake) -> list[Line]:
    """Every part that is not nought, the machine's first. They sum to the expected cost exactly."""
    return [
        Line(part, _name(part), amount, _how(part, priced, stake))
        for part, amount in priced.parts
        if amount or part is Part.MACHINE
    ]


def hazard_text(priced: Priced) -> str:
    """The hazard with its interval, and what it means for a person: how long such a machine lasts."""
    found = priced.hazard
    return _("{mean:.3g} interruptions an hour ({level:.0%} between {low:.3g} and {high:.3g})").format(
        mean=found.per_hour, level=LEVEL, low=found.low, high=found.high
    )


def _name(part: Part) -> str:
    return {
        Part.MACHINE: _("machine"),
        Part.DISK: _("disk"),
        Part.ADDRESS: _("address"),
        Part.RESTORE: _("until it works again"),
        Part.WORK: _("work done twice"),
        Part.TRANSFER: _("transfer"),
        Part.STANDBY: _("CPU standby"),
    }[part]


def _how(part: Part, priced: Priced, stake: Stake) -> str:
    offer, rate = priced.offer, priced.hazard.per_hour
    value = stake.value_micros_per_hour / _MICROS
    if part is Part.MACHINE and offer.bid_micros_per_hour and offer.min_bid_micros_per_hour:
        lowest = offer.min_bid_micros_per_hour / _MICROS
        return _("your bid; the lowest that wins now is ${lowest:.4f}").format(lowest=lowest)
    if part in (Part.RESTORE, Part.WORK):
        seconds = stake.restore_s if part is Part.RESTORE else stake.work_at_risk_s
        return _("{rate:.3g} an hour × {seconds:.0f} s × ${value:.2f} an hour").format(
            rate=rate, seconds=seconds, value=value
        )
    if part is Part.TRANSFER:
        return _("{rate:.3g} an hour × {fetched:.1f} GB in, and {sent:.2f} GB an hour out").format(
            rate=rate, fetched=stake.transfer_gb, sent=stake.sync_gb_per_hour
        )
    return _("as listed")
