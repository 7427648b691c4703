"""The emulated Google, item by item of the contract's checklist, asked over HTTP without any client of Google's."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from dumont.emulate.gce.bill import bill
from dumont.emulate.gce.vm import Vm
from dumont.emulate.gce.world import Setting
from dumont.emulate.ground import Ground, Nowhere
from tests.emulators.gce_world import NOWHERE, Google, google, slow_setting
from tests.emulators.test_gce_honesty import body

ZONE = "us-central1-a"
NAME = "ctl-job-7f3a"
ONE = f"zones/{ZONE}/instances/{NAME}"
MACHINES = f"zones/{ZONE}/instances"
LONG_S = 60.0


@dataclass
class Caller:
    """Asks below the project, and moves time on."""

    stand: Google
    http: httpx.AsyncClient

    async def ask(self, verb: str, path: str, content: Any = None, **query: str) -> tuple[int, dict[str, Any]]:
        answer = await self.http.request(verb, f"/compute/v1/projects/acme/{path}", json=content, params=query)
        return answer.status_code, answer.json()

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        status, told = await self.ask("GET", path, **query)
        assert status == 200, told
        return told

    async def refused(self, verb: str, path: str, content: Any = None, **query: str) -> tuple[int, str]:
        """Code and reason of a refusal."""
        status, told = await self.ask(verb, path, content, **query)
        assert status >= 400, told
        return status, str(told["error"]["errors"][0]["reason"])

    async def make(self, name: str = NAME, wait_s: float = LONG_S, **changes: Any) -> dict[str, Any]:
        """Insert, let time pass, and answer the operation as it then is."""
        status, operation = await self.ask("POST", MACHINES, {**body(name), **changes})
        assert status == 200, operation
        await self.stand.pass_time(wait_s)
        return await self.get(f"zones/{ZONE}/operations/{operation['name']}")

    async def status(self) -> str:
        return str((await self.get(ONE))["status"])

    async def events(self) -> list[dict[str, Any]]:
        """The operations that the system made."""
        told = await self.get(f"zones/{ZONE}/operations", filter='user="system"')
        return list(told.get("items", []))

    async def pull(self, lever: str, content: Any) -> httpx.Response:
        return await self.http.post(f"/_emulator/{lever}", json=content)


@contextlib.asynccontextmanager
async def calling(setting: Setting, ground: Ground | None = None) -> AsyncIterator[Caller]:
    async with (
        google(setting=setting, ground=ground) as stand,
        httpx.AsyncClient(base_url=stand.emulator.endpoint) as http,
    ):
        yield Caller(stand, http)


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with calling(slow_setting(invented_addresses=True)) as caller:
        yield caller


def spot(**changes: Any) -> dict[str, Any]:
    """Scheduling of a spot machine without a run limit."""
    usual = {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE", "automaticRestart": False}
    return {"scheduling": usual | changes}


def nat(vm: dict[str, Any]) -> str | None:
    return vm["networkInterfaces"][0]["accessConfigs"][0].get("natIP")


async def test_a_machine_comes_to_run_step_by_step(caller: Caller) -> None:
    """The operation is answered at once; the state and the address follow it."""
    seen = []
    await caller.make(wait_s=0)
    for _ in range(12):
        vm = await caller.get(ONE)
        seen.append((vm["status"], nat(vm) is not None))
        await caller.stand.pass_time(1.0)
    assert list(dict.fromkeys(seen)) == [("PROVISIONING", False), ("STAGING", False), ("RUNNING", True)]
    assert vm["scheduling"]["preemptible"] is True


async def test_a_repeated_request_is_the_same_operation(caller: Caller) -> None:
    """Also long after, and once it failed."""
    request = str(uuid.UUID(int=7))
    _, first = await caller.ask("POST", MACHINES, body(), requestId=request)
    _, second = await caller.ask("POST", MACHINES, body(), requestId=request)
    assert (first["name"], first["clientOperationId"]) == (second["name"], request)
    assert len(caller.stand.world.vms) == 1


@pytest.mark.parametrize("request_id", ["1", str(uuid.UUID(int=0))])
async def test_a_request_id_that_is_none_is_refused(caller: Caller, request_id: str) -> None:
    """Zero is no UUID to Google."""
    assert await caller.refused("POST", MACHINES, body(), requestId=request_id) == (400, "invalid")


async def test_a_name_is_taken_until_its_bearer_is_gone(caller: Caller) -> None:
    """409 also while it is being deleted."""
    await caller.make()
    assert await caller.refused("POST", MACHINES, body()) == (409, "alreadyExists")
    await caller.ask("DELETE", ONE)
    assert await caller.refused("POST", MACHINES, body()) == (409, "alreadyExists")
    await caller.stand.pass_time(LONG_S)
    assert (await caller.refused("GET", ONE))[0] == 404
    await caller.make()


async def test_an_empty_list_has_no_items(caller: Caller) -> None:
    """Absent, not `[]`."""
    assert "items" not in await caller.get(MACHINES)
    assert "items" not in await caller.get("aggregated/instances")


async def test_a_list_comes_in_pages_and_filtered(caller: Caller) -> None:
    """Every machine once, in the order of names; terms are AND-ed; the two languages are not mixed."""
    for name in ("c", "a", "b"):
        await caller.make(name, wait_s=0, labels={"owner": "ctl" if name != "b" else "me"})
    seen, token = [], ""
    while True:
        told = await caller.get(MACHINES, maxResults="1", pageToken=token)
        seen += [vm["name"] for vm in told["items"]]
        if not (token := told.get("nextPageToken", "")):
            break
    assert seen == ["a", "b", "c"]

    async def names(text: str) -> list[str]:
        return [vm["name"] for vm in (await caller.get(MACHINES, filter=text)).get("items", [])]

    assert await names("labels.owner=ctl AND status=PROVISIONING") == ["a", "c"]
    assert await names("(labels.owner=ctl) (name!=a)") == ["c"]
    assert await names("name eq ^[ab]$") == ["a", "b"]
    assert await names("labels.owner:*") == ["a", "b", "c"]
    assert await names("labels.nobody=x") == []
    assert await names("scheduling.automaticRestart=false") == ["a", "b", "c"]
    assert (await caller.refused("GET", MACHINES, filter="(name eq a) (status=RUNNING)"))[0] == 400
    assert (await caller.refused("GET", MACHINES, maxResults="501"))[0] == 400


async def test_a_zone_without_stock_fails_in_the_operation(caller: Caller) -> None:
    """And leaves nothing; the HTTP fields are there, unless a fault leaves them out."""
    caller.stand.faults.stock_out = {ZONE}
    operation = await caller.make()
    assert operation["httpErrorStatusCode"] == 503
    assert operation["error"]["errors"][0]["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert (caller.stand.world.vms, caller.stand.world.disks) == ({}, {})
    caller.stand.faults.no_http_fields = True
    operation = await caller.make()
    assert "httpErrorStatusCode" not in operation
    assert operation["error"]


async def test_a_quota_fails_in_the_operation_with_its_figures(caller: Caller) -> None:
    """Or at once, by a knob; then with quotaExceeded."""
    caller.stand.faults.quotas = {"us-central1": {"PREEMPTIBLE_CPUS": 0.0}}
    error = (await caller.make())["error"]["errors"][0]
    assert error["code"] == "QUOTA_EXCEEDED"
    assert error["errorDetails"][0]["quotaInfo"]["limit"] == 0
    caller.stand.faults.quota_at_once = True
    assert await caller.refused("POST", MACHINES, body()) == (403, "quotaExceeded")
    assert caller.stand.world.vms == {}


async def test_operations_are_forgotten(caller: Caller) -> None:
    """After the retention a get is 404, also under its number."""
    operation = await caller.make()
    caller.stand.faults.operation_retention_s = 100
    await caller.stand.pass_time(200)
    for key in (operation["name"], operation["id"]):
        assert await caller.refused("GET", f"zones/{ZONE}/operations/{key}") == (404, "notFound")


@pytest.mark.parametrize("action", ["STOP", "DELETE"])
async def test_preemption_leaves_an_operation_of_the_system(caller: Caller, action: str) -> None:
    """With STOP the machine stays, with DELETE the operation is the only evidence."""
    await caller.make(**spot(instanceTerminationAction=action))
    vm_id = (await caller.get(ONE))["id"]
    await caller.pull("preempt", {"zone": ZONE, "name": NAME})
    assert caller.stand.the_vm().preempted
    await caller.stand.pass_time(LONG_S)
    (event,) = await caller.events()
    assert event["name"].startswith("systemevent-")
    assert (event["operationType"], event["status"]) == ("compute.instances.preempted", "DONE")
    assert event["targetId"] == vm_id
    if action == "STOP":
        vm = await caller.get(ONE)
        assert (vm["status"], nat(vm)) == ("TERMINATED", None)
        assert (ZONE, NAME) in caller.stand.world.disks
    else:
        assert await caller.refused("GET", ONE) == (404, "notFound")
        assert caller.stand.world.disks == {}


async def test_a_stop_by_hand_is_no_preemption(caller: Caller) -> None:
    """The same soft-off, but no operation of the system, and the metadata still says FALSE."""
    await caller.make(**spot())
    await caller.ask("POST", f"{ONE}/stop")
    await caller.stand.pass_time(LONG_S)
    assert await caller.status() == "TERMINATED"
    assert await caller.events() == []
    assert not caller.stand.the_vm().preempted


async def test_an_address_changes_with_a_restart(caller: Caller) -> None:
    """An ephemeral one is lost by a stop."""
    await caller.make(**spot())
    before = nat(await caller.get(ONE))
    await caller.ask("POST", f"{ONE}/stop")
    await caller.stand.pass_time(LONG_S)
    await caller.ask("POST", f"{ONE}/start")
    await caller.stand.pass_time(LONG_S)
    after = nat(await caller.get(ONE))
    assert before
    assert after
    assert before != after


async def test_a_stopped_machine_may_not_start_again_for_want_of_stock(caller: Caller) -> None:
    """It stays TERMINATED, and its disk is paid for."""
    await caller.make(**spot())
    await caller.ask("POST", f"{ONE}/stop")
    await caller.stand.pass_time(LONG_S)
    caller.stand.faults.stock_out = {"*/e2-small"}
    _, operation = await caller.ask("POST", f"{ONE}/start")
    await caller.stand.pass_time(LONG_S)
    failed = await caller.get(f"zones/{ZONE}/operations/{operation['name']}")
    assert failed["error"]["errors"][0]["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert await caller.status() == "TERMINATED"


async def test_what_is_stopping_can_do_nothing_else(caller: Caller) -> None:
    """resourceNotReady, for a delete too."""
    await caller.make(**spot())
    await caller.ask("POST", f"{ONE}/stop")
    assert await caller.status() == "STOPPING"
    for verb, path in (("POST", f"{ONE}/start"), ("POST", f"{ONE}/stop"), ("DELETE", ONE)):
        assert await caller.refused(verb, path) == (400, "resourceNotReady")


async def test_labels_are_set_only_over_those_that_were_read(caller: Caller) -> None:
    """A stale fingerprint is 412."""
    await caller.make()
    vm = await caller.get(ONE)
    change = {"labels": {"owner": "me"}, "labelFingerprint": vm["labelFingerprint"]}
    assert (await caller.ask("POST", f"{ONE}/setLabels", change))[0] == 200
    assert await caller.refused("POST", f"{ONE}/setLabels", change) == (412, "conditionNotMet")


async def test_a_run_limit_ends_a_machine_by_itself(caller: Caller) -> None:
    """The dead-man switch: with DELETE nothing is left, and nobody preempted it."""
    await caller.make(**spot(instanceTerminationAction="DELETE", maxRunDuration={"seconds": "600"}))
    await caller.stand.pass_time(500)
    assert await caller.status() == "RUNNING"
    await caller.stand.pass_time(150)
    assert (await caller.refused("GET", ONE))[0] == 404
    assert await caller.events() == []


@pytest.mark.parametrize(
    "changes",
    [
        spot(automaticRestart=True),
        spot(onHostMaintenance="MIGRATE"),
        spot(maxRunDuration={"seconds": "5"}),
        {"scheduling": {"provisioningModel": "STANDARD", "instanceTerminationAction": "STOP"}},
        {"labels": {"owner": "Ann"}},
        {"metadata": {"items": [{"key": "k", "value": "x" * (256 * 2**10 + 1)}]}},
        {"disks": []},
    ],
)
async def test_what_google_would_refuse_is_refused(caller: Caller, changes: dict[str, Any]) -> None:
    """A driver that sends it must not pass here and fail there."""
    assert await caller.refused("POST", MACHINES, {**body(), **changes}) == (400, "invalid")


async def test_a_machine_may_be_taken_back_while_it_is_made(caller: Caller) -> None:
    """Its insert then fails as UNSUPPORTED_OPERATION."""
    caller.stand.faults.preempt_on_create = 1
    operation = await caller.make(**spot())
    assert operation["error"]["errors"][0]["code"] == "UNSUPPORTED_OPERATION"
    assert await caller.status() == "TERMINATED"
    assert len(await caller.events()) == 1


async def test_a_notice_of_its_own_comes_before_the_end(caller: Caller) -> None:
    """preemptionNoticeDuration: the metadata says so first."""
    await caller.make(**spot(preemptionNoticeDuration={"seconds": "120"}))
    await caller.pull("preempt", {"zone": ZONE, "name": NAME})
    await caller.stand.pass_time(100)
    assert caller.stand.the_vm().preempted
    assert await caller.status() == "RUNNING"
    await caller.stand.pass_time(100)
    assert await caller.status() == "TERMINATED"


async def test_simulated_maintenance_really_preempts(caller: Caller) -> None:
    """As the documentation says of spot machines."""
    await caller.make(**spot())
    await caller.ask("POST", f"{ONE}/simulateMaintenanceEvent")
    await caller.stand.pass_time(LONG_S)
    assert await caller.status() == "TERMINATED"
    assert len(await caller.events()) == 1


async def test_a_host_that_fails_is_no_preemption(caller: Caller) -> None:
    """The system's operation is of another type."""
    await caller.make(**spot())
    await caller.pull("crash", {"zone": ZONE, "name": NAME})
    await caller.stand.pass_time(LONG_S)
    assert [event["operationType"] for event in await caller.events()] == ["compute.instances.hostError"]


