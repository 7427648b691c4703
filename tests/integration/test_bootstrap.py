"""A rented machine becomes an instance by its bootstrap alone: real processes, a real download, a real digest."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dumont.agent.ready import PACKAGES
from dumont.clock import SystemClock
from dumont.control.handout import Handout, hand_out
from dumont.emulate.local import LocalGround
from dumont.errors import ProviderError
from dumont.model.instance import Machine
from dumont.provider.base import Boot
from dumont.provider.bootstrap import SCRIPT_BYTES_MAX, script
from dumont.provider.capabilities import best_mode
from dumont.wire.identity import SERVER, Authority, ClientCertificate, server_context

PATIENCE_S = 30.0


class Site:
    """A server's door for new machines, and the ground that they run on."""

    def __init__(self, ground: LocalGround, boot: Boot, home: Path) -> None:
        self.ground = ground
        self.boot = boot
        self.run = home / "instances" / "m1" / "root" / "run" / "dumont"

    async def start(self, boot: Boot, environment: dict[str, str]) -> None:
        await self.ground.start("m1", script(boot, Machine.GPU), environment)

    async def until_exists(self, path: Path) -> None:
        await self.until(path.exists, path.name)

    async def until(self, true: Callable[[], bool], what: str) -> None:
        clock = SystemClock()
        began = clock.monotonic()
        while not true():
            log = self.run / "bootstrap.log"
            said = log.read_text() if log.exists() else "nothing"
            assert clock.monotonic() - began < PATIENCE_S, f"{what} is missing; the bootstrap said: {said}"
            await clock.sleep(0.02)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    home = tmp_path / "h"
    ground = await LocalGround.open(home, await best_mode(home))
    authority = Authority.create(tmp_path / "authority")
    authority.write_process(tmp_path / "server", SERVER)
    own = tmp_path / "server"
    tls = server_context(own / f"{SERVER}.crt", own / f"{SERVER}.key", own / "ca.crt", ClientCertificate.OPTIONAL)
    handout = Handout.pack(PACKAGES)
    door = await hand_out(handout, [ground.server_host], 0, tls)
    boot = Boot(
        instance_id="gpu-abcde",
        server_host=ground.server_host,
        server_port=1,
        ca_pem=authority.certificate_pem,
        join_token="t" * 64,
        agent_port=door.sockets[0].getsockname()[1],
        agent_sha256=handout.sha256,
    )
    yield Site(ground, boot, home)
    await ground.close()
    door.close()


async def test_a_machine_becomes_an_instance_by_its_bootstrap(site: Site) -> None:
    """Nothing but the script is on a rented machine: it must bring the agent up, with its token and its ports."""
    address = site.ground.address("m1")
    await site.start(site.boot, {"PUBLIC_IPADDR": f"{address}\n", "VAST_TCP_PORT_7443": "40123"})
    await site.until_exists(site.run / "agent.pids")
    written = json.loads((site.run / "boot.json").read_text())
    assert written["instance_id"] == "gpu-abcde"
    assert written["host"] == address
    assert (written["stream_port_outside"], written["ssh_port_outside"]) == (40123, 0)
    assert (site.run / f"code-{site.boot.agent_sha256[:16]}" / "dumont" / "agent" / "engine.py").exists()


async def test_a_machine_that_starts_again_keeps_its_disk(site: Site) -> None:
    """An outbid machine may resume by itself: its promise and its epoch must still be there to fence it."""
    await site.start(site.boot, {})
    await site.until_exists(site.run / "agent.pids")
    await site.ground.stop("m1", grace_s=1.0)
    assert not site.ground.is_running("m1")
    (site.run / "agent.pids").unlink()
    (site.run / "epoch").write_text("7")
    await site.start(site.boot, {})
    await site.until_exists(site.run / "agent.pids")
    assert (site.run / "epoch").read_text() == "7"


async def test_code_that_is_not_what_was_announced_never_runs(site: Site) -> None:
    """The digest comes with the provider's order, so nobody in the server's place can bring other code."""
    await site.start(replace(site.boot, agent_sha256="0" * 64), {})
    log = site.run / "bootstrap.log"
    await site.until_exists(log)
    await site.until(lambda: "Error 404" in log.read_text(), "the refusal")
    assert not list(site.run.glob("code-*"))
    assert not (site.run / "agent.pids").exists()


def test_the_same_code_is_packed_into_the_same_archive() -> None:
    """Otherwise a restart of the server would change the digest that machines on their way were told."""
    assert Handout.pack(PACKAGES) == Handout.pack(PACKAGES)


def test_a_bootstrap_that_a_provider_would_cut_is_refused() -> None:
    """A cut script would start and do half of its work on a machine that is paid for."""
    boot = Boot(instance_id="gpu-1", server_host="h", server_port=1, ca_pem="c" * SCRIPT_BYTES_MAX, join_token="t")
    with pytest.raises(ProviderError, match="allowed"):
        script(boot, Machine.GPU)
