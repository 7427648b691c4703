"""The port of a provider: whoever rents machines out for a price."""

import enum
from dataclasses import dataclass, field
from typing import Protocol

from dumont.model.instance import Machine


class Phase(enum.StrEnum):
    """What a provider says of a machine. UNKNOWN is an answer of its own, never read as gone (I6)."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Something a provider will rent now. The price is in millionths of a US dollar an hour."""

    id: str
    provider: str
    machine: Machine
    name: str
    price_micros_per_hour: int
    spot: bool = True


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What a new machine needs to find its server: its address, its certificate authority, a single-use token."""

    instance_id: str
    server_host: str
    server_port: int
    ca_pem: str
    join_token: str


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """One machine as its provider lists it. `label` is the idempotency label it was rented under."""

    ref: str
    label: str
    phase: Phase
    host: str = ""
    facts: dict[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """Rents machines out. Promises, for every driver:

    - `rent` under a label that is already in use returns that machine instead of a second one, also after a crash
      between the two. It raises NoCapacity when the offer is gone, ProviderError when the outcome is unknown; then
      `machines` tells, by label.
    - `machines` lists everything this account pays for. An error is an error, never an empty list.
    - `machine` raises NoSuchInstance only when the provider confirmed that there is none.
    - `release` returns once the provider confirmed the end; releasing twice, or what never was, is harmless.
    - `server_host` is the address under which a machine of this provider reaches the server.
    """

    name: str
    server_host: str

    async def offers(self, machine: Machine) -> list[Offer]: ...

    async def rent(self, offer: Offer, label: str, boot: Boot) -> Machinery: ...

    async def machines(self) -> list[Machinery]: ...

    async def machine(self, ref: str) -> Machinery: ...

    async def release(self, ref: str) -> None: ...
