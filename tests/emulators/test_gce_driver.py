"""Google's driver before the emulated service: each fault by itself, and what would go wrong without our care."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from google.cloud import compute_v1

from dumont.errors import NoCapacity, NoSuchInstance, ProviderError
from dumont.model.instance import Machine
from dumont.model.offer import Need
from dumont.provider.base import Machinery, Phase, Why
from dumont.provider.gce import verdict
from dumont.provider.gce.account import Ref
from dumont.provider.gce.ending import Ending
from dumont.provider.gce.gce import GceProvider
from dumont.provider.gce.machines import Machines
from dumont.provider.gce.order import Order
from tests.emulators.gce_stand import FAULTS
from tests.emulators.gce_world import NEED, ZONES, Google, account_at, boot_for, google, rent, script_for, slow_setting

A, B, C = ZONES


@pytest.fixture
async def stand() -> AsyncIterator[Google]:
    async with google() as stand:
        yield stand


def labels(machines: list[Machinery]) -> list[str]:
    return sorted(machine.label for machine in machines)


def nothing_is_left(stand: Google) -> bool:
    """What is truly there, whatever anybody says."""
    return not (stand.world.vms or stand.world.disks or stand.world.addresses)


async def life(stand: Google) -> None:
    """A machine's whole life: two at a time ask for it, it is lost and let go."""
    driver = stand.driver()
    first, second = await asyncio.gather(rent(driver, "cpu-1"), rent(driver, "cpu-1"))
    assert first.ref == second.ref
    assert len(stand.world.vms) == 1
    assert labels(await driver.machines()) == ["cpu-1"]
    stand.emulator.lives.preempt(stand.the_vm())
    await stand.pass_time(60)
    machine = await driver.machine(first.ref)
    assert machine.phase is Phase.STOPPED
    assert (await rent(driver, "cpu-1")).ref == first.ref
    await driver.release(first.ref)
    assert nothing_is_left(stand)
    with pytest.raises(NoSuchInstance):
        await driver.machine(first.ref)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_machine_lives_under_each_fault(stand: Google, name: str) -> None:
    """One at a time, so that a failure names its fault."""
    stand.faults.change(FAULTS[name])
    await life(stand)


# --- what our care is for: the same faults before a careless driver


class NeverClears(Ending):
    """Trusts that a disk goes with its machine."""

    async def clear(self, ref: Ref) -> None:
        return None


async def test_without_a_look_for_it_a_disk_would_be_left(stand: Google) -> None:
    """The negative control of every test that ends with nothing left."""
    driver, account = stand.driver(), account_at(stand.emulator)
    tools = driver.tools
    careless = NeverClears(account, tools.calls, tools.machines, stand.clock)
    driver.tools = replace(tools, ending=careless)
    stand.faults.change({"leaves_disks": True, "leaves_addresses": True})
    await driver.release((await rent(driver, "cpu-1")).ref)
    assert len(stand.world.disks) == 1
    assert len(stand.world.addresses) == 1


class Partial(Machines):
    """Reads the list and not its warnings."""

    async def ours(self, label: str | None = None) -> list[compute_v1.Instance]:
        request = compute_v1.AggregatedListInstancesRequest(project="acme")
        told = await self._calls.ask(
            "Listing", lambda c, s: list(c.instances.aggregated_list(request=request, retry=None, timeout=s))
        )
        return [vm for _, scoped in told for vm in scoped.instances]


async def test_a_zone_that_is_left_out_of_the_list_is_an_error(stand: Google) -> None:
    """Otherwise every machine in it would count as gone (I6). A reader of the list alone sees nothing wrong."""
    driver = stand.driver()
    await rent(driver, "cpu-1")
    stand.faults.unreachable = {A}
    with pytest.raises(ProviderError, match=A):
        await driver.machines()
    partial = Partial(account_at(stand.emulator), driver.tools.calls, driver.tools.operations)
    driver.tools = replace(driver.tools, machines=partial)
    assert await driver.machines() == []
    assert len(stand.world.vms) == 1


async def test_a_lost_answer_is_not_asked_for_twice(stand: Google) -> None:
    """The request is sent again, with the same requestId, until its answer comes through."""
    driver = stand.driver()
    stand.faults.lost_answers = 3
    await rent(driver, "cpu-1")
    assert stand.judge.methods["compute.instances.insert"] >= 4
    assert len(stand.world.vms) == 1
    assert len(stand.world.gone) == 0


