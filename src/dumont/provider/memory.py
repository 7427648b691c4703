"""The in-memory provider: machines that are only records, on a clock and a chance given as arguments, with faults.

It keeps every promise of the port until it is told not to: see `Faults`. What it has for rent is its `hosts`
(`provider.market`); what the market does to machines is done by calling `preempt`, `outbid`, `resume`, `lose_touch`.
The simulator learns through the `on_…` calls which of its nodes to run; what is truly paid for is `rented`, whatever
`machines` says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from dumont.clock import Clock
from dumont.errors import NoCapacity, NoSuchInstance, ProviderError
from dumont.model.instance import Machine
from dumont.provider.base import Boot, Machinery, Need, Offer, Phase, Why
from dumont.provider.market import Boots, Host, fits, highest_bid

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
    part of it). `boot_s`: how long a machine is STARTING, beside what its host takes. `stale_s`: how far `machines`
    lags behind the truth. `unknown_share`: machines whose phase is answered as UNKNOWN. `vanish_share`: offers that
    somebody else takes between listing and renting. `broke`: the account has no credit, so nothing can be rented.
    """

    outage: bool = False
    error_share: float = 0.0
    lost_share: float = 0.0
    slow_s: float = 0.0
    boot_s: float = 0.0
    stale_s: float = 0.0
    unknown_share: float = 0.0
    vanish_share: float = 0.0
    broke: bool = False


@dataclass(frozen=True)
class Turn:
    """What became of a machine at a moment of the clock, in seconds."""

    at: float
    phase: Phase
    why: Why = Why.UNTOLD


@dataclass(frozen=True, kw_only=True)
class Rented:
    """One machine that was rented at some time; times in seconds of the clock, `released_at` None while it is paid.

    `host` is where it runs, `boots` how it came up, `turns` what became of it since, oldest first.
    """

    ref: str
    label: str
    offer: Offer
    boot: Boot
    since: float
    host: Host
    boots: Boots = Boots.WELL
    boot_s: float = 0.0
    turns: tuple[Turn, ...] = ()
    released_at: float | None = None

    @property
    def runs(self) -> bool:
        """Whether it has not ended by itself, as far as the truth goes: a machine out of touch may run."""
        return not self.turns or self.turns[-1].phase is not Phase.STOPPED

    def seen_at(self, then: float) -> Turn:
        """What it was doing at that moment."""
        last = next((turn for turn in reversed(self.turns) if turn.at <= then), None)
        if last is not None and last.phase is not Phase.RUNNING:
            return last
        if then < self.since + self.boot_s:
            return Turn(self.since, Phase.STARTING)
        if self.boots is Boots.FAIL:
            return Turn(self.since + self.boot_s, Phase.STARTING, Why.FAILED)
        return last or Turn(self.since + self.boot_s, Phase.RUNNING)


Tell = Callable[[Rented], None]


def _ignore(rented: Rented) -> None:
    """Nobody listens."""


