"""Calibration: predictions that were written down at a launch, against what their runs took."""

from dataclasses import asdict

from fastapi import APIRouter

from dumont.advisor.candidate import Factors
from dumont.advisor.grade import RUNS_MIN, Run, factors_of, grades, run_of
from dumont.api.site import Here, Site
from dumont.client.advice import Calibration, TaskGrade
from dumont.client.advice import Run as RunShown
from dumont.client.results import Fact
from dumont.errors import BadInput
from dumont.model.event import Event
from dumont.model.instance import Instance

ADVISED, LAUNCHED, MEASURED = "advised", "launched", "measured"
FACTS_MAX, FACT_CHARS_MAX = 16, 80
KNOWN = frozenset({"task", "job", "model", "gpu", "gpus", "memory_gb", "memory_high_gb", "hours", "cost_micros"})

router = APIRouter()


@router.get("/advice/calibration")
async def calibration(site: Here) -> Calibration:
    """Errors by task over all recorded runs, deleted workspaces included."""
    runs = await recorded(site)
    return Calibration(
        runs_min=RUNS_MIN,
        tasks=[TaskGrade(**asdict(grade)) for grade in grades(runs)],
        runs=[_shown(run) for run in runs],
    )


async def factors(site: Site) -> Factors:
    """What recorded runs teach the estimator; nothing as long as no meter told anything."""
    if not await site.parts.database.happened(MEASURED, 1):
        return Factors()
    return factors_of(await recorded(site))


async def recorded(site: Site) -> list[Run]:
    """Every launch that was advised, with its machines and the readings of its meters."""
    database = site.parts.database
    advised = await database.happened(ADVISED)
    if not advised:
        return []
    launched, measured = await database.happened(LAUNCHED), await database.happened(MEASURED)
    instances = await database.instances(gone=True)
    return [_run(one, launched, measured, instances) for one in advised]


def check_prediction(facts: dict[str, Fact]) -> None:
    """Raises BadInput for what no advice says."""
    wrong = sorted(facts.keys() - KNOWN)
    if wrong or len(facts) > FACTS_MAX:
        raise BadInput(f"advised may hold {', '.join(sorted(KNOWN))}, not {', '.join(wrong)[:200]}")
    if any(isinstance(value, str) and len(value) > FACT_CHARS_MAX for value in facts.values()):
        raise BadInput(f"a text in advised may have {FACT_CHARS_MAX} characters")


def _run(advised: Event, launched: list[Event], measured: list[Event], instances: list[Instance]) -> Run:
    """A name can be launched again after a removal: what belongs to this launch lies before the next one."""
    later = [one.at for one in launched if one.workspace == advised.workspace and one.at > advised.at]
    ends = min(later, default=None)
    before = [one.at for one in launched if one.workspace == advised.workspace and one.at <= advised.at]
    begins = max(before, default=advised.at)
    own = [
        one
        for one in instances
        if one.workspace == advised.workspace and one.created_at >= begins and (ends is None or one.created_at < ends)
    ]
    read = [
        one.facts
        for one in measured
        if one.workspace == advised.workspace and one.at >= begins and (ends is None or one.at < ends)
    ]
    return run_of(advised.workspace, advised.facts, own, read[-1] if read else {})


def _shown(run: Run) -> RunShown:
    told = asdict(run)
    del told["job"]
    return RunShown(**told)
