"""Terms: by when, for how much at most, where and on which machines a workload may run."""

import re
from dataclasses import dataclass, field
from datetime import datetime

from dumont.advisor.deadline import hours_until
from dumont.advisor.errand import MONTH_DAYS
from dumont.advisor.exchange import Rate
from dumont.advisor.plan import Assumption
from dumont.advisor.workload import Workload
from dumont.market.names import gpu_name, gpus
from dumont.model.instance import Machine
from dumont.model.offer import Need

GPUS_MAX = 8
MB_PER_GB = 1000
_FORM = re.compile(r"(?: (?:PCIe|SXM|NVL))?(?: \d+GB)?$")
_HOURS_OF = {"day": 24.0, "week": 168.0, "month": 24.0 * MONTH_DAYS, "year": 8760.0}
_EUROPE = """
AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE
"""
_PLACES = {
    "EU": frozenset(_EUROPE.split()),
    "UK": frozenset({"GB"}),
    "LATAM": frozenset({"AR", "BR", "CL", "CO", "CR", "MX", "PA", "PE", "UY"}),
    "ASIA": frozenset({"HK", "ID", "IN", "JP", "KR", "MY", "PH", "SG", "TH", "TW", "VN"}),
}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a choice must keep to; None bounds nothing. Money in micro-US-dollars.

    `budget_micros` bounds what all of it costs (`monthly`: what a month of it does), `hourly_micros` what an hour does.
    `due` is the moment of the deadline. `gpus` of one machine, where the text says how many.
    """

    need: Need
    deadline_h: float | None = None
    due: datetime | None = None
    budget_micros: int | None = None
    hourly_micros: int | None = None
    monthly: bool = False
    gpus: int | None = None
    vram_gb_min: float | None = None
    assumptions: tuple[Assumption, ...] = field(default=())

    @property
    def says_which(self) -> bool:
        """Whether the person said which card, or how much memory: then nobody has to estimate it."""
        return self.vram_gb_min is not None or bool(self.need.gpu_names)


def terms_of(workload: Workload, rate: Rate, now: datetime) -> Terms:
    """The terms of a workload. `rate` is of the budget's currency; `now` is in the person's time zone."""
    assumed: list[Assumption] = []
    deadline_h, due = workload.deadline_h, None
    if deadline_h is None and workload.deadline_text:
        found = hours_until(workload.deadline_text, now)
        if found is not None:
            deadline_h, due = found
            assumed.append(Assumption("deadline", due.strftime("%Y-%m-%d %H:%M")))
    total, hourly, monthly = _budget(workload, rate)
    return Terms(
        need=_need(workload),
        deadline_h=deadline_h,
        due=due,
        budget_micros=total,
        hourly_micros=hourly,
        monthly=monthly,
        gpus=workload.n_gpus,
        vram_gb_min=workload.vram_min_gb,
        assumptions=tuple(assumed),
    )


def regions_of(text: str) -> frozenset[str]:
    """Country codes that a reading's region means: "US|CA", "EU", "BR"; other words are a provider's own region."""
    found: set[str] = set()
    for word in text.split("|"):
        found |= _PLACES.get(word.upper(), frozenset({word}))
    return frozenset(found)


def _need(workload: Workload) -> Need:
    names = frozenset(one for name in _wished(workload) for one in _meant(name))
    return Need(
        machine=Machine.GPU,
        gpus=workload.n_gpus or 1,
        gpu_names=names,
        vram_mb_min=round(0.95 * (workload.vram_min_gb or 0) * MB_PER_GB),  # a "24 GB" card shows a little less
        disk_gb=20,
        regions=regions_of(workload.region) if workload.region else frozenset(),
        reliability_min=workload.reliability or 0.0,
        spot=workload.interruptible is not False,
        on_demand=True,
    )


def _meant(text: str) -> frozenset[str]:
    """Our names of the cards that a text may mean: "A100" is all of its forms and sizes; an unknown one is none."""
    name = gpu_name(text)
    forms = {one for one in gpus() if _FORM.sub("", one) == text.strip()}
    return frozenset({name, *forms} - {""})


def _wished(workload: Workload) -> tuple[str, ...]:
    if workload.compare:
        return workload.compare
    return (workload.gpu_pref,) if workload.gpu_pref else ()


def _budget(workload: Workload, rate: Rate) -> tuple[int | None, int | None, bool]:
    """The most for all of it, the most for an hour, and whether the former is for a month."""
    budget = workload.budget
    if budget is None:
        return None, None, False
    micros = rate.micros(budget.value)
    if budget.per == "hour":
        return None, micros, False
    if budget.per == "total":
        return micros, None, False
    if budget.per == "item":
        return None, None, False
    return round(micros * _HOURS_OF["month"] / _HOURS_OF[budget.per]), None, True
