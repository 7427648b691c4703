"""Names of GPU models: what each provider calls one, and the one name that we call it.

The table is `data/gpus.csv`: nominal memory, memory that a program can really use (as nvidia-smi lists it; ECC and the
driver take some), memory bandwidth in GB/s, dense tensor throughput in TFLOPS (bf16, else fp16, else fp32).
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dumont.errors import BadInput

DATA = Path(__file__).parent / "data"
MB_PER_GIB = 2**30 / 1e6
USABLE_SHARE = 0.95
"""Of the nominal memory, where nobody has listed what a program sees of it."""
_NOISE = re.compile(r"\b(nvidia|geforce|tesla|amd|instinct|graphics|gpu|corporation)\b")
_MEMORY = re.compile(r"\b(\d{1,3})\s*(?:gb?|gib)\b")
_AWS = {
    "g4dn": "T4",
    "g5": "A10G",
    "g6": "L4",
    "gr6": "L4",
    "g6e": "L40S",
    "g7e": "RTX PRO 6000",
    "p2": "K80",
    "p3": "V100 16GB",
    "p3dn": "V100 32GB",
    "p4d": "A100 SXM 40GB",
    "p4de": "A100 SXM 80GB",
    "p5": "H100 SXM",
    "p5en": "H200",
    "p6-b200": "B200",
    "p6-b300": "B300",
}
_GCP = {
    "a2-highgpu": "A100 SXM 40GB",
    "a2-megagpu": "A100 SXM 40GB",
    "a2-ultragpu": "A100 SXM 80GB",
    "a3-highgpu": "H100 SXM",
    "a3-megagpu": "H100 SXM",
    "a3-ultragpu": "H200",
    "g2-standard": "L4",
    "g4-standard": "RTX PRO 6000",
}
_AZURE = (
    (re.compile(r"NC\d+s_v3$"), "V100 16GB"),
    (re.compile(r"ND40r?s_v2$"), "V100 32GB"),
    (re.compile(r"_T4_v3$"), "T4"),
    (re.compile(r"NV(?:36|72)adm?s_A10_v5$|NC\d+ads_A10_v4$"), "A10"),
    (re.compile(r"NC\d+ads_A100_v4$"), "A100 PCIe 80GB"),
    (re.compile(r"ND96am?sr?_A100_v4$"), "A100 SXM 80GB"),
    (re.compile(r"ND96asr_v4$"), "A100 SXM 40GB"),
    (re.compile(r"NCC?\d+adi?s_H100_v5$"), "H100 NVL"),
    (re.compile(r"ND96is\w*_H100_v5$"), "H100 SXM"),
    (re.compile(r"ND96is\w*_H200_v5$"), "H200"),
    (re.compile(r"ND96is\w*_MI300X_v5$"), "MI300X"),
)
"""Sizes that hold whole GPUs. Those with a part of one (NV6ads_A10_v5) have no name, so nobody compares them."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU model. Memory in MB (10^6 bytes)."""

    name: str
    vram_mb: int
    usable_mb: int
    bandwidth_gbs: float
    tflops: float
    source: str


@cache
def gpus() -> Mapping[str, Gpu]:
    """Every model of the table, by our name."""
    return {gpu.name: gpu for gpu, _ in _rows()}


def gpu_name(text: str, vram_mb: int | None = None) -> str:
    """Our name for a provider's ("NVIDIA A100-SXM4-80GB", "H100_SXM", "RTX 4070S Ti", "p4d.24xlarge"); "" if unknown.

    `vram_mb` (10^6 bytes), where a provider tells it, settles which of several sizes is meant.
    """
    found = instance_gpu(text) or _names().get(_key(text), "")
    if not found:
        found = _names().get(_key(_MEMORY.sub(" ", _spaced(text))), "")
    return _of_size(found, vram_mb) if found and vram_mb else found


def known_gpu(text: str) -> Gpu:
    """The model of that name. Raises BadInput, with names that are close, if there is none."""
    name = gpu_name(text)
    if not name:
        near = [other for other in gpus() if _key(text)[:6] and _key(text)[:6] in _key(other)] or sorted(gpus())
        raise BadInput(f"no GPU is called {text!r} here; known are, for example, {', '.join(near[:6])}")
    return gpus()[name]


def instance_gpu(text: str) -> str:
    """The GPU of an instance type of AWS, Google or Azure ("p5.48xlarge", "a2-highgpu-1g"); "" without a whole one."""
    if text.startswith("Standard_"):
        return next((name for pattern, name in _AZURE if pattern.search(text)), "")
    family = text.partition(".")[0]
    if "." in text and family in _AWS:
        return _AWS[family]
    return _GCP.get(text.rpartition("-")[0], "")


def _of_size(name: str, vram_mb: int) -> str:
    """The sibling ("A100 SXM 40GB" for "A100 SXM 80GB") whose memory is nearest to what was told."""
    stem = _MEMORY.sub("", name.lower()).strip()
    siblings = [gpu for gpu in gpus().values() if _MEMORY.sub("", gpu.name.lower()).strip() == stem]
    return min(siblings, key=lambda gpu: abs(gpu.usable_mb - vram_mb)).name


@cache
def _names() -> Mapping[str, str]:
    """Our names by the key of every spelling."""
    return {_key(spelling): gpu.name for gpu, aliases in _rows() for spelling in (gpu.name, *aliases)}


def _key(text: str) -> str:
    """The spelling without what providers differ in: vendors, case, separators, generation of the socket."""
    return re.sub(r"[^a-z0-9]", "", _spaced(text))


def _spaced(text: str) -> str:
    spaced = re.sub(r"[\s_/()-]+", " ", text.lower())
    spaced = re.sub(r"\bsxm\d\b", "sxm", spaced)
    spaced = re.sub(r"(\d)\s*(?:gib|g)\b", r"\1gb", spaced)
    return _NOISE.sub(" ", spaced).strip()


@cache
def _rows() -> tuple[tuple[Gpu, tuple[str, ...]], ...]:
    with (DATA / "gpus.csv").open(newline="") as file:
        return tuple((_gpu(row), tuple(filter(None, row["aliases"].split("|")))) for row in csv.DictReader(file))


def _gpu(row: Mapping[str, str]) -> Gpu:
    nominal = float(row["vram_gib"]) * MB_PER_GIB
    usable = float(row["usable_mib"]) * 2**20 / 1e6 if row["usable_mib"] else nominal * USABLE_SHARE
    return Gpu(
        name=row["name"],
        vram_mb=round(nominal),
        usable_mb=round(usable),
        bandwidth_gbs=float(row["bandwidth_gbs"]),
        tflops=float(row["tflops"]),
        source=row["source"],
    )
