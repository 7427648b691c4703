"""What the server answers: the SDK's typed results, which are also the API's schema.

Plain records whose field names are stable: `--json` prints them as they are. Commits are written `epoch.seq`, roots in
hexadecimal, instants in ISO 8601 UTC. None is unknown, never zero.
"""

from dataclasses import dataclass, field

Fact = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether the server is whole: its control loop runs and a gateway is connected."""

    ok: bool
    version: str
    pid: int
    home: str
    hub_port: int
    gateway: bool
    loop_ms_ago: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that `doctor` looked at. `fix` says what to do when it is not ok; `needed` whether one must."""

    name: str
    ok: bool
    detail: str = ""
    fix: str = ""
    needed: bool = True


@dataclass(frozen=True, kw_only=True)
class AtRisk:
    """What a crash of the primary would lose now: not yet acknowledged by the ack set."""

    bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class GpuPeak:
    """The most memory in use on one GPU since its replica began to serve, read every `every_ms`.

    `bytes` None is unknown, and `why` a word for the reason. `scope`: `processes` of the workspace, or all that is in
    use on the `device`. `at_least`: there may have been more. `card` is the fullest of `gpus` GPUs.
    """

    bytes: int | None = None
    scope: str | None = None
    at_least: bool = False
    card: str = ""
    card_bytes: int = 0
    gpus: int = 0
    every_ms: int = 0
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Meters:
    """Readings of an instance; None is unknown. Bytes, and bytes per second."""

    cpu_percent: float | None = None
    memory_bytes: int | None = None
    memory_bytes_max: int | None = None
    disk_free_bytes: int | None = None
    net_in_bytes_per_s: float | None = None
    net_out_bytes_per_s: float | None = None
    gpu_percent: float | None = None
    gpu_peak: GpuPeak | None = None


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One instance and its replica. `acked` is the newest commit it fsynced; `phase` what the provider last said."""

    id: str
    machine: str
    state: str
    role: str
    provider: str
    provider_ref: str
    phase: str
    price_micros_per_hour: int
    connected: bool
    heard_ms_ago: int | None
    ready: bool
    in_ack_set: bool
    lost: bool
    epoch: int | None = None
    head: str | None = None
    root: str | None = None
    commits: int | None = None
    acked: str | None = None
    refusal: str = ""
    workload: str = ""
    halted: str = ""
    meters: Meters = field(default_factory=Meters)


@dataclass(frozen=True, kw_only=True)
class Address:
    """The workspace's one address. Clients should know the host key under the alias, whatever the port."""

    host: str
    ssh_port: int
    http_port: int
    user: str
    alias: str
    host_public_key: str


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Which commits stay in the store: the `last` ones, and the newest of each of the last hours, days and weeks.

    Nothing but zeros: all of them. What has a name stays for ever.
    """

    last: int = 60
    hourly: int = 48
    daily: int = 14
    weekly: int = 8


@dataclass(frozen=True, kw_only=True)
class CommitKept:
    """A commit in the store. `at`: when it came. `taken`: it goes by other rules, and stays by those that hold now."""

    id: str
    at: str
    taken: bool


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What the next round of upkeep makes of a workspace's commits by `rules`; `before`: those that held until now.

    `history` is what the store calls it. `let_go`: the commits that go, oldest first; `why` says why none can go yet.
    `takes`: commits go, or may, that stay by the rules `before`, so that somebody has to agree.
    """

    name: str
    history: str
    rules: Retention
    before: Retention
    kept: int
    let_go: list[CommitKept]
    takes: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class HistoryShown:
    """What a removed workspace left in the store, under the name `history`. `keep_until` None: for ever."""

    history: str
    workspace: str
    removed_at: str
    keep_until: str | None
    deleting: bool
    objects: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class WorkspaceShown:
    """Everything known of a workspace now. `copies` counts replicas that hold the head's ack set, the primary included.

    `at_risk` is None while no primary reports: unknown is not zero.
    """

    name: str
    state: str
    wanted: str
    epoch: int
    primary: str
    machine: str
    copies: int
    address: Address
    created_at: str
    promoted_at: str | None
    single_copy_since: str | None
    switching_to: str
    at_risk: AtRisk | None
    head: str | None
    root: str | None
    consistent: bool | None
    fuzzy: list[str]
    uncovered: list[str]
    stored: str | None
    workload: str
    halted: str
    run: str
    on_standby: str
    on_switch: str
    return_to_gpu: bool
    replicas: list[Replica]
    retention: Retention


@dataclass(frozen=True, kw_only=True)
class ProviderShown:
    """A provider of this installation. `spend_micros_per_hour` is what our machines there cost by our records."""

    name: str
    server_host: str
    offers: int
    instances: int
    spend_micros_per_hour: int


@dataclass(frozen=True, kw_only=True)
class Hazard:
    """Interruptions an hour: what is expected, and the interval that holds it with a probability of 90 %.

    `own_lives` counts machines of our own that stand behind it, of the last 30 days, `own_interrupted` those that were
    taken away, `own_hours` how long they were held together.
    """

    per_hour: float
    low: float
    high: float
    own_lives: int = 0
    own_interrupted: int = 0
    own_hours: float = 0.0


