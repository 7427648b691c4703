"""Listing, releasing and bidding at Vast.ai, and why a machine stopped: each trap, with negative controls.

A control is a careless driver: the same one with a single check taken out. It must fail what the real one passes.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from dumont.emulate.vast.faults import Fault, Kind
from dumont.emulate.vast.world import KEY
from dumont.errors import BadInput, NoCapacity, NoSuchInstance, ProviderError
from dumont.model.instance import Machine
from dumont.model.offer import Need
from dumont.provider.base import Phase, Why
from dumont.provider.vast import Settings, VastProvider
from dumont.provider.vast.client import Content, KeyRefused, Refusal
from dumont.provider.vast.roster import Roster
from tests.emulators.vast_stand import Stand, StoppedClock, box, model, rent, vast_stand


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with vast_stand() as stand:
        yield stand


def heard(stand: Stand, name: str) -> int:
    return [endpoint for endpoint, _, _ in stand.world.heard].count(name)


# --- listing and reading


BAD_KEY = [Kind.KEY_404, Kind.KEY_401]


@pytest.mark.parametrize("kind", BAD_KEY)
async def test_an_expired_key_loses_no_machine(stand: Stand, kind: Kind) -> None:
    """The service says 404 to everything then; machines that run and bill would be forgotten."""
    machine = await stand.rent()
    stand.world.book.add(Fault(endpoint="*", kind=kind, times=0))
    for question in (
        stand.provider.machines(),
        stand.provider.machine(machine.ref),
        stand.provider.release(machine.ref),
    ):
        with pytest.raises(KeyRefused) as error:
            await question
        assert not isinstance(error.value, NoSuchInstance)
    assert len(stand.world.present) == 1


async def test_a_driver_that_reads_a_bare_404_as_gone_loses_it(stand: Stand) -> None:
    """The control: the look by name without a look at what kind of 404 it is."""

    class Careless(Roster):
        async def one(self, number: int) -> Content:
            try:
                return await super().one(number)
            except Refusal as refusal:
                if refusal.status == 404:
                    raise NoSuchInstance("gone") from refusal
                raise

    machine = await stand.rent()
    await stand.provider.machines()
    stand.provider.roster = Careless(stand.provider.client)
    stand.world.book.add(Fault(endpoint="*", kind=Kind.KEY_404, times=0))
    with pytest.raises(NoSuchInstance):
        await stand.provider.machine(machine.ref)


BODIES: list[Any] = [None, [], {}, "", {"success": True}, {"success": True, "instances": None}, {"instances": {}}]


@pytest.mark.parametrize("body", BODIES)
async def test_a_list_of_another_shape_is_an_error(stand: Stand, body: Any) -> None:
    """An empty list tells control that every machine is gone."""
    machine = await stand.rent()
    stand.world.book.add(Fault(endpoint="list", kind=Kind.GARBLED, body=body, times=0))
    with pytest.raises(ProviderError):
        await stand.provider.machines()
    with pytest.raises(ProviderError):
        await stand.provider.release(machine.ref)
    stand.world.book.clear()
    assert [m.ref for m in await stand.provider.machines()] == [machine.ref]


async def test_a_driver_that_takes_no_list_for_an_empty_one_sees_nothing(stand: Stand) -> None:
    """The control: `answer.get("instances") or []`."""

    class Careless(Roster):
        async def rows(self, filters: Content | None = None) -> list[Content]:
            try:
                return await super().rows(filters)
            except ProviderError:
                return []

    await stand.rent()
    stand.clock.seconds += 600
    await stand.provider.machines()
    stand.provider.roster = Careless(stand.provider.client)
    stand.world.book.add(Fault(endpoint="list", kind=Kind.GARBLED, body={"instances": None}, times=0))
    assert await stand.provider.machines() == []


async def test_more_machines_than_a_page_are_all_listed() -> None:
    """The 26th bills too."""
    async with vast_stand(box(1, gpus=40)) as stand:
        offer = await stand.offer()
        for number in range(30):
            await stand.rent(f"gpu-{number}", offer)
        assert len(await stand.provider.machines()) == 30


async def test_what_is_not_ours_is_neither_listed_nor_touched(stand: Stand) -> None:
    """Two installations, or a person, may share the account."""
    other = stand.driver(installation="lab2")
    offer = await stand.offer()
    theirs = await rent(other, offer, "gpu-1")
    ours = await stand.rent("gpu-1", offer)
    assert theirs.ref != ours.ref
    assert [m.ref for m in await stand.provider.machines()] == [ours.ref]
    with pytest.raises(NoSuchInstance):
        await stand.provider.machine(theirs.ref)
    with pytest.raises(ProviderError, match="not of this installation"):
        await stand.provider.release(theirs.ref)
    assert len(stand.world.present) == 2


def test_an_installations_name_can_be_no_path() -> None:
    """A slash in it would make one installation's labels another's."""
    settings = Settings(key=KEY, installation="lab/2", server_host="h", script_for=lambda boot, offer: "")
    with pytest.raises(BadInput):
        VastProvider(settings, None, StoppedClock(), Random(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("shows_404", [False, True])
async def test_only_a_denial_by_name_is_gone(stand: Stand, shows_404: bool) -> None:
    """Null, or a 404 that says no_such_instance: both are the service's own words for it."""
    stand.world.habits.shows_404 = shows_404
    with pytest.raises(NoSuchInstance):
        await stand.provider.machine("12345")


