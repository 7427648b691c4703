"""An offer: something a provider will rent now at a price, and what somebody needs of one.

Money is in millionths of a US dollar, memory in MB (10^6 bytes), disks in GB (10^9 bytes), links in Mbit/s. What the
provider does not tell is None (or "" for a text), and never a guess.
"""

import enum
from dataclasses import dataclass
from datetime import datetime

from dumont.model.instance import Machine

HOURS_PER_MONTH = 720
"""What Vast.ai divides a month's storage price by (contract, offer fields)."""


class Interruption(enum.StrEnum):
    """How a provider takes a machine back. NEVER: it is on demand. OUTBID: another bid or an on-demand renter wins it.

    PREEMPTED: the provider wants the capacity back, whatever is paid.
    """

    NEVER = "never"
    OUTBID = "outbid"
    PREEMPTED = "preempted"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Something a provider will rent now, for the whole machine and not for each GPU.

    `price_micros_per_hour` is what an hour costs at the listed price: machine, its disk and its address.
    `compute_micros_per_hour` is the machine's part of it, the one that a bid replaces. `bid_micros_per_hour` is what
    placement decided to pay for that part; 0 lets the driver pay the listed price. `min_bid_micros_per_hour` is the
    lowest bid that wins now. `domain` names what is interrupted together (a zone and a type, or one physical host).
    `host` is the physical machine, where the provider tells it; hosts that failed are avoided by it.
    `boot_s_max` bounds the seconds from rent to the agent's first word, where a provider needs longer than a minute.
    `id` may change from one search to the next; `host` and `gpu` find an offer again.
    `idle_gpu` names the GPU that comes with a CPU machine, where a provider rents none without: it is in the price.
    """

    id: str
    provider: str
    machine: Machine
    name: str
    price_micros_per_hour: int
    spot: bool = True
    interruption: Interruption = Interruption.PREEMPTED
    gpu: str = ""
    gpus: int = 0
    vram_mb: int | None = None
    vcpus: float | None = None
    ram_mb: int | None = None
    disk_gb: float | None = None
    region: str = ""
    zone: str = ""
    host: str = ""
    domain: str = ""
    reliability: float | None = None
    verified: bool | None = None
    down_mbps: float | None = None
    up_mbps: float | None = None
    compute_micros_per_hour: int | None = None
    disk_micros_per_hour: int | None = None
    address_micros_per_hour: int | None = None
    ingress_micros_per_gb: int | None = None
    egress_micros_per_gb: int | None = None
    min_bid_micros_per_hour: int | None = None
    bid_micros_per_hour: int = 0
    boot_s_max: float = 0.0
    ends_at: datetime | None = None
    seen_at: datetime | None = None
    idle_gpu: str = ""

    @property
    def product(self) -> str:
        """What is compared over time and between providers: the GPU's normal name, or the type of a machine without."""
        return self.gpu or self.name


@dataclass(frozen=True, kw_only=True)
class PricePoint:
    """What a provider asked for a product in a region at one moment, for each GPU, or for a machine without any.

    `lowest_…` and `median_…` are over `offers` offers, in millionths of a US dollar an hour.
    """

    at: datetime
    provider: str
    product: str
    region: str
    spot: bool
    lowest_micros_per_hour: int
    median_micros_per_hour: int
    offers: int


@dataclass(frozen=True, kw_only=True)
class Need:
    """What somebody looks for; every bound that is not set lets everything pass.

    `gpus` counts GPUs of one machine; `gpu_names` are the market's normal names ("RTX 4090"). `regions` are ISO
    country codes or a provider's regions. `on_demand` also asks for machines that are never taken back.
    """

    machine: Machine
    gpus: int = 1
    gpu_names: frozenset[str] = frozenset()
    vram_mb_min: int = 0
    ram_mb_min: int = 0
    disk_gb: int = 20
    regions: frozenset[str] = frozenset()
    reliability_min: float = 0.0
    price_micros_per_hour_max: int | None = None
    spot: bool = True
    on_demand: bool = False
