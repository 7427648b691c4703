"""`dumont provider check` and `probe` for Google: what is missing is said in words; a trial ends what it rented."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from dumont.emulate.gce.places import firewall
from dumont.provider.check import Checkable, Finding, Outcome, Step, Triable
from dumont.provider.gce.gce import GceProvider
from tests.emulators.gce_world import NOWHERE, ZONES, Google, account_at, google, rent


@pytest.fixture
async def stand() -> AsyncIterator[Google]:
    async with google() as stand:
        yield stand


async def found(driver: GceProvider) -> dict[str, Finding]:
    return {finding.name: finding for finding in await driver.check()}


async def test_an_account_with_everything_is_found_well(stand: Google) -> None:
    """Nothing is rented for it, and nothing changed. Whether one may rent shows only by doing it."""
    driver = stand.driver()
    assert isinstance(driver, Checkable)
    assert isinstance(driver, Triable)
    findings = await found(driver)
    wrong = {name: finding for name, finding in findings.items() if finding.ok is not True}
    assert set(wrong) == {"renting", "prices"}  # the table is of July, the test's clock of November
    assert not {method for method in stand.judge.methods if not method.endswith((".get", ".list"))}


@pytest.mark.parametrize(
    ("fault", "name", "words"),
    [
        ({"denied": "authError"}, "credentials", "gcloud auth application-default login"),
        ({"denied": "accessNotConfigured"}, "credentials", "gcloud services enable compute.googleapis.com"),
        ({"denied": "insufficientPermissions"}, "credentials", "https://www.googleapis.com/auth/compute"),
        ({"denied": "forbidden"}, "credentials", "roles/compute.instanceAdmin.v1"),
        ({"quotas": {"us-central1": {"PREEMPTIBLE_CPUS": 0.0}}}, "quota us-central1", "granted as 0"),
        ({"quotas": {"us-central1": {"PREEMPTIBLE_CPUS": 1.0}}}, "quota us-central1", "1 of 1 left"),
        ({"quotas": {"us-central1": {"IN_USE_ADDRESSES": 0.0}}}, "quota us-central1", "IN_USE_ADDRESSES"),
        ({"quotas": {"us-central1": {"SSD_TOTAL_GB": 5.0}}}, "quota us-central1", "SSD_TOTAL_GB"),
    ],
)
async def test_what_is_missing_is_said(stand: Google, fault: dict[str, Any], name: str, words: str) -> None:
    """With what to do about it."""
    stand.faults.change(fault)
    finding = (await found(stand.driver()))[name]
    assert finding.ok is False
    assert words in finding.detail + finding.remedy
    assert finding.remedy


async def test_trouble_that_passes_is_not_taken_for_something_missing(stand: Google) -> None:
    """An API that is away says nothing of the account."""
    stand.faults.change({"server_errors_share": 1.0})
    findings = await found(stand.driver())
    assert {finding.ok for name, finding in findings.items() if name != "prices"} == {None}


async def test_a_zone_that_is_none_and_a_project_that_is_none_are_said(stand: Google) -> None:
    """Typing errors are the commonest of all."""
    account = account_at(stand.emulator)
    wrong_zone = (await found(stand.driver(replace(account, zones=(*ZONES, "us-central1-z")))))["zones"]
    assert (wrong_zone.ok, "us-central1-z does not exist" in wrong_zone.detail) == (False, True)


async def test_closed_ports_are_named_with_the_command_that_opens_them() -> None:
    """A machine that nobody reaches is money for nothing."""
    async with google(setting=replace(NOWHERE, firewall_open=False)) as stand:
        driver = stand.driver()
        finding = (await found(driver))["firewall"]
        assert finding.ok is False
        assert "7022, 7080, 7443" in finding.detail
        assert "--allow=tcp:7022,tcp:7080,tcp:7443 --target-tags=dumont" in finding.remedy
        driver.may_open_firewall = True
        assert (await found(driver))["firewall"].ok is True
        assert set(stand.world.firewalls) == {"dumont"}


async def test_a_rule_that_denies_is_seen(stand: Google) -> None:
    """One of a lower number decides."""
    denied = [{"IPProtocol": "tcp", "ports": ["7000-7100"]}]
    stand.world.firewalls["no"] = firewall(stand.world, "no", {"name": "no", "denied": denied, "priority": 10})
    finding = (await found(stand.driver()))["firewall"]
    assert "7022, 7080." in finding.detail


async def test_a_disk_without_a_machine_is_named(stand: Google) -> None:
    """It costs, and no list of machines shows it."""
    driver = stand.driver()
    await rent(driver, "cpu-1")
    vm = stand.the_vm()
    assert (await found(driver))["leftovers"].ok is True
    stand.world.vms.clear()
    stand.world.disks[vm.zone, vm.name].pop("users")
    finding = (await found(driver))["leftovers"]
    assert (finding.ok, vm.name in finding.detail) == (False, True)


# --- the trial


def outcomes(steps: list[Step]) -> dict[str, Outcome]:
    return {step.name: step.outcome for step in steps}


def nothing_is_left(stand: Google) -> bool:
    return not (stand.world.vms or stand.world.disks)


async def test_a_trial_confirms_what_the_emulator_was_built_by(stand: Google) -> None:
    """Every step; and it ends what it rented."""
    steps = await stand.driver().probe()
    assert [step for step in steps if step.outcome is not Outcome.CONFIRMED] == []
    assert len(steps) == 8
    assert len(stand.world.gone) == 1
    assert nothing_is_left(stand)


@pytest.mark.parametrize(
    ("fault", "name", "outcome"),
    [
        ({"advice_off": True}, "prices", Outcome.REFUTED),
        ({"stock_out": list(ZONES)}, "rent", Outcome.FAILED),
        ({"preempt_on_create": 1}, "rent", Outcome.REFUTED),
        ({"listing_lag_s": 3000.0}, "listed", Outcome.REFUTED),
        ({"server_errors_share": 1.0, "only": "serialPort"}, "script", Outcome.FAILED),
        ({"server_errors_share": 1.0, "only": "simulateMaintenanceEvent"}, "taken back", Outcome.FAILED),
    ],
)
async def test_a_trial_that_fails_cleans_up_too(
    stand: Google, fault: dict[str, Any], name: str, outcome: Outcome
) -> None:
    """What was refuted is no failure: the rest is still worth its cents. After a failure the rest is skipped."""
    stand.faults.change(fault)
    seen = outcomes(await stand.driver().probe())
    assert seen[name] is outcome
    *story, cleaning = seen.values()
    assert cleaning is Outcome.CONFIRMED
    failed_at = story.index(Outcome.FAILED) if Outcome.FAILED in story else len(story)
    assert Outcome.SKIPPED not in story[:failed_at]
    assert set(story[failed_at + 1 :]) <= {Outcome.SKIPPED}
    assert nothing_is_left(stand)


async def test_a_trial_finds_a_price_that_is_not_ours(stand: Google) -> None:
    """The table's date is no promise: what Google asks now is what is paid."""
    driver = stand.driver()
    driver.prices.learn(ZONES[0], "e2-small", 4_711, stand.clock.now())
    steps = await driver.probe()
    assert outcomes(steps)["prices"] is Outcome.REFUTED
    assert "4711" in steps[0].detail


