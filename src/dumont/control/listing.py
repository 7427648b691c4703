"""The listing: what every provider has for rent now, for all that workspaces need, and what it asked before."""

import statistics
from collections.abc import Iterable
from datetime import datetime, timedelta

from dumont.clock import Clock
from dumont.control.learner import Foretelling, Learner
from dumont.db.base import Database
from dumont.market.beliefs import Beliefs
from dumont.model.instance import Machine
from dumont.model.offer import Need, Offer, PricePoint
from dumont.model.workspace import Workspace
from dumont.provider.base import Provider

PRICES_EVERY_S = 600.0
PRICES_KEPT = timedelta(days=90)
PRICES_DROPPED_EVERY_S = 24 * 3600.0
NEEDS_MAX = 8
"""So many searches at most make one listing: providers allow few a minute. Beyond, what is common to all is asked."""


class Listing:
    """Refreshed by whoever sweeps a provider. `offers` maps providers to what they offered last."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.offers: dict[str, tuple[Offer, ...]] = {}
        self.learner = Learner(database, clock)
        self._database = database
        self._clock = clock
        self._written_at: dict[str, float] = {}
        self._dropped_at = float("-inf")

    @property
    def beliefs(self) -> Beliefs:
        """What all looks, by any process, have taught."""
        return self.learner.beliefs

    @property
    def all(self) -> tuple[Offer, ...]:
        """Of every provider."""
        return tuple(offer for offers in self.offers.values() for offer in offers)

    async def refresh(self, provider: Provider) -> None:
        """Ask one provider anew. Raises ProviderError, and then what it offered before stands."""
        found: dict[str, Offer] = {}
        searched = needs(await self._database.workspaces())
        for need in searched:
            found |= {offer.id: offer for offer in await provider.offers(need)}
        self.offers[provider.name] = tuple(found.values())
        await self.learner.look(provider.name, self.offers[provider.name], searched)
        if isinstance(provider, Foretelling):
            await self.learner.foretell(provider.name, provider, self.offers[provider.name])
        await self._remember(provider.name)

    def drop(self, gone: Offer) -> None:
        """An offer that somebody else took, until the next refresh."""
        kept = self.offers.get(gone.provider, ())
        self.offers[gone.provider] = tuple(offer for offer in kept if offer.id != gone.id)

    async def _remember(self, name: str) -> None:
        now = self._clock.monotonic()
        if now - self._written_at.get(name, float("-inf")) >= PRICES_EVERY_S:
            await self._database.add_prices(price_points(self.offers[name], self._clock.now()))
            self._written_at[name] = now
        if now - self._dropped_at >= PRICES_DROPPED_EVERY_S:
            await self._database.drop_prices(self._clock.now() - PRICES_KEPT)
            await self.learner.drop_old()
            self._dropped_at = now


def needs(workspaces: Iterable[Workspace]) -> list[Need]:
    """What to search for: each different need once; any machine at all where nobody needs one, to show a market.

    More than NEEDS_MAX needs of a kind are searched for without their bounds; each is held against the offers anyway.
    """
    rows = list(workspaces)
    searched: list[Need] = []
    for machine in Machine:
        found = list(dict.fromkeys(row.policy.need(machine) for row in rows))
        any_machine = Need(machine=machine, gpus=1 if machine is Machine.GPU else 0)
        searched += found if 0 < len(found) <= NEEDS_MAX else [any_machine]
    return searched


def price_points(offers: Iterable[Offer], at: datetime) -> list[PricePoint]:
    """One point for each product, region and kind of interruption: a GPU's price where there are GPUs."""
    groups: dict[tuple[str, str, str, bool], list[int]] = {}
    for offer in offers:
        key = (offer.provider, offer.product, offer.region, offer.spot)
        groups.setdefault(key, []).append(offer.price_micros_per_hour // max(1, offer.gpus))
    return [
        PricePoint(
            at=at,
            provider=provider,
            product=product,
            region=region,
            spot=spot,
            lowest_micros_per_hour=min(prices),
            median_micros_per_hour=round(statistics.median(prices)),
            offers=len(prices),
        )
        for (provider, product, region, spot), prices in groups.items()
    ]
