"""Memory of a training: weights, gradients, optimizer states, activations, logits and what sharding gathers.

The peak is the largest of three moments: the loss (kept activations and logits are there), the backward pass of one
block (the logits are gone, the block's activations are there) and the optimizer step (all gradients, no activations).
"""

from dataclasses import dataclass

from dumont.advisor.estimate.part import GB, Part
from dumont.advisor.estimate.sharding import (
    ADAPTED,
    buckets,
    by_parameter,
    gathered_hidden,
    gathered_layers,
    loading,
    root_unit,
    sharded_whole,
)
from dumont.advisor.plan import Plan
from dumont.advisor.shape import Shape

RANK_DEFAULT_SOURCE = "arXiv:2106.09685"


@dataclass(frozen=True, slots=True)
class Trainable:
    """What is trained: parameters in all, and those of adapters alone (0 in full fine-tuning)."""

    params: float
    adapters: float


def training_parts(plan: Plan) -> tuple[Part, ...]:
    """The parts that are in memory at the peak of a training step, in GB per GPU."""
    shape = plan.transformer
    trained = trainable(plan)
    weights = weight_part(plan)
    states = _states(plan, trained)
    gradients = _gradients(plan, trained)
    gathered = gathered_layers(plan, shape)
    activations = _activations(plan, shape)
    logits = _logits(plan, shape)
    held = gradients if plan.framework.accumulates or plan.parallel.stage in (1, 2) else _zero(gradients)
    kept = [part for part in activations if part.name != "one block recomputed"]
    loss = [weights, states, held, root_unit(plan, shape, at_loss=True), *kept, gathered_hidden(plan, shape), logits]
    block = [weights, states, held, gathered, root_unit(plan, shape, at_loss=False), *activations]
    step = [weights, states, gradients, _step(plan, trained)]
    peak = max(loss, block, step, loading(plan, weights), key=lambda parts: sum(part.amount for part in parts))
    return tuple(part for part in [*peak, *_extras(plan)] if part.amount > 0)


def _zero(part: Part) -> Part:
    return Part(part.name, 0.0, part.formula, part.source)


def trainable(plan: Plan) -> Trainable:
    """Parameters that get gradients. LoRA adds r · (in + out) per adapted matrix (arXiv:2106.09685, section 4)."""
    shape = plan.transformer
    if plan.task not in ADAPTED:
        untied = shape.head if plan.framework.unties and shape.tied else 0.0
        return Trainable(shape.params + untied, 0.0)
    rank = plan.job.lora_rank or plan.framework.lora_rank
    query, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    ends = 2 * shape.hidden + query + kv
    if plan.framework.lora_all:
        ends = 4 * shape.hidden + 2 * query + 2 * kv
        if not shape.experts:
            ends += (3 if shape.gated else 2) * (shape.hidden + shape.ffn)
    adapters = float(rank * ends * shape.blocks)
    return Trainable(adapters, adapters)


def weight_width(plan: Plan) -> int:
    """Bytes of a trained weight as it is held. Accelerate raises trained parameters to fp32 under FSDP with mixed
    precision (its FSDP guide); torchtitan's fp32 weights are counted as the master's.
    """
    if plan.task not in ADAPTED:
        as_loaded = plan.framework.fsdp2_as_loaded and by_parameter(plan)
        if plan.framework.accelerate and plan.parallel.stage == 3 and not as_loaded:
            return 4
        if plan.framework.master and not plan.precision.mixed:
            return 0 if plan.framework.master_is_weight else 2
    return plan.precision.weight_bytes


def weight_part(plan: Plan) -> Part:
    """Weights: linear layers in the quantised width, embeddings and head in 16 bit (bitsandbytes, GPTQ and AWQ leave
    them).

    With fp32 master weights the 16-bit copy is counted here and the master with the optimizer states
    (arXiv:1710.03740).
    """
    shape, quant = plan.transformer, plan.quant
    width = weight_width(plan)
    other = 4 if plan.framework.kbit_fp32 and quant.active and plan.task == "qlora" else max(2, min(width or 2, 4))
    if quant.active and (quant.whole_file or quant.kernel != "native" or plan.task != "pretrain"):
        packed = shape.params if quant.whole_file else shape.linear
        if plan.framework.packs_head:
            packed += 0.0 if shape.tied else shape.head
        if not quant.experts and shape.experts:
            # fused experts are no nn.Linear: they stay whole, and PEFT's preparation raises what is not quantised to
            # fp32
            packed, other = shape.blocks * shape.attention_params, 4 if plan.task == "qlora" else 2
        size = packed * quant.bits / 8 + (shape.params - packed) * other
        formula = f"{packed / 1e9:.2f} B × {quant.bits:g} bit + {(shape.params - packed) / 1e9:.2f} B × {other} B"
    else:
        size, formula = shape.params * width, f"{shape.params / 1e9:.2f} B × {width} B"
    if plan.framework.unties and shape.tied:
        size += shape.head * (
            quant.bits / 8 if quant.active and plan.framework.packs_head else 2
        )  # LitGPT's checkpoints hold the head as a tensor of its own (convert_hf_checkpoint.py)
    adapters = trainable(plan).adapters * 2 if plan.task in ADAPTED else 0.0
    offloaded = plan.parallel.offload and plan.parallel.stage >= 3
    held = 0.0 if offloaded else (size + adapters) / plan.parallel.weights
    return Part(
        "weights",
        held / GB,
        f"({formula} + adapters) / {plan.parallel.weights:g}",
        "arXiv:2305.14314, arXiv:1910.02054",
    )


