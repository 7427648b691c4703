"""Google's own history of a spot machine type: what it cost, and how often it was taken back (contract §8)."""

from dataclasses import dataclass
from datetime import UTC, datetime

from google.cloud import compute_v1

from dumont.provider.gce.account import Account, region_of
from dumont.provider.gce.calls import Calls
from dumont.provider.gce.operations import when

MICROS = 10**6
NANOS_PER_MICRO = 1000


@dataclass(frozen=True, kw_only=True)
class PricePeriod:
    """What an hour cost from `since` until `until`, in millionths of a US dollar, disk and address not included."""

    since: datetime
    until: datetime
    price_micros_per_hour: int


@dataclass(frozen=True, kw_only=True)
class PreemptionPeriod:
    """Of all spot machines that stopped in the period, the part that was preempted, from 0 to 1."""

    since: datetime
    until: datetime
    rate: float


@dataclass(frozen=True, kw_only=True)
class CapacityHistory:
    """What Google tells of one type in one zone, oldest first; either may be empty, as not every type is covered."""

    zone: str
    type: str
    prices: tuple[PricePeriod, ...] = ()
    preemptions: tuple[PreemptionPeriod, ...] = ()

    @property
    def rates(self) -> list[float]:
        """The preemption rates alone, newest last."""
        return [period.rate for period in self.preemptions]


async def capacity_history(account: Account, calls: Calls, zone: str, kind: str) -> CapacityHistory:
    """Ask Google. Raises ProviderError, also where the account may not ask."""
    wanted = compute_v1.CapacityHistoryRequest(
        types=["PRICE", "PREEMPTION"],
        location_policy=compute_v1.CapacityHistoryRequestLocationPolicy(location=f"zones/{zone}"),
        instance_properties=compute_v1.CapacityHistoryRequestInstanceProperties(
            machine_type=kind,
            scheduling=compute_v1.CapacityHistoryRequestInstancePropertiesScheduling(provisioning_model="SPOT"),
        ),
    )
    request = compute_v1.CapacityHistoryAdviceRequest(
        project=account.project, region=region_of(zone), capacity_history_request_resource=wanted
    )
    told = await calls.ask(
        f"Asking for the history of {kind} in {zone}",
        lambda c, s: c.advice.capacity_history(request=request, retry=None, timeout=s),
    )
    prices = [
        PricePeriod(since=since, until=until, price_micros_per_hour=micros)
        for record in told.price_history
        if (micros := _micros(record.list_price)) is not None
        for since, until in [_span(record.interval)]
    ]
    rates = [
        PreemptionPeriod(since=since, until=until, rate=record.preemption_rate)
        for record in told.preemption_history
        for since, until in [_span(record.interval)]
    ]
    return CapacityHistory(
        zone=zone,
        type=kind,
        prices=tuple(sorted(prices, key=lambda period: period.since)),
        preemptions=tuple(sorted(rates, key=lambda period: period.since)),
    )


def _span(interval: compute_v1.Interval) -> tuple[datetime, datetime]:
    """An end that is missing is the same instant: the record is of a moment."""
    since = when(interval.start_time) or datetime.min.replace(tzinfo=UTC)
    return since, when(interval.end_time) or since


def _micros(money: compute_v1.Money) -> int | None:
    """None for another currency, which we do not convert."""
    if money.currency_code != "USD":
        return None
    return money.units * MICROS + round(money.nanos / NANOS_PER_MICRO)
