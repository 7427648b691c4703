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
    """Whole layers that are on the card while one block runs backward; a quantised layer is gathered packed."""
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
    bits = plan.quant.bits if plan.quant.active and plan.quant.kernel != "native" else 16.0
    copies = _copies(plan)
    staged = _staged(plan) / plan.parallel.shards
    size = (copies + staged) * shape.layer * bits / 8 / split
    formula = f"({copies} layers + {staged:.2g} staged) × {bits:g} bit"
    return Part("gathered layers", size / GB, formula, "PyTorch FSDP: backward prefetch; _fsdp_collectives.py")


def _copies(plan: Plan) -> int:
    """Layers in 16 bit. FSDP1 holds the one in use, the prefetched one and, in training of all weights, a gradient.

    FSDP2 gathers into a buffer and copies from there, and copies gradients into another one that lives until the next
    layer's is reduced (foreach_all_gather and foreach_reduce in _fsdp_collectives.py): in use, prefetched, gradient,
    reducing. Its buffers come from streams of their own, and the caching allocator never gives a block of one stream
    to another (PyTorch CUDA semantics): of the two gathered ahead in the forward pass, one more stays reserved.
    """
    adapted = plan.task in ADAPTED
    if by_deepspeed(plan) or not by_parameter(plan):
        return 2 if adapted else 3
    low = plan.job.mem_metric.lower()
    allocated_only = "alloc" in low or "active" in low
    return (2 if adapted else 4) + (0 if allocated_only else 1)


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
    """Communication buckets: a framework's own, or the one for gradients that DeepSpeed sets aside under Accelerate,
    which leaves its size at the default (stage3.py and stage_1_and_2.py: torch.empty(reduce_bucket_size)).
    """
    size = plan.framework.buffers_gb
    formula = "reduce and gather buckets"
    if plan.framework.accelerate and plan.parallel.stage and by_deepspeed(plan):
        size += REDUCE_BUCKET * plan.precision.weight_bytes / GB
        formula = f"{REDUCE_BUCKET:g} × {plan.precision.weight_bytes} B"
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
