"""The figures of a bench: what is promised of each, and how it follows from what was measured.

Speeds against a peer are its time ÷ ours (more is better). Against cp it is our time ÷ its (less is better), sizes are
our bytes ÷ theirs (less is better). All are ratios of medians of one run.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dumont.standalone.bench.bystanders import Disturbance
from dumont.standalone.bench.datasets import Dataset
from dumont.standalone.bench.growth import SECOND
from dumont.standalone.bench.limits import Limits
from dumont.standalone.bench.peers import BORG, CP, OURS, RCLONE, RESTIC, TAR
from dumont.standalone.bench.race import NOCHANGE, RESTORE, SAVE, Tallies, Tally

Figures = dict[str, float | None]

PROJECTED_BYTES = 100e9
PASS, FAIL, NOT_MEASURED = "pass", "fail", "not measured"

MIX, CHECKPOINTS, SMALL, TEXT, S3_WEIGHTS, S3_RANDOM = "mix", "checkpoints", "small", "text", "s3_bf16", "s3_random"


@dataclass
class Findings:
    """Everything measured in one run. `line`: plain TCP up and down in bytes/s; `reasons`: why a part is missing.

    `others`: what others took of the processors in each round of a race. `parts`: when each part ran, how long it took
    and on what.
    """

    tallies: dict[str, Tallies] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    others: dict[str, list[Disturbance]] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    limits: Limits = field(default_factory=dict)
    line: tuple[float, float] | None = None
    changed_bytes: int | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def tally(self, part: str, peer: str) -> Tally:
        """What `peer` did in `part`; an empty tally when it took no part."""
        return self.tallies.get(part, {}).get(peer, Tally())

    def median(self, part: str, peer: str, what: str) -> float | None:
        """Median seconds, None when not measured."""
        seconds = self.tally(part, peer).seconds(what)
        return statistics.median(seconds) if seconds else None


@dataclass(frozen=True)
class Target:
    """What a figure has to reach."""

    bound: float
    at_least: bool

    def met(self, figure: float | None) -> str:
        """`pass`, `fail` or `not measured`."""
        if figure is None:
            return NOT_MEASURED
        return PASS if (figure >= self.bound if self.at_least else figure <= self.bound) else FAIL

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


TARGETS: Mapping[str, Target] = {
    "save_vs_restic": Target(6, True),
    "save_vs_cp": Target(2.2, False),
    "restore_vs_restic": Target(4, True),
    "nochange_vs_restic": Target(2.5, True),
    "size_vs_restic": Target(0.95, False),
    "s3_bf16_vs_line": Target(1.3, True),
    "s3_random_vs_line": Target(0.9, True),
    "working_set_share": Target(0.15, False),
    "small_save_vs_restic": Target(4, True),
    "checkpoint_second_upload_ratio": Target(1.1, False),
}


def figures(found: Findings) -> Figures:
    """All figures by name; None where something needed was not measured."""
    saved = found.median(MIX, OURS, SAVE)
    rate = found.datasets[MIX].bytes / saved / 1e9 if saved and MIX in found.datasets else None
    result: Figures = {
        "save_vs_restic": _faster(found, MIX, RESTIC, SAVE),
        "save_vs_cp": _over(saved, found.median(MIX, CP, SAVE)),
        "restore_vs_restic": _faster(found, MIX, RESTIC, RESTORE),
        "nochange_vs_restic": _faster(found, MIX, RESTIC, NOCHANGE),
        "size_vs_restic": _size(found, MIX),
        "gb_per_s": rate,
        "seconds_per_100_gb": PROJECTED_BYTES / 1e9 / rate if rate else None,
        "restore_gb_per_s": _rate_gb(found, MIX, RESTORE),
        "working_set_share": _median(found.tally(MIX, OURS).working_set_shares),
    }
    for peer in (BORG, TAR, RCLONE):
        for what in (SAVE, RESTORE):
            result[f"{what}_vs_{peer}"] = _faster(found, MIX, peer, what)
    for part in (SMALL, TEXT):
        for what in (SAVE, RESTORE, NOCHANGE):
            result[f"{part}_{what}_vs_{RESTIC}"] = _faster(found, part, RESTIC, what)
        result[f"{part}_size_vs_{RESTIC}"] = _size(found, part)
        result[f"{part}_save_gb_per_s"] = _rate_gb(found, part, SAVE)
    return result | _checkpoint(found) | _cloud(found)


def _checkpoint(found: Findings) -> Figures:
    growth = _median(found.tally(CHECKPOINTS, OURS).sizes)
    return {
        "checkpoint_second_upload_ratio": _over(growth, found.changed_bytes),
        "checkpoint_second_upload_vs_restic": _over(growth, _median(found.tally(CHECKPOINTS, RESTIC).sizes)),
        "checkpoint_save_vs_restic": _faster(found, CHECKPOINTS, RESTIC, SAVE),
        "checkpoint_second_save_vs_restic": _faster(found, CHECKPOINTS, RESTIC, SECOND),
    }


def _cloud(found: Findings) -> Figures:
    result: Figures = {}
    for part in (S3_WEIGHTS, S3_RANDOM):
        for what, way, name in ((SAVE, 0, "vs_line"), (RESTORE, 1, "restore_vs_line")):
            rate = _rate_gb(found, part, what)
            result[f"{part}_{name}"] = rate * 1e9 / found.line[way] if rate and found.line else None
        result[f"{part}_save_vs_{TAR}_s5cmd"] = _faster(found, part, TAR, SAVE)
        result[f"{part}_save_vs_{RCLONE}"] = _faster(found, part, RCLONE, SAVE)
        result[f"{part}_save_vs_{RESTIC}"] = _faster(found, part, RESTIC, SAVE)
    return result


@dataclass(frozen=True)
class Win:
    """Where a peer is better than we are: `factor` times (faster, or smaller)."""

    part: str
    what: str
    peer: str
    factor: float


def wins(found: Findings) -> list[Win]:
    """Every part and deed in which a peer beats us, the largest lead first."""
    result: list[Win] = []
    for part, tallies in found.tallies.items():
        for peer in tallies.keys() - {OURS}:
            for what in (SAVE, RESTORE, NOCHANGE, SECOND):
                lead = _faster(found, part, peer, what)
                if lead is not None and lead < 1:
                    result.append(Win(part, what, peer, 1 / lead))
            ours, theirs = _median(tallies[OURS].sizes) if OURS in tallies else None, _median(tallies[peer].sizes)
            if ours and theirs and not tallies[peer].failed and theirs < ours:
                result.append(Win(part, "size", peer, ours / theirs))
    return sorted(result, key=lambda win: -win.factor)


def _faster(found: Findings, part: str, peer: str, what: str) -> float | None:
    return _over(found.median(part, peer, what), found.median(part, OURS, what))


def _size(found: Findings, part: str) -> float | None:
    ours, theirs = found.tally(part, OURS), found.tally(part, RESTIC)
    return None if ours.failed or theirs.failed else _over(_median(ours.sizes), _median(theirs.sizes))


def _rate_gb(found: Findings, part: str, what: str) -> float | None:
    seconds = found.median(part, OURS, what)
    return found.datasets[part].bytes / seconds / 1e9 if seconds else None


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _median(values: list[float] | list[int]) -> float | None:
    return statistics.median(values) if values else None