# --- releasing


async def test_a_destroy_that_was_refused_for_its_rate_is_sent_again(stand: Stand) -> None:
    """A 429 did nothing at all, and the machine went on billing."""
    machine = await stand.rent()
    stand.world.book.add(Fault(endpoint="destroy", kind=Kind.RATE_ENVELOPE, times=3, threshold_s=3.0))
    await stand.provider.release(machine.ref)
    assert stand.world.present == []


async def test_a_release_returns_when_the_list_has_let_go(stand: Stand) -> None:
    """Destroy is answered before the contract is gone."""
    stand.world.habits.gone_lag_s = 20.0
    machine = await stand.rent()
    began = stand.clock.seconds
    await stand.provider.release(machine.ref)
    assert stand.clock.seconds - began >= 20
    assert await stand.provider.machines() == []


async def test_what_was_destroyed_before_it_was_listed_does_not_come_back(stand: Stand) -> None:
    """A late list shows it as ending for a while; the sweeper would end it again and again."""
    stand.world.habits.change({"listing_lag_s": 20.0, "gone_lag_s": 60.0})
    machine = await stand.rent()
    await stand.provider.release(machine.ref)
    stand.clock.seconds += 20
    assert await stand.provider.roster.rows() != [], "it is listed now"
    assert await stand.provider.machines() == []
    with pytest.raises(NoSuchInstance):
        await stand.provider.machine(machine.ref)


async def test_a_contract_that_never_leaves_the_list_is_an_error(stand: Stand) -> None:
    """Destroyed means that the provider confirmed it (I4); bounded, so that the sweeper goes on."""
    stand.world.habits.gone_lag_s = 1e6
    machine = await stand.rent()
    with pytest.raises(ProviderError, match="still lists"):
        await stand.provider.release(machine.ref)


async def test_a_teardown_of_a_fleet_ends_every_machine() -> None:
    """One destroy in three seconds is all that is allowed."""
    async with vast_stand(box(1, gpus=12)) as stand:
        stand.world.habits.limits = True
        offer = await stand.offer()
        machines = [await stand.rent(f"gpu-{number}", offer) for number in range(12)]
        await asyncio.gather(*(stand.provider.release(machine.ref) for machine in machines))
        assert stand.world.present == []


# --- starting, stopping, bidding


async def test_a_queued_start_is_cancelled(stand: Stand) -> None:
    """It would fire hours later, and bill for a machine that nobody waits for."""
    machine = await stand.rent()
    rental = stand.rental(machine)
    await stand.provider.stop(machine.ref)
    stand.world.displace(rental)
    with pytest.raises(NoCapacity):
        await stand.provider.start(machine.ref)
    stand.world.withdraw(rental.box)
    await stand.pass_time(3600)
    assert rental.holding is None
    assert (await stand.provider.machine(machine.ref)).why is Why.ASKED


async def test_a_queued_start_that_is_left_alone_fires(stand: Stand) -> None:
    """The control: what happens without the cancelling stop."""
    machine = await stand.rent()
    rental = stand.rental(machine)
    await stand.provider.stop(machine.ref)
    stand.world.displace(rental)
    with pytest.raises(Refusal):
        await stand.provider._state(rental.id, "running")
    assert (await stand.provider.machine(machine.ref)).facts["queued"]
    stand.world.withdraw(rental.box)
    await stand.pass_time(3600)
    assert rental.holding is not None