async def test_the_serial_console_is_read_on_from_where_one_was(caller: Caller) -> None:
    """`next` is the `start` of the next question."""
    await caller.make(**spot())
    first = await caller.get(f"{ONE}/serialPort")
    await caller.ask("POST", f"{ONE}/stop")
    rest = await caller.get(f"{ONE}/serialPort", start=first["next"])
    assert "running" in first["contents"]
    assert "running" not in rest["contents"]
    assert rest["start"] == first["next"]


async def test_a_zone_out_of_reach_is_left_out_of_a_list_with_a_warning(caller: Caller) -> None:
    """The call succeeds: who does not read warnings takes a part for the whole."""
    await caller.make()
    caller.stand.faults.unreachable = {ZONE}
    items = (await caller.get("aggregated/instances"))["items"]
    assert items[f"zones/{ZONE}"]["warning"]["code"] == "UNREACHABLE"
    assert "instances" not in items[f"zones/{ZONE}"]


async def test_lists_lag_behind_both_ways(caller: Caller) -> None:
    """A new machine comes late, one that is gone stays for a while; a get knows better."""
    caller.stand.faults.listing_lag_s = 30
    await caller.make(wait_s=10)
    assert "items" not in await caller.get(MACHINES)
    assert await caller.status() == "RUNNING"
    await caller.stand.pass_time(30)
    await caller.ask("DELETE", ONE)
    await caller.stand.pass_time(10)
    assert (await caller.refused("GET", ONE))[0] == 404
    assert len((await caller.get(MACHINES))["items"]) == 1
    await caller.stand.pass_time(30)
    assert "items" not in await caller.get(MACHINES)