@dataclass
class MemoryProvider:
    """A provider for tests. `capacity` bounds the running machines of a kind; a kind that is not in it has no bound.

    `on_start` and `on_end` tell that a machine starts and ends, `on_resume` that one starts again on its old disk,
    `on_notice` that one was told of its end. Machines that come to nothing are told of to nobody.
    """

    clock: Clock
    rng: Random
    capacity: dict[Machine, int] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    on_start: Tell = _ignore
    on_end: Tell = _ignore
    on_resume: Tell = _ignore
    on_notice: Tell = _ignore
    name: str = NAME
    server_host: str = "server"
    hosts: list[Host] = field(default_factory=lambda: [Host(offer=offer) for offer in OFFERS])
    _all: dict[str, Rented] = field(default_factory=dict)

    @property
    def rented(self) -> list[Rented]:
        """The truth: every machine that is paid for now, by when it was rented."""
        return [rented for rented in self._all.values() if rented.released_at is None]

    # --- the port

    async def offers(self, need: Need) -> list[Offer]:
        await self._answer_slowly()
        return [host.offer for host in self.hosts if fits(host.offer, need) and self._has_room(host)]

    async def rent(self, offer: Offer, label: str, boot: Boot) -> Machinery:
        await self._answer_slowly()
        rented = next((rented for rented in self.rented if rented.label == label), None)
        if rented is None:
            if self.faults.broke:
                raise ProviderError("The account has no credit left. Add some; nothing was rented.")
            rented = self._start(self._host_of(offer), offer, label, boot)
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
        self._turn(ref, Phase.STOPPED, Why.ASKED)
        self._all[ref] = replace(self._all[ref], released_at=self.clock.monotonic())
        self._perhaps_lose_answer()

    async def kill(self, ref: str) -> None:
        """End a machine the hard way, for drills. Raises NoSuchInstance."""
        await self.machine(ref)
        self.preempt(ref, Why.UNTOLD)

    # --- what the market does to machines

    def warn(self, ref: str) -> None:
        """The provider announces that it takes the machine back; it runs on until it is preempted."""
        if self._all[ref].runs:
            self.on_notice(self._all[ref])

    def preempt(self, ref: str, why: Why = Why.PREEMPTED) -> None:
        """The machine is taken away: it stops, and stays listed until it is released."""
        self._turn(ref, Phase.STOPPED, why)

    def outbid(self, ref: str) -> None:
        """Somebody bids more: the machine stops. Its host asks more than this renter pays until it resumes."""
        rented = self._all[ref]
        if rented.runs and highest_bid(rented.offer) is not None:
            rented.host.ask(2.0 * rented.offer.price_micros_per_hour / rented.host.offer.price_micros_per_hour)
            self._turn(ref, Phase.STOPPED, Why.OUTBID)

    def resume(self, ref: str) -> None:
        """A machine that was outbid wins again and starts by itself, on its old disk; harmless for any other."""
        rented = self._all[ref]
        was_outbid = bool(rented.turns) and rented.turns[-1].why is Why.OUTBID
        if was_outbid and rented.released_at is None:
            rented.host.ask(1.0)
            self._all[ref] = replace(rented, turns=(*rented.turns, Turn(self.clock.monotonic(), Phase.RUNNING)))
            self.on_resume(self._all[ref])

    def lose_touch(self, ref: str) -> None:
        """Its host does not report any more: whether the machine runs, the provider can't say."""
        if self._all[ref].runs:
            self._turn(ref, Phase.UNKNOWN, Why.OFFLINE)

    def find_again(self, ref: str) -> None:
        """Its host reports again, and the machine runs; harmless for one that was not out of touch."""
        if self._all[ref].turns and self._all[ref].turns[-1].why is Why.OFFLINE:
            self._turn(ref, Phase.RUNNING, Why.UNTOLD)

    def run_out_of_credit(self) -> None:
        """The balance is used up: every machine stops, and nothing can be rented until `faults.broke` is reset."""
        self.faults.broke = True
        for rented in self.rented:
            self.preempt(rented.ref, Why.NO_CREDIT)

    def drift(self, step: float) -> None:
        """Prices of hosts on which nothing runs move by at most the share `step`."""
        busy = [id(rented.host) for rented in self.rented if rented.runs]
        for host in self.hosts:
            if id(host) not in busy:
                host.drift(self.rng, step)

    # ---

    def _start(self, host: Host | None, offer: Offer, label: str, boot: Boot) -> Rented:
        if host is None or not self._has_room(host) or self._happens(self.faults.vanish_share):
            raise NoCapacity("No machine of this kind is left. Try again later.")
        bid, lowest = highest_bid(offer), host.offer.min_bid_micros_per_hour
        if bid is not None and lowest is not None and bid < lowest:
            raise NoCapacity("Others bid more by now. Search again.")
        rented = Rented(
            ref=f"m{len(self._all) + 1}",
            label=label,
            offer=offer,
            boot=boot,
            since=self.clock.monotonic(),
            host=host,
            boots=host.boots,
            boot_s=host.boot_s + self.faults.boot_s,
        )
        self._all[rented.ref] = rented
        if rented.boots is Boots.WELL:
            self.on_start(rented)
        return rented

    def _turn(self, ref: str, phase: Phase, why: Why) -> None:
        rented = self._all[ref]
        if not rented.runs:
            return
        self._all[ref] = replace(rented, turns=(*rented.turns, Turn(self.clock.monotonic(), phase, why)))
        if phase is Phase.STOPPED and rented.boots is Boots.WELL:
            self.on_end(self._all[ref])

    def _host_of(self, offer: Offer) -> Host | None:
        return next((host for host in self.hosts if host.offer.id == offer.id), None)

    def _has_room(self, host: Host) -> bool:
        running = [rented for rented in self.rented if rented.runs]
        machine = host.offer.machine
        of_kind = sum(rented.offer.machine is machine for rented in running)
        here = sum(rented.host is host for rented in running)
        bound = self.capacity.get(machine)
        return host.open and (host.room is None or here < host.room) and (bound is None or of_kind < bound)

    def _listed(self, rented: Rented, then: float) -> Machinery:
        """The machine as it was at `then`."""
        turn = rented.seen_at(then)
        phase, why = turn.phase, turn.why
        if self._happens(self.faults.unknown_share):
            phase, why = Phase.UNKNOWN, Why.UNTOLD
        price = rented.offer.price_micros_per_hour
        return Machinery(
            ref=rented.ref, label=rented.label, phase=phase, host=rented.ref, why=why, price_micros_per_hour=price
        )

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
