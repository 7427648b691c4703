"""A shape: the dimensions of a transformer, from the catalogue, from a Hugging Face config.json or from its size
alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dumont.advisor.notation import number
from dumont.errors import BadInput

_LADDER = (
    # billions, layers, hidden, heads, kv heads, feed-forward, vocabulary: common open models of that size
    (0.07, 6, 512, 8, 8, 2048, 50304),
    (0.16, 12, 768, 12, 12, 3072, 50304),
    (0.5, 24, 896, 14, 2, 4864, 151936),
    (1.2, 16, 2048, 32, 8, 8192, 128256),
    (1.7, 28, 2048, 16, 8, 6144, 151936),
    (3.2, 28, 3072, 24, 8, 8192, 128256),
    (4.0, 36, 2560, 32, 8, 9728, 151936),
    (8.0, 32, 4096, 32, 8, 14336, 128256),
    (14.0, 40, 5120, 40, 8, 17408, 151936),
    (24.0, 40, 5120, 32, 8, 32768, 131072),
    (33.0, 64, 5120, 40, 8, 27648, 152064),
    (70.0, 80, 8192, 64, 8, 28672, 128256),
    (123.0, 88, 12288, 96, 8, 28672, 32768),
    (405.0, 126, 16384, 128, 8, 53248, 128256),
)
DIMENSION_MAX = 10_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of a transformer. Counts are parameters, not billions.

    `ffn` is one expert's width in a mixture of experts; `window` is the attention window of sliding layers (0 = none)
    and `window_share` the share of layers that slide; `kv_bytes` overrides the cache per token in 16 bit (latent
    attention).
    """

    params: float
    active: float
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    experts: int = 0
    experts_active: int = 0
    tied: bool = False
    window: int = 0
    window_share: float = 0.0
    kv_bytes: float = 0.0
    encoder: bool = False
    two_stacks: bool = False
    guessed: bool = False

    @property
    def gated(self) -> bool:
        """Whether the feed-forward has three matrices (SwiGLU), told by which count comes closer to `params`."""
        rest = self.params - self.embedding - self.layers * self.attention_params
        per_matrix = self.layers * self.hidden * self.ffn * max(1, self.experts) * (2 if self.two_stacks else 1)
        return per_matrix == 0 or rest / per_matrix > 2.5

    @property
    def attention_params(self) -> float:
        """Parameters of one layer's attention (two stacks: self and cross attention)."""
        wide = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return wide * (3 if self.two_stacks else 1)

    @property
    def embedding(self) -> float:
        """Parameters of input embedding and output head together."""
        return float(self.vocab * self.hidden * (1 if self.tied else 2))

    @property
    def head(self) -> float:
        """Parameters of the output head alone."""
        return float(self.vocab * self.hidden)

    @property
    def linear(self) -> float:
        """Parameters of the linear layers inside the blocks: what quantisation shrinks."""
        return max(self.params - self.embedding, 0.3 * self.params)

    @property
    def layer(self) -> float:
        """Parameters of one block."""
        return self.linear / max(1, self.blocks)

    @property
    def blocks(self) -> int:
        """Blocks of all stacks."""
        return self.layers * (2 if self.two_stacks else 1)

    @property
    def ffn_active(self) -> int:
        """Feed-forward width that one token passes through."""
        return self.ffn * max(1, self.experts_active)

    @property
    def kv_per_token(self) -> float:
        """Bytes of cache per token in 16 bit: 2 · layers · kv heads · head size · 2 (arXiv:2305.13245)."""
        return self.kv_bytes or 4.0 * self.layers * self.kv_heads * self.head_dim

    def scaled_to(self, billions: float) -> "Shape":
        """The same proportions at another size; small differences keep the shape."""
        ratio = billions * 1e9 / self.params
        if 0.85 <= ratio <= 1.15:
            return replace(self, params=billions * 1e9, active=self.active * ratio)
        return shape_of_size(billions, self.active / self.params * billions if self.experts else None)


