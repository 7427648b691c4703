"""Placement: which offers to rent now, and which machines to let go, by expected cost. Pure.

`rank` prices what is on offer; `choose` compares it with what is held. The reasoning, once for everything, in money:

- A machine is *missed* when nothing is ready or starting: the best offers are rented (a race of k, in k failure
  domains), spot before on demand if the policy allows both, and nothing at all when neither pays: the workspace stays
  on its CPU.
- A *spare* is held while losing the GPU would cost more per hour than the spare does: hazard x loss > its price.
- A *move* is made while nothing is lost: the new machine is rented first, and the old one ends when the new is ready.
  It pays when what it saves within HORIZON_HOURS exceeds the time that both are paid, and the takeover.
- Racers that lost, spares that do not pay any more and machines that were moved away from are let go.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dumont.market.beliefs import Beliefs, hazard_of, slice_of
from dumont.market.bids import Bidding, BidHistory, best_bid
from dumont.market.cost import Priced, Stake, expected_cost, micros
from dumont.market.hazard import PRIORS
from dumont.market.regions import lies_in
from dumont.model.offer import Interruption, Need, Offer
from dumont.model.policy import OnDemand

HORIZON_HOURS = 4.0
"""How far ahead a move may count its savings; tuned on the first half of the nine-zone trace."""
SPARE_FAILS = 0.3
"""The share of losses in which a spare is of no use, being lost too or not ready yet: 21 of 69 in that half, for the
policy that always holds one. Chance alone would make it one in a hundred."""
NO_BIDS = BidHistory()
SPARE_ENDS_BELOW = 0.7
"""A spare is let go when it is worth less than this share of its price, so that it does not come and go."""


class Moves(enum.StrEnum):
    """When machines may be changed while nothing is lost. FROM_ON_DEMAND: back to spot, and no more.

    ANY needs a market that is listed: a zone that nobody watched looks better than one that was just seen to fail.
    """

    NEVER = "never"
    FROM_ON_DEMAND = "from_on_demand"
    ANY = "any"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the policy allows. `race` machines are started at once when the GPU is missed; `spares` are held at most."""

    race: int = 1
    spares: int = 1
    moves: Moves = Moves.ANY
    on_demand: OnDemand = OnDemand.FALLBACK


@dataclass(frozen=True, kw_only=True)
class Held:
    """One machine that is paid for: its price and hazard now, and whether it is ready to work."""

    id: str
    priced: Priced
    ready: bool

    @property
    def spot(self) -> bool:
        return self.priced.offer.spot


@dataclass(frozen=True)
class Choice:
    """Offers to rent and machines to let go, with the reason in a word. Nothing of either: things stay as they are."""

    rent: tuple[Priced, ...] = ()
    end: tuple[str, ...] = ()
    why: str = ""


def rank(offers: Iterable[Offer], need: Need, beliefs: Beliefs, now_h: float) -> list[Priced]:
    """The offers that satisfy the need, at their best bids, by expected cost per hour, the least first.

    Hosts that failed are left out. `now_h` is in hours, on the clock of the histories.
    """
    found: list[Priced] = []
    for offer in offers:
        if not satisfies(offer, need) or beliefs.shunned.get(offer.host, now_h) > now_h:
            continue
        priced = _price(offer, need, beliefs, now_h)
        if priced is not None:
            found.append(priced)
    return sorted(found, key=lambda one: (one.micros_per_hour, one.price_micros_per_hour, one.offer.id))


def satisfies(offer: Offer, need: Need) -> bool:
    """Whether the offer is what is needed. What the provider does not tell satisfies no bound."""
    wanted = need.spot if offer.spot else need.on_demand
    if offer.machine is not need.machine or not wanted:
        return False
    if need.gpu_names and offer.gpu not in need.gpu_names:
        return False
    if need.regions and not lies_in(offer, need.regions):
        return False
    bounds = (
        (offer.gpus, need.gpus if offer.gpu or offer.gpus else 0),
        (offer.vram_mb, need.vram_mb_min),
        (offer.ram_mb, need.ram_mb_min),
        (offer.reliability, need.reliability_min),
    )
    for value, least in bounds:
        if least and (value is None or value < least):
            return False
    most = need.price_micros_per_hour_max
    return most is None or offer.price_micros_per_hour <= most


def _price(offer: Offer, need: Need, beliefs: Beliefs, now_h: float) -> Priced | None:
    known = hazard_of(offer, beliefs, now_h)
    if offer.interruption is not Interruption.OUTBID or offer.min_bid_micros_per_hour is None:
        return expected_cost(offer, known, beliefs.stake)
    rest = (offer.disk_micros_per_hour or 0) + (offer.address_micros_per_hour or 0)
    most = None if need.price_micros_per_hour_max is None else need.price_micros_per_hour_max - rest
    history = beliefs.bids.get(slice_of(offer), NO_BIDS)
    prior = beliefs.priors.get(offer.domain) or PRIORS[Interruption.OUTBID]
    return best_bid(offer, known, beliefs.stake, Bidding(history, prior, now_h, beliefs.lives_of(offer)), most)


