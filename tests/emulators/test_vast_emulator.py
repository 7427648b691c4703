"""The emulated Vast.ai by itself, over plain HTTP: what the contract says of the service, and what its knobs do."""

import json
from collections.abc import AsyncIterator
from fractions import Fraction
from random import Random
from typing import Any

import httpx
import pytest

from dumont.emulate.ground import Nowhere
from dumont.emulate.vast.faults import Fault, Kind
from dumont.emulate.vast.market import generate
from dumont.emulate.vast.world import KEY, World
from tests.emulators.vast_stand import Stand, StoppedClock, box, vast_stand

CREATE: dict[str, Any] = {
    "client_id": "me", "image": "a/b:1", "env": {}, "price": 0.24, "disk": 40.0, "label": "x", "onstart": "true",
    "runtype": "ssh_direc ssh_proxy", "cancel_unavail": True,
}  # fmt: skip


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with vast_stand() as stand:
        yield stand


async def ask(stand: Stand, method: str, path: str, body: Any = None, key: str | None = KEY) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return await stand.http.request(method, stand.url + path, json=body, headers=headers)


async def search(stand: Stand, **filters: Any) -> list[dict[str, Any]]:
    answer = await ask(stand, "POST", "/api/v0/bundles/", filters, key=None)
    assert answer.headers["content-type"] == "application/json", "the client compares exactly"
    return list(answer.json()["offers"])


async def create(stand: Stand, **changes: Any) -> dict[str, Any]:
    rows = await search(stand, type="bid", num_gpus={"eq": 1})
    answer = await ask(stand, "PUT", f"/api/v0/asks/{rows[0]['id']}/", CREATE | changes)
    return dict(answer.json()) | {"status": answer.status_code}


async def listed(stand: Stand, **params: Any) -> httpx.Response:
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    headers = {"Authorization": f"Bearer {KEY}"}
    return await stand.http.get(stand.url + "/api/v1/instances/", params=text, headers=headers)


# --- search


async def test_filters_are_taken_as_the_client_sends_them(stand: Stand) -> None:
    """Numbers as text, names with spaces; an id finds nothing."""
    assert len(await search(stand, num_gpus={"eq": "1"}, reliability={"gt": "0.98"}, verified={"eq": True})) == 1
    assert await search(stand, gpu_name={"eq": "RTX_4090"}) == []
    row = (await search(stand, gpu_name={"in": ["RTX 4090"]}))[0]
    assert await search(stand, id={"eq": row["id"]}) == []
    assert len(await search(stand, machine_id={"eq": 30_001}, num_gpus={"eq": 1})) == 1
    assert (await ask(stand, "POST", "/api/v0/bundles/", {"num_gpus": {"about": 1}})).status_code == 400


async def test_rows_are_priced_by_the_contract(stand: Stand) -> None:
    """A bid row does not tell the on-demand price; storage is a 720th of a month's."""
    bid = (await search(stand, type="bid", num_gpus={"eq": 2}, allocated_storage=72.0))[0]
    assert (bid["dph_base"], bid["min_bid"], bid["is_bid"]) == (0.4, 0.4, True)
    assert bid["dph_total"] == pytest.approx(0.41)
    demand = (await search(stand, type="on-demand", num_gpus={"eq": 2}))[0]
    assert (demand["dph_base"], demand["min_bid"]) == (0.8, 0.4)


async def test_ids_change_and_the_last_ones_are_good(stand: Stand) -> None:
    """A driver that keeps an id for a minute finds it gone."""
    first = (await search(stand, type="bid"))[0]["id"]
    assert (await search(stand, type="bid"))[0]["id"] != first
    for _ in range(8):
        await search(stand, type="bid")
    answer = await ask(stand, "PUT", f"/api/v0/asks/{first}/", CREATE)
    assert answer.status_code == 404
    assert answer.json()["error"] == "invalid_args" and "no_such_ask" in answer.json()["msg"]


