"""The command that launches a choice, as text for a person and as a wish for a program. Nothing here runs it."""

import math
import re
import shlex
from typing import Any

from dumont.advisor.advice import Advice
from dumont.advisor.candidate import Candidate
from dumont.advisor.plan import TRAINING
from dumont.advisor.workload import Workload

HEADROOM = 1.2
"""A price may rise by so much between advice and launch."""
DISK_GB_LEAST, DISK_GB_MOST, WEIGHTS_KEPT = 20, 16_000, 3
MICROS_PER_CENT = 10_000


def name_for(workload: Workload) -> str:
    """A workspace's name that says what it is for: `lora-llama-3-8b`."""
    words = f"{workload.task.removeprefix('llm-')} {workload.model or ''}".lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:30].strip("-")


def wish(one: Candidate, advice: Advice) -> dict[str, Any]:
    """The fields of a launch's wish: the card, how many, where, and the most to pay."""
    said, offer = advice.workload, one.priced.offer
    most = math.ceil(one.priced.price_micros_per_hour * HEADROOM / MICROS_PER_CENT) * MICROS_PER_CENT
    return {
        "names": [one.gpu],
        "gpus": one.gpus,
        "disk_gb": _disk_gb(one, said),
        "regions": sorted(advice.terms.need.regions) if advice.terms else [],
        "reliability_min": said.reliability or 0.0,
        "on_demand": "never" if offer.spot else "always",
        "price_micros_per_hour_max": most,
    }


def command(one: Candidate, advice: Advice) -> str:
    """The command line that launches this choice."""
    wanted = wish(one, advice)
    words = ["dumont", "launch", name_for(advice.workload), "--gpu", one.gpu]
    words += ["--gpus", str(one.gpus)] if one.gpus > 1 else []
    for region in wanted["regions"]:
        words += ["--region", region]
    words += ["--disk", str(wanted["disk_gb"])] if wanted["disk_gb"] > DISK_GB_LEAST else []
    words += ["--on-demand", "always"] if wanted["on_demand"] == "always" else []
    words += ["--max-price", f"{wanted['price_micros_per_hour_max'] / 1e6:.2f}"]
    return shlex.join(words)


def advised_facts(one: Candidate, advice: Advice) -> dict[str, str | int | float]:
    """What was predicted, to be written down with the launch and graded after the run. What is unknown is left out."""
    facts: dict[str, str | int | float] = {"task": advice.workload.task, "gpu": one.gpu, "gpus": one.gpus}
    if one.job is not None:
        facts |= {"job": one.job.task, "model": one.job.model}
    if one.memory is not None:
        facts |= {"memory_gb": round(one.memory.device_point, 3), "memory_high_gb": round(one.memory.device_high, 3)}
        if one.factor is not None and one.factor.applied > 1:
            facts["memory_factor"] = round(one.factor.applied, 4)
    if one.hours is not None and advice.errand is not None and advice.errand.held_h is None:
        facts["hours"] = round(one.hours.point, 4)
        if one.cost_micros is not None:
            facts["cost_micros"] = one.cost_micros
    return facts


def _disk_gb(one: Candidate, said: Workload) -> int:
    """What was said, else room for the weights as they are fetched, unpacked and saved, beside the system."""
    if said.disk_gb:
        return round(min(max(said.disk_gb, DISK_GB_LEAST), DISK_GB_MOST))
    weights = sum(part.amount for part in one.memory.parts if part.name == "weights") if one.memory else 0.0
    job = one.job
    sharded = job is not None and (job.n_gpus or 1) > 1 and (job.task not in TRAINING or bool(job.parallelism))
    whole = weights * (one.gpus if sharded else 1)
    tens = math.ceil((DISK_GB_LEAST + WEIGHTS_KEPT * whole) / 10) * 10 if whole > 1 else DISK_GB_LEAST
    return min(tens, DISK_GB_MOST)
