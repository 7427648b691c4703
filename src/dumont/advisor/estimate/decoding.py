"""Pace of generation: seconds per token of a stream or a batch, and of reading a prompt."""

from dumont.advisor.catalogue import Gpu
from dumont.advisor.estimate.inference import cache_bytes_per_token, cached_tokens
from dumont.advisor.estimate.part import Part
from dumont.advisor.estimate.rate import attention_tflops, product_tflops, unpacking_tflops, vector_gbs
from dumont.advisor.plan import Plan

GRAPH_US = 15.0
MIXTURE_US = 45.0
UNPACKING_REACH = 0.75
HOP_US = 12.0


def step_bytes(plan: Plan, streams: float) -> float:
    """Bytes of weights that one step reads: all of a dense model; of a mixture, the experts that `streams` tokens
    choose.

    Each token picks k of E experts; n tokens leave (1 - k/E)^n of them untouched.
    """
    shape, quant = plan.transformer, plan.quant
    width = (
        quant.bits / 8 if quant.active else float(plan.precision.weight_bytes if plan.precision.name != "fp8" else 1)
    )
    read = shape.active - (0.0 if shape.tied else shape.head)
    if shape.experts:
        untouched = (1 - shape.experts_active / shape.experts) ** streams
        read = shape.active + (shape.params - shape.active) * max(
            0.0, 1 - untouched - shape.experts_active / shape.experts
        )
        read = min(read, shape.params)
    linear = max(0.0, read - shape.head)
    return linear * width + shape.head * (width if quant.whole_file or not quant.active else 2.0)


def step_seconds(plan: Plan, gpu: Gpu, streams: float) -> tuple[Part, ...]:
    """Seconds of one decoding step for `streams` sequences (roofline: weights and cache are read once, products for
    all).
    """
    shape, parallel = plan.transformer, plan.parallel
    rate = vector_gbs(gpu, plan) * 1e9
    packed = plan.quant.kernel == "fused" and not plan.quant.whole_file
    split = parallel.tensor
    read = step_bytes(plan, streams)
    weights = read / (rate * (UNPACKING_REACH if packed else 1.0)) / split
    depth = cached_tokens(plan) / (2 if plan.seq_len > 1 else 1)
    cache = cache_bytes_per_token(plan) * depth * streams / rate / min(split, max(1, shape.kv_heads))
    eighth = plan.precision.fp8 or plan.quant.kernel == "native"
    products = 2.0 * shape.active * streams / (0.6 * product_tflops(gpu, fp8=eighth) * 1e12) / split
    if plan.quant.kernel == "fused" and streams >= 8:
        products *= 1.5  # unpacking inside the product
    busy = max(weights, products) + cache
    launched = _launched(plan)
    visible = launched if plan.framework.launch_us <= 100 else max(0.0, launched - busy)
    hops = 2 * shape.layers * HOP_US * 1e-6 if split > 1 else 0.0
    return (
        Part("weights and products", max(weights, products), f"{read / 1e9:.1f} GB read", "roofline"),
        Part("cache", cache, f"{depth:.0f} tokens × {streams:g}", "arXiv:2305.13245"),
        Part("launches", visible, "kernels of each block", plan.framework.source),
        Part("reductions between GPUs", hops, "two per block", "arXiv:1909.08053"),
    )  # fmt: skip


def _launched(plan: Plan) -> float:
    """Launch time of one step: Python starts every kernel; graphs and C++ loops leave some microseconds per block."""
    per_layer = max(plan.framework.launch_us, GRAPH_US)
    if plan.transformer.experts:
        per_layer += MIXTURE_US  # router, top-k, permutation, grouped products and their way back
    if plan.quant.whole_file:
        per_layer *= 2.5  # activations are quantised before each product (llama.cpp quantize_q8_1)
    if plan.quant.kernel == "bnb" and plan.framework.launch_us > 100:
        per_layer *= 1.5
    return per_layer * 1e-6 * plan.transformer.blocks


def prompt_seconds(plan: Plan, gpu: Gpu, tokens: float) -> float:
    """Seconds to read a prompt: products at the rate of large matrices, attention, and unpacking in quantised loops."""
    shape = plan.transformer
    fused = plan.quant.active and plan.quant.kernel == "fused"
    eighth = plan.precision.fp8 or plan.quant.kernel == "native"
    rate = unpacking_tflops(gpu) if fused else 0.75 * product_tflops(gpu, fp8=eighth)
    products = 2.0 * (shape.active - shape.embedding + shape.head) * tokens / (rate * 1e12)
    scored = 2.0 * shape.blocks * shape.heads * shape.head_dim * tokens * tokens / (attention_tflops(gpu, "") * 1e12)
    return max((products + scored) / plan.parallel.tensor, _launched(plan))
