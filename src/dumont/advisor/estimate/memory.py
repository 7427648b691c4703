"""Peak memory of a job per GPU, and whether a card holds it."""

import math
from dataclasses import replace

from dumont.advisor.catalogue import GIB, Catalogue, Gpu, catalogue
from dumont.advisor.estimate.inference import inference_parts
from dumont.advisor.estimate.part import GB, Memory, Part
from dumont.advisor.estimate.picture import picture_parts
from dumont.advisor.estimate.small import render_parts, speech_parts, vision_parts
from dumont.advisor.estimate.training import training_parts
from dumont.advisor.job import Job
from dumont.advisor.plan import PICTURES, SERVING, TRAINING, Plan, plan_of

CONTEXT_GB = 0.5
CONTEXT_OLD_GB = 1.3
FRAGMENTATION = 0.05


def estimate_memory(job: Job, known: Catalogue | None = None) -> Memory:
    """Peak memory per GPU of a job, in GB (1e9 bytes), as the metric the job names would show it.

    Raises:
        BadInput: the job names neither a model nor a size.
    """
    return memory_of(plan_of(job, known or catalogue()))


def memory_of(plan: Plan) -> Memory:
    """Peak memory per GPU of a plan, in GB (1e9 bytes).

    The allocator's peak is the sum of the parts; what it reserves is a few per cent more (blocks are split and kept,
    PyTorch
    CUDA semantics: memory management); a monitor also sees the CUDA context with its kernels.
    """
    parts = _parts(plan)
    allocated = sum(part.amount for part in parts)
    activations = sum(part.amount for part in parts if part.name in _TRANSIENT)
    waste = FRAGMENTATION * allocated if plan.task in TRAINING else 0.02 * allocated
    metric = _metric(plan)
    context = CONTEXT_OLD_GB if plan.framework.name == "HF Trainer" else CONTEXT_GB
    reserved, device = allocated + waste, allocated + waste + context
    shown = {"allocated": allocated, "reserved": reserved, "device": device}[metric]
    extra = (
        [Part("allocator", waste, "split and kept blocks", "PyTorch CUDA semantics")] if metric != "allocated" else []
    )
    extra += (
        [Part("CUDA context", context, "driver and kernels", "nvidia-smi of an idle process")]
        if metric == "device"
        else []
    )
    spread = _spread(plan)
    high = shown * (1 + spread) + 0.5 * activations
    return Memory(
        point=shown,
        low=max(0.5 * shown, shown * (1 - spread)),
        high=high,
        parts=(*parts, *extra),
        device_high=high + (device - shown),
        metric=metric,
        assumptions=plan.assumptions,
    )


_TRANSIENT = {
    "activations",
    "logits",
    "one block recomputed",
    "decoder",
    "denoiser",
    "working set",
    "key and value cache",
}


def _parts(plan: Plan) -> tuple[Part, ...]:
    if plan.task in PICTURES:
        return picture_parts(plan)
    if plan.task == "render":
        return render_parts(plan)
    if plan.vision is not None:
        return vision_parts(plan)
    if plan.task == "whisper":
        return speech_parts(plan)
    return training_parts(plan) if plan.task in TRAINING or plan.task == "cv-train" else inference_parts(plan)


def _metric(plan: Plan) -> str:
    low = plan.job.mem_metric.lower()
    if "alloc" in low or "active" in low:
        return "allocated"
    if any(word in low for word in ("device used", "nvml", "smi", "vram", "minimum", "requirement", "card")):
        return "device"
    return "reserved"


def _spread(plan: Plan) -> float:
    """The relative half-width of the interval: software versions and unit noise, and more for each thing not stated."""
    spread = 0.15 if plan.task in SERVING else 0.2
    spread += 0.1 * (plan.shape is not None and plan.shape.guessed)
    spread += 0.05 * (not plan.precision.stated) + 0.1 * (plan.task in TRAINING and not plan.optimizer.stated)
    spread += 0.1 * (plan.task in TRAINING and plan.parallel.stage >= 2) + 0.15 * (plan.task in PICTURES)
    return spread + 0.1 * plan.parallel.offload


def fits(memory: Memory, gpu: Gpu) -> bool:
    """Whether a card surely holds a job: the upper end of what a monitor would show, against what a process can
    take.
    """
    return memory.device_high * GB <= gpu.usable_bytes


def in_unit(gigabytes: float, unit: str) -> float:
    """GB (1e9 bytes) in the unit a row names: "GiB", "MiB", "MB"; anything else is GB."""
    low = unit.lower()
    if low.startswith("gib") or ("1024" in low and low.startswith("g")):
        return gigabytes * GB / GIB
    if low.startswith("mib"):
        return gigabytes * GB / 2**20
    return gigabytes * 1e3 if low.startswith("mb") else gigabytes


def rounded_up_to_card(gigabytes: float) -> float:
    """The smallest usual card that holds so much, in GB: for "minimum card" figures."""
    return next(
        (card for card in (4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 80, 96, 141, 180) if card >= gigabytes),
        math.ceil(gigabytes),
    )


def without_metric(job: Job) -> Job:
    """The job with the card's own view of memory, for decisions."""
    return replace(job, mem_metric="device")
