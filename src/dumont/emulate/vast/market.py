"""The emulated market: physical machines, who else holds their GPUs, and the offer rows that a search sees.

Prices are in millionths of a US dollar per hour and GPU here, in dollars per hour and offer on the rows. A box rents
out slices of 1, 2, 4… GPUs; any of its GPUs may serve a slice.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from random import Random

from dumont.emulate.vast.query import Row

HOURS_PER_MONTH = 720
IDS_KEPT = 6
"""So many searches back an offer's id still names it."""


@dataclass(frozen=True)
class Model:
    """A GPU as hosts rent it out. Prices in micro-dollars per hour: on demand, and as a share of it the floor of bids.

    The on-demand prices are near the medians of `shared/data/price`, rounded; the emulator's own, not quotations.
    """

    name: str
    ram_mb: int
    price: int
    floor: float
    capability: int
    tflops: float
    dlperf: float
    watts: int


MODELS = (
    Model("RTX 3060", 12288, 70_000, 0.62, 860, 12.7, 9.8, 170),
    Model("RTX 3090", 24576, 160_000, 0.68, 860, 35.6, 38.0, 350),
    Model("RTX 4090", 24564, 380_000, 0.61, 890, 82.6, 94.1, 450),
    Model("RTX 5090", 32607, 540_000, 0.60, 1200, 104.8, 170.2, 575),
    Model("RTX A6000", 49140, 430_000, 0.72, 860, 38.7, 45.5, 300),
    Model("L40S", 46068, 620_000, 0.70, 890, 91.6, 101.0, 350),
    Model("A100 PCIE", 40960, 750_000, 0.74, 800, 19.5, 78.0, 250),
    Model("A100 SXM4", 81920, 1_050_000, 0.74, 800, 19.5, 96.0, 400),
    Model("H100 SXM", 81559, 2_250_000, 0.80, 900, 66.9, 310.0, 700),
)
PLACES = ("Texas, US", "Quebec, CA", "Sao Paulo, BR", "Sweden, SE", "Bulgaria, BG", "Taiwan, TW", ", US", "Japan, JP")
PROCESSORS = (
    ("AMD EPYC 7543 32-Core Processor", 64, 2.8),
    ("AMD Ryzen 9 7950X 16-Core Processor", 32, 4.5),
    ("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", 128, 2.0),
)
DRIVERS = (("570.124.04", 570124004, 12.8), ("550.90.07", 550090007, 12.4), ("535.183.01", 535183001, 12.2))


@dataclass(kw_only=True)
class Rival:
    """Another renter of the box. `bid` is for each GPU; None is on demand, which outranks every bid."""

    gpus: int
    bid: int | None


@dataclass(kw_only=True)
class Box:
    """One physical machine. `floor` is the lowest bid for one GPU that the host takes. `smallest` slice, in GPUs."""

    machine_id: int
    host_id: int
    model: Model
    gpus: int
    price: int
    floor: int
    storage_usd_month: str
    place: str
    reliability: float
    verified: bool
    datacenter: bool
    cores: int | None
    processor: int
    driver: int
    ram_mb: int
    disk_gb: float
    up_mbps: float
    down_mbps: float
    address: str
    starts_at: float
    ends_at: float
    smallest: int = 1
    online: bool = True
    listed: bool = True
    rivals: list[Rival] = field(default_factory=list)

    def sizes(self) -> list[int]:
        """The slices on offer, in GPUs: powers of two, and all of them."""
        powers = [1 << n for n in range(8) if 1 << n <= self.gpus]
        return sorted({size for size in (*powers, self.gpus) if size >= self.smallest})

    def storage_micros(self, disk_gb: float) -> Fraction:
        """What a disk of that size costs, in micro-dollars per hour."""
        return Fraction(self.storage_usd_month) * 1_000_000 * Fraction(str(disk_gb)) / HOURS_PER_MONTH

    def hardware(self, gpus: int) -> Row:
        """The fields that an offer and an instance share, for a slice of so many GPUs."""
        name, threads, ghz = PROCESSORS[self.processor]
        driver, packed, cuda = DRIVERS[self.driver]
        share = gpus / max(self.gpus, 1)
        model = self.model
        return {
            "machine_id": self.machine_id, "host_id": self.host_id, "bundle_id": 800000 + self.machine_id % 997,
            "gpu_name": model.name, "num_gpus": gpus, "gpu_frac": share, "gpu_ram": model.ram_mb,
            "gpu_total_ram": model.ram_mb * gpus, "gpu_arch": "nvidia", "compute_cap": model.capability,
            "gpu_max_power": model.watts, "gpu_lanes": 16, "pci_gen": 4.0, "pcie_bw": 24.6, "gpu_mem_bw": 861.0,
            "cuda_max_good": cuda, "driver_version": driver, "driver_vers": packed, "gpu_display_active": False,
            "cpu_name": name, "cpu_arch": "amd64", "cpu_cores": self.cores, "cpu_ghz": ghz, "has_avx": 1,
            "cpu_cores_effective": threads * share, "cpu_ram": int(self.ram_mb * share),
            "disk_name": "nvme", "disk_bw": 3120.0, "inet_up": self.up_mbps, "inet_down": self.down_mbps,
            "inet_up_cost": 0.0026, "inet_down_cost": 0.0013, "storage_cost": float(self.storage_usd_month),
            "reliability": self.reliability, "reliability2": self.reliability, "geolocation": self.place,
            "verification": "verified" if self.verified else "unverified", "hosting_type": int(self.datacenter),
            "static_ip": True, "direct_port_count": 99, "dlperf": model.dlperf * gpus,
            "total_flops": model.tflops * gpus, "resource_type": "gpu", "vms_enabled": False, "rn": 1,
            "logo": "/static/logos/vastai_small2.png", "webpage": None, "cluster_id": None, "mobo_name": "H12SSL-i",
        }  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """What an offer's id stands for: a slice of a box. `holder` is the instance that holds it now; 0: nobody of us."""

    machine_id: int
    gpus: int
    holder: int = 0


