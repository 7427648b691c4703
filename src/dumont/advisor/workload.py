"""A workload: what somebody wants to run, as far as they said it. What was not said stays unknown (None)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dumont.errors import BadInput

WORD_CHARS_MAX = 80
COMPARED_MAX = 6

Task = Literal[
    "llm-full-ft", "llm-lora", "llm-qlora", "llm-ft-unspecified", "llm-pretrain", "llm-rl", "llm-distill",
    "llm-serving", "llm-chat-single", "llm-batch-inference", "llm-quantize", "llm-eval",
    "nlp-finetune", "nlp-inference", "embedding", "embedding-finetune",
    "diffusion-full-ft", "diffusion-lora", "diffusion-inference",
    "video-gen", "video-lora", "video-full-ft", "video-upscale", "image-upscale",
    "asr-batch", "asr-realtime", "asr-finetune", "tts", "tts-finetune", "music-gen",
    "cv-train", "cv-inference", "ocr", "gaussian-splatting", "nerf",
    "render-blender", "render-octane", "render-redshift", "render-other",
    "rl", "tabular", "hpc", "notebook", "dev", "invalid-mining", "invalid-gaming", "unknown",
]  # fmt: skip
TASKS: tuple[str, ...] = get_args(Task)
REFUSED: frozenset[str] = frozenset({"invalid-mining", "invalid-gaming"})

Word = Annotated[str, Field(min_length=1, max_length=WORD_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f]+$")]
Count = Annotated[int, Field(ge=1, le=10**12)]
Few = Annotated[int, Field(ge=1, le=100_000)]
Tokens = Annotated[int, Field(ge=1, le=100_000_000)]
Quantity = Annotated[float, Field(gt=0, le=1e16, allow_inf_nan=False)]
Billions = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
Hours = Annotated[float, Field(gt=0, le=10_000_000, allow_inf_nan=False)]
Gigabytes = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Amount(_Record):
    """So many of something: `50000 examples`, `20 req/s`."""

    value: Quantity
    unit: Word


class Budget(_Record):
    """The most somebody wants to pay, in the currency they named, in whole units of it (not micro-units)."""

    value: Quantity
    currency: Literal["BRL", "USD", "EUR", "GBP"]
    per: Literal["total", "hour", "day", "week", "month", "year", "item"] = "total"


class Reference(_Record):
    """A time that somebody measured themselves: so many minutes per frame on a GPU or at an OctaneBench score."""

    minutes_per_frame: Quantity
    gpu: Word | None = None
    octanebench: Quantity | None = None


class Workload(_Record):
    """One workload. Only what the text states; a default is an assumption and is made elsewhere, where it is shown.

    Suffixes are units: `_b` billions of parameters, `_h` hours, `_s` seconds, `_ms` milliseconds, `_gb` gigabytes.
    `_text` and `_desc` hold what was said and is no number ("amanhã cedo").
    """

    task: Task = "unknown"
    model: Word | None = None
    params_b: Billions | None = None
    teacher_params_b: Billions | None = None

    method: Word | None = None
    precision: Word | None = None
    quant: Word | None = None
    optimizer: Word | None = None
    grad_ckpt: bool | None = None
    attention: Word | None = None
    parallelism: Word | None = None
    framework: Word | None = None
    lora_r: Few | None = None
    seq_len: Tokens | None = None
    batch: Count | None = None
    global_batch: Count | None = None
    epochs: Quantity | None = None
    steps: Count | None = None
    steps_desc: Word | None = None
    folds: Few | None = None
    num_generations: Few | None = None

    dataset_size: Amount | None = None
    audio_hours: Hours | None = None
    video_hours: Hours | None = None
    language: Word | None = None

    context_len: Tokens | None = None
    avg_prompt_tokens: Tokens | None = None
    avg_output_tokens: Tokens | None = None
    n_users: Count | None = None
    concurrency: Count | None = None
    throughput: Amount | None = None
    latency_ms: Quantity | None = None

    resolution: Word | None = None
    frames: Count | None = None
    fps: Quantity | None = None
    frame_stride: Few | None = None
    spp: Few | None = None
    duration_s: Quantity | None = None
    reference: Reference | None = None

    deadline_h: Hours | None = None
    deadline_text: Word | None = None
    duration_h: Hours | None = None
    hours_per_day: Annotated[float, Field(gt=0, le=24)] | None = None
    hours_per_week: Annotated[float, Field(gt=0, le=168)] | None = None
    hours_per_session: Hours | None = None
    hours_desc: Word | None = None
    sessions: Few | None = None
    schedule: Word | None = None
    timezone: Word | None = None

    budget: Budget | None = None
    priority: Literal["cheapest", "fastest"] | None = None
    interruptible: bool | None = None
    reliability: Annotated[float, Field(gt=0, le=1)] | None = None
    region: Word | None = None
    compliance: Word | None = None
    os: Word | None = None

    gpu_pref: Word | None = None
    vendor: Word | None = None
    compare: Annotated[tuple[Word, ...], Field(min_length=2, max_length=COMPARED_MAX)] | None = None
    n_gpus: Few | None = None
    n_nodes: Few | None = None
    vram_min_gb: Gigabytes | None = None
    vram_max_gb: Gigabytes | None = None
    disk_gb: Gigabytes | None = None
    compute_capability: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")] | None = None
    observed: Word | None = None

    def stated(self) -> dict[str, Any]:
        """The task and every field that was said, as JSON values: whole numbers without a fraction, no None."""
        plain = self.model_dump(mode="json", exclude_none=True)
        return {name: _whole(value) for name, value in plain.items()}


def workload_of(fields: Mapping[str, Any]) -> Workload:
    """Fields from outside as a workload. Raises BadInput, naming the fields that make no sense."""
    try:
        return Workload.model_validate(dict(fields))
    except ValidationError as wrong:
        named = sorted({".".join(str(part) for part in error["loc"]) or "?" for error in wrong.errors()})
        raise BadInput(f"these fields of a workload make no sense: {', '.join(named)[:300]}") from wrong


def valid_part(fields: Mapping[str, Any]) -> Workload:
    """What of the fields makes sense as a workload; a field outside its bounds becomes unknown. Raises nothing."""
    kept = dict(fields)
    while True:
        try:
            return Workload.model_validate(kept)
        except ValidationError as wrong:
            bad = {str(error["loc"][0]) for error in wrong.errors() if error["loc"]}
            kept = {name: value for name, value in kept.items() if name not in bad} if bad else {}


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    return value
