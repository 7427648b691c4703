"""An emulated Vast.ai and our driver before it, on one clock that passes only by sleeping: no test waits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx

from dumont.emulate.ground import Nowhere
from dumont.emulate.vast.faults import RATES, Kind
from dumont.emulate.vast.market import MODELS, Box
from dumont.emulate.vast.rental import Rental
from dumont.emulate.vast.serve import serving
from dumont.emulate.vast.world import KEY, World
from dumont.model.instance import Machine
from dumont.provider.base import Boot, Machinery, Need, Offer
from dumont.provider.vast import Settings, VastProvider

INSTALLATION = "lab"
SCRIPT = "sleep 1000"
GPU = Need(machine=Machine.GPU)


class StoppedClock:
    """Time that passes only by sleeping, and not while a call is on its way."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.flying = 0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        until = self.seconds + seconds
        await asyncio.sleep(0)
        while self.flying:
            await asyncio.sleep(0.001)
        self.seconds = max(self.seconds, until)


class Airspace(httpx.AsyncBaseTransport):
    """Counts the calls that are on their way."""

    def __init__(self, clock: StoppedClock) -> None:
        self._clock = clock
        self._inner = httpx.AsyncHTTPTransport(verify=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._clock.flying += 1
        try:
            response = await self._inner.handle_async_request(request)
            await response.aread()
        finally:
            self._clock.flying -= 1
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def model(name: str) -> Any:
    return next(model for model in MODELS if model.name == name)


def box(number: int = 1, **changes: Any) -> Box:
    """One machine with two RTX 4090: 0.40 dollars an hour each, bids from 0.20; ten cents a month for a GB."""
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    usual: dict[str, Any] = {
        "machine_id": 30_000 + number, "host_id": 90_000 + number, "model": model("RTX 4090"), "gpus": 2,
        "price": 400_000, "floor": 200_000, "storage_usd_month": "0.10", "place": "Sao Paulo, BR",
        "reliability": 0.99, "verified": True, "datacenter": False, "cores": 64, "processor": 0, "driver": 0,
        "ram_mb": 256_000, "disk_gb": 600.0, "up_mbps": 800.0, "down_mbps": 900.0, "address": f"203.0.113.{number}",
        "starts_at": start - 86_400, "ends_at": start + 30 * 86_400,
    }  # fmt: skip
    return Box(**(usual | changes))


class Room(dict[Machine, int]):
    """How many GPUs the small machine has, by the contract suite's word for it."""

    def __init__(self, box: Box) -> None:
        super().__init__({Machine.GPU: box.gpus})
        self._box = box

    def __setitem__(self, machine: Machine, count: int) -> None:
        super().__setitem__(machine, count)
        self._box.gpus = count


class RentedVast(VastProvider):
    """The driver with what the contract suite turns beside it."""

    capacity: Room


@dataclass
class Stand:
    """What a test holds: the world behind the service, its clock, the driver, and a bare client for everything else."""

    world: World
    clock: Any
    url: str
    http: httpx.AsyncClient
    provider: RentedVast
    settings: Settings

    def driver(self, *, key: str = KEY, installation: str = INSTALLATION) -> VastProvider:
        """Another driver, as of another server process: it shares nothing with the first."""
        settings = Settings(
            key=key, url=self.url, installation=installation, server_host="192.0.2.1", script_for=lambda b, o: SCRIPT
        )
        return VastProvider(settings, self.http, self.clock, Random(2))

    async def offer(self, need: Need = GPU) -> Offer:
        return (await self.provider.offers(need))[0]

    async def rent(self, label: str = "gpu-1", offer: Offer | None = None) -> Machinery:
        return await rent(self.provider, offer or await self.offer(), label)

    def rental(self, machine: Machinery) -> Rental:
        return self.world.rentals[int(machine.ref)]

    async def pass_time(self, seconds: float) -> None:
        """So much time passes, and what it brings about has happened."""
        self.clock.seconds += seconds
        self.world.settle()
        await self.world.idle()


def _fault(endpoint: str, kind: Kind, share: float = 1.0, times: int = 0, **more: float) -> dict[str, Any]:
    return {"endpoint": endpoint, "kind": kind, "share": share, "times": times, **more}


RATED = [_fault("*", kind, 0.05, threshold_s=2.0) for kind in sorted(RATES)]
WEATHER: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "rates": ({"limits": True}, [*RATED, _fault("list", Kind.RATE_TEXT, 0.1, retry_after_s=1.5)]),
    "front door": ({}, [_fault("*", Kind.HTML_403, 0.15)]),
    "lost answers": ({}, [_fault("create", Kind.LOST, 0.5), _fault("destroy", Kind.LOST, 0.5)]),
    "time-outs": ({}, [_fault("*", Kind.LOST_504, 0.1)]),
    "dropped calls": ({}, [_fault(name, Kind.DROPPED, 0.1) for name in ("list", "search", "destroy", "show")]),
    "late lists": ({"listing_lag_s": 20.0, "gone_lag_s": 30.0, "boot_s": 60.0, "shows_404": True}, []),
    "odd rows": ({"doubled_share": 0.5, "sloppy_share": 1.0, "boot_s": 300.0, "wake_s": 60.0}, []),
    "races": (
        {"races": True},
        [_fault("create", kind, times=1) for kind in (Kind.NO_SUCH_ASK_404, Kind.NO_SUCH_ASK_410)],
    ),
}
"""What the driver has to live with, by class: the service's habits, and faults that strike a share of the calls."""


def all_of_it() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Every class at once, each fault a third as often; without the races: what came up stopped and is listed late
    holds no GPU, so that its capacity is rightly offered again.
    """
    habits: dict[str, Any] = {}
    faults = []
    for theirs, entries in (weather for name, weather in WEATHER.items() if name != "races"):
        habits |= theirs
        faults += [entry | {"share": entry["share"] / 3} for entry in entries if entry["times"] == 0]
    return habits, faults


async def rent(provider: VastProvider, offer: Offer, label: str) -> Machinery:
    boot = Boot(instance_id=label, server_host=provider.server_host, server_port=1, ca_pem="ca", join_token=label)
    return await provider.rent(offer, label, boot)


@contextlib.asynccontextmanager
async def vast_stand(*boxes: Box) -> AsyncIterator[Stand]:
    """A market of these machines; given none, of two: one with two RTX 4090, one that is rented out whole."""
    whole = box(2, model=model("RTX 3060"), gpus=4, smallest=4, price=70_000, floor=40_000)
    clock = StoppedClock()
    world = World(clock, Random(5), Nowhere(), list(boxes) or [box(), whole])
    settings = Settings(
        key=KEY, url="", installation=INSTALLATION, server_host="192.0.2.1", script_for=lambda boot, offer: SCRIPT
    )
    async with serving(world) as url, httpx.AsyncClient(transport=Airspace(clock)) as http:
        settings = Settings(**(settings.__dict__ | {"url": url}))
        provider = RentedVast(settings, http, clock, Random(1))
        provider.capacity = Room(next(iter(world.boxes.values())))
        yield Stand(world, clock, url, http, provider, settings)
