"""Replaying a trace: machines are rented, taken away and paid for; a policy decides on what is known at the time.

Nothing of the future reaches a policy: it is handed a `Now` that holds what a real one could know. Under LISTING that
includes which zones have a machine on offer now (a public listing as Vast.ai's, or launch attempts that cost nothing,
which is what the reference policies assume). Under ATTEMPTS a policy learns only from what it tries to rent and from
its own machines; a refused attempt takes `refusal_s` before the next may be made.
"""

import enum
import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from dumont.market.bench.traces import ON_DEMAND_MICROS, SPOT_MICROS, Trace

ON_DEMAND = -1
"""The zone of an on-demand machine."""


class Sight(enum.StrEnum):
    """What a policy sees of zones in which it holds nothing."""

    LISTING = "listing"
    ATTEMPTS = "attempts"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The world of a replay: seconds, and micro-dollars per hour.

    `start_s` is the time from renting to working. `takeover_s` is lost each time another machine takes over without a
    gap of its own. `look_s` is how often a policy is asked when nothing happens, `on_ticks` asks it at the recording's
    ticks and never in between, as the reference does. `refusal_s` is how long a refused attempt takes: the next machine
    rented at that instant starts so much later. `lottery` seeds the drawing of which machines a drop of capacity takes:
    each of ours with the share that is lost. Without it a drop takes ours only when it leaves too few.
    """

    start_s: float = 120.0
    takeover_s: float = 0.0
    look_s: float = 600.0
    spot_micros: int = SPOT_MICROS
    on_demand_micros: int = ON_DEMAND_MICROS
    refusal_s: float = 0.0
    lottery: int | None = None
    sight: Sight = Sight.LISTING
    on_ticks: bool = False


@dataclass(eq=False)
class Rented:
    """One machine: where, since when, ready from when."""

    id: str
    zone: int
    since_s: float
    ready_at_s: float

    def is_ready(self, now_s: float) -> bool:
        return self.ready_at_s <= now_s


@dataclass
class Now:
    """What a policy may know, and what it may do."""

    at_s: float
    up: tuple[bool, ...] | None
    """Under LISTING: which zones have a machine on offer. None under ATTEMPTS."""
    taken: list[int]
    """Zones of machines that were taken away since it was last asked."""
    _engine: "Engine"

    @property
    def machines(self) -> list[Rented]:
        """What is held now, the latest changes of this policy included."""
        return list(self._engine.machines)

    def rent(self, zone: int) -> bool:
        """Try to rent in a zone (or ON_DEMAND, which always succeeds); False if it has none left."""
        return self._engine.rent(zone)

    def end(self, machine: Rented) -> None:
        self._engine.end(machine)


class Policy(Protocol):
    """Decides at each event. `start` hands it the names of the zones before the first."""

    def start(self, zones: tuple[str, ...]) -> None: ...

    def decide(self, now: Now) -> None: ...


@dataclass
class Outcome:
    """What came of it. Times in seconds; `spans` are the times in which a GPU worked, for the address's uptime."""

    span_s: float
    up_s: float = 0.0
    spot_s: float = 0.0
    on_demand_s: float = 0.0
    interruptions: int = 0
    felt: int = 0
    """Interruptions that left no GPU working."""
    takeovers: int = 0
    spans: list[tuple[float, float]] = field(default_factory=list)
    rented: list[tuple[float, int]] = field(default_factory=list)
    """When and in which zone each machine was rented."""
    setting: Setting = Setting()

    @property
    def uptime(self) -> float:
        return (self.up_s - self.takeovers * self.setting.takeover_s) / self.span_s

    @property
    def cost_share(self) -> float:
        """Cost over that of one on-demand machine for the whole time."""
        paid = self.spot_s * self.setting.spot_micros + self.on_demand_s * self.setting.on_demand_micros
        return paid / (self.span_s * self.setting.on_demand_micros)


