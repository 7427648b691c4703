"""Ending a machine: delete it, wait until Google denies that it exists, and leave no disk and no address behind."""

import itertools

from google.cloud import compute_v1

from dumont.clock import Clock
from dumont.errors import ProviderError
from dumont.provider.gce.account import Account, Ref, region_of
from dumont.provider.gce.calls import Calls
from dumont.provider.gce.machines import Machines
from dumont.provider.gce.operations import Operations
from dumont.provider.gce.reading import is_ours
from dumont.provider.gce.verdict import Absent, NotReady, failure_of

FAILED_MAX = 4


class Ending:
    """Deletes what this installation rented, and nothing else."""

    def __init__(self, account: Account, calls: Calls, machines: Machines, clock: Clock) -> None:
        self._account = account
        self._calls = calls
        self._machines = machines
        self._operations = Operations(account, calls, clock)
        self._clock = clock

    async def end(self, ref: Ref) -> None:
        """Return once machine, disk and address are confirmed to be gone; harmless when they are.

        A machine that is on its way (stopping, being deleted) can't be deleted now: it is waited for. Raises
        ProviderError when it is another installation's, or not gone within `delete_s_max`.
        """
        until = self._clock.monotonic() + self._account.delete_s_max
        why, failed = "it is still there", 0
        for attempt in itertools.count(1):
            vm = await self._machines.get(ref.zone, ref.name)
            if vm is None or vm.id != ref.id:
                break
            if not is_ours(self._account, vm):
                raise ProviderError(f"{ref.name} in {ref.zone} is another installation's. It was left alone.")
            if self._clock.monotonic() >= until:
                raise ProviderError(f"{ref.name} in {ref.zone} can't be deleted: {why}. Try again.")
            try:
                await self._delete(ref, attempt, until)
            except NotReady as error:
                why = str(error)
            except ProviderError as error:
                failed += 1
                if failed >= FAILED_MAX:
                    raise
                why = str(error)
            await self._clock.sleep(self._account.poll_s)
        await self.clear(ref)

    async def clear(self, ref: Ref) -> None:
        """Delete the disk and the addresses under this machine's name, if any was left. The machine must be gone."""
        disk = await self._machines.disk(ref.zone, ref.name)
        if disk is not None and not disk.users:
            await self._delete_disk(ref, disk)
        for address in await self._machines.addresses(ref):
            if not address.users:
                await self._delete_address(ref, address)

    async def _delete(self, ref: Ref, attempt: int, until: float) -> None:
        """One attempt. The requestId grows with the attempts, as Google would answer with the failed one again."""
        account = self._account
        request = compute_v1.DeleteInstanceRequest(
            project=account.project,
            zone=ref.zone,
            instance=ref.name,
            request_id=account.request_id("delete", str(ref), attempt),
        )
        try:
            operation = await self._calls.ask(
                f"Deleting {ref.name}", lambda c, s: c.instances.delete_unary(request=request, retry=None, timeout=s)
            )
        except Absent:
            return
        seconds = max(self._account.poll_s, until - self._clock.monotonic())
        done = await self._operations.finish(ref.zone, operation, seconds)
        if done is not None and (failure := failure_of(done)):
            raise ProviderError(f"Google could not delete {ref.name}: {failure.words} ({failure.code})")

    async def _delete_disk(self, ref: Ref, disk: compute_v1.Disk) -> None:
        account = self._account
        request = compute_v1.DeleteDiskRequest(
            project=account.project,
            zone=ref.zone,
            disk=ref.name,
            request_id=account.request_id("delete disk", ref.zone, disk.id),
        )
        try:
            operation = await self._calls.ask(
                f"Deleting the disk {ref.name}",
                lambda c, s: c.disks.delete_unary(request=request, retry=None, timeout=s),
            )
            await self._operations.finish(ref.zone, operation, account.delete_s_max)
        except Absent:
            return
        left = await self._machines.disk(ref.zone, ref.name)
        if left is not None and left.id == disk.id:
            raise ProviderError(f"The disk {ref.name} in {ref.zone} could not be deleted, and costs. Try again.")

    async def _delete_address(self, ref: Ref, address: compute_v1.Address) -> None:
        request = compute_v1.DeleteAddressRequest(
            project=self._account.project,
            region=region_of(ref.zone),
            address=address.name,
            request_id=self._account.request_id("delete address", address.id),
        )
        try:
            await self._calls.ask(
                f"Deleting the address {address.name}",
                lambda c, s: c.addresses.delete_unary(request=request, retry=None, timeout=s),
            )
        except Absent:
            return
        until = self._clock.monotonic() + self._account.delete_s_max
        while any(left.id == address.id for left in await self._machines.addresses(ref)):
            if self._clock.monotonic() >= until:
                raise ProviderError(f"The address {address.name} could not be deleted, and costs. Try again.")
            await self._clock.sleep(self._account.poll_s)
