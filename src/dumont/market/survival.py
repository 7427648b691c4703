"""How long machines are held before they are taken: the Kaplan-Meier estimate with Greenwood's interval. Pure.

A machine that was let go, or is still held, is *censored*: it would have lasted at least so long. Sources: Kaplan and
Meier 1958 (product limit); Greenwood 1926 (variance); the interval is taken on the log(-log) scale, which keeps it
within 0 and 1 (Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, section 1.4).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
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
    share, greenwood, at_risk, index = 1.0, 0.0, len(ordered), 0
    while index < len(ordered):
        hours = ordered[index].hours
        tied = [life for life in ordered[index:] if life.hours == hours] if index < len(ordered) else []
        ended = sum(life.interrupted for life in tied)
        if ended:
            share *= 1 - ended / at_risk
            greenwood += ended / (at_risk * (at_risk - ended)) if at_risk > ended else math.inf
            low, high = _interval(share, greenwood, z)
            steps.append(Step(hours, at_risk, ended, share, low, high))
        at_risk -= len(tied)
        index += len(tied)
    return Curve(tuple(steps), ordered[-1].hours)


def _interval(share: float, greenwood: float, z: float) -> tuple[float, float]:
    if share <= 0.0 or math.isinf(greenwood):
        return 0.0, max(share, 0.0)
    if share >= 1.0:
        return 1.0, 1.0
    width = z * math.sqrt(greenwood) / abs(math.log(share))
    return share ** math.exp(width), share ** math.exp(-width)
