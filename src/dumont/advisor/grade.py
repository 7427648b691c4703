"""Grades: what was predicted of a run against what was measured, and the factors that follow. Pure.

A prediction is written down with the launch and never changed. What no meter told stays unknown: it counts in no error
and in no factor. How long GPUs were held includes idle time, so the factor of time is shown and not applied; that of
memory is, and only upwards: however many runs took less, a factor below 1 is taken as 1, so none makes a job fit that
does not. Factors are of what the estimator says by itself, so that they don't feed on their own effect.
"""

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dumont.advisor.candidate import Factor, Factors
from dumont.advisor.plan import SERVING
from dumont.model.instance import Instance, Machine

RUNS_MIN = 3
"""Fewer runs of a task teach no factor."""
SECONDS_PER_HOUR = 3600.0
TAKEN_SHARE = 0.75
"""Engines that serve take a share of the card for their cache, whatever they need: vLLM 0.9, JAX 0.75 by default. A
peak above that says how large the card was."""
NOT_TOLD = "not_told"
Told = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The most memory that a run used on one card, in GB (1e9 bytes), over all machines it ran on.

    `gb` None is unknown, and `why` says why in a word. `at_least`: not all of the run was seen. `scope` is `processes`
    (what the run's own held) or `device` (all that was in use on the card); `every_s` is how often it was read.
    """

    gb: float | None = None
    card: str = ""
    card_gb: float | None = None
    scope: str = ""
    every_s: float | None = None
    at_least: bool = False
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run. `over` is False while a GPU is still held: what goes on is not graded. `memory_factor` is what
    earlier runs had taught when `memory_gb` was predicted, and is in it.
    """

    workspace: str
    task: str
    job: str
    gpu: str
    over: bool
    memory_gb: float | None = None
    memory_factor: float = 1.0
    peak: Peak = Peak()
    hours: float | None = None
    hours_measured: float | None = None
    cost_micros: int | None = None
    cost_micros_measured: int | None = None

    @property
    def is_taken(self) -> bool:
        """Whether its engine took what the card had, so that its peak says nothing of what it needed."""
        peak = self.peak
        return bool(self.job in SERVING and peak.gb and peak.card_gb and peak.gb >= TAKEN_SHARE * peak.card_gb)

    @property
    def memory_gb_measured(self) -> float | None:
        """The peak where it is one: neither a lower bound, nor a share of the card."""
        return None if self.peak.at_least or self.is_taken else self.peak.gb


@dataclass(frozen=True, kw_only=True)
class Grade:
    """Medians over the runs of one task that are over: errors as |predicted / measured - 1|, factors as shares.

    `…_runs` are those that the median is of; a peak that is a lower bound, or a share of the card, counts in none.
    """

    task: str
    runs: int
    memory_runs: int
    hours_runs: int
    cost_runs: int
    memory_error: float | None
    hours_error: float | None
    cost_error: float | None
    memory_factor: float | None
    hours_factor: float | None


def run_of(workspace: str, advised: Mapping[str, Told], instances: Iterable[Instance], peak: Peak | None = None) -> Run:
    """A run from what was advised at its launch, its machines, and the peak of its memory."""
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
        memory_factor=_number(advised.get("memory_factor")) or 1.0,
        peak=peak or Peak(why=NOT_TOLD),
        hours=_number(advised.get("hours")),
        hours_measured=hours if over else None,
        cost_micros=_whole(advised.get("cost_micros")),
        cost_micros_measured=micros if over else None,
    )


def peak_of(readings: Iterable[Mapping[str, Told]], served: Collection[str]) -> Peak:
    """The highest of the readings (facts of `measured` events) of one run's machines.

    `served` are the ids of GPU machines that the workload ran on: one that told nothing makes the peak a lower bound.
    """
    told = list(readings)
    known = [(gigabytes, facts) for facts in told if (gigabytes := _number(facts.get("memory_gb")))]
    if not known:
        return Peak(why=next((str(facts["why"]) for facts in told if facts.get("why")), NOT_TOLD))
    most, facts = max(known, key=lambda one: one[0])
    silent = set(served) - {facts.get("instance") for _, facts in known}
    return Peak(
        gb=most,
        card=str(facts.get("card", "")),
        card_gb=_number(facts.get("card_gb")),
        scope=str(facts.get("scope", "")),
        every_s=_number(facts.get("every_s")),
        at_least=bool(silent) or any(facts.get("at_least") is True for _, facts in known),
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
    """What the estimator applies: memory by the estimator's task, from RUNS_MIN whole peaks on, and never below 1.

    The worst of them bounds the worst case from below, and so does a lower bound that is higher still.
    """
    whole: dict[str, list[float]] = {}
    bounds: dict[str, list[float]] = {}
    for run in runs:
        share = _share(_uncorrected(run), run.peak.gb) if run.over and run.job and not run.is_taken else None
        if share is not None:
            (bounds if run.peak.at_least else whole).setdefault(run.job, []).append(share)
    return Factors(
        memory={
            job: Factor(
                applied=max(1.0, median),
                measured=median,
                worst=max([*shares, *bounds.get(job, [])]),
                runs=len(shares),
            )
            for job, shares in sorted(whole.items())
            if (median := _factor(shares)) is not None
        }
    )


def _uncorrected(run: Run) -> float | None:
    """What the estimator alone had said, in GB."""
    return None if run.memory_gb is None else run.memory_gb / max(1.0, run.memory_factor)


def _grade(task: str, runs: Sequence[Run]) -> Grade:
    memory = _shares((run.memory_gb, run.memory_gb_measured) for run in runs)
    alone = _shares((_uncorrected(run), run.memory_gb_measured) for run in runs)
    hours = _shares((run.hours, run.hours_measured) for run in runs)
    cost = _shares((run.cost_micros, run.cost_micros_measured) for run in runs)
    return Grade(
        task=task,
        runs=len(runs),
        memory_runs=len(memory),
        hours_runs=len(hours),
        cost_runs=len(cost),
        memory_error=_error(memory),
        hours_error=_error(hours),
        cost_error=_error(cost),
        memory_factor=_factor(alone),
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