async def test_an_old_failure_is_not_taken_for_the_answer(stand: Google) -> None:
    """The same request is answered with the failed operation for as long as Google remembers: a new number is due."""
    driver = stand.driver(replace(account_at(stand.emulator), zones=(A,)))
    offer = (await driver.offers(NEED))[0]
    stand.faults.stock_out = {A}
    for _ in range(3):
        with pytest.raises(NoCapacity):
            await rent(driver, "cpu-1", offer)
    stand.faults.stock_out = set()
    assert (await rent(driver, "cpu-1", offer)).phase is Phase.RUNNING


async def test_an_empty_answer_is_no_empty_list(stand: Google) -> None:
    """`{}` reads as a list without machines; Google's own has a kind. It is asked for again, and then an error."""
    driver = stand.driver()
    machine = await rent(driver, "cpu-1")
    stand.faults.emptied = 1
    assert labels(await driver.machines()) == ["cpu-1"]
    stand.faults.emptied = 1
    assert (await driver.machine(machine.ref)).label == "cpu-1"
    stand.faults.emptied_share = 1.0
    for ask in (driver.machines(), driver.machine(machine.ref), driver.release(machine.ref)):
        with pytest.raises(ProviderError, match="empty"):
            await ask


class Credulous(Machines):
    """Takes every 404 for the end of a machine."""

    async def _confirm(self, zone: str) -> None:
        return None

    async def was_deleted(self, zone: str, machine_id: int) -> bool:
        return True


async def test_a_404_of_somebody_else_is_not_gone(stand: Google) -> None:
    """A project that is hidden, or a zone that is, says nothing about the machines in it (I6)."""
    driver = stand.driver()
    machine = await rent(driver, "cpu-1")
    astray = machine.ref.replace(A, "mars-east1-a")
    for ask in (driver.machine, driver.release):
        with pytest.raises(ProviderError) as error:
            await ask(astray)
        assert not isinstance(error.value, NoSuchInstance)
    credulous = Credulous(driver.account, driver.tools.calls, driver.tools.operations)
    driver.tools = replace(driver.tools, machines=credulous)
    with pytest.raises(NoSuchInstance):
        await driver.machine(astray)


async def test_a_machine_of_a_zone_that_was_taken_out_of_the_account_is_kept_in_sight(stand: Google) -> None:
    """It still costs: who is told that it is gone would pay for it for ever."""
    machine = await rent(stand.driver(), "cpu-1")
    moved = stand.driver(replace(account_at(stand.emulator), zones=("europe-west4-a",)))
    assert labels(await moved.machines()) == ["cpu-1"]
    assert (await moved.machine(machine.ref)).phase is Phase.RUNNING
    await moved.release(machine.ref)
    assert nothing_is_left(stand)


async def test_an_api_that_is_away_is_an_error_once_patience_is_over(stand: Google) -> None:
    """And not before: minutes of trouble are Google's everyday life. Nothing is said of any machine."""
    driver = stand.driver()
    machine = await rent(driver, "cpu-1")
    stand.faults.change({"server_errors_share": 1.0})
    began = stand.clock.monotonic()
    for asked in (driver.machines(), driver.machine(machine.ref), driver.release(machine.ref)):
        with pytest.raises(ProviderError) as error:
            await asked
        assert not isinstance(error.value, NoSuchInstance | NoCapacity)
    assert stand.clock.monotonic() - began > 3 * 60


# --- capacity


async def test_a_zone_without_stock_is_passed_over(stand: Google) -> None:
    """The next zone of the region is tried, in the order of preference, and nothing of the first try is left."""
    driver = stand.driver()
    stand.faults.change({"stock_out": [A, f"{B}/e2-small"], "leaves_disks": True})
    machine = await rent(driver, "cpu-1")
    assert machine.facts["zone"] == C
    assert set(stand.world.disks) == {(C, stand.the_vm().name)}