async def test_an_answer_that_is_lost_was_carried_out(caller: Caller) -> None:
    """And one that was lost before was not."""
    caller.stand.faults.lost_before = 1
    with pytest.raises(httpx.RemoteProtocolError):
        await caller.ask("POST", MACHINES, body())
    assert caller.stand.world.vms == {}
    caller.stand.faults.lost_answers = 1
    with pytest.raises(httpx.RemoteProtocolError):
        await caller.ask("POST", MACHINES, body())
    assert len(caller.stand.world.vms) == 1


async def test_faults_are_set_over_http(caller: Caller) -> None:
    """By name; what is no fault is refused, so that a typing error breaks no test silently."""
    answer = await caller.pull("faults", {"rate_limited": 1, "only": "GET zones"})
    assert answer.json()["rate_limited"] == 1
    assert await caller.refused("GET", "zones") == (403, "rateLimitExceeded")
    assert (await caller.ask("GET", "zones"))[0] == 200
    for wrong in ({"rate_limit": 1}, {"rate_limited": "1"}):
        assert (await caller.pull("faults", wrong)).status_code == 400


async def test_runs_are_billed_by_the_second_after_a_first_minute(caller: Caller) -> None:
    """A run that was preempted within its first minute costs nothing; a stopped machine still pays its disk."""

    def seconds() -> float:
        return bill(caller.stand.world)[-1].seconds

    await caller.make(wait_s=27.5, **spot())  # it runs after 7.5 s
    assert seconds() == 60
    await caller.stand.pass_time(100)
    assert seconds() == pytest.approx(120, abs=1)
    await caller.ask("POST", f"{ONE}/stop")
    await caller.stand.pass_time(LONG_S)
    stopped, disk = seconds(), bill(caller.stand.world)[-1].disk_micros
    await caller.stand.pass_time(3600)
    assert seconds() == stopped
    assert bill(caller.stand.world)[-1].disk_micros - disk == pytest.approx(10 * 0.1 / 720 * 1e6, abs=2)
    await caller.ask("POST", f"{ONE}/start")
    await caller.stand.pass_time(10)
    await caller.pull("preempt", {"zone": ZONE, "name": NAME})
    await caller.stand.pass_time(LONG_S)
    assert seconds() == stopped