async def test_a_higher_bid_brings_an_outbid_machine_back(stand: Stand) -> None:
    """Without a start; that it runs is then no surprise."""
    machine = await stand.rent()
    stand.world.outbid(stand.rental(machine))
    assert (await stand.provider.machine(machine.ref)).why is Why.OUTBID
    await stand.provider.change_bid(machine.ref, 900_000)
    again = await stand.provider.machine(machine.ref)
    assert (again.phase, again.price_micros_per_hour) == (Phase.RUNNING, 902_778)
    assert "resumed" not in again.facts


# --- why a machine stopped


async def test_reasons_of_a_stop_are_told_apart(stand: Stand) -> None:
    """All of them end in the same three fields."""

    async def seen() -> tuple[Phase, Why]:
        machine = (await stand.provider.machines())[0]
        return machine.phase, machine.why

    machine = await stand.rent()
    rental = stand.rental(machine)
    assert await seen() == (Phase.RUNNING, Why.UNTOLD)
    await stand.provider.stop(machine.ref)
    assert await seen() == (Phase.STOPPED, Why.ASKED)
    await stand.provider.start(machine.ref)
    assert await seen() == (Phase.RUNNING, Why.UNTOLD)
    stand.world.halt(rental)
    assert await seen() == (Phase.STOPPED, Why.UNTOLD)
    await stand.provider.start(machine.ref)
    stand.world.outbid(rental)
    assert await seen() == (Phase.STOPPED, Why.OUTBID)
    stand.world.withdraw(rental.box)
    await stand.provider.stop(machine.ref)
    await stand.provider.start(machine.ref)
    stand.world.displace(rental)
    assert await seen() == (Phase.STOPPED, Why.OUTBID)


async def test_an_offline_host_is_unknown_and_comes_back(stand: Stand) -> None:
    """Its machine is neither dead nor billed; control waits for a second witness (I6)."""
    machine = await stand.rent()
    stand.rental(machine).box.online = False
    seen = (await stand.provider.machines())[0]
    assert (seen.phase, seen.why, seen.price_micros_per_hour) == (Phase.UNKNOWN, Why.OFFLINE, 0)
    stand.rental(machine).box.online = True
    assert (await stand.provider.machines())[0].phase is Phase.RUNNING


async def test_an_empty_account_is_told_for_every_machine(stand: Stand) -> None:
    """It looks like a person who stopped the whole fleet."""
    offer = await stand.offer()
    for label in ("gpu-1", "gpu-2"):
        await stand.rent(label, offer)
    stand.world.account.credit = stand.world.account.credit * 0
    await stand.pass_time(0)
    assert [(m.phase, m.why) for m in await stand.provider.machines()] == [(Phase.STOPPED, Why.NO_CREDIT)] * 2


async def test_a_search_that_fails_makes_nobody_outbid(stand: Stand) -> None:
    """No answer from the market is no evidence; the list itself is answered all the same."""
    machine = await stand.rent()
    stand.world.outbid(stand.rental(machine))
    stand.world.book.add(Fault(endpoint="search", kind=Kind.GARBLED, body={}, times=0))
    (seen,) = await stand.provider.machines()
    assert (seen.phase, seen.why) == (Phase.STOPPED, Why.UNTOLD)
    stand.world.book.clear()
    stand.clock.seconds += 61
    assert (await stand.provider.machines())[0].why is Why.OUTBID


async def test_the_reason_is_looked_for_once(stand: Stand) -> None:
    """A sweep comes every five seconds; ten searches a minute are all there is."""
    machine = await stand.rent()
    stand.world.outbid(stand.rental(machine))
    before = heard(stand, "search")
    for _ in range(12):
        await stand.provider.machines()
    assert heard(stand, "search") == before + 1


async def test_an_outbid_machine_that_resumes_by_itself_is_seen_to(stand: Stand) -> None:
    """Its agent is a writer of an old epoch: the fence stops it, and control ends the machine."""
    machine = await stand.rent()
    rental = stand.rental(machine)
    stand.world.outbid(rental)
    assert (await stand.provider.machine(machine.ref)).why is Why.OUTBID
    stand.world.withdraw(rental.box)
    (seen,) = await stand.provider.machines()
    assert (seen.phase, seen.facts["resumed"]) == (Phase.RUNNING, "outbid")


