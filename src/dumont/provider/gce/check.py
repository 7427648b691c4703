"""What a Google account is found to allow: credentials, the API, zones, quotas, firewall, leftovers. Rents nothing."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from google.cloud import compute_v1

from dumont.clock import Clock
from dumont.errors import ProviderError
from dumont.provider.check import Finding
from dumont.provider.gce import firewall
from dumont.provider.gce.account import PORTS, Account, region_of
from dumont.provider.gce.calls import Calls
from dumont.provider.gce.machines import Machines
from dumont.provider.gce.operations import Operations
from dumont.provider.gce.prices import SIZES, Prices
from dumont.provider.gce.verdict import Absent, Denied, failure_of

VCPUS_MIN = 2.0
DISK_GB_MIN = 20.0
PRICES_STALE = timedelta(days=60)
QUOTA_PAGE = "IAM & Admin > Quotas & System Limits"
NEEDED = {"INSTANCES": 1.0, "IN_USE_ADDRESSES": 1.0, "SSD_TOTAL_GB": DISK_GB_MIN}
"""What one machine takes of each quota beside its CPUs."""


class Check:
    """Looks at an account. With `may_open_firewall` it makes the firewall rule that is missing."""

    def __init__(self, account: Account, calls: Calls, machines: Machines, clock: Clock) -> None:
        self._account = account
        self._calls = calls
        self._machines = machines
        self._clock = clock

    async def findings(self, prices: Prices, may_open_firewall: bool = False) -> list[Finding]:
        """In the order in which one repairs them. Raises nothing that Google does."""
        regions = sorted({region_of(zone) for zone in self._account.zones})
        found = [await self._guarded("credentials", self._credentials)]
        if not found[0].ok:
            names = ["zones", *(f"quota {region}" for region in regions), "firewall", "leftovers"]
            told = "It can't be told before the project can be read."
            return [*found, *(Finding(name=name, ok=None, detail=told) for name in names), self._prices(prices)]
        found.append(await self._guarded("zones", self._zones))
        for region in regions:
            found.append(await self._guarded(f"quota {region}", lambda region=region: self._quota(region)))  # type: ignore[misc]
        found.append(await self._guarded("firewall", lambda: self._firewall(may_open_firewall)))
        found.append(await self._guarded("leftovers", self._leftovers))
        found.append(
            Finding(
                name="renting",
                ok=None,
                detail="Whether these credentials may create and delete machines shows only when they do.",
                remedy="`dumont provider probe gce` tries it for a few cents.",
            )
        )
        return [*found, self._prices(prices)]

    async def _guarded(self, name: str, look: Callable[[], Awaitable[Finding]]) -> Finding:
        try:
            return await look()
        except Denied as error:
            return Finding(name=name, ok=False, detail=str(error), remedy=_remedy(error))
        except ProviderError as error:
            return Finding(name=name, ok=None, detail=str(error), remedy="Try again later.")

    async def _credentials(self) -> Finding:
        """Reading the project needs credentials, their scope, the API switched on, and a project of that name."""
        project = self._account.project
        try:
            told = await self._calls.ask(
                f"Reading the project {project}",
                lambda c, s: c.projects.get(project=project, retry=None, timeout=s),
            )
        except Absent:
            remedy = "Look the project's id up with `gcloud projects list`; its number and its title are other things."
            detail = f"Google has no project {project}, or hides it."
            return Finding(name="credentials", ok=False, detail=detail, remedy=remedy)
        return Finding(name="credentials", ok=True, detail=f"The project {told.name} can be read.")

    async def _zones(self) -> Finding:
        """Every zone must exist and be up."""
        missing, down = [], []
        for zone in self._account.zones:
            try:
                told = await self._calls.ask(
                    f"Reading zone {zone}",
                    lambda c, s, zone=zone: c.zones.get(  # type: ignore[misc]
                        project=self._account.project, zone=zone, retry=None, timeout=s
                    ),
                )
            except Absent:
                missing.append(zone)
                continue
            if told.status != "UP":
                down.append(zone)
        if missing or down:
            words = [f"{zone} does not exist" for zone in missing] + [f"{zone} is down" for zone in down]
            remedy = "Take these zones out of the account; `gcloud compute zones list` shows which there are."
            return Finding(name="zones", ok=False, detail=", ".join(words) + ".", remedy=remedy)
        return Finding(name="zones", ok=True, detail=f"{', '.join(self._account.zones)}: up.")

    async def _quota(self, region: str) -> Finding:
        """Is there room for one machine? A PREEMPTIBLE_CPUS quota of 0 refuses every spot machine (contract §4)."""
        name = f"quota {region}"
        told = await self._calls.ask(
            f"Reading quotas of {region}",
            lambda c, s: c.regions.get(project=self._account.project, region=region, retry=None, timeout=s),
        )
        quotas = {quota.metric: quota for quota in told.quotas}
        spot = quotas.get("PREEMPTIBLE_CPUS")
        if spot is not None and spot.limit == 0:
            return Finding(
                name=name,
                ok=False,
                detail=f"PREEMPTIBLE_CPUS is granted as 0 in {region}: every spot machine is refused there, whatever "
                f"CPUS allows.",
                remedy=f"Ask for PREEMPTIBLE_CPUS in {region} under {QUOTA_PAGE}, or take the region's zones out.",
            )
        metric = "PREEMPTIBLE_CPUS" if spot is not None else "CPUS"
        needed = {metric: VCPUS_MIN, **NEEDED}
        short = [
            f"{key} has {quota.limit - quota.usage:g} of {quota.limit:g} left and one machine takes {amount:g}"
            for key, amount in needed.items()
            if (quota := quotas.get(key)) is not None and quota.limit - quota.usage < amount
        ]
        if short:
            remedy = f"Let machines go, or ask for more under {QUOTA_PAGE}."
            return Finding(name=name, ok=False, detail="; ".join(short) + ".", remedy=remedy)
        if metric not in quotas:
            return Finding(name=name, ok=None, detail=f"{region} tells no quota for CPUs.")
        left = quotas[metric].limit - quotas[metric].usage
        return Finding(name=name, ok=True, detail=f"{metric}: {left:g} of {quotas[metric].limit:g} vCPUs left.")

    async def _firewall(self, may_open: bool) -> Finding:
        closed = firewall.closed_ports(await self._rules(), self._account.network)
        if closed and may_open:
            await self._open()
            closed = firewall.closed_ports(await self._rules(), self._account.network)
        if not closed:
            ports = ", ".join(map(str, PORTS))
            return Finding(name="firewall", ok=True, detail=f"Machines are reached at the ports {ports}.")
        detail = (
            f"No rule of {self._account.network} lets anybody reach a machine with the tag `dumont` at "
            f"{', '.join(map(str, closed))}."
        )
        return Finding(name="firewall", ok=False, detail=detail, remedy=f"Run: {firewall.command(self._account)}")

    async def _rules(self) -> list[compute_v1.Firewall]:
        project = self._account.project
        return await self._calls.list_all(
            "Listing firewall rules", lambda c, s: c.firewalls.list(project=project, retry=None, timeout=s)
        )

    async def _open(self) -> None:
        request = compute_v1.InsertFirewallRequest(
            project=self._account.project,
            firewall_resource=firewall.rule(self._account),
            request_id=self._account.request_id("firewall", str(self._clock.now().date())),
        )
        operation = await self._calls.ask(
            "Making the firewall rule", lambda c, s: c.firewalls.insert_unary(request=request, retry=None, timeout=s)
        )
        operations = Operations(self._account, self._calls, self._clock)
        done = await operations.finish_global(operation, self._account.insert_s_max)
        if failure := failure_of(done):
            raise ProviderError(f"Google could not make the firewall rule: {failure.words} ({failure.code})")

    async def _leftovers(self) -> Finding:
        """Disks of ours that no machine uses: they cost, and nobody needs them."""
        lone = [
            (zone, disk.name, disk.size_gb)
            for zone in self._account.zones
            for disk in await self._machines.our_disks(zone)
            if not disk.users
        ]
        if not lone:
            return Finding(name="leftovers", ok=True, detail="No disk of this installation is without a machine.")
        words = ", ".join(f"{name} in {zone} ({gb} GB)" for zone, name, gb in lone)
        first_zone, first_name, _ = lone[0]
        remedy = (
            f"Delete them: gcloud compute disks delete {first_name} --zone={first_zone} "
            f"--project={self._account.project}"
        )
        return Finding(
            name="leftovers", ok=False, detail=f"Disks without a machine, which cost: {words}.", remedy=remedy
        )

    def _prices(self, prices: Prices) -> Finding:
        age = self._clock.now().date() - prices.as_of
        known = sorted({kind for kind in SIZES for zone in self._account.zones if prices.of(zone, kind)})
        detail = f"The newest price is of {prices.as_of} ({age.days} days ago), for {', '.join(known) or 'no type'}."
        if known and age <= PRICES_STALE:
            return Finding(name="prices", ok=True, detail=detail)
        remedy = "Spot prices step several times a quarter: the bill may differ. Update Dumont, or its price table."
        return Finding(name="prices", ok=None if known else False, detail=detail, remedy=remedy)


def _remedy(error: Denied) -> str:
    remedies = {
        "credentials": "Run `gcloud auth application-default login`, or give a service account's key file.",
        "accessNotConfigured": "Run: gcloud services enable compute.googleapis.com",
        "insufficientPermissions": "Use credentials with the scope https://www.googleapis.com/auth/compute.",
    }
    granted = "Grant the account the role roles/compute.instanceAdmin.v1 (and, to open ports, compute.securityAdmin)."
    return remedies.get(error.reason, granted)
