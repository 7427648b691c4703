"""The listing: what every provider has for rent now, for all that workspaces need, and what it asked before."""

import statistics
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

import structlog

from dumont.clock import Clock
from dumont.db.base import Database
from dumont.errors import ProviderError
from dumont.market.beliefs import Beliefs, observe
from dumont.market.bids import BidHistory
from dumont.market.hazard import prior_from_capacity_history
from dumont.market.placement import satisfies
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Need, Offer, PricePoint
from dumont.model.workspace import Workspace
from dumont.provider.base import Provider

PRICES_EVERY_S = 600.0
PRICES_KEPT = timedelta(days=90)
PRICES_DROPPED_EVERY_S = 24 * 3600.0
BID_SAMPLES_MAX = 500
FORETOLD_EVERY_S = 6 * 3600.0
DOMAINS_MAX = 5_000
NEEDS_MAX = 8
"""So many searches at most make one listing: providers allow few a minute. Beyond, what is common to all is asked."""


log = structlog.get_logger()


class Foretold(Protocol):
    """What a provider tells of its preemptions: `rates` are shares of stopped machines, from 0 to 1, newest last."""

    @property
    def rates(self) -> list[float]: ...


@runtime_checkable
class Foretelling(Protocol):
    """A provider that tells how often it takes machines of one type back in one zone, as Google does."""

    async def capacity_history(self, zone: str, kind: str) -> Foretold: ...


class Listing:
    """Refreshed by whoever sweeps a provider. `offers` maps providers to what they offered last."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.offers: dict[str, tuple[Offer, ...]] = {}
        self._database = database
        self._clock = clock
        self.beliefs = Beliefs()
        self._watched: dict[str, dict[str, Offer]] = {}
        self._written_at: dict[str, float] = {}
        self._foretold_at: dict[str, float] = {}
        self._dropped_at = float("-inf")

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
        self._observe(provider.name, searched)
        if isinstance(provider, Foretelling):
            await self._foretell(provider.name, provider)
        await self._remember(provider.name)

    def drop(self, gone: Offer) -> None:
        """An offer that somebody else took, until the next refresh."""
        kept = self.offers.get(gone.provider, ())
        self.offers[gone.provider] = tuple(offer for offer in kept if offer.id != gone.id)

    def _observe(self, name: str, searched: Iterable[Need]) -> None:
        """Learn from what is on offer: a domain that had something and has nothing now counts as interrupted.

        Only domains that this search would have shown: what nobody looked for is not lost.
        """
        now_h = self._clock.now().timestamp() / 3600
        present = {offer.domain: offer for offer in self.offers[name] if offer.domain and offer.spot}
        known = self._watched.get(name, {}) | present
        asked = list(searched)
        watched = {
            domain: offer
            for domain, offer in known.items()
            if domain in present or any(satisfies(offer, need) for need in asked)
        }
        self._watched[name] = dict(list(watched.items())[-DOMAINS_MAX:])
        self.beliefs = observe(self.beliefs, watched.values(), frozenset(present), now_h)
        bids = dict(self.beliefs.bids)
        for domain, offer in present.items():
            if offer.min_bid_micros_per_hour is not None:
                bids[domain] = _with_sample(bids.get(domain, BidHistory()), now_h, offer.min_bid_micros_per_hour)
        self.beliefs = replace(self.beliefs, bids=bids)

    async def _foretell(self, name: str, provider: Foretelling) -> None:
        """What the provider says of its zones becomes the prior of their hazard; where it says nothing, ours stays."""
        now = self._clock.monotonic()
        if now - self._foretold_at.get(name, float("-inf")) < FORETOLD_EVERY_S:
            return
        self._foretold_at[name] = now
        priors = dict(self.beliefs.priors)
        domains = {offer.domain: offer for offer in self.offers[name] if offer.interruption is Interruption.PREEMPTED}
        for domain, offer in domains.items():
            try:
                rates = (await provider.capacity_history(offer.zone, offer.name)).rates
            except ProviderError as error:
                log.info("a provider tells nothing of its preemptions", domain=domain, why=str(error))
                continue
            if rates:
                priors[domain] = prior_from_capacity_history(rates)
        self.beliefs = replace(self.beliefs, priors=priors)

    async def _remember(self, name: str) -> None:
        now = self._clock.monotonic()
        if now - self._written_at.get(name, float("-inf")) >= PRICES_EVERY_S:
            await self._database.add_prices(price_points(self.offers[name], self._clock.now()))
            self._written_at[name] = now
        if now - self._dropped_at >= PRICES_DROPPED_EVERY_S:
            await self._database.drop_prices(self._clock.now() - PRICES_KEPT)
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


def _with_sample(history: BidHistory, now_h: float, lowest: int) -> BidHistory:
    """The history with the lowest winning bid of now, kept only where it changed."""
    if history.samples and history.samples[-1][1] == lowest:
        return history
    return BidHistory((*history.samples[-BID_SAMPLES_MAX + 1 :], (now_h, lowest)))


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
