"""Numerics: bytes per parameter of a precision, a quantisation and an optimizer, and where each keeps its state."""

import re
from dataclasses import dataclass
from functools import lru_cache

_GGUF_BITS = {
    # bits per weight over the whole file, llama.cpp tools/quantize/README.md
    "q2-k": 3.16,
    "q3-k-s": 3.64,
    "q3-k-m": 4.0,
    "q3-k-l": 4.3,
    "q4-0": 4.66,
    "q4-k-s": 4.67,
    "q4-k-m": 4.89,
    "q5-0": 5.6,
    "q5-k-s": 5.57,
    "q5-k-m": 5.7,
    "q6-k": 6.56,
    "q8-0": 8.5,
    "iq2": 2.5,
    "iq3": 3.5,
    "iq4": 4.5,
    "q4": 4.85,
    "q5": 5.7,
}


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How weights are stored: bits per quantised weight (block constants included), and what stays in 16 bit.

    `kernel` names the code that multiplies with them: "bnb" expands to 16 bit before each product, "fused" unpacks in
    the product's own loop, "native" has hardware for it. `kv_bits` is the cache's width (16 unless told).
    """

    name: str = ""
    bits: float = 16.0
    kernel: str = ""
    whole_file: bool = False
    experts: bool = True
    kv_bits: int = 16

    @property
    def active(self) -> bool:
        """Whether weights are stored in fewer bits than the computation uses."""
        return self.bits < 16


@lru_cache(maxsize=1024)
def quantisation(text: str, precision: str = "") -> Quantisation:
    """The scheme that texts such as "nf4", "GPTQ-int4", "AWQ int4 g128", "Q4_K_M", "int8 KV cache" or "fp8" name.

    Block constants: NF4 holds one fp32 per 64 weights (4.5 bits), 4.127 with double quantisation (arXiv:2305.14314,
    section 3); GPTQ and AWQ with groups of 128 hold a 16-bit scale and a 4-bit zero (4.16 bits, arXiv:2306.00978);
    MXFP4 one byte per 32 (4.25).
    """
    low = re.sub(r"[_\s]+", "-", text.lower())
    kv_bits = 8 if re.search(r"(int8|fp8|8-?bit)-kv|kv-?(cache)?-?(int8|fp8)", low) else 16
    if kv_bits == 8:
        low = re.sub(r"(int8|fp8|8-?bit)-kv(-cache)?|kv-?(cache)?-?(int8|fp8)", "", low)
    for name, bits in sorted(_GGUF_BITS.items(), key=lambda item: -len(item[0])):
        if name in low:
            return Quantisation(low, bits, "fused", whole_file=True, kv_bits=kv_bits)
    experts = "linear-only" not in low
    if "mxfp4" in low or "nvfp4" in low:
        return Quantisation(low, 4.25 if "mx" in low else 4.5, "native", kv_bits=kv_bits)
    if "gptq" in low or "awq" in low or "marlin" in low:
        bits = 8.16 if "8" in low.replace("128", "") else 4.16
        return Quantisation(low, 3.16 if "int3" in low else bits, "fused", kv_bits=kv_bits)
    if "nf4" in low or "fp4" in low or "bnb" in low or "4bit" in low or "4-bit" in low:
        if "8bit" in low or "int8" in low or "8-bit" in low:
            return Quantisation(low, 8.05, "bnb", experts=experts, kv_bits=kv_bits)
        return Quantisation(
            low, 4.127 if "dq" in low or "double" in low else 4.5, "bnb", experts=experts, kv_bits=kv_bits
        )
    if "int4" in low or "w4" in low:
        return Quantisation(low, 4.25, "fused", kv_bits=kv_bits)
    if "fp8" in low or "float8" in low:
        return Quantisation(low, 8.0, "native", kv_bits=kv_bits)
    if "int8" in low or "8bit" in low or "8-bit" in low or "w8" in low:
        return Quantisation(low, 8.05, "bnb" if "wo" not in low else "fused", kv_bits=kv_bits)
    if not low.strip("-") and re.fullmatch(r"int8.*", precision.lower()):
        return Quantisation("int8", 8.05, "fused", kv_bits=kv_bits)
    return Quantisation(low, kv_bits=kv_bits)


@dataclass(frozen=True, slots=True)
class Precision:
    """What a run computes in: bytes of a weight and of an activation; `mixed` keeps fp32 weights beside 16-bit
    products.
    """

    name: str
    weight_bytes: int
    act_bytes: int
    mixed: bool = False
    fp8: bool = False
    compiled: bool = False
    stated: bool = True


@lru_cache(maxsize=1024)
def precision(text: str) -> Precision:
    """The precision a text names; "" and contradictions ("bf16/fp32 not stated") are 16 bit with `stated` false.

    Mixed precision: fp32 weights, 16-bit activations (arXiv:1710.03740); "bf16-true" and plain "bf16" hold 16-bit
    weights.
    """
    low = text.lower().replace("_", "-")
    compiled = "compile" in low
    if "not stated" in low or ("mix" in low and "32" in low):
        return Precision(low, 4, 2, mixed=True, compiled=compiled, stated=False)
    if "fp8" in low or "float8" in low:
        return Precision("fp8", 2, 2, mixed="amp" in low, fp8=True, compiled=compiled)
    half = "bf16" if "bf16" in low or "bfloat" in low else "fp16" if "16" in low else ""
    if half:
        mixed = "amp" in low or "mixed" in low
        return Precision(half, 4 if mixed else 2, 2, mixed=mixed, compiled=compiled)
    if "32" in low or "full" in low or low == "float":
        return Precision("fp32", 4, 4, compiled=compiled)
    return Precision("bf16", 2, 2, compiled=compiled, stated=False)


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer's states: how many per parameter, bytes of each (0 = as wide as the weights), and where."""

    name: str
    states: float
    state_bytes: float = 0.0
    paged: bool = False
    fused_in_backward: bool = False
    offloaded: bool = False
    stated: bool = True


@lru_cache(maxsize=1024)
def optimizer(text: str) -> Optimizer:
    """The optimizer a text names; "" is AdamW.

    Adam keeps two states (arXiv:1412.6980), Lion and momentum one, Adafactor a row and a column per matrix
    (arXiv:1804.04235); 8-bit optimizers one byte per state and one fp32 per 2,048 (arXiv:2110.02861); paged ones live
    in unified memory, which CUDA's allocator does not count; a step fused into the backward pass frees each gradient
    as soon as it is used.
    """
    low = text.lower().replace("_", "-")
    fused = "in backward" in low or "in-bwd" in low or "in bwd" in low or "in-backward" in low
    offloaded = "offload" in low and "w/o offload" not in low
    paged = "paged" in low
    states, state_bytes = 2.0, 0.0
    if "adafactor" in low:
        states, state_bytes = 0.01, 4.0
    elif "sgd" in low or "muon" in low or "lion" in low:
        states = 0.0 if "sgd" in low and "momentum" not in low else 1.0
    if "8bit" in low or "8-bit" in low or "8 bit" in low:
        state_bytes = 1.002
    elif "fp32 state" in low:
        state_bytes = 4.0
    elif "4bit" in low or "4-bit" in low:
        state_bytes = 0.55
    return Optimizer(low or "adamw", states, state_bytes, paged, fused, offloaded, stated=bool(low))
