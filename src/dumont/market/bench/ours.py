"""Our policy in the replay: the market's own `rank` and `choose`, fed with what a zone's listing or attempts tell."""

from dataclasses import dataclass, replace

from dumont.market.beliefs import Beliefs, observe
from dumont.market.bench.replay import ON_DEMAND, Now
from dumont.market.bench.traces import ON_DEMAND_MICROS, SPOT_MICROS
from dumont.market.cost import Stake
from dumont.market.placement import Held, Moves, Rules, choose, rank
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Need, Offer

SECONDS_PER_HOUR = 3600.0
CHANGES_MAX = 24
"""In one instant: more than zones that may refuse."""
RETRY_H = 1 / 6
NEED = Need(machine=Machine.GPU, gpus=1, on_demand=True)


def zone_offer(zone: int, name: str, micros: int) -> Offer:
    """The offer that a zone of a trace stands for. Its region is the zone's name without its last letter."""
    spot = zone != ON_DEMAND
    return Offer(
        id=f"{zone:+03d} {name}",
        provider="trace",
        machine=Machine.GPU,
        name=name,
        price_micros_per_hour=micros,
        spot=spot,
        interruption=Interruption.PREEMPTED if spot else Interruption.NEVER,
        gpus=1,
        region=name.partition("_")[0][:-1],
        domain=name if spot else "",
    )


@dataclass
class Ours:
    """Placement as the product does it. `stake` is what an interruption costs; `rules` what is allowed.

    Where nothing lists the zones, it knows a zone by its own machines and by attempts, and asks one that refused again
    after `RETRY_H`.
    """

    stake: Stake = Stake()
    rules: Rules = Rules()
    micros: tuple[int, int] = (SPOT_MICROS, ON_DEMAND_MICROS)

    def start(self, zones: tuple[str, ...]) -> None:
        self.offers = [zone_offer(zone, name, self.micros[0]) for zone, name in enumerate(zones)]
        self.on_demand = zone_offer(ON_DEMAND, "on demand", self.micros[1])
        self.zone_of = {offer.id: zone for zone, offer in enumerate(self.offers)} | {self.on_demand.id: ON_DEMAND}
        self.beliefs = Beliefs(stake=self.stake)
        self.refused_until_h: dict[int, float] = {}

    def decide(self, now: Now) -> None:
        """Learn, then carry out what `choose` says until it says nothing more."""
        now_h = now.at_s / SECONDS_PER_HOUR
        up = self._learn(now, now_h)
        rules = self.rules if now.up is not None else replace(self.rules, moves=Moves.FROM_ON_DEMAND)
        ranked = rank([*self.offers, self.on_demand], NEED, self.beliefs, now_h)
        by_zone = {self.zone_of[priced.offer.id]: priced for priced in ranked}
        for _ in range(CHANGES_MAX):
            there = [p for p in ranked if p.offer is self.on_demand or self.zone_of[p.offer.id] in up]
            held = [Held(id=m.id, priced=by_zone[m.zone], ready=m.is_ready(now.at_s)) for m in now.machines]
            choice = choose(there, held, rules, self.stake)
            if not choice.rent and not choice.end:
                return
            for priced in choice.rent:
                zone = self.zone_of[priced.offer.id]
                if not now.rent(zone):
                    up.discard(zone)
                    self.refused_until_h[zone] = now_h + RETRY_H
            for machine in [m for m in now.machines if m.id in choice.end]:
                now.end(machine)

    def _learn(self, now: Now, now_h: float) -> set[int]:
        """Take in what is to be seen now; the zones that may be tried."""
        held = {machine.zone for machine in now.machines} - {ON_DEMAND}
        if now.up is not None:
            up = {zone for zone, there in enumerate(now.up) if there}
            self._observe(self.offers, up | held, now_h)
            return up
        watched = [self.offers[zone] for zone in held | set(now.taken)]
        self._observe(watched, held, now_h)
        self.refused_until_h |= dict.fromkeys(now.taken, now_h + RETRY_H)
        return {zone for zone in range(len(self.offers)) if self.refused_until_h.get(zone, 0.0) <= now_h}

    def _observe(self, watched: list[Offer], up: set[int], now_h: float) -> None:
        domains = frozenset(self.offers[zone].domain for zone in up)
        self.beliefs = observe(self.beliefs, watched, domains, now_h)
