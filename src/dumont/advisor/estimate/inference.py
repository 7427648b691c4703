"""Memory of language-model inference: weights, key and value cache, and the working set of the prompt."""

from dumont.advisor.estimate.part import GB, Part
from dumont.advisor.estimate.training import weight_part
from dumont.advisor.plan import Plan
from dumont.advisor.shape import Shape


def inference_parts(plan: Plan) -> tuple[Part, ...]:
    """The parts of generation or serving, in GB per GPU."""
    shape = plan.transformer
    return tuple(
        part
        for part in (weight_part(plan), _cache(plan, shape), _working_set(plan, shape), _logits(plan, shape))
        if part.amount
    )


def cache_bytes_per_token(plan: Plan) -> float:
    """Bytes of key and value cache per token: 2 · layers · kv heads · head size · width (arXiv:2305.13245)."""
    return plan.transformer.kv_per_token * plan.quant.kv_bits / 16


def cached_tokens(plan: Plan) -> float:
    """Tokens that each sequence keeps: sliding layers keep their window only."""
    shape = plan.transformer
    if not shape.window or plan.seq_len <= shape.window:
        return float(plan.seq_len)
    return plan.seq_len * (1 - shape.window_share) + shape.window * shape.window_share


def _cache(plan: Plan, shape: Shape) -> Part:
    if shape.encoder:
        return Part("key and value cache", 0.0, "an encoder keeps none", "arXiv:1810.04805")
    grown = plan.framework.kv_growth if plan.quadratic else 1.0
    shards = min(plan.parallel.tensor, shape.kv_heads) * plan.parallel.pipeline
    size = cache_bytes_per_token(plan) * cached_tokens(plan) * plan.batch * grown / shards
    formula = (
        f"{cache_bytes_per_token(plan) / 1024:.0f} KiB × {plan.seq_len} tokens × {plan.batch} × {grown:g} / {shards}"
    )
    return Part("key and value cache", size / GB, formula, "arXiv:2305.13245; transformers DynamicCache concatenates")


def _working_set(plan: Plan, shape: Shape) -> Part:
    """One block's tensors while the prompt runs through: the residual stream and the feed-forward's inner tensors."""
    chunk = 8192 if plan.framework.serving else plan.seq_len * plan.batch
    prompt = min(plan.seq_len * plan.batch, chunk)
    per_token = plan.precision.act_bytes * (4 * shape.hidden + 2 * shape.ffn_active)
    extra = 2.0 * shape.hidden * shape.ffn if plan.quant.kernel == "bnb" else 0.0
    size = (prompt * per_token / plan.parallel.tensor) + extra
    return Part("working set", size / GB, f"{prompt} tokens × {per_token} B", "arXiv:2205.05198, one block")


def _logits(plan: Plan, shape: Shape) -> Part:
    per = plan.framework.prefill_logit_bytes
    tokens = plan.batch if per == 0 else plan.batch * plan.seq_len
    size = tokens * shape.vocab * max(per, 6.0 if per == 0 else per)
    return Part(
        "logits", size / GB, f"{tokens} × {shape.vocab} × {max(per, 4.0):g} B", "transformers num_logits_to_keep"
    )