class Engine:
    """One replay."""

    def __init__(self, trace: Trace, policy: Policy, setting: Setting) -> None:
        self.trace, self.policy, self.setting = trace, policy, setting
        self.machines: list[Rented] = []
        self.capacity = [0] * len(trace.zones)
        self.outcome = Outcome(span_s=trace.span_s, setting=setting)
        self.at_s = 0.0
        self._taken: list[int] = []
        self._lead: Rented | None = None
        self._asked: list[float] = []
        self._count = self._refused = 0
        self._rng = None if setting.lottery is None else random.Random(setting.lottery)

    def run(self) -> Outcome:
        self.policy.start(tuple(zone.name for zone in self.trace.zones))
        changes = list(_changes(self.trace))
        index, end_s = 0, float(self.trace.span_s)
        while self.at_s < end_s:
            while index < len(changes) and changes[index][0] <= self.at_s:
                self._change(changes[index][1], changes[index][2])
                index += 1
            if not self.setting.on_ticks or self.at_s % self.trace.gap_s == 0:
                self._ask()
            following = changes[index][0] if index < len(changes) else end_s
            self._advance(min(following, self._next_call(), end_s))
        self._close()
        return self.outcome

    def rent(self, zone: int) -> bool:
        if zone != ON_DEMAND and self.capacity[zone] <= sum(m.zone == zone for m in self.machines):
            self._refused += 1
            return False
        self._count += 1
        ready_at_s = self.at_s + self._refused * self.setting.refusal_s + self.setting.start_s
        machine = Rented(f"m{self._count:06d}", zone, self.at_s, ready_at_s)
        self.machines.append(machine)
        heapq.heappush(self._asked, machine.ready_at_s)
        self.outcome.rented.append((self.at_s, zone))
        return True

    def end(self, machine: Rented) -> None:
        self.machines.remove(machine)
        self._pay(machine)

    def _pay(self, machine: Rented) -> None:
        held_s = self.at_s - machine.since_s
        if machine.zone == ON_DEMAND:
            self.outcome.on_demand_s += held_s
        else:
            self.outcome.spot_s += held_s

    def _change(self, zone: int, capacity: int) -> None:
        """A zone's capacity is now this; machines beyond it are taken away, the one that leads first (the worst)."""
        before, self.capacity[zone] = self.capacity[zone], capacity
        here = [m for m in self.machines if m.zone == zone]
        here.sort(key=lambda m: (m is not self._lead, m.since_s))
        lost = here[: max(0, len(here) - capacity)]
        if self._rng is not None and before:
            drawn = [m for m in here if self._rng.random() < 1 - capacity / before]
            lost = drawn if len(drawn) >= len(lost) else lost
        for machine in lost:
            others = any(m is not machine and m.is_ready(self.at_s) for m in self.machines)
            self.outcome.interruptions += 1
            self.outcome.felt += not others
            self._taken.append(zone)
            self.end(machine)

    def _ask(self) -> None:
        up = None
        if self.setting.sight is Sight.LISTING:
            held = [sum(m.zone == z for m in self.machines) for z in range(len(self.capacity))]
            up = tuple(c > 0 for c, h in zip(self.capacity, held, strict=True))
        taken, self._taken, self._refused = self._taken, [], 0
        self.policy.decide(Now(self.at_s, up, taken, self))

    def _next_call(self) -> float:
        while self._asked and self._asked[0] <= self.at_s:
            heapq.heappop(self._asked)
        every_s = self.trace.gap_s if self.setting.on_ticks else self.setting.look_s
        look = (self.at_s // every_s + 1) * every_s
        return min(look, self._asked[0]) if self._asked else look

    def _advance(self, to_s: float) -> None:
        ready = [m for m in self.machines if m.is_ready(self.at_s)]
        if ready:
            if self._lead not in ready:
                continues = bool(self.outcome.spans) and self.outcome.spans[-1][1] == self.at_s
                self.outcome.takeovers += continues
                self._lead = ready[0]
            self.outcome.up_s += to_s - self.at_s
            spans = self.outcome.spans
            if spans and spans[-1][1] == self.at_s:
                spans[-1] = (spans[-1][0], to_s)
            else:
                spans.append((self.at_s, to_s))
        self.at_s = to_s

    def _close(self) -> None:
        for machine in list(self.machines):
            self.end(machine)


def _changes(trace: Trace) -> Iterator[tuple[int, int, int]]:
    """Every change of capacity as (seconds, zone, machines), in order of time."""
    found = [(at_s, z, n) for z, zone in enumerate(trace.zones) for at_s, n in zone.changes]
    return iter(sorted(found))


def replay(trace: Trace, policy: Policy, setting: Setting) -> Outcome:
    """Play the whole trace with this policy."""
    return Engine(trace, policy, setting).run()
