"""An errand: a workload as the estimator takes it, a job and how much of it there is, every default an assumption."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil

from dumont.advisor.catalogue import catalogue
from dumont.advisor.job import Job
from dumont.advisor.notation import Frame, frame_in, params_in_name
from dumont.advisor.plan import Assumption
from dumont.advisor.shape import Shape
from dumont.advisor.workload import Workload

MONTH_DAYS = 30
WEEKS_PER_MONTH = MONTH_DAYS / 7
LESSON_H = 4.0
EXAMPLE_TOKENS = 512
PROMPT_TOKENS, OUTPUT_TOKENS = 512, 256
TUNING_EPOCHS, VISION_EPOCHS = 3.0, 100.0

_JOBS: Mapping[str, str] = {
    "llm-full-ft": "full-ft", "llm-lora": "lora", "llm-qlora": "qlora", "llm-ft-unspecified": "lora",
    "llm-pretrain": "pretrain", "llm-rl": "lora", "asr-finetune": "full-ft",
    "llm-serving": "inference-serving", "llm-chat-single": "inference", "llm-batch-inference": "batch-inference",
    "llm-eval": "batch-inference", "nlp-finetune": "nlp-train", "nlp-inference": "inference", "embedding": "inference",
    "embedding-finetune": "nlp-train", "diffusion-full-ft": "diffusion full-ft", "diffusion-lora": "diffusion lora",
    "diffusion-inference": "diffusion", "video-gen": "video", "video-lora": "diffusion lora",
    "video-full-ft": "diffusion full-ft", "asr-batch": "whisper", "asr-realtime": "whisper", "cv-train": "cv-train",
    "cv-inference": "cv-inference",
}  # fmt: skip
"""The estimator's word for each task that it has a model of. For the others no figure is made up."""
RENDERS = frozenset({"render-blender", "render-octane", "render-redshift", "render-other"})
HELD = frozenset({"notebook", "dev"})
"""Machines that are used as long as they are held: there is no amount of work."""
SERVED = frozenset({"llm-serving", "llm-chat-single", "asr-realtime"})
SPLIT = frozenset({"diffusion", "video", "whisper", "cv-inference", "batch-inference"})
"""Jobs of separate items: several GPUs take several at once, each as if it were alone."""
_READERS = frozenset({"embedding", "nlp-inference"})
_TUNED_BY_METHOD = frozenset({"llm-ft-unspecified", "llm-rl", "llm-full-ft", "llm-lora", "llm-qlora"})
_UNTIMED = frozenset({"llm-rl", "asr-finetune", "diffusion-lora", "diffusion-full-ft", "video-lora", "video-full-ft"})
"""Memory is estimated, but what a step of these takes is not: reinforcement learning also generates, and the speed of
diffusion models is known for generation only."""


@dataclass(frozen=True)
class Frames:
    """Frames to render, and how long one took on a known GPU, in seconds (None: nobody measured one)."""

    count: float | None
    frame_s: float | None
    gpu: str


@dataclass(frozen=True, kw_only=True)
class Errand:
    """What is to be done. `amount` is in the unit of the job's speed; None is not known.

    `held_h` are the hours that machines are held whatever their speed (a month of serving, a lesson). `pace_min` is the
    least speed that will do, in its unit. `frames` is set for rendering, and `job` is None where nothing is modelled.
    """

    task: str
    job: Job | None = None
    amount: float | None = None
    held_h: float | None = None
    monthly: bool = False
    pace_min: float | None = None
    frames: Frames | None = None
    assumptions: tuple[Assumption, ...] = ()

    @property
    def splits(self) -> bool:
        """Whether several GPUs simply take several items at once."""
        return self.job is not None and (self.job.task in SPLIT or self.job.metric == "prefill")


@dataclass
class _Draft:
    """A workload being turned into an errand: what had to be assumed is noted on the way."""

    workload: Workload
    assumed: list[Assumption] = field(default_factory=list)

    def assume(self, name: str, value: float | str) -> None:
        self.assumed.append(Assumption(name, f"{value:g}" if isinstance(value, int | float) else value))


