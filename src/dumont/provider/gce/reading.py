"""Reading a machine as Google shows it: its phase, its marks, its price."""

from collections.abc import Mapping
from datetime import timedelta

from google.cloud import compute_v1

from dumont.errors import ProviderError
from dumont.provider.base import Machinery, Phase, Why
from dumont.provider.gce.account import INSTALLATION_KEY, LABEL_KEY, Account, Ref
from dumont.provider.gce.operations import when
from dumont.provider.gce.prices import Prices

PHASES: Mapping[str, Phase] = {
    "PENDING": Phase.STARTING,
    "PROVISIONING": Phase.STARTING,
    "STAGING": Phase.STARTING,
    "RUNNING": Phase.RUNNING,
    "PENDING_STOP": Phase.RUNNING,
    "STOPPING": Phase.UNKNOWN,
    "STOPPED": Phase.STOPPED,
    "TERMINATED": Phase.STOPPED,
    "SUSPENDING": Phase.UNKNOWN,
    "SUSPENDED": Phase.STOPPED,
    "DEPROVISIONING": Phase.UNKNOWN,
    "REPAIRING": Phase.UNKNOWN,
}
"""By Google's status; TERMINATED is what a stopped one shows. One that is on its way may still run for 30 s, or not:
that is UNKNOWN, and `why` warns.
"""
ENDING = ("STOPPING", "STOPPED", "TERMINATED", "SUSPENDING", "SUSPENDED", "DEPROVISIONING")


def marks(vm: compute_v1.Instance) -> dict[str, str]:
    """The machine's metadata by key."""
    return {item.key: item.value for item in vm.metadata.items}


def label_of(vm: compute_v1.Instance) -> str:
    """The label it was rented under, whole; "" when it bears none."""
    return marks(vm).get(LABEL_KEY, "")


def is_ours(account: Account, vm: compute_v1.Instance) -> bool:
    """Whether this installation rented it; labels are shortened, the metadata is not."""
    return marks(vm).get(INSTALLATION_KEY) == account.installation


def ref_of(vm: compute_v1.Instance) -> Ref:
    """Its reference. Raises ProviderError for an answer that is no machine."""
    zone = vm.zone.rpartition("/")[2]
    if not (vm.id and vm.name and zone):
        raise ProviderError("Google answered with a machine that has no name or id. Ask again.")
    return Ref(zone, vm.name, vm.id)


def phase_of(vm: compute_v1.Instance) -> Phase:
    """Its phase; a status that we do not know is UNKNOWN and never gone (I6)."""
    return PHASES.get(vm.status, Phase.UNKNOWN)


def is_ending(vm: compute_v1.Instance) -> bool:
    """Whether it ended, or is about to."""
    return vm.status in ENDING


def ran_out(vm: compute_v1.Instance) -> bool:
    """Whether its run limit, and so we, ended it."""
    began, ended = when(vm.last_start_timestamp), when(vm.last_stop_timestamp)
    limit_s = vm.scheduling.max_run_duration.seconds
    return bool(limit_s and began and ended and ended - began >= timedelta(seconds=limit_s))


def machinery(account: Account, vm: compute_v1.Instance, why: Why, prices: Prices) -> Machinery:
    """The machine as the port shows it. `why` is known only of one that does not run."""
    ref, phase = ref_of(vm), phase_of(vm)
    interface = vm.network_interfaces[0] if vm.network_interfaces else compute_v1.NetworkInterface()
    host = next((access.nat_i_p for access in interface.access_configs if access.nat_i_p), "")
    kind = vm.machine_type.rpartition("/")[2]
    facts = {
        "zone": ref.zone,
        "type": kind,
        "name": ref.name,
        "status": vm.status,
        "internal_ip": interface.network_i_p,
    }
    return Machinery(
        ref=str(ref),
        label=label_of(vm),
        phase=phase,
        host=host,
        facts=facts,
        why=why,
        price_micros_per_hour=_price(account, vm, kind, prices),
    )


def _price(account: Account, vm: compute_v1.Instance, kind: str, prices: Prices) -> int | None:
    """What it costs an hour now: a stopped machine still pays for its disk."""
    zone = vm.zone.rpartition("/")[2]
    gib = sum(disk.disk_size_gb for disk in vm.disks)
    disk, _ = prices.disk_micros(zone, account.disk_type, gib)
    if phase_of(vm) is Phase.STOPPED:
        return disk
    price = prices.of(zone, kind)
    spot = vm.scheduling.provisioning_model == "SPOT"
    compute = (price.spot_micros if spot else price.on_demand_micros) if price else None
    return None if compute is None else compute + disk + prices.address_micros
