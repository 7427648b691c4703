"""The in-memory provider: machines that are only records, on a clock and a chance given as arguments, with faults.

It keeps every promise of the port until it is told not to: see `Faults`. The simulator learns through `on_start` and
`on_end` which of its nodes to run; what is truly paid for is `rented`, whatever `machines` says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from dumont.clock import Clock
from dumont.errors import NoCapacity, NoSuchInstance, ProviderError
from dumont.model.instance import Machine
from dumont.provider.base import Boot, Machinery, Need, Offer, Phase

NAME = "memory"
OFFERS = (
    Offer(id="memory-gpu", provider=NAME, machine=Machine.GPU, name="invented GPU", price_micros_per_hour=400_000),
    Offer(id="memory-cpu", provider=NAME, machine=Machine.CPU, name="invented CPU", price_micros_per_hour=20_000),
)


@dataclass(kw_only=True)
class Faults:
    """How this provider misbehaves; every field may be changed while it runs. Shares are from 0 to 1, times in seconds.

    `outage`: every call fails. `error_share`: calls that fail before they did anything. `lost_share`: rents and
    releases that were carried out and then answered with an error. `slow_s`: the longest a call may take (a random
    part of it). `boot_s`: how long a machine is STARTING. `stale_s`: how far `machines` lags behind the truth.
    `unknown_share`: machines whose phase is answered as UNKNOWN.
    """

    outage: bool = False
    error_share: float = 0.0
    lost_share: float = 0.0
    slow_s: float = 0.0
    boot_s: float = 0.0
    stale_s: float = 0.0
    unknown_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Rented:
    """One machine that was rented at some time; times in seconds of the clock, None while not over."""

    ref: str
    label: str
    offer: Offer
    boot: Boot
    since: float
    stopped_at: float | None = None
    released_at: float | None = None


@dataclass
class MemoryProvider:
    """A provider for tests. `capacity` bounds the running machines of a kind; a kind that is not in it has no bound."""

    clock: Clock
    rng: Random
    capacity: dict[Machine, int] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    on_start: Callable[[Rented], None] = lambda rented: None
    on_end: Callable[[Rented], None] = lambda rented: None
    name: str = NAME
    server_host: str = "server"
    _all: dict[str, Rented] = field(default_factory=dict)

    @property
    def rented(self) -> list[Rented]:
        """The truth: every machine that is paid for now, by when it was rented."""
        return [rented for rented in self._all.values() if rented.released_at is None]

    async def offers(self, need: Need) -> list[Offer]:
        await self._answer_slowly()
        fits = [offer for offer in OFFERS if offer.machine is need.machine and self._has_room(need.machine)]
        most = need.price_micros_per_hour_max
        return [offer for offer in fits if most is None or offer.price_micros_per_hour <= most]

    async def rent(self, offer: Offer, label: str, boot: Boot) -> Machinery:
        await self._answer_slowly()
        rented = next((rented for rented in self.rented if rented.label == label), None)
        if rented is None:
            if not self._has_room(offer.machine):
                raise NoCapacity("No machine of this kind is left. Try again later.")
            ref = f"m{len(self._all) + 1}"
            rented = Rented(ref=ref, label=label, offer=offer, boot=boot, since=self.clock.monotonic())
            self._all[ref] = rented
            self.on_start(rented)
            self._perhaps_lose_answer()
        return self._listed(rented, self.clock.monotonic())

    async def machines(self) -> list[Machinery]:
        await self._answer_slowly()
        then = self.clock.monotonic() - self.faults.stale_s
        return [
            self._listed(rented, then)
            for rented in self._all.values()
            if rented.since <= then and (rented.released_at is None or rented.released_at > then)
        ]

    async def machine(self, ref: str) -> Machinery:
        await self._answer_slowly()
        rented = self._all.get(ref)
        if rented is None or rented.released_at is not None:
            raise NoSuchInstance(f"There is no machine {ref!r}.")
        return self._listed(rented, self.clock.monotonic())

    async def release(self, ref: str) -> None:
        await self._answer_slowly()
        rented = self._all.get(ref)
        if rented is None or rented.released_at is not None:
            return
        now = self.clock.monotonic()
        self._all[ref] = replace(rented, released_at=now, stopped_at=rented.stopped_at or now)
        if rented.stopped_at is None:
            self.on_end(self._all[ref])
        self._perhaps_lose_answer()

    async def kill(self, ref: str) -> None:
        """End a machine the hard way, for drills. Raises NoSuchInstance."""
        await self.machine(ref)
        self.preempt(ref)

    def preempt(self, ref: str) -> None:
        """The spot market takes the machine away: it stops, and stays listed until it is released."""
        rented = self._all[ref]
        if rented.stopped_at is None:
            self._all[ref] = replace(rented, stopped_at=self.clock.monotonic())
            self.on_end(self._all[ref])

    def _has_room(self, machine: Machine) -> bool:
        running = [rented for rented in self.rented if rented.offer.machine is machine and rented.stopped_at is None]
        return len(running) < self.capacity.get(machine, len(running) + 1)

    def _listed(self, rented: Rented, then: float) -> Machinery:
        """The machine as it was at `then`."""
        phase = Phase.STARTING if then < rented.since + self.faults.boot_s else Phase.RUNNING
        if rented.stopped_at is not None and rented.stopped_at <= then:
            phase = Phase.STOPPED
        if self._happens(self.faults.unknown_share):
            phase = Phase.UNKNOWN
        return Machinery(ref=rented.ref, label=rented.label, phase=phase, host=rented.ref)

    async def _answer_slowly(self) -> None:
        if self.faults.slow_s:
            await self.clock.sleep(self.rng.uniform(0, self.faults.slow_s))
        if self.faults.outage or self._happens(self.faults.error_share):
            raise ProviderError("The provider does not answer. This says nothing about any machine.")

    def _perhaps_lose_answer(self) -> None:
        if self._happens(self.faults.lost_share):
            raise ProviderError("The provider's answer was lost. Look at its machines to learn what it did.")

    def _happens(self, share: float) -> bool:
        return share > 0 and self.rng.random() < share
