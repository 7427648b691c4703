"""Interruption hazard: how often the machines of a failure domain are taken away, with an interval. Pure.

**The estimator.** A stretch of availability of one domain (a *run*) ends at a rate of its own. Rates differ from run to
run: Gamma(shape SHAPE, mean FRESH x the domain's rate; without FRESH for a run whose beginning nobody saw). After a run
has lasted `age` hours without an end, the rate's posterior is Gamma(SHAPE, b + age) with b = SHAPE / that mean; the
hazard is its mean and the interval its quantiles (Gelman et al., Bayesian Data Analysis, 3rd ed., section 2.6: Gamma
prior, exponential waiting times). So the hazard falls as a run grows older, which is what spot markets show. The
domain's rate is itself a Gamma-Poisson mean, (prior events + ends seen) / (prior hours + hours seen), where what was
seen counts less with age: a weight of exp(-age / MEMORY_HOURS).

What was seen is counted in machines: the listing watches as if it held one in the domain, and every machine of our own
is one more, with its own hours and its own end (`market.lives`). One of ours that was taken away also ends the run.

SHAPE, FRESH, MEMORY_HOURS and the default prior were chosen by the likelihood of the next tick on the first half of the
nine-zone trace of docs/market.md, and only there.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dumont.errors import BadInput
from dumont.market.lives import OwnLife
from dumont.market.quantile import gamma_quantile
from dumont.model.offer import Interruption, Offer

SHAPE = 1.0
FRESH = 2.0
"""A new run's expected rate over the domain's mean rate: time passes mostly in long runs, ends happen in short ones."""
MEMORY_HOURS = 24.0
LEVEL = 0.90
"""The interval's probability."""
RATE_MIN = 1e-6
"""Per hour; nothing that is rented lasts for ever."""


@dataclass(frozen=True)
class Prior:
    """What is believed before anything was seen: that `events` interruptions happened in `hours` hours."""

    events: float = 1.0
    hours: float = 3.0

    @property
    def per_hour(self) -> float:
        return self.events / self.hours


PRIORS = {
    Interruption.NEVER: Prior(1.0, 24 * 365.0),
    Interruption.OUTBID: Prior(1.0, 24.0),
    Interruption.PREEMPTED: Prior(),
}
"""By how a machine is taken back. NEVER: a host fails about once a year. OUTBID has no public trace: once a
day is an assumption, which a few days of history replace. PREEMPTED: tuned, see above."""


@dataclass(frozen=True)
class History:
    """What was seen of one failure domain: discounted ends and hours of availability, up to `at_h`.

    `at_h` and `up_since_h` are hours on any clock that does not go back (such as hours since 1970); `up_since_h` is
    None while the domain has nothing to rent. `fresh` tells whether the present run was seen to begin.
    """

    at_h: float
    events: float = 0.0
    hours: float = 0.0
    up_since_h: float | None = None
    fresh: bool = False

    def seen(self, up: bool, now_h: float) -> "History":
        """The history after `now_h`, at which the domain was found to be up or down; it was constant in between.

        Raises BadInput if `now_h` lies before what is known.
        """
        gone_h = now_h - self.at_h
        if gone_h < 0:
            raise BadInput(f"a history goes forward in time: {now_h} lies before {self.at_h}")
        weight, was_up = math.exp(-gone_h / MEMORY_HOURS), self.up_since_h is not None
        hours = self.hours * weight + (MEMORY_HOURS * (1 - weight) if was_up else 0.0)
        events = self.events * weight + (1.0 if was_up and not up else 0.0)
        since = (self.up_since_h if was_up else now_h) if up else None
        fresh = up and (self.fresh or not was_up)
        return History(at_h=now_h, events=events, hours=hours, up_since_h=since, fresh=fresh)

    def found(self, up: bool, now_h: float) -> "History":
        """As `seen`, for a domain that nobody watched in between: no hours, no end and no age are known of it."""
        weight = math.exp(-max(0.0, now_h - self.at_h) / MEMORY_HOURS)
        faded = replace(self, at_h=now_h, events=self.events * weight, hours=self.hours * weight)
        return replace(faded, up_since_h=now_h if up else None, fresh=False)