async def test_a_held_slice_shows_our_own_bid_and_overlapping_ones_vanish(stand: Stand) -> None:
    """Listed as if it were for rent: the price to displace us."""
    await create(stand)
    rows = await search(stand, type="bid", machine_id={"eq": 30_001})
    assert sorted((row["num_gpus"], row["min_bid"], row["rented"]) for row in rows) == [
        (1, 0.2, False),
        (1, 0.24, True),
    ]


async def test_a_seed_makes_the_same_market() -> None:
    """And another seed another one, with what real rows have: no city, no core count, several GPUs."""
    boxes = generate(Random(1), 400, 0.0)
    assert boxes == generate(Random(1), 400, 0.0) != generate(Random(2), 400, 0.0)
    assert {", US", "Sao Paulo, BR"} <= {box.place for box in boxes}
    assert None in {box.cores for box in boxes}
    assert {1, 2, 4, 8} == {box.gpus for box in boxes}
    assert all(box.floor < box.price for box in boxes)


# --- who asks


async def test_keys_are_refused_as_the_service_refuses_them(stand: Stand) -> None:
    """An unknown one with a 404, none with a 403; a search needs none."""
    unknown = await ask(stand, "GET", "/api/v1/instances/", key="x")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "auth_error")
    assert (await ask(stand, "GET", "/api/v1/instances/", key=None)).status_code == 403
    stand.world.account.keys["reader"] = frozenset({"instance_read"})
    assert (await ask(stand, "GET", "/api/v1/instances/", key="reader")).status_code == 200
    assert (await ask(stand, "GET", "/api/v0/users/current", key="reader")).status_code == 401


async def test_a_machine_may_destroy_itself_and_nothing_else(stand: Stand) -> None:
    """A dead-man's switch needs no account key; a stranger's host must get none."""
    one = await create(stand)
    two = await create(stand)
    key = one["instance_api_key"]
    for path in (f"/api/v0/instances/{two['new_contract']}/", "/api/v0/instances/"):
        assert (await ask(stand, "DELETE", path, {}, key=key)).status_code in (403, 404)
    assert (await ask(stand, "GET", "/api/v1/instances/", key=key)).status_code in (403, 404)
    assert (await ask(stand, "DELETE", f"/api/v0/instances/{one['new_contract']}/", {}, key=key)).status_code == 200
    assert [rental.id for rental in stand.world.present] == [two["new_contract"]]


# --- contracts


async def test_the_retired_list_says_so(stand: Stand) -> None:
    answer = await ask(stand, "GET", "/api/v0/instances/")
    assert (answer.status_code, answer.json()["error"]) == (410, "deprecated_endpoint")


async def test_a_page_goes_on_where_the_last_one_ended_whatever_was_destroyed() -> None:
    """Keyset pages: a row that goes between two pages hides no other."""
    async with vast_stand(box(1, gpus=60)) as stand:
        numbers = [(await create(stand, label=f"l{n}"))["new_contract"] for n in range(40)]
        first = (await listed(stand, limit=25)).json()
        assert (len(first["instances"]), first["total_instances"]) == (25, 40)
        for number in (numbers[24], numbers[25]):
            await ask(stand, "DELETE", f"/api/v0/instances/{number}/", {})
        second = (await listed(stand, limit=25, after_token=first["next_token"])).json()
        assert [row["id"] for row in second["instances"]] == numbers[26:]
        assert second["next_token"] is None
        assert (await listed(stand, after_token="nonsense")).json()["error"] == "invalid_token"
        assert len((await listed(stand, limit=0)).json()["instances"]) == 5


