"""Beliefs: what is known of the market beside the offers themselves, and how a look at the market changes it. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from dumont.market.bids import BidHistory
from dumont.market.cost import Stake
from dumont.market.hazard import PRIORS, Hazard, History, Prior, from_reliability, hazard, prior_of, steady
from dumont.market.lives import OwnLife
from dumont.model.offer import Interruption, Offer

WATCH_HOURS = 1.0
"""Looks further apart than this do not tell what happened in between."""
PRESSURE_HOURS = 4.0
PRESSURE_WEIGHT = 2.0
"""How many interruptions as expected a pressure of 1 is worth, and for how long a pressure lasts; tuned as SHAPE is."""


@dataclass(frozen=True)
class Pressure:
    """How many interruptions a group of domains saw lately, and how many were to be expected: both fade in 4 hours.

    Machines of one type in one region are interrupted together more often than chance allows. The factor is the mean of
    a Gamma(2, 2) multiplier after `events` where `expected` were due.
    """

    at_h: float
    events: float = 0.0
    expected: float = 0.0

    def seen(self, events: int, expected: float, now_h: float) -> "Pressure":
        weight = math.exp(-max(0.0, now_h - self.at_h) / PRESSURE_HOURS)
        return Pressure(now_h, self.events * weight + events, self.expected * weight + expected)

    def factor(self, now_h: float) -> float:
        """What every hazard of the group is multiplied by now."""
        faded = self.seen(0, 0.0, max(now_h, self.at_h))
        return (PRESSURE_WEIGHT + faded.events) / (PRESSURE_WEIGHT + faded.expected)


@dataclass(frozen=True, kw_only=True)
class Beliefs:
    """What placement goes by.

    `domains` maps failure domains to what was seen of them, `pressures` groups of them (see `group_of`), `bids` slices
    of hosts (see `slice_of`) to their lowest winning bids. `priors` maps a domain to what others say of it (Google's
    capacity history), `own` to the lives of our own machines there. `shunned` maps hosts that failed to
    the hour until which they are avoided.
    """

    stake: Stake = Stake()
    domains: Mapping[str, History] = field(default_factory=dict)
    pressures: Mapping[str, Pressure] = field(default_factory=dict)
    bids: Mapping[str, BidHistory] = field(default_factory=dict)
    priors: Mapping[str, Prior] = field(default_factory=dict)
    shunned: Mapping[str, float] = field(default_factory=dict)
    own: Mapping[str, tuple[OwnLife, ...]] = field(default_factory=dict)

    def lives_of(self, offer: Offer) -> tuple[OwnLife, ...]:
        """Our own lives that stand behind this offer's hazard. On demand nobody takes back, so they tell nothing."""
        return self.own.get(offer.domain, ()) if offer.spot else ()


def group_of(offer: Offer) -> str:
    """What tends to be interrupted together beyond one domain: a provider's machines of one type in one region."""
    return f"{offer.provider}/{offer.region}/{offer.gpu}"


def slice_of(offer: Offer) -> str:
    """What is bid for: so many GPUs of one host. Each has a lowest bid of its own; none as a CPU machine."""
    return f"{offer.domain} x {offer.gpus}"


def hazard_of(offer: Offer, beliefs: Beliefs, now_h: float) -> Hazard:
    """How often a machine of this offer is lost, whatever is bid."""
    prior = beliefs.priors.get(offer.domain) or prior_of(offer)
    if offer.interruption is Interruption.NEVER:
        return steady(prior)
    if offer.interruption is Interruption.OUTBID and offer.min_bid_micros_per_hour is not None:
        failing = PRIORS[Interruption.NEVER].per_hour
        failing += from_reliability(offer.reliability) if offer.reliability is not None else 0.0
        return Hazard(1.0, 1.0 / failing)
    alone = hazard(beliefs.domains.get(offer.domain), prior, now_h, beliefs.lives_of(offer))
    pressure = beliefs.pressures.get(group_of(offer))
    return alone if pressure is None else Hazard(alone.shape, alone.hours / pressure.factor(now_h))


def observe(beliefs: Beliefs, watched: Iterable[Offer], up: frozenset[str], now_h: float) -> Beliefs:
    """The beliefs after a look at the market: of the domains watched, those in `up` have machines to rent.

    `watched` holds one offer of each domain that the look covered, there now or not: what was there and is not any more
    counts as interrupted. Offers whose provider names no domain teach nothing.
    """
    domains, pressures = dict(beliefs.domains), dict(beliefs.pressures)
    seen: dict[str, tuple[int, float]] = {}
    for offer in watched:
        name, group = offer.domain, group_of(offer)
        if not name:
            continue
        before = domains.get(name)
        here = name in up
        if before is None:
            domains[name] = History(at_h=now_h, up_since_h=now_h if here else None)
            continue
        if now_h - before.at_h > WATCH_HOURS:
            domains[name] = before.found(here, now_h)
            continue
        ended, due = 0, 0.0
        if before.up_since_h is not None:
            due = hazard(before, prior_of(offer), before.at_h).events_within(now_h - before.at_h)
            ended = not here
        events, expected = seen.get(group, (0, 0.0))
        seen[group] = (events + ended, expected + due)
        domains[name] = before.seen(here, now_h)
    for group, (events, expected) in seen.items():
        pressures[group] = pressures.get(group, Pressure(now_h)).seen(events, expected, now_h)
    return replace(beliefs, domains=domains, pressures=pressures)
