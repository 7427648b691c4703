"""The bill of the emulated cloud: what each machine, disk and address cost so far, per second (contract §7)."""

from collections.abc import Mapping
from dataclasses import dataclass

from dumont.emulate.gce.vm import Vm
from dumont.emulate.gce.world import World, has_address

SPOT_USD_PER_HOUR: Mapping[str, float] = {
    "e2-micro": 0.005026,
    "e2-small": 0.010053,
    "e2-medium": 0.020106,
    "e2-standard-2": 0.040212,
    "e2-standard-4": 0.080424,
    "n2d-standard-2": 0.02446,
    "t2d-standard-1": 0.01576,
}
"""us-central1 on 2026-07-30; the emulated cloud charges it in every region."""
OTHER_USD_PER_HOUR = 0.06
"""For types that are not in the table; invented."""
DISK_USD_PER_GB_MONTH = 0.10
ADDRESS_USD_PER_HOUR = 0.005
HOURS_PER_MONTH = 720
MICROS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one machine cost so far, in millionths of a dollar; `seconds` are those it was billed for."""

    name: str
    zone: str
    seconds: float
    compute_micros: int
    address_micros: int
    disk_micros: int


def bill(world: World) -> list[Line]:
    """One line per machine that ever was. A stopped one still pays its disk."""
    return [_line(world, vm) for vm in (*world.gone, *world.vms.values())]


def _line(world: World, vm: Vm) -> Line:
    now = world.timeline.now
    seconds = sum(run.billed_s(now) for run in vm.runs)
    hourly = SPOT_USD_PER_HOUR.get(vm.kind, OTHER_USD_PER_HOUR)
    kept_s = (now if vm.gone_at is None else vm.gone_at) - vm.born_at
    monthly = int(vm.resource["disks"][0]["diskSizeGb"]) * DISK_USD_PER_GB_MONTH
    return Line(
        name=vm.name,
        zone=vm.zone,
        seconds=seconds,
        compute_micros=round(hourly * MICROS * seconds / 3600),
        address_micros=round(ADDRESS_USD_PER_HOUR * MICROS * seconds / 3600) if has_address(vm) else 0,
        disk_micros=round(monthly / HOURS_PER_MONTH * MICROS * kept_s / 3600),
    )