def choose(ranked: Sequence[Priced], held: Sequence[Held], rules: Rules, stake: Stake) -> Choice:
    """What to rent and what to let go now. `ranked` comes from `rank`, the least expected cost first."""
    ready = sorted((h for h in held if h.ready), key=lambda h: (_ahead(h.priced, rules, stake), h.id))
    starting = sorted((h for h in held if not h.ready), key=lambda h: (_ahead(h.priced, rules, stake), h.id))
    if not ready:
        return Choice() if starting else _start(ranked, rules)
    best = ready[0]
    useless = _useless(best, [*ready[1:], *starting], rules, stake)
    if useless:
        return Choice(end=tuple(useless), why="not worth its price")
    if starting:
        return Choice()
    others = apart(ranked, held)
    spares = [h for h in ready[1:] if h.spot]  # an on-demand machine is a spare until a spot one is ready
    if len(spares) < rules.spares and (spare := _spare(best, _spots(others), stake)):
        return Choice(rent=(spare,), why="spare")
    if not spares and (better := _better(best, others, rules, stake)):
        return Choice(rent=(better,), why="move")
    return Choice()


def apart(ranked: Iterable[Priced], held: Iterable[Held]) -> list[Priced]:
    """The offers of other failure domains and hosts than those held: what takes one away must not take both."""
    domains = {h.priced.offer.domain for h in held if h.spot} - {""}
    hosts = {h.priced.offer.host for h in held} - {""}
    return [p for p in ranked if p.offer.domain not in domains and p.offer.host not in hosts]


def spare_micros_per_hour(best: Priced, stake: Stake) -> int:
    """What a ready spare beside this machine is worth: the loss of each interruption that it makes a takeover."""
    return micros(best.hazard.per_hour * (1 - SPARE_FAILS) * max(0.0, stake.restore_micros - stake.takeover_micros))


def saving_micros(now: Priced, then: Priced, rules: Rules, stake: Stake) -> int:
    """What moving saves within HORIZON_HOURS, less the time that both are paid and the takeover; may be below 0."""
    overlap = stake.restore_h * then.price_micros_per_hour
    return micros(_ahead(now, rules, stake) - _ahead(then, rules, stake) - overlap - stake.takeover_micros)


def _ahead(priced: Priced, rules: Rules, stake: Stake) -> float:
    """The expected cost of the next HORIZON_HOURS on this machine, with a spare of its price if that is cheaper."""
    losses, price = priced.hazard.events_within(HORIZON_HOURS), priced.price_micros_per_hour * HORIZON_HOURS
    alone = losses * stake.loss_micros
    beside = (1 - SPARE_FAILS) * stake.takeover_micros + SPARE_FAILS * stake.restore_micros + stake.work_micros
    return price + (min(alone, price + losses * beside) if rules.spares else alone)


def _spots(ranked: Iterable[Priced]) -> list[Priced]:
    return [p for p in ranked if p.offer.spot]


def _start(ranked: Sequence[Priced], rules: Rules) -> Choice:
    """The GPU is missed: up to `race` machines are started, each in a domain and on a host of its own."""
    allowed = list(ranked) if rules.on_demand is OnDemand.ALWAYS else _spots(ranked)
    if not allowed and rules.on_demand is OnDemand.FALLBACK:
        allowed = list(ranked)[:1]
    chosen: list[Priced] = []
    taken: set[str] = set()
    for priced in allowed:
        place = {f"domain {priced.offer.domain}", f"host {priced.offer.host}"} - {"domain ", "host "}
        if len(chosen) < rules.race and not place & taken:
            chosen.append(priced)
            taken |= place
    return Choice(rent=tuple(chosen), why="missed" if chosen else "stay on the CPU")


def _useless(best: Held, others: Sequence[Held], rules: Rules, stake: Stake) -> list[str]:
    """Machines beside the best one that are neither worth their price as a spare nor being moved to.

    An on-demand machine is a spare only as long as no spot one is ready: it comes last, and takes no room of one that
    is starting.
    """
    ended: list[str] = []
    worth, room = spare_micros_per_hour(best.priced, stake), rules.spares
    ahead = _ahead(best.priced, rules, stake)
    for other in sorted(others, key=lambda h: (not h.spot, not h.ready)):
        pays = worth >= SPARE_ENDS_BELOW * other.priced.price_micros_per_hour
        if pays and room > 0:
            room -= other.ready
        elif other.ready or _ahead(other.priced, rules, stake) >= ahead:
            ended.append(other.id)
    return ended


def _spare(best: Held, others: Sequence[Priced], stake: Stake) -> Priced | None:
    """The spare to rent: the one that fails least for its price, if it is worth that price now."""
    spare = min(others, key=lambda p: p.micros_per_hour, default=None)
    if spare is None or spare_micros_per_hour(best.priced, stake) <= spare.price_micros_per_hour:
        return None
    return spare


def _better(best: Held, others: Sequence[Priced], rules: Rules, stake: Stake) -> Priced | None:
    """The machine to move to: the one that saves the most, if it saves anything."""
    if rules.moves is Moves.NEVER or (rules.moves is Moves.FROM_ON_DEMAND and best.spot):
        return None
    allowed = others if rules.on_demand is OnDemand.ALWAYS else _spots(others)
    savings = [(saving_micros(best.priced, priced, rules, stake), -index) for index, priced in enumerate(allowed)]
    saving, index = max(savings, default=(0, 0))
    return allowed[-index] if saving > 0 else None