async def test_what_was_out_of_stock_is_not_offered_for_a_while(stand: Google) -> None:
    """Asking on and on brings nothing; after some minutes it may."""
    driver = stand.driver()
    stand.faults.stock_out = {A}
    await rent(driver, "cpu-1")
    assert {offer.zone for offer in await driver.offers(NEED)} == {B, C}
    await stand.pass_time(400)
    assert {offer.zone for offer in await driver.offers(NEED)} == {A, B, C}


@pytest.mark.parametrize("trait", [{}, {"no_http_fields": True}, {"leaves_machine": True}, {"leaves_disks": True}])
async def test_without_stock_anywhere_there_is_no_capacity(stand: Google, trait: dict[str, Any]) -> None:
    """In words that name the zones; and no disk or dead machine is paid for."""
    driver = stand.driver()
    stand.faults.change({"stock_out": list(ZONES), **trait})
    with pytest.raises(NoCapacity, match=r"us-central1-a: .*us-central1-b: .*us-central1-c: "):
        await rent(driver, "cpu-1")
    assert nothing_is_left(stand)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_quota_is_told_in_words(stand: Google, at_once: bool) -> None:
    """Which, how much, where, and what to do; other zones of the region are not tried."""
    driver = stand.driver()
    offer = (await driver.offers(NEED))[0]
    stand.faults.change({"quotas": {"us-central1": {"PREEMPTIBLE_CPUS": 0.0}}, "quota_at_once": at_once})
    with pytest.raises(NoCapacity, match=r"PREEMPTIBLE_CPUS.*Quotas"):
        await rent(driver, "cpu-1", offer)
    assert stand.judge.methods["compute.instances.insert"] == 1
    assert nothing_is_left(stand)


async def test_an_unknown_failure_is_no_lack_of_capacity(stand: Google) -> None:
    """Whoever gets NoCapacity tries elsewhere; this one needs a person."""
    driver = stand.driver()
    offer = replace((await driver.offers(NEED))[0], name="e9-huge")
    with pytest.raises(ProviderError) as error:
        await rent(driver, "cpu-1", offer)
    assert not isinstance(error.value, NoCapacity)


# --- preemption


async def test_a_machine_that_was_taken_back_says_so(stand: Google) -> None:
    """Its resource does not tell; the operations do."""
    driver = stand.driver()
    machine = await rent(driver, "cpu-1")
    stand.emulator.lives.preempt(stand.the_vm())
    await stand.pass_time(60)
    for seen in (await driver.machine(machine.ref), *await driver.machines()):
        assert (seen.phase, seen.why) == (Phase.STOPPED, Why.PREEMPTED)


async def test_a_machine_on_its_way_out_warns(stand: Google) -> None:
    """For up to 30 s it may still run, or not: unknown, and why."""
    driver = stand.driver()
    machine = await rent(driver, "cpu-1")
    stand.emulator.lives.preempt(stand.the_vm())
    seen = await driver.machine(machine.ref)
    assert (seen.phase, seen.why) == (Phase.UNKNOWN, Why.PREEMPTED)


async def test_a_machine_that_vanished_was_taken_back(stand: Google) -> None:
    """With DELETE the operation is the only evidence, joined by the id of its target."""
    driver = stand.driver()
    machine, other = await rent(driver, "cpu-1"), await rent(driver, "cpu-2")
    stand.emulator.lives.preempt(stand.world.vm(A, machine.ref.split("/")[1]), "DELETE")
    await stand.pass_time(60)
    seen = await driver.machine(machine.ref)
    assert (seen.phase, seen.why) == (Phase.GONE, Why.PREEMPTED)
    assert labels(await driver.machines()) == ["cpu-2"]
    await driver.release(machine.ref)
    await driver.release(other.ref)
    with pytest.raises(NoSuchInstance):
        await driver.machine(other.ref)
    stand.faults.operation_retention_s = 0
    with pytest.raises(NoSuchInstance):
        await driver.machine(machine.ref)


@pytest.mark.parametrize(
    ("pull", "why"),
    [
        (lambda stand, vm: stand.emulator.lives.stop(vm, ""), Why.ASKED),
        (lambda stand, vm: stand.emulator.lives.crash(vm), Why.UNTOLD),
    ],
)
async def test_other_ends_are_no_preemption(stand: Google, pull: Callable[[Google, Any], Any], why: Why) -> None:
    """Somebody stopped it by hand; its host failed, of which we are told nothing that we know."""
    driver = stand.driver()
    machine = await rent(driver, "cpu-1")
    pull(stand, stand.the_vm())
    await stand.pass_time(60)
    seen = await driver.machine(machine.ref)
    assert (seen.phase, seen.why) == (Phase.STOPPED, why)


