"""The emulator held against Google's own words: its discovery document, and both of its Python clients."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import Conflict
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.emulators.discovery import Judge, document
from tests.emulators.gce_world import NOWHERE, FastClock, Google, google

PROJECT, ZONE, REGION = "acme", "us-central1-a", "us-central1"
HERE = {"project": PROJECT, "zone": ZONE}
REQUEST = "5f0b7c0a-0d6f-4e0f-9b7e-3a1c2e9d8f10"
SPEED = 200.0
METHODS = {
    "advice.capacity", "advice.capacityHistory", "addresses.list", "disks.get", "disks.list", "firewalls.get",
    "firewalls.insert", "firewalls.list", "globalOperations.get", "images.getFromFamily", "instances.aggregatedList",
    "instances.delete", "instances.get", "instances.getSerialPortOutput", "instances.insert", "instances.list",
    "instances.reset", "instances.resume", "instances.setLabels", "instances.setMetadata", "instances.setScheduling",
    "instances.simulateMaintenanceEvent", "instances.start", "instances.stop", "instances.suspend",
    "machineTypes.get", "machineTypes.list", "projects.get", "regions.get", "zoneOperations.delete",
    "zoneOperations.get", "zoneOperations.list", "zoneOperations.wait", "zones.get", "zones.list",
}  # fmt: skip
"""Every method that the driver or a person needs (contract §1), by the document's ids."""


def body(name: str = "ctl-job-7f3a") -> dict[str, Any]:
    """The contract's own example of an insert."""
    return {
        "name": name,
        "machineType": f"zones/{ZONE}/machineTypes/e2-small",
        "labels": {"owner": "ctl", "job": "7f3a"},
        "scheduling": {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
            "onHostMaintenance": "TERMINATE",
            "automaticRestart": False,
            "maxRunDuration": {"seconds": "21600"},
        },
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "initializeParams": {
                    "sourceImage": "projects/debian-cloud/global/images/family/debian-12",
                    "diskSizeGb": "10",
                    "diskType": f"zones/{ZONE}/diskTypes/pd-balanced",
                },
            }
        ],
        "networkInterfaces": [
            {
                "network": "global/networks/default",
                "accessConfigs": [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}],
            }
        ],
        "metadata": {"items": [{"key": "startup-script", "value": "#!/bin/bash\ntrue\n"}]},
        "serviceAccounts": [],
    }


def service(stand: Google) -> Any:
    """Google's older client, built from the document itself."""
    options = ClientOptions(api_endpoint=f"{stand.emulator.endpoint}/compute/v1/")  # its path must be given
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    return build("compute", "v1", static_discovery=True, credentials=credentials, client_options=options)


def options(stand: Google) -> dict[str, Any]:
    """For a client of the newer library."""
    return {
        "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
        "client_options": ClientOptions(api_endpoint=stand.emulator.endpoint),
    }


