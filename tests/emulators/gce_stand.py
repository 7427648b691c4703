"""Our Google driver before the emulated service as the contract suite wants it: with a capacity that a test may set."""

import contextlib
from collections.abc import AsyncIterator
from random import Random
from typing import Any

from dumont.emulate.gce.faults import Faults
from dumont.emulate.gce.world import World
from dumont.model.instance import Machine
from dumont.provider.gce.gce import GceProvider
from tests.emulators.gce_world import account_at, google, script_for

REGION = "us-central1"
VCPUS = 2
CALL_S = 0.1
"""What a call takes on the test's clock, so that time passes for whoever only asks."""

FAULTS: dict[str, dict[str, Any]] = {
    "rate limited with 403": {"rate_limited_share": 0.3},
    "rate limited with 429": {"rate_limited_share": 0.3, "rate_status": 429},
    "front end errors": {"server_errors_share": 0.3, "server_error_status": 502},
    "cut off before it acted": {"lost_before_share": 0.25},
    "cut off after it acted": {"lost_answers_share": 0.5},
    "answers that are no JSON": {"garbled_share": 0.25},
    "answers that are empty": {"emptied_share": 0.25},
    "operations forgotten at once": {"operation_retention_s": 0.0},
    "no HTTP fields in failed operations": {"no_http_fields": True},
    "disks left behind": {"leaves_disks": True},
    "addresses left behind": {"leaves_addresses": True},
    "deleted late": {"late_delete_s": 60.0},
    "deletion that fails at first": {"delete_fails": 2},
    "calls that take long": {"slow_s": 3.0},
}
"""Each class of fault that a machine's whole life is led under."""

WEATHER: dict[str, dict[str, Any]] = {
    name: FAULTS[name]
    for name in (
        "rate limited with 403",
        "cut off before it acted",
        "cut off after it acted",
        "answers that are empty",
        "operations forgotten at once",
        "deletion that fails at first",
    )
} | {"things left behind": FAULTS["disks left behind"] | FAULTS["addresses left behind"]}
"""Those that every promise of the contract is held against, one by one; the others take the same ways through us."""


def bad_weather() -> dict[str, Any]:
    """All that may happen together and pass."""
    return {
        "rate_limited_share": 0.06,
        "server_errors_share": 0.06,
        "lost_before_share": 0.06,
        "lost_answers_share": 0.3,
        "garbled_share": 0.04,
        "emptied_share": 0.04,
        "operation_retention_s": 2.0,
        "no_http_fields": True,
        "leaves_disks": True,
        "leaves_addresses": True,
        "late_delete_s": 20.0,
        "delete_fails": 1,
    }


class Room(dict[Machine, int]):
    """How many machines run at a time: as many as their CPUs fit into the quota for spot machines."""

    def __init__(self, faults: Faults, capacity: int) -> None:
        super().__init__()
        self._faults = faults
        self[Machine.CPU] = capacity

    def __setitem__(self, machine: Machine, count: int) -> None:
        super().__setitem__(machine, count)
        self._faults.quotas = {REGION: {"PREEMPTIBLE_CPUS": float(VCPUS * count)}}


class RentedGce(GceProvider):
    """The driver with what the contract suite turns beside it."""

    capacity: Room
    faults: Faults
    world: World


@contextlib.asynccontextmanager
async def gce_stand(capacity: int) -> AsyncIterator[RentedGce]:
    """A driver whose account rents so many e2-small at a time."""
    async with google() as stand:
        provider = RentedGce(account_at(stand.emulator), script_for, stand.clock, Random(1))
        provider.faults, provider.world = stand.faults, stand.world
        provider.capacity = Room(stand.faults, capacity)
        stand.faults.slow_s = CALL_S
        stand.drivers.append(provider)
        yield provider
