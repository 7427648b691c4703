"""The price file: offers as far as dated published prices tell them, for whoever ranks without a server. Pure.

Every row has its source, licence and date (`market/data/reference.csv`). What a price list does not tell (a host, its
reliability, whether one is free now) stays unknown; how often spot machines are taken back is then what is usual.
"""

from datetime import date
from functools import cache

from dumont.market.names import gpus
from dumont.market.reference import Reference, references
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Offer

RENTED_FROM = frozenset({"vast", "gcp"})
"""Those that Dumont rents from: a price that nobody can launch is no choice."""
LICENCES = frozenset({"MIT", "Apache-2.0", "CC0-1.0", "CC-BY-4.0", "BSD-3-Clause"})
"""Those that allow the rows to be shipped and shown with their source."""


@cache
def dated_offers() -> tuple[Offer, ...]:
    """An offer for each price of a whole machine with GPUs of a known model."""
    return tuple(_offer(at, row) for at, row in enumerate(references()) if _is_offered(row))


@cache
def dated_between() -> tuple[date, date]:
    """The oldest and the newest day on which one of the prices was read."""
    days = [row.as_of for row in references() if _is_offered(row)]
    return min(days), max(days)


def _is_offered(row: Reference) -> bool:
    return row.provider in RENTED_FROM and row.licence in LICENCES and row.gpu in gpus()


def _offer(at: int, row: Reference) -> Offer:
    spot = row.tier == "spot"
    return Offer(
        id=f"price-{at}",
        provider=row.provider,
        machine=Machine.GPU,
        name=row.instance,
        price_micros_per_hour=row.micros_per_hour,
        spot=spot,
        interruption=Interruption.PREEMPTED if spot else Interruption.NEVER,
        gpu=row.gpu,
        gpus=row.gpus,
        vram_mb=gpus()[row.gpu].usable_mb,
        region=row.region,
        domain=f"{row.provider}/{row.region}/{row.gpu}/{row.tier}",
    )
