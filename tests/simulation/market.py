"""The market of a world: which hosts its seed has for rent, what its policy allows, and how the market misbehaves."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from dumont.market.placement import satisfies
from dumont.model.instance import Machine as MachineKind
from dumont.model.offer import Interruption, Offer
from dumont.model.policy import OnDemand, Policy, Wish
from dumont.provider.base import Phase, Why
from dumont.provider.market import Boots, Host
from dumont.provider.memory import NAME, Faults, Rented

if TYPE_CHECKING:
    from tests.simulation.faults import Mischief
    from tests.simulation.world import World

NAMES = ("RTX 3090", "RTX 4090")
OFTEN_LOST_MICROS = 300_000_000
"""What an hour without the GPU is worth to those for whom a spare always pays."""
NOTICE_S = (3.0, 30.0)


def draw_hosts(rng: random.Random) -> list[Host]:
    """Few GPU hosts or many, single ones that are bid for and zones that preempt, some of them broken; CPU zones."""
    hosts = [_gpu_host(rng, n) for n in range(rng.choice([2, 3, 5, 12]))]
    hosts[0].boots = Boots.WELL  # or nothing might ever launch
    hosts += [_on_demand_host(rng, n) for n in range(rng.randrange(3))]
    return hosts + [_cpu_host(rng, n) for n in range(rng.choice([2, 3, 5]))]


def draw_policy(rng: random.Random) -> Policy:
    """What the owner of the workspace allows."""
    wish = Wish(
        names=rng.choice([(), NAMES, NAMES]),
        on_demand=rng.choice([OnDemand.NEVER, OnDemand.FALLBACK]),
        race=rng.choice([1, 1, 2, 3]),
        spares=rng.choice([0, 0, 1]),
    )
    value = rng.choice([2_000_000, OFTEN_LOST_MICROS])
    return Policy(return_to_gpu=rng.random() < 0.8, settle_s=1.0, value_micros_per_hour=value, gpu=wish)


def _gpu_host(rng: random.Random, number: int) -> Host:
    name, price = f"gpu-host-{number}", rng.randrange(200_000, 400_000)
    bid_for = rng.random() < 0.5
    return Host(
        offer=Offer(
            id=name,
            provider=NAME,
            machine=MachineKind.GPU,
            name=name,
            gpu=rng.choice(NAMES),
            gpus=1,
            price_micros_per_hour=price,
            min_bid_micros_per_hour=price if bid_for else None,
            interruption=Interruption.OUTBID if bid_for else Interruption.PREEMPTED,
            host=name,
            domain=name if bid_for else f"zone-{rng.randrange(3)}",
        ),
        room=rng.choice([2, 4]),
        boots=rng.choice([Boots.WELL] * 5 + [Boots.FAIL, Boots.NEVER]),
        boot_s=rng.choice([0.0, 0.0, 2.0]),
    )


def _on_demand_host(rng: random.Random, number: int) -> Host:
    name = f"sure-host-{number}"
    offer = Offer(
        id=name,
        provider=NAME,
        machine=MachineKind.GPU,
        name=name,
        gpu=rng.choice(NAMES),
        gpus=1,
        price_micros_per_hour=rng.randrange(800_000, 1_100_000),
        spot=False,
        interruption=Interruption.NEVER,
        host=name,
        domain=name,
    )
    return Host(offer=offer, room=4)


def _cpu_host(rng: random.Random, number: int) -> Host:
    name = f"cpu-host-{number}"
    offer = Offer(
        id=name,
        provider=NAME,
        machine=MachineKind.CPU,
        name=name,
        price_micros_per_hour=rng.randrange(10_000, 40_000),
        host=name,
        domain=f"zone-{rng.randrange(5)}",
    )
    return Host(offer=offer, room=8)


class MarketMischief:
    """What a spot market does to those who live on it. `dry`: when all is healed, no GPU comes back."""

    def __init__(self, world: "World", mischief: "Mischief") -> None:
        self._world = world
        self._mischief = mischief
        self._rng = world.rng
        self._dry = world.rng.random() < 0.1

    @property
    def dry(self) -> bool:
        """Whether the policy's GPUs are sold out for good."""
        need = self._world.policy.need(MachineKind.GPU)
        return not any(host.open and satisfies(host.offer, need) for host in self._world.provider.hosts)

    def hostile(self) -> list[Callable[[], None]]:
        """What may cost a machine."""
        return [
            self._outbid, self._outbid, self._preempt, self._preempt_with_notice, self._preempt_with_notice,
            self._go_offline, self._go_offline_for_long, *self.harmless(),
        ]  # fmt: skip

    def harmless(self) -> list[Callable[[], None]]:
        """What only keeps machines from being rented."""
        return [self._sell_out, self._drought, self._break_hosts, self._drift]

    def heal(self) -> None:
        """The market is calm from now on; in a dry world the GPUs stay sold out."""
        provider = self._world.provider
        provider.faults = Faults(boot_s=0.5)
        for host in provider.hosts:
            host.boots = Boots.WELL
            host.open = not (self._dry and host.offer.machine is MachineKind.GPU)
        for rented in provider.rented:
            provider.find_again(rented.ref)
            machine = self._world.machines.get(rented.label)
            if machine is not None and not machine.alive:
                provider.preempt(rented.ref)  # and the provider tells of those that died

    def _outbid(self) -> None:
        """Somebody bids more for a while, or for good."""
        rented = self._hit("outbid")
        if rented is None:
            return
        provider, machine = self._world.provider, self._world.machines[rented.label]
        provider.outbid(rented.ref)
        if machine.alive:
            return  # nobody bids for machines of its kind, so it lost nothing
        self._mischief.lose_power(machine)
        seconds = self._rng.choice([0.2, 1.0, 4.0, 15.0])
        if self._rng.random() < 0.8:
            self._mischief.later(seconds, lambda: self._resume(rented), None)

    def _resume(self, rented: Rented) -> None:
        """The machine is started by the market, whether control wants it or not."""
        self._mischief.note(f"{rented.label} may resume by itself")
        self._world.provider.resume(rented.ref)

    def _preempt(self) -> None:
        if rented := self._hit("preempted"):
            self._world.provider.preempt(rented.ref)

    def _preempt_with_notice(self) -> None:
        if rented := self._hit("given notice"):
            provider, machine = self._world.provider, self._world.machines[rented.label]
            provider.warn(rented.ref)

            def end() -> None:
                if machine.alive and self._mischief.may_lose(machine):
                    self._mischief.say(f"preempted {machine.id} as announced")
                    provider.preempt(rented.ref)
                elif machine.alive:
                    self._mischief.later(1.0, end, None)

            self._mischief.later(self._rng.uniform(*NOTICE_S), end, None)

    def _go_offline(self) -> None:
        self._lose_host(self._rng.choice([1.0, 3.0, 10.0]))

    def _go_offline_for_long(self) -> None:
        self._lose_host(60.0)

    def _lose_host(self, seconds: float) -> None:
        """A host does not report for a while; its machines run on, and nobody reaches them."""
        rented = self._hit("offline")
        if rented is None:
            return
        provider = self._world.provider
        provider.lose_touch(rented.ref)
        self._mischief.cut_off(self._world.machines[rented.label], "both", seconds)
        self._mischief.later(seconds, lambda: provider.find_again(rented.ref), None)

    def _sell_out(self) -> None:
        """One host has nothing for rent for a while."""
        host = self._rng.choice(self._world.provider.hosts)
        self._close([host], self._rng.choice([2.0, 20.0]))

    def _drought(self) -> None:
        """No spot GPU anywhere."""
        spots = [h for h in self._world.provider.hosts if h.offer.machine is MachineKind.GPU and h.offer.spot]
        self._close(spots, self._rng.choice([5.0, 60.0, 180.0]))

    def _close(self, hosts: list[Host], seconds: float) -> None:
        self._mischief.note(f"{', '.join(host.offer.id for host in hosts)} sold out for {seconds} s")

        def reopen() -> None:
            for host in hosts:
                host.open = not (self._dry and host.offer.machine is MachineKind.GPU)

        for host in hosts:
            host.open = False
        self._mischief.later(seconds, reopen, None)

    def _break_hosts(self) -> None:
        """On some hosts nothing comes up any more."""
        for host in self._world.provider.hosts:
            host.boots = self._rng.choice([Boots.WELL, Boots.WELL, Boots.WELL, Boots.FAIL, Boots.NEVER])
        self._mischief.note("other hosts are broken")

    def _drift(self) -> None:
        self._world.provider.drift(0.3)
        self._mischief.note("prices moved")

    def _hit(self, what: str) -> Rented | None:
        """A machine that may be lost, and is told of; the provider's record of it."""
        machine = self._mischief.victim()
        if machine is None:
            return None
        rented = next(one for one in self._world.provider.rented if one.label == machine.id)
        if rented.seen_at(self._world.clock.monotonic()).phase is Phase.STOPPED or (
            rented.turns[-1:] and (rented.turns[-1].why is Why.OFFLINE)
        ):
            return None
        self._mischief.say(f"{what}: {machine.id}")
        return rented