async def test_a_list_filters_by_stored_columns_only(stand: Stand) -> None:
    contract = await create(stand, label="job")
    rows = (await listed(stand, select_filters={"label": {"eq": "job"}})).json()["instances"]
    assert [row["id"] for row in rows] == [contract["new_contract"]]
    assert (await listed(stand, select_filters={"label": {"eq": "no"}})).json()["instances"] == []
    refused = await listed(stand, select_filters={"dph_total": {"lt": 1}})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
    only = (await listed(stand, select_cols=["id", "nonsense"])).json()["instances"]
    assert only == [{"id": contract["new_contract"], "nonsense": None}]


async def test_a_row_has_what_the_official_client_computes_with(stand: Stand) -> None:
    await create(stand, env={"A": "B", "-p 8000:8000": "1", "--privileged": "1"})
    (row,) = (await listed(stand)).json()["instances"]
    assert row["extra_env"] == [["A", "B"], ["-p 8000:8000", "1"]], "other docker flags are dropped"
    assert isinstance(row["start_date"], float)
    assert row["public_ipaddr"].endswith("\n")
    assert row["ports"]["8000/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": "8000"}]


async def test_a_boot_goes_through_its_states_and_opens_ports_last(stand: Stand) -> None:
    stand.world.habits.boot_s = 100.0
    await create(stand)
    seen = []
    for seconds in (0, 10, 75, 20):
        await stand.pass_time(seconds)
        (row,) = (await listed(stand)).json()["instances"]
        seen.append((row["actual_status"], row["cur_state"], "ports" in row))
    assert seen == [
        (None, "running", False),
        ("loading", "running", False),
        ("created", "running", False),
        ("running", "running", True),
    ]


@pytest.mark.parametrize(
    "wrong", [{"image": ""}, {"label": "x" * 257}, {"onstart": "x" * 4097}, {"runtype": "magic"}, {"price": 0.0001}]
)
async def test_a_create_is_validated(stand: Stand, wrong: dict[str, Any]) -> None:
    refused = await create(stand, **wrong)
    assert (refused["status"], refused["success"]) == (400, False)
    assert stand.world.present == []


async def test_a_low_bid_leaves_a_stopped_contract_unless_told_otherwise(stand: Stand) -> None:
    """HTTP 200, success false, and a disk that bills."""
    low = await create(stand, price=0.1, cancel_unavail=False)
    assert (low["status"], low["success"]) == (200, False)
    (row,) = (await listed(stand)).json()["instances"]
    assert (row["id"], row["cur_state"], row["intended_status"]) == (low["new_contract"], "stopped", "stopped")
    cancelled = await create(stand, price=0.1, cancel_unavail=True)
    assert (cancelled["status"], cancelled["error"]) == (410, "no_such_ask")
    assert len(stand.world.present) == 1


# --- bills


async def test_a_machine_costs_its_own_bid_by_the_second(stand: Stand) -> None:
    """Not the market's price: pay as bid. Nothing for the GPU while it boots, the disk from the start."""
    stand.world.habits.boot_s = 100.0
    contract = await create(stand, price=0.24, disk=72.0)
    rental = stand.world.rentals[contract["new_contract"]]
    await stand.pass_time(100)
    assert (rental.gpu_micros, rental.disk_micros) == (0, Fraction(10_000 * 100, 3600))
    await stand.pass_time(3600)
    assert rental.gpu_micros == 240_000
    credit = stand.world.account.credit
    assert credit == 25_000_000 - rental.gpu_micros - rental.disk_micros


