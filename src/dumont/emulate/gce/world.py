"""The emulated cloud: its machines, disks, addresses, firewall rules and operations, and who may have how much."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from dumont.clock import Clock
from dumont.emulate.gce.faults import Faults
from dumont.emulate.gce.refusal import Failure, not_found, over_quota
from dumont.emulate.gce.timeline import Timeline
from dumont.emulate.gce.vm import Status, Vm
from dumont.emulate.ground import Ground

LINK = "https://www.googleapis.com/compute/v1/projects"
ROOMY = {"CPUS": 96.0, "PREEMPTIBLE_CPUS": 96.0, "INSTANCES": 100.0, "IN_USE_ADDRESSES": 50.0, "SSD_TOTAL_GB": 5000.0}
IDLE = (Status.TERMINATED, Status.SUSPENDED)


@dataclass(frozen=True)
class Kind:
    """A machine type: `vcpus` as the guest sees them, memory in MiB."""

    vcpus: int
    memory_mib: int
    shared: bool = False


KINDS = {
    "e2-micro": Kind(2, 1024, shared=True),
    "e2-small": Kind(2, 2048, shared=True),
    "e2-medium": Kind(2, 4096, shared=True),
    "e2-standard-2": Kind(2, 8192),
    "e2-standard-4": Kind(4, 16384),
    "n2-standard-2": Kind(2, 8192),
    "n2d-standard-2": Kind(2, 8192),
    "t2d-standard-1": Kind(1, 4096),
    "c3-standard-4": Kind(4, 16384),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the cloud is like when nothing is wrong; times in seconds of the clock.

    `ground_speed` is how much faster than real time the clock runs, so that a process gets its 30 s of the clock.
    `hazard_per_hour` preempts running spot machines by chance. `invented_addresses` gives every run a new documentation
    address instead of the ground's.
    """

    project: str = "acme"
    user: str = "ctl@acme.iam.gserviceaccount.com"
    regions: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "us-central1": ("us-central1-a", "us-central1-b", "us-central1-c"),
            "europe-west4": ("europe-west4-a", "europe-west4-b"),
        }
    )
    pending_s: float = 0.2
    provisioning_s: float = 1.5
    staging_s: float = 6.0
    deleting_s: float = 4.0
    stopping_s: float = 2.0
    soft_off_s: float = 30.0
    quick_s: float = 0.5
    hazard_per_hour: float = 0.0
    ground_speed: float = 1.0
    invented_addresses: bool = False
    firewall_open: bool = True
    metadata_host: str = "127.0.0.1"
    metadata_servers: bool = True


@dataclass
class Operation:
    """One operation; `resource` is what the API answers. `done` is set with it."""

    zone: str
    resource: dict[str, Any]
    done_at: float | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


