"""An emulated machine: its resource as the API shows it, the states that it goes through, and what it costs."""

import asyncio
import base64
import enum
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from dumont.emulate.gce.refusal import not_ready

MINIMUM_S = 60.0
"""A run is billed for at least a minute (documented)."""


class Status(enum.StrEnum):
    """Google's words for the state of a machine that occur here."""

    PROVISIONING = "PROVISIONING"
    STAGING = "STAGING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    TERMINATED = "TERMINATED"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"


ON_THE_WAY = (Status.STOPPING, Status.SUSPENDING)
MOVES = {
    Status.PROVISIONING: {Status.STAGING, Status.STOPPING, Status.TERMINATED},
    Status.STAGING: {Status.RUNNING, Status.STOPPING, Status.TERMINATED},
    Status.RUNNING: {Status.STOPPING, Status.SUSPENDING, Status.TERMINATED},
    Status.STOPPING: {Status.TERMINATED},
    Status.TERMINATED: {Status.PROVISIONING, Status.STOPPING},
    Status.SUSPENDING: {Status.SUSPENDED},
    Status.SUSPENDED: {Status.PROVISIONING, Status.STOPPING},
}


@dataclass
class Run:
    """One time that a machine ran, in seconds of the clock; `until` is None while it runs."""

    since: float
    until: float | None = None
    preempted: bool = False

    def billed_s(self, now: float) -> float:
        """Per second, a minute at least; nothing when it was preempted within its first minute (inferred, §7)."""
        lasted = (now if self.until is None else self.until) - self.since
        if self.preempted and lasted < MINIMUM_S:
            return 0.0
        return max(lasted, MINIMUM_S)


@dataclass
class Vm:
    """One machine. `resource` is what the API answers; `life` grows at each turn, so that a stale act knows itself."""

    zone: str
    name: str
    resource: dict[str, Any]
    born_at: float
    life: int = 0
    runs: list[Run] = field(default_factory=list)
    preempted: bool = False
    maintenance: str = "NONE"
    serial: str = ""
    gone_at: float | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    deleting: bool = False

    @property
    def id(self) -> str:
        return str(self.resource["id"])

    @property
    def status(self) -> Status:
        return Status(self.resource["status"])

    @property
    def kind(self) -> str:
        """The machine type's name."""
        return str(self.resource["machineType"]).rpartition("/")[2]

    @property
    def spot(self) -> bool:
        return bool(self.resource["scheduling"].get("provisioningModel") == "SPOT")

    @property
    def termination_action(self) -> str:
        return str(self.resource["scheduling"].get("instanceTerminationAction", "STOP"))

    def attribute(self, key: str) -> str | None:
        """A value of the machine's metadata."""
        items = self.resource["metadata"].get("items", [])
        return next((item["value"] for item in items if item["key"] == key), None)

    def move(self, to: Status) -> None:
        """Go to another state. Raises Refusal when the table does not hold it."""
        if to not in MOVES[self.status]:
            raise not_ready(f"{self.zone}/instances/{self.name}")
        self.resource["status"] = to.value
        self.life += 1
        self.say(f"{self.name}: {to.value.lower()}")

    def say(self, line: str) -> None:
        """A line on its serial console, whose ring holds 1 MB."""
        self.serial += line + "\n"

    def tell_metadata(self) -> None:
        """Wake whoever waits for a change at the metadata server."""
        self.changed.set()
        self.changed = asyncio.Event()


def fingerprint(content: Any) -> str:
    """What changes with the content, base64 as Google's `byte` fields are."""
    text = json.dumps(content, sort_keys=True).encode()
    return base64.b64encode(hashlib.blake2s(text, digest_size=8).digest()).decode()
