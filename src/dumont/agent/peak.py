"""A peak: the most memory in use on one GPU since this replica began to serve, read every so often. Pure.

The fuller of several GPUs counts, for predictions are made for one card. What our own processes hold is preferred to
what is in use on the whole card, and it is said which of both it is.
"""

from dataclasses import dataclass

from dumont.agent.gpus import Reading, Use
from dumont.wire.control import GpuPeak, Scope

GAP_S_MAX = 5.0
"""Readings further apart than this may have missed the peak."""
UNUSED = "unused"
"""No GPU held anything of the workload's."""


@dataclass(frozen=True)
class _Highest:
    """Of one GPU. `own` is None from the moment on when the driver once did not tell what our processes hold."""

    card: str
    total: int
    used: int
    own: int | None

    def with_one_more(self, use: Use) -> "_Highest":
        own = None if self.own is None or use.own is None else max(self.own, use.own)
        return _Highest(use.card, max(self.total, use.total), max(self.used, use.used), own)


class Peak:
    """The peak of one epoch. A workload that failed and is started again goes on with it."""

    def __init__(self, every_s: float) -> None:
        self._every_ms = round(every_s * 1000)
        self._highest: dict[str, _Highest] = {}
        self._missed = False
        self._lacks = ""
        self._at_s: float | None = None

    def see(self, reading: Reading, now_s: float) -> None:
        """Take one reading in. `now_s` is monotonic."""
        late = self._at_s is not None and now_s - self._at_s > GAP_S_MAX
        gone = self._highest.keys() - {use.uuid for use in reading.uses}
        self._missed = self._missed or late or bool(gone) or bool(reading.lacks)
        self._lacks, self._at_s = reading.lacks, now_s
        for use in reading.uses:
            before = self._highest.get(use.uuid, _Highest(use.card, use.total, use.used, use.own))
            self._highest[use.uuid] = before.with_one_more(use)

    def told(self) -> GpuPeak | None:
        """What the server is told; None before the first reading. `bytes` is None when the peak is unknown."""
        if self._at_s is None:
            return None
        known = list(self._highest.values())
        held = [(one.own, one.card, one.total) for one in known if one.own]
        whole = [(one.used, one.card, one.total) for one in known if one.own is None and one.used]
        if held or whole:
            most, card, total = max(held or whole)
            return GpuPeak(
                bytes=most,
                scope=Scope.PROCESSES if held else Scope.DEVICE,
                at_least=self._missed,
                card=card,
                card_bytes=total,
                gpus=len(known),
                every_ms=self._every_ms,
            )
        return GpuPeak(every_ms=self._every_ms, gpus=len(known), why=UNUSED if known else self._lacks)
