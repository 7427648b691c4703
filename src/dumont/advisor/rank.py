"""The ranking: of all candidates the cheapest that fits, the best value and the fastest, within the terms. Pure.

*Fits* is the estimator's word: only a card that holds the worst case does. *Cheapest* is the least expected cost of all
the work, interruptions counted; *fastest* the least time. *Best value* is the least cost when an hour of waiting counts
as well, at what the market says an hour without the GPU is worth; where machines are held for a given time, the least
cost for each unit of work done in it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dumont.advisor.candidate import Candidate
from dumont.advisor.errand import HELD, Errand
from dumont.advisor.estimate.verdict import Reason
from dumont.advisor.terms import GPUS_MAX, Terms

UNKNOWN = math.inf


class Name(StrEnum):
    """What a choice is chosen for."""

    CHEAPEST = "cheapest"
    BEST_VALUE = "best_value"
    FASTEST = "fastest"


class Lack(StrEnum):
    """Why there is no choice, or why the one there is keeps not to the terms."""

    OFFERS = "no offers"
    FITTING = "nothing fits"
    MODEL = "unknown model"
    TASK = "no estimate"
    TIME = "too late"
    MONEY = "too dear"
    PACE = "too slow"
    BOTH = "too late or too dear"


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """The choices by name: all three or none. `lack` says what is wrong; None when the choices keep to the terms."""

    choices: dict[Name, Candidate]
    lack: Lack | None
    fitting: int
    assessed: int


def rank(candidates: Iterable[Candidate], errand: Errand, terms: Terms, value_micros_per_hour: int) -> Ranked:
    """The choices among the candidates. Those that keep to the terms come first; without any, `lack` says so."""
    found = [one for one in candidates if is_wanted(one, errand, terms)]
    if errand.job is None and not (errand.frames or errand.task in HELD or terms.says_which):
        return Ranked(choices={}, lack=Lack.TASK, fitting=0, assessed=len(found))
    fitting = [one for one in found if fits(one, errand)]
    if not fitting:
        return Ranked(choices={}, lack=_why_none(found), fitting=0, assessed=len(found))
    timed = [one for one in fitting if one.hours is not None]
    fitting = timed or fitting  # a total and an hour's price can't be compared
    within = [one for one in fitting if keeps(one, errand, terms)]
    pool, lack = (within, None) if within else (fitting, _lack(fitting, errand, terms))
    orders = _orders(errand, value_micros_per_hour)
    choices = {name: min(pool, key=order) for name, order in orders.items()}
    return Ranked(choices=choices, lack=lack, fitting=len(fitting), assessed=len(found))


def fits(one: Candidate, errand: Errand) -> bool:
    """Whether a candidate may be chosen: it surely fits; or nobody can tell of any machine, as for a scene."""
    return one.fits is True or (errand.job is None and one.fits is None)


def keeps(one: Candidate, errand: Errand, terms: Terms) -> bool:
    """Whether a candidate keeps to deadline, budget and pace. What is unknown breaks no term."""
    return is_in_time(one, errand, terms) and is_paid_for(one, terms) and is_fast_enough(one, errand)


def is_in_time(one: Candidate, errand: Errand, terms: Terms) -> bool:
    if terms.deadline_h is None or errand.held_h is not None or one.hours is None:
        return True
    return one.hours.point <= terms.deadline_h


def is_paid_for(one: Candidate, terms: Terms) -> bool:
    if terms.hourly_micros is not None and one.priced.micros_per_hour > terms.hourly_micros:
        return False
    return terms.budget_micros is None or one.cost_micros is None or one.cost_micros <= terms.budget_micros


def is_fast_enough(one: Candidate, errand: Errand) -> bool:
    return errand.pace_min is None or one.pace is None or one.pace >= errand.pace_min


def is_wanted(one: Candidate, errand: Errand, terms: Terms) -> bool:
    """Whether the machine has as many GPUs as were asked for; a person at a notebook uses one."""
    if terms.gpus is not None:
        return one.gpus == terms.gpus
    return one.gpus <= (1 if errand.task in HELD else GPUS_MAX)


def _why_none(found: Sequence[Candidate]) -> Lack:
    if not found:
        return Lack.OFFERS
    unknown = all(one.verdict is not None and one.verdict.reason is Reason.UNKNOWN_MODEL for one in found)
    return Lack.MODEL if unknown else Lack.FITTING


def _lack(fitting: Sequence[Candidate], errand: Errand, terms: Terms) -> Lack:
    if not any(is_fast_enough(one, errand) for one in fitting):
        return Lack.PACE
    timely = any(is_in_time(one, errand, terms) for one in fitting)
    paid = any(is_paid_for(one, terms) for one in fitting)
    if timely and paid:
        return Lack.BOTH
    return Lack.MONEY if timely else Lack.TIME


Order = Callable[[Candidate], tuple[float | str, ...]]


def _orders(errand: Errand, value_micros_per_hour: int) -> dict[Name, Order]:
    def cost(one: Candidate) -> float:
        return one.priced.micros_per_hour if one.cost_micros is None else one.cost_micros

    def hours(one: Candidate) -> float:
        return UNKNOWN if one.hours is None else one.hours.point

    def slowness(one: Candidate) -> float:
        return UNKNOWN if not one.pace else 1 / one.pace

    def cheapest(one: Candidate) -> tuple[float | str, ...]:
        return cost(one), hours(one), slowness(one), one.priced.offer.id

    def fastest(one: Candidate) -> tuple[float | str, ...]:
        return hours(one), slowness(one), cost(one), one.priced.offer.id

    def best(one: Candidate) -> tuple[float | str, ...]:
        if one.hours is not None and errand.held_h is None:
            return cost(one) + one.hours.point * value_micros_per_hour, *cheapest(one)
        if one.pace:
            return one.priced.micros_per_hour / one.pace, *cheapest(one)
        return cheapest(one)

    return {Name.CHEAPEST: cheapest, Name.BEST_VALUE: best, Name.FASTEST: fastest}
