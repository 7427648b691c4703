"""The control link: what an agent and a server process say to each other.

Level-triggered both ways. The server sends the whole assignment whenever it changed and at each connect; the agent
sends its whole status a few times a second and at each change. Repeating either is harmless.
"""

import enum

import msgspec

from dumont.model.commit import CommitId
from dumont.model.instance import Role
from dumont.model.policy import Service

VERSION = 1


class Endpoints(msgspec.Struct, frozen=True):
    """Where an instance can be reached: `host` and its TCP ports; 0 when a port is not open."""

    host: str
    ssh_port: int = 0
    http_port: int = 0
    stream_port: int = 0


class Peer(msgspec.Struct, frozen=True):
    """Another replica of the workspace. `dial` is True for the side that opens the stream.

    `keeper`: it is a CPU machine, which never ends itself while it plays a role (docs/adr/0014-orphans.md).
    """

    instance_id: str
    endpoints: Endpoints
    dial: bool
    keeper: bool = False


class Assignment(msgspec.Struct, frozen=True, tag="assignment"):
    """What this agent is to be. `epoch` is the workspace's; an agent never follows a lower one than it has seen.

    `seal` asks a primary to stop its workload, commit and acknowledge nothing more. `branch`, when not empty, asks a
    fenced former primary to keep its divergent files under that name. `restore` names a stored commit to start from.
    """

    workspace: str
    epoch: int
    role: Role
    primary_id: str = ""
    ack_set: tuple[str, ...] = ()
    ack_version: int = 0
    peers: tuple[Peer, ...] = ()
    seal: bool = False
    branch: str = ""
    restore: CommitId | None = None
    service: Service = Service()
    on_gpu: bool = False
    owner_keys: tuple[str, ...] = ()
    host_key: str = ""
    barrier_timeout_s: float = 10.0
    store_every_s: float = 60.0


class PeerStatus(msgspec.Struct, frozen=True):
    """What a primary knows of one standby. `silent_ms` is the time since its last word."""

    instance_id: str
    connected: bool
    acked: CommitId | None = None
    refusal: str = ""
    silent_ms: int = 0


class Risk(msgspec.Struct, frozen=True):
    """What a crash of the primary would lose now: bytes and milliseconds not yet acknowledged by the ack set."""

    bytes: int = 0
    ms: int = 0


class Scope(enum.StrEnum):
    """What a figure of GPU memory counts: what processes of the workspace hold, or all that is in use on the card."""

    PROCESSES = "processes"
    DEVICE = "device"


class GpuPeak(msgspec.Struct, frozen=True):
    """The most memory in use on one GPU since its replica began to serve in this epoch, read every `every_ms`.

    `bytes` None is unknown, for the reason that the word `why` stands for (`agent.gpus`, `agent.peak`). `at_least`: not
    every reading came about, so there may have been more. `card` and `card_bytes` are of the fullest of `gpus` GPUs.
    """

    bytes: int | None = None
    scope: Scope | None = None
    at_least: bool = False
    card: str = ""
    card_bytes: int = 0
    gpus: int = 0
    every_ms: int = 0
    why: str = ""


class Meters(msgspec.Struct, frozen=True):
    """Readings of the instance; None is unknown, never zero (I6). Memory and disk in bytes, network in bytes/s.

    `gpu_peak` None: nothing was read yet, or the agent is older than this field.
    """

    cpu_percent: float | None = None
    memory_bytes: int | None = None
    memory_bytes_max: int | None = None
    disk_free_bytes: int | None = None
    net_in_bytes_per_s: float | None = None
    net_out_bytes_per_s: float | None = None
    gpu_percent: float | None = None
    gpu_peak: GpuPeak | None = None


class BranchSaved(msgspec.Struct, frozen=True):
    """A branch that the store holds. `paths` names at most 1,000 divergent files."""

    name: str
    commit: CommitId
    root: bytes
    forked_from: CommitId | None = None
    paths: tuple[bytes, ...] = ()


class Status(msgspec.Struct, frozen=True, tag="status"):
    """All that an agent knows of its replica.

    `epoch` is the highest it persisted, `role` what it plays now, `ready` that a primary serves the workspace. `ok_seq`
    is the newest commit under which a barrier returned OK. `stream_up`, `stream_seen` (up at least once in this epoch)
    and `stream_silent_ms` (since its last word, or since following began) are a standby's view of its primary: the
    second witness of a failure. `halted` says why a replica will not go on, in words. `rebooted`: the machine started
    anew and its tree may miss acknowledged writes; it leads only at a higher epoch and with an empty ack set. `applied`
    is the newest commit that a standby's files are at: promotion waits for the rest. `leaving` tells in a word why the
    machine is about to end (`preempted`), as its provider announced; "" while nothing was announced.
    """

    instance_id: str
    epoch: int
    role: Role
    endpoints: Endpoints
    ready: bool = False
    head: CommitId | None = None
    applied: CommitId | None = None
    root: bytes = b""
    ack_version: int = -1
    ok_seq: int = 0
    peers: tuple[PeerStatus, ...] = ()
    sealed: CommitId | None = None
    stream_up: bool = False
    stream_seen: bool = False
    stream_silent_ms: int = 0
    risk: Risk = Risk()
    consistent: bool = True
    fuzzy: tuple[bytes, ...] = ()
    uncovered: tuple[bytes, ...] = ()
    commits: int = 0
    stored: CommitId | None = None
    branch_saved: BranchSaved | None = None
    workload: str = ""
    halted: str = ""
    rebooted: bool = False
    meters: Meters = Meters()
    leaving: str = ""


class AgentHello(msgspec.Struct, frozen=True, tag="agent_hello"):
    """First message of an agent's engine."""

    version: int
    instance_id: str


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """From the agent's pulse process every 250 ms. `heard_ms_ago` is the time since the last reply it received."""

    instance_id: str
    epoch: int
    sent_at: float
    heard_ms_ago: int


class BeatReply(msgspec.Struct, frozen=True, tag="beat_reply"):
    """`epoch` is the workspace's now; `leads` whether that instance is its primary. `sent_at` is echoed unread."""

    epoch: int
    leads: bool
    sent_at: float


class Sync(msgspec.Struct, frozen=True, tag="sync"):
    """Server → primary: take a barrier on a user's behalf."""

    request: str
    timeout_s: float = 10.0


class Synced(msgspec.Struct, frozen=True, tag="synced"):
    """The barrier's answer. `outcome` is `ok` or `unknown`; `reason` says why it is unknown, in words."""

    request: str
    outcome: str
    id: CommitId | None = None
    root: bytes = b""
    consistent: bool = True
    fuzzy: tuple[bytes, ...] = ()
    reason: str = ""


FromAgent = AgentHello | Status | Beat | Synced
FromServer = Assignment | BeatReply | Sync