def done(compute: Any, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation once it is over."""
    while operation["status"] != "DONE":
        operation = compute.zoneOperations().wait(operation=operation["name"], **HERE).execute()
    return operation


def live(compute: Any) -> dict[str, Any]:
    """One machine's life, and a look at everything around it. Returns the last read of the machine."""
    instances, name = compute.instances(), body()["name"]
    one = {"instance": name, **HERE}
    done(compute, instances.insert(body=body(), requestId=REQUEST, **HERE).execute())
    vm = instances.get(**one).execute()
    assert vm["status"] == "RUNNING"
    labels = {"labels": {"owner": "ctl", "more": "x"}, "labelFingerprint": vm["labelFingerprint"]}
    done(compute, instances.setLabels(body=labels, **one).execute())
    metadata = {"items": [{"key": "k", "value": "v"}], "fingerprint": vm["metadata"]["fingerprint"]}
    done(compute, instances.setMetadata(body=metadata, **one).execute())
    done(compute, instances.setScheduling(body={"maxRunDuration": {"seconds": "7200"}}, **one).execute())
    for verb in ("reset", "suspend", "resume", "stop", "start"):
        done(compute, getattr(instances, verb)(**one).execute())
    instances.getSerialPortOutput(port=1, start=0, **one).execute()
    assert instances.list(filter="labels.more=x AND status=RUNNING", maxResults=1, **HERE).execute()["items"]
    assert instances.aggregatedList(project=PROJECT, filter="labels.owner=ctl").execute()["items"]
    listed = compute.zoneOperations().list(filter='operationType="stop"', **HERE).execute()["items"]
    compute.zoneOperations().get(operation=listed[0]["id"], **HERE).execute()
    compute.zoneOperations().delete(operation=listed[0]["name"], **HERE).execute()
    compute.disks().get(disk=name, **HERE).execute()
    compute.disks().list(**HERE).execute()
    vm = instances.get(**one).execute()
    done(compute, instances.delete(requestId=REQUEST.replace("5f", "6f"), **one).execute())
    return dict(vm)


def look_around(compute: Any) -> None:
    """Places, rules and advice."""
    region = {"project": PROJECT, "region": REGION}
    compute.projects().get(project=PROJECT).execute()
    compute.zones().list(project=PROJECT).execute()
    compute.zones().get(**HERE).execute()
    compute.regions().get(**region).execute()
    compute.addresses().list(**region).execute()
    compute.machineTypes().list(**HERE).execute()
    compute.machineTypes().get(machineType="e2-small", **HERE).execute()
    compute.images().getFromFamily(project="debian-cloud", family="debian-12").execute()
    rule = {"name": "more", "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}]}
    operation = compute.firewalls().insert(project=PROJECT, body=rule).execute()
    compute.globalOperations().get(project=PROJECT, operation=operation["name"]).execute()
    compute.firewalls().list(project=PROJECT).execute()
    compute.firewalls().get(project=PROJECT, firewall="more").execute()
    history = {
        "types": ["PRICE", "PREEMPTION"],
        "locationPolicy": {"location": f"zones/{ZONE}"},
        "instanceProperties": {"machineType": "e2-standard-2", "scheduling": {"provisioningModel": "SPOT"}},
    }
    assert compute.advice().capacityHistory(body=history, **region).execute()["priceHistory"]
    wanted = {
        "size": 1,
        "instanceProperties": {"scheduling": {"provisioningModel": "SPOT"}},
        "instanceFlexibilityPolicy": {"instanceSelections": {"a": {"machineTypes": ["e2-small"], "rank": "0"}}},
        "distributionPolicy": {"targetShape": "ANY", "zones": [{"zone": f"zones/{ZONE}"}]},
    }
    assert compute.advice().capacity(body=wanted, **region).execute()["recommendations"]


def preempt(compute: Any) -> None:
    """A machine of the same name again, taken back."""
    done(compute, compute.instances().insert(body=body(), **HERE).execute())
    name = body()["name"]
    done(compute, compute.instances().simulateMaintenanceEvent(instance=name, **HERE).execute())


async def test_the_client_built_from_the_document_finds_everything_as_the_document_says() -> None:
    """Its requests and our answers are judged one by one; a method that nobody called was not judged."""
    async with google(FastClock(SPEED)) as stand:

        def drive() -> dict[str, Any]:
            with service(stand) as compute:
                vm = live(compute)
                look_around(compute)
                preempt(compute)
            return vm

        vm = await asyncio.to_thread(drive)
        assert vm["status"] == "RUNNING"
        assert {f"compute.{method}" for method in METHODS} <= set(stand.judge.methods)


async def test_the_client_built_from_the_document_reads_our_refusals() -> None:
    """Its reasons and codes come from the same envelope as Google's."""
    async with google(FastClock(SPEED)) as stand:

        def drive() -> HttpError:
            with service(stand) as compute:
                compute.instances().insert(body=body(), **HERE).execute()
                with pytest.raises(HttpError) as refused:
                    compute.instances().insert(body=body(), **HERE).execute()
            return refused.value

        error = await asyncio.to_thread(drive)
        assert error.status_code == 409
        assert error.error_details[0]["reason"] == "alreadyExists"


def resource() -> compute_v1.Instance:
    return compute_v1.Instance.from_json(json.dumps(body()))


async def test_the_official_client_makes_lists_and_deletes() -> None:
    """The driver's own library, used plainly: `*_unary` calls and an operations client of its own."""
    async with google(FastClock(SPEED)) as stand:

        def drive() -> list[str]:
            instances = compute_v1.InstancesClient(**options(stand))
            operations = compute_v1.ZoneOperationsClient(**options(stand))
            started = instances.insert_unary(instance_resource=resource(), **HERE)
            assert operations.wait(operation=started.name, **HERE).status == compute_v1.Operation.Status.DONE
            with pytest.raises(Conflict):
                instances.insert_unary(instance_resource=resource(), **HERE)
            vm = instances.get(instance="ctl-job-7f3a", **HERE)
            assert vm.disks[0].disk_size_gb == 10
            names = [each.name for each in instances.list(**HERE)]
            deleted = instances.delete_unary(instance=vm.name, **HERE)
            operations.wait(operation=deleted.name, **HERE)
            return [*names, *(each.name for each in instances.list(**HERE))]

        assert await asyncio.to_thread(drive) == ["ctl-job-7f3a"]


async def test_the_librarys_own_poller_would_leave_our_endpoint() -> None:
    """Trap 1: `insert()` polls where nobody told it to. The driver calls only `*_unary`, and this is why."""
    async with google() as stand:
        client = compute_v1.InstancesClient(**options(stand))
        poller = client.transport._zone_operations_client
        assert stand.emulator.endpoint not in poller.transport._host
        assert "compute.googleapis.com" in poller.transport._host


async def test_the_librarys_own_result_takes_a_failure_for_success() -> None:
    """Trap 2: without the HTTP fields `result()` returns as if all were well. The driver reads `error.errors`."""
    async with google(FastClock(SPEED)) as stand:
        stand.faults.change({"stock_out": [ZONE], "no_http_fields": True})

        def drive() -> compute_v1.Operation:
            client = compute_v1.InstancesClient(**options(stand))
            operations = compute_v1.ZoneOperationsClient(**options(stand))
            client.transport._extended_operations_services = {"zone_operations": operations}
            client.insert(instance_resource=resource(), **HERE).result(timeout=30)
            wanted = compute_v1.ListZoneOperationsRequest(filter='operationType="insert"', **HERE)
            (found,) = operations.list(request=wanted)
            return found

        operation = await asyncio.to_thread(drive)
        assert [each.code for each in operation.error.errors] == ["ZONE_RESOURCE_POOL_EXHAUSTED"]


# --- the judge itself: what it would not catch proves nothing


def lines(verb: str, path: str, query: str = "", asked: Any = None, told: tuple[int, Any] | None = None) -> list[str]:
    """What the judge says of one exchange; `told` is the answer's status and body."""

    async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
        return None

    judge = Judge(nobody)
    full = f"/compute/v1/projects/{PROJECT}/{path}"
    judge.judge_request(verb, full, query, b"" if asked is None else json.dumps(asked).encode())
    if told is not None:
        judge.judge_answer(verb, full, told[0], json.dumps(told[1]).encode())
    return judge.violations


INSERT = f"zones/{ZONE}/instances"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda b: b.update(machinetype="e2-small"), "machinetype: unknown field"),
        (lambda b: b["disks"][0]["initializeParams"].update(diskSizeGb=10), "is no string (int64)"),
        (lambda b: b["disks"][0]["initializeParams"].update(diskSizeGb="ten"), "is no int64"),
        (lambda b: b["scheduling"].update(provisioningModel="Spot"), "is not of the enum"),
        (lambda b: b["scheduling"].update(automaticRestart="false"), "is no boolean"),
        (lambda b: b["scheduling"]["maxRunDuration"].update(nanos="0"), "is no integer (int32)"),
        (lambda b: b.update(disks={"boot": True}), "is no array"),
        (lambda b: b.update(labels=["owner"]), "is no object"),
        (lambda b: b["metadata"]["items"][0].update(key="startup script"), "does not match"),
        (lambda b: b.update(labelFingerprint="###"), "is no base64"),
    ],
)
def test_a_wrong_field_of_a_request_is_caught(change: Callable[[dict[str, Any]], None], word: str) -> None:
    """The negative control of every test that ends with no violations."""
    wrong = body()
    change(wrong)
    assert lines("POST", INSERT, asked=body()) == []
    assert any(word in line for line in lines("POST", INSERT, asked=wrong))


