"""The learner: makes beliefs of what is observed of the market, by this process or another, over the database.

What is written down are observations. Whoever reads them, another server process or this one after a restart, comes to
the same beliefs. Learning from one observation twice is harmless.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar, runtime_checkable

import structlog

from dumont.clock import Clock
from dumont.db.base import Database
from dumont.errors import ProviderError
from dumont.market.beliefs import Beliefs, slice_of
from dumont.market.bids import BidHistory
from dumont.market.hazard import Prior, prior_from_capacity_history
from dumont.market.lives import OwnLife, life_of
from dumont.market.tally import Tallies, from_text, look_again, to_text
from dumont.model.instance import Instance
from dumont.model.observed import BidPoint, CapacityAnswer, Look
from dumont.model.offer import Interruption, Need, Offer

FORETOLD_EVERY_S = 6 * 3600.0
KEPT = timedelta(days=90)
LIVES_KEPT = timedelta(days=30)
OVERLAP = timedelta(minutes=10)
"""Bids are read again so far back: another process's clock, or its write, may be late."""
AHEAD_MAX = timedelta(minutes=10)
"""A look that lies further ahead was taken by a clock that was wrong; what it counted is left out."""
TRIES_MAX = 5
SECONDS_PER_HOUR = 3600.0
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_T = TypeVar("_T")

log = structlog.get_logger()


class Foretold(Protocol):
    """What a provider tells of its preemptions: `rates` are shares of stopped machines, from 0 to 1, newest last."""

    @property
    def rates(self) -> list[float]: ...


@runtime_checkable
class Foretelling(Protocol):
    """A provider that tells how often it takes machines of one type back in one zone, as Google does."""

    async def capacity_history(self, zone: str, kind: str) -> Foretold: ...


