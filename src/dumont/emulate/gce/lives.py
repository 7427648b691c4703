"""The lives of emulated machines: made, run, stopped, taken back and deleted, each in its time and with its faults."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from dumont.emulate.gce.order import check_scheduling, disk_of, make
from dumont.emulate.gce.refusal import Failure, Refusal, invalid, not_ready, stock_out, taken, taken_back_early
from dumont.emulate.gce.vm import ON_THE_WAY, Run, Status, Vm
from dumont.emulate.gce.world import Operation, World, has_address

PREEMPTED = "compute.instances.preempted"
HOST_ERROR = "compute.instances.hostError"
GUEST_TERMINATE = "compute.instances.guestTerminate"
AWAKE = (Status.PROVISIONING, Status.STAGING, Status.RUNNING)


class Lives:
    """Turns machines from one state to the next. `on_run` and `on_rest` hear when one starts and ends to run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.on_run: Callable[[Vm], Awaitable[None]] = self._nothing
        self.on_rest: Callable[[Vm], Awaitable[None]] = self._nothing

    # --- what a caller asks for

    def insert(self, zone: str, body: dict[str, Any], request_id: str) -> Operation:
        """Order a machine. Raises Refusal; what shows later is in the operation."""
        world = self.world
        world.region_of(zone)
        vm = make(world, zone, body)
        if (zone, vm.name) in world.vms:
            raise taken(f"{world.setting.project}/zones/{zone}/instances/{vm.name}")
        if (zone, vm.name) in world.disks:
            raise taken(f"{world.setting.project}/zones/{zone}/disks/{vm.name}")
        world.vms[zone, vm.name] = vm
        world.disks[zone, vm.name] = disk_of(world, vm, body["disks"][0]["initializeParams"])
        lack = world.lacks(vm)
        if lack is not None and world.faults.quota_at_once:
            self._forget(vm)
            raise Refusal(403, "quotaExceeded", lack.message)
        operation = world.begin("insert", vm, request_id)

        async def provision() -> None:
            await self._provision(vm, operation, lack)

        world.timeline.after(world.setting.provisioning_s, provision)
        return operation

    def start(self, vm: Vm, request_id: str) -> Operation:
        """Start what is TERMINATED or SUSPENDED; a stock-out may meet it as it may an insert."""
        vm.move(Status.PROVISIONING)
        vm.preempted, vm.maintenance = False, "NONE"
        operation = self.world.begin("start", vm, request_id)
        lack = self.world.lacks(vm)

        async def provision() -> None:
            failure = lack or self._shortage(vm)
            if vm.status is not Status.PROVISIONING:
                self.world.finish(operation, _cut_short(vm))
            elif failure is not None:
                vm.move(Status.TERMINATED)
                self.world.finish(operation, failure)
            else:
                self._stage(vm, operation)

        self.world.timeline.after(self.world.setting.provisioning_s, provision)
        return operation

    def stop(self, vm: Vm, request_id: str, to: Status = Status.TERMINATED) -> Operation:
        """Stop or suspend; makes no preempted operation and leaves the metadata as it is."""
        self._refuse_on_the_way(vm)
        suspends = to is Status.SUSPENDED
        operation = self.world.begin("suspend" if suspends else "stop", vm, request_id)
        if vm.status is to:
            self.world.finish(operation)
            return operation
        vm.move(Status.SUSPENDING if suspends else Status.STOPPING)

        async def rest() -> None:
            vm.move(to)
            self.world.finish(operation)

        self._rest_then(vm, self.world.setting.stopping_s, rest)
        return operation

    def reset(self, vm: Vm, request_id: str) -> Operation:
        """Start its processes anew; disk and address stay."""
        if vm.status is not Status.RUNNING:
            raise not_ready(f"{self.world.setting.project}/zones/{vm.zone}/instances/{vm.name}")
        operation = self.world.begin("reset", vm, request_id)

        async def again() -> None:
            await self.world.ground.stop(vm.name, 0.0)
            await self.on_run(vm)
            self.world.finish(operation)

        self.world.timeline.after(self.world.setting.quick_s, again)
        return operation

    def delete(self, vm: Vm, request_id: str) -> Operation:
        """Delete; the name stays taken until it is over. Raises Refusal while it is on its way or protected."""
        world = self.world
        self._refuse_on_the_way(vm)
        if vm.resource["deletionProtection"]:
            raise invalid("Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion.'")
        operation = world.begin("delete", vm, request_id)
        if world.faults.met("delete_fails", f"DELETE zones/{vm.zone}/instances/{vm.name}", world.rng):

            async def fail() -> None:
                world.finish(operation, Failure("INTERNAL_ERROR", "Internal error.", 500, "INTERNAL SERVER ERROR"))

            world.timeline.after(world.setting.quick_s, fail)
            return operation
        vm.deleting = True
        if vm.status is not Status.STOPPING:
            vm.move(Status.STOPPING)

        async def remove() -> None:
            await self._remove(vm)
            world.finish(operation)

        self._rest_then(vm, world.setting.deleting_s + world.faults.late_delete_s, remove)
        return operation

    def maintain(self, vm: Vm, request_id: str) -> Operation:
        """simulateMaintenanceEvent: a spot machine is really preempted by it."""
        self._refuse_on_the_way(vm)
        operation = self.world.begin("simulateMaintenanceEvent", vm, request_id)
        if vm.spot and vm.status is Status.RUNNING:
            self.preempt(vm)

        async def done() -> None:
            self.world.finish(operation)

        self.world.timeline.after(self.world.setting.quick_s, done)
        return operation

    def reschedule(self, vm: Vm, scheduling: dict[str, Any], request_id: str) -> Operation:
        """setScheduling."""
        self._refuse_on_the_way(vm)
        vm.resource["scheduling"] = check_scheduling({**vm.resource["scheduling"], **scheduling})
        return self._quickly("setScheduling", vm, request_id)

    def _quickly(self, kind: str, vm: Vm, request_id: str) -> Operation:
        operation = self.world.begin(kind, vm, request_id)

        async def done() -> None:
            self.world.finish(operation)

        self.world.timeline.after(self.world.setting.quick_s, done)
        return operation

    def relabel(self, vm: Vm, changes: dict[str, Any], request_id: str) -> Operation:
        """setLabels and setMetadata: `changes` are fields of the resource, already checked."""
        self._refuse_on_the_way(vm)
        vm.resource.update(changes)
        vm.tell_metadata()
        return self._quickly("setLabels" if "labels" in changes else "setMetadata", vm, request_id)

    # --- what the cloud does by itself

    def preempt(self, vm: Vm, action: str = "") -> None:
        """Take a spot machine back: the metadata says so, a notice passes if there is one, then its processes end."""
        if vm.status not in AWAKE:
            raise not_ready(f"{self.world.setting.project}/zones/{vm.zone}/instances/{vm.name}")
        vm.preempted, vm.maintenance = True, "TERMINATE_ON_HOST_MAINTENANCE"
        vm.tell_metadata()
        life = vm.life
        notice = vm.resource["scheduling"].get("preemptionNoticeDuration", {})

        async def soft_off() -> None:
            if vm.life == life:
                self.world.tell(PREEMPTED, vm, "Instance was preempted.")
                self._end_by(vm, action or vm.termination_action)

        self.world.timeline.after(float(notice.get("seconds", 0)), soft_off)

    def crash(self, vm: Vm) -> None:
        """The host fails: no notice, no soft-off, and no preempted operation."""
        self.world.tell(HOST_ERROR, vm, "Instance terminated by Compute Engine.")
        vm.move(Status.STOPPING)

        async def rest() -> None:
            vm.move(Status.TERMINATED)

        self._rest_then(vm, 0.0, rest, grace_s=0.0)

    def power_off(self, vm: Vm) -> None:
        """The guest turns itself off: it rests TERMINATED, whatever its termination action; its disk stays (inferred).

        Harmless when it is on its way to rest already.
        """
        if vm.status is Status.RUNNING:
            self.world.tell(GUEST_TERMINATE, vm, "Instance terminated by guest OS shutdown.")
            self._end_by(vm, "STOP")

    def _end_by(self, vm: Vm, action: str) -> None:
        """End as preemption and run limits do: STOP keeps the disk, DELETE removes everything."""
        vm.move(Status.STOPPING)

        async def rest() -> None:
            if action == "DELETE":
                await self._remove(vm)
            else:
                vm.move(Status.TERMINATED)

        self._rest_then(vm, self.world.setting.stopping_s, rest)

    async def _provision(self, vm: Vm, operation: Operation, lack: Failure | None) -> None:
        faults = self.world.faults
        if vm.status is not Status.PROVISIONING:  # deleted or taken back meanwhile
            self.world.finish(operation, _cut_short(vm))
            return
        failure = lack or self._shortage(vm)
        if failure is not None:
            self.world.finish(operation, failure)
            if faults.leaves_machine:
                vm.move(Status.TERMINATED)
            else:
                self._forget(vm, keeps_disk=faults.leaves_disks)
        elif faults.met("preempt_on_create", f"POST zones/{vm.zone}/instances/{vm.name}", self.world.rng):
            self.preempt(vm, faults.preempt_on_create_action)
            self.world.finish(operation, taken_back_early())
        else:
            self._stage(vm, operation)

    def _shortage(self, vm: Vm) -> Failure | None:
        return stock_out(vm.zone, vm.kind) if self.world.faults.is_out(vm.zone, vm.kind) else None

    def _stage(self, vm: Vm, operation: Operation) -> None:
        vm.move(Status.STAGING)
        life = vm.life

        async def run() -> None:
            if vm.life == life:
                await self._run(vm)
            self.world.finish(operation, None if vm.status is Status.RUNNING else _cut_short(vm))

        self.world.timeline.after(self.world.setting.staging_s, run)

    async def _run(self, vm: Vm) -> None:
        """Its processes start, it gets its address, and its clocks begin to tick."""
        timeline = self.world.timeline
        vm.move(Status.RUNNING)
        vm.resource["lastStartTimestamp"] = self.world.stamp()
        vm.runs.append(Run(timeline.now))
        if has_address(vm):  # known to the metadata server before the machine's first process asks for it
            vm.resource["networkInterfaces"][0]["accessConfigs"][0]["natIP"] = self.world.new_address(vm.name)
        await self.on_run(vm)
        life, scheduling = vm.life, vm.resource["scheduling"]
        if limit := scheduling.get("maxRunDuration"):

            async def expire() -> None:
                if vm.life == life:
                    self._end_by(vm, vm.termination_action)

            timeline.after(float(limit["seconds"]), expire)
        if vm.spot and (hazard := self.world.setting.hazard_per_hour):

            async def strike() -> None:
                if vm.life == life:
                    self.preempt(vm)

            timeline.after(self.world.rng.expovariate(hazard / 3600), strike)

    def _rest_then(
        self, vm: Vm, seconds: float, then: Callable[[], Awaitable[None]], grace_s: float | None = None
    ) -> None:
        """End its processes, softly first, and do `then` once both they are gone and `seconds` are over."""
        world = self.world
        due = world.timeline.now + seconds
        grace = world.setting.soft_off_s if grace_s is None else grace_s
        if vm.runs and vm.runs[-1].until is None:
            vm.runs[-1].until, vm.runs[-1].preempted = due, vm.preempted
        vm.resource["lastStopTimestamp"] = world.stamp()

        async def rest() -> None:
            clock, left_s = asyncio.get_running_loop().time, grace / world.setting.ground_speed
            until = clock() + left_s
            if left_s and (script := vm.attribute("shutdown-script")):
                await world.ground.tell(vm.name, script, left_s)
            await world.ground.stop(vm.name, max(until - clock(), 0.0))
            await self.on_rest(vm)
            _without_address(vm)
            world.timeline.after(due - world.timeline.now, then)

        task = asyncio.create_task(rest())
        world.tasks.add(task)
        task.add_done_callback(world.tasks.discard)

    async def _remove(self, vm: Vm) -> None:
        await self.world.ground.end(vm.name)
        self._forget(vm, keeps_disk=self.world.faults.leaves_disks or not vm.resource["disks"][0]["autoDelete"])

    def _forget(self, vm: Vm, keeps_disk: bool = False) -> None:
        world = self.world
        vm.gone_at = world.timeline.now
        world.gone.append(vm)
        world.vms.pop((vm.zone, vm.name), None)
        if keeps_disk:
            world.disks[vm.zone, vm.name].pop("users", None)
        else:
            world.disks.pop((vm.zone, vm.name), None)
        if world.faults.leaves_addresses:
            region = world.region_of(vm.zone)
            path = f"regions/{region}/addresses/{vm.name}"
            world.addresses[region, vm.name] = {
                "kind": "compute#address",
                "id": world.number(),
                "name": vm.name,
                "address": "203.0.113.254",
                "status": "RESERVED",
                "region": world.link(f"regions/{region}"),
                "selfLink": world.link(path),
            }

    def _refuse_on_the_way(self, vm: Vm) -> None:
        if vm.status in ON_THE_WAY:
            raise not_ready(f"{self.world.setting.project}/zones/{vm.zone}/instances/{vm.name}")

    async def _nothing(self, vm: Vm) -> None:
        return None


def _cut_short(vm: Vm) -> Failure:
    """Why a machine did not come to run that nobody refused."""
    if vm.preempted:
        return taken_back_early()
    return Failure("RESOURCE_NOT_READY", f"The resource '{vm.name}' is not ready", 400, "BAD REQUEST")


def _without_address(vm: Vm) -> None:
    for access in vm.resource["networkInterfaces"][0].get("accessConfigs", []):
        access.pop("natIP", None)
