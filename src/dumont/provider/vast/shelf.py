"""The shelf: what searches found lately, so that a listing of many needs keeps within ten searches a minute."""

from dataclasses import dataclass, field, replace

from dumont.model.offer import Need, Offer

FRESH_S = 30.0
STALE_S = 300.0
"""So old an answer may be where no search is free: a rent looks at its offer again anyway."""


@dataclass(frozen=True)
class Found:
    """What one search found, and when (monotonic seconds). `due`: something changed since, so it is not fresh."""

    offers: tuple[Offer, ...]
    at: float
    due: bool = False


@dataclass
class Shelf:
    """The last answer to each need."""

    found: dict[Need, Found] = field(default_factory=dict)

    def fresh(self, need: Need, now: float) -> list[Offer] | None:
        """What stands for an answer of now; None: search."""
        found = self.found.get(need)
        return list(found.offers) if found and not found.due and now - found.at < FRESH_S else None

    def stale(self, need: Need, now: float) -> list[Offer] | None:
        """What is better than to wait or to fail; None when there is nothing, or it is too old."""
        found = self.found.get(need)
        return list(found.offers) if found and now - found.at < STALE_S else None

    def put(self, need: Need, offers: list[Offer], now: float) -> None:
        self.found = {other: found for other, found in self.found.items() if now - found.at < STALE_S}
        self.found[need] = Found(tuple(offers), now)

    def changed(self, host: str = "") -> None:
        """We rented on that host, or ended something somewhere: search again when a search is free."""
        for need, found in self.found.items():
            kept = tuple(offer for offer in found.offers if not host or offer.host != host)
            self.found[need] = replace(found, offers=kept, due=True)