def test_a_wrong_path_query_or_body_is_caught() -> None:
    """A method that Google does not have, a parameter it does not know, a body where none belongs."""
    assert lines("POST", f"zones/{ZONE}/instance", asked=body())
    assert lines("PATCH", INSERT, asked=body())
    assert lines("POST", INSERT, query="requestID=x", asked=body())
    assert lines("GET", INSERT, query="maxResults=many")
    assert lines("POST", f"{INSERT}/a/stop", asked={"now": True})
    assert lines("GET", "zones/Us-Central1/instances")
    assert not lines("GET", INSERT, query="maxResults=5&alt=json&prettyPrint=false")


def test_a_wrong_answer_is_caught() -> None:
    """Ids are texts, instants have an offset, errors come in their envelope."""
    path = f"{INSERT}/a"
    assert lines("GET", path, told=(200, {"id": "7", "status": "TERMINATED"})) == []
    assert lines("GET", path, told=(200, {"id": 7}))
    assert lines("GET", path, told=(200, {"id": "-7"}))
    assert lines("GET", path, told=(200, {"status": "STOPPPED"}))
    assert lines("GET", path, told=(200, {"creationTimestamp": "2026-11-24 00:00:00"}))
    assert lines("GET", path, told=(404, {"message": "gone"}))
    assert lines("GET", path, told=(404, {"error": {"code": 403, "message": "gone"}}))


async def test_a_lie_in_an_answer_on_its_way_is_caught() -> None:
    """End to end: the judge stands where it sees what the client gets."""
    lies: list[str] = []

    def lie(app: ASGIApp) -> ASGIApp:
        async def lying(scope: Scope, receive: Receive, send: Send) -> None:
            async def say(message: Message) -> None:
                if message["type"] == "http.response.body":
                    message = {**message, "body": message["body"].replace(b'"status":"UP"', b'"status":"ON"')}
                await send(message)

            await app(scope, receive, say)

        return lying

    async with google(setting=NOWHERE) as stand:
        stand.judge.app = lie(stand.judge.app)

        def drive() -> None:
            with service(stand) as compute:
                compute.zones().get(**HERE).execute()

        await asyncio.to_thread(drive)
        lies, stand.judge.violations = stand.judge.violations, []
    assert any("'ON' is not of the enum" in line for line in lies)


def test_the_document_is_the_one_that_the_contract_was_read_from() -> None:
    """A newer one may hold more than was read."""
    assert document().revision >= "20261106"