def shape_of_size(billions: float, active_billions: float | None = None) -> Shape:
    """A shape for a model of which only the size is known: that of the nearest common open model, scaled.

    Depth and width both grow with the cube root of the size between two rungs, as they do in the open families.
    """
    size, layers, hidden, heads, kv_heads, ffn, vocab = min(
        _LADDER, key=lambda rung: max(rung[0] / billions, billions / rung[0])
    )
    grow = (billions / size) ** (1 / 3)
    head_dim = hidden // heads
    wide = max(64, round(hidden * grow / 64) * 64)
    active = active_billions if active_billions else billions
    sparse = active < 0.7 * billions
    return Shape(
        params=billions * 1e9,
        active=active * 1e9,
        layers=max(2, round(layers * grow)),
        hidden=wide,
        heads=max(1, round(wide / head_dim)),
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=round(ffn * grow),
        vocab=vocab,
        experts=64 if sparse else 0,
        experts_active=4 if sparse else 0,
        tied=billions < 3.5,
        guessed=True,
    )


def shape_of_config(config: Mapping[str, object]) -> Shape:
    """The shape of a Hugging Face config.json; parameters are counted from the dimensions.

    Names of the fields: transformers' `PretrainedConfig` classes (Llama, GPT-NeoX, GPT-2, Falcon, MPT, T5, mixture of
    experts).

    Raises:
        BadInput: the file does not hold a transformer's dimensions.
    """
    inner = config.get("text_config") or config.get("llm_config")
    source = {**config, **inner} if isinstance(inner, Mapping) else dict(config)
    hidden = _field(source, "hidden_size", "n_embd", "d_model", "dim")
    layers = _field(source, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    heads = _field(source, "num_attention_heads", "n_head", "n_heads", "num_heads")
    if not (hidden and layers and heads):
        raise BadInput(
            "config.json must hold hidden_size, num_hidden_layers and num_attention_heads (or their old names)"
        )
    experts = _field(source, "num_local_experts", "n_routed_experts", "num_experts")
    multi_query = source.get("multi_query") is True and not source.get("new_decoder_architecture")
    kv_heads = 1 if multi_query else _field(source, "num_key_value_heads", "num_kv_heads", "n_head_kv") or heads
    ffn = _field(source, "moe_intermediate_size") if experts else 0
    ffn = ffn or _field(source, "intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size") or 4 * hidden
    rank = _field(source, "kv_lora_rank")
    window = 0 if source.get("use_sliding_window") is False else _field(source, "sliding_window")
    shape = Shape(
        params=0.0,
        active=0.0,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_field(source, "head_dim", "d_kv") or hidden // heads,
        ffn=ffn,
        vocab=_field(source, "vocab_size") or 32000,
        experts=experts,
        experts_active=_field(source, "num_experts_per_tok", "num_experts_per_token", "experts_per_token")
        if experts
        else 0,
        tied=source.get("tie_word_embeddings") is True,
        window=window,
        window_share=_sliding(source, window),
        kv_bytes=2.0 * layers * (rank + _field(source, "qk_rope_head_dim")) if rank else 0.0,
        two_stacks=source.get("is_encoder_decoder") is True,
    )
    return _counted(shape, source)


def _sliding(source: Mapping[str, object], window: int) -> float:
    """Share of layers with a sliding window: `layer_types` where given, else all of them."""
    kinds = source.get("layer_types")
    if isinstance(kinds, list) and kinds:
        return float(kinds.count("sliding_attention")) / len(kinds)
    pattern = _field(source, "sliding_window_pattern")
    if pattern > 1:
        return (pattern - 1) / pattern
    return 1.0 if window else 0.0


def _counted(shape: Shape, source: Mapping[str, object]) -> Shape:
    """Parameters from dimensions: embeddings, attention and feed-forward; norms and biases are below 0.1 %."""
    gelu = str(source.get("model_type", "")) in {
        "gpt2",
        "gpt_neox",
        "falcon",
        "mpt",
        "opt",
        "bloom",
        "bert",
        "phi",
        "gptj",
    }
    matrices = 2 if gelu else 3
    shared = _field(source, "n_shared_experts") if shape.experts else 0
    expert = matrices * shape.hidden * shape.ffn
    fixed = shape.embedding + shape.blocks * shape.attention_params
    params = fixed + shape.blocks * expert * (max(1, shape.experts) + shared)
    active = fixed + shape.blocks * expert * (max(1, shape.experts_active) + shared)
    return replace(shape, params=params, active=active)


def _field(source: Mapping[str, object], *names: str) -> int:
    for name in names:
        value = number(source.get(name))
        if value is not None and 0 < value <= DIMENSION_MAX:
            return int(value)
    return 0