def _states(plan: Plan, trained: Trainable) -> Part:
    """Optimizer states, and the fp32 master weights that mixed precision keeps (ZeRO: 4 + 4 + 4 bytes,
    arXiv:1910.02054).
    """
    kind = plan.optimizer
    width = kind.state_bytes or _state_width(plan)
    master = 4.0 if plan.framework.master and not plan.precision.mixed else 0.0
    away = kind.paged or kind.offloaded or plan.parallel.offload
    size = 0.0 if away else trained.params * (kind.states * width + master) / plan.parallel.states
    per = f"{kind.states:g} × {width:g} B + {master:g} B master"
    formula = f"{trained.params / 1e9:.3f} B × ({per}) / {plan.parallel.states:g}"
    return Part(
        "optimizer states", size / GB, "paged or offloaded" if away else formula, "arXiv:1412.6980, arXiv:2110.02861"
    )


def _state_width(plan: Plan) -> float:
    """torch.optim makes states with zeros_like(parameter): as wide as the trained weights."""
    if plan.framework.master:
        return 4.0
    adapters_fp32 = plan.task in ADAPTED and plan.framework.adapters_fp32
    return 4.0 if adapters_fp32 else float(weight_width(plan))


def _gradients(plan: Plan, trained: Trainable) -> Part:
    """Gradients as wide as the weights (torch.autograd); DeepSpeed flattens them once more before the step."""
    if plan.parallel.offload and sharded_whole(plan):
        return Part("gradients", 0.0, "in the host's memory", "PyTorch FSDP CPUOffloadPolicy")
    if plan.optimizer.fused_in_backward or plan.parallel.offload:
        size = plan.transformer.layer * plan.precision.weight_bytes
        return Part("gradients", size / GB, "one layer at a time", "torch Tensor.register_post_accumulate_grad_hook")
    width = 4 if plan.framework.master_is_weight else max(2, weight_width(plan))
    divisor = plan.parallel.gradients
    if plan.framework.whole_gradients and plan.parallel.stage == 3:
        divisor = 1.0  # gradient accumulation under FSDP's no_sync keeps whole gradients (PyTorch FSDP documentation)
    size = trained.params * width / divisor
    return Part("gradients", size / GB, f"{trained.params / 1e9:.3f} B × {width} B / {divisor:g}", "torch.autograd")


def _step(plan: Plan, trained: Trainable) -> Part:
    """The optimizer step's own memory: DeepSpeed copies gradients to a flat buffer and to fp32 before it updates
    (stage_1_and_2.py: flatten, then .to(float)); stage 3 works in sub-groups of 1e9.
    """
    if not plan.framework.flat_gradients or plan.parallel.offload:
        return Part("optimizer step", 0.0, "in place", "torch.optim foreach=False")
    per_gpu = trained.params / plan.parallel.states
    size = min(per_gpu, 1e9) * 4 if plan.parallel.stage == 3 else per_gpu * 6
    return Part("optimizer step", size / GB, "flat and fp32 copies of the gradients", "DeepSpeed stage_1_and_2.py")


