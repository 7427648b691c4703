"""Machines that never found their server end themselves, at either cloud: real processes, real requests."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import httpx
import pytest

from dumont.agent.boot import RunDir
from dumont.agent.orphan import end_machine
from dumont.clock import SystemClock
from dumont.emulate.gce.server import Emulator, emulate_gce
from dumont.emulate.gce.world import Setting
from dumont.emulate.local import LocalGround
from dumont.emulate.vast.rental import Rental
from dumont.emulate.vast.serve import serving
from dumont.emulate.vast.world import KEY, World
from dumont.model.instance import Machine
from dumont.provider.base import Boot, Phase
from dumont.provider.bootstrap import SCRIPT_BYTES_MAX, limit, script
from dumont.provider.gce.account import Account
from dumont.provider.gce.gce import GceProvider
from dumont.provider.jail import Mode
from dumont.provider.vast import Settings, VastProvider
from dumont.provider.vast.limiter import PACES, Limiters, Pace
from dumont.provider.will import POWER_OFF, destroy
from dumont.wire.identity import Authority
from tests.emulators.gce_world import NEED, account_at
from tests.emulators.vast_stand import GPU, box

PATIENCE_S = 60.0
SETTING = Setting(provisioning_s=0.05, staging_s=0.05, stopping_s=0.1)


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    """Of a server that is nowhere."""
    authority = Authority.create(tmp_path / "authority").certificate_pem
    return Boot(
        instance_id="gpu-abcde",
        server_host="127.0.0.1",
        server_port=1,
        ca_pem=authority,
        join_token="t" * 64,
        agent_port=1,
        agent_sha256="0" * 64,
        join_within_s=1.0,
        orphan_after_s=86_400.0,
    )


async def until(true: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.02)
    assert true(), what


class Vast:
    """An emulated Vast.ai whose containers are processes, and a machine there that was told of no server."""

    def __init__(self, world: World, provider: VastProvider) -> None:
        self.world, self.provider = world, provider

    async def rent(self, boot: Boot) -> Rental:
        offer = (await self.provider.offers(GPU))[0]
        machine = await self.provider.rent(offer, "gpu-1", boot)
        return self.world.rentals[int(machine.ref)]


@pytest.fixture
async def vast(short_dir: Path) -> AsyncIterator[Vast]:
    clock = SystemClock()
    now = clock.now().timestamp()
    ground = await LocalGround.open(short_dir, Mode.PLAIN)
    world = World(clock, Random(1), ground, [box(1, starts_at=now - 1, ends_at=now + 1e6)])
    hurried = Limiters(clock, {name: Pace(period_s=0.001) for name in PACES})
    try:
        async with serving(world) as url, httpx.AsyncClient(verify=False) as http:
            settings = Settings(
                key=KEY,
                url=url,
                installation="lab",
                server_host="127.0.0.1",
                script_for=lambda boot, offer: script(boot, offer.machine, destroy(url)),
            )
            yield Vast(world, VastProvider(settings, http, clock, Random(1), hurried))
    finally:
        await ground.close()


async def test_a_container_that_never_joins_destroys_its_own_contract(vast: Vast, boot: Boot) -> None:
    """The commonest orphan: the server is lost, or was never reached, between the order and the join."""
    await vast.rent(boot)
    await until(lambda: not vast.world.present, "it destroyed itself")


@pytest.mark.parametrize("joined", [True, False])
def test_a_machine_that_joined_in_time_stays(short_dir: Path, joined: bool) -> None:
    """From then on it may hold somebody's work, and its engine decides. The wait ends with the answer."""
    if joined:
        (short_dir / "identity.crt").write_text("an identity")
    will = f"touch {short_dir}/ended {short_dir}/identity.crt; kill $PPID"  # its parent would ask again in a minute
    text = f"run={short_dir}\n{limit(will, 0.05)}"
    subprocess.run(["bash", "-c", text], capture_output=True, timeout=PATIENCE_S, check=True)  # until the wait is over
    assert (short_dir / "ended").exists() is not joined


def test_without_a_limit_nobody_waits(short_dir: Path) -> None:
    """0 switches the switch off; the engine's own end is at hand all the same."""
    subprocess.run(["bash", "-c", f"run={short_dir}\n{limit('true', 0)}"], capture_output=True, check=True)
    assert (short_dir / "end").read_text() == "true\n"
    assert "identity.crt" not in limit("true", 0) and limit("", 1.0) == ""


@pytest.fixture
async def google(short_dir: Path) -> AsyncIterator[Emulator]:
    ground = await LocalGround.open(short_dir, Mode.PLAIN)
    async with emulate_gce(0, ground, seed=1, setting=SETTING) as emulator:
        yield emulator


async def test_a_machine_at_google_that_never_joins_turns_itself_off(google: Emulator, boot: Boot) -> None:
    """It has no right to delete itself: its price ends, and the server finds it stopped and lets it go."""
    account: Account = account_at(google)
    driver = GceProvider(account, lambda b, o: script(b, o.machine, POWER_OFF), SystemClock(), Random(1))
    try:
        offer = (await driver.offers(NEED))[0]
        machine = await driver.rent(offer, "cpu-1", boot)
        (vm,) = google.world.vms.values()
        await until(lambda: vm.status == "TERMINATED", "it turned itself off")
        assert not google.world.ground.is_running(vm.name)
        assert (await driver.machine(machine.ref)).phase is Phase.STOPPED
        await driver.release(machine.ref)
        assert not google.world.vms and not google.world.disks
    finally:
        driver.close()


async def test_the_power_of_what_shares_a_machine_is_never_turned_off(tmp_path: Path) -> None:
    """An emulated machine has no power of its own: without a stand-in nothing at all may happen."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "poweroff").write_text(f"#!/bin/sh\ntouch {tmp_path}/off\n")
    (bin_dir / "poweroff").chmod(0o755)

    async def run(**environment: str) -> None:
        path = {"PATH": f"{bin_dir}:/usr/bin:/bin"}
        process = await asyncio.create_subprocess_exec("bash", "-c", POWER_OFF, env={**path, **environment})
        await process.wait()

    await run(DUMONT_RUN="/x")
    await run(DUMONT_RUN="/x", DUMONT_POWEROFF="true")
    assert not (tmp_path / "off").exists()
    await run()
    assert (tmp_path / "off").exists()


async def test_an_end_that_can_not_be_asked_for_is_told(tmp_path: Path) -> None:
    """A machine without a last will, or whose provider does not answer, has not ended."""
    run = RunDir(tmp_path)
    assert not await end_machine(run)
    run.end.write_text("exit 3")
    assert not await end_machine(run)
    run.end.write_text(f"touch {tmp_path}/ended")
    assert await end_machine(run)
    assert (tmp_path / "ended").exists()


def test_the_whole_bootstrap_fits_with_a_long_address(boot: Boot) -> None:
    """Vast.ai would cut it."""
    told = replace(boot, server_host="dumont.computing.a-university.example.br", agent_port=65_000, server_port=65_000)
    assert (
        len(script(replace(told, join_within_s=1800.0), Machine.GPU, destroy("https://console.vast.ai")).encode())
        < SCRIPT_BYTES_MAX
    )