@dataclass(frozen=True, kw_only=True)
class OfferShown:
    """An offer. Money in millionths of a US dollar an hour for the whole machine; None is what nobody told.

    `price_…` is what the bill says without interruptions, at the bid. `cost_…` is the sum of `parts`: what an hour is
    expected to cost with them.
    """

    id: str
    provider: str
    machine: str
    name: str
    gpu: str
    gpus: int
    vram_mb: int | None
    vcpus: float | None
    ram_mb: int | None
    disk_gb: float | None
    region: str
    zone: str
    host: str
    interruption: str
    reliability: float | None
    verified: bool | None
    down_mbps: float | None
    up_mbps: float | None
    price_micros_per_hour: int
    bid_micros_per_hour: int
    cost_micros_per_hour: int
    parts: dict[str, int]
    hazard: Hazard
    seen_at: str | None = None
    idle_gpu: str = ""
    min_bid_micros_per_hour: int = 0


@dataclass(frozen=True, kw_only=True)
class Stake:
    """What one interruption was reckoned to cost: the time until the work goes on and what is computed again, at what
    an hour without the GPU is worth; what a new machine fetches, and what replication sends in an hour.
    """

    value_micros_per_hour: int
    restore_s: float
    work_at_risk_s: float
    transfer_gb: float
    sync_gb_per_hour: float


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What another cloud asks on demand for the same GPU or its nearest equal (`exact` False), read at `as_of`."""

    provider: str
    asked: str
    gpu: str
    exact: bool
    micros_per_hour: int | None
    instance: str
    region: str
    as_of: str
    source: str
    why: str


@dataclass(frozen=True, kw_only=True)
class OffersFound:
    """Offers in the order asked for, `matching` of them in all. `unanswered` says which providers did not answer."""

    at: str
    matching: int
    offers: list[OfferShown]
    references: list[Compared] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    stake: Stake | None = None


@dataclass(frozen=True, kw_only=True)
class PriceShown:
    """What was asked for a product in a region at one moment; of a GPU, for each GPU."""

    at: str
    provider: str
    product: str
    region: str
    spot: bool
    lowest_micros_per_hour: int
    median_micros_per_hour: int
    offers: int


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One thing that renting needs. `ok` is None when it can't be told without renting."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One step of a trial. `outcome` is confirmed, refuted, failed or skipped."""

    name: str
    assumption: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which GPU machine to rent; what is not set lets everything pass.

    `names` as the market spells them ("RTX 4090"), any of which will do; `vram_gb_min` for each GPU, in GB. `on_demand`
    is `never`, `fallback` or `always`. `race` machines start at once when the GPU is missed; at most `spares` more are
    held, while losing the GPU would cost more than they do. Prices in millionths of a US dollar an hour; None keeps the
    default.
    """

    names: list[str] = field(default_factory=list)
    gpus: int = 1
    vram_gb_min: float = 0.0
    disk_gb: int = 20
    regions: list[str] = field(default_factory=list)
    reliability_min: float = 0.0
    on_demand: str = "never"
    race: int = 1
    spares: int = 0
    price_micros_per_hour_max: int | None = None


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What to launch. Empty commands run nothing. `advised` is what was predicted of it, if it was advised.

    `value_micros_per_hour`: what an hour without the GPU is worth, in millionths of a US dollar; None is the usual.
    """

    name: str
    run: str = ""
    on_standby: str = ""
    on_switch: str = ""
    return_to_gpu: bool = True
    gpu: Wish = field(default_factory=Wish)
    advised: dict[str, Fact] = field(default_factory=dict)
    retention: Retention = field(default_factory=Retention)
    value_micros_per_hour: int | None = None


@dataclass(frozen=True, kw_only=True)
class Happened:
    """One event of a workspace's timeline."""

    workspace: str
    at: str
    kind: str
    facts: dict[str, Fact]


@dataclass(frozen=True, kw_only=True)
class SyncAnswer:
    """A barrier's answer. `outcome` is `ok` or `unknown`; `token` is the commit, `epoch.seq`."""

    outcome: str
    token: str = ""
    root: str = ""
    consistent: bool = True
    fuzzy: list[str] = field(default_factory=list)
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class BranchShown:
    """The divergent files of a fenced primary."""

    name: str
    commit: str
    root: str
    created_at: str
    forked_from: str | None
    paths: list[str]


@dataclass(frozen=True, kw_only=True)
class BranchFile:
    """One name in a branch's tree. `kind` is `file`, `directory`, `symlink` or `fifo`; `size` in bytes."""

    path: str
    kind: str
    size: int
    mode: int
    mtime_ns: int
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a drill did and measured. Milliseconds run from the kill; None was not observed.

    `lost` is False only when the commit of the barrier taken before is the promoted commit or an ancestor of it.
    """

    workspace: str
    kind: str
    at: str
    ok: bool
    epoch_before: int
    epoch_after: int
    primary_before: str
    primary_after: str
    barrier: str
    barrier_root: str
    promoted_commit: str
    promoted_root: str
    lost: bool
    at_risk_bytes: int | None
    detected_ms: int | None
    decided_ms: int | None
    promoted_ms: int | None
    why: str = ""
    verdict: str = ""


@dataclass(frozen=True, kw_only=True)
class OwnerKeys:
    """Public keys whose owners may log in to every workspace."""

    keys: list[str]


@dataclass(frozen=True, kw_only=True)
class ChunkKey:
    """The key of a workspace's chunks: 32 bytes in hexadecimal."""

    key: str