async def test_a_run_limit_is_our_own_wish(stand: Google) -> None:
    """The dead-man switch, once set, is in the request, and tells itself from a preemption."""
    driver = stand.driver(replace(account_at(stand.emulator), run_s_max=900))
    machine = await rent(driver, "cpu-1")
    await stand.pass_time(1000)
    seen = await driver.machine(machine.ref)
    assert (seen.phase, seen.why) == (Phase.STOPPED, Why.ASKED)


@pytest.mark.parametrize("action", ["STOP", "DELETE"])
async def test_a_machine_that_is_taken_back_while_it_is_made(stand: Google, action: str) -> None:
    """It has the label, or nothing has; it is never rented a second time behind our back, and nothing is left."""
    driver = stand.driver(replace(account_at(stand.emulator), zones=(A,)))
    stand.faults.change({"preempt_on_create": 1, "preempt_on_create_action": action})
    if action == "STOP":
        machine = await rent(driver, "cpu-1")
        await stand.pass_time(60)
        seen = await driver.machine(machine.ref)
        assert (seen.phase, seen.why) == (Phase.STOPPED, Why.PREEMPTED)
        await driver.release(machine.ref)
    else:
        with pytest.raises(NoCapacity):
            await _rent_late(stand, driver)
    assert nothing_is_left(stand)


async def _rent_late(stand: Google, driver: GceProvider) -> None:
    """With a driver that looks seldom, the machine is gone by the time that the failure is read."""
    seldom = stand.driver(replace(driver.account, poll_s=30.0))
    await rent(seldom, "cpu-1")


async def test_a_drill_takes_a_machine_back_for_real(stand: Google) -> None:
    """The same signs as a real one, which the drill is to prepare for."""
    driver = stand.driver()
    machine = await rent(driver, "cpu-1")
    await driver.kill(machine.ref)
    await stand.pass_time(60)
    assert (await driver.machine(machine.ref)).why is Why.PREEMPTED


# --- several at a time


async def test_two_processes_in_two_zones_keep_one_machine(stand: Google) -> None:
    """One met a stock-out that was over when the other came: names hold only within a zone."""
    first, second = stand.driver(seed=1), stand.driver(replace(account_at(stand.emulator), zones=(B, A, C)), seed=2)
    offers = [(await driver.offers(NEED))[0] for driver in (first, second)]
    assert [offer.zone for offer in offers] == [A, B]
    stand.faults.listing_lag_s = 1000  # neither list shows the other's
    made = await asyncio.gather(rent(first, "cpu-1", offers[0]), rent(second, "cpu-1", offers[1]))
    assert len({machine.ref for machine in made}) == 1
    assert [vm.name for vm in stand.world.vms.values()] == [made[0].facts["name"]]
    assert len(stand.world.gone) == 1


class Blind(GceProvider):
    """Does not look whether another process made one too."""

    async def _only(self, made: compute_v1.Instance, what: Order) -> compute_v1.Instance:
        return made


async def test_without_a_look_around_there_would_be_two(stand: Google) -> None:
    """The negative control of the one above."""
    accounts = [account_at(stand.emulator), replace(account_at(stand.emulator), zones=(B, A, C))]
    stand.faults.listing_lag_s = 1000
    blind = [Blind(account, script_for, stand.clock, Random(1)) for account in accounts]
    stand.drivers += blind
    await asyncio.gather(*(rent(driver, "cpu-1") for driver in blind))
    assert len(stand.world.vms) == 2


async def test_another_installation_is_not_touched(stand: Google) -> None:
    """On the same project, under the same label; nor is what a person made by hand."""
    ours, theirs = stand.driver(), stand.driver(account_at(stand.emulator, "other"))
    one, two = await rent(ours, "cpu-1"), await rent(theirs, "cpu-1")
    assert [machine.ref for machine in await ours.machines()] == [one.ref]
    with pytest.raises(NoSuchInstance):
        await ours.machine(two.ref)
    with pytest.raises(ProviderError, match="another installation"):
        await ours.release(two.ref)
    assert len(stand.world.vms) == 2