async def test_the_bill_follows_every_change(stand: Stand) -> None:
    """An hour at each: running, a new bid, stopped, offline, destroyed. The charges say the same."""
    contract = await create(stand, price=0.24, disk=72.0)
    number = contract["new_contract"]
    rental = stand.world.rentals[number]
    await stand.pass_time(3600)
    await ask(stand, "PUT", f"/api/v0/instances/bid_price/{number}/", {"client_id": "me", "price": 0.5})
    await stand.pass_time(3600)
    await ask(stand, "PUT", f"/api/v0/instances/{number}/", {"state": "stopped"})
    await stand.pass_time(3600)
    await ask(stand, "PUT", f"/api/v0/instances/{number}/", {"state": "running"})
    await ask(stand, "POST", "/_emulator/host", {"machine_id": 30_001, "online": False})
    await stand.pass_time(3600)
    await ask(stand, "POST", "/_emulator/host", {"machine_id": 30_001, "online": True})
    await ask(stand, "DELETE", f"/api/v0/instances/{number}/", {})
    await stand.pass_time(3600)
    assert (rental.gpu_micros, rental.disk_micros) == (740_000, 30_000)
    filters = json.dumps({"day": {"gte": 0, "lte": 9e9}})
    answer = await stand.http.get(
        stand.url + "/api/v0/charges/", params={"select_filters": filters}, headers={"Authorization": f"Bearer {KEY}"}
    )
    assert [line["amount"] for line in answer.json()["results"]] == [pytest.approx(0.77)]
    assert (await ask(stand, "GET", "/api/v0/charges/")).status_code == 400


async def test_an_empty_account_stops_everything_at_the_instant_it_is_empty(stand: Stand) -> None:
    """Disks go on billing, into debt; a new create and a start are refused."""
    contract = await create(stand, price=0.36, disk=72.0)
    await ask(stand, "POST", "/_emulator/credit", {"usd": 0.37})
    await stand.pass_time(2 * 3600)
    rental = stand.world.rentals[contract["new_contract"]]
    assert float(rental.gpu_micros) == pytest.approx(360_000, abs=1)
    assert float(stand.world.account.credit) == pytest.approx(-10_000, abs=1)
    (row,) = (await listed(stand)).json()["instances"]
    assert (row["cur_state"], row["intended_status"], row["next_state"]) == ("stopped", "stopped", "stopped")
    again = await create(stand)
    assert (again["status"], again["error"]) == (400, "insufficient_credit")
    start = await ask(stand, "PUT", f"/api/v0/instances/{rental.id}/", {"state": "running"})
    assert start.json()["error"] == "missing_billing"


# --- the market moves


async def test_the_highest_bid_runs_and_the_loser_waits(stand: Stand) -> None:
    """It resumes by itself, and its onstart runs again."""
    contract = await create(stand)
    rental = stand.world.rentals[contract["new_contract"]]
    await ask(stand, "POST", "/_emulator/outbid", {"id": rental.id})
    await stand.world.idle()
    assert (rental.holding, stand.world.ground.is_running(rental.name)) == (None, False)
    (row,) = await search(stand, type="bid", num_gpus={"eq": 1})
    assert row["min_bid"] > 0.24
    await ask(stand, "POST", "/_emulator/withdraw", {"machine_id": 30_001})
    await stand.world.idle()
    assert (rental.starts, stand.world.ground.is_running(rental.name)) == (2, True)


async def test_an_on_demand_renter_outranks_every_bid_and_hides_the_machine(stand: Stand) -> None:
    contract = await create(stand, price=100.0)
    rental = stand.world.rentals[contract["new_contract"]]
    await ask(stand, "POST", "/_emulator/displace", {"id": rental.id})
    assert rental.holding is None
    assert await search(stand, type="bid", machine_id={"eq": 30_001}) == []


async def test_a_refused_start_is_queued_and_fires_late_or_never(stand: Stand) -> None:
    stand.world.habits.queue_s = 1000.0
    for reverts, fires in ((False, True), (True, False)):
        stand.world.habits.queue_reverts = reverts
        contract = await create(stand)
        rental = stand.world.rentals[contract["new_contract"]]
        await ask(stand, "PUT", f"/api/v0/instances/{rental.id}/", {"state": "stopped"})
        stand.world.displace(rental)
        answer = await ask(stand, "PUT", f"/api/v0/instances/{rental.id}/", {"state": "running"})
        assert (answer.status_code, answer.json()["error"]) == (200, "resources_unavailable")
        stand.world.withdraw(rental.box)
        await stand.pass_time(999)
        assert rental.holding is None
        await stand.pass_time(2)
        assert (rental.holding is not None) is fires
        stand.world.end(rental)


