"""A change: what would have to be different for a cheaper card to hold the job, as far as the estimator confirms it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations

from dumont.advisor.candidate import Candidate
from dumont.advisor.job import Job
from dumont.advisor.plan import PICTURES, SERVING

CHANGES_MAX = 3
SAVES_MIN = 0.1
"""A change of how one works is worth naming when an hour costs a tenth less."""
COSTS_MAX = 1.5
_LONG = 1024
Keeping = Callable[[Job], Sequence[Candidate]]
"""The candidates of a job that fit and keep to the terms."""


class Change(StrEnum):
    """One thing to do differently."""

    CHECKPOINTING = "grad_ckpt"
    LORA = "lora"
    QLORA = "qlora"
    OPTIMIZER = "optimizer"
    BATCH = "batch"
    LENGTH = "seq_len"
    FOUR_BITS = "quant"
    OFFLOAD = "offload"


@dataclass(frozen=True, kw_only=True)
class Cheaper:
    """The cheapest candidate once these changes are made; the estimator says that it fits."""

    changes: tuple[Change, ...]
    job: Job
    candidate: Candidate


def changes_of(job: Job) -> list[Change]:
    """What can be changed about a job, the least first."""
    found = []
    if job.task in ("full-ft", "lora", "qlora", "pretrain"):
        found += [Change.CHECKPOINTING] if job.grad_ckpt != "yes" else []
        found += [Change.QLORA] if job.task in ("lora", "full-ft") else []
        found += [Change.LORA] if job.task == "full-ft" else []
        found += [Change.OPTIMIZER] if job.task in ("full-ft", "pretrain") and "8bit" not in job.optimizer else []
        found += [Change.BATCH] if (job.batch or 1) > 1 else []
    if job.task in SERVING and not job.quant:
        found.append(Change.FOUR_BITS)
    if job.task in PICTURES and not job.parallelism:
        found.append(Change.OFFLOAD)
    if (job.seq_len or 0) > _LONG:
        found.append(Change.LENGTH)
    return found


def changed(job: Job, change: Change) -> Job:
    """The job with one change made."""
    match change:
        case Change.CHECKPOINTING:
            return replace(job, grad_ckpt="yes")
        case Change.LORA:
            return replace(job, task="lora")
        case Change.QLORA:
            return replace(job, task="qlora", quant="")
        case Change.OPTIMIZER:
            return replace(job, optimizer="adamw_8bit")
        case Change.BATCH:
            return replace(job, batch=1)
        case Change.LENGTH:
            return replace(job, seq_len=(job.seq_len or 2) // 2)
        case Change.FOUR_BITS:
            return replace(job, quant="awq int4")
        case Change.OFFLOAD:
            return replace(job, parallelism="model offload")


def cheaper(job: Job, now: Candidate | None, keeping: Keeping) -> tuple[Cheaper, ...]:
    """Up to CHANGES_MAX ways to a smaller card that costs less an hour: single changes, then pairs.

    `now` is the choice without a change, None when nothing fits. The whole may still cost more, where a small card
    takes longer: the candidate says. A pair is named only where neither half leads to as little.
    """
    found: list[Cheaper] = []
    for changes in _sets(job):
        other = job
        for change in changes:
            other = changed(other, change)
        smaller = [one for one in keeping(other) if now is None or _is_smaller(one, now)]
        candidate = min(smaller, key=_cost, default=None)
        if candidate is not None and not _is_done_with_less(changes, candidate, found):
            found.append(Cheaper(changes=changes, job=other, candidate=candidate))
    return tuple(sorted(found, key=lambda one: (_cost(one.candidate), len(one.changes)))[:CHANGES_MAX])


def _sets(job: Job) -> Iterator[tuple[Change, ...]]:
    possible = changes_of(job)
    yield from ((change,) for change in possible)
    if Change.CHECKPOINTING in possible:
        yield from ((Change.CHECKPOINTING, other) for other in possible if other is not Change.CHECKPOINTING)
    else:
        yield from combinations(possible[:2], 2)


def _is_smaller(one: Candidate, now: Candidate) -> bool:
    """Whether it has less memory in all and a lower price; what costs half as much again in all is no way to save."""
    if one.card_gb * one.gpus >= now.card_gb * now.gpus:
        return False
    cheap = one.priced.micros_per_hour <= (1 - SAVES_MIN) * now.priced.micros_per_hour
    return cheap and _cost(one) <= COSTS_MAX * _cost(now)


def _is_done_with_less(changes: tuple[Change, ...], candidate: Candidate, found: list[Cheaper]) -> bool:
    return any(set(one.changes) < set(changes) and _cost(one.candidate) <= _cost(candidate) for one in found)


def _cost(one: Candidate) -> int:
    return one.priced.micros_per_hour if one.cost_micros is None else one.cost_micros
