"""The port of a provider: whoever rents machines out for a price."""

import enum
from dataclasses import dataclass, field
from typing import Protocol

from dumont.model.offer import Need, Offer

__all__ = ["Boot", "Machinery", "Need", "Offer", "Phase", "Provider", "Why"]


class Phase(enum.StrEnum):
    """What a provider says of a machine. UNKNOWN is an answer of its own, never read as gone (I6)."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    GONE = "gone"
    UNKNOWN = "unknown"


class Why(enum.StrEnum):
    """Why a machine does not run, as far as its provider lets one tell. UNTOLD is an answer of its own (I6).

    OUTBID: a higher bid, or an on-demand renter, has it now. PREEMPTED: the provider took the capacity back. OFFLINE:
    its host does not report. NO_CREDIT: the account's balance is used up. ASKED: we asked for it. FAILED: it could not
    be started (an image, a driver, a device).
    """

    UNTOLD = ""
    OUTBID = "outbid"
    PREEMPTED = "preempted"
    OFFLINE = "offline"
    NO_CREDIT = "no_credit"
    ASKED = "asked"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What a new machine needs to find its server: its address, its certificate authority, a single-use token.

    `agent_port` is where the server hands the agent's code out (HTTPS, that authority), `agent_sha256` its digest in
    hexadecimal; both are empty for a provider whose machines have the code already. `join_within_s` and
    `orphan_after_s` are after how many seconds the machine ends itself when it could not join, and when it no longer
    hears of any server and nothing depends on it (ADR 14); 0 is never.
    """

    instance_id: str
    server_host: str
    server_port: int
    ca_pem: str
    join_token: str
    agent_port: int = 0
    agent_sha256: str = ""
    join_within_s: float = 0.0
    orphan_after_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """One machine as its provider lists it. `label` is the idempotency label it was rented under.

    `why` tells why it does not run. A machine whose host is offline is UNKNOWN with OFFLINE: it may come back.
    `price_micros_per_hour` is what it costs now, in millionths of a US dollar; None when the provider does not say.
    """

    ref: str
    label: str
    phase: Phase
    host: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    why: Why = Why.UNTOLD
    price_micros_per_hour: int | None = None


class Provider(Protocol):
    """Rents machines out. Promises, for every driver:

    - `offers` lists what satisfies the need, checked by us too and not only by the provider; none is an empty list.
    - `rent` under a label that is already in use returns that machine instead of a second one, also after a crash
      between the two. It raises NoCapacity when the offer is gone, ProviderError when the outcome is unknown; then
      `machines` tells, by label.
    - `machines` lists everything that this installation pays for, and nothing of another one on the same account: the
      driver marks what it rents with the installation's name, and takes the mark off the labels that it answers.
      An error is an error, never an empty list.
    - `machine` raises NoSuchInstance only when the provider confirmed that there is none.
    - `release` returns once the provider confirmed the end; releasing twice, or what never was, is harmless.
    - `server_host` is the address under which a machine of this provider reaches the server.
    """

    name: str
    server_host: str

    async def offers(self, need: Need) -> list[Offer]: ...

    async def rent(self, offer: Offer, label: str, boot: Boot) -> Machinery: ...

    async def machines(self) -> list[Machinery]: ...

    async def machine(self, ref: str) -> Machinery: ...

    async def release(self, ref: str) -> None: ...