class Learner:
    """`beliefs` are those of this moment, replaced and never changed in place."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.beliefs = Beliefs()
        self._database = database
        self._clock = clock
        self._tallies: dict[str, tuple[datetime, Tallies]] = {}
        self._bids_until: dict[str, datetime] = {}
        self._foretold_at: dict[str, float] = {}
        self._held: frozenset[str] = frozenset()
        self._loaded = False
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Take in all that was observed before, once."""
        async with self._loading:
            if self._loaded:
                return
            for look in await self._database.looks():
                self._tell(look.provider, look.at, from_text(look.seen))
            await self._take_bids("")
            self._believe_capacity(await self._database.capacities())
            await self._take_lives()
            self._loaded = True

    async def look(self, provider: str, offers: Iterable[Offer], searched: Iterable[Need]) -> None:
        """Learn from what a provider offers now, and from what others learnt of it meanwhile."""
        await self.load()
        found, asked = list(offers), list(searched)
        await self._take_lives()
        await self._count(provider, found, asked)
        await self._note_bids(provider, found)

    async def foretell(self, name: str, provider: Foretelling, offers: Iterable[Offer]) -> None:
        """What the provider says of its zones becomes the prior of their hazard; where it says nothing, ours stays.

        Nobody asks again what anybody was told within FORETOLD_EVERY_S.
        """
        monotonic = self._clock.monotonic()
        if monotonic - self._foretold_at.get(name, float("-inf")) < FORETOLD_EVERY_S:
            return
        await self.load()
        self._foretold_at[name] = monotonic
        told = await self._database.capacities(name)
        self._believe_capacity(told)
        recently = self._clock.now() - timedelta(seconds=FORETOLD_EVERY_S)
        fresh = {answer.domain for answer in told if answer.at > recently}
        domains = {offer.domain: offer for offer in offers if offer.interruption is Interruption.PREEMPTED}
        for domain, offer in domains.items():
            if domain in fresh:
                continue
            try:
                rates = (await provider.capacity_history(offer.zone, offer.name)).rates
            except ProviderError as error:
                log.info("a provider tells nothing of its preemptions", domain=domain, why=str(error))
                continue
            if rates:
                answer = CapacityAnswer(at=self._clock.now(), provider=name, domain=domain, rates=tuple(rates))
                await self._database.add_capacity(answer)
                self._believe_capacity([answer])

    def note(self, instance: Instance) -> None:
        """One of our machines ended, or was taken away: known at once here, and to others from its record."""
        life = life_of(instance)
        if life is not None:
            others = (one for one in self.beliefs.own.get(life.domain, ()) if one.id != life.id)
            own = {**self.beliefs.own, life.domain: _in_order([*others, life])}
            self.beliefs = replace(self.beliefs, own=own)

    async def drop_old(self) -> None:
        """Forget what is too old to count, here as in the database."""
        since = self._clock.now() - KEPT
        await self._database.drop_observed(since)
        bids = {name: history.since(_hours(since)) for name, history in self.beliefs.bids.items()}
        self.beliefs = replace(self.beliefs, bids=bids)

    async def _count(self, provider: str, offers: list[Offer], searched: list[Need]) -> None:
        """Go on from the last look, whoever took it; one that was overtaken goes on from that one."""
        for _ in range(TRIES_MAX):
            now = self._clock.now()
            last = next(iter(await self._database.looks(provider)), None)
            before = self._read(last) if last else Tallies()
            if last and now <= last.at <= now + AHEAD_MAX:
                self._tell(provider, last.at, before)
                return
            if last and last.at > now:
                before = Tallies()
            after = look_again(before, offers, searched, self._held, _hours(now))
            look = Look(at=now, provider=provider, seen=to_text(after))
            if await self._database.save_look(look, last.at if last else None):
                self._tell(provider, now, after)
                return

    def _read(self, look: Look) -> Tallies:
        at, known = self._tallies.get(look.provider, (None, Tallies()))
        return known if at == look.at else from_text(look.seen)

    def _tell(self, provider: str, at: datetime, tallies: Tallies) -> None:
        _, old = self._tallies.get(provider, (at, Tallies()))
        self._tallies[provider] = (at, tallies)
        self.beliefs = replace(
            self.beliefs,
            domains=_instead(self.beliefs.domains, old.domains, tallies.domains),
            pressures=_instead(self.beliefs.pressures, old.pressures, tallies.pressures),
        )

    async def _note_bids(self, provider: str, offers: Iterable[Offer]) -> None:
        """Write down what changed since anybody wrote it down, and take in what others did."""
        await self._take_bids(provider)
        now = self._clock.now()
        lowest: dict[str, int] = {}
        for offer in offers:
            if offer.domain and offer.spot and (bid := offer.min_bid_micros_per_hour) is not None:
                lowest[slice_of(offer)] = min(bid, lowest.get(slice_of(offer), bid))
        known = self.beliefs.bids
        changed = [
            BidPoint(at=now, provider=provider, slice=name, lowest_micros_per_hour=bid)
            for name, bid in lowest.items()
            if name not in known or known[name].lowest != bid
        ]
        await self._database.add_bids(changed)
        self._believe_bids(changed)

    async def _take_bids(self, provider: str) -> None:
        now = self._clock.now()
        until = self._bids_until.get(provider) or self._bids_until.get("")
        since = until - OVERLAP if until else _EVER
        self._bids_until[provider] = now
        self._believe_bids(await self._database.bids(since, provider))

    def _believe_bids(self, points: Iterable[BidPoint]) -> None:
        grown: dict[str, list[tuple[float, int]]] = {}
        for point in points:
            grown.setdefault(point.slice, []).append((_hours(point.at), point.lowest_micros_per_hour))
        if grown:
            known = self.beliefs.bids
            longer = {name: known.get(name, BidHistory()).plus(samples) for name, samples in grown.items()}
            self.beliefs = replace(self.beliefs, bids={**known, **longer})

    def _believe_capacity(self, answers: Iterable[CapacityAnswer]) -> None:
        told: dict[str, Prior] = {one.domain: prior_from_capacity_history(list(one.rates)) for one in answers}
        if told:
            self.beliefs = replace(self.beliefs, priors={**self.beliefs.priors, **told})

    async def _take_lives(self) -> None:
        found = await self._database.spot_lives(self._clock.now() - LIVES_KEPT)
        self._held = frozenset(one.domain for one in found if one.ended_at is None and one.gone_at is None)
        own: dict[str, list[OwnLife]] = {}
        for life in filter(None, map(life_of, found)):
            own.setdefault(life.domain, []).append(life)
        self.beliefs = replace(self.beliefs, own={domain: _in_order(lives) for domain, lives in own.items()})


def _in_order(lives: Iterable[OwnLife]) -> tuple[OwnLife, ...]:
    """One order, so that sums come out alike whoever makes them."""
    return tuple(sorted(lives, key=lambda life: (life.began_h, life.id)))


def _hours(at: datetime) -> float:
    return at.astimezone(UTC).timestamp() / SECONDS_PER_HOUR


def _instead(all_of_them: Mapping[str, _T], old: Mapping[str, _T], new: Mapping[str, _T]) -> dict[str, _T]:
    """One provider's part renewed."""
    return {name: one for name, one in all_of_them.items() if name not in old} | dict(new)
