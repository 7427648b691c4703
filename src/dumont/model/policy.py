"""A policy: what a user wants of a workspace beyond its files."""

import msgspec


class Service(msgspec.Struct, frozen=True):
    """What runs in a workspace. Empty strings run nothing; each is a shell command in the workspace's directory.

    `run` is the workload on a GPU, `on_standby` what runs instead when a CPU machine is primary, `on_switch` what
    is run before a switchover, for at most `switch_grace_s` seconds.
    """

    run: str = ""
    on_standby: str = ""
    on_switch: str = ""
    switch_grace_s: float = 2.0


class Policy(msgspec.Struct, frozen=True):
    """How a workspace is kept. Durations in seconds.

    `return_to_gpu`: switch back to a GPU once one has caught up. `settle_s`: the least time between two switchovers,
    doubled for each failover of the last hour (flapping). `barrier_timeout_s`: when a barrier answers unknown.
    """

    service: Service = Service()
    return_to_gpu: bool = True
    settle_s: float = 2.0
    barrier_timeout_s: float = 10.0
    store_every_s: float = 60.0
    gpu_price_micros_per_hour_max: int = 1_000_000
    cpu_price_micros_per_hour_max: int = 100_000
