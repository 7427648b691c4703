"""The questions worth asking: at most three, about what is unknown and would change which machine is recommended."""

from collections.abc import Container
from dataclasses import dataclass

from dumont.advisor.workload import REFUSED, Workload
from dumont.i18n import _

QUESTIONS_MAX = 3

# By task, what decides most first. A field that the estimator can do without changing the choice is not in the list.
_ADAPTING = ("params_b", "seq_len", "dataset_size", "epochs", "budget", "deadline_h")
_DRAWN = ("budget", "resolution", "deadline_h", "steps")
_RENDERED = ("budget", "deadline_h", "frames", "reference")
_SEEN = ("budget", "epochs", "deadline_h", "batch", "resolution")
_DECIDING: dict[str, tuple[str, ...]] = {
    "llm-full-ft": ("params_b", "optimizer", "seq_len", "dataset_size", "budget", "deadline_h"),
    "llm-lora": _ADAPTING,
    "llm-qlora": _ADAPTING,
    "llm-ft-unspecified": ("params_b", "method", "seq_len", "dataset_size", "epochs", "budget"),
    "llm-pretrain": ("params_b", "dataset_size", "budget", "deadline_h", "seq_len"),
    "llm-rl": ("params_b", "seq_len", "steps", "budget", "deadline_h"),
    "llm-distill": ("params_b", "dataset_size", "budget", "deadline_h"),
    "llm-serving": ("model", "n_users", "latency_ms", "context_len", "hours_per_day", "budget"),
    "llm-chat-single": ("model", "quant", "budget", "context_len", "hours_per_day"),
    "llm-batch-inference": ("model", "dataset_size", "avg_prompt_tokens", "budget", "deadline_h"),
    "nlp-finetune": ("epochs", "budget", "dataset_size"),
    "nlp-inference": ("deadline_h", "budget", "dataset_size"),
    "embedding": ("budget", "deadline_h", "dataset_size"),
    "diffusion-full-ft": ("resolution", "budget", "deadline_h", "epochs"),
    "diffusion-lora": ("resolution", "budget", "deadline_h"),
    "diffusion-inference": _DRAWN,
    "video-gen": ("resolution", "budget", "deadline_h"),
    "video-lora": ("resolution", "frames", "dataset_size"),
    "video-upscale": ("budget", "deadline_h", "resolution"),
    "asr-batch": ("budget", "language", "deadline_h", "audio_hours"),
    "asr-realtime": ("language", "budget", "concurrency"),
    "asr-finetune": ("epochs", "budget", "deadline_h"),
    "tts": ("latency_ms", "language", "budget"),
    "cv-train": _SEEN,
    "cv-inference": ("budget", "deadline_h", "resolution"),
    "render-blender": _RENDERED,
    "render-octane": _RENDERED,
    "render-redshift": _RENDERED,
    "render-other": _RENDERED,
    "gaussian-splatting": ("budget", "deadline_h"),
    "hpc": ("deadline_h", "budget"),
    "notebook": ("budget", "duration_h"),
    "dev": ("duration_h", "budget"),
    "unknown": ("task", "duration_h", "budget"),
}
_OTHER = ("budget", "deadline_h", "dataset_size")
# A field is as good as known once one of these is.
_ANSWERED_BY: dict[str, tuple[str, ...]] = {
    "budget": ("priority",),
    "deadline_h": ("deadline_text", "duration_h", "throughput"),
    "duration_h": ("hours_per_day", "hours_per_week", "hours_per_session", "hours_desc", "schedule", "deadline_h"),
    "hours_per_day": ("schedule", "hours_desc", "hours_per_week", "hours_per_session", "duration_h"),
    "n_users": ("concurrency", "throughput"),
    "dataset_size": ("audio_hours", "video_hours", "throughput", "steps"),
    "frames": ("duration_s",),
    "steps": ("epochs",),
    "epochs": ("steps",),
    "params_b": ("model",),
    "quant": ("precision",),
    "avg_prompt_tokens": ("context_len",),
}


@dataclass(frozen=True)
class Question:
    """One question: the field that its answer fills, and the sentence in the language spoken now."""

    field: str
    text: str


def questions(workload: Workload, changing: Container[str] | None = None) -> tuple[Question, ...]:
    """What to ask about a workload, most deciding first.

    `changing`: the fields of which the ranking has found that other plausible values lead to another choice; without
    it the table of what usually decides is all there is. A refused task is not asked about.
    """
    if workload.task in REFUSED:
        return ()
    asked = _DECIDING.get(workload.task, _OTHER)
    open_fields = (name for name in asked if not _is_known(workload, name))
    worth = [name for name in open_fields if changing is None or name in changing]
    return tuple(Question(name, _sentence(name)) for name in worth[:QUESTIONS_MAX])


def _is_known(workload: Workload, name: str) -> bool:
    if name == "task":
        return workload.task != "unknown"
    return any(getattr(workload, known) is not None for known in (name, *_ANSWERED_BY.get(name, ())))


def _sentence(name: str) -> str:
    """A match and not a table, so that the language spoken now is asked when the question is made."""
    sentences = {
        "task": lambda: _("What do you want to do: train, fine-tune, serve a model, generate, transcribe, render?"),
        "model": lambda: _("Which model exactly, or of which size?"),
        "params_b": lambda: _("Which model exactly, or of which size?"),
        "method": lambda: _("LoRA, QLoRA or full fine-tuning?"),
        "optimizer": lambda: _("Which optimizer: plain AdamW, or an 8-bit or paged one?"),
        "quant": lambda: _("May the model be quantised (8 or 4 bits)?"),
        "seq_len": lambda: _("How long are the sequences, in tokens?"),
        "context_len": lambda: _("How long may the context get, in tokens?"),
        "dataset_size": lambda: _("How much data is there?"),
        "epochs": lambda: _("How many epochs?"),
        "steps": lambda: _("How many steps?"),
        "batch": lambda: _("Which batch size?"),
        "avg_prompt_tokens": lambda: _("How long is a typical prompt and its answer, in tokens?"),
        "n_users": lambda: _("How many people use it at the same time, at the peak?"),
        "concurrency": lambda: _("How many streams at the same time?"),
        "latency_ms": lambda: _("How fast must the answer begin?"),
        "hours_per_day": lambda: _("How many hours a day does it run?"),
        "duration_h": lambda: _("For how many hours?"),
        "deadline_h": lambda: _("By when must it be ready?"),
        "budget": lambda: _("How much may it cost, in which currency?"),
        "resolution": lambda: _("At which resolution?"),
        "frames": lambda: _("How many frames?"),
        "reference": lambda: _("How long does one frame take, and on which GPU?"),
        "audio_hours": lambda: _("How many hours of audio?"),
        "language": lambda: _("In which language is it spoken?"),
    }
    return sentences[name]()
