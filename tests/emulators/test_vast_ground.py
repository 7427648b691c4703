"""Emulated Vast.ai machines are real processes: they run their onstart, are stopped, resume and end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import httpx
import pytest

from dumont.clock import SystemClock
from dumont.emulate.local import LocalGround
from dumont.emulate.vast.serve import emulate_vast, serving
from dumont.emulate.vast.world import KEY, World
from dumont.provider.base import Machinery, Phase, Why
from dumont.provider.jail import Mode
from dumont.provider.vast import Settings, VastProvider
from dumont.provider.vast.limiter import PACES, Limiters, Pace
from tests.emulators.vast_stand import GPU, box, rent

PATIENCE_S = 30.0
ONSTART = """
cd "$DUMONT_BASE"
echo start >>starts
env >environment
trap 'echo term >>ends; exit 0' TERM
while :; do sleep 0.05; done
"""
LAST_WILL = """
cd "$DUMONT_BASE"
python3 - {url} <<'END'
import json, os, sys, urllib.request as u
url = f"{{sys.argv[1]}}/api/v0/instances/{{os.environ['CONTAINER_ID']}}/"
key = {{"Authorization": "Bearer " + os.environ["CONTAINER_API_KEY"], "Content-Type": "application/json"}}
print(u.urlopen(u.Request(url, b"{{}}", key, method="DELETE")).read())
END
"""


class House:
    """An emulated service over real processes in a directory, and the driver before it, on real time."""

    def __init__(self, world: World, provider: VastProvider, url: str, home: Path) -> None:
        self.world, self.provider, self.url, self.home = world, provider, url, home
        self.script = ONSTART

    def disk(self, machine: Machinery) -> Path:
        return self.home / "instances" / f"C.{machine.ref}" / "root"

    def lines(self, machine: Machinery, name: str) -> list[str]:
        file = self.disk(machine) / name
        return file.read_text().splitlines() if file.exists() else []

    async def until(self, true: Callable[[], bool], what: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                await asyncio.sleep(0.02)
        assert true(), what

    async def phase(self, machine: Machinery, phase: Phase) -> Machinery:
        async with asyncio.timeout(PATIENCE_S):
            while (seen := await self.provider.machine(machine.ref)).phase is not phase:
                await asyncio.sleep(0.02)
        return seen


@pytest.fixture
async def house(short_dir: Path) -> AsyncIterator[House]:
    clock = SystemClock()
    ground = await LocalGround.open(short_dir, Mode.PLAIN)
    now = clock.now().timestamp()
    world = World(clock, Random(1), ground, [box(1, starts_at=now - 1, ends_at=now + 1e6)])
    hurried = Limiters(clock, {name: Pace(period_s=0.001) for name in PACES})
    try:
        async with serving(world) as url, httpx.AsyncClient(verify=False) as http:
            settings = Settings(
                key=KEY, url=url, installation="lab", server_host="127.0.0.1", script_for=lambda b, o: found.script
            )
            found = House(world, VastProvider(settings, http, clock, Random(1), hurried), url, short_dir)
            yield found
    finally:
        await ground.close()


async def rented(house: House) -> Machinery:
    offer = (await house.provider.offers(GPU))[0]
    return await house.phase(await rent(house.provider, offer, "gpu-1"), Phase.RUNNING)


async def test_a_rented_machine_runs_its_onstart_with_the_services_environment(house: House) -> None:
    """The bootstrap finds its address, its ports and its own key there."""
    machine = await rented(house)
    await house.until(lambda: len(house.lines(machine, "environment")) > 3, "its onstart ran")
    environment = dict(line.partition("=")[::2] for line in house.lines(machine, "environment"))
    assert environment["CONTAINER_ID"] == machine.ref
    assert environment["CONTAINER_API_KEY"] == house.world.rentals[int(machine.ref)].key
    assert environment["PUBLIC_IPADDR"] == machine.host
    for port in (7022, 7080, 7443):
        assert environment[f"VAST_TCP_PORT_{port}"] == machine.facts[f"port/{port}"]


async def test_an_outbid_machine_is_stopped_and_resumes_with_its_disk(house: House) -> None:
    """SIGTERM, then nothing; when its bid wins again its onstart runs once more, unasked."""
    machine = await rented(house)
    await house.until(lambda: house.lines(machine, "starts") == ["start"], "it started")
    rental = house.world.rentals[int(machine.ref)]
    house.world.outbid(rental)
    seen = await house.phase(machine, Phase.STOPPED)
    assert seen.why is Why.OUTBID
    assert house.lines(machine, "ends") == ["term"]
    assert not house.world.ground.is_running(rental.name)
    house.world.withdraw(rental.box)
    seen = await house.phase(machine, Phase.RUNNING)
    assert seen.facts["resumed"] == "outbid"
    await house.until(lambda: house.lines(machine, "starts") == ["start", "start"], "it started again")


async def test_a_recycled_machine_starts_with_an_empty_disk(house: House) -> None:
    """A reboot keeps the disk, recycling makes the container anew."""
    machine = await rented(house)
    await house.until(lambda: house.lines(machine, "starts") == ["start"], "it started")
    rental = house.world.rentals[int(machine.ref)]
    house.world.reboot(rental)
    await house.until(lambda: house.lines(machine, "starts") == ["start", "start"], "it started again, on its disk")
    house.world.recycle(rental)
    await house.until(lambda: house.lines(machine, "starts") == ["start"], "it started on a new one")


async def test_a_released_machine_leaves_no_process_and_no_disk(house: House) -> None:
    machine = await rented(house)
    await house.provider.release(machine.ref)
    await house.world.idle()
    assert not house.disk(machine).exists()
    assert not house.world.ground.is_running(f"C.{machine.ref}")


async def test_a_machine_ends_itself_with_its_own_key(house: House) -> None:
    """The dead-man's switch of a trial, which needs no account key on a stranger's host."""
    house.script = LAST_WILL.format(url=house.url)
    offer = (await house.provider.offers(GPU))[0]
    await rent(house.provider, offer, "gpu-1")
    await house.until(lambda: house.world.present == [], "it destroyed itself")


async def test_the_emulator_serves_until_it_is_cancelled(short_dir: Path) -> None:
    """As `dumont emulate vast` runs it: a whole market at a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serving_it = asyncio.create_task(emulate_vast(port, await LocalGround.open(short_dir, Mode.PLAIN), 7))
    async with httpx.AsyncClient(verify=False) as http, asyncio.timeout(PATIENCE_S):
        answer = None
        while answer is None:
            try:
                answer = await http.post(f"http://127.0.0.1:{port}/api/v0/bundles/", json={"limit": 5})
            except httpx.ConnectError:
                await asyncio.sleep(0.02)
    assert len(answer.json()["offers"]) == 5
    serving_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving_it
