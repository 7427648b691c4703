"""What the market's bench replays: which traces, which policies, which checks against reference values, and in what
settings. Results are plain data; `report` makes a table of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dumont.market.bench.ours import Ours
from dumont.market.bench.replay import Outcome, Policy, Setting, Sight, replay
from dumont.market.bench.rivals import NextZone
from dumont.market.bench.standby import CAREFUL, StandbySetting, address_uptime, shared, standby_for
from dumont.market.bench.traces import Trace, together
from dumont.market.cost import Stake
from dumont.market.placement import Moves, Rules

TAKEOVER_S = 2.48
LOTS = 20
SAVING, BALANCED, STEADY = 50, 400, 1600
"""What an hour without the GPU is worth in US dollars. 50 is what we reckon savings with; the others show
what a higher one buys. Nothing else differs between the three. A launched workspace's policy says 2 and no spare."""

Rows = list[dict[str, Any]]


def ours(dollars: int, start_s: float = 120.0, moves: Moves = Moves.FROM_ON_DEMAND) -> Ours:
    """Our policy for an hour that is worth so much, with restore times as long as a start.

    The control plane moves a workspace back from on demand to spot, and not from spot to better spot.
    """
    stake = Stake(value_micros_per_hour=dollars * 1_000_000, restore_s=start_s, takeover_s=TAKEOVER_S)
    return Ours(stake=stake, rules=Rules(moves=moves))


POLICIES: dict[str, Callable[[], Policy]] = {
    "spot only": lambda: NextZone(1),
    "spot + on demand": lambda: NextZone(1, fallback=True),
    "spot + one spare + on demand": lambda: NextZone(2, fallback=True),
    f"Dumont, an hour worth ${SAVING}": lambda: ours(SAVING),
    f"Dumont, an hour worth ${BALANCED}": lambda: ours(BALANCED),
    f"Dumont, an hour worth ${STEADY}": lambda: ours(STEADY),
    f"with every move (planned), ${SAVING}": lambda: ours(SAVING, moves=Moves.ANY),
    f"with every move (planned), ${STEADY}": lambda: ours(STEADY, moves=Moves.ANY),
}


@dataclass(frozen=True)
class World:
    """The recordings that are replayed."""

    gpus: dict[str, Trace]
    crowds: dict[str, Trace]
    cpus: dict[str, Trace]

    @property
    def nine(self) -> Trace:
        return self.gpus["V100, 9 zones, Feb 2023"]


def world(traces: dict[str, Trace]) -> World:
    """The recordings, zones of one time together. Order of zones: as in the index, by name."""

    def pick(*parts: str) -> list[str]:
        return sorted(name for name in traces if all(part in name for part in parts))

    return World(
        gpus={
            "V100, 9 zones, Feb 2023": together(traces, "V100, 9 zones, Feb 2023", pick("aws-02-15-2023")),
            "V100, 2 zones, Oct 2022": together(traces, "V100, 2 zones, Oct 2022", pick("aws-10-26-2022", "v100_1")),
            "K80, 2 zones, Oct 2022": together(traces, "K80, 2 zones, Oct 2022", pick("aws-10-26-2022", "k80_1")),
            "8 V100, 2 zones, Oct 2022": together(traces, "8 V100, 2 zones, Oct 2022", pick("10-26-2022", "v100_8")),
            "V100 held, 3 zones, Aug 2023 (AWS1)": together(
                traces, "V100 held, 3 zones, Aug 2023 (AWS1)", pick("spothedge/AWS1")
            ),
        },
        crowds={
            "one of 32 V100, 1 zone (p3)": together(traces, "one of 32 V100, 1 zone (p3)", pick("bamboo/p3")),
            "one of 24 T4, 1 zone (g4dn)": together(traces, "one of 24 T4, 1 zone (g4dn)", pick("bamboo/g4dn")),
        },
        cpus={
            "r5.16xlarge, 3 zones": together(traces, "r5.16xlarge, 3 zones", pick("intel_64")),
            "c3-highcpu-88, 4 zones": together(traces, "c3-highcpu-88, 4 zones", pick("c3-88")),
        },
    )


@dataclass(frozen=True)
class Reference:
    """A published value that this simulator has to come to: uptime and cost in percent, as printed."""

    trace: str
    order: tuple[int, ...]
    machines: int
    fallback: bool
    start_s: float
    uptime: float
    cost: float | None = None
    interruptions: int | None = None


_NINE, _ORDER = "V100, 9 zones, Feb 2023", (8, 7, 6, 3, 2, 1, 0, 4, 5)
"""The reference does not say in which order it takes the next zone. Of the orders that keep regions together this one
gives its 108 interruptions; over all of those the count runs from 82 to 111."""
_AWS1, _AWS1_ORDER = "V100 held, 3 zones, Aug 2023 (AWS1)", (1, 0, 2)
REFERENCES = (
    Reference(_NINE, _ORDER, 1, False, 120, 98.87, 31.5, 108),
    Reference(_NINE, _ORDER, 1, True, 120, 99.67, 32.9, 108),
    Reference(_NINE, _ORDER, 2, True, 120, 99.92, 63.6),
    Reference(_NINE, _ORDER, 1, True, 60, 99.84),
    Reference(_NINE, _ORDER, 1, True, 183, 99.50),
    Reference(_NINE, _ORDER, 1, True, 300, 99.19),
    Reference(_NINE, _ORDER, 2, True, 183, 99.87),
    Reference(_AWS1, _AWS1_ORDER, 1, True, 120, 99.59, 37.9),
    Reference(_AWS1, _AWS1_ORDER, 2, True, 120, 99.65, 56.3),
)


