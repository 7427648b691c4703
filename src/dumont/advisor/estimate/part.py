"""Parts of an estimate: named amounts with the formula and the source they come from."""

from dataclasses import dataclass, replace
from typing import Self

from dumont.advisor.plan import Assumption

GB = 1e9


@dataclass(frozen=True, slots=True)
class Part:
    """One summand of an estimate, in GB (1e9 bytes) per GPU or in seconds, with its formula and where that comes
    from.
    """

    name: str
    amount: float
    formula: str
    source: str


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak memory per GPU in GB (1e9 bytes): what the allocator holds, and what a monitor of the card shows.

    `low` and `high` bound the point; `high` is what a decision to rent may rely on.
    """

    point: float
    low: float
    high: float
    parts: tuple[Part, ...]
    device_point: float
    device_high: float
    metric: str = ""
    assumptions: tuple[Assumption, ...] = ()

    def scaled(self, factor: float) -> Self:
        """The same estimate times a factor, as recorded runs of this kind of job suggest."""
        return replace(
            self,
            point=self.point * factor,
            low=self.low * factor,
            high=self.high * factor,
            device_point=self.device_point * factor,
            device_high=self.device_high * factor,
        )


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a job runs, in `unit`, with an interval and the seconds each part takes."""

    value: float
    unit: str
    low: float
    high: float
    parts: tuple[Part, ...] = ()
    per_gpu: bool = False
    assumptions: tuple[Assumption, ...] = ()
