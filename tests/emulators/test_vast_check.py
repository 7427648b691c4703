"""What `dumont provider check` and `probe` say of a Vast.ai account, before the emulated service."""

from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import pytest

from dumont.emulate.vast.faults import Fault, Kind
from dumont.provider.check import Checkable, Finding, Outcome, Step, Triable
from dumont.provider.vast import VastProvider
from tests.emulators.vast_stand import Stand, vast_stand


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with vast_stand() as stand:
        stand.world.habits.change({"limits": True, "boot_s": 120.0})
        yield stand


async def checked(provider: VastProvider) -> dict[str, Finding]:
    return {finding.name: finding for finding in await provider.check()}


async def tried(provider: VastProvider) -> dict[str, Step]:
    return {step.name: step for step in await provider.probe()}


async def test_a_good_account_has_nothing_missing(stand: Stand) -> None:
    """And nothing was rented or changed to find that out."""
    assert isinstance(stand.provider, Checkable)
    found = await checked(stand.provider)
    assert [name for name, finding in found.items() if finding.ok is False] == []
    assert {name for name, finding in found.items() if finding.ok} >= {
        "reachable",
        "key",
        "search",
        "instances",
        "credit",
    }
    assert "$25.00" in found["credit"].detail
    assert stand.world.rentals == {}


async def test_a_bad_key_is_named_and_the_rest_is_unknown(stand: Stand) -> None:
    """Nothing can be said of the account then, and nothing is."""
    found = await checked(VastProvider(replace(stand.settings, key="x"), stand.http, stand.clock, Random(1)))
    assert (found["reachable"].ok, found["key"].ok, found["credit"].ok) == (True, False, None)
    assert "Vast.ai, Keys" in found["key"].remedy


async def test_a_missing_permission_is_named(stand: Stand) -> None:
    """A key may be good and lack one right."""
    stand.world.account.keys["narrow"] = frozenset({"misc"})
    found = await checked(VastProvider(replace(stand.settings, key="narrow"), stand.http, stand.clock, Random(1)))
    assert (found["key"].ok, found["search"].ok, found["instances"].ok, found["credit"].ok) == (True, True, False, None)
    assert "instance_read" in found["instances"].remedy
    assert "user_read" in found["credit"].remedy


async def test_an_empty_account_is_named(stand: Stand) -> None:
    """Without credit every machine is stopped."""
    stand.world.account.credit -= stand.world.account.credit
    found = await checked(stand.provider)
    assert found["credit"].ok is False and "Billing" in found["credit"].remedy


async def test_an_unreachable_service_is_named(stand: Stand) -> None:
    """And says nothing about the key."""
    settings = replace(stand.settings, url="http://127.0.0.1:9")
    found = await checked(VastProvider(settings, stand.http, stand.clock, Random(1)))
    assert (found["reachable"].ok, found["key"].ok) == (False, None)


@pytest.mark.parametrize("host", ["192.168.1.7", "10.0.0.1", "server.local", "127.0.0.1"])
async def test_a_server_that_only_this_house_can_reach_is_named(stand: Stand, host: str) -> None:
    """Machines at a stranger's would dial nowhere, and bill."""
    settings = replace(stand.settings, server_host=host, url=stand.url.replace("127.0.0.1", "127.0.0.2"))
    found = await checked(VastProvider(settings, stand.http, stand.clock, Random(1)))
    assert found["reachable"].ok is False, "an address of loopback that is not the emulator's own"
    provider = VastProvider(replace(stand.settings, server_host=host), stand.http, stand.clock, Random(1))
    assert (await checked(provider))["server address"].ok is True, "an emulator's machines are on this one"


async def test_a_trial_confirms_every_assumption_and_leaves_nothing(stand: Stand) -> None:
    """Search, create, label, list, bid, stop, start, destroy."""
    assert isinstance(stand.provider, Triable)
    steps = await tried(stand.provider)
    assert {name: step.detail for name, step in steps.items() if step.outcome is not Outcome.CONFIRMED} == {}
    assert all(step.assumption for step in steps.values())
    assert len(stand.world.rentals) == 1 and stand.world.present == []
    assert stand.world.account.spent < 100_000, "a few cents"


async def test_a_trial_is_not_taken_for_an_orphan(stand: Stand) -> None:
    """The sweeper ends every machine of the installation that it has no record of."""
    stand.world.book.add(Fault(endpoint="destroy", kind=Kind.STATUS, status=400, body={"error": "x"}, times=2))
    steps = await tried(stand.provider)
    assert steps["clean up"].outcome is Outcome.FAILED
    (left,) = stand.world.present
    assert await stand.provider.machines() == []
    assert "CONTAINER_API_KEY" in left.onstart, "it ends itself, should nobody do it"


async def test_the_next_trial_ends_what_the_last_one_left(stand: Stand) -> None:
    """Whoever paid for one trial must not go on paying for it."""
    stand.world.book.add(Fault(endpoint="destroy", kind=Kind.STATUS, status=400, body={"error": "x"}, times=2))
    await tried(stand.provider)
    steps = await tried(stand.provider)
    assert steps["clean up"].outcome is Outcome.CONFIRMED
    assert stand.world.present == []


async def test_a_failed_step_skips_the_rest_and_still_cleans_up(stand: Stand) -> None:
    """A trial that was interrupted must not cost more than a finished one."""
    stand.world.habits.stuck_loading = True
    steps = await tried(stand.provider)
    assert (steps["run"].outcome, steps["stop"].outcome) == (Outcome.FAILED, Outcome.SKIPPED)
    assert steps["clean up"].outcome is Outcome.CONFIRMED
    assert stand.world.present == []


async def test_a_service_that_behaves_otherwise_refutes(stand: Stand) -> None:
    """That is what a trial is for: our contract is then wrong, and says which line."""
    entry = Fault(endpoint="list", kind=Kind.STATUS, status=404, body={"success": False, "error": "nobody", "msg": "?"})
    stand.world.book.add(entry)
    steps = await tried(stand.provider)
    assert steps["wrong key"].outcome is Outcome.REFUTED
    assert steps["destroy"].outcome is Outcome.CONFIRMED, "what is refuted stops nothing"
