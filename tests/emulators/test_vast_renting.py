"""Searching and renting at Vast.ai: each trap of the contract, before the emulated service, with negative controls.

A control is a careless driver: the same one with a single check taken out. It must fail what the real one passes.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from dumont.emulate.vast.faults import Fault, Kind
from dumont.errors import NoCapacity, ProviderError
from dumont.market.names import gpu_name
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Need
from dumont.provider.base import Phase, Why
from dumont.provider.vast import VastProvider
from dumont.provider.vast.client import Call, Client, Content, Unanswered
from dumont.provider.vast.offers import Row, rows
from tests.emulators.vast_stand import GPU, Stand, box, model, rent, vast_stand


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with vast_stand() as stand:
        yield stand


def heard(stand: Stand, name: str) -> int:
    return [endpoint for endpoint, _, _ in stand.world.heard].count(name)


# --- searching


async def test_all_offers_are_found_over_pages_of_64() -> None:
    """The service never answers more rows than that, whatever is asked; the cheapest come first."""
    async with vast_stand(*(box(n, gpus=1, price=400_000, floor=100_000 + 1_000 * n) for n in range(1, 101))) as stand:
        stand.world.habits.doubled_share = 0.2
        offers = await stand.provider.offers(GPU)
        prices = [offer.price_micros_per_hour for offer in offers]
        assert prices == sorted(prices)
        assert len({offer.host for offer in offers}) == len(offers) >= 100


async def test_equal_prices_do_not_end_the_pages() -> None:
    """Pages go on from the last price: a whole page of one price must not be read for ever, nor the rest be lost."""
    async with vast_stand(*(box(n, gpus=1) for n in range(1, 70))) as stand:
        assert len(await stand.provider.offers(GPU)) == 64
        assert heard(stand, "search") == 2


async def test_what_the_service_lets_through_is_checked_by_us() -> None:
    """Its numeric filters are not exact."""
    async with vast_stand(box(1), box(2, reliability=0.5), box(3, ram_mb=1_000)) as stand:
        stand.world.habits.sloppy_share = 1.0
        need = Need(machine=Machine.GPU, reliability_min=0.9, ram_mb_min=32_000)
        assert {offer.host for offer in await stand.provider.offers(need)} == {"30001"}
        careless = await rows(stand.provider.client, {"reliability": {"gte": 0.9}}, "bid", 20)
        assert {str(row.machine_id) for row in careless} == {"30001", "30002", "30003"}, "the control"


async def test_a_gpu_is_found_and_rented_by_the_markets_name() -> None:
    """The service calls it otherwise, and an offer is found again by its name."""
    async with vast_stand(box(1), box(2, model=model("A100 SXM4"), price=900_000, floor=700_000)) as stand:
        settings = replace(stand.settings, name_of=gpu_name)
        provider = VastProvider(settings, stand.http, stand.clock, Random(1))
        need = Need(machine=Machine.GPU, gpu_names=frozenset({"A100 SXM 80GB"}))
        (offer,) = await provider.offers(need)
        assert offer.gpu == "A100 SXM 80GB"
        await rent(provider, offer, "gpu-1")
        assert [rental.box.machine_id for rental in stand.world.present] == [30_002]


async def test_both_kinds_are_offered_with_their_own_prices(stand: Stand) -> None:
    """A bid row does not name the on-demand price."""
    offers = await stand.provider.offers(replace(GPU, on_demand=True))
    kinds = {offer.interruption: offer.compute_micros_per_hour for offer in offers}
    assert kinds == {Interruption.OUTBID: 200_000, Interruption.NEVER: 400_000}
    assert len({offer.id for offer in offers}) == 2


async def test_searches_stay_within_ten_a_minute(stand: Stand) -> None:
    """More get a 429, and every rent waits behind it."""
    stand.world.habits.limits = True
    for disk in range(20, 40):
        await stand.provider.offers(replace(GPU, disk_gb=disk))
    assert stand.clock.seconds >= 60
    assert heard(stand, "search") == 20, "none was refused"


async def test_a_listing_of_many_needs_does_not_hold_a_sweep_up(stand: Stand) -> None:
    """Machines are observed after it: where no search is free, the last answer stands for some minutes."""
    needs = [replace(GPU, disk_gb=disk) for disk in range(20, 40)]
    for need in needs:
        await stand.provider.offers(need)
    began = stand.clock.seconds
    for need in needs * 3:
        assert await stand.provider.offers(need)
    assert stand.clock.seconds - began < 60


async def test_a_refused_search_leaves_the_last_answer_for_some_minutes(stand: Stand) -> None:
    """And not for ever: a market of yesterday is none."""
    await stand.provider.offers(GPU)
    stand.world.book.add(Fault(endpoint="search", kind=Kind.QUOTA, times=0))
    stand.clock.seconds += 100
    assert await stand.provider.offers(GPU)
    stand.clock.seconds += 300
    with pytest.raises(ProviderError, match="quota"):
        await stand.provider.offers(GPU)


async def test_what_was_rented_is_not_offered_from_memory(stand: Stand) -> None:
    """Two workspaces would race for the same slice."""
    offer = await stand.offer()
    for label in ("gpu-1", "gpu-2"):
        await stand.rent(label, offer)
    stand.world.book.add(Fault(endpoint="search", kind=Kind.QUOTA, times=0))
    assert await stand.provider.offers(GPU) == []


async def test_a_used_up_search_quota_is_an_error_and_not_an_empty_market(stand: Stand) -> None:
    """An empty market would send every workspace to the CPU."""
    stand.world.book.add(Fault(endpoint="search", kind=Kind.QUOTA))
    with pytest.raises(ProviderError, match="quota"):
        await stand.provider.offers(GPU)
    assert heard(stand, "search") == 1


# --- creating


async def test_the_bid_is_what_placement_decided(stand: Stand) -> None:
    """A bid at the floor lives for minutes; nothing decided means the floor."""
    offer = await stand.offer()
    decided = await stand.rent("gpu-1", replace(offer, bid_micros_per_hour=237_501))
    assert stand.rental(decided).bid == 237_501
    assert stand.rental(await stand.rent("gpu-2", offer)).bid == 200_000


async def test_an_on_demand_offer_is_created_without_a_bid(stand: Stand) -> None:
    """The presence of a price alone decides whether a machine can be taken back."""
    offer = await stand.offer(Need(machine=Machine.GPU, spot=False, on_demand=True))
    machine = await stand.rent("gpu-1", offer)
    assert stand.rental(machine).bid is None
    assert machine.label == "gpu-1"


async def test_a_create_opens_the_ports_and_marks_the_label(stand: Stand) -> None:
    """Others have to reach the agent, and the sweeper has to know the machine."""
    machine = await stand.rent("gpu-1")
    rental = stand.rental(machine)
    assert rental.label == "dumont/lab/gpu-1"
    assert set(rental.environment) == {"-p 7022:7022", "-p 7080:7080", "-p 7443:7443"}
    machine = await stand.provider.machine(machine.ref)
    assert machine.host == "127.0.0.1", "without the newline that the service sends"
    assert (machine.facts["port/7022"], machine.facts["machine"]) == ("7022", "30001")
    assert machine.price_micros_per_hour == 202_778  # 0.20 + 0.10 × 20 GB ÷ 720 h


LOST = [Kind.LOST, Kind.LOST_504]


@pytest.mark.parametrize("kind", LOST)
async def test_a_create_whose_answer_was_lost_rents_once(stand: Stand, kind: Kind) -> None:
    """The service knows no idempotency key: the label is looked for, and found late."""
    stand.world.habits.listing_lag_s = 5.0
    offer = await stand.offer()
    stand.world.book.add(Fault(endpoint="create", kind=kind))
    machine = await stand.rent("gpu-1", offer)
    assert [rental.label for rental in stand.world.present] == ["dumont/lab/gpu-1"]
    assert machine.ref == str(stand.world.present[0].id)


@pytest.mark.parametrize("kind", LOST)
async def test_a_client_that_repeats_creates_rents_twice(stand: Stand, kind: Kind) -> None:
    """The control: what the official client does."""

    class Repeating(Client):
        async def call(self, call: Call) -> Content:
            try:
                return await super().call(call)
            except Unanswered:
                return await super().call(call)

    stand.provider._renting._client = _as(Repeating, stand.provider.client)
    offer = await stand.offer()
    stand.world.book.add(Fault(endpoint="create", kind=kind))
    await stand.rent("gpu-1", offer)
    assert len(stand.world.rentals) == 2


async def test_an_unknown_create_is_not_repeated_before_it_is_known(stand: Stand) -> None:
    """A contract may be listed a minute late; until then the answer to a rent is "unknown"."""
    stand.world.habits.listing_lag_s = 60.0
    offer = await stand.offer()
    stand.world.book.add(Fault(endpoint="create", kind=Kind.LOST))
    for _ in range(3):
        with pytest.raises(ProviderError) as error:
            await stand.rent("gpu-1", offer)
        assert not isinstance(error.value, NoCapacity), "that would be a clear no"
    await stand.pass_time(60)
    assert (await stand.rent("gpu-1", offer)).ref == str(stand.world.present[0].id)
    assert len(stand.world.rentals) == 1


async def test_a_create_that_was_given_up_while_it_was_on_its_way_is_looked_for(stand: Stand) -> None:
    """A server that shuts down, or a race that was decided, cancels the call and not what it does."""
    stand.world.habits.listing_lag_s = 60.0
    offer = await stand.offer()
    stand.world.book.add(Fault(endpoint="create", kind=Kind.HUNG, retry_after_s=0.5))
    renting = asyncio.create_task(stand.rent("gpu-1", offer))
    while not stand.world.present:
        await asyncio.sleep(0.005)
    renting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await renting
    with pytest.raises(ProviderError, match="no answer yet"):
        await stand.rent("gpu-1", offer)
    stand.clock.seconds += 60
    assert (await stand.rent("gpu-1", offer)).ref == str(stand.world.present[0].id)
    assert len(stand.world.rentals) == 1


async def test_a_create_that_never_arrived_is_tried_again_later(stand: Stand) -> None:
    """Otherwise one dropped connection would block a label for ever."""
    offer = await stand.offer()
    stand.world.book.add(Fault(endpoint="create", kind=Kind.DROPPED))
    with pytest.raises(ProviderError):
        await stand.rent("gpu-1", offer)
    assert stand.world.present == []
    stand.clock.seconds += 121
    assert (await stand.rent("gpu-1", offer)).label == "gpu-1"


async def test_a_machine_that_is_listed_late_is_neither_gone_nor_rented_twice(stand: Stand) -> None:
    """Right after a create neither the list nor the name finds it; the sweeper must not take it for lost."""
    stand.world.habits.listing_lag_s = 30.0
    machine = await stand.rent("gpu-1")
    assert [m.ref for m in await stand.provider.machines()] == [machine.ref]
    assert (await stand.provider.machine(machine.ref)).phase is Phase.STARTING
    assert (await stand.rent("gpu-1")).ref == machine.ref
    assert len(stand.world.rentals) == 1


async def test_a_server_that_died_after_the_create_finds_the_machine(stand: Stand) -> None:
    """The next process has only the label; the list is seconds behind."""
    stand.world.habits.listing_lag_s = 3.0
    offer = await stand.offer()
    machine = await stand.rent("gpu-1", offer)
    assert (await rent(stand.driver(), offer, "gpu-1")).ref == machine.ref
    assert len(stand.world.rentals) == 1


async def test_two_processes_that_create_in_one_instant_end_up_with_one(stand: Stand) -> None:
    """Nothing locks them: the newer contract is told under a label that nobody knows, or ended by a look."""
    offer = await stand.offer()
    one, two = stand.driver(), stand.driver()
    await asyncio.gather(rent(one, offer, "gpu-1"), rent(two, offer, "gpu-1"), return_exceptions=True)
    labels = sorted(machine.label for machine in await one.machines())
    assert labels[0] == "gpu-1"
    assert all(label.startswith("gpu-1+") for label in labels[1:]), "the sweeper ends what it does not know"
    machine = await rent(one, offer, "gpu-1")
    assert [str(rental.id) for rental in stand.world.present] == [machine.ref]


async def test_a_bid_that_is_too_low_leaves_nothing_behind(stand: Stand) -> None:
    """The service answers 200 with a contract that is stopped and bills its disk."""
    stand.world.habits.leaves_contract = True
    offer = replace(await stand.offer(), bid_micros_per_hour=200_000)
    seen = await stand.provider._renting._slice(offer, "bid")
    stand.world.boxes[30_001].floor = 250_000  # between the search and the create
    with pytest.raises(NoCapacity):
        await _create_on(stand, offer, seen)
    assert len(stand.world.rentals) == 1, "it was created"
    assert stand.world.present == [], "and ended"


async def test_an_offer_that_became_dearer_is_not_rented(stand: Stand) -> None:
    """Placement decided on a price."""
    offer = await stand.offer()
    stand.world.boxes[30_001].floor = 250_000
    with pytest.raises(NoCapacity):
        await stand.rent("gpu-1", offer)
    assert stand.world.rentals == {}


@pytest.mark.parametrize("kind", [Kind.NO_SUCH_ASK_400, Kind.NO_SUCH_ASK_404, Kind.NO_SUCH_ASK_410])
async def test_a_vanished_offer_is_searched_again_and_then_no_capacity(stand: Stand, kind: Kind) -> None:
    """Its id changes with every search; only when it is gone for good is the answer no."""
    offer = await stand.offer()
    stand.world.book.add(Fault(endpoint="create", kind=kind, times=2))
    assert (await stand.rent("gpu-1", offer)).label == "gpu-1"
    stand.world.book.add(Fault(endpoint="create", kind=kind, times=3))
    with pytest.raises(NoCapacity):
        await stand.rent("gpu-2", offer)


async def test_an_empty_account_is_an_error_that_says_so(stand: Stand) -> None:
    """It is no lack of capacity: the next offer would fail as well."""
    offer = await stand.offer()
    stand.world.account.credit -= stand.world.account.credit
    with pytest.raises(ProviderError, match="credit") as error:
        await stand.rent("gpu-1", offer)
    assert not isinstance(error.value, NoCapacity)


async def test_a_machine_that_comes_up_stopped_is_started_once(stand: Stand) -> None:
    """A race of the service: loading, and stopped in all other fields, until somebody starts it."""
    stand.world.habits.races = True
    machine = await stand.rent("gpu-1")
    assert stand.rental(machine).holding is not None
    assert heard(stand, "state") == 1


async def test_a_machine_that_came_up_stopped_and_is_listed_late_is_started_then(stand: Stand) -> None:
    """Nobody else would: it bills its disk, and control waits for it to boot."""
    stand.world.habits.change({"races": True, "listing_lag_s": 30.0})
    machine = await stand.rent("gpu-1")
    assert stand.rental(machine).holding is None
    stand.clock.seconds += 30
    await stand.provider.machines()
    assert stand.rental(machine).holding is not None


async def test_a_machine_that_we_stopped_before_it_was_listed_stays_stopped(stand: Stand) -> None:
    """The control to the one above: what was asked for last holds."""
    stand.world.habits.change({"races": True, "listing_lag_s": 30.0})
    machine = await stand.rent("gpu-1")
    await stand.provider.stop(machine.ref)
    stand.clock.seconds += 30
    (seen,) = await stand.provider.machines()
    assert (seen.phase, seen.why) == (Phase.STOPPED, Why.ASKED)


async def test_a_script_that_is_too_long_is_refused_before_anything_is_rented(stand: Stand) -> None:
    """The service cuts it or refuses it, after a search and a minute."""
    settings = replace(stand.settings, script_for=lambda boot, offer: "x" * 4097)
    provider = VastProvider(settings, stand.http, stand.clock, Random(1))
    with pytest.raises(ProviderError, match="4096"):
        await rent(provider, await stand.offer(), "gpu-1")
    assert stand.world.rentals == {}


def _as(kind: type[Client], client: Client) -> Client:
    other = kind.__new__(kind)
    other.__dict__.update(client.__dict__)
    return other


async def _create_on(stand: Stand, offer: Any, seen: Row) -> Any:
    """A create whose slice was looked up before the market moved."""

    async def earlier(offer: Any, kind: str) -> Row:
        return seen

    stand.provider._renting._slice = earlier  # type: ignore[method-assign]
    return await stand.rent("gpu-1", offer)