async def test_a_listing_that_ends_takes_its_machines_with_it(stand: Stand) -> None:
    contract = await create(stand)
    rental = stand.world.rentals[contract["new_contract"]]
    await ask(stand, "POST", "/_emulator/advance", {"seconds": 31 * 86_400})
    assert rental.holding is None
    start = await ask(stand, "PUT", f"/api/v0/instances/{rental.id}/", {"state": "running"})
    assert start.status_code == 400


# --- faults and knobs


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.DROPPED, Kind.LOST, Kind.HUNG)])
async def test_each_fault_has_an_answer_of_its_own(stand: Stand, kind: Kind) -> None:
    """Once, and then never again."""
    entry = {"endpoint": "list", "kind": kind.value, "status": 500, "body": {"strange": True}}
    added = await ask(stand, "POST", "/_emulator/faults", {"faults": [entry]})
    assert added.status_code == 200
    good = {"success": True, "instances_found": 0, "total_instances": 0, "label_counts": {}, "next_token": None}
    answer = await listed(stand)
    assert answer.status_code != 200 or answer.json() != good | {"instances": []}
    assert (await listed(stand)).json() == good | {"instances": []}


@pytest.mark.parametrize(("kind", "made"), [(Kind.DROPPED, 0), (Kind.LOST, 1), (Kind.LOST_504, 1)])
async def test_an_answer_is_lost_before_or_after_the_deed(stand: Stand, kind: Kind, made: int) -> None:
    """Only what exists afterwards tells the one from the other."""
    stand.world.book.add(Fault(endpoint="create", kind=kind))
    try:
        assert (await create(stand))["status"] == 504
    except (httpx.RemoteProtocolError, json.JSONDecodeError):
        assert kind is not Kind.LOST_504 or made
    assert len(stand.world.present) == made


async def test_calls_above_the_published_rate_are_refused(stand: Stand) -> None:
    """For each endpoint and key; in time they are answered."""
    await ask(stand, "POST", "/_emulator/habits", {"limits": True})
    assert [(await listed(stand)).status_code for _ in range(2)] == [200, 429]
    stand.clock.seconds += 1
    assert (await listed(stand)).status_code == 200
    for _ in range(10):
        await search(stand)
    late = await ask(stand, "POST", "/api/v0/bundles/", {}, key=None)
    assert (late.status_code, late.text) == (429, "API requests too frequent")


async def test_a_knob_says_what_is_wrong(stand: Stand) -> None:
    for path, body in (
        ("habits", {"no_such": 1}), ("habits", {"boot_s": "fast"}), ("habits", {"limits": 1}),
        ("faults", {"faults": [{"endpoint": "list", "kind": "no_such"}]}), ("outbid", {"id": 1}), ("outbid", {}),
        ("host", {"machine_id": 1}), ("advance", {"seconds": -1}),
    ):  # fmt: skip
        answer = await ask(stand, "POST", f"/_emulator/{path}", body)
        assert answer.status_code in (400, 404), (path, body)
        assert answer.json()["msg"]


async def test_the_truth_is_shown_whatever_the_service_says(stand: Stand) -> None:
    """A test compares what a driver believes with it."""
    contract = await create(stand)
    stand.world.book.add(Fault(endpoint="list", kind=Kind.KEY_404, times=0))
    truth = (await ask(stand, "GET", "/_emulator/state", key=None)).json()
    assert [row["id"] for row in truth["instances"]] == [contract["new_contract"]]
    assert truth["faults"][0]["kind"] == "key_404"


def test_a_world_without_boxes_given_is_drawn() -> None:
    """`dumont emulate vast` begins with a whole market."""
    world = World(StoppedClock(), Random(1), Nowhere())
    assert len(world.boxes) == 90
