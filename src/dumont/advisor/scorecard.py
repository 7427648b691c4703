"""A scorecard: how far estimates lie from published measurements, by task, by source, and on the worst rows."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dumont.advisor.catalogue import GIB, Catalogue
from dumont.advisor.estimate.drawing import render_score
from dumont.advisor.estimate.memory import estimate_memory, fits, in_unit
from dumont.advisor.estimate.part import GB
from dumont.advisor.estimate.speed import estimate_speed
from dumont.advisor.estimate.verdict import Estimator
from dumont.advisor.job import job_from_row

SCORES = {"days (whole run)", "OB points"}
Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row, what was estimated for it, and what was published, both in the row's unit."""

    row: Row
    estimated: float
    published: float

    @property
    def error(self) -> float:
        """Signed relative error: 0.1 is 10 % too high."""
        return self.estimated / self.published - 1


@dataclass(frozen=True, slots=True)
class Summary:
    """Rows, median and 90th percentile of the absolute relative error, and the median of the signed one."""

    rows: int
    median: float
    p90: float
    bias: float


@dataclass(frozen=True, slots=True)
class Worst:
    """One of the rows with the largest error, and why."""

    id: str
    what: str
    published: float
    estimated: float
    error: float
    reason: str


@dataclass(frozen=True, slots=True)
class Scorecard:
    """All figures of one table of measurements. `macro` averages core rows per source first; `held` are the sources
    on which no constant was chosen.
    """

    everything: Summary
    core: Summary
    macro: Summary
    developed: Summary
    held: Summary
    macro_held: Summary
    by_task: dict[str, Summary]
    by_group: dict[str, Summary]
    worst: tuple[Worst, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FitCheck:
    """Whether "fits" is ever said wrongly: on a row's own card, and on each card of the catalogue smaller than the
    row.
    """

    said: dict[str, int]
    wrong_on_own_card: tuple[str, ...]
    wrong_on_smaller_card: tuple[str, ...]
    smaller_pairs: int
    said_where_true: float


def memory_outcomes(rows: Iterable[Row]) -> list[Outcome]:
    """Estimates of the memory rows that hold a measurement; censored rows serve the fit check only."""
    measured = [row for row in rows if row["outcome"] == "ok"]
    jobs = [job_from_row(row) for row in measured]
    return [
        Outcome(row, in_unit(estimate_memory(job).point, job.unit), float(row["measured_gb_per_gpu"]))
        for row, job in zip(measured, jobs, strict=True)
    ]


def speed_outcomes(rows: Iterable[Row], known: Catalogue) -> tuple[list[Outcome], tuple[str, ...]]:
    """Estimates of the speed rows, and the rows whose unit nothing in their columns determines.

    A render row is estimated without its own GPU's published score, which would only be looked up.
    """
    found, left = [], []
    for row in rows:
        gpu = known.gpu(row["gpu"])
        if gpu is None or row["unit"] in SCORES or "CUDA backend" in row["framework"]:
            left.append(row["id"])
        elif row["task"] == "render":
            found.append(Outcome(row, render_score(gpu, known, without_own=True)[0], float(row["value"])))
        else:
            found.append(Outcome(row, estimate_speed(job_from_row(row), gpu).value, float(row["value"])))
    return found, tuple(left)


def summary(outcomes: Sequence[Outcome]) -> Summary:
    """The summary of some outcomes; of none, zeros."""
    if not outcomes:
        return Summary(0, 0.0, 0.0, 0.0)
    errors = sorted(abs(outcome.error) for outcome in outcomes)
    return Summary(
        len(errors),
        round(statistics.median(errors), 4),
        round(errors[min(len(errors) - 1, int(0.9 * len(errors)))], 4),
        round(statistics.median(outcome.error for outcome in outcomes), 4),
    )


def grouped(outcomes: Iterable[Outcome], key: Callable[[Row], str]) -> dict[str, Summary]:
    """A summary per value of a key, in the order of first appearance."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(key(outcome.row), []).append(outcome)
    return {name: summary(members) for name, members in groups.items()}


def averaged(groups: Iterable[Summary]) -> Summary:
    """The mean of summaries, each counting the same: large tables weigh no more than small ones."""
    members = list(groups)
    if not members:
        return Summary(0, 0.0, 0.0, 0.0)
    median, p90, bias = (
        round(statistics.mean(values), 4) for values in zip(*((g.median, g.p90, g.bias) for g in members), strict=True)
    )
    return Summary(len(members), median, p90, bias)


WORST_ROWS, FAR_OFF = 10, 0.3


def scorecard(outcomes: Sequence[Outcome], held: set[str], reasons: Mapping[str, str], *, all_far: bool) -> Scorecard:
    """The scorecard of some outcomes; `reasons` explains rows by their id; `all_far` lists every row that is more
    than 30 % off, not only ten.
    """
    ordered = sorted(outcomes, key=lambda outcome: -abs(outcome.error))
    far = sum(abs(outcome.error) > FAR_OFF for outcome in ordered)
    listed = ordered[: max(WORST_ROWS, far if all_far else 0)]
    core = [outcome for outcome in outcomes if outcome.row["core"] == "1"]
    by_group = grouped(core, lambda row: row["group"])
    return Scorecard(
        everything=summary(outcomes),
        core=summary(core),
        macro=averaged(by_group.values()),
        developed=summary([outcome for outcome in outcomes if outcome.row["group"] not in held]),
        held=summary([outcome for outcome in outcomes if outcome.row["group"] in held]),
        macro_held=averaged(group for name, group in by_group.items() if name in held),
        by_task=grouped(outcomes, lambda row: row["task"]),
        by_group=grouped(outcomes, lambda row: row["group"]),
        worst=tuple(
            Worst(
                outcome.row["id"],
                " ".join(outcome.row[name] for name in ("task", "model", "quant", "framework") if outcome.row[name]),
                outcome.published,
                round(outcome.estimated, 3),
                round(outcome.error, 3),
                reasons.get(outcome.row["id"], "not explained yet"),
            )
            for outcome in listed
        ),
    )


def fit_check(rows: Sequence[Row], known: Catalogue) -> FitCheck:
    """Asks for every memory row whether it fits its own card and every other card of the catalogue."""
    estimator = Estimator(known)
    said: dict[str, int] = {}
    wrong, wrong_smaller, smaller, larger, confirmed = [], set(), 0, 0, 0
    for row in rows:
        job = job_from_row(row)
        verdict = estimator.verdict(job, job.gpu)
        answer = (
            f"{row['outcome']}: {'unknown' if verdict.fits is None else 'fits' if verdict.fits else 'does not fit'}"
        )
        said[answer] = said.get(answer, 0) + 1
        published = float(row["measured_gb_per_gpu"] or "inf")
        if verdict.fits and verdict.gpu is not None and published > verdict.gpu.vram_gb:
            wrong.append(row["id"])
        if row["outcome"] != "ok" or verdict.memory is None:
            continue
        scale = GIB / GB if row["unit"].lower().startswith("gib") else 1.0
        for gpu in known.gpus:
            claimed = fits(verdict.memory, gpu) is True
            if published * scale > gpu.vram_gb * GIB / GB:
                smaller += 1
                wrong_smaller |= {row["id"]} if claimed else set()
            else:
                larger += 1
                confirmed += claimed
    return FitCheck(
        dict(sorted(said.items())), tuple(wrong), tuple(sorted(wrong_smaller)), smaller, round(confirmed / larger, 3)
    )
