"""Google gives notice to a machine of a workspace: what it is there for is elsewhere before the machine ends."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import httpx
import pytest

from dumont.client.clouds import Clouds, GceAccount, ServerAddress, VastAccount, write_clouds
from dumont.client.results import WorkspaceShown
from dumont.clock import SystemClock
from dumont.demo.emulated import ZONES
from dumont.emulate.gce.server import emulate_gce
from dumont.emulate.gce.world import Setting
from dumont.emulate.local import LocalGround
from dumont.emulate.vast.serve import serving
from dumont.emulate.vast.world import KEY, World
from dumont.provider.capabilities import best_mode
from tests.acceptance.cloud import COMMAND_S_MAX, Cloud, now, serves, standby_of

PATIENCE_S = 180.0
SOFT_OFF_S = 100.0
"""Google says 30 s. What is shown here is who does what, on a machine that may be busy with other tests."""


@contextlib.asynccontextmanager
async def both_clouds(home: Path) -> AsyncIterator[str]:
    """Both emulators over one home, in this process, whose Google is patient. Yields its address."""
    mode = await best_mode(home)
    gce, vast = await LocalGround.open(home, mode), await LocalGround.open(home, mode)
    market = World(SystemClock(), Random(0), vast)
    market.habits.boot_s = 1.0
    setting = Setting(metadata_host=gce.server_host, soft_off_s=SOFT_OFF_S)
    try:
        async with serving(market) as url, emulate_gce(0, gce, 0, setting) as google:
            keys = home / "keys"
            keys.mkdir(mode=0o700)
            (keys / "vast").write_text(KEY + "\n")
            server = ServerAddress(host=vast.server_host, listen=("127.0.0.1", vast.server_host))
            account = GceAccount(project="acme", zones=ZONES, endpoint=google.endpoint)
            write_clouds(home, Clouds(server=server, vast=VastAccount(url=url), gce=account))
            yield google.endpoint
    finally:
        await vast.close()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def on_google(cloud: Cloud) -> Iterator[None]:
    """A workspace whose GPU is at Vast.ai and whose CPU is at Google."""
    try:
        cloud.up()
        cloud.start()
        yield
    finally:
        cloud.stop(SOFT_OFF_S + COMMAND_S_MAX)  # who was given notice takes its time
        (cloud.home / "instances").mkdir(parents=True)  # where the emulators look for what they have to end


def play(cloud: Cloud, google: str) -> None:
    """The story, from a thread: the command line and the SDK wait."""
    with on_google(cloud):
        cloud.fail_over(PATIENCE_S)
        before = cloud.settle(PATIENCE_S)
        leader = next(replica for replica in before.replicas if replica.id == before.primary)
        assert leader.machine == "cpu"
        began = now()
        preempt(google)
        cloud.until("a move", lambda shown: serves(shown, before.epoch + 1), PATIENCE_S)
        cloud.settle(PATIENCE_S)
        kinds = cloud.kinds(began)
        assert "switchover" in kinds and "failover" not in kinds, kinds
        assert cloud.nonces() and cloud.lost() == []


def preempt(google: str) -> None:
    """Give notice to the one machine that runs at Google."""
    (vm,) = (vm for vm in httpx.get(f"{google}/_emulator/state").json()["machines"] if vm["status"] == "RUNNING")
    httpx.post(f"{google}/_emulator/preempt", json={"zone": vm["zone"], "name": vm["name"]}).raise_for_status()


def exchange(cloud: Cloud, google: str) -> None:
    """The GPU at Vast.ai leads, and its standby at Google is taken back."""
    with on_google(cloud):
        before = cloud.settle(PATIENCE_S)
        old, began = standby_of(before), now()
        assert old.machine == "cpu"
        preempt(google)
        cloud.until(
            "an exchange", lambda shown: bool(members_of(shown)) and old.id not in members_of(shown), PATIENCE_S
        )
        after = cloud.settle(PATIENCE_S)
        reasons = [event.facts["reason"] for event in cloud.events(began) if event.kind == "ack_set"]
        assert reasons[:2] == ["joined", "exchanged"], cloud.events(began)
        assert (after.epoch, old.id in members_of(after)) == (before.epoch, False)
        assert cloud.nonces() and cloud.lost() == []


def members_of(shown: WorkspaceShown) -> list[str]:
    return [replica.id for replica in shown.replicas if replica.in_ack_set]


@pytest.mark.timeout(900)
async def test_a_primary_that_was_given_notice_has_moved_before_it_ends() -> None:
    """Metadata server, agent, server, sealed commit, gateway: all of it, and nobody had to detect a death."""
    cloud = Cloud()
    async with both_clouds(cloud.home) as google:
        await asyncio.to_thread(play, cloud, google)


@pytest.mark.timeout(900)
async def test_a_standby_that_was_given_notice_is_exchanged_before_it_ends() -> None:
    """Barriers need both for a moment and never nobody, and the primary notices nothing else."""
    cloud = Cloud()
    async with both_clouds(cloud.home) as google:
        await asyncio.to_thread(exchange, cloud, google)
