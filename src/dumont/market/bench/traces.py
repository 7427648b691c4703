"""Recorded capacity of spot machines, read from the folder of traces; none of it is copied into this repository."""

import csv
import gzip
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from dumont.errors import BadInput

ON_DEMAND_MICROS = 3_060_000
SPOT_MICROS = 973_100
"""p3.2xlarge per hour, as in the reference values: 3.06 and 0.9731 US dollars."""


@dataclass(frozen=True)
class Zone:
    """One failure domain: its capacity over time as `(from_s, machines)`, each until the next, capacity 1+ = up."""

    name: str
    changes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Trace:
    """Zones recorded over the same time. `gap_s` is the recording's tick: nothing shorter can be seen in it."""

    name: str
    gap_s: int
    span_s: int
    zones: tuple[Zone, ...]

    def part(self, start_s: int, end_s: int, name: str = "") -> "Trace":
        """What was recorded from `start_s` to `end_s`, counted from 0."""
        zones = tuple(Zone(z.name, _cut(z.changes, start_s, end_s)) for z in self.zones)
        return Trace(name or self.name, self.gap_s, end_s - start_s, zones)

    def halves(self) -> tuple["Trace", "Trace"]:
        middle = self.span_s // 2 // self.gap_s * self.gap_s
        return self.part(0, middle, f"{self.name}, first half"), self.part(
            middle, self.span_s, f"{self.name}, second half"
        )

    def ordered(self, order: tuple[int, ...]) -> "Trace":
        """The same zones in another order (policies that take the next zone depend on it)."""
        return Trace(self.name, self.gap_s, self.span_s, tuple(self.zones[index] for index in order))


def _cut(changes: tuple[tuple[int, int], ...], start_s: int, end_s: int) -> tuple[tuple[int, int], ...]:
    before = [machines for at_s, machines in changes if at_s <= start_s]
    inside = [(at_s - start_s, machines) for at_s, machines in changes if start_s < at_s < end_s]
    return ((0, before[-1] if before else 0), *inside)


def read_traces(folder: Path) -> dict[str, Trace]:
    """Every trace of availability segments as one of a single zone, by id. Raises BadInput if the folder has none."""
    segments, index = folder / "availability_segments.csv.gz", folder / "trace_index.csv"
    if not segments.exists() or not index.exists():
        raise BadInput(f"{folder} holds no traces; give the folder that has {segments.name} with --data")
    with index.open(newline="") as file:
        rows = {row["trace_id"]: row for row in csv.DictReader(file)}
    changes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    ends: dict[str, int] = {}
    with gzip.open(segments, "rt", newline="") as file:
        for row in csv.DictReader(file):
            changes[row["trace_id"]].append((int(row["t_start_s"]), int(row["capacity"])))
            ends[row["trace_id"]] = int(row["t_end_s"])
    return {
        name: Trace(name, int(rows[name]["gap_s"]), ends[name], (Zone(_zone(name), tuple(changes[name])),))
        for name in changes
    }


def _zone(trace_id: str) -> str:
    return trace_id.rpartition("/")[2]


def together(traces: dict[str, Trace], name: str, ids: list[str], gap_s: int | None = None) -> Trace:
    """These traces as the zones of one, cut to the shortest. `gap_s` relabels the tick (another clock for the same)."""
    parts = [traces[one] for one in ids]
    gaps = {part.gap_s for part in parts}
    if len(gaps) != 1:
        raise BadInput(f"{name}: traces of different ticks ({sorted(gaps)}) cannot be replayed together")
    span_s = min(part.span_s for part in parts)
    whole = Trace(name, gaps.pop(), span_s, tuple(part.zones[0] for part in parts)).part(0, span_s)
    if gap_s is None or gap_s == whole.gap_s:
        return whole
    scale = gap_s / whole.gap_s
    zones = tuple(Zone(z.name, tuple((int(at_s * scale), n) for at_s, n in z.changes)) for z in whole.zones)
    return Trace(name, gap_s, int(span_s * scale), zones)
