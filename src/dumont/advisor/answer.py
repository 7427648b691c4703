"""An answer: advice as JSON values with stable field names, its sentences in the language spoken now."""

import math
from typing import Any

from dumont.advisor.advice import Advice
from dumont.advisor.candidate import SETUP_H, Candidate
from dumont.advisor.change import Cheaper
from dumont.advisor.command import advised_facts, command, name_for, wish
from dumont.advisor.errand import RENDERS
from dumont.advisor.explain import explained
from dumont.advisor.note import sentence
from dumont.advisor.plan import Assumption
from dumont.advisor.pricefile import dated_between
from dumont.advisor.rank import Lack, Name, is_in_time, is_paid_for
from dumont.advisor.reason import reasons
from dumont.advisor.words import assumption_word, change_word, duration, figure, lack_word, money
from dumont.i18n import _
from dumont.market.reference import Comparison

DIGITS = 4


def answer(advice: Advice, *, explain: bool = False) -> dict[str, Any]:
    """The whole answer. Memory in GB (1e9 bytes), times in hours, `cost` in US$; None is unknown."""
    ranked, terms = advice.ranked, advice.terms
    choices = ranked.choices if ranked else {}
    return {
        "reading": advice.reading.workload.stated(),
        "lang": advice.reading.lang,
        "reader": advice.reading.reader,
        "notes": [*map(sentence, advice.reading.notes), *advice.market.notes, *_market_notes(advice), *_taught(advice)],
        "message": _message(advice),
        "ask": [one.field for one in advice.ask],
        "questions": [one.text for one in advice.ask],
        "assumptions": [_assumption(one) for one in _assumptions(advice)],
        "choices": [_choice(name, one, advice, explain) for name, one in choices.items()],
        "cheaper_cards": [_cheaper(one, advice) for one in advice.cheaper],
        "deadline_h": _short(terms.deadline_h) if terms else None,
        "due": terms.due.isoformat() if terms and terms.due else None,
        "budget_micros": terms.budget_micros if terms else None,
        "monthly": bool(advice.errand and advice.errand.monthly),
        "exchange": {
            "currency": advice.rate.currency,
            "per_usd": advice.rate.per_usd,
            "source": advice.rate.source,
            "as_of": advice.rate.as_of.isoformat() if advice.rate.as_of else None,
        },
        "market": _market(advice),
        "lack": ranked.lack.value if ranked and ranked.lack else None,
        "calibration": {job: round(factor.applied, 4) for job, factor in advice.settings.factors.memory.items()},
    }


def _message(advice: Advice) -> str:
    if advice.ranked is None or advice.ranked.lack is None:
        return ""
    said = lack_word(advice.ranked.lack, bool(advice.market.notes))
    nearest, memory = advice.nearest, advice.nearest.memory if advice.nearest else None
    if advice.ranked.lack is Lack.FITTING and nearest is not None and memory is not None:
        more = _("It takes about {point} GB a card, {high} GB at worst; {gpu} comes closest, with {card} GB.")
        said += " " + more.format(
            point=figure(memory.device_point),
            high=figure(memory.device_high),
            gpu=_machine(nearest),
            card=figure(nearest.card_gb),
        )
    return said


def _machine(one: Candidate) -> str:
    return f"{one.gpus} × {one.gpu}" if one.gpus > 1 else one.gpu


def _market_notes(advice: Advice) -> list[str]:
    if advice.market.live or advice.ranked is None:
        return []
    oldest, newest = dated_between()
    return [
        _(
            "No server was asked: these are published prices read between {oldest} and {newest}, not offers of now. "
            "`dumont up` and `dumont provider add` bring live ones."
        ).format(oldest=oldest.isoformat(), newest=newest.isoformat())
    ]


def _taught(advice: Advice) -> list[str]:
    """What recorded runs of this kind of job did to the memory of the choices."""
    job = advice.errand.job if advice.errand else None
    factor = advice.settings.factors.memory.get(job.task) if job else None
    if factor is None or factor.applied <= 1:
        return []
    said = _(
        "Memory is counted {factor} times what is estimated, because {n} recorded runs of this kind took more "
        "(`dumont advise --calibration`)."
    )
    return [said.format(factor=figure(factor.applied, 2), n=factor.runs)]


def _market(advice: Advice) -> dict[str, Any]:
    oldest, newest = dated_between()
    return {
        "live": advice.market.live,
        "at": advice.market.now.isoformat(),
        "offers": len(advice.market.offers),
        "assessed": advice.ranked.assessed if advice.ranked else 0,
        "fitting": advice.ranked.fitting if advice.ranked else 0,
        "prices_from": None if advice.market.live else oldest.isoformat(),
        "prices_to": None if advice.market.live else newest.isoformat(),
    }