async def test_labels_that_look_alike_are_two_machines(stand: Google) -> None:
    """Google's names and labels are short and in small letters; ours are kept whole in the metadata."""
    driver = stand.driver()
    alike = ["Cpu 1", "cpu-1", "CPU_1", "x" * 200, "x" * 201]
    machines = [await rent(driver, label) for label in alike]
    assert len({machine.ref for machine in machines}) == len(alike)
    assert labels(await driver.machines()) == sorted(alike)
    assert [(await rent(driver, label)).ref for label in alike] == [machine.ref for machine in machines]


async def test_a_list_that_lags_makes_no_second_machine(stand: Google) -> None:
    """The name is the second line of defence, and then the machine that bears it is the answer."""
    stand.faults.listing_lag_s = 300
    first, second = stand.driver(), stand.driver()
    one = await rent(first, "cpu-1")
    offer = (await second.offers(NEED))[0]
    two = await second.rent(offer, "cpu-1", replace(boot_for("cpu-1"), join_token="another"))
    assert one.ref == two.ref
    assert len(stand.world.vms) == 1


async def test_many_pages_are_all_read(stand: Google) -> None:
    """More machines than one page holds."""
    driver = stand.driver(replace(account_at(stand.emulator), zones=(A,)))
    await rent(driver, "cpu-0")
    vm = stand.the_vm()
    for number in range(1, 1200):
        name = f"{vm.name}-{number}"
        copy = replace(vm, name=name, resource={**vm.resource, "name": name, "id": str(10**6 + number)})
        copy.resource["selfLink"] += f"-{number}"
        stand.world.vms[A, name] = copy
    assert len(await driver.machines()) == 1200
    assert stand.judge.methods["compute.instances.aggregatedList"] >= 4


async def test_a_machine_that_is_stuck_on_its_way_is_starting(stuck: Google) -> None:
    """Its operation does not end in time; it is there, it costs, and it can be let go while it is stuck."""
    driver = stuck.driver()
    machine = await rent(driver, "cpu-1")
    assert machine.phase is Phase.STARTING
    assert machine.host == ""
    await driver.release(machine.ref)
    assert nothing_is_left(stuck)


@pytest.fixture
async def stuck() -> AsyncIterator[Google]:
    """Machines never come out of STAGING."""
    async with google(setting=slow_setting(staging_s=10**6)) as stand:
        yield stand


async def test_on_demand_machines_are_rented_too(stand: Google) -> None:
    """Where the policy says so: never taken back, and dearer."""
    driver = stand.driver()
    (offer, *_) = await driver.offers(Need(machine=Machine.CPU, disk_gb=10, spot=False, on_demand=True))
    await rent(driver, "cpu-1", offer)
    vm = stand.the_vm()
    assert not vm.spot
    assert offer.price_micros_per_hour > (await driver.offers(NEED))[0].price_micros_per_hour


async def test_a_machine_carries_what_it_needs_and_no_right_to_the_project(stand: Google) -> None:
    """Script, tag and marks; no service account: hosts are strangers (I7)."""
    driver = stand.driver()
    await rent(driver, "cpu-1")
    vm = stand.the_vm()
    assert vm.attribute("startup-script") == "#!/bin/bash\n# cpu-1 on e2-small\n"
    assert vm.resource["tags"]["items"] == ["dumont"]
    assert vm.resource["serviceAccounts"] == []
    assert vm.resource["disks"][0]["autoDelete"] is True
    assert stand.world.disks[A, vm.name]["labels"]["dumont-installation"] == "test"


def test_our_verdict_reads_the_errors_alone() -> None:
    """Trap 2: the HTTP fields may be missing on a failure."""
    operation = compute_v1.Operation(
        status=compute_v1.Operation.Status.DONE,
        error=compute_v1.Error(errors=[compute_v1.Errors(code="ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS")]),
    )
    failure = verdict.failure_of(operation)
    assert failure is not None
    assert failure.trouble is verdict.Trouble.STOCK
    assert verdict.failure_of(compute_v1.Operation(status=compute_v1.Operation.Status.DONE)) is None
