"""Reference prices: what other clouds ask for the same GPU, like for like, each with its source and date.

Like for like means a machine with the same number of GPUs, per GPU: an 8-GPU node is never set against one card. A
model that a cloud does not sell so is compared with its nearest equal there, and says so. The nearest equal has at
least 0.9 of the memory (the work must fit), and of those the least distance: the root of the summed squares of the
natural logarithms of the ratios of memory, memory bandwidth and dense tensor throughput. Beyond DISTANCE_MAX nothing is
called an equal.

The prices are `data/reference.csv`, written by `scripts/reference_prices.py`.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

from dumont.errors import BadInput
from dumont.market.names import DATA, Gpu, gpus, known_gpu

MEMORY_SHARE_MIN = 0.9
DISTANCE_MAX = 1.4
"""About a factor of four in one of the three figures, or of two and a quarter in all of them."""
TIERS = ("on_demand", "spot")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One published price of a whole machine, in micro-dollars per hour, with where and when it was read."""

    provider: str
    gpu: str
    gpus: int
    tier: str
    micros_per_hour: int
    instance: str
    region: str
    as_of: date
    source: str
    licence: str

    @property
    def micros_per_gpu_hour(self) -> int:
        """Rounded to the nearest; half goes to the even one."""
        return round(self.micros_per_hour / self.gpus)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a provider asks for a GPU: the price found, or why there is none.

    `exact` tells whether it is the same model; if not, `distance` how far the one compared is (0: alike).
    """

    provider: str
    asked: str
    reference: Reference | None
    exact: bool = True
    distance: float = 0.0
    why: str = ""


@cache
def references() -> tuple[Reference, ...]:
    """Every reference price there is."""
    with (DATA / "reference.csv").open(newline="") as file:
        return tuple(
            Reference(
                provider=row["provider"],
                gpu=row["gpu"],
                gpus=int(row["gpus"]),
                tier=row["tier"],
                micros_per_hour=int(row["micros_per_hour"]),
                instance=row["instance"],
                region=row["region"],
                as_of=date.fromisoformat(row["as_of"]),
                source=row["source"],
                licence=row["licence"],
            )
            for row in csv.DictReader(file)
        )


def distance(one: Gpu, other: Gpu) -> float:
    """How unlike two models are: 0 for alike; see the rule at the top of this file."""
    pairs = ((one.vram_mb, other.vram_mb), (one.bandwidth_gbs, other.bandwidth_gbs), (one.tflops, other.tflops))
    return math.sqrt(sum(math.log(a / b) ** 2 for a, b in pairs))


def compare(gpu: str, count: int = 1, tier: str = "on_demand", providers: Sequence[str] = ()) -> list[Comparison]:
    """What each provider (all that have references, if none is named) asks for a machine with `count` of this GPU.

    The cheapest region is taken. Raises BadInput for a GPU or tier that nobody knows.
    """
    if tier not in TIERS:
        raise BadInput(f"{tier!r} is no tier; give one of {', '.join(TIERS)}")
    asked = known_gpu(gpu)
    names = providers or sorted({reference.provider for reference in references()})
    return [_compare(asked, count, tier, name) for name in names]


def _compare(asked: Gpu, count: int, tier: str, provider: str) -> Comparison:
    sold = [r for r in references() if r.provider == provider and r.tier == tier]
    alike = [r for r in sold if r.gpus == count]
    same = [r for r in alike if r.gpu == asked.name]
    if same:
        return Comparison(provider=provider, asked=asked.name, reference=min(same, key=_price))
    counts = sorted({r.gpus for r in sold if r.gpu == asked.name})
    only = f"sells {asked.name} only in machines of {', '.join(map(str, counts))}" if counts else ""
    fits = [r for r in alike if gpus()[r.gpu].vram_mb >= MEMORY_SHARE_MIN * asked.vram_mb]
    near = min(fits, key=lambda r: (distance(asked, gpus()[r.gpu]), _price(r)), default=None)
    apart = distance(asked, gpus()[near.gpu]) if near else math.inf
    if near is None or apart > DISTANCE_MAX:
        why = only or f"sells nothing like {asked.name} in a machine of {count}"
        return Comparison(provider=provider, asked=asked.name, reference=None, exact=False, why=why)
    why = f"{only or f'does not sell {asked.name}'}; {near.gpu} is its nearest equal there"
    return Comparison(provider=provider, asked=asked.name, reference=near, exact=False, distance=apart, why=why)


def _price(reference: Reference) -> tuple[int, str, str]:
    return (reference.micros_per_hour, reference.instance, reference.region)
