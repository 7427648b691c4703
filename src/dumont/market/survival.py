"""How long machines are held before they are taken: the Kaplan-Meier estimate with Greenwood's interval. Pure.

A machine that was let go, or is still held, is *censored*: it would have lasted at least so long. Sources: Kaplan and
Meier 1958 (product limit); Greenwood 1926 (variance); the interval is taken on the log(-log) scale, which keeps it
within 0 and 1 (Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, section 1.4).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from statistics import NormalDist

from dumont.errors import BadInput


@dataclass(frozen=True, order=True)
class Life:
    """How long one machine was held, and whether its end was an interruption (else it is censored)."""

    hours: float
    interrupted: bool


@dataclass(frozen=True)
class Step:
    """The share that lasts longer than `hours`, with its interval; `at_risk` machines were held until then."""

    hours: float
    at_risk: int
    interrupted: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """The estimate: a step for each duration at which machines were interrupted."""

    steps: tuple[Step, ...]
    longest_h: float

    def share(self, hours: float) -> float:
        """The estimated share that lasts longer than `hours`; beyond the longest life seen, that life's."""
        return next((step.share for step in reversed(self.steps) if step.hours <= hours), 1.0)

    @property
    def median_h(self) -> float | None:
        """The duration that half of the machines outlive; None when more than half outlive all that was seen."""
        return next((step.hours for step in self.steps if step.share <= 0.5), None)

    def mean_h(self, within_h: float | None = None) -> float:
        """The mean life restricted to `within_h` (else to the longest seen): the area under the curve."""
        end = self.longest_h if within_h is None else within_h
        area, at, share = 0.0, 0.0, 1.0
        for step in self.steps:
            if step.hours >= end:
                break
            area, at, share = area + share * (step.hours - at), step.hours, step.share
        return area + share * (end - at)


def kaplan_meier(lives: Iterable[Life], level: float = 0.90) -> Curve:
    """The survival curve of these lives. Raises BadInput when there is none, or one of no or negative length."""
    ordered = sorted(lives)
    if not ordered or ordered[0].hours < 0:
        raise BadInput("a survival curve needs at least one life, and none shorter than 0 hours")
    z = NormalDist().inv_cdf((1 + level) / 2)
    steps: list[Step] = []
    share, greenwood, at_risk = 1.0, 0.0, len(ordered)
    for hours, tied in groupby(ordered, key=lambda life: life.hours):
        ends = [life.interrupted for life in tied]
        ended = sum(ends)
        if ended:
            share *= 1 - ended / at_risk
            greenwood += ended / (at_risk * (at_risk - ended)) if at_risk > ended else math.inf
            before = steps[-1].high if steps else 1.0
            steps.append(Step(hours, at_risk, ended, share, *_interval(share, greenwood, z, before)))
        at_risk -= len(ends)
    return Curve(tuple(steps), ordered[-1].hours)


def _interval(share: float, greenwood: float, z: float, high_before: float) -> tuple[float, float]:
    """Greenwood's variance is not defined once nobody is left: the upper end then stays where it was."""
    if share <= 0.0 or math.isinf(greenwood):
        return 0.0, high_before
    width = z * math.sqrt(greenwood) / abs(math.log(share))
    return share ** math.exp(width), share ** math.exp(-width)
