"""The operator's computer is lost: the dear machine ends itself, the cheap one keeps the work, which is found again."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dumont.cli.process import gateway_of
from dumont.client import Home
from dumont.client.clouds import read_clouds, write_clouds
from dumont.demo.emulated import emulated
from tests.acceptance.cloud import Cloud, serves, wait_until

ORPHAN_AFTER_S = 20.0
END_S_MAX = 180.0
PATIENCE_S = 180.0


class Emulators:
    """What the emulated providers themselves say that they rent out."""

    def __init__(self, home: Path) -> None:
        clouds = read_clouds(home)
        assert clouds.vast and clouds.gce
        self._vast, self._gce = clouds.vast.url, clouds.gce.endpoint

    def gpus(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{self._vast}/_emulator/state").json()["instances"]
        return found

    def cpus(self) -> list[str]:
        machines = httpx.get(f"{self._gce}/_emulator/state").json()["machines"]
        return [one["name"] for one in machines if one["status"] == "RUNNING" and one["runs"]]


@contextmanager
def protected(cloud: Cloud) -> Iterator[Emulators]:
    """A workspace on both clouds, whose machines are orphans after some seconds without server and gateway."""
    clouds = read_clouds(cloud.home)
    assert clouds.server
    server = type(clouds.server)(clouds.server.host, clouds.server.listen, orphan_after_h=ORPHAN_AFTER_S / 3600)
    write_clouds(cloud.home, type(clouds)(server, clouds.vast, clouds.gce))
    try:
        cloud.up()
        cloud.start()
        yield Emulators(cloud.home)
    finally:
        cloud.stop()
        (cloud.home / "instances").mkdir(parents=True)  # where the emulators look for what they have to end


def play(cloud: Cloud) -> None:
    """The story, from a thread: the command line and the SDK wait."""
    with protected(cloud) as providers:
        before = cloud.shown()
        (keeper,) = providers.cpus()
        (gpu,) = providers.gpus()
        cloud.kill_server()
        time.sleep(1.5 * ORPHAN_AFTER_S)
        assert [one["id"] for one in providers.gpus()] == [gpu["id"]], "its gateway is there"
        pid = gateway_of(Home(cloud.home)).pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        wait_until("the GPU ended itself", lambda: not providers.gpus(), END_S_MAX)
        assert providers.cpus() == [keeper], "what holds the only copy stays"
        cloud.up()
        cloud.until("a promotion", lambda shown: serves(shown, before.epoch + 1), PATIENCE_S)
        assert cloud.nonces() and cloud.lost() == []


@pytest.mark.timeout(900)
async def test_without_its_installation_the_gpu_ends_itself_and_no_acknowledged_byte_with_it() -> None:
    """A lost computer must neither bill for ever nor cost anybody's work. A server that is away is not yet lost."""
    cloud = Cloud()
    async with emulated(cloud.home):
        await asyncio.to_thread(play, cloud)
    shutil.rmtree(cloud.home)
