"""Calibration: predictions that were written down at a launch, against what their runs took."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TypeVar

from fastapi import APIRouter

from dumont.advisor.candidate import Factors
from dumont.advisor.grade import RUNS_MIN, Run, factors_of, grades, peak_of, run_of
from dumont.api.site import Here, Site
from dumont.client.advice import Calibration, MemoryFactor, TaskGrade
from dumont.client.advice import Run as RunShown
from dumont.client.results import Fact
from dumont.control.history import PROMOTED
from dumont.control.peaks import ADVISED, MEASURED
from dumont.errors import BadInput
from dumont.model.event import Event
from dumont.model.instance import Instance, Machine

LAUNCHED = "launched"
RUNS_MAX, WORDS_MAX = 1000, 5000
"""The newest runs are looked at, and the newest events of a kind about their machines."""
FACTS_MAX, FACT_CHARS_MAX = 16, 80
KNOWN = frozenset(
    {"task", "job", "model", "gpu", "gpus", "memory_gb", "memory_high_gb", "memory_factor", "hours", "cost_micros"}
)

_Record = TypeVar("_Record", Event, Instance)

router = APIRouter()


@router.get("/advice/calibration")
async def calibration(site: Here) -> Calibration:
    """Errors by task over all recorded runs, deleted workspaces included."""
    runs = await recorded(site)
    return Calibration(
        runs_min=RUNS_MIN,
        tasks=[TaskGrade(**asdict(grade)) for grade in grades(runs)],
        factors=[MemoryFactor(job=job, **asdict(factor)) for job, factor in factors_of(runs).memory.items()],
        runs=[_shown(run) for run in runs],
    )


async def factors(site: Site) -> Factors:
    """What recorded runs teach the estimator; nothing as long as no meter told anything."""
    if not await site.parts.database.happened(MEASURED, 1):
        return Factors()
    return factors_of(await recorded(site))


async def recorded(site: Site) -> list[Run]:
    """Every launch that was advised, with its machines and the peaks that they told."""
    database = site.parts.database
    advised = await database.happened(ADVISED, RUNS_MAX)
    if not advised:
        return []
    launched = await database.happened(LAUNCHED, WORDS_MAX)
    measured, promoted = await database.happened(MEASURED, WORDS_MAX), await database.happened(PROMOTED, WORDS_MAX)
    instances = await database.instances(gone=True)
    told = [*measured, *promoted]  # beside the event loop, on which agents' heartbeats wait
    return await asyncio.to_thread(runs_of, advised, launched, told, instances)


def check_prediction(facts: dict[str, Fact]) -> None:
    """Raises BadInput for what no advice says."""
    wrong = sorted(facts.keys() - KNOWN)
    if wrong or len(facts) > FACTS_MAX:
        raise BadInput(f"advised may hold {', '.join(sorted(KNOWN))}, not {', '.join(wrong)[:200]}")
    if any(isinstance(value, str) and len(value) > FACT_CHARS_MAX for value in facts.values()):
        raise BadInput(f"a text in advised may have {FACT_CHARS_MAX} characters")


def runs_of(
    advised: Iterable[Event], launched: Iterable[Event], told: Iterable[Event], instances: Iterable[Instance]
) -> list[Run]:
    """A run for each launch that was advised. `told` are events `measured` and `promoted`. Pure."""
    launches, machines = _by_workspace(launched), _by_workspace(instances)
    words: dict[Fact, list[Event]] = {}
    for event in told:
        words.setdefault(event.facts.get("instance", ""), []).append(event)
    return [_run(one, launches.get(one.workspace, []), words, machines.get(one.workspace, [])) for one in advised]


def _run(advised: Event, launched: list[Event], told: Mapping[Fact, list[Event]], instances: list[Instance]) -> Run:
    """A name can be launched again after a removal: what belongs to this launch lies before the next one. What was told
    of a machine belongs to its launch, whenever it was written down.
    """
    ends = min((one.at for one in launched if one.at > advised.at), default=None)
    begins = max((one.at for one in launched if one.at <= advised.at), default=advised.at)
    own = [one for one in instances if one.created_at >= begins and (ends is None or one.created_at < ends)]
    of_them = [event for one in own if one.machine is Machine.GPU for event in told.get(one.id, [])]
    served = {str(one.facts["instance"]) for one in of_them if one.kind == PROMOTED}
    peak = peak_of([one.facts for one in of_them if one.kind == MEASURED], served)
    return run_of(advised.workspace, advised.facts, own, peak)


def _by_workspace(records: Iterable[_Record]) -> dict[str, list[_Record]]:
    found: dict[str, list[_Record]] = {}
    for one in records:
        found.setdefault(one.workspace, []).append(one)
    return found


def _shown(run: Run) -> RunShown:
    return RunShown(
        workspace=run.workspace,
        task=run.task,
        gpu=run.gpu,
        over=run.over,
        memory_gb=run.memory_gb,
        memory_gb_measured=run.peak.gb,
        memory_card=run.peak.card,
        memory_scope=run.peak.scope,
        memory_every_s=run.peak.every_s,
        memory_at_least=run.peak.at_least,
        memory_taken=run.is_taken,
        memory_unknown=run.peak.why,
        hours=run.hours,
        hours_measured=run.hours_measured,
        cost_micros=run.cost_micros,
        cost_micros_measured=run.cost_micros_measured,
    )