class World:
    """All state of the emulated cloud. Who changes a machine is `lives`; here is what there is."""

    def __init__(self, ground: Ground, setting: Setting, faults: Faults, clock: Clock, rng: Random) -> None:
        self.ground = ground
        self.setting = setting
        self.faults = faults
        self.rng = rng
        self.timeline = Timeline(clock)
        self.vms: dict[tuple[str, str], Vm] = {}
        self.gone: list[Vm] = []
        self.disks: dict[tuple[str, str], dict[str, Any]] = {}
        self.addresses: dict[tuple[str, str], dict[str, Any]] = {}
        self.firewalls: dict[str, dict[str, Any]] = {}
        self.operations: list[Operation] = []
        self.requests: dict[str, Operation] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._addresses_given = 0

    # --- names

    @property
    def zones(self) -> list[str]:
        return [zone for zones in self.setting.regions.values() for zone in zones]

    def region_of(self, zone: str) -> str:
        """The zone's region. Raises Refusal when there is no such zone."""
        for region, zones in self.setting.regions.items():
            if zone in zones:
                return region
        raise not_found(f"{self.setting.project}/zones/{zone}")

    def link(self, path: str) -> str:
        """The full URL of a resource of the project, as answers carry it."""
        return f"{LINK}/{self.setting.project}/{path}"

    def number(self) -> str:
        """A new id: uint64 as a text."""
        return str(self.rng.getrandbits(62) | 1 << 61)

    def stamp(self, at: float | None = None) -> str:
        """An instant as Google writes it: RFC 3339 with milliseconds and an offset."""
        text = self.timeline.date(at).isoformat(timespec="milliseconds")
        return text.replace("+00:00", "-00:00")

    def vm(self, zone: str, key: str) -> Vm:
        """The machine of that name or id. Raises Refusal when there is none."""
        self.region_of(zone)
        found = self.vms.get((zone, key)) or next(
            (v for v in self.vms.values() if v.zone == zone and v.id == key), None
        )
        if found is None:
            raise not_found(f"{self.setting.project}/zones/{zone}/instances/{key}")
        return found

    def new_address(self, name: str) -> str:
        """The address that a machine gets for this run."""
        if not self.setting.invented_addresses:
            return self.ground.address(name)
        self._addresses_given += 1
        return f"203.0.113.{self._addresses_given % 254 + 1}"

    # --- operations

    def begin(self, kind: str, vm: Vm, request_id: str = "") -> Operation:
        """A new operation on a machine, not yet running."""
        return self.begin_on(kind, f"zones/{vm.zone}/instances/{vm.name}", vm.id, request_id)

    def begin_on(self, kind: str, target: str, target_id: str, request_id: str = "") -> Operation:
        """A new operation on any resource. `target` is its path below the project."""
        zone = target.split("/")[1] if target.startswith("zones/") else ""
        at_ms = int(self.timeline.date().timestamp() * 1000)
        name = f"operation-{at_ms}-{self.rng.getrandbits(52):013x}-{self.rng.getrandbits(32):08x}"
        place = f"zones/{zone}" if zone else "global"
        resource: dict[str, Any] = {
            "kind": "compute#operation",
            "id": self.number(),
            "name": name,
            "operationType": kind,
            "status": "PENDING",
            "progress": 0,
            "targetLink": self.link(target),
            "targetId": target_id,
            "user": self.setting.user,
            "insertTime": self.stamp(),
            "selfLink": self.link(f"{place}/operations/{name}"),
        }
        if zone:
            resource["zone"] = self.link(f"zones/{zone}")
        operation = Operation(zone, resource)
        self.operations.append(operation)
        if request_id:
            resource["clientOperationId"] = request_id
            self.requests[request_id] = operation

        async def run() -> None:
            if resource["status"] == "PENDING":
                resource.update(status="RUNNING", startTime=self.stamp())

        self.timeline.after(self.setting.pending_s, run)
        return operation

    def finish(self, operation: Operation, failure: Failure | None = None) -> None:
        """Mark it DONE; with an error when `failure` says why."""
        resource = operation.resource
        if resource["status"] == "DONE":
            return
        resource.setdefault("startTime", self.stamp())
        resource.update(status="DONE", progress=100, endTime=self.stamp())
        if failure is not None:
            error: dict[str, Any] = {"code": failure.code, "message": failure.message}
            if failure.details:
                error["errorDetails"] = failure.details
            resource["error"] = {"errors": [error]}
            if not self.faults.no_http_fields:
                resource.update(httpErrorStatusCode=failure.status, httpErrorMessage=failure.words)
        operation.done_at = self.timeline.now
        operation.done.set()

    def tell(self, kind: str, vm: Vm, message: str) -> None:
        """An operation that the system made itself, already DONE (contract §5)."""
        operation = self.begin(kind, vm)
        at_ms = int(self.timeline.date().timestamp() * 1000)
        name = f"systemevent-{at_ms}-{self.rng.getrandbits(52):013x}-{self.rng.getrandbits(32):08x}"
        operation.resource.update(name=name, user="system", statusMessage=message)
        operation.resource["selfLink"] = self.link(f"zones/{vm.zone}/operations/{name}")
        self.finish(operation)

    def remembered(self) -> list[Operation]:
        """Operations within their retention."""
        since = self.timeline.now - self.faults.operation_retention_s
        kept = [op for op in self.operations if op.done_at is None or op.done_at > since]
        if len(kept) != len(self.operations):
            self.operations = kept
            self.requests = {key: op for key, op in self.requests.items() if op in kept}
        return kept

    # --- quotas

    def quotas(self, region: str) -> list[dict[str, Any]]:
        """What regions.get tells: limit and usage of each metric."""
        limits = {**ROOMY, **self.faults.quotas.get(region, {})}
        usage = self._usage(region)
        return [{"metric": m, "limit": limit, "usage": usage.get(m, 0.0)} for m, limit in sorted(limits.items())]

    def lacks(self, vm: Vm) -> Failure | None:
        """Which quota this machine, which is counted already, exceeds. CPUS counts for spot only without the other."""
        region = self.region_of(vm.zone)
        metered = ["PREEMPTIBLE_CPUS" if vm.spot else "CPUS", "INSTANCES", "IN_USE_ADDRESSES", "SSD_TOTAL_GB"]
        for quota in self.quotas(region):
            if quota["metric"] in metered and quota["usage"] > quota["limit"]:
                return over_quota(quota["metric"], quota["limit"], region)
        return None

    def _usage(self, region: str) -> dict[str, float]:
        """A machine that does not run uses no CPUs and no address; its disk stays."""
        zones = self.setting.regions[region]
        here = [vm for vm in self.vms.values() if vm.zone in zones]
        awake = [vm for vm in here if vm.status not in IDLE]
        return {
            "PREEMPTIBLE_CPUS": _vcpus(vm for vm in awake if vm.spot),
            "CPUS": _vcpus(vm for vm in awake if not vm.spot),
            "INSTANCES": float(len(here)),
            "IN_USE_ADDRESSES": float(len([vm for vm in awake if has_address(vm)])),
            "SSD_TOTAL_GB": float(sum(int(d["sizeGb"]) for (zone, _), d in self.disks.items() if zone in zones)),
        }


def _vcpus(vms: Iterable[Vm]) -> float:
    return float(sum(KINDS[vm.kind].vcpus for vm in vms))


def has_address(vm: Vm) -> bool:
    """Whether it was made with an external address."""
    return bool(vm.resource["networkInterfaces"][0].get("accessConfigs"))
