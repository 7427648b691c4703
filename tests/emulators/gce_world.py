"""A test's Google: the emulator on a clock of the test's, every exchange judged by the discovery document."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

from google.auth.credentials import AnonymousCredentials
from starlette.types import ASGIApp

from dumont.clock import Clock
from dumont.emulate.gce.faults import Faults
from dumont.emulate.gce.server import Emulator, serving
from dumont.emulate.gce.vm import Vm
from dumont.emulate.gce.world import Setting, World
from dumont.emulate.ground import Ground, Nowhere
from dumont.model.instance import Machine
from dumont.model.offer import Need, Offer
from dumont.provider.base import Boot, Machinery
from dumont.provider.gce.account import Account
from dumont.provider.gce.gce import GceProvider
from tests.clocks import HandClock
from tests.emulators.discovery import Judge

ZONES = ("us-central1-a", "us-central1-b", "us-central1-c")
NOWHERE = Setting(metadata_servers=False)
NEED = Need(machine=Machine.CPU, disk_gb=10)
BEGAN = datetime(2026, 11, 24, tzinfo=UTC)


class FastClock:
    """Time that passes by itself, `speed` times as fast as it does outside."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._began = time.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * self.speed

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.monotonic())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


def account_at(emulator: Emulator, installation: str = "test") -> Account:
    """An account of the emulated cloud, without credentials."""
    return Account(
        project=emulator.world.setting.project,
        zones=ZONES,
        installation=installation,
        server_host="203.0.113.1",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        api_endpoint=emulator.endpoint,
        types=("e2-small",),
        attempt_s=5.0,
    )


@dataclass
class Google:
    """An emulator, its judge, and drivers of it that were made by `driver`."""

    emulator: Emulator
    judge: Judge
    clock: Clock
    drivers: list[GceProvider] = field(default_factory=list)

    @property
    def faults(self) -> Faults:
        return self.emulator.faults

    @property
    def world(self) -> World:
        return self.emulator.world

    def driver(self, account: Account | None = None, seed: int = 1) -> GceProvider:
        """A driver of its own, as another server process would have."""
        driver = GceProvider(account or account_at(self.emulator), script_for, self.clock, Random(seed))
        self.drivers.append(driver)
        return driver

    def the_vm(self) -> Vm:
        """The only machine that there is."""
        (vm,) = self.world.vms.values()
        return vm

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass, and what is due in it happen."""
        await self.clock.sleep(seconds)
        await self.world.timeline.run_due()
        while self.world.tasks:
            await asyncio.wait(set(self.world.tasks))
        await self.world.timeline.run_due()


def script_for(boot: Boot, offer: Offer) -> str:
    """A startup script that shows what it was made for."""
    return f"#!/bin/bash\n# {boot.instance_id} on {offer.name}\n"


def boot_for(label: str) -> Boot:
    return Boot(instance_id=label, server_host="203.0.113.1", server_port=1, ca_pem="ca", join_token=label)


async def rent(driver: GceProvider, label: str, offer: Offer | None = None) -> Machinery:
    """Rent what is offered first."""
    return await driver.rent(offer or (await driver.offers(NEED))[0], label, boot_for(label))


@contextlib.asynccontextmanager
async def google(
    clock: Clock | None = None, setting: Setting = NOWHERE, ground: Ground | None = None
) -> AsyncIterator[Google]:
    """An emulated Google. With no clock, one that the test moves. Every exchange must be as the document says."""
    judges: list[Judge] = []

    def wrap(app: ASGIApp) -> ASGIApp:
        judges.append(Judge(app))
        return judges[-1]

    hand = clock or HandClock(began=BEGAN)
    world = World(ground or Nowhere(), setting, Faults(), hand, Random(1))
    async with serving(world, 0, ticks=not isinstance(hand, HandClock), wrap=wrap) as emulator:
        found = Google(emulator, judges[0], hand)
        try:
            yield found
        finally:
            for driver in found.drivers:
                driver.close()
    assert found.judge.violations == []


def slow_setting(**changes: float) -> Setting:
    return replace(NOWHERE, **changes)  # type: ignore[arg-type]
