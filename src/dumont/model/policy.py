"""A policy: what a user wants of a workspace beyond its files."""

import enum

import msgspec

from dumont.model.instance import Machine
from dumont.model.offer import Need


class Service(msgspec.Struct, frozen=True):
    """What runs in a workspace. Empty strings run nothing; each is a shell command in the workspace's directory.

    `run` is the workload on a GPU, `on_standby` what runs instead when a CPU machine is primary, `on_switch` what
    is run before a switchover, for at most `switch_grace_s` seconds.
    """

    run: str = ""
    on_standby: str = ""
    on_switch: str = ""
    switch_grace_s: float = 2.0


class OnDemand(enum.StrEnum):
    """When a GPU that is never taken back may be rented. FALLBACK: while no spot GPU is to be had."""

    NEVER = "never"
    FALLBACK = "fallback"
    ALWAYS = "always"


class Wish(msgspec.Struct, frozen=True):
    """Which GPU machine is wanted; what is not set lets everything pass.

    `gpus` on one machine, `names` as the market spells them ("RTX 4090"), any of which will do. `vram_gb_min` for each
    GPU, in GB. `regions` are country codes or a provider's regions. `race` machines are started at once when the GPU
    is missed, in different failure domains; the first that is ready stays. Up to `spares` more are held while losing
    the GPU would cost more than they do.
    """

    names: tuple[str, ...] = ()
    gpus: int = 1
    vram_gb_min: float = 0.0
    disk_gb: int = 20
    regions: tuple[str, ...] = ()
    reliability_min: float = 0.0
    on_demand: OnDemand = OnDemand.NEVER
    race: int = 1
    spares: int = 0


class Retention(msgspec.Struct, frozen=True):
    """Which commits stay in the store: the `last` ones, and the newest of each of the last `hourly` hours, `daily` days
    and `weekly` weeks (ISO) that have one, in UTC by the server's clock. Nothing but zeros: all of them.

    Snapshots, which have a name, stay for ever, and so does whatever the workspace may have to be restored from.
    """

    last: int = 60
    hourly: int = 48
    daily: int = 14
    weekly: int = 8

    @property
    def keeps_all(self) -> bool:
        return not (self.last or self.hourly or self.daily or self.weekly)


class Policy(msgspec.Struct, frozen=True):
    """How a workspace is kept. Durations in seconds.

    `return_to_gpu`: switch back to a GPU once one has caught up; without it a fallback on demand stays, too.
    `settle_s`: the least time between two switchovers, doubled for each failover of the last hour (flapping).
    `barrier_timeout_s`: when a barrier answers unknown.
    `value_micros_per_hour`: what an hour without the GPU is worth, in millionths of a US dollar.
    """

    service: Service = Service()
    return_to_gpu: bool = True
    settle_s: float = 2.0
    barrier_timeout_s: float = 10.0
    store_every_s: float = 60.0
    gpu_price_micros_per_hour_max: int = 1_000_000
    cpu_price_micros_per_hour_max: int = 100_000
    value_micros_per_hour: int = 2_000_000
    gpu: Wish = Wish()
    retention: Retention = Retention()

    def need(self, machine: Machine) -> Need:
        """What is looked for on the market. The standby's disk is as large as the GPU machine's: it holds the same; and
        it may be on demand where that is the better deal: it is what protects the rest.
        """
        if machine is Machine.CPU:
            most = self.cpu_price_micros_per_hour_max
            return Need(
                machine=machine, gpus=0, disk_gb=self.gpu.disk_gb, price_micros_per_hour_max=most, on_demand=True
            )
        return Need(
            machine=machine,
            gpus=self.gpu.gpus,
            gpu_names=frozenset(self.gpu.names),
            vram_mb_min=round(self.gpu.vram_gb_min * 1000),
            disk_gb=self.gpu.disk_gb,
            regions=frozenset(self.gpu.regions),
            reliability_min=self.gpu.reliability_min,
            price_micros_per_hour_max=self.gpu_price_micros_per_hour_max,
            spot=self.gpu.on_demand is not OnDemand.ALWAYS,
            on_demand=self.gpu.on_demand is not OnDemand.NEVER,
        )
