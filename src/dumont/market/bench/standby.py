"""The address's uptime: it answers while a GPU works, and from the CPU standby otherwise; both are replayed.

The standby is a spot machine too. Recordings of CPU machines are shorter than those of GPUs and of another time, so one
is repeated end to end, at several offsets. GPU and CPU are then independent by construction; `shared` says what it
costs if a share of the GPU's interruptions took the standby with them.
"""

from dataclasses import dataclass

from dumont.market.bench.ours import Ours
from dumont.market.bench.replay import Outcome, Setting, replay
from dumont.market.bench.traces import Trace, Zone
from dumont.market.cost import Stake
from dumont.market.placement import Moves, Rules
from dumont.model.policy import OnDemand

Span = tuple[float, float]
OFFSETS = 12


@dataclass(frozen=True, kw_only=True)
class StandbySetting:
    """A standby is ready `start_s` after it was rented: 46 s until it runs (median of the GCP recordings), the rest to
    fetch the files. The address is away for `lost_s` when the machine that answers is lost (measured, median of 200
    killed ones; 2.48 s for one that was cut off), and for `moved_s` when it is moved on purpose (the shortest pause of
    barriers that README.md shows; docs/market.md tells what `dumont demo --kind planned` measured of the address).

    The prices are of an e2-small of Google's, spot and on demand, with an address.
    """

    start_s: float = 120.0
    lost_s: float = 0.22
    moved_s: float = 1.1
    spot_micros: int = 15_050
    on_demand_micros: int = 21_700


CAREFUL = StandbySetting(lost_s=2.48, moved_s=2.48)
"""Every loss is a cut that only silence tells, and a planned move takes as long."""


@dataclass(frozen=True)
class AddressOutcome:
    """The address's uptime over several offsets of the standby's recording, and the standby's own figures."""

    mean: float
    worst: float
    both_down_s: float
    """The longest time that neither answered, in one stretch, over all offsets."""
    standby_interruptions_per_day: float
    standby_uptime: float
    standby_cost_share: float
    """The standby's cost over that of the on-demand GPU."""


def standby_for(span_s: float, recording: Trace, setting: StandbySetting) -> Outcome:
    """The standby over its recording, repeated for `span_s` and once more. Placed as the control plane places it: spot
    as long as there is one, else on demand, which is then kept.
    """
    policy = Ours(
        stake=Stake(value_micros_per_hour=100_000, restore_s=setting.start_s),
        rules=Rules(spares=0, moves=Moves.NEVER, on_demand=OnDemand.FALLBACK),
        micros=(setting.spot_micros, setting.on_demand_micros),
    )
    world = Setting(start_s=setting.start_s, spot_micros=setting.spot_micros, on_demand_micros=setting.on_demand_micros)
    times = int(span_s // recording.span_s) + 2
    return replay(repeated(recording, times), policy, world)


def repeated(trace: Trace, times: int) -> Trace:
    """The recording played `times` times, end to end."""
    zones = tuple(
        Zone(z.name, tuple((at_s + n * trace.span_s, machines) for n in range(times) for at_s, machines in z.changes))
        for z in trace.zones
    )
    return Trace(trace.name, trace.gap_s, trace.span_s * times, zones)


def address_uptime(gpu: Outcome, cpu: Outcome, cpu_span_s: float, setting: StandbySetting) -> AddressOutcome:
    """How much of the time the address answers, with this GPU outcome and the standby's, shifted by OFFSETS steps.

    `cpu` covers the GPU's span and one `cpu_span_s`, the length of the standby's recording, more.
    """
    uptimes, longest = [], 0.0
    for index in range(OFFSETS):
        shift = index * cpu_span_s / OFFSETS
        moved = [(max(0.0, a - shift), b - shift) for a, b in cpu.spans if b > shift]
        gaps = _gaps(gpu.spans, moved, gpu.span_s)
        down = sum(b - a for a, b in gaps) + _moving_s(gpu, setting)
        uptimes.append(1 - down / gpu.span_s)
        longest = max([longest, *(b - a for a, b in gaps)])
    paid = cpu.spot_s * setting.spot_micros + cpu.on_demand_s * setting.on_demand_micros
    return AddressOutcome(
        mean=sum(uptimes) / len(uptimes),
        worst=min(uptimes),
        both_down_s=longest,
        standby_interruptions_per_day=cpu.interruptions / cpu.span_s * 86400,
        standby_uptime=cpu.uptime,
        standby_cost_share=paid / cpu.span_s / gpu.setting.on_demand_micros,
    )


def _moving_s(gpu: Outcome, setting: StandbySetting) -> float:
    """How long the address is away because it moves: at each loss, at each return to a GPU, between GPUs."""
    returns = max(0, len(gpu.spans) - 1)
    to_spare = min(gpu.takeovers, gpu.interruptions - gpu.felt)
    planned = returns + gpu.takeovers - to_spare
    return (returns + to_spare) * setting.lost_s + planned * setting.moved_s


def _gaps(gpu: list[Span], cpu: list[Span], span_s: float) -> list[Span]:
    """The times in which neither answers. The first start is left out: no address is given before it answers once."""
    found: list[Span] = []
    covered: float | None = None
    for start, end in sorted([*gpu, *cpu]):
        if covered is None:
            covered = start
        if start >= span_s:
            break
        if start > covered:
            found.append((covered, start))
        covered = max(covered, end)
    if covered is not None and covered < span_s:
        found.append((covered, span_s))
    return found


def shared(gpu: Outcome, share: float, setting: StandbySetting) -> float:
    """What is lost of the address's uptime if this share of the felt interruptions also takes the standby away."""
    return share * gpu.felt * min(gpu.setting.start_s, setting.start_s) / gpu.span_s
