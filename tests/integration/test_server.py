"""The server as a process of its own, over TLS, with pretended agents that are real processes."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dumont.client import Blocking, Dumont, Home
from dumont.client.home import find_door
from dumont.client.problem import Unauthorized
from dumont.client.results import Launch
from dumont.errors import BadInput, NameTaken, NoSuchWorkspace, NotPossibleHere
from dumont.server.founding import store_key
from tests.integration.stage import Stage, instance_behind


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage(Path(tempfile.mkdtemp(prefix="dt-")))
    try:
        stage.start()
        stage.dumont("up")
        yield stage
    finally:
        stage.stop()
        shutil.rmtree(stage.path, ignore_errors=True)


@pytest.fixture
def sdk(stage: Stage) -> Iterator[Blocking]:
    with Blocking(Home(stage.path)) as dumont:
        yield dumont


def test_a_killed_primary_is_replaced_and_a_new_gpu_takes_over(stage: Stage, sdk: Blocking) -> None:
    """The whole path, but for the files: rent, promote, kill, promote, rent, switch back. Nothing told the server."""
    sdk.launch(Launch(name="path"))
    first = stage.until("path")
    assert first.machine == "gpu"
    receipt = sdk.drill("path")
    assert receipt.ok, receipt
    assert (receipt.epoch_before, receipt.epoch_after) == (1, 2)
    assert receipt.promoted_ms is not None
    assert receipt.promoted_ms < 3000
    assert list((stage.path / "receipts").glob("path-*.json"))
    stage.until("path", copies=2)
    back = stage.until("path", copies=2, seconds=30)
    while back.machine != "gpu":
        back = stage.until("path", copies=2, seconds=30)
    assert back.epoch == 3
    assert asyncio.run(instance_behind(back.address.http_port)) == back.primary
    kinds = [event.kind for event in sdk.events("path")]
    assert [kind for kind in kinds if kind in ("first", "failover", "switchover")] == [
        "first",
        "failover",
        "switchover",
    ]
    sdk.remove("path")


def test_kill_dash_nine_of_the_server_in_a_failover_is_repaired_by_the_next_one(stage: Stage, sdk: Blocking) -> None:
    """Level-triggered: whatever was begun is completed by a process that only knows the database and the agents."""
    sdk.launch(Launch(name="again"))
    before = stage.until("again")
    drill = asyncio.run(_drill_and_kill(stage))
    assert drill is None
    stage.start()
    with Blocking(Home(stage.path)) as fresh:
        after = stage.until("again", copies=2, seconds=40)
        assert after.epoch > before.epoch
        assert fresh.sync("again").outcome == "ok"
        fresh.remove("again")


async def _drill_and_kill(stage: Stage) -> None:
    """Break the primary's machine, and the server a moment later."""
    async with Dumont(Home(stage.path)) as dumont:
        drilling = asyncio.create_task(dumont.drill("again"))
        while "drill" not in [event.kind for event in await dumont.events("again")]:
            await asyncio.sleep(0.01)
        stage.kill()
        await asyncio.gather(drilling, return_exceptions=True)


def test_the_path_of_data_does_not_need_the_server(stage: Stage, sdk: Blocking) -> None:
    """A restart is no failover: the agents go on and dial again."""
    sdk.launch(Launch(name="still"))
    before = stage.until("still")
    stage.kill()
    assert asyncio.run(instance_behind(before.address.http_port)) == before.primary
    stage.start()
    stage.dumont("up")
    after = stage.until("still", copies=2, seconds=40)
    assert (after.epoch, after.primary) == (before.epoch, before.primary)
    with Blocking(Home(stage.path)) as fresh:
        fresh.remove("still")


def test_the_servers_key_of_the_store_is_made_once_and_missed(stage: Stage, tmp_path: Path) -> None:
    """A server that made another one, beside a store that only the first opens, would look well until a restore."""
    home = Home(tmp_path)
    for folder in (home.keys, home.store):
        folder.mkdir()
    key = store_key(home)
    assert store_key(home) == key and len(key) == 32
    assert (home.keys / "store.key").stat().st_mode & 0o077 == 0
    (home.keys / "store.key").unlink()
    assert store_key(home) != key, "nothing was stored under it"
    (home.store / "workspaces" / "train").mkdir(parents=True)
    (home.store / "workspaces" / "train" / "config").touch()
    (home.keys / "store.key").unlink()
    with pytest.raises(NotPossibleHere, match="restore it"):
        store_key(home)


def test_the_chunk_key_is_told_to_the_owner(stage: Stage, sdk: Blocking) -> None:
    """Whoever checks trees on their own has to name chunks as the engine does."""
    sdk.launch(Launch(name="told"))
    stage.until("told")
    key = sdk.chunk_key("told")
    assert len(key) == 32 and key == sdk.chunk_key("told") != bytes(32)
    door = find_door(Home(stage.path))
    assert httpx.get(f"{door.url}/v1/workspaces/told/chunk-key").status_code == 401
    with pytest.raises(NoSuchWorkspace):
        sdk.chunk_key("nobody")
    sdk.remove("told")


def test_the_token_is_needed(stage: Stage) -> None:
    """Other users of this machine may reach the port, and must get nothing."""
    door = find_door(Home(stage.path))
    assert (stage.path / "run" / "api.token").stat().st_mode & 0o077 == 0
    answer = httpx.get(f"{door.url}/v1/workspaces")
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    answer = httpx.get(f"{door.url}/v1/workspaces", headers={"Authorization": "Bearer guess"})
    assert answer.status_code == 401
    assert issubclass(Unauthorized, Exception)


def test_errors_say_what_to_do_next(stage: Stage, sdk: Blocking) -> None:
    """An error without a way out is half an answer."""
    sdk.launch(Launch(name="once"))
    with pytest.raises(NameTaken) as taken:
        sdk.launch(Launch(name="once"))
    assert "dumont rm" in taken.value.__notes__[0]
    with pytest.raises(NoSuchWorkspace, match="once"):
        sdk.workspace("onse")
    with pytest.raises(BadInput, match="small letter"):
        sdk.launch(Launch(name="No Spaces"))
    with pytest.raises(BadInput, match="public key"):
        sdk.add_key("not a key")
    sdk.remove("once")
