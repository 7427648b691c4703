"""The official client drives the emulated service: our reading of the contract is not the only one it satisfies.

The client ends with 0 whatever the service says, so its output is read, and the service's own state beside it.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from dumont.clock import SystemClock
from dumont.emulate.ground import Nowhere
from dumont.emulate.vast.faults import Fault, Kind
from dumont.emulate.vast.rental import Rental
from dumont.emulate.vast.serve import serving
from dumont.emulate.vast.world import World
from tests.emulators.vast_official import Official, installed

pytestmark = pytest.mark.timeout(900)  # the first run installs the client

ONSTART = "echo hello"
CREATE = (
    "--image", "pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime", "--disk", "20", "--label", "job-7f3a", "--ssh",
    "--direct", "--onstart-cmd", ONSTART, "--env", "-p 8000:8000 -e HF_HOME=/workspace/hf", "--cancel-unavail",
)  # fmt: skip


@pytest.fixture
def world() -> World:
    return World(SystemClock(), Random(11), Nowhere())


@pytest.fixture
async def official(world: World, tmp_path: Path) -> AsyncIterator[Official]:
    programs = installed()
    async with serving(world) as url, contextlib.aclosing(Official(programs, tmp_path, url)) as official:
        yield official


async def created(official: Official, world: World) -> Rental:
    """An interruptible machine, by the command line alone."""
    rows = await official.raw(
        "search", "offers", "num_gpus=1 reliability>0.9", "--interruptible", "--order", "dph_total"
    )
    row = rows[0]
    bid = str(round(row["min_bid"] + 0.01, 4))
    answer = await official.raw("create", "instance", str(row["id"]), *CREATE, "--bid_price", bid)
    assert answer["success"] is True
    rental = world.rentals[answer["new_contract"]]
    assert rental.bid == round(float(bid) * 1e6)
    return rental


async def shown(official: Official, rental: Rental) -> dict[str, object]:
    (row,) = await official.raw("show", "instances")
    assert row["id"] == rental.id
    return dict(row)


async def test_its_search_finds_what_it_asked_for(official: Official, world: World) -> None:
    """It sends numbers as text, GPU names with spaces, and gigabytes as megabytes."""
    rows = await official.raw(
        "search", "offers", "gpu_name=RTX_4090 num_gpus>=1 gpu_ram>=23 geolocation!=nowhere", "--order", "dph_total"
    )
    assert rows
    assert {row["gpu_name"] for row in rows} == {"RTX 4090"}
    assert [row["dph_total"] for row in rows] == sorted(row["dph_total"] for row in rows)
    assert all(row["verification"] == "verified" and not row["is_bid"] for row in rows)
    bids = await official.raw("search", "offers", "gpu_name=RTX_4090", "--interruptible", "--limit", "3")
    assert len(bids) == 3 and all(row["dph_base"] == row["min_bid"] for row in bids)
    assert await official.raw("search", "offers", "gpu_name=RTX_4091") == []
    assert "RTX 4090" in (await official.words("search", "offers", "gpu_name=RTX_4090")).replace("_", " ")


async def test_its_life_of_a_machine(official: Official, world: World) -> None:
    """Search, create, show, change the bid, label, logs, stop, start, destroy: each seen on both sides."""
    rental = await created(official, world)
    assert (rental.label, rental.onstart, rental.disk_gb) == ("job-7f3a", ONSTART, 20.0)
    assert rental.environment == {"-p 8000:8000": "1", "HF_HOME": "/workspace/hf"}
    row = await shown(official, rental)
    assert (row["actual_status"], row["cur_state"], row["is_bid"]) == ("running", "running", True)
    assert row["extra_env"] == rental.environment
    assert "8000/tcp" in row["ports"]  # type: ignore[operator]
    one = await official.raw("show", "instance", str(rental.id))
    assert one["id"] == rental.id

    assert "changed" in await official.words("change", "bid", str(rental.id), "--price", "0.9")
    assert rental.bid == 900_000
    await official.words("label", "instance", str(rental.id), "another")
    assert rental.label == "another"
    assert f"instance {rental.id}" in await official.words("logs", str(rental.id))

    assert "stopping" in await official.words("stop", "instance", str(rental.id))
    stopped = await shown(official, rental)
    assert (stopped["actual_status"], stopped["intended_status"], stopped["cur_state"]) == (
        "exited",
        "stopped",
        "stopped",
    )
    assert "starting" in await official.words("start", "instance", str(rental.id))
    assert (await shown(official, rental))["actual_status"] == "running"
    assert "Rebooting" in await official.words("reboot", "instance", str(rental.id))

    starts = rental.starts
    await official.words("recycle", "instance", str(rental.id))
    assert rental.starts == starts + 1

    await official.words("destroy", "instance", str(rental.id), "-y")
    assert rental.gone_at is not None
    assert await official.raw("show", "instances") == []


async def test_its_on_demand_machine_has_no_bid(official: Official, world: World) -> None:
    """Whether a rental is interruptible is decided by the bid, not by the search."""
    rows = await official.raw("search", "offers", "num_gpus=1", "--order", "dph_total")
    answer = await official.raw("create", "instance", str(rows[0]["id"]), *CREATE)
    rental = world.rentals[answer["new_contract"]]
    assert rental.bid is None
    assert (await shown(official, rental))["is_bid"] is False


async def test_what_it_is_refused_it_prints(official: Official, world: World) -> None:
    """A start without a free GPU, a vanished offer, a bad key, an empty account."""
    rental = await created(official, world)
    world.outbid(rental)
    assert "currently unavailable" in await official.words("start", "instance", str(rental.id))
    assert rental.queued_since is not None
    await official.words("stop", "instance", str(rental.id))
    assert rental.queued_since is None, "a stop cancels the queued start"

    gone = await official.raw("create", "instance", "12345", *CREATE, "--bid_price", "0.5")
    assert "no_such_ask" in str(gone)
    async with contextlib.aclosing(Official(official.programs, official.home, official.url, "not-a-key")) as stranger:
        assert "Invalid user key" in str(await stranger.raw("show", "instances"))
    world.account.credit -= world.account.credit
    rows = await official.raw("search", "offers", "num_gpus=1")
    broke = await official.raw("create", "instance", str(rows[0]["id"]), *CREATE, "--bid_price", "0.5")
    assert "credit" in str(broke)


async def test_it_waits_out_a_429(official: Official, world: World) -> None:
    """It honours Retry-After, which the documentation denies; both are emulated."""
    world.book.add(Fault(endpoint="list", kind=Kind.RATE_DETAIL, retry_after_s=0.2))
    world.book.add(Fault(endpoint="list", kind=Kind.RATE_TEXT))
    assert await official.raw("show", "instances") == []
    assert [name for name, _, _ in world.heard].count("list") == 3


async def test_it_reads_more_pages_than_one(official: Official, world: World) -> None:
    """25 rows a page; the client follows the cursor."""
    rental = await created(official, world)
    for number in range(1, 31):
        copy = Rental(**{**rental.__dict__, "id": rental.id + number, "work": None})
        world.rentals[copy.id] = copy
    rows = await official.raw("show", "instances")
    assert [row["id"] for row in rows] == list(range(rental.id, rental.id + 31))
    assert [name for name, _, _ in world.heard].count("list") == 2


async def test_its_sdk_drives_a_machine_too(official: Official, world: World) -> None:
    """The SDK sends the same as numbers and adds `rented = false`."""
    rows = await official.sdk("vast.search_offers(query='gpu_name=RTX_3090 num_gpus=1', type='bid')")
    assert rows and {row["gpu_name"] for row in rows} == {"RTX 3090"}
    answer = await official.sdk(
        f"vast.create_instance(id={rows[0]['id']}, image='a/b:1', disk=16.0, price={rows[0]['min_bid'] + 0.02!r},"
        " label='by-sdk', onstart_cmd='true', ssh=True, direct=True, cancel_unavail=True)"
    )
    rental = world.rentals[answer["new_contract"]]
    assert rental.label == "by-sdk"
    listed = await official.sdk("vast.show_instances()")
    assert [row["label"] for row in listed] == ["by-sdk"]
    await official.sdk(f"vast.change_bid(id={rental.id}, price=0.7)")
    assert rental.bid == 700_000
    await official.sdk(f"vast.stop_instance(id={rental.id})")
    assert rental.holding is None
    await official.sdk(f"vast.start_instance(id={rental.id})")
    assert rental.holding is not None
    assert f"instance {rental.id}" in await official.sdk(f"vast.logs(instance_id={rental.id})")
    await official.sdk(f"vast.destroy_instance(id={rental.id})")
    assert rental.gone_at is not None


async def test_its_account_views_can_be_read(official: Official, world: World) -> None:
    """Credit, charges, keys: what it parses strictly."""
    rental = await created(official, world)
    user = await official.raw("show", "user")
    assert 0 < user["credit"] < 25
    charges = await official.raw("show", "invoices-v1", "--charges")
    assert [line["source"] for line in charges["results"]] == [f"instance-{rental.id}"]
    assert await official.raw("show", "ssh-keys") == []
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEmulatedEmulatedEmulatedEmulatedEmulatedEm me"
    await official.words("create", "ssh-key", key, "-y")
    assert [entry["public_key"] for entry in await official.raw("show", "ssh-keys")] == [key]