@dataclass
class Asks:
    """Which id names which slice. Ids of the last few searches stay good, so that two callers do not starve."""

    next_id: int = 20_000_001
    current: dict[Slice, int] = field(default_factory=dict)
    slices: dict[int, Slice] = field(default_factory=dict)
    generations: list[set[int]] = field(default_factory=list)

    def publish(self, slices: list[Slice], *, reshuffle: bool) -> dict[Slice, int]:
        """The ids of one search's slices: new ones when `reshuffle`, else those that they had."""
        found = {}
        for wanted in slices:
            if reshuffle or wanted not in self.current:
                self.current[wanted] = self.next_id
                self.slices[self.next_id] = wanted
                self.next_id += 7
            found[wanted] = self.current[wanted]
        self.generations.append(set(found.values()))
        if len(self.generations) > IDS_KEPT:
            kept = set().union(*self.generations[-IDS_KEPT:], self.current.values())
            self.generations = self.generations[-IDS_KEPT:]
            self.slices = {ask: wanted for ask, wanted in self.slices.items() if ask in kept}
        return found


def generate(rng: Random, count: int, now: float) -> list[Box]:
    """A market of `count` boxes with the variety of the real one; the same seed makes the same market.

    `now` is in Unix seconds: hosts end their listings some days after it.
    """
    boxes = []
    for number in range(count):
        model = MODELS[number % len(MODELS)] if number < len(MODELS) else rng.choice(MODELS)
        gpus = rng.choice((1, 1, 2, 4, 8))
        price = round(model.price * rng.lognormvariate(0, 0.18), -2)
        processor = rng.randrange(len(PROCESSORS))
        boxes.append(
            Box(
                machine_id=30_000 + number * 17, host_id=90_000 + rng.randrange(400), model=model, gpus=gpus,
                price=int(price), floor=max(int(round(price * model.floor * rng.uniform(0.9, 1.1), -2)), 1_000),
                storage_usd_month=rng.choice(("0.10", "0.15", "0.20", "0.133")), place=rng.choice(PLACES),
                reliability=round(min(0.9995, rng.betavariate(40, 1)), 7), verified=rng.random() < 0.8,
                datacenter=rng.random() < 0.3, cores=None if rng.random() < 0.05 else PROCESSORS[processor][1],
                processor=processor, driver=rng.randrange(len(DRIVERS)), ram_mb=64_000 * max(gpus, 2),
                disk_gb=round(rng.uniform(60, 2000), 1), up_mbps=round(rng.uniform(40, 2500), 1),
                down_mbps=round(rng.uniform(80, 5000), 1), address=f"203.0.113.{number % 250 + 1}",
                starts_at=now - 86_400 * rng.uniform(5, 300), ends_at=now + 86_400 * rng.uniform(3, 90),
            )
        )  # fmt: skip
    return boxes
