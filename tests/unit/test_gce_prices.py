"""Google's prices: a dated table in exact money, and offers that hold what somebody needs."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Need
from dumont.provider.gce.account import Account
from dumont.provider.gce.prices import SIZES, Prices, country_of, disk_gib

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ACCOUNT = Account(
    project="p", zones=("us-central1-a", "us-west4-b", "europe-west4-a"), installation="i", server_host="h"
)
NEED = Need(machine=Machine.CPU, disk_gb=10)


@pytest.fixture
def prices() -> Prices:
    return Prices.shipped()


@pytest.mark.parametrize(
    ("zone", "kind", "spot", "on_demand"),
    [
        ("us-central1-a", "e2-small", 10_053, 16_753),
        ("us-central1-a", "e2-standard-4", 80_424, 134_023),
        ("us-west4-b", "e2-standard-2", 9_088, 75_471),
        ("us-central1-a", "t2d-standard-1", 15_760, None),
    ],
)
def test_a_price_is_what_its_source_says(
    prices: Prices, zone: str, kind: str, spot: int, on_demand: int | None
) -> None:
    """In millionths of a dollar, with a date and a source (I9)."""
    price = prices.of(zone, kind)
    assert price is not None
    assert (price.spot_micros, price.on_demand_micros) == (spot, on_demand)
    assert price.as_of == date(2026, 7, 30)
    assert "Cyclenerd" in price.source


def test_every_type_with_a_price_has_a_size(prices: Prices) -> None:
    """An offer without memory could not be compared with a need."""
    priced = {offer.name for offer in prices.offers(ACCOUNT, NEED, NOW)}
    assert priced
    assert priced <= set(SIZES)


def test_offers_are_the_cheapest_first_and_whole(prices: Prices) -> None:
    """Machine, disk and address together; the parts where they are known to be the region's own."""
    offers = prices.offers(ACCOUNT, NEED, NOW)
    assert [o.price_micros_per_hour for o in offers] == sorted(o.price_micros_per_hour for o in offers)
    here = next(o for o in offers if (o.zone, o.name) == ("us-central1-a", "e2-small"))
    assert here.price_micros_per_hour == 10_053 + 1_389 + 5_000
    assert here.disk_micros_per_hour == 1_389
    there = next(o for o in offers if (o.zone, o.name) == ("us-west4-b", "e2-small"))
    assert there.disk_micros_per_hour is None
    assert there.price_micros_per_hour == 2_272 + 1_389 + 5_000


def test_an_offer_names_what_is_interrupted_together(prices: Prices) -> None:
    """A zone and a family of machines."""
    offer = prices.offers(ACCOUNT, NEED, NOW)[0]
    assert offer.domain == f"gce/{offer.zone}/{offer.name.split('-')[0]}"
    assert (offer.interruption, offer.spot) == (Interruption.PREEMPTED, True)
    assert offer.id == f"gce/{offer.zone}/{offer.name}/spot"


@pytest.mark.parametrize(
    "change",
    [
        {"ram_mb_min": 4_000},
        {"regions": frozenset({"us-central1"})},
        {"regions": frozenset({"NL"})},
        {"price_micros_per_hour_max": 12_000},
        {"spot": False, "on_demand": True},
    ],
)
def test_offers_keep_every_bound(prices: Prices, change: dict[str, object]) -> None:
    """And only those that keep it are left out."""
    need = replace(NEED, **change)  # type: ignore[arg-type]
    offers, everything = prices.offers(ACCOUNT, need, NOW), prices.offers(ACCOUNT, replace(NEED, on_demand=True), NOW)
    assert 0 < len(offers) < len(everything)
    for offer in offers:
        assert (offer.ram_mb or 0) >= need.ram_mb_min
        assert not need.regions or need.regions & {offer.region, country_of(offer.zone)}
        assert offer.price_micros_per_hour <= (need.price_micros_per_hour_max or 10**9)
        assert offer.spot is need.spot


def test_a_gpu_is_not_offered(prices: Prices) -> None:
    """Only CPUs are rented from Google."""
    assert prices.offers(ACCOUNT, Need(machine=Machine.GPU), NOW) == []


def test_memory_is_counted_in_the_need_s_unit(prices: Prices) -> None:
    """2,048 MiB are 2,147 MB: enough for who needs 2,100, too little for 2,200."""
    small = replace(ACCOUNT, types=("e2-small",))
    assert prices.offers(small, replace(NEED, ram_mb_min=2_100), NOW)
    assert prices.offers(small, replace(NEED, ram_mb_min=2_200), NOW) == []


@pytest.mark.parametrize(("need_gb", "gib"), [(1, 10), (10, 10), (11, 11), (20, 19), (100, 94)])
def test_a_disk_is_never_smaller_than_needed(prices: Prices, need_gb: int, gib: int) -> None:
    """Google's GB are 2^30 bytes; the offer says GB of 10^9, and is ordered in Google's again."""
    offer = prices.offers(ACCOUNT, replace(NEED, disk_gb=need_gb), NOW)[0]
    assert disk_gib(offer) == gib
    assert (offer.disk_gb or 0) >= need_gb


def test_what_google_tells_stands_above_the_table(prices: Prices) -> None:
    """For its zone alone, from its date on; older news change nothing."""
    prices.learn("us-central1-a", "c3-standard-4", 70_000, NOW)
    learnt = prices.of("us-central1-a", "c3-standard-4")
    assert learnt is not None
    assert (learnt.spot_micros, learnt.as_of) == (70_000, NOW.date())
    assert prices.of("us-central1-b", "c3-standard-4") is None
    prices.learn("us-central1-a", "c3-standard-4", 1, datetime(2020, 1, 1, tzinfo=UTC))
    assert prices.of("us-central1-a", "c3-standard-4") == learnt
