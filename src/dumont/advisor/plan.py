"""A plan: a job with every unknown filled in, each filled-in value named as an assumption the user can change."""

from dataclasses import dataclass, replace

from dumont.advisor.catalogue import Catalogue, Pipeline, Vision
from dumont.advisor.framework import Framework, framework_named
from dumont.advisor.job import Job
from dumont.advisor.notation import active_in_name, params_in_name
from dumont.advisor.numerics import Optimizer, Precision, Quantisation, optimizer, precision, quantisation
from dumont.advisor.parallel import Parallel, parallel
from dumont.advisor.shape import Shape, shape_of_size
from dumont.errors import BadInput

TRAINING = {"full-ft", "lora", "qlora", "pretrain", "nlp-train"}
SERVING = {"inference", "inference-serving", "batch-inference"}
PICTURES = {"diffusion", "video", "diffusion lora", "diffusion full-ft"}
VISION = {"cv-train", "cv-inference"}
ALPACA_TOKENS = 512  # the Alpaca template cut at 512: longest samples of a shuffled epoch reach it
SHORT_TOKENS = 64  # a tweet and its label


@dataclass(frozen=True, slots=True)
class Assumption:
    """A value that a job leaves open, by the job's field name; a shell says it in the user's language."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A job whose every number is known or assumed. `tokens` are those of one GPU's micro-batch."""

    job: Job
    task: str
    framework: Framework
    precision: Precision
    quant: Quantisation
    optimizer: Optimizer
    parallel: Parallel
    seq_len: int
    batch: int
    checkpointing: str
    attention: str
    shape: Shape | None = None
    pipeline: Pipeline | None = None
    vision: Vision | None = None
    params_b: float = 0.0
    assumptions: tuple[Assumption, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens of one micro-batch on one GPU; a pipeline cuts its batch into four micro-batches per stage."""
        stages = self.parallel.pipeline
        batch = self.batch if stages == 1 else max(1, self.batch // (4 * stages))
        return max(1, self.seq_len * batch // self.parallel.context)

    @property
    def quadratic(self) -> bool:
        """Whether attention stores its scores (no fused kernel)."""
        return self.attention.startswith("eager") or self.attention == "math"

    @property
    def transformer(self) -> Shape:
        """The shape of the language model.

        Raises:
            BadInput: neither model, size nor config.json is known.
        """
        if self.shape is None:
            raise BadInput("the model is unknown: give a model name, params_b or a config.json")
        return self.shape


def plan_of(job: Job, catalogue: Catalogue) -> Plan:
    """Fills in what a job leaves open.

    Raises:
        BadInput: the job names no model and no size, so nothing can be computed.
    """
    task = job.task or _task_of(job, catalogue)
    framework = framework_named(job.framework)
    assumed: list[Assumption] = [] if job.task else [Assumption("task", task)]
    training = task in TRAINING or task in {"diffusion lora", "diffusion full-ft", "cv-train"}
    plan = Plan(
        job=job,
        task=task,
        framework=framework,
        precision=precision(job.precision),
        quant=quantisation(_quant_text(job, task), job.precision),
        optimizer=optimizer(job.optimizer),
        parallel=parallel(job.parallelism, job.n_gpus, training),
        seq_len=_seq_len(job, task, assumed),
        batch=_batch(job, framework, training, assumed),
        checkpointing=_checkpointing(job, framework, training, assumed),
        attention=job.attention.lower(),
    )
    plan = _with_model(plan, catalogue, assumed)
    if training and not job.optimizer:
        assumed.append(Assumption("optimizer", "AdamW"))
    if not job.precision and task != "render":
        assumed.append(Assumption("precision", "bf16"))
    return replace(plan, assumptions=tuple(assumed))


def _quant_text(job: Job, task: str) -> str:
    if task == "qlora" and not job.quant:
        return "nf4"
    if task in SERVING and not job.quant and ("fp8" in job.precision.lower() or "int8" in job.precision.lower()):
        return job.precision
    double = "torchtune" in job.framework.lower() or "dq" in job.quant.lower()
    return f"{job.quant} dq" if double and job.quant else job.quant


def _task_of(job: Job, catalogue: Catalogue) -> str:
    if job.frame is not None or catalogue.pipeline(job.model) is not None:
        pipeline = catalogue.pipeline(job.model)
        return pipeline.kind.replace("image", "diffusion") if pipeline else "diffusion"
    if "whisper" in job.model.lower():
        return "whisper"
    if "blender" in job.model.lower() or "octane" in job.model.lower():
        return "render"
    if job.optimizer or job.grad_ckpt:
        return "qlora" if job.quant else "full-ft"
    known = catalogue.model(job.model)
    if known is None and catalogue.vision(job.model) is not None:
        return "cv-inference"
    return "inference"


def _seq_len(job: Job, task: str, assumed: list[Assumption]) -> int:
    if job.seq_len:
        return job.seq_len
    low = job.data.lower()
    if "alpaca" in low:
        return ALPACA_TOKENS
    if "short" in low:
        return SHORT_TOKENS
    if task in TRAINING | SERVING:
        assumed.append(Assumption("seq_len", "2048"))
    return 2048


def _batch(job: Job, framework: Framework, training: bool, assumed: list[Assumption]) -> int:
    """The stated batch, else the framework's own default (TrainingArguments: 8 per device), else one that is usual."""
    if job.batch:
        return job.batch
    default = 4 if training and job.task in {"cv-train", "nlp-train"} else 1
    if job.task in TRAINING and framework.default_batch:
        default = framework.default_batch
    if "max" in job.data.lower():
        default = 64
    assumed.append(Assumption("batch", str(default)))
    return default


def _checkpointing(job: Job, framework: Framework, training: bool, assumed: list[Assumption]) -> str:
    if job.grad_ckpt or not training:
        return job.grad_ckpt or "no"
    usual = framework.checkpointing
    if framework.checkpoints_shards and (job.n_gpus or 1) > 1:
        usual = "yes"
    assumed.append(Assumption("grad_ckpt", usual))
    return usual


def _with_model(plan: Plan, catalogue: Catalogue, assumed: list[Assumption]) -> Plan:
    """The plan with the model's dimensions: config.json first, then the catalogue, then the stated size, then the
    name.
    """
    job, task = plan.job, plan.task
    if task == "render":
        return plan
    if task in PICTURES:
        return replace(plan, pipeline=_pipeline(job, catalogue), params_b=job.params_b or 0.0)
    if task in VISION and (vision := _vision(job, catalogue)) is not None:
        return replace(plan, vision=vision, params_b=vision.params_b)
    shape = job.shape or _shape(job, catalogue, task, assumed)
    if shape is None:
        raise BadInput("the model is unknown: give a model name, params_b or a config.json")
    return replace(plan, shape=shape, params_b=shape.params / 1e9)


def _pipeline(job: Job, catalogue: Catalogue) -> Pipeline:
    """The named pipeline, or one of the stated size with a T5-XXL text encoder, as most large open ones have."""
    known = catalogue.pipeline(job.model)
    if known is not None:
        return known
    size = job.params_b or params_in_name(job.model)
    if size is None:
        raise BadInput("the diffusion model is unknown: give its name or params_b of its denoiser")
    kind = "video" if job.task == "video" else "image"
    model = catalogue.pipeline(
        "HunyuanVideo" if kind == "video" else "SD3.5-large" if size > 1.5 else "stable-diffusion-1.5"
    )
    assert model is not None, "the catalogue ships these pipelines"
    ratio = size / model.denoiser_b
    return replace(
        model,
        name=job.model or f"{size:g}B",
        denoiser_b=size,
        tflop_per_step=model.tflop_per_step * ratio,
        hidden=round(model.hidden * ratio ** (1 / 3)),
    )


def _vision(job: Job, catalogue: Catalogue) -> Vision | None:
    known = catalogue.vision(job.model)
    if known is not None:
        return known
    size = job.params_b or params_in_name(job.model)
    if size is None and catalogue.model(job.model) is None:
        raise BadInput("the vision network is unknown: give its name or params_b")
    if size is None:
        return None
    nearest = min(catalogue.visions, key=lambda item: max(item.params_b / size, size / item.params_b))
    ratio = size / nearest.params_b
    return replace(nearest, name=job.model, params_b=size, gflops=nearest.gflops * ratio)


def _shape(job: Job, catalogue: Catalogue, plan_task: str, assumed: list[Assumption]) -> Shape | None:
    name = f"whisper-{job.model}" if plan_task == "whisper" and "whisper" not in job.model.lower() else job.model
    known = catalogue.model(name)
    size = job.params_b or params_in_name(job.model)
    if known is not None and known.shape is not None:
        return known.shape.scaled_to(job.params_b) if job.params_b else known.shape
    if size is None and known is not None:
        size = known.params_b
    if size is None:
        return None
    assumed.append(Assumption("model", f"a common {size:g} B model"))
    return shape_of_size(size, active_in_name(job.model))
