"""Reasons: why a choice is one, in sentences whose every figure was computed."""

from dumont.advisor.advice import Advice
from dumont.advisor.candidate import Candidate
from dumont.advisor.rank import is_in_time, is_paid_for
from dumont.advisor.words import duration, figure, money
from dumont.i18n import _


def reasons(one: Candidate, advice: Advice) -> list[str]:
    """Why it fits, how long it takes, what it costs, and whether that keeps to what was asked."""
    return [*_fit(one, advice), *_time(one, advice), *_cost(one, advice)]


def _fit(one: Candidate, advice: Advice) -> list[str]:
    memory = one.memory
    if memory is not None:
        return [
            _("takes about {point} GB, {high} GB at worst; the card holds {card} GB").format(
                point=figure(memory.device_point), high=figure(memory.device_high), card=figure(one.card_gb)
            )
        ]
    terms = advice.terms
    if terms is not None and terms.vram_gb_min is not None:
        return [
            _("has the {gb} GB that you asked for; what the work takes was not estimated").format(
                gb=figure(terms.vram_gb_min, 0)
            )
        ]
    if advice.errand is not None and advice.errand.frames is not None:
        return [_("whether the scene fits can't be told from a text: render one frame and look")]
    return [_("how much memory the work takes can't be told from the text")]


def _time(one: Candidate, advice: Advice) -> list[str]:
    errand, terms = advice.errand, advice.terms
    assert errand is not None and terms is not None, "choices come from an errand and its terms"
    if one.hours is None:
        return [_("how long it takes is not known: the price is for an hour")]
    if errand.monthly:
        return [_("{hours} hours a month").format(hours=figure(one.hours.point, 0))]
    said = [
        _("takes about {point} ({low} to {high})").format(
            point=duration(one.hours.point), low=duration(one.hours.low), high=duration(one.hours.high)
        )
    ]
    if errand.held_h is not None:
        said = [_("held for {hours}").format(hours=duration(one.hours.point))]
    elif terms.deadline_h is not None:
        left = duration(abs(terms.deadline_h - one.hours.point))
        timely = is_in_time(one, errand, terms)
        said.append((_("ready {n} before the deadline") if timely else _("ready {n} too late")).format(n=left))
        if timely and one.hours.high > terms.deadline_h:
            said.append(_("at the slow end of the estimate it would be late"))
    lost = one.priced.hazard.per_hour * (one.work_h or 0.0)
    if one.priced.offer.spot and lost >= 0.05:
        said.append(_("{n} interruptions are to be expected; your work survives them").format(n=figure(lost)))
    return said


def _cost(one: Candidate, advice: Advice) -> list[str]:
    terms = advice.terms
    assert terms is not None, "choices come from an errand and its terms"
    price = money(one.priced.micros_per_hour / 1e6, "USD")
    said = [_("{price} an hour with the interruptions that are to be expected").format(price=price)]
    most = terms.budget_micros
    if most is not None and one.cost_micros is not None:
        left = money(advice.rate.of(abs(most - one.cost_micros)), advice.rate.currency)
        said.append(
            (_("{n} below the budget") if is_paid_for(one, terms) else _("{n} above the budget")).format(n=left)
        )
    elif terms.hourly_micros is not None and not is_paid_for(one, terms):
        left = money(advice.rate.of(one.priced.micros_per_hour - terms.hourly_micros), advice.rate.currency)
        said.append(_("{n} an hour above the budget").format(n=left))
    return said
