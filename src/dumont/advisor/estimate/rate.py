"""Rates that a GPU sustains: matrix products, memory traffic, matrix-vector products and links to other GPUs."""

from dumont.advisor.catalogue import Gpu
from dumont.advisor.plan import Plan

TFLOPS_PER_WATT = {
    # dense 16-bit products at the power limit: measured best products (stas00/ml-engineering, MAMF) over board power
    # where
    # known (A100 0.68, H100 1.13, B200 1.75), process generation for the others
    "Pascal": 0.07, "Volta": 0.33, "Turing": 0.5, "Ampere": 0.47, "Ada": 0.8, "Hopper": 1.13, "Blackwell": 1.0,
    "Blackwell Ultra": 1.3, "CDNA2": 0.5, "CDNA3": 0.9, "CDNA4": 1.2, "A100": 0.68,
}  # fmt: skip
UNPACKED_SHARE = 0.35
LANES = {"Pascal": 64, "Volta": 64, "Turing": 64, "Ampere": 128, "Ada": 128, "Hopper": 128}
PRODUCT_SHARE = 0.85
TRAFFIC_SHARE = 0.85
LARGE_CACHE_TRAFFIC = 0.65
PCIE_GBS, NO_PEER_GBS = 22.0, 10.0


def product_tflops(gpu: Gpu, *, fp8: bool = False, fp32: bool = False) -> float:
    """Dense TFLOPS that large products reach: measured where known, else the least of 85 % of the peak and of what
    the board's power allows (L4, T4 and the 300 W Ada cards are power-bound, gpus.csv notes).
    """
    if fp32:
        tf32 = 0.5 * gpu.bf16_tflops
        return PRODUCT_SHARE * max(gpu.fp32_tflops, tf32 if gpu.arch not in {"Volta", "Turing", "Pascal"} else 0.0)
    peak = gpu.half_tflops
    reached = gpu.reachable_tflops or PRODUCT_SHARE * peak
    if not gpu.reachable_tflops and gpu.tdp_w and gpu.arch != "Pascal":
        reached = min(reached, power_tflops(gpu) or reached)
    if fp8 and gpu.fp8_tflops:
        reached *= 1 + 0.8 * (gpu.fp8_tflops / peak - 1)  # scaling and casts cost a fifth of the gain
    return reached


def power_tflops(gpu: Gpu) -> float:
    """Dense 16-bit TFLOPS that the board's power allows; 0 when unknown."""
    made_by_tsmc = (
        gpu.arch == "Ampere" and gpu.bandwidth > 900 and not gpu.rt_cores
    )  # GA100; the other Ampere are Samsung 8N
    return TFLOPS_PER_WATT.get("A100" if made_by_tsmc else gpu.arch, 0.0) * gpu.tdp_w


def unpacking_tflops(gpu: Gpu) -> float:
    """TFLOPS of products that unpack 4-bit weights in their loop (llama.cpp, AWQ): unpacking takes about two thirds
    of the power, so the board's power decides, not the 16-bit rate that GeForce cards halve.
    """
    return UNPACKED_SHARE * (power_tflops(gpu) or product_tflops(gpu))


def attention_tflops(gpu: Gpu, attention: str, *, first: bool = False) -> float:
    """TFLOPS of fused attention as a share of what large products reach.

    FlashAttention-2: 69 % on Ampere and Ada, 44 % on Hopper and later, whose asynchronous products it does not use;
    80 % with FlashAttention-3 or cuDNN; the first version about 58 % of the second (arXiv:2307.08691,
    arXiv:2407.08608).
    """
    later = gpu.arch.startswith(("Hopper", "Blackwell")) and gpu.stacked
    share = 0.8 if later and ("3" in attention or "cudnn" in attention) else 0.44 if later else 0.69
    return share * (0.58 if first else 1.0) * product_tflops(gpu)


def traffic_gbs(gpu: Gpu) -> float:
    """GB/s that streaming kernels reach; cards with a second-level cache of 48 MB and more see less traffic."""
    return TRAFFIC_SHARE * gpu.bandwidth / (LARGE_CACHE_TRAFFIC if _large_cache(gpu) else 1.0)


def _large_cache(gpu: Gpu) -> bool:
    return gpu.arch == "Ada" or (gpu.arch == "Blackwell" and not gpu.stacked)


def vector_gbs(gpu: Gpu, plan: Plan) -> float:
    """GB/s of matrix-vector products: bounded by memory, and by the bytes each multiprocessor can have in flight.

    Tuned libraries sustain about 8 bytes per multiprocessor and clock, llama.cpp of 2024 about 5.6; multiprocessors ×
    clock follows from the fp32 rate (two operations per lane and clock). This is why an A100 or H20 decodes far below
    its memory's rate, and a GeForce does not.
    """
    lanes = 64 if gpu.arch == "Ampere" and gpu.stacked else LANES.get(gpu.arch, 128)
    issued = gpu.fp32_tflops * 1e3 / (2 * lanes) * plan.framework.issue_bytes
    return min(TRAFFIC_SHARE * gpu.bandwidth, issued or gpu.bandwidth)


def link_gbs(gpu: Gpu, gpus: int) -> float:
    """GB/s of one GPU's collective traffic: NVLink one way at 75 %, PCIe 4.0 x16, or host memory for cards without
    peer access (GeForce since Ada, gpus.csv note).
    """
    bridged = gpu.nvlink >= 400 or (gpu.nvlink > 0 and gpus <= 2)
    if bridged:
        return 0.75 * gpu.nvlink / 2
    geforce = gpu.name.startswith(("RTX 2", "RTX 3", "RTX 4", "RTX 5", "GTX")) and "Ada" not in gpu.name
    return NO_PEER_GBS if geforce else PCIE_GBS