def errand_of(workload: Workload, shape: Shape | None = None) -> Errand:
    """The errand of a workload. `shape` is that of a config.json the person gave; it counts above any name."""
    draft = _Draft(workload)
    job = _job(draft, shape)
    held_h, monthly = _held(draft)
    errand = Errand(task=workload.task, job=job, held_h=held_h, monthly=monthly)
    if workload.task in RENDERS:
        errand = replace(errand, frames=_frames(workload))
    elif job is not None and held_h is None and workload.task not in _UNTIMED:
        errand = replace(errand, amount=_amount(draft, job))
    errand = replace(errand, pace_min=_pace(draft, job))
    return replace(errand, assumptions=tuple(draft.assumed))


def _job(draft: _Draft, shape: Shape | None) -> Job | None:
    said = draft.workload
    task = _JOBS.get(said.task, "")
    if not task:
        return None
    if said.task in _TUNED_BY_METHOD:
        task = _method(draft, task)
    return Job(
        task=task,
        model=said.model or "",
        params_b=said.params_b if _size_counts(said) else None,
        precision=said.precision or "",
        quant=said.quant or "",
        optimizer=said.optimizer or "",
        seq_len=_tokens_held(draft),
        frame=_frame(said),
        batch=_batch(draft),
        grad_ckpt="" if said.grad_ckpt is None else "yes" if said.grad_ckpt else "no",
        attention=said.attention or "",
        framework=said.framework or "",
        parallelism=said.parallelism or "",
        metric="prefill" if said.task in _READERS else "",
        lora_rank=said.lora_r,
        shape=shape,
    )


def _size_counts(said: Workload) -> bool:
    """A size beside a name that holds or implies one is only that, rounded ("8B" for 8.03): the name is better."""
    if said.model is None:
        return True
    return params_in_name(said.model) is None and catalogue().model(said.model) is None


def _method(draft: _Draft, otherwise: str) -> str:
    method = (draft.workload.method or "").lower()
    if "qlora" in method:
        return "qlora"
    if "lora" in method or "dora" in method:
        return "lora"
    if "full" in method or draft.workload.task == "llm-full-ft":
        return "full-ft"
    if draft.workload.task in ("llm-ft-unspecified", "llm-rl"):
        draft.assume("method", "lora")
    return otherwise


def _tokens_held(draft: _Draft) -> int | None:
    """The sequence that memory is needed for: the stated one, the context, else prompt and answer."""
    said = draft.workload
    if said.seq_len or said.context_len:
        return said.seq_len or said.context_len
    if said.avg_prompt_tokens or said.avg_output_tokens:
        return (said.avg_prompt_tokens or PROMPT_TOKENS) + (said.avg_output_tokens or OUTPUT_TOKENS)
    if said.task in _READERS:
        draft.assume("avg_prompt_tokens", PROMPT_TOKENS)
        return PROMPT_TOKENS
    return None


def _batch(draft: _Draft) -> int | None:
    said = draft.workload
    if said.task == "llm-serving":
        asked = said.concurrency or said.n_users
        if asked is None:
            draft.assume("concurrency", 8)
        return min(int(asked or 8), 1_000_000)
    if said.task == "llm-chat-single":
        return 1
    if said.task in _READERS | {"llm-batch-inference", "llm-eval"} and not said.batch:
        draft.assume("batch", 32)
        return 32
    return said.batch


def _frame(said: Workload) -> Frame | None:
    if said.resolution is None and said.frames is None:
        return None
    size = said.resolution or ""
    text = f"{size}px" if size.isdigit() else size.split("->")[0]
    found = frame_in(text)
    if found is None:
        return None
    return replace(found, frames=max(1, said.frames or found.frames), steps=said.steps or 0)