def check(the: World) -> Rows:
    """The simulator beside the reference values, in percent."""
    rows: Rows = []
    for reference in REFERENCES:
        setting = Setting(start_s=reference.start_s, on_ticks=True)
        trace = the.gpus[reference.trace].ordered(reference.order)
        outcome = replay(trace, NextZone(reference.machines, reference.fallback), setting)
        rows.append(
            {
                "trace": reference.trace,
                "machines": reference.machines,
                "on_demand": reference.fallback,
                "start_s": reference.start_s,
                "uptime_reference": reference.uptime,
                "uptime": round(outcome.uptime * 100, 3),
                "cost_reference": reference.cost,
                "cost": round(outcome.cost_share * 100, 2),
                "interruptions_reference": reference.interruptions,
                "interruptions": outcome.interruptions,
            }
        )
    return rows


def row(name: str, policy: str, outcome: Outcome) -> dict[str, Any]:
    """One replay's figures, in percent."""
    return {
        "trace": name,
        "policy": policy,
        "gpu_uptime": round(outcome.uptime * 100, 3),
        "cost": round(outcome.cost_share * 100, 2),
        "interruptions": outcome.interruptions,
        "felt": outcome.felt,
        "moved": outcome.takeovers,
        "rentals": len(outcome.rented),
    }


def race(the: World) -> Rows:
    """Every policy over every trace, the nine-zone one whole and in halves, with the address's uptime beside it."""
    rows: Rows = []
    setting = Setting(takeover_s=TAKEOVER_S)
    traces = [*the.gpus.values(), *the.nine.halves()]
    longest = max(trace.span_s for trace in traces)
    standbys = {name: standby_for(longest, recording, StandbySetting()) for name, recording in the.cpus.items()}
    for trace in traces:
        for name, make in POLICIES.items():
            outcome = replay(trace, make(), setting)
            rows.append(row(trace.name, name, outcome) | _addresses(the, outcome, standbys))
    return rows


def crowd(the: World) -> Rows:
    """Recordings of many machines in one zone, ours drawn by lot among them: means over LOTS drawings."""
    rows: Rows = []
    for trace in the.crowds.values():
        for name, make in POLICIES.items():
            drawn = [replay(trace, make(), Setting(takeover_s=TAKEOVER_S, lottery=seed)) for seed in range(LOTS)]
            rows.append(
                {
                    "trace": trace.name,
                    "policy": name,
                    "gpu_uptime": round(sum(o.uptime for o in drawn) / LOTS * 100, 3),
                    "cost": round(sum(o.cost_share for o in drawn) / LOTS * 100, 2),
                    "interruptions": round(sum(o.interruptions for o in drawn) / LOTS, 2),
                    "felt": round(sum(o.felt for o in drawn) / LOTS, 2),
                }
            )
    return rows


def _addresses(the: World, gpu: Outcome, standbys: dict[str, Outcome]) -> dict[str, Any]:
    """The address's uptime with each standby; that of a policy without one is its GPU's."""
    found: dict[str, Any] = {}
    for name, standby in standbys.items():
        span_s = the.cpus[name].span_s
        usual = address_uptime(gpu, standby, span_s, StandbySetting())
        careful = address_uptime(gpu, standby, span_s, CAREFUL)
        found[name] = {
            "address_uptime": round(usual.mean * 100, 4),
            "address_uptime_worst_offset": round(usual.worst * 100, 4),
            "address_uptime_careful": round(careful.mean * 100, 4),
            "neither_answered_s_max": round(usual.both_down_s),
            "lost_if_a_tenth_is_shared": round(shared(gpu, 0.1, StandbySetting()) * 100, 4),
            "standby_interruptions_per_day": round(usual.standby_interruptions_per_day, 2),
            "standby_uptime": round(usual.standby_uptime * 100, 3),
            "standby_cost": round(usual.standby_cost_share * 100, 2),
        }
    return {"addresses": found}


def sensitivity(the: World) -> Rows:
    """The nine-zone trace again, one thing changed at a time."""
    base = Setting(takeover_s=TAKEOVER_S)
    changed: list[tuple[str, Trace, Setting]] = [
        (f"start {start_s} s", the.nine, replace(base, start_s=start_s)) for start_s in (36, 60, 183, 300)
    ]
    changed += [
        ("attempts alone, 5 s a refusal", the.nine, replace(base, sight=Sight.ATTEMPTS, refusal_s=5.0)),
        ("asked every tick", the.nine, replace(base, look_s=195.0)),
        ("asked every half hour", the.nine, replace(base, look_s=1800.0)),
        ("tick read as 300 s", _slower(the.nine, 300), base),
        ("zones in another order", the.nine.ordered(_ORDER), base),
    ]
    rows: Rows = []
    for name, trace, setting in changed:
        for dollars in (SAVING, STEADY):
            rows.append(row(name, f"Dumont, ${dollars}", replay(trace, ours(dollars, setting.start_s), setting)))
        rows.append(row(name, "spot + on demand", replay(trace, NextZone(1, True), setting)))
    return rows


def _slower(trace: Trace, gap_s: int) -> Trace:
    singles = {zone.name: Trace(zone.name, trace.gap_s, trace.span_s, (zone,)) for zone in trace.zones}
    return together(singles, trace.name, list(singles), gap_s)
