"""The listing: what is searched for, what is learnt from it, and what is remembered of prices."""

from dataclasses import replace

import pytest

from dumont.control.listing import NEEDS_MAX, Listing, needs, price_points
from dumont.db.memory import MemoryDatabase
from dumont.errors import ProviderError
from dumont.model.instance import Machine
from dumont.model.offer import Need, Offer
from dumont.model.policy import Policy, Wish
from dumont.model.workspace import Workspace
from tests.clocks import BEGAN, HandClock


class Shop:
    """A provider that offers what a test puts on its shelf."""

    name = "shop"
    server_host = "server"

    def __init__(self, *shelf: Offer) -> None:
        self.shelf = list(shelf)
        self.asked: list[Need] = []
        self.broken = False

    async def offers(self, need: Need) -> list[Offer]:
        self.asked.append(need)
        if self.broken:
            raise ProviderError("The shop is shut.")
        return [offer for offer in self.shelf if offer.machine is need.machine]


def offer(name: str, price: int = 400_000, **others: object) -> Offer:
    made = Offer(
        id=name, provider="shop", machine=Machine.GPU, name="RTX 4090", gpu="RTX 4090", gpus=1, region="BR",
        price_micros_per_hour=price, domain=f"shop/{name}", host=name,
    )  # fmt: skip
    return replace(made, **others)  # type: ignore[arg-type]


def workspace(name: str, **wish: object) -> Workspace:
    return Workspace(name=name, created_at=BEGAN, policy=Policy(gpu=Wish(**wish)))  # type: ignore[arg-type]


def test_equal_needs_are_searched_for_once() -> None:
    """A provider allows few searches a minute."""
    rows = [workspace("a"), workspace("b"), workspace("c", names=("L4",))]
    gpus = [need for need in needs(rows) if need.machine is Machine.GPU]
    assert [need.gpu_names for need in gpus] == [frozenset(), frozenset({"L4"})]


def test_too_many_needs_are_one_wide_search() -> None:
    """Each is held against the offers anyway; a hundred searches would take ten minutes."""
    rows = [workspace(str(number), names=(f"GPU {number}",)) for number in range(NEEDS_MAX + 1)]
    assert [need.gpu_names for need in needs(rows) if need.machine is Machine.GPU] == [frozenset()]


async def test_a_provider_that_errs_leaves_what_it_offered_before() -> None:
    """An error says nothing about what is for rent (I6)."""
    shop, listing = Shop(offer("m1")), Listing(MemoryDatabase(), HandClock())
    await listing.refresh(shop)  # type: ignore[arg-type]
    shop.broken = True
    with pytest.raises(ProviderError):
        await listing.refresh(shop)  # type: ignore[arg-type]
    assert [one.id for one in listing.all] == ["m1"]


async def test_what_vanishes_raises_its_hazard_and_what_nobody_looked_for_does_not() -> None:
    """A narrower search shows less; what it leaves out is not lost."""
    clock, database = HandClock(), MemoryDatabase()
    shop, listing = Shop(offer("m1"), offer("m2", gpu="L4")), Listing(database, clock)
    await listing.refresh(shop)  # type: ignore[arg-type]
    await database.add_workspace(workspace("a", names=("RTX 4090",)))
    shop.shelf, clock.seconds = [], 3600.0
    await listing.refresh(shop)  # type: ignore[arg-type]
    assert listing.beliefs.domains["shop/m1"].events == 1.0
    assert listing.beliefs.domains["shop/m2"].events == 0.0


async def test_an_offer_that_was_taken_is_not_tried_again_before_the_next_look() -> None:
    """It would be refused again and again."""
    shop, listing = Shop(offer("m1"), offer("m2")), Listing(MemoryDatabase(), HandClock())
    await listing.refresh(shop)  # type: ignore[arg-type]
    listing.drop(offer("m1"))
    assert [one.id for one in listing.all] == ["m2"]


async def test_prices_are_remembered_now_and_then() -> None:
    """A sparkline needs a history, and a database no row every five seconds."""
    clock, database = HandClock(), MemoryDatabase()
    listing, shop = Listing(database, clock), Shop(offer("m1", 300_000), offer("m2", 500_000))
    for _ in range(3):
        await listing.refresh(shop)  # type: ignore[arg-type]
        clock.seconds += 5.0
    points = await database.prices(BEGAN, "RTX 4090")
    assert [(p.lowest_micros_per_hour, p.median_micros_per_hour, p.offers) for p in points] == [(300_000, 400_000, 2)]


def test_a_machine_of_four_gpus_counts_by_the_gpu() -> None:
    """Otherwise large machines would look dear and small ones cheap."""
    points = price_points([offer("m1", 1_600_000, gpus=4)], BEGAN)
    assert [point.lowest_micros_per_hour for point in points] == [400_000]


class Told:
    """As Google answers."""

    def __init__(self) -> None:
        self.rates = [0.5, 0.5]


class Oracle(Shop):
    """A shop that tells how often it takes its goods back."""

    async def capacity_history(self, zone: str, kind: str) -> Told:
        if zone != "z1":
            raise ProviderError("Nobody asked about that zone.")
        return Told()


async def test_what_a_provider_tells_of_its_preemptions_is_believed_at_first() -> None:
    """Google publishes a rate for each zone and type; before we have seen anything, it is all there is to go by."""
    oracle = Oracle(offer("m1", zone="z1"), offer("m2", zone="z2"))
    listing = Listing(MemoryDatabase(), HandClock())
    await listing.refresh(oracle)  # type: ignore[arg-type]
    assert set(listing.beliefs.priors) == {"shop/m1"}
    assert listing.beliefs.priors["shop/m1"].per_hour == pytest.approx(1 / 24)