async def test_a_machine_that_resumed_is_looked_at_anew_when_it_stops_again(stand: Stand) -> None:
    """It was outbid once; the second time the account is empty."""
    rental = stand.rental(await stand.rent())
    stand.world.outbid(rental)
    assert (await stand.provider.machines())[0].why is Why.OUTBID
    stand.world.withdraw(rental.box)
    await stand.provider.machines()
    stand.world.account.credit *= 0
    await stand.pass_time(0)
    assert (await stand.provider.machines())[0].why is Why.NO_CREDIT


@pytest.mark.parametrize(
    ("word", "phase"), [("missing", Phase.STARTING), ("private", Phase.STARTING), ("device", Phase.STOPPED)]
)
async def test_an_image_that_cannot_run_is_told(stand: Stand, word: str, phase: Phase) -> None:
    """Loading may last for ever, and a broken host gives up by itself; the text is all that tells it."""
    settings = replace(stand.settings, image=f"example/{word}:1")
    provider = VastProvider(settings, stand.http, stand.clock, Random(1))
    machine = await rent(provider, await stand.offer(), "gpu-1")
    seen = await provider.machine(machine.ref)
    assert (seen.phase, seen.why) == (phase, Why.FAILED)
    assert seen.facts["status"]


async def test_stuck_in_loading_is_starting_and_not_failed(stand: Stand) -> None:
    """A slow host pulls for hours; how long to wait is placement's to decide."""
    stand.world.habits.stuck_loading = True
    machine = await stand.rent()
    await stand.pass_time(7200)
    seen = await stand.provider.machine(machine.ref)
    assert (seen.phase, seen.why) == (Phase.STARTING, Why.UNTOLD)


# --- the rest


async def test_what_machines_are_said_to_cost_is_what_is_billed(stand: Stand) -> None:
    """The ledger sums these prices; the bill is pay-as-bid by the second (I8)."""
    machine = await stand.rent("gpu-1", replace(await stand.offer(), bid_micros_per_hour=237_501))
    rental = stand.rental(machine)

    async def an_hour() -> int:
        (seen,) = await stand.provider.machines()
        assert seen.price_micros_per_hour is not None
        await stand.pass_time(3600)
        return seen.price_micros_per_hour

    await stand.pass_time(0)
    began, billed = stand.clock.seconds, rental.gpu_micros + rental.disk_micros
    told = await an_hour()
    await stand.provider.stop(machine.ref)
    told += await an_hour()
    billed = rental.gpu_micros + rental.disk_micros - billed
    between_s = stand.clock.seconds - began - 7200  # the calls' own time, at no more than the higher price
    assert abs(told - billed) <= 2 + 240_280 * between_s / 3600


async def test_logs_come_when_the_host_has_sent_them(stand: Stand) -> None:
    """Their address answers 404 until then, and needs no key."""
    stand.world.habits.log_polls = 3
    machine = await stand.rent()
    assert f"instance {machine.ref}" in await stand.provider.logs(machine.ref)
    stand.world.habits.log_polls = 1_000
    with pytest.raises(ProviderError, match="did not come"):
        await stand.provider.logs(machine.ref)


async def test_an_ssh_key_is_added_once(stand: Stand) -> None:
    """For the account, and for a machine that is already there (a list as text within JSON)."""
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEmulated me@here"
    assert await stand.provider.keys.all() == []
    for comment in ("", "@another"):
        await stand.provider.keys.add(key + comment)
    assert list(stand.world.account.ssh_keys.values()) == [key]
    machine = await stand.rent()
    for _ in range(2):
        await stand.provider.keys.attach(machine.ref, key)
    assert stand.rental(machine).keys == [(1, key)]


async def test_a_cpu_machine_is_the_cheapest_box_that_suits(stand: Stand) -> None:
    """Every machine of this market has GPUs; nobody uses them then."""
    offer = await stand.offer(Need(machine=Machine.CPU))
    assert (offer.machine, offer.gpus) == (Machine.CPU, 0)
    machine = await stand.rent("cpu-1", offer)
    assert stand.rental(machine).box.model is model("RTX 3060")
