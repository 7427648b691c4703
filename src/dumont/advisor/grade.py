"""Grades: what was predicted of a run against what was measured, and the factors that follow. Pure.

A prediction is written down with the launch and never changed. What no meter told stays unknown: it counts in no error
and in no factor. How long GPUs were held includes idle time, so the factor of time is shown and not applied; that of
memory is, and only upwards.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dumont.advisor.candidate import Factors
from dumont.model.instance import Instance, Machine

RUNS_MIN = 3
"""Fewer runs of a task teach no factor."""
SECONDS_PER_HOUR = 3600.0
Told = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run. `over` is False while a GPU is still held: what goes on is not graded."""

    workspace: str
    task: str
    job: str
    gpu: str
    over: bool
    memory_gb: float | None = None
    memory_gb_measured: float | None = None
    hours: float | None = None
    hours_measured: float | None = None
    cost_micros: int | None = None
    cost_micros_measured: int | None = None


@dataclass(frozen=True, kw_only=True)
class Grade:
    """Medians over the runs of one task that are over: errors as |predicted / measured - 1|, factors as shares."""

    task: str
    runs: int
    memory_error: float | None
    hours_error: float | None
    cost_error: float | None
    memory_factor: float | None
    hours_factor: float | None


def run_of(
    workspace: str, advised: Mapping[str, Told], instances: Iterable[Instance], measured: Mapping[str, Told]
) -> Run:
    """A run from what was advised at its launch, its machines, and the readings of its meters (`memory_gb`)."""
    rented = [one for one in instances if one.machine is Machine.GPU and one.provider_ref]
    hours, micros = held(rented)
    over = bool(rented) and all(one.gone_at is not None for one in rented)
    return Run(
        workspace=workspace,
        task=str(advised.get("task", "")),
        job=str(advised.get("job", "")),
        gpu=str(advised.get("gpu", "")),
        over=over,
        memory_gb=_number(advised.get("memory_gb")),
        memory_gb_measured=_number(measured.get("memory_gb")),
        hours=_number(advised.get("hours")),
        hours_measured=hours if over else None,
        cost_micros=_whole(advised.get("cost_micros")),
        cost_micros_measured=micros if over else None,
    )


def held(rented: Sequence[Instance]) -> tuple[float | None, int | None]:
    """Hours from the first GPU's rent to the last one's end, and what all of them cost; None while one is held."""
    ends = [(one.created_at, one.gone_at, one.price_micros_per_hour) for one in rented]
    if not ends or any(gone is None for _, gone, _ in ends):
        return None, None
    last = max(gone for _, gone, _ in ends if gone is not None)
    hours = _hours(min(begun for begun, _, _ in ends), last)
    return hours, sum(round(_hours(begun, gone) * price) for begun, gone, price in ends if gone is not None)


def grades(runs: Iterable[Run]) -> list[Grade]:
    """One grade for each task with runs that are over, by name."""
    by_task: dict[str, list[Run]] = {}
    for run in runs:
        if run.over and run.task:
            by_task.setdefault(run.task, []).append(run)
    return [_grade(task, found) for task, found in sorted(by_task.items())]


def factors_of(runs: Iterable[Run]) -> Factors:
    """What the estimator applies: memory by the estimator's task, never below 1."""
    shares: dict[str, list[float]] = {}
    for run in runs:
        if run.over and run.job and (share := _share(run.memory_gb, run.memory_gb_measured)) is not None:
            shares.setdefault(run.job, []).append(share)
    return Factors(
        memory={job: max(1.0, found) for job, many in shares.items() if (found := _factor(many)) is not None}
    )


def _grade(task: str, runs: Sequence[Run]) -> Grade:
    memory = _shares((run.memory_gb, run.memory_gb_measured) for run in runs)
    hours = _shares((run.hours, run.hours_measured) for run in runs)
    cost = _shares((run.cost_micros, run.cost_micros_measured) for run in runs)
    return Grade(
        task=task,
        runs=len(runs),
        memory_error=_error(memory),
        hours_error=_error(hours),
        cost_error=_error(cost),
        memory_factor=_factor(memory),
        hours_factor=_factor(hours),
    )


def _shares(pairs: Iterable[tuple[float | None, float | None]]) -> list[float]:
    found = (_share(predicted, measured) for predicted, measured in pairs)
    return [share for share in found if share is not None]


def _share(predicted: float | None, measured: float | None) -> float | None:
    """Measured as a share of predicted; None where either is unknown or nothing."""
    return measured / predicted if predicted and measured else None


def _error(shares: Sequence[float]) -> float | None:
    return statistics.median(abs(1 / share - 1) for share in shares) if shares else None


def _factor(shares: Sequence[float]) -> float | None:
    return statistics.median(shares) if len(shares) >= RUNS_MIN else None


def _hours(begun: datetime, gone: datetime) -> float:
    return max(0.0, (gone - begun).total_seconds() / SECONDS_PER_HOUR)


def _number(value: Told | None) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Told | None) -> int | None:
    return round(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
