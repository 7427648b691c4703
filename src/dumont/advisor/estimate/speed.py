"""Speed of a job on a GPU, in the unit the job asks for, with an interval and the seconds behind it."""

from dataclasses import replace

from dumont.advisor.catalogue import Catalogue, Gpu, catalogue
from dumont.advisor.estimate.decoding import prompt_seconds, step_seconds
from dumont.advisor.estimate.drawing import image_seconds, picture_seconds, render_score, transcription_factor
from dumont.advisor.estimate.drawing import step_seconds as denoising_seconds
from dumont.advisor.estimate.pace import training_seconds
from dumont.advisor.estimate.part import Part, Speed
from dumont.advisor.estimate.serving import serving_tokens_per_second
from dumont.advisor.job import Job
from dumont.advisor.plan import PICTURES, TRAINING, Plan, plan_of
from dumont.errors import BadInput

SPREAD = {"train": 0.35, "decode": 0.35, "serve": 0.6, "picture": 0.4, "speech": 0.5, "vision": 0.4, "render": 0.12}
CLIP_S = 780.0


def estimate_speed(job: Job, gpu: Gpu, known: Catalogue | None = None) -> Speed:
    """How fast a job runs on a GPU.

    Training: tokens/s per GPU. Generation: tokens/s of all streams. Pictures: s per batch, or it/s when asked.
    Speech: seconds of audio per second. Vision: images/s. Rendering: Blender samples per minute.

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
    """Tokens/s of one GPU, unless the job asks for the whole (`per_gpu` "n") or for another unit."""
    parts = training_seconds(plan, gpu)
    seconds = sum(part.amount for part in parts)
    tokens = plan.tokens / seconds / (plan.parallel.tensor * plan.parallel.pipeline)
    low = plan.job.unit.lower()
    if low.startswith(("sequence", "sample", "example")):
        whole = plan.job.per_gpu != "y" and plan.task == "nlp-train"
        rate = tokens / plan.seq_len * (plan.parallel.gpus if whole else 1)
        return _ranged(rate, plan.job.unit, "train", parts, plan)
    if "1000 it" in low:
        return _ranged(seconds * 1000 / 60, plan.job.unit, "train", parts, plan)
    if low.startswith(("s/it", "s per it", "s per step", "s/step")):
        return _ranged(seconds, plan.job.unit, "train", parts, plan)
    if low.startswith(("it/s", "step", "iteration")):
        return _ranged(1 / seconds, plan.job.unit, "train", parts, plan)
    if plan.job.per_gpu == "n" and plan.parallel.gpus > 1:
        return _ranged(tokens * plan.parallel.gpus, "tokens/s", "train", parts, plan)
    return replace(_ranged(tokens, "tokens/s", "train", parts, plan), per_gpu=True)


def _generation(plan: Plan, gpu: Gpu) -> Speed:
    """Tokens/s of all streams: of a loaded server, of a prompt that is read, or of decoding."""
    if plan.task == "batch-inference" or (plan.task == "inference-serving" and plan.job.batch != 1):
        value, parts = serving_tokens_per_second(plan, gpu)
        return _ranged(value, "output tokens/s", "serve", parts, plan)
    if "prefill" in plan.job.metric.lower() or "prompt" in plan.job.metric.lower():
        tokens = plan.seq_len * plan.batch
        seconds = prompt_seconds(plan, gpu, tokens)
        parts = (Part("prompt", seconds, f"{tokens} tokens", "roofline"),)
        return _ranged(tokens / seconds, "tokens/s", "decode", parts, plan)
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
    if low.startswith(("s per image", "s/im")):
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
