"""Placing: which machines the market's placement would rent for a workspace now, and which it would let go. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from dumont.control.judge import Case
from dumont.control.view import Sighting
from dumont.market.beliefs import Beliefs, hazard_of
from dumont.market.cost import Priced, Stake, expected_cost
from dumont.market.placement import Choice, Held, Moves, OnDemand, Rules, apart, choose, rank
from dumont.model.instance import Instance, Machine
from dumont.model.offer import Interruption, Offer

SECONDS_PER_HOUR = 3600.0


def place(case: Case, machine: Machine, kept: Sequence[Sighting], now: datetime) -> Choice:
    """What to rent of that kind, and which of `kept` is not worth its price. The two kinds are kept apart: what takes
    the GPU away must not take the standby with it.
    """
    policy, now_h = case.row.policy, now.timestamp() / SECONDS_PER_HOUR
    beliefs = replace(case.view.beliefs, stake=_stake(case))
    ranked = rank(case.view.offers, policy.need(machine), beliefs, now_h)
    others = [_held(case, s, beliefs, now_h) for s in case.present if s.instance.machine is not machine]
    ranked = apart(ranked, others)
    if machine is Machine.CPU:
        return Choice(rent=() if kept else _elsewhere(ranked, others)[:1], why="missed")
    rules = Rules(
        race=policy.gpu.race,
        spares=policy.gpu.spares,
        moves=Moves.NEVER,
        on_demand=OnDemand(policy.gpu.on_demand.value),
    )
    return choose(ranked, [_held(case, s, beliefs, now_h) for s in kept], rules, beliefs.stake)


def _elsewhere(ranked: Sequence[Priced], others: Sequence[Held]) -> tuple[Priced, ...]:
    """Other providers first: an outage or an empty account takes all of one's machines at once."""
    theirs = {held.priced.offer.provider for held in others}
    return tuple(sorted(ranked, key=lambda priced: priced.offer.provider in theirs))


def _stake(case: Case) -> Stake:
    """What losing the GPU costs this workspace: measured where it was lost before."""
    standby = sum(s.instance.price_micros_per_hour for s in case.present if s.instance.machine is Machine.CPU)
    stake = Stake(value_micros_per_hour=case.row.policy.value_micros_per_hour, standby_micros_per_hour=standby)
    return stake if case.view.restore_s is None else replace(stake, restore_s=case.view.restore_s)


def _held(case: Case, sighting: Sighting, beliefs: Beliefs, now_h: float) -> Held:
    return Held(
        id=sighting.instance.id,
        priced=_priced(sighting.instance, beliefs, now_h),
        ready=case.has_role(sighting) or case.can_lead(sighting),
    )


def _priced(instance: Instance, beliefs: Beliefs, now_h: float) -> Priced:
    """A machine that is paid for, as the offer that it was."""
    offer = Offer(
        id=instance.id,
        provider=instance.provider,
        machine=instance.machine,
        name=instance.product,
        price_micros_per_hour=instance.price_micros_per_hour,
        spot=instance.spot,
        interruption=Interruption.PREEMPTED if instance.spot else Interruption.NEVER,
        gpu=instance.product if instance.machine is Machine.GPU else "",
        region=instance.region,
        host=instance.host,
        domain=instance.domain,
    )
    return expected_cost(offer, hazard_of(offer, beliefs, now_h), beliefs.stake)