def _held(draft: _Draft) -> tuple[float | None, bool]:
    """Hours that a machine is held for, and whether they are those of one month of a service that goes on."""
    said = draft.workload
    if said.task not in SERVED | HELD:
        return (said.duration_h, False) if said.duration_h and said.task not in _JOBS else (None, False)
    if said.duration_h:
        return said.duration_h, False
    if said.sessions and said.hours_per_session:
        return said.sessions * said.hours_per_session, False
    if said.hours_per_week:
        return said.hours_per_week * WEEKS_PER_MONTH, True
    if said.hours_per_day:
        return said.hours_per_day * MONTH_DAYS, True
    if said.hours_per_session:
        return said.hours_per_session, False
    if said.task in HELD:
        draft.assume("duration_h", LESSON_H)
        return LESSON_H, False
    draft.assume("hours_per_day", 24)
    return 24.0 * MONTH_DAYS, True


def _amount(draft: _Draft, job: Job) -> float | None:
    """How much there is to do, in the unit of the job's speed: tokens, images, seconds of audio, batches."""
    said = draft.workload
    if job.task in ("full-ft", "lora", "qlora", "pretrain", "nlp-train"):
        return _training_tokens(draft)
    if job.task == "cv-train":
        return _items(said) and (_items(said) or 0) * _epochs(draft, VISION_EPOCHS)
    if job.task == "whisper":
        return said.audio_hours * 3600 if said.audio_hours else None
    items = _items(said)
    if items is None:
        return None
    if job.metric == "prefill":
        return items if _counts_tokens(said) else items * (said.avg_prompt_tokens or PROMPT_TOKENS)
    if job.task == "batch-inference":
        if _counts_tokens(said):
            return items
        if said.avg_output_tokens is None:
            draft.assume("avg_output_tokens", OUTPUT_TOKENS)
        return items * (said.avg_output_tokens or OUTPUT_TOKENS)
    return items / (job.batch or 1) if job.task in ("diffusion", "video") else items


def _training_tokens(draft: _Draft) -> float | None:
    said = draft.workload
    sequence = said.seq_len or said.context_len
    if said.steps:
        batch = said.global_batch or said.batch
        if batch is None:
            draft.assume("global_batch", 16)
        if sequence is None:
            draft.assume("seq_len", 2048)
        return float(said.steps) * (batch or 16) * (sequence or 2048)
    items = _items(said)
    if items is None:
        return None
    tokens = items
    if not _counts_tokens(said):
        if sequence is None:
            draft.assume("tokens_per_example", EXAMPLE_TOKENS)
        tokens = items * (sequence or EXAMPLE_TOKENS)
    usual = 1.0 if said.task == "llm-pretrain" else TUNING_EPOCHS
    return tokens * _epochs(draft, usual)


def _epochs(draft: _Draft, usual: float) -> float:
    if draft.workload.epochs is None:
        draft.assume("epochs", usual)
    return (draft.workload.epochs or usual) * (draft.workload.folds or 1)


def _items(said: Workload) -> float | None:
    return said.dataset_size.value if said.dataset_size else None


def _counts_tokens(said: Workload) -> bool:
    return said.dataset_size is not None and said.dataset_size.unit == "tokens"


def _frames(said: Workload) -> Frames:
    count: float | None = said.frames
    if count is None and said.duration_s and said.fps:
        count = float(ceil(said.duration_s * said.fps))
    if count is None and said.dataset_size and said.dataset_size.unit in ("frames", "images"):
        count = said.dataset_size.value
    if said.reference is None or said.reference.gpu is None:
        return Frames(count, None, "")
    return Frames(count, said.reference.minutes_per_frame * 60, said.reference.gpu)


def _pace(draft: _Draft, job: Job | None) -> float | None:
    """The least speed of the whole machine that will do; None where nothing was asked for."""
    said = draft.workload
    if job is None or said.throughput is None:
        return None
    value, unit = said.throughput.value, said.throughput.unit
    if unit == "tokens/s/user":
        return value * (job.batch or 1)
    if unit == "tokens/s":
        return value
    if unit == "req/s" and job.task == "inference-serving":
        if said.avg_output_tokens is None:
            draft.assume("avg_output_tokens", OUTPUT_TOKENS)
        return value * (said.avg_output_tokens or OUTPUT_TOKENS)
    return value if unit == "images/s" and job.task in ("cv-inference", "cv-train") else None
