"""Machines as Google lists them: found by name or by our marks, and why one that does not run ended."""

from typing import Any

from google.cloud import compute_v1

from dumont.errors import ProviderError
from dumont.provider.base import Why
from dumont.provider.gce.account import INSTALLATION_KEY, LABEL_KEY, Account, Ref, region_of, safe_value
from dumont.provider.gce.calls import Calls
from dumont.provider.gce.operations import PREEMPTED, Operations
from dumont.provider.gce.reading import is_ending, is_ours, label_of, ran_out, ref_of
from dumont.provider.gce.verdict import Absent

HARMLESS = "NO_RESULTS_ON_PAGE"


class Machines:
    """Reads machines, disks and addresses; changes nothing."""

    def __init__(self, account: Account, calls: Calls, operations: Operations) -> None:
        self._account = account
        self._calls = calls
        self._operations = operations
        self._whys: dict[int, Why] = {}

    async def get(self, zone: str, name: str) -> compute_v1.Instance | None:
        """The machine of that name, whoever's it is; None when Google confirms that there is none.

        A 404 counts only while the zone itself can be seen: a project that is gone, or hidden from us, says nothing
        about its machines (I6). Raises ProviderError.
        """
        account = self._account
        try:
            vm = await self._calls.ask(
                f"Reading {name}",
                lambda c, s: c.instances.get(project=account.project, zone=zone, instance=name, retry=None, timeout=s),
            )
        except Absent:
            await self._confirm(zone)
            return None
        ref_of(vm)
        return vm

    async def ours(self, label: str | None = None) -> list[compute_v1.Instance]:
        """All machines of this installation, or those under one label, on all pages of all zones.

        Raises ProviderError also when some zone was left out of the answer: a part is not the whole (I6).
        """
        account = self._account
        terms = [f"labels.{INSTALLATION_KEY}={safe_value(account.installation)}"]
        if label is not None:
            terms.append(f"labels.{LABEL_KEY}={safe_value(label)}")
        request = compute_v1.AggregatedListInstancesRequest(project=account.project, filter=" AND ".join(terms))
        pages = await self._calls.ask(
            "Listing machines",
            lambda c, s: list(c.instances.aggregated_list(request=request, retry=None, timeout=s).pages),
        )
        found: list[compute_v1.Instance] = []
        for page in pages:
            if page.unreachables:
                raise ProviderError("Google's list of machines is not whole. Ask again.")
            _refuse_part("everything", page.warning)
            for scope, listed in page.items.items():
                _refuse_part(scope, listed.warning)
                found += listed.instances
        return [vm for vm in found if is_ours(account, vm) and (label is None or label_of(vm) == label)]

    async def why(self, vm: compute_v1.Instance) -> Why:
        """Why it does not run: its resource does not tell, only operations do, joined by the id of their target."""
        if not is_ending(vm):
            self._whys.pop(vm.id, None)
            return Why.UNTOLD
        if vm.id not in self._whys:
            zone = ref_of(vm).zone
            why = await self.why_ended(zone, vm.id)
            if why is Why.UNTOLD and ran_out(vm):
                why = Why.ASKED
            if why is Why.UNTOLD:
                return why  # the operation may come later than the state
            self._whys[vm.id] = why
        return self._whys[vm.id]

    async def why_ended(self, zone: str, machine_id: int) -> Why:
        """The same for a machine that may have vanished already. UNTOLD when no operation tells."""
        for kind, why in ((PREEMPTED, Why.PREEMPTED), ("stop", Why.ASKED), ("delete", Why.ASKED)):
            if any(record.target_id == machine_id for record in await self._operations.records(zone, kind)):
                return why
        return Why.UNTOLD

    async def was_deleted(self, zone: str, machine_id: int) -> bool:
        """Whether somebody, and not the system, deleted it."""
        records = await self._operations.records(zone, "delete")
        return any(record.target_id == machine_id and record.user != "system" for record in records)

    async def disk(self, zone: str, name: str) -> compute_v1.Disk | None:
        """The disk of that name; None when Google confirms that there is none."""
        project = self._account.project
        try:
            return await self._calls.ask(
                f"Reading the disk {name}",
                lambda c, s: c.disks.get(project=project, zone=zone, disk=name, retry=None, timeout=s),
            )
        except Absent:
            await self._confirm(zone)
            return None

    async def our_disks(self, zone: str) -> list[compute_v1.Disk]:
        """This installation's disks in a zone, those without a machine included."""
        account = self._account
        wanted = safe_value(account.installation)
        request = compute_v1.ListDisksRequest(
            project=account.project, zone=zone, filter=f"labels.{INSTALLATION_KEY}={wanted}"
        )
        disks = await self._calls.list_all(
            f"Listing disks in {zone}", lambda c, s: c.disks.list(request=request, retry=None, timeout=s)
        )
        return [disk for disk in disks if disk.labels.get(INSTALLATION_KEY) == wanted]

    async def addresses(self, ref: Ref) -> list[compute_v1.Address]:
        """Reserved addresses under this machine's name."""
        request = compute_v1.ListAddressesRequest(
            project=self._account.project, region=region_of(ref.zone), filter=f"name={ref.name}"
        )
        return await self._calls.list_all(
            f"Listing addresses of {ref.name}",
            lambda c, s: c.addresses.list(request=request, retry=None, timeout=s),
        )

    async def _confirm(self, zone: str) -> None:
        """Raises ProviderError when the zone can't be seen either."""
        try:
            await self._calls.ask(
                f"Reading zone {zone}",
                lambda c, s: c.zones.get(project=self._account.project, zone=zone, retry=None, timeout=s),
            )
        except Absent as error:
            raise ProviderError(f"{error} Check the project's name and the zone's.") from error


def _refuse_part(scope: str, warning: Any) -> None:
    if warning.code not in ("", HARMLESS):
        raise ProviderError(f"Google left {scope} out of its list of machines: {warning.message}")