@dataclass(frozen=True)
class Hazard:
    """Interruptions per hour: the posterior Gamma(shape, hours), its mean and its central interval."""

    shape: float
    hours: float

    @property
    def per_hour(self) -> float:
        return self.shape / self.hours

    @property
    def low(self) -> float:
        """The lower end of the central interval of probability LEVEL."""
        return gamma_quantile((1 - LEVEL) / 2, self.shape) / self.hours

    @property
    def high(self) -> float:
        return gamma_quantile((1 + LEVEL) / 2, self.shape) / self.hours

    def survival(self, hours: float) -> float:
        """The probability to last `hours` more: the Lomax distribution that this mixture of exponentials is."""
        return math.exp(-self.events_within(hours))

    def events_within(self, hours: float) -> float:
        """The expected number of interruptions within so many hours, while the rate's posterior goes on to sharpen."""
        return self.shape * math.log1p(max(0.0, hours) / self.hours)

    def plus(self, per_hour: float) -> "Hazard":
        """This hazard with an independent one added; the shape, and so the relative width, stays."""
        return Hazard(self.shape, self.shape / (self.per_hour + per_hour))


def hazard(history: History | None, prior: Prior, now_h: float, own: Sequence[OwnLife] = ()) -> Hazard:
    """The hazard now of a machine in this domain; of one that would be rented in it, too. `own`: our lives in it."""
    if history is None:
        if not own:
            return Hazard(SHAPE, SHAPE / max(RATE_MIN, prior.per_hour))
        history = History(at_h=now_h)
    known = history.seen(history.up_since_h is not None, max(now_h, history.at_h))
    since_h, fresh, events, hours = known.up_since_h, known.fresh, known.events, known.hours
    if own:
        own_events, own_hours, lost_h = _discounted(own, known.at_h)
        events, hours = events + own_events, hours + own_hours
        if since_h is not None and lost_h > since_h:
            since_h, fresh = lost_h, True
    rate = (prior.events + events) / (prior.hours + hours)
    age_h = known.at_h - since_h if since_h is not None else 0.0
    return Hazard(SHAPE, SHAPE / max(RATE_MIN, (FRESH if fresh else 1.0) * rate) + age_h)


def _discounted(own: Iterable[OwnLife], now_h: float) -> tuple[float, float, float]:
    """Interruptions and hours of our lives, weighted by age as a history's are; and the last interruption's hour."""
    events, hours, lost_h = 0.0, 0.0, -math.inf
    for life in own:
        end_h = life.until_h(now_h)
        if life.began_h >= now_h:
            continue
        weight = math.exp(-(now_h - end_h) / MEMORY_HOURS)
        hours += MEMORY_HOURS * (weight - math.exp(-(now_h - life.began_h) / MEMORY_HOURS))
        if life.interrupted:
            events += weight
            lost_h = max(lost_h, end_h)
    return events, hours, lost_h


def steady(prior: Prior) -> Hazard:
    """The hazard of what is not taken back by a market, whose age says nothing: an exponential with its prior."""
    return Hazard(prior.events, prior.hours)


def prior_of(offer: Offer) -> Prior:
    """The prior by the offer's interruption class; a known reliability sharpens that of a host that must not fail."""
    base = PRIORS[offer.interruption]
    if offer.reliability is None:
        return base
    return Prior(base.events, base.events / (base.per_hour + from_reliability(offer.reliability)))


def from_reliability(reliability: float, outage_h: float = 12.0) -> float:
    """Host failures per hour of a marketplace's reliability score, read as the share of time that the host is there.

    Up time over cycle: r = (1/h) / (1/h + outage), so h = (1 - r) / (r x outage). The length of an outage is assumed.
    """
    share = min(max(reliability, 0.01), 1.0)
    return (1.0 - share) / (share * outage_h)


def prior_from_capacity_history(rates: list[float], own_stops_per_hour: float = 1 / 24, events: float = 2.0) -> Prior:
    """A prior from Google's capacity history (`preemptionHistory[].preemptionRate`, newest last).

    The rate is preempted / all spot machines that stopped. With two competing exponential causes it equals
    hp / (hp + hu), so hp = hu x r / (1 - r). The rate hu at which users stop machines themselves is not published; once
    a day is assumed, hence the weight of only `events` interruptions. Raises BadInput for an empty list or a rate
    outside 0 to 1.
    """
    if not rates or not all(0.0 <= rate <= 1.0 for rate in rates):
        raise BadInput("a capacity history needs at least one preemption rate, each from 0 to 1")
    weights = [0.9 ** (len(rates) - 1 - index) for index in range(len(rates))]
    mean = sum(w * r for w, r in zip(weights, rates, strict=True)) / sum(weights)
    per_hour = own_stops_per_hour * min(mean, 0.99) / (1 - min(mean, 0.99))
    return Prior(events, events / max(per_hour, RATE_MIN))
