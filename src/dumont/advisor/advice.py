"""Advice: a reading, the market and the estimator put together into three choices, and what is worth asking. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from dumont.advisor.candidate import Assessor, Candidate, Factors
from dumont.advisor.change import Cheaper, cheaper
from dumont.advisor.doubt import doubts
from dumont.advisor.errand import Errand, errand_of
from dumont.advisor.estimate.verdict import Estimator
from dumont.advisor.exchange import Rate, rate_of
from dumont.advisor.job import Job
from dumont.advisor.question import Question, questions
from dumont.advisor.rank import Name, Ranked, is_wanted, keeps, rank
from dumont.advisor.reader.read import Reading
from dumont.advisor.shape import Shape
from dumont.advisor.shortlist import shortlist, to_try
from dumont.advisor.terms import Terms, terms_of
from dumont.advisor.workload import REFUSED, Workload, workload_of
from dumont.market.beliefs import Beliefs
from dumont.market.cost import Priced
from dumont.market.names import gpus
from dumont.market.reference import Comparison, compare
from dumont.model.offer import Offer

ELSEWHERE = ("aws", "gcp")


@dataclass(frozen=True, kw_only=True)
class Market:
    """What is for rent: offers, what is believed of them, and the time in the person's time zone.

    `live` is False for the price file; `notes` are sentences about providers that did not answer.
    """

    offers: Sequence[Offer]
    now: datetime
    live: bool
    beliefs: Beliefs = Beliefs()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a person set beside the text: an exchange rate (units per US$), a model's shape from its config.json, fields
    of the workload that count above what was read, and what recorded runs have taught.
    """

    exchange: float | None = None
    shape: Shape | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    factors: Factors = Factors()


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The answer to one question. `ranked` is None for a task that is refused."""

    reading: Reading
    workload: Workload
    market: Market
    rate: Rate
    settings: Settings
    terms: Terms | None = None
    errand: Errand | None = None
    ranked: Ranked | None = None
    cheaper: tuple[Cheaper, ...] = ()
    ask: tuple[Question, ...] = ()
    nearest: Candidate | None = None
    elsewhere: Mapping[tuple[str, int], list[Comparison]] = field(default_factory=dict)


def advise(reading: Reading, market: Market, settings: Settings, estimator: Estimator) -> Advice:
    """What to rent for what was read. Rents nothing, and knows nobody who could.

    Raises:
        BadInput: a set field or the exchange rate makes no sense, or nobody knows a rate for the budget's currency.
    """
    workload = reading.workload
    if settings.fields:
        workload = workload_of({**workload.model_dump(exclude_none=True), **settings.fields})
    rate = rate_of(_currency(reading, workload), settings.exchange)
    base = Advice(reading=reading, workload=workload, market=market, rate=rate, settings=settings)
    if workload.task in REFUSED:
        return base
    errand, terms = errand_of(workload, settings.shape), terms_of(workload, rate, market.now)
    priced = shortlist(market.offers, terms.need, market.beliefs, market.now.timestamp() / 3600)
    found = list(_assessed(errand, priced, base, estimator))
    ranked = _ranked(found, errand, terms, base)
    few = _Glimpse(to_try(priced, (one.hardware for one in ranked.choices.values())), base, estimator)
    now = ranked.choices.get(Name.CHEAPEST)
    ways: tuple[Cheaper, ...] = ()
    if errand.job is not None:
        ways = cheaper(errand.job, now, partial(few.keeping, errand, terms))
    return replace(
        base,
        errand=errand,
        terms=terms,
        ranked=ranked,
        cheaper=ways,
        ask=questions(workload, doubts(workload, few.decide, _tight(ranked))),
        nearest=_nearest(found) if not ranked.choices else None,
        elsewhere=_elsewhere(ranked),
    )


def _currency(reading: Reading, workload: Workload) -> str:
    if workload.budget is not None:
        return workload.budget.currency
    return "BRL" if reading.lang == "pt-BR" else "USD"


def _assessed(errand: Errand, priced: Sequence[Priced], base: Advice, estimator: Estimator) -> Sequence[Candidate]:
    assessor = Assessor(errand, estimator, base.settings.factors, base.market.beliefs.stake)
    return list(assessor.all(priced))


def _ranked(found: Sequence[Candidate], errand: Errand, terms: Terms, base: Advice) -> Ranked:
    return rank(found, errand, terms, base.market.beliefs.stake.value_micros_per_hour)


@dataclass(frozen=True)
class _Glimpse:
    """The cheapest offers of promising types of machine, to try a question's other answers and a job's changes on."""

    priced: Sequence[Priced]
    base: Advice
    estimator: Estimator

    def keeping(self, errand: Errand, terms: Terms, job: Job) -> list[Candidate]:
        """What fits and keeps to the terms once the errand's job is this one."""
        other = replace(errand, job=job)
        found = _assessed(other, self.priced, self.base, self.estimator)
        return [one for one in found if is_wanted(one, other, terms) and one.fits and keeps(one, other, terms)]

    def decide(self, workload: Workload) -> object:
        """The recommendation for a workload, to be compared with another one's."""
        base = self.base
        errand, terms = errand_of(workload, base.settings.shape), terms_of(workload, base.rate, base.market.now)
        ranked = _ranked(_assessed(errand, self.priced, base, self.estimator), errand, terms, base)
        best = ranked.choices.get(Name.BEST_VALUE)
        return ranked.lack, best.hardware if best else None


def _tight(ranked: Ranked) -> dict[str, bool]:
    """Whether the tightest budget or deadline that can be kept would lead to another machine."""
    if not ranked.choices:
        return {"budget": False, "deadline_h": False}
    best = ranked.choices[Name.BEST_VALUE].hardware
    return {
        "budget": ranked.choices[Name.CHEAPEST].hardware != best,
        "deadline_h": ranked.choices[Name.FASTEST].hardware != best and ranked.choices[Name.FASTEST].hours is not None,
    }


def _nearest(found: Sequence[Candidate]) -> Candidate | None:
    """Where nothing fits: the one with the most room, so that one can say by how much it misses."""
    known = [one for one in found if one.memory is not None and one.card_gb]
    return max(known, key=lambda one: one.card_gb - (one.memory.device_high if one.memory else 0.0), default=None)


def _elsewhere(ranked: Ranked) -> dict[tuple[str, int], list[Comparison]]:
    """The same machines at large clouds on demand, like for like."""
    hardware = {one.hardware for one in ranked.choices.values()}
    return {(gpu, count): compare(gpu, count, providers=ELSEWHERE) for gpu, count in hardware if gpu in gpus()}
