"""An instance: one rented machine, always disposable, and the role its replica plays."""

import enum
from dataclasses import dataclass
from datetime import datetime


class Role(enum.StrEnum):
    """What a replica does. NONE is how every agent boots."""

    NONE = "none"
    PRIMARY = "primary"
    STANDBY = "standby"


class Machine(enum.StrEnum):
    """What kind of machine is rented."""

    GPU = "gpu"
    CPU = "cpu"


class InstanceState(enum.StrEnum):
    """Where an instance is in its short life. INTENDED is written before the provider is asked (I4)."""

    INTENDED = "intended"
    RENTED = "rented"
    RELEASING = "releasing"
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Instance:
    """Our record of one rented machine.

    `id` doubles as the idempotency label given to the provider. `price_micros_per_hour` is in millionths of a US
    dollar. `gone_at` is set only when the provider confirmed the end. `lost` is set when we stopped trusting it.
    `product`, `region`, `host`, `domain` and `spot` are its offer's (`model.offer`). `ended` is why it was let go, or
    what its provider said of its end (`outbid`, `preempted` …) where that is known, at `ended_at`; once set it stays.
    `boot_s_max` is how long it may take until its agent is heard of, in seconds, where that is longer than usual.
    `bid_micros_per_hour` is what was bid for it, in millionths of a US dollar; 0 where nothing is bid, or not known.
    """

    id: str
    workspace: str
    machine: Machine
    provider: str
    state: InstanceState
    price_micros_per_hour: int
    created_at: datetime
    provider_ref: str = ""
    token_hash: str = ""
    lost: bool = False
    branch: str = ""
    gone_at: datetime | None = None
    product: str = ""
    region: str = ""
    host: str = ""
    domain: str = ""
    spot: bool = True
    boot_s_max: float = 0.0
    ended: str = ""
    ended_at: datetime | None = None
    bid_micros_per_hour: int = 0
