"""Speed of a job on a GPU, in the unit the job asks for, with an interval and the seconds behind it."""

from dataclasses import replace

from dumont.advisor.catalogue import Catalogue, Gpu, catalogue
from dumont.advisor.estimate.decoding import prompt_seconds, serving_tokens_per_second, step_seconds
from dumont.advisor.estimate.drawing import image_seconds, picture_seconds, render_score, transcription_factor
from dumont.advisor.estimate.drawing import step_seconds as denoising_seconds
from dumont.advisor.estimate.pace import training_seconds
from dumont.advisor.estimate.part import Part, Speed
from dumont.advisor.job import Job
from dumont.advisor.plan import PICTURES, TRAINING, Plan, plan_of
from dumont.errors import BadInput

SPREAD = {"train": 0.35, "decode": 0.35, "serve": 0.6, "picture": 0.4, "speech": 0.5, "vision": 0.4, "render": 0.12}
CLIP_S = 780.0


def estimate_speed(job: Job, gpu: Gpu, known: Catalogue | None = None) -> Speed:
    """How fast a job runs on a GPU.

    Training: tokens/s per GPU. Generation: tokens/s of all streams. Pictures: s per batch, or it/s when asked.
    Speech: seconds
    of audio per second. Vision: images/s. Rendering: Blender samples per minute.

    Raises:
        BadInput: neither a model nor a size is known, or the GPU's rates are not.
    """
    books = known or catalogue()
    if not gpu.half_tflops:
        raise BadInput(f"the speed of {gpu.name} is unknown: name a GPU of the catalogue")
    return speed_of(plan_of(job, books), gpu, books)


def speed_of(plan: Plan, gpu: Gpu, known: Catalogue) -> Speed:
    """How fast a plan runs on a GPU; see `estimate_speed`."""
    if plan.task == "render":
        score, published = render_score(gpu, known)
        speed = _ranged(score, "samples/min", "render", (), plan)
        return speed if published else replace(speed, low=score * 0.7, high=score * 1.3)
    if plan.task in PICTURES:
        return _picture(plan, gpu)
    if plan.task == "whisper":
        return _speech(plan, gpu)
    if plan.vision is not None:
        return _vision(plan, gpu)
    if plan.task in TRAINING or plan.task == "cv-train":
        return _training(plan, gpu)
    return _generation(plan, gpu)


def _ranged(value: float, unit: str, kind: str, parts: tuple[Part, ...], plan: Plan) -> Speed:
    spread = SPREAD[kind] + (0.1 if plan.shape is not None and plan.shape.guessed else 0.0)
    return Speed(value, unit, value / (1 + spread), value * (1 + spread), parts, assumptions=plan.assumptions)


def _training(plan: Plan, gpu: Gpu) -> Speed:
    parts = training_seconds(plan, gpu)
    seconds = sum(part.amount for part in parts)
    per_gpu = plan.tokens / seconds / (plan.parallel.tensor * plan.parallel.pipeline * plan.parallel.context) ** 0
    unit = plan.job.unit
    share = plan.parallel.tensor * plan.parallel.pipeline
    tokens = per_gpu / share
    low = unit.lower()
    if low.startswith(("sequence", "sample", "example")):
        total = plan.parallel.gpus if plan.task == "nlp-train" else 1
        return _ranged(tokens / plan.seq_len * total, "sequences/s", "train", parts, plan)
    if "1000 it" in low:
        return _ranged(seconds * 1000 / 60, unit, "train", parts, plan)
    if low.startswith("s/it") or low == "s per iteration":
        return _ranged(seconds, unit, "train", parts, plan)
    return replace(_ranged(tokens, "tokens/s", "train", parts, plan), per_gpu=True)


def _generation(plan: Plan, gpu: Gpu) -> Speed:
    if (plan.task == "inference-serving" and plan.batch > 1) or plan.task == "batch-inference":
        served = plan if plan.batch > 1 else replace(plan, batch=256)
        value, parts = serving_tokens_per_second(served, gpu)
        return _ranged(value, "output tokens/s", "serve", parts, plan)
    if "prefill" in plan.job.metric.lower() or "prompt" in plan.job.metric.lower():
        seconds = prompt_seconds(plan, gpu, plan.seq_len * plan.batch)
        part = Part("prompt", seconds, f"{plan.seq_len * plan.batch} tokens", "roofline")
        return _ranged(plan.seq_len * plan.batch / seconds, "tokens/s", "decode", (part,), plan)
    parts = step_seconds(plan, gpu, plan.batch)
    return _ranged(plan.batch / sum(part.amount for part in parts), "tokens/s", "decode", parts, plan)


def _picture(plan: Plan, gpu: Gpu) -> Speed:
    low = plan.job.unit.lower()
    if low.startswith("it"):
        parts = denoising_seconds(plan, gpu)
        return _ranged(1 / sum(part.amount for part in parts), "it/s", "picture", parts, plan)
    parts = picture_seconds(plan, gpu)
    seconds = sum(part.amount for part in parts)
    if low.startswith(("image", "picture", "video")) and "/s" in low:
        return _ranged(plan.batch / seconds, plan.job.unit, "picture", parts, plan)
    if low.startswith(("s per image", "s/image")):
        return _ranged(seconds / plan.batch, plan.job.unit, "picture", parts, plan)
    if low.startswith("min"):
        return _ranged(seconds / 60, plan.job.unit, "picture", parts, plan)
    return _ranged(seconds, plan.job.unit if low.startswith("s") else "s per batch", "picture", parts, plan)


def _speech(plan: Plan, gpu: Gpu) -> Speed:
    factor, parts = transcription_factor(plan, gpu)
    low = plan.job.unit.lower()
    if low.startswith("s"):
        return _ranged(CLIP_S / factor, plan.job.unit, "speech", parts, plan)
    return _ranged(factor, "x real time", "speech", parts, plan)


def _vision(plan: Plan, gpu: Gpu) -> Speed:
    parts = image_seconds(plan, gpu)
    seconds = sum(part.amount for part in parts)
    low = plan.job.unit.lower()
    if low.startswith("ms"):
        return _ranged(seconds * 1e3, "ms/image", "vision", parts, plan)
    gpus = plan.parallel.gpus
    return _ranged(gpus * (0.93 if gpus > 1 else 1.0) / seconds, "images/s", "vision", parts, plan)
