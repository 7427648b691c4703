"""The driver proper: rents CPU machines of Compute Engine, spot or on demand, under our labels and only once each."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Self
from weakref import WeakValueDictionary

from google.cloud import compute_v1

from dumont.clock import Clock
from dumont.errors import NoCapacity, NoSuchInstance, ProviderError
from dumont.provider.base import Boot, Machinery, Need, Offer, Phase, Why
from dumont.provider.gce.account import Account, Ref, region_of
from dumont.provider.gce.calls import Calls
from dumont.provider.gce.ending import Ending
from dumont.provider.gce.machines import Machines
from dumont.provider.gce.operations import DONE, Operations, Unfinished, when
from dumont.provider.gce.order import Order, order, resource
from dumont.provider.gce.prices import PROVIDER, SIZES, Prices
from dumont.provider.gce.reading import is_ours, label_of, machinery, ref_of
from dumont.provider.gce.verdict import Failure, NotReady, Taken, Trouble, failure_of

ATTEMPTS_MAX = 6
SHORT_S = 300.0
"""For how long a stock-out keeps a type of a zone off our offers: asking on and on brings nothing (contract §4)."""
QUOTAS_S = 10.0

Script = Callable[[Boot, Offer], str]


@dataclass(frozen=True)
class Tools:
    """What the parts of the driver share."""

    calls: Calls
    operations: Operations
    machines: Machines
    ending: Ending

    @classmethod
    def of(cls, account: Account, clock: Clock, rng: Random) -> Self:
        """New ones for an account."""
        calls = Calls(account, clock, rng)
        operations = Operations(account, calls, clock)
        machines = Machines(account, calls, operations)
        return cls(calls, operations, machines, Ending(account, calls, machines, clock))


class Driver:
    """Rents Google's machines. `script_for` makes the startup script of a machine, which runs as root at every boot."""

    name = PROVIDER

    def __init__(
        self, account: Account, script_for: Script, clock: Clock, rng: Random, prices: Prices | None = None
    ) -> None:
        self.account = account
        self.server_host = account.server_host
        self.prices = prices or Prices.shipped()
        self.tools = Tools.of(account, clock, rng)
        self._script_for = script_for
        self.clock = clock
        self._renting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._short: dict[tuple[str, str], float] = {}
        self._quotas: dict[str, tuple[float, dict[str, float]]] = {}

    async def offers(self, need: Need) -> list[Offer]:
        """What can be had by our prices, without what was out of stock just now or exceeds a quota."""
        listed = self.prices.offers(self.account, need, self.clock.now())
        now = self.clock.monotonic()
        in_stock = [o for o in listed if now >= self._short.get((o.zone, o.name), now)]
        left = {region: await self._left(region) for region in sorted({offer.region for offer in in_stock})}
        return [offer for offer in in_stock if _within(left[offer.region], offer)]

    async def rent(self, offer: Offer, label: str, boot: Boot) -> Machinery:
        """The machine under this label, made if there was none, in the offer's zone or else in others of its region."""
        lock = self._renting.setdefault(label, asyncio.Lock())
        async with lock:
            found = await self.tools.machines.ours(label)
            if found:
                return await self._shown(_first(found))
            what = order(self.account, offer, label, self._script_for(boot, offer))
            refusals = []
            for zone in self.account.near(offer.zone):
                made = await self._make(zone, what)
                if not isinstance(made, Failure):
                    return await self._shown(await self._only(made, what))
                refusals.append(f"{zone}: {made.words}")
                if made.trouble is Trouble.QUOTA:
                    break  # it is the region's
            raise NoCapacity(" ".join(refusals) + " Another region or a larger quota may help.")

    async def machines(self) -> list[Machinery]:
        """Everything of this installation, the stopped ones included, which still pay for their disks."""
        return [await self._shown(vm) for vm in await self.tools.machines.ours()]

    async def machine(self, ref: str) -> Machinery:
        """One machine. One that Google took back and removed is GONE with PREEMPTED, as long as Google remembers.

        Raises NoSuchInstance once Google confirmed that there is none.
        """
        parsed = Ref.parse(ref)
        if parsed is None:
            raise NoSuchInstance(f"There is no machine {ref!r} with Google.")
        vm = await self.tools.machines.get(parsed.zone, parsed.name)
        if vm is not None and vm.id == parsed.id and is_ours(self.account, vm):
            return await self._shown(vm)
        if not await self.tools.machines.was_deleted(parsed.zone, parsed.id):
            why = await self.tools.machines.why_ended(parsed.zone, parsed.id)
            if why is Why.PREEMPTED:
                return Machinery(ref=ref, label="", phase=Phase.GONE, why=why, price_micros_per_hour=0)
        raise NoSuchInstance(f"Google has no machine {parsed.name} in {parsed.zone} with the id {parsed.id}.")

    async def release(self, ref: str) -> None:
        """Return once machine, disk and address are gone; harmless when they are, or never were."""
        parsed = Ref.parse(ref)
        if parsed is None:
            return
        await self.tools.ending.end(parsed)
        self._quotas.pop(region_of(parsed.zone), None)

    async def kill(self, ref: str) -> None:
        """Have Google take a spot machine back for real, for drills; harmless when it is on its way out already.

        Raises NoSuchInstance.
        """
        machine = await self.machine(ref)
        parsed = Ref.parse(machine.ref)
        assert parsed is not None
        request = compute_v1.SimulateMaintenanceEventInstanceRequest(
            project=self.account.project,
            zone=parsed.zone,
            instance=parsed.name,
            request_id=self.account.request_id("preempt", machine.ref, self.clock.now().isoformat()),
        )
        with contextlib.suppress(NotReady):
            await self.tools.calls.ask(
                f"Preempting {parsed.name}",
                lambda c, s: c.instances.simulate_maintenance_event_unary(request=request, retry=None, timeout=s),
            )

    def close(self) -> None:
        """Let the threads go."""
        self.tools.calls.close()

    # --- making one

    async def _make(self, zone: str, what: Order) -> compute_v1.Instance | Failure:
        """A machine in this zone, whatever its state, or why there is none; then nothing of it is left behind.

        Raises ProviderError when that is not known.
        """
        operation = await self._insert(zone, what)
        if isinstance(operation, compute_v1.Instance):
            return operation
        target_id = operation.target_id
        self._quotas.pop(region_of(zone), None)
        over, done = True, None
        try:
            done = await self.tools.operations.finish(zone, operation, self.account.insert_s_max)
        except Unfinished:
            over = False
        failure = failure_of(done) if done is not None else None
        vm = await self.tools.machines.get(zone, what.name)
        if failure is None:
            return (
                vm if vm is not None else await self._vanished(zone, what, target_id, forgotten=over and done is None)
            )
        return await self._failed(zone, what, failure, vm if vm is not None and vm.id == target_id else None)

    async def _insert(self, zone: str, what: Order) -> compute_v1.Operation | compute_v1.Instance:
        """The operation that makes it, or the machine that bears its name already.

        The requestId is the same for the same order, so a repeated one makes no second machine. But Google answers it
        with the old operation also when that one failed: then the next number is taken.
        """
        body = resource(self.account, zone, what)
        digest = compute_v1.Instance.to_json(body, sort_keys=True)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            request = compute_v1.InsertInstanceRequest(
                project=self.account.project,
                zone=zone,
                instance_resource=body,
                request_id=self.account.request_id("insert", zone, what.label, digest, attempt),
            )
            try:
                operation = await self._send(zone, request)
            except Taken as error:
                return await self._bearer(zone, what, error)
            if not _failed_before(operation):
                return operation
        raise ProviderError(f"Google answered {ATTEMPTS_MAX} times with a failure of the past for {what.name}.")

    async def _send(self, zone: str, request: compute_v1.InsertInstanceRequest) -> compute_v1.Operation:
        return await self.tools.calls.ask(
            f"Making {request.instance_resource.name} in {zone}",
            lambda c, s: c.instances.insert_unary(request=request, retry=None, timeout=s),
        )

    async def _bearer(self, zone: str, what: Order, error: Taken) -> compute_v1.Instance:
        """Who has the name: a machine of ours under that label. A disk that has it is removed, for the next time."""
        vm = await self.tools.machines.get(zone, what.name)
        if vm is None:
            await self.tools.ending.clear(Ref(zone, what.name, 0))
            raise ProviderError(f"{error} What bore that name was on its way out. Try again.") from error
        if not is_ours(self.account, vm) or label_of(vm) != what.label:
            raise ProviderError(f"{what.name} in {zone} is another one's machine. Name the installation differently.")
        return vm

    async def _vanished(self, zone: str, what: Order, target_id: int, forgotten: bool) -> Failure:
        """It is not there, and no failure is known. When Google forgot the operation, that is over: nothing can come
        of it any more. Raises ProviderError when something may, and nothing tells why it did not.
        """
        why = await self.tools.machines.why_ended(zone, target_id)
        if why is Why.UNTOLD and not forgotten:
            raise ProviderError(f"It is not known what became of {what.name} in {zone}. Look at the machines again.")
        await self.tools.ending.clear(Ref(zone, what.name, target_id))
        words = "it is not there, and Google has forgotten why" if forgotten else "it was taken back while it was made"
        return Failure(Trouble.TAKEN_BACK, why.value, f"{words}.")

    async def _failed(
        self, zone: str, what: Order, failure: Failure, vm: compute_v1.Instance | None
    ) -> compute_v1.Instance | Failure:
        """What is to be done about an insert that failed: see that it left nothing, and say what kind it is."""
        if failure.trouble is Trouble.TAKEN_BACK and vm is not None:
            return vm  # dead or dying, but it has the label
        if failure.trouble is Trouble.STOCK:
            self._short[zone, what.type] = self.clock.monotonic() + SHORT_S
        if vm is not None:
            await self.tools.ending.end(ref_of(vm))
        else:
            await self.tools.ending.clear(Ref(zone, what.name, 0))
        if failure.trouble is Trouble.OTHER:
            raise ProviderError(f"Google could not make {what.name} in {zone}: {failure.words} ({failure.code})")
        return failure

    async def _only(self, made: compute_v1.Instance, what: Order) -> compute_v1.Instance:
        """The one machine under its label: another process may have made one in another zone meanwhile.

        Both look after they made theirs, so at least one sees both; the elder is kept, and the younger one ended.
        """
        own = ref_of(made)
        zones = [zone for zone in self.account.zones if zone != own.zone]
        others = await asyncio.gather(*(self.tools.machines.get(zone, what.name) for zone in zones))
        found = [made, *(vm for vm in others if vm and is_ours(self.account, vm) and label_of(vm) == what.label)]
        kept = _first(found)
        for vm in found:
            if vm is not kept:
                await self.tools.ending.end(ref_of(vm))
        return kept

    # --- reading

    async def _shown(self, vm: compute_v1.Instance) -> Machinery:
        return machinery(self.account, vm, await self.tools.machines.why(vm), self.prices)

    async def _left(self, region: str) -> dict[str, float]:
        """How much of each quota is left in a region, asked at most every ten seconds."""
        now = self.clock.monotonic()
        asked_at, left = self._quotas.get(region, (0.0, {}))
        if not left or now - asked_at >= QUOTAS_S:
            project = self.account.project
            told = await self.tools.calls.ask(
                f"Reading quotas of {region}",
                lambda c, s: c.regions.get(project=project, region=region, retry=None, timeout=s),
            )
            left = {quota.metric: quota.limit - quota.usage for quota in told.quotas}
            self._quotas[region] = (now, left)
        return left


def _within(left: dict[str, float], offer: Offer) -> bool:
    """Whether an offer fits into what is left of a region's quotas; a quota that is not told bounds nothing.

    Spot machines count against PREEMPTIBLE_CPUS where that quota was granted, also when 0 was, else against CPUS.
    """
    cpus = left.get("PREEMPTIBLE_CPUS", left.get("CPUS")) if offer.spot else left.get("CPUS")
    needed = {"INSTANCES": 1.0, "IN_USE_ADDRESSES": 1.0}
    fits = all(left.get(metric, amount) >= amount for metric, amount in needed.items())
    return fits and (cpus is None or cpus >= SIZES[offer.name].vcpus)


def _failed_before(operation: compute_v1.Operation) -> bool:
    """Whether the very first answer is an operation that failed: it is one of the past."""
    return operation.status == DONE and failure_of(operation) is not None


def _first(found: list[compute_v1.Instance]) -> compute_v1.Instance:
    """The eldest; everybody who looks picks the same one."""
    return min(found, key=lambda vm: (str(when(vm.creation_timestamp)), vm.id))