def layer_bytes(plan: Plan, shape: Shape) -> float:
    """Bytes of activations per token that one block keeps for its backward pass.

    After arXiv:2205.05198 (34 · h without fused kernels), restated per tensor: two normalisation inputs, query, key,
    value and attention output, and the feed-forward's inner tensors. Frozen weights need no saved input, adapters
    save theirs; unfused normalisation keeps an fp32 copy; unfused attention keeps scores and probabilities of every
    head.
    """
    wide = plan.precision.act_bytes
    if plan.framework.bnb_fp32 and plan.quant.active:
        wide = 4
    frozen = plan.task in ADAPTED
    norms = shape.hidden * 2 * (wide if plan.framework.fused_norm or plan.precision.compiled else max(wide, 4))
    query, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    grouped = plan.framework.fused_norm or plan.attention.startswith("flash")  # other kernels get repeated heads
    kv_kept = kv if grouped else query
    attention = wide * (2 * query + 2 * kv_kept)
    inner = shape.ffn_active * wide * ((2 if plan.precision.compiled else 3) if shape.gated else 1)
    inputs = _adapter_inputs(plan, shape, wide) if frozen else wide * (2 * shape.hidden + shape.ffn_active)
    scores = 0.0
    if plan.quadratic:
        scores = shape.heads * plan.seq_len * (11 if plan.precision.mixed else 7 if wide == 2 else 9)
    dropout = 2 * shape.hidden if shape.encoder or shape.two_stacks else 0
    return norms + attention + inner + inputs + scores + dropout + (wide * shape.hidden if frozen else 0)


def _adapter_inputs(plan: Plan, shape: Shape, wide: int) -> float:
    """Bytes per token that a block's adapters keep for their weights' gradient: their input, or what dropout left of
    it beside a mask of one byte. PEFT drops every adapter's input by itself (tuners/lora/layer.py), others once for
    query, key and value.
    """
    drops = plan.framework.lora_dropout
    dropped = wide + 1 if drops else 0
    everywhere = plan.framework.lora_all
    if plan.framework.own_dropout and drops:
        size = float((5 if everywhere else 2) * dropped * shape.hidden)
        if everywhere:
            size += dropped * (shape.heads * shape.head_dim + (0 if shape.experts else shape.ffn_active))
        return size
    size = float((2 if everywhere else 1) * (wide + dropped) * shape.hidden)
    return size + (wide * shape.ffn_active if everywhere and not shape.experts and drops else 0)


def _activations(plan: Plan, shape: Shape) -> list[Part]:
    """Kept activations. Full checkpointing keeps each block's input and, one at a time, a recomputed block
    (arXiv:1604.06174); selective keeps about half (every second product, torchtitan).
    """
    layers = shape.blocks / plan.parallel.pipeline
    in_flight = plan.parallel.pipeline  # 1F1B keeps as many micro-batches as stages (arXiv:2104.04473)
    per_layer = layer_bytes(plan, shape) * plan.tokens / plan.parallel.tensor
    boundary = shape.hidden * plan.precision.act_bytes * plan.tokens / plan.parallel.tensor
    if plan.framework.bnb_fp32 and plan.quant.active:
        boundary *= 2
    if plan.checkpointing == "yes":
        kept = 0.05 * layers * boundary if plan.framework.host_checkpoints else layers * boundary * in_flight
        return [
            Part("checkpoints", kept / GB, f"{layers:g} blocks × {plan.tokens} tokens × hidden", "arXiv:1604.06174"),
            Part("one block recomputed", per_layer / GB, "activations of one block", "arXiv:2205.05198"),
        ]
    share = 0.5 if plan.checkpointing == "selective" else 1.0
    size = (layers * share * per_layer + (1 - share) * layers * boundary) * in_flight
    return [Part("activations", size / GB, f"{layers:g} blocks × {plan.tokens} tokens × {share:g}", "arXiv:2205.05198")]


def _logits(plan: Plan, shape: Shape) -> Part:
    """Logits of the vocabulary at the peak of the loss, its backward pass: log-probabilities and two gradients in
    fp32; chunked or fused losses keep less (arXiv:2411.09009). Encoders that classify have none.
    """
    if shape.encoder or plan.task == "nlp-train":
        return Part("logits", 0.0, "a classifier's head", "arXiv:1810.04805")
    per = plan.framework.logit_bytes
    if plan.framework.kbit_fp32 and plan.quant.active:
        per = max(8.0, per - 6.0)  # the head is fp32 already: no 16-bit product, no copy raised to fp32
    size = plan.tokens * shape.vocab * per / plan.parallel.tensor
    return Part("logits", size / GB, f"{plan.tokens} tokens × {shape.vocab} × {per:g} B", "arXiv:2411.09009")


def _extras(plan: Plan) -> list[Part]:
    """Communication buckets, and the 16-bit copy of the widest matrix that bitsandbytes makes before each product."""
    shape = plan.transformer
    parts = [buckets(plan)]
    if plan.precision.mixed and plan.precision.stated and plan.parallel.stage < 3:
        parts.append(
            Part("16-bit weight copies", 2 * shape.params / GB, "autocast's cache", "torch.autocast documentation")
        )
    if plan.quant.kernel == "bnb":
        size = 2.0 * shape.hidden * shape.ffn
        parts.append(
            Part("expanded weights", size / GB, "widest matrix × 2 B", "bitsandbytes functional.dequantize_4bit")
        )
    return parts
