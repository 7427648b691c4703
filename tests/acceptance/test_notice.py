"""Google gives notice to the machine that serves a workspace: it has moved before the machine ends."""

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
from dumont.clock import SystemClock
from dumont.demo.emulated import ZONES
from dumont.emulate.gce.server import emulate_gce
from dumont.emulate.gce.world import Setting
from dumont.emulate.local import LocalGround
from dumont.emulate.vast.serve import serving
from dumont.emulate.vast.world import KEY, World
from dumont.provider.capabilities import best_mode
from tests.acceptance.cloud import Cloud, now, serves

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
def running_on_google(cloud: Cloud) -> Iterator[None]:
    """A workspace whose GPU at Vast.ai was killed: the CPU at Google serves it, and another GPU stands by."""
    try:
        cloud.up()
        cloud.start()
        cloud.fail_over(PATIENCE_S)
        yield
    finally:
        cloud.stop()
        (cloud.home / "instances").mkdir(parents=True)  # where the emulators look for what they have to end


def play(cloud: Cloud, google: str) -> None:
    """The story, from a thread: the command line and the SDK wait."""
    with running_on_google(cloud):
        before = cloud.settle(PATIENCE_S)
        leader = next(replica for replica in before.replicas if replica.id == before.primary)
        assert leader.machine == "cpu"
        (vm,) = (vm for vm in httpx.get(f"{google}/_emulator/state").json()["machines"] if vm["status"] == "RUNNING")
        began = now()
        httpx.post(f"{google}/_emulator/preempt", json={"zone": vm["zone"], "name": vm["name"]}).raise_for_status()
        cloud.until("a move", lambda shown: serves(shown, before.epoch + 1), PATIENCE_S)
        cloud.settle(PATIENCE_S)
        kinds = cloud.kinds(began)
        assert "switchover" in kinds and "failover" not in kinds, kinds
        assert cloud.nonces() and cloud.lost() == []


@pytest.mark.timeout(900)
async def test_a_primary_that_was_given_notice_has_moved_before_it_ends() -> None:
    """Metadata server, agent, server, sealed commit, gateway: all of it, and nobody had to detect a death."""
    cloud = Cloud()
    async with both_clouds(cloud.home) as google:
        await asyncio.to_thread(play, cloud, google)