async def test_a_trial_that_is_cancelled_cleans_up(stand: Google) -> None:
    """A person presses Ctrl-C while a machine is paid for."""
    driver = stand.driver()
    trying = asyncio.create_task(driver.probe())
    while not any(vm.status == "RUNNING" for vm in stand.world.vms.values()):
        await asyncio.sleep(0)
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    assert nothing_is_left(stand)


async def test_a_trial_does_not_touch_the_installations_machines(stand: Google) -> None:
    """It cleans up under a name of its own."""
    driver = stand.driver()
    machine = await rent(driver, "cpu-1")
    await driver.probe()
    assert [each.ref for each in await driver.machines()] == [machine.ref]


async def test_the_history_teaches_prices(stand: Google) -> None:
    """The market reads the rates; offers show the newest price, with its date."""
    driver = stand.driver()
    told = await driver.capacity_history(ZONES[0], "e2-standard-2")
    assert [period.price_micros_per_hour for period in told.prices] == sorted(
        (period.price_micros_per_hour for period in told.prices), reverse=True
    )
    assert told.rates
    assert all(0 <= rate <= 1 for rate in told.rates)
    price = driver.prices.of(ZONES[0], "e2-standard-2")
    assert price is not None
    assert price.spot_micros == told.prices[-1].price_micros_per_hour
    assert price.as_of == stand.clock.now().date()
    assert price.on_demand_micros