def _assumptions(advice: Advice) -> list[Assumption]:
    """Those of the job, of the estimate, of the terms, and what counts for every answer; each field once."""
    if advice.ranked is None or advice.errand is None or advice.terms is None or not advice.ranked.choices:
        return [
            *(advice.errand.assumptions if advice.errand else ()),
            *(advice.terms.assumptions if advice.terms else ()),
        ]
    best = advice.ranked.choices[Name.BEST_VALUE]
    estimated = best.memory.assumptions if best.memory and advice.errand.task not in RENDERS else ()
    value = advice.market.beliefs.stake.value_micros_per_hour / 1e6
    found = [*advice.errand.assumptions, *estimated, *advice.terms.assumptions]
    if best.hours is not None and advice.errand.held_h is None:
        found += [Assumption("setup_h", f"{SETUP_H:g}"), Assumption("value_usd_per_hour", f"{value:.2f}")]
    if advice.rate.currency != "USD":
        rate = money(advice.rate.per_usd, advice.rate.currency)
        dated = f"{rate} ({advice.rate.source}, {advice.rate.as_of})" if advice.rate.as_of else rate
        found.append(Assumption("exchange", dated))
    return list({one.field: one for one in reversed(found)}.values())[::-1]


def _assumption(one: Assumption) -> dict[str, Any]:
    return {"field": one.field, "value": one.value, "text": assumption_word(one)}


def _choice(name: Name, one: Candidate, advice: Advice, explain: bool) -> dict[str, Any]:
    assert advice.errand is not None and advice.terms is not None
    offer = one.priced.offer
    local = advice.rate.currency != "USD" and one.cost_micros is not None
    told = {
        "name": name.value,
        "gpu": one.gpu,
        "gpus": one.gpus,
        "fits": one.fits,
        "memory_gb": _memory(one),
        "card_gb": _short(one.card_gb),
        "margin_gb": _short(one.card_gb - one.memory.device_high) if one.memory else None,
        "hours": _short(one.hours.point) if one.hours else None,
        "hours_range": [_short(one.hours.low), _short(one.hours.high)] if one.hours else None,
        "cost": None if one.cost_micros is None else one.cost_micros / 1e6,
        "cost_micros": one.cost_micros,
        "cost_local": round(advice.rate.of(one.cost_micros), 2) if local and one.cost_micros is not None else None,
        "price_micros_per_hour": one.priced.price_micros_per_hour,
        "cost_micros_per_hour": one.priced.micros_per_hour,
        "parts": {part.value: micros for part, micros in one.priced.parts},
        "in_time": is_in_time(one, advice.errand, advice.terms),
        "in_budget": is_paid_for(one, advice.terms),
        "provider": offer.provider,
        "offer": offer.id,
        "region": offer.zone or offer.region,
        "interruption": offer.interruption.value,
        "interruptions_per_hour": _short(one.priced.hazard.per_hour),
        "pace": _pace(one),
        "reasons": reasons(one, advice),
        "elsewhere": [_elsewhere(other, one) for other in advice.elsewhere.get(one.hardware, [])],
        "launch": command(one, advice),
        "launch_name": name_for(advice.workload),
        "wish": wish(one, advice),
        "advised": advised_facts(one, advice),
    }
    return {**told, "explain": explained(one, advice)} if explain else told


def _memory(one: Candidate) -> dict[str, float | None] | None:
    """What a monitor of the card would show at the peak: the expected, the least and the worst case."""
    memory = one.memory
    if memory is None:
        return None
    unseen = memory.device_point - memory.point
    return {
        "point": _short(memory.device_point),
        "low": _short(memory.low + unseen),
        "high": _short(memory.device_high),
    }


def _pace(one: Candidate) -> dict[str, Any] | None:
    speed = one.verdict.speed if one.verdict else None
    if one.pace is None or speed is None:
        return None
    return {"value": _short(one.pace), "unit": speed.unit}


def _elsewhere(other: Comparison, one: Candidate) -> dict[str, Any]:
    """What the same work costs on demand at another cloud: its price an hour times the hours that are paid for."""
    found = other.reference
    micros = found.micros_per_hour if found else None
    cost = None if micros is None or one.work_h is None else math.ceil(micros * one.work_h)
    return {
        "provider": other.provider,
        "gpu": found.gpu if found else "",
        "exact": other.exact,
        "micros_per_hour": micros,
        "cost": None if cost is None else cost / 1e6,
        "instance": found.instance if found else "",
        "region": found.region if found else "",
        "as_of": found.as_of.isoformat() if found else "",
        "source": found.source if found else "",
        "why": other.why,
    }


def _cheaper(way: Cheaper, advice: Advice) -> dict[str, Any]:
    one = way.candidate
    gigabytes = one.verdict.gpu.vram_gb if one.verdict and one.verdict.gpu else one.card_gb
    said = _("with {changes} it fits in {gb} GB ({gpu}): {hours}, {cost}").format(
        changes=_(" and ").join(map(change_word, way.changes)),
        gb=figure(gigabytes, 0),
        gpu=_machine(one),
        hours=duration(one.hours.point) if one.hours else "?",
        cost="?" if one.cost_micros is None else money(advice.rate.of(one.cost_micros), advice.rate.currency),
    )
    return {
        "changes": [change.value for change in way.changes],
        "gpu": one.gpu,
        "gpus": one.gpus,
        "fits": one.fits,
        "memory_gb": _memory(one),
        "card_gb": _short(one.card_gb),
        "hours": _short(one.hours.point) if one.hours else None,
        "cost": None if one.cost_micros is None else one.cost_micros / 1e6,
        "text": said,
    }


def _short(value: float | None) -> float | None:
    """Four significant digits; None for what is no finite number."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}")
