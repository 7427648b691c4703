"""Placing: which machines the market's placement would rent for a workspace now, and which are surplus. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dumont.control.judge import Case
from dumont.control.view import Sighting
from dumont.market.beliefs import Beliefs, hazard_of
from dumont.market.cost import Priced, Stake, expected_cost
from dumont.market.placement import (
    SPARE_ENDS_BELOW,
    Held,
    Moves,
    Rules,
    apart,
    choose,
    rank,
    spare_micros_per_hour,
)
from dumont.model.instance import Instance, Machine
from dumont.model.offer import Interruption, Offer

SECONDS_PER_HOUR = 3600.0
STANDBY_RAM_MB_MIN = 1_900
"""The agent, its journal's buffers and a small service. Where a provider does not tell, it counts as enough."""
STANDBY_MICROS_PER_HOUR = 100_000
"""What an hour without a second copy is worth beside an hour without the GPU, as the bench has it (docs/market.md)."""


@dataclass(frozen=True)
class Going:
    """What else happens in this moment. `left` tells of machines that are let go whether they failed; `taken` are the
    offers that were decided on just before.
    """

    left: Mapping[str, bool]
    taken: Sequence[Priced] = ()


def place(case: Case, machine: Machine, kept: Sequence[Sighting], going: Going, now: datetime) -> tuple[Priced, ...]:
    """What to rent of that kind, beside those of it that are `kept`.

    The two kinds are kept apart, and apart from what is about to be taken away, as long as there is anything else: what
    takes the GPU away must not take the standby with it. Hosts of machines that failed in this moment are avoided, and
    those that failed before unless nothing else is on offer.
    """
    view, policy, now_h, left = case.view, case.row.policy, now.timestamp() / SECONDS_PER_HOUR, going.left
    beliefs = replace(view.beliefs, stake=_stake(case, machine))
    held = [_held(case, s, beliefs, now_h) for s in kept]
    may_pay = any(case.is_fallback(s) for s in kept) or (held and _may_pay(view.offers, held[0], beliefs.stake))
    if held and not (all(one.ready for one in held) and may_pay):
        return ()
    failed_now = {s.instance.host: math.inf for s in view.sightings if left.get(s.instance.id)}
    failed_now.pop("", None)
    shunning = replace(beliefs, shunned={**beliefs.shunned, **failed_now})
    ranked = rank(view.offers, policy.need(machine), shunning, now_h)
    if not ranked and beliefs.shunned and not held:
        ranked = rank(view.offers, policy.need(machine), replace(beliefs, shunned=failed_now), now_h)
    others = [s for s in case.present if s not in kept and s.instance.id not in left]
    others_held = [_held(case, s, beliefs, now_h) for s in others]
    others_held += [Held(id=priced.offer.id, priced=priced, ready=False) for priced in going.taken]
    ranked = apart(ranked, others_held) or ranked
    if machine is Machine.CPU:
        roomy = [priced for priced in ranked if (priced.offer.ram_mb or STANDBY_RAM_MB_MIN) >= STANDBY_RAM_MB_MIN]
        return _elsewhere(roomy or ranked, others_held)[:1]
    moves = Moves.FROM_ON_DEMAND if policy.return_to_gpu else Moves.NEVER
    rules = Rules(race=policy.gpu.race, spares=policy.gpu.spares, moves=moves, on_demand=policy.gpu.on_demand)
    return choose(ranked, held, rules, beliefs.stake).rent


def surplus(case: Case, kept: Sequence[Sighting], now: datetime) -> list[Sighting]:
    """Those of one kind that are not worth their price beside the first of them, which serves or can. No offer counts.

    At most `spares` GPUs are kept beside it, and only while its loss would cost more than they do; beside a fallback on
    demand also the spot one that comes for it.
    """
    keeper, *others = kept
    machine = keeper.instance.machine
    spares = case.row.policy.gpu.spares if machine is Machine.GPU else 0
    if case.is_fallback(keeper):
        reliefs = [s for s in others if s.instance.spot]
        return [s for s in others if s not in reliefs[: max(spares, 1)]]
    if not spares:
        return others
    now_h, beliefs = now.timestamp() / SECONDS_PER_HOUR, replace(case.view.beliefs, stake=_stake(case, machine))
    worth = spare_micros_per_hour(_held(case, keeper, beliefs, now_h).priced, beliefs.stake)
    others.sort(key=lambda s: (not s.instance.spot, not case.can_lead(s)))  # on demand only until a spot one is there
    pay = [s for s in others if worth >= SPARE_ENDS_BELOW * s.instance.price_micros_per_hour]
    return [s for s in others if s not in pay[:spares]]


def _may_pay(offers: Sequence[Offer], best: Held, stake: Stake) -> bool:
    """Whether any spare on offer can be worth its price, at the lowest that it may cost: else nothing is ranked."""
    worth = spare_micros_per_hour(best.priced, stake)
    lowest = (min(one.price_micros_per_hour, one.min_bid_micros_per_hour or math.inf) for one in offers)
    return any(price < worth for price in lowest)


def _elsewhere(ranked: Sequence[Priced], others: Sequence[Held]) -> tuple[Priced, ...]:
    """Other providers first: an outage or an empty account takes all of one's machines at once."""
    theirs = {held.priced.offer.provider for held in others}
    return tuple(sorted(ranked, key=lambda priced: priced.offer.provider in theirs))


def _stake(case: Case, machine: Machine) -> Stake:
    """What losing such a machine costs this workspace: of a GPU, measured where it was lost before."""
    if machine is Machine.CPU:
        return Stake(value_micros_per_hour=STANDBY_MICROS_PER_HOUR)
    standby = sum(s.instance.price_micros_per_hour for s in case.present if s.instance.machine is Machine.CPU)
    stake = Stake(value_micros_per_hour=case.row.policy.value_micros_per_hour, standby_micros_per_hour=standby)
    return stake if case.view.restore_s is None else replace(stake, restore_s=case.view.restore_s)


def _held(case: Case, sighting: Sighting, beliefs: Beliefs, now_h: float) -> Held:
    return Held(
        id=sighting.instance.id,
        priced=_priced(sighting.instance, case.view.offers, beliefs, now_h),
        ready=case.has_role(sighting) or case.can_lead(sighting),
    )


def _priced(instance: Instance, offers: Sequence[Offer], beliefs: Beliefs, now_h: float) -> Priced:
    """A machine that is paid for, as the offer that it was. Its provider takes it back as it does what it offers."""
    ways = (offer.interruption for offer in offers if offer.spot and offer.provider == instance.provider)
    offer = Offer(
        id=instance.id,
        provider=instance.provider,
        machine=instance.machine,
        name=instance.product,
        price_micros_per_hour=instance.price_micros_per_hour,
        spot=instance.spot,
        interruption=next(ways, Interruption.PREEMPTED) if instance.spot else Interruption.NEVER,
        gpu=instance.product if instance.machine is Machine.GPU else "",
        region=instance.region,
        host=instance.host,
        domain=instance.domain,
    )
    return expected_cost(offer, hazard_of(offer, beliefs, now_h), beliefs.stake)
