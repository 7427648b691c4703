"""Memory of sharding: the layers and the root unit that FSDP and ZeRO-3 gather, and the buffers through which they do
so.
"""

from dumont.advisor.estimate.part import GB, Part
from dumont.advisor.plan import Plan
from dumont.advisor.shape import Shape

ADAPTED = {"lora", "qlora"}
REDUCE_BUCKET = 5e8  # elements: DeepSpeed's default for reduce_bucket_size (its configuration page)


def sharded_whole(plan: Plan) -> bool:
    """Whether weights are divided over several GPUs and gathered for use."""
    return plan.parallel.stage >= 3 and plan.parallel.shards > 1


def by_deepspeed(plan: Plan) -> bool:
    """Whether ZeRO does the sharding, rather than PyTorch's FSDP."""
    low = plan.job.parallelism.lower()
    return "zero" in low or "deepspeed" in low


def by_parameter(plan: Plan) -> bool:
    """Whether FSDP2 (fully_shard) does the sharding: named so, or the only kind that the framework has."""
    return plan.framework.own_units or "fsdp2" in plan.job.parallelism.lower()


def gathered_layers(plan: Plan, shape: Shape) -> Part:
    """Whole layers that are on the card while one block runs backward."""
    if plan.framework.live_parameters and plan.parallel.stage == 3 and plan.parallel.offload:
        live = min(shape.params, plan.framework.live_parameters + shape.embedding) * plan.precision.weight_bytes
        return Part(
            "gathered layers",
            live / GB,
            "1e9 live parameters and the embeddings",
            "DeepSpeed stage3_max_live_parameters",
        )
    if not sharded_whole(plan):
        return Part("gathered layers", 0.0, "not sharded", "PyTorch FSDP")
    split = plan.parallel.tensor * plan.parallel.pipeline
    if plan.parallel.pipeline > 1 and plan.task not in ADAPTED:
        stage = shape.params / split * (2 + 4)
        return Part(
            "gathered layers", stage / GB, "a whole stage × (2 B + 4 B gradients)", "torchtitan: no resharding with PP"
        )
    copies, staged = _copies(plan), _staged(plan) / plan.parallel.shards
    one = _layer_bytes(plan, shape)
    formula = f"({copies} layers + {staged:.2g} staged) × {one / GB:.2f} GB"
    source = "PyTorch FSDP: backward prefetch; _fsdp_collectives.py"
    return Part("gathered layers", (copies + staged) * one / GB, formula, source)


def _copies(plan: Plan) -> int:
    """Layers in 16 bit. FSDP1 holds the one in use, the prefetched one and, in training of all weights, a gradient.

    FSDP2 copies gradients into a buffer to reduce, which lives until the next layer's is reduced
    (_fsdp_param_group.py: reduce_scatter_state): in use, prefetched, gradient, being reduced.
    """
    if plan.task in ADAPTED:
        return 2
    return 4 if by_parameter(plan) and not by_deepspeed(plan) else 3


def kept_for_gathering(plan: Plan) -> float:
    """GB that are reserved and not in use while a block runs backward. FSDP2 gathers into buffers from a stream of its
    own and in the forward pass has two at once (_fsdp_param_group.py: all_gather_state); backward needs one, and the
    caching allocator gives no block of one stream to another (PyTorch CUDA semantics).
    """
    if plan.shape is None or by_deepspeed(plan) or not by_parameter(plan) or not sharded_whole(plan):
        return 0.0
    return _layer_bytes(plan, plan.shape) / GB


def _layer_bytes(plan: Plan, shape: Shape) -> float:
    """One gathered layer; a quantised one is gathered packed."""
    bits = plan.quant.bits if plan.quant.active and plan.quant.kernel != "native" else 16.0
    return shape.layer * bits / 8 / (plan.parallel.tensor * plan.parallel.pipeline)


def _staged(plan: Plan) -> int:
    """Shards of a layer that offloading has on the card: two on their way in and, in training of all weights, a
    reduced gradient on its way out (CPUOffloadPolicy: parameters are copied before they are gathered).
    """
    if not plan.parallel.offload:
        return 0
    return 2 if plan.task in ADAPTED else 3


def root_unit(plan: Plan, shape: Shape, *, at_loss: bool) -> Part:
    """Embedding and output head in 16 bit, which FSDP's root unit keeps gathered from forward to backward, and the
    head's gradient, which waits for the root's turn at the end.

    torchtune and torchtitan shard both as units of their own, so only the head is there, at the loss; ZeRO-3 releases
    them after use too.
    """
    if not sharded_whole(plan) or (not at_loss and (plan.framework.own_units or by_deepspeed(plan))):
        return Part("gathered root", 0.0, "not gathered", "PyTorch FSDP")
    size = 2 * (shape.head if plan.framework.own_units else shape.embedding)
    size += 0 if plan.task in ADAPTED else 2 * shape.head
    size /= plan.parallel.tensor * plan.parallel.pipeline
    return Part("gathered root", size / GB, "embedding and head × 2 B", "PyTorch FSDP: root unit is not resharded")


def gathered_hidden(plan: Plan, shape: Shape) -> Part:
    """The head's input: split by tokens between blocks, tensor parallelism gathers it whole for the head, which keeps
    it for its weights' gradient (sequence parallelism, arXiv:2205.05198, section 4.2).
    """
    size = 0.0 if plan.parallel.tensor == 1 else plan.tokens * shape.hidden * plan.precision.act_bytes
    return Part("gathered input of the head", size / GB, f"{plan.tokens} tokens × hidden", "arXiv:2205.05198")


def buckets(plan: Plan) -> Part:
    """Communication buckets: a framework's own, or the one for gradients that DeepSpeed sets aside under Accelerate
    (stage3.py and stage_1_and_2.py: torch.empty(reduce_bucket_size)). Its size is the default unless a configuration
    says "auto", which is hidden² (transformers integrations/deepspeed.py).
    """
    size = plan.framework.buffers_gb
    formula = "reduce and gather buckets"
    if plan.framework.accelerate and plan.parallel.stage and by_deepspeed(plan):
        auto = plan.framework.auto_bucket and plan.parallel.stage == 3
        elements = plan.transformer.hidden**2 if auto else REDUCE_BUCKET
        size += elements * plan.precision.weight_bytes / GB
        formula = f"{elements:.3g} × {plan.precision.weight_bytes} B"
    return Part("communication buckets", size, formula, plan.framework.source)


def loading(plan: Plan, weights: Part) -> list[Part]:
    """What loading needs before training begins: 4-bit parameters can't be put on the meta device, so axolotl's FSDP
    loads all of them on every GPU before it divides them (axolotl monkeypatch/accelerate/fsdp2.py).
    """
    if not (plan.framework.loads_packed_whole and sharded_whole(plan) and plan.quant.kernel == "bnb"):
        return []
    if plan.parallel.offload:
        return []
    whole = weights.amount * plan.parallel.weights
    return [Part("weights", whole, "all of them, before they are divided", "axolotl fsdp2.py")]
