"""Pace of a training: seconds per token from products, attention, memory traffic, launches and communication."""

from dataclasses import dataclass

from dumont.advisor.catalogue import Gpu
from dumont.advisor.estimate.part import Part
from dumont.advisor.estimate.rate import attention_tflops, link_gbs, product_tflops, traffic_gbs
from dumont.advisor.estimate.training import layer_bytes, trainable
from dumont.advisor.plan import Plan

TRAFFIC_PER_KEPT_BYTE = 2.5
SLOW_UNPACK_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Passes:
    """How often a token goes through the model: forward, recomputed forward, and backward by input and by weight."""

    forward: float
    backward: float

    @property
    def total(self) -> float:
        """All passes, in units of one forward."""
        return self.forward + self.backward


def passes_of(plan: Plan) -> Passes:
    """A backward pass costs two forwards, one when weights are frozen (arXiv:2205.05198, arXiv:2106.09685)."""
    again = {"yes": 1.0, "selective": 0.2}.get(plan.checkpointing, 0.0)
    return Passes(1.0 + again, 1.0 if plan.task in {"lora", "qlora"} else 2.0)


def training_seconds(plan: Plan, gpu: Gpu) -> tuple[Part, ...]:
    """Seconds of one micro-batch on one GPU, by cause; products, attention and traffic follow each other, launches
    and communication overlap with them.
    """
    shape, passes, parallel = plan.transformer, passes_of(plan), plan.parallel
    share = 1.0 / (parallel.tensor * parallel.pipeline)
    tokens = plan.tokens
    stages = parallel.pipeline
    fp8 = plan.precision.fp8
    rate = product_tflops(gpu, fp8=fp8, fp32=plan.precision.name == "fp32") * 1e12 * plan.framework.mfu
    dense = 2.0 * (shape.active - shape.embedding + (0 if shape.encoder else shape.head))
    products = tokens * dense * passes.total * share / rate
    scored = 4.0 * shape.blocks * shape.heads * shape.head_dim * plan.seq_len * (1.0 if shape.encoder else 0.5)
    attention = (
        tokens
        * scored
        * (passes.total + 0.5)
        * share
        / (attention_tflops(gpu, plan.attention, first=plan.framework.first_flash) * 1e12)
    )
    kept = layer_bytes(plan, shape) * shape.blocks
    logits = 0.0 if shape.encoder else shape.vocab * plan.framework.logit_bytes
    moved = tokens * TRAFFIC_PER_KEPT_BYTE * (kept * (passes.forward + passes.backward) + 2 * logits) * share
    moved += tokens * _adapter_traffic(plan) * passes.total * share
    if plan.precision.compiled:
        moved *= 0.6
    traffic = moved / (traffic_gbs(gpu) * 1e9)
    unpack = _unpacking(plan, gpu, passes) * share
    busy = products + attention + traffic + unpack
    launches = max(0.0, _launches(plan, passes) * share - busy)
    parts = [
        Part("products", products, f"{tokens} tokens × {dense / 1e9:.1f} GFLOP × {passes.total:g}", "arXiv:2205.05198"),
        Part("attention", attention, f"{scored / 1e9:.2f} GFLOP per token", "arXiv:2307.08691"),
        Part("memory traffic", traffic, f"{moved / 1e9:.0f} GB", "roofline, doi:10.1145/1498765.1498785"),
        Part("unpacking weights", unpack, f"{plan.quant.bits:g} bit", "bitsandbytes, AutoGPTQ kernels"),
        Part("launches", launches, "kernels launched one by one", plan.framework.source),
        Part("communication", _exposed(plan, gpu, busy), "what does not overlap", "arXiv:1910.02054, PyTorch FSDP"),
        Part("pipeline bubble", busy * (stages - 1) / (8 * stages), "(p - 1) / m", "arXiv:2104.04473"),
    ]  # fmt: skip
    return tuple(part for part in parts if part.amount > 0)


def _adapter_traffic(plan: Plan) -> float:
    """Bytes per token and pass that adapters move: their input is read, dropped out and written, their output
    written, read and added to the layer's (PEFT LoraLayer.forward), in 16 bit.
    """
    shape = plan.transformer
    if plan.task not in {"lora", "qlora"} or not plan.framework.lora_dropout:
        return 0.0
    query, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    inputs, outputs = shape.hidden, query + kv
    if plan.framework.lora_all:
        inputs, outputs = (
            2 * shape.hidden + query + shape.ffn_active,
            2 * shape.hidden + query + 2 * (kv + shape.ffn_active),
        )
    return shape.blocks * (4.0 * inputs + 8.0 * outputs)


def _unpacking(plan: Plan, gpu: Gpu, passes: Passes) -> float:
    """Quantised weights are expanded to 16 bit in every pass: read packed, write and read 16 bit. The training
    kernels of AutoGPTQ reach about a fifth of the memory's rate, those of bitsandbytes about half.
    """
    if not plan.quant.active or plan.quant.kernel == "native":
        return 0.0
    size = plan.transformer.linear * (plan.quant.bits / 8 + 4.0)
    share = 0.5 if plan.quant.kernel == "bnb" else SLOW_UNPACK_SHARE
    return size * passes.total / (gpu.bandwidth * 1e9 * share)


def _launches(plan: Plan, passes: Passes) -> float:
    """Python launches each kernel: one forward's time per block, half as much again for adapters and for 4-bit
    layers.
    """
    per_layer = plan.framework.launch_us * 1e-6
    if plan.task in {"lora", "qlora"}:
        per_layer *= 1.4
    if plan.quant.kernel == "bnb":
        per_layer *= 1.5
    if plan.precision.compiled:
        per_layer *= 0.4
    return per_layer * plan.transformer.blocks * (passes.forward + 2.0)


def _exposed(plan: Plan, gpu: Gpu, busy: float) -> float:
    """Communication that computing does not hide: sharded weights are gathered in every pass, gradients are reduced
    once.

    FSDP overlaps with computation; the first gather and a quarter of the rest stay visible. Tensor parallelism
    reduces twice per block and pass and hides nothing (arXiv:1909.08053).
    """
    parallel, shape = plan.parallel, plan.transformer
    gpus = min(parallel.gpus, 8)
    if parallel.gpus == 1:
        return 0.0
    link = link_gbs(gpu, parallel.gpus) * 1e9
    packed = plan.quant.bits / 8 if plan.quant.active and plan.quant.kernel != "native" else 2.0
    gathered = 0.0
    if parallel.stage >= 3:
        times = passes_of(plan).forward + 1.0
        gathered = (shape.linear * packed + shape.embedding * 2) * times * (gpus - 1) / gpus
    scattered = 2.0 * trainable(plan).params * 2 * (gpus - 1) / gpus / (1 if not plan.framework.accumulates else 4)
    shared = (gathered + scattered) / (parallel.tensor * parallel.pipeline) / link
    if parallel.offload:
        shared += shape.params * packed * 2 / (PCIE_HOST_GBS * 1e9)
    hidden = max(0.0, shared - 0.75 * busy) + 0.1 * min(shared, busy)
    tensor = 0.0
    if parallel.tensor > 1:
        tensor = 4 * shape.layers * plan.tokens * shape.hidden * 2 / parallel.pipeline / link
    return hidden + tensor


PCIE_HOST_GBS = 12.0
