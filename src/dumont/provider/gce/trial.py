"""A trial of the live Google: it rents the cheapest spot machine for some minutes, looks closely, and ends it.

Each step confirms or refutes one assumption that our contract of the service could not prove.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from google.cloud import compute_v1

from dumont.errors import NoCapacity, ProviderError
from dumont.model.instance import Machine
from dumont.model.offer import Need, Offer
from dumont.provider.base import Boot, Machinery, Phase, Why
from dumont.provider.check import Outcome, Step
from dumont.provider.gce.account import Ref
from dumont.provider.gce.driver import Driver
from dumont.provider.gce.history import capacity_history
from dumont.provider.gce.order import order, resource
from dumont.provider.gce.reading import ref_of
from dumont.provider.gce.verdict import Taken

RUN_S_MAX = 3600
PATIENCE_S = 600.0
POLL_S = 5.0
MARK = "dumont-trial-alive"


class Refuted(Exception):
    """The service answered, and otherwise than our contract assumes."""


def trial_script(boot: Boot, offer: Offer) -> str:
    """What the rented machine runs: its output shows on the serial console."""
    return f"#!/bin/bash\necho {MARK}\n"


@dataclass
class Trial:
    """One run. `driver` has an installation's name of its own, all of whose machines are leftovers of trials."""

    driver: Driver
    offer: Offer | None = None
    machine: Machinery | None = None
    label: str = field(init=False)

    def __post_init__(self) -> None:
        self.label = f"trial-{int(self.driver.clock.now().timestamp())}"

    async def run(self) -> list[Step]:
        """All steps; those after a failed one are skipped. The last, which cleans up, never is."""
        steps: list[Step] = []
        story: list[tuple[str, str, Callable[[], Awaitable[str]]]] = [
            ("prices", "capacityHistory covers this type, and our price table is not older than it", self._prices),
            ("rent", "a spot machine is made, and its operation ends with the machine running", self._rent),
            (
                "same request",
                "the same requestId is answered with the same operation, not a second machine",
                self._again,
            ),
            ("taken name", "another request for the same name is refused with 409 alreadyExists", self._taken),
            ("listed", "the label filter of aggregatedList finds the machine within seconds", self._listed),
            ("script", "the startup script runs, and shows on the serial console", self._script),
            (
                "taken back",
                "simulateMaintenanceEvent preempts; an operation tells by targetId; it stays",
                self._preempt,
            ),
        ]
        try:
            for name, assumption, act in story:
                if any(step.outcome is Outcome.FAILED for step in steps):
                    steps.append(Step(name=name, assumption=assumption, outcome=Outcome.SKIPPED))
                else:
                    steps.append(await _tried(name, assumption, act))
        finally:
            left = await _tried(
                "clean up", "deleting leaves no machine, disk or address of ours behind", self._clean_up
            )
            steps.append(left)
        return steps

    async def _prices(self) -> str:
        offers = await self.driver.offers(Need(machine=Machine.CPU, disk_gb=10))
        if not offers:
            raise NoCapacity("No type has a price, a place and a quota. See `dumont provider check gce`.")
        self.offer = offers[0]
        account, calls = self.driver.account, self.driver.tools.calls
        try:
            told = await capacity_history(account, calls, self.offer.zone, self.offer.name)
        except ProviderError as error:
            raise Refuted(f"Google does not tell: {error}") from error
        if not told.prices:
            raise Refuted(f"Google tells no price of {self.offer.name} in {self.offer.zone}.")
        newest, ours = told.prices[-1].price_micros_per_hour, self.offer.compute_micros_per_hour
        if newest != ours:
            raise Refuted(f"Google asks {newest} millionths of a dollar an hour, our table says {ours}.")
        return f"{newest} millionths of a dollar an hour; preemption rates {told.rates}"

    async def _rent(self) -> str:
        offer = self._offer()
        began = self.driver.clock.monotonic()
        self.machine = await self.driver.rent(offer, self.label, self._boot())
        if self.machine.phase is not Phase.RUNNING:
            raise Refuted(f"It is {self.machine.facts.get('status')} after its operation ended.")
        if not self.machine.host:
            raise Refuted("It runs and has no external address.")
        return f"{self.machine.ref} ran after {self.driver.clock.monotonic() - began:.0f} s at {self.machine.host}"

    async def _again(self) -> str:
        first, second = [await self._relabel() for _ in range(2)]
        if first != second:
            raise Refuted(f"Two operations: {first} and {second}.")
        return first

    async def _relabel(self) -> str:
        """A setLabels with the labels that it has: a change that repeats harmlessly. The operation's name."""
        ref, account = self._ref(), self.driver.account
        vm = await self.driver.tools.machines.get(ref.zone, ref.name)
        if vm is None:
            raise ProviderError(f"{ref.name} is gone already.")
        request = compute_v1.SetLabelsInstanceRequest(
            project=account.project,
            zone=ref.zone,
            instance=ref.name,
            instances_set_labels_request_resource=compute_v1.InstancesSetLabelsRequest(
                labels=dict(vm.labels), label_fingerprint=vm.label_fingerprint
            ),
            request_id=account.request_id("trial", str(ref)),
        )
        operation = await self.driver.tools.calls.ask(
            "Setting labels", lambda c, s: c.instances.set_labels_unary(request=request, retry=None, timeout=s)
        )
        return operation.name

    async def _taken(self) -> str:
        ref, account = self._ref(), self.driver.account
        what = order(account, self._offer(), self.label, "#!/bin/bash\ntrue\n")
        request = compute_v1.InsertInstanceRequest(
            project=account.project,
            zone=ref.zone,
            instance_resource=resource(account, ref.zone, what),
            request_id=account.request_id("trial taken", str(ref)),
        )
        try:
            await self.driver.tools.calls.ask(
                "Making it again", lambda c, s: c.instances.insert_unary(request=request, retry=None, timeout=s)
            )
        except Taken as error:
            return str(error)
        raise Refuted("A second insert of the same name was accepted.")

    async def _listed(self) -> str:
        began = self.driver.clock.monotonic()
        await self._until(self._is_listed, "it is listed")
        return f"after {self.driver.clock.monotonic() - began:.0f} s"

    async def _is_listed(self) -> bool:
        return self.label in [machine.label for machine in await self.driver.machines()]

    async def _script(self) -> str:
        await self._until(self._has_spoken, "the script's output is on the serial console")
        return MARK

    async def _has_spoken(self) -> bool:
        ref = self._ref()
        output = await self.driver.tools.calls.ask(
            "Reading the serial console",
            lambda c, s: c.instances.get_serial_port_output(
                project=self.driver.account.project, zone=ref.zone, instance=ref.name, retry=None, timeout=s
            ),
        )
        return MARK in output.contents

    async def _preempt(self) -> str:
        ref = self._ref()
        began = self.driver.clock.monotonic()
        await self.driver.kill(str(ref))
        await self._until(self._is_stopped, "it is TERMINATED")
        machine = await self.driver.machine(str(ref))
        if machine.why is not Why.PREEMPTED:
            raise Refuted(f"No operation {machine.why!r} tells of the preemption.")
        return f"TERMINATED after {self.driver.clock.monotonic() - began:.0f} s, told by the operations"

    async def _is_stopped(self) -> bool:
        return (await self.driver.machine(str(self._ref()))).phase is Phase.STOPPED

    async def _clean_up(self) -> str:
        """Everything of the trials' installation, those of earlier ones included, and disks without a machine."""
        machines = await self.driver.machines()
        for machine in machines:
            await self.driver.release(machine.ref)
        disks = 0
        for zone in self.driver.account.zones:
            late = await self.driver.tools.machines.get(zone, self.driver.account.name(self.label))
            if late is not None:  # a list may lag behind
                await self.driver.tools.ending.end(ref_of(late))
            for disk in await self.driver.tools.machines.our_disks(zone):
                await self.driver.tools.ending.clear(Ref(zone, disk.name, 0))
                disks += 1
        if await self.driver.machines():
            raise ProviderError("Something is still there. Run the probe again, or look at the console.")
        return f"{len(machines)} machines and {disks} lone disks ended"

    async def _until(self, true: Callable[[], Awaitable[bool]], what: str) -> None:
        clock = self.driver.clock
        until = clock.monotonic() + PATIENCE_S
        while not await true():
            if clock.monotonic() >= until:
                raise Refuted(f"After {PATIENCE_S:.0f} s it is not so that {what}.")
            await clock.sleep(POLL_S)

    def _offer(self) -> Offer:
        if self.offer is None:
            raise ProviderError("There is no offer to try.")
        return self.offer

    def _ref(self) -> Ref:
        ref = Ref.parse(self.machine.ref) if self.machine else None
        if ref is None:
            raise ProviderError("No machine was rented.")
        return ref

    def _boot(self) -> Boot:
        return Boot(
            instance_id=self.label,
            server_host=self.driver.server_host,
            server_port=0,
            ca_pem="",
            join_token="",  # it joins nothing
        )


async def _tried(name: str, assumption: str, act: Callable[[], Awaitable[str]]) -> Step:
    try:
        detail = await act()
    except Refuted as error:
        return Step(name=name, assumption=assumption, outcome=Outcome.REFUTED, detail=str(error))
    except ProviderError as error:
        return Step(name=name, assumption=assumption, outcome=Outcome.FAILED, detail=str(error))
    return Step(name=name, assumption=assumption, outcome=Outcome.CONFIRMED, detail=detail)