async def test_machines_are_taken_back_by_chance() -> None:
    """About as often as the setting says, and the same for the same seed."""
    ended = []
    for _ in range(2):
        async with calling(slow_setting(hazard_per_hour=2.0)) as caller:
            for number in range(8):
                await caller.make(f"vm-{number}", wait_s=0, **spot())
            await caller.stand.pass_time(3600)
            ended.append([_is_stopped(vm) for vm in caller.stand.world.vms.values()])
    assert ended[0] == ended[1]
    assert sum(ended[0]) >= 4  # fewer than four of eight: once in a hundred worlds of another seed


def _is_stopped(vm: Vm) -> bool:
    return vm.status == "TERMINATED"


async def test_the_ground_hears_of_every_start_and_end() -> None:
    """An instance's processes are what a job runs on: they must come and go with the machine."""
    ground = Nowhere()
    async with calling(NOWHERE, ground) as caller:
        await caller.make(**spot())
        assert ground.is_running(NAME)
        await caller.pull("preempt", {"zone": ZONE, "name": NAME})
        await caller.stand.pass_time(LONG_S)
        assert not ground.is_running(NAME)
        await caller.ask("POST", f"{ONE}/start")
        await caller.stand.pass_time(LONG_S)
        assert ground.is_running(NAME)
        await caller.ask("DELETE", ONE)
        await caller.stand.pass_time(LONG_S)
        assert not ground.is_running(NAME)
