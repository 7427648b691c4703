"""Peak memory of a job per GPU, and whether a card holds it."""

import math
from dataclasses import replace

from dumont.advisor.catalogue import GIB, Catalogue, Gpu, catalogue
from dumont.advisor.estimate.inference import inference_parts
from dumont.advisor.estimate.part import GB, Memory, Part
from dumont.advisor.estimate.picture import picture_parts
from dumont.advisor.estimate.sharding import kept_for_gathering
from dumont.advisor.estimate.small import render_parts, speech_parts, vision_parts
from dumont.advisor.estimate.training import training_parts
from dumont.advisor.job import Job
from dumont.advisor.plan import PICTURES, SERVING, TRAINING, Plan, plan_of


def estimate_memory(job: Job, known: Catalogue | None = None) -> Memory:
    """Peak memory per GPU of a job, in GB (1e9 bytes), as the metric the job names would show it.

    Raises:
        BadInput: the job names neither a model nor a size.
    """
    return memory_of(plan_of(job, known or catalogue()))


def memory_of(plan: Plan) -> Memory:
    """Peak memory per GPU of a plan, in GB (1e9 bytes).

    The allocator's peak is the sum of the parts; what it reserves is a few per cent more, because blocks are split
    and kept, of one stream and not for another (PyTorch, CUDA semantics: memory management); a monitor also sees the
    CUDA context with its kernels.
    """
    parts = _parts(plan)
    allocated = sum(part.amount for part in parts)
    transient = sum(part.amount for part in parts if part.name in _TRANSIENT)
    waste = (0.05 if plan.task in TRAINING else 0.02) * allocated
    waste += kept_for_gathering(plan) if plan.task in TRAINING else 0.0
    context = plan.framework.context_gb
    metric = _metric(plan)
    extra = [
        Part("allocator", waste, "split and kept blocks", "PyTorch CUDA semantics"),
        Part("CUDA context", context, "driver and kernels", "nvidia-smi of an idle process"),
    ][: _COUNTED[metric]]
    shown = allocated + sum(part.amount for part in extra)
    spread = _spread(plan)
    unseen = allocated + waste + context - shown
    worst = max(shown * (1 + spread) + 0.5 * transient, 1.2 * _worst(plan) + shown - allocated)
    return Memory(
        point=shown,
        low=max(0.5 * shown, shown * (1 - spread)),
        high=worst,
        parts=(*parts, *extra),
        device_point=shown + unseen,
        device_high=worst + unseen,
        metric=metric,
        assumptions=plan.assumptions,
    )


def _worst(plan: Plan) -> float:
    """What the parts sum to when everything that is not stated turns out badly: no checkpointing, a loss that is not
    fused, heads of an unknown model that are not grouped, experts that bitsandbytes leaves in 16 bit because they
    are no nn.Linear (axolotl docs/expert_quantization).
    """
    if plan.shape is None:
        return 0.0
    if plan.task in SERVING and plan.shape.guessed:
        whole = replace(plan.shape, kv_heads=plan.shape.heads)
        return sum(part.amount for part in inference_parts(replace(plan, shape=whole)))
    if plan.task not in TRAINING:
        return 0.0
    worst = plan
    if not plan.job.grad_ckpt and plan.checkpointing == "yes":
        worst = replace(worst, checkpointing="no")
    if plan.framework.fused_loss_optional:
        worst = replace(worst, framework=replace(plan.framework, logit_bytes=12.0))
    if plan.shape.experts and plan.quant.kernel == "bnb" and "expert" not in plan.quant.name:
        worst = replace(worst, quant=replace(plan.quant, experts=False))
    more = 0.0
    if plan.framework.head_may_train and plan.task == "lora":
        more = 12 * plan.shape.embedding / GB  # a second copy, its gradient and two fp32 states (PEFT modules_to_save)
    parts = _parts(worst)
    if plan.framework.accelerate and plan.parallel.stage == 3:  # without a mixed-precision policy it gathers in fp32
        more += sum(part.amount for part in parts if part.name == "gathered layers")
    if plan.framework.whole_gradients and plan.parallel.stage == 3:  # published peaks suggest whole weights as well
        more += sum(part.amount for part in parts if part.name == "weights") * (plan.parallel.shards - 1)
    return 0.0 if worst is plan and not more else sum(part.amount for part in parts) + more


_COUNTED = {"allocated": 0, "reserved": 1, "device": 2}
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
    return spread + 0.4 * plan.parallel.offload


def fits(memory: Memory, gpu: Gpu) -> bool | None:
    """Whether a card holds a job: True when the worst case does, False when not even the expected one does, else
    None.
    """
    if memory.device_high * GB <= gpu.usable_bytes:
        return True
    return False if memory.device_point * GB > gpu.usable_bytes else None


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
