"""A job: the fully or partly known computation that the advisor estimates, with the columns of the published rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from dumont.advisor.notation import Frame, first_number, frame_in, leading_number, number, params_in_name, text_of
from dumont.advisor.shape import Shape, shape_of_config
from dumont.errors import BadInput

TASKS = (
    "full-ft",
    "lora",
    "qlora",
    "pretrain",
    "inference",
    "inference-serving",
    "batch-inference",
    "diffusion",
    "diffusion lora",
    "diffusion full-ft",
    "video",
    "whisper",
    "cv-train",
    "cv-inference",
    "nlp-train",
    "render",
    "notebook",
)
_TASK_WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # the first task of which a word is in the text; "-" and "_" count as spaces
    ("diffusion full-ft", ("dreambooth", "diffusion full", "diffusion train", "video full")),
    ("diffusion lora", ("diffusion lora", "video lora", "image lora")),
    ("qlora", ("qlora", "q lora")),
    ("lora", ("lora", "adapter", "dora", "peft", "ft unspecified")),
    ("nlp-train", ("nlp train", "nlp fine", "embedding fine", "nlp full")),
    ("full-ft", ("asr fine", "tts fine", "whisper fine", "full", "sft", "llm rl", "distill")),
    ("batch-inference", ("batch inf", "offline", "nlp inf", "embed", "llm eval", "quantize")),
    ("whisper", ("whisper", "speech", "asr", "transcri")),
    ("video", ("video",)),
    ("diffusion", ("diffusion", "image gen", "text to image", "image upscale")),
    ("pretrain", ("pretrain", "pre train")),
    ("cv-train", ("cv train", "cv fine")),
    ("cv-inference", ("cv inf", "detect", "ocr")),
    ("render", ("render",)),
    ("inference-serving", ("serving", "serve")),
    ("inference", ("infer", "generat", "chat")),
    ("cv-train", ("vision", "classif")),
    ("full-ft", ("finetun", "fine tun", "train")),
    ("nlp-train", ("nlp",)),
    ("notebook", ("notebook", "teach")),
)
_TEXTS = (
    "model",
    "precision",
    "quant",
    "optimizer",
    "attention",
    "framework",
    "parallelism",
    "gpu",
    "mem_metric",
    "unit",
)
SEQ_MAX, BATCH_MAX, GPUS_MAX, PARAMS_B_MAX = 100_000_000, 1_000_000, 100_000, 100_000.0


@dataclass(frozen=True, slots=True)
class Job:
    """The columns of memory.csv and speed.csv. None or "" means that the text does not say.

    `params_b` is in billions; `seq_len` in tokens (a word such as "alpaca" stays in `data`); `batch` is per GPU;
    `per_gpu` is "y" or "n" when a speed is asked for one GPU or for all; `unit` is the unit asked for ("GB" or "GiB"
    for memory, "tokens/s" and the like for speed).
    """

    task: str = ""
    model: str = ""
    params_b: float | None = None
    precision: str = ""
    quant: str = ""
    optimizer: str = ""
    seq_len: int | None = None
    data: str = ""
    frame: Frame | None = None
    batch: int | None = None
    grad_ckpt: str = ""
    attention: str = ""
    framework: str = ""
    n_gpus: int | None = None
    parallelism: str = ""
    gpu: str = ""
    mem_metric: str = ""
    unit: str = ""
    metric: str = ""
    per_gpu: str = ""
    lora_rank: int | None = None
    shape: Shape | None = None

    def on(self, gpu: str) -> Self:
        """The same job on another GPU."""
        return replace(self, gpu=gpu)


def job_from_row(row: Mapping[str, object]) -> Job:
    """A job from one row: a dict with any of the columns, whose numbers may be text and whose blanks mean "unknown".

    A `config` key may hold the object of a Hugging Face config.json.

    Raises:
        BadInput: the row is no object, or a number in it is out of bounds.
    """
    if not isinstance(row, Mapping):
        raise BadInput("a workload line must be a JSON object with the columns of memory.csv")
    data = text_of(row, "seq_len")
    seq = number(row.get("seq_len")) if data else None
    if seq is None and data and frame_in(data) is None:
        seq = leading_number(data)
    batch_text = text_of(row, "batch")
    batch = number(row.get("batch"))
    batch = batch if batch is not None else first_number(batch_text)
    config = row.get("config")
    return Job(
        **{name: text_of(row, name) for name in _TEXTS},
        task=task_named(text_of(row, "task")),
        params_b=_bounded("params_b", _billions(row), PARAMS_B_MAX),
        seq_len=_whole("seq_len", seq, SEQ_MAX),
        data=data if number(row.get("batch")) is not None else f"{data} {batch_text}".strip(),
        frame=frame_in(f"{data} {batch_text}"),
        batch=_whole("batch", batch, BATCH_MAX),
        grad_ckpt=_checkpointing(text_of(row, "grad_ckpt")),
        n_gpus=_whole("n_gpus", number(row.get("n_gpus")), GPUS_MAX),
        metric=text_of(row, "metric"),
        per_gpu=text_of(row, "per_gpu").lower()[:1],
        lora_rank=_whole("lora_rank", number(row.get("lora_rank")), 65_536),
        shape=shape_of_config(config) if isinstance(config, Mapping) else None,
    )


def task_named(text: str) -> str:
    """The task a text means, or "" when it means none: "QLoRA fine-tuning" → "qlora"."""
    low = text.strip().lower()
    if low in TASKS:
        return low
    plain = low.replace("_", " ").replace("-", " ")
    return next((task for task, words in _TASK_WORDS if any(word in plain for word in words)), "")


def _billions(row: Mapping[str, object]) -> float | None:
    value = number(row.get("params_b"))
    if value is None:
        return params_in_name(text_of(row, "params_b"))
    return value / 1e9 if value >= 1e6 else value


def _bounded(name: str, value: float | None, most: float) -> float | None:
    if value is None:
        return None
    if not 0 < value <= most:
        raise BadInput(f"{name} is {value:g}; give a number above 0 and at most {most:g}, or leave it blank")
    return value


def _whole(name: str, value: float | None, most: int) -> int | None:
    bounded = _bounded(name, value, most)
    return None if bounded is None else max(1, round(bounded))


def _checkpointing(text: str) -> str:
    low = text.lower()
    if low in {"", "unknown"} or "/" in low:
        return ""
    if low.startswith("sel"):
        return "selective"
    if low.startswith(("y", "t", "1", "full", "on", "unsloth", "s")):
        return "yes"
    return "no"
