"""Meters: readings of an instance. What can't be read is unknown (None), never zero (I6)."""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil  # type: ignore[import-untyped]

from dumont.agent.gpus import Gpus, Reading
from dumont.agent.peak import Peak
from dumont.wire.control import Meters

METERS_S = 1.0
"""The meters are read so often. What a GPU's memory held for a shorter time may go unseen; allocators keep for longer
what they once took."""

LIMIT_BYTES_SOME = 2**60
"""A cgroup limit at or above this is the kernel's way of writing "none"."""

_LOOPBACK = "lo"


class Cpu(NamedTuple):
    """Processor seconds since boot, all cores together."""

    busy_s: float
    total_s: float


class Net(NamedTuple):
    """Bytes since boot over all interfaces but the loopback."""

    received: int
    sent: int


class Memory(NamedTuple):
    """Bytes in use (page cache left out) and the most there is."""

    used: int
    limit: int


class Gauges(Protocol):
    """Raw readings of one machine. None is unknown. They may block for a short while: call them off the event loop."""

    def cpu(self) -> Cpu | None: ...

    def memory(self) -> Memory | None: ...

    def disk_free_bytes(self) -> int | None: ...

    def net(self) -> Net | None: ...

    def gpu_percent(self) -> float | None: ...

    def gpu_memory(self) -> Reading: ...


class Meter:
    """Turns raw counters into rates, and a GPU's memory into a peak. The first reading has no rates: there is nothing
    to compare with.
    """

    def __init__(self, gauges: Gauges, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._gauges = gauges
        self._monotonic = monotonic
        self._cpu: Cpu | None = None
        self._net: Net | None = None
        self._read_at: float | None = None
        self._epoch: int | None = None
        self._peak = Peak(METERS_S)

    def read(self, epoch: int | None = None) -> Meters:
        """All readings now. `epoch` is the one that is served, None for none: a peak belongs to it, and stays known
        when the doors are closed.
        """
        now = self._monotonic()
        cpu, net, memory = self._gauges.cpu(), self._gauges.net(), self._gauges.memory()
        seconds = now - self._read_at if self._read_at is not None else 0.0
        received, sent = net_rates(self._net, net, seconds)
        if epoch is not None:
            if epoch != self._epoch:
                self._epoch, self._peak = epoch, Peak(METERS_S)
            self._peak.see(self._gauges.gpu_memory(), now)
        meters = Meters(
            cpu_percent=cpu_percent(self._cpu, cpu),
            memory_bytes=memory.used if memory else None,
            memory_bytes_max=memory.limit if memory else None,
            disk_free_bytes=self._gauges.disk_free_bytes(),
            net_in_bytes_per_s=received,
            net_out_bytes_per_s=sent,
            gpu_percent=self._gauges.gpu_percent(),
            gpu_peak=self._peak.told(),
        )
        self._cpu, self._net, self._read_at = cpu, net, now
        return meters


def cpu_percent(before: Cpu | None, after: Cpu | None) -> float | None:
    """The share of all cores that was busy between two readings, 0–100; None when it can't be told."""
    if before is None or after is None or after.total_s <= before.total_s:
        return None
    share = (after.busy_s - before.busy_s) / (after.total_s - before.total_s)
    return round(100 * min(max(share, 0.0), 1.0), 1)


def net_rates(before: Net | None, after: Net | None, seconds: float) -> tuple[float | None, float | None]:
    """Bytes per second (in, out) between two readings; None when it can't be told, as after a counter went back."""
    if before is None or after is None or seconds <= 0:
        return None, None
    received, sent = after.received - before.received, after.sent - before.sent
    if received < 0 or sent < 0:
        return None, None
    return received / seconds, sent / seconds


def cgroup_memory(root: Path, cgroup_text: str) -> Memory | None:
    """The memory limit and use of our own control group (v2, else v1); None where there is none.

    `root` is the cgroup mount, `cgroup_text` what `/proc/self/cgroup` says. In a container of its own cgroup
    namespace the group is the mount itself. Page cache that can be dropped (`inactive_file`) doesn't count as used.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html#memory and cgroup-v1/memory.html.
    """
    own_v2, own_v1 = _own_groups(cgroup_text)
    places = [
        *((root / own, "memory.max", "memory.current") for own in (own_v2, "") if own is not None),
        *(
            (root / "memory" / own, "memory.limit_in_bytes", "memory.usage_in_bytes")
            for own in (own_v1, "")
            if own is not None
        ),
    ]
    for group, limit_name, used_name in places:
        limit, used = _number(group / limit_name), _number(group / used_name)
        if limit is None or used is None or limit >= LIMIT_BYTES_SOME:
            continue
        return Memory(used=max(used - (_stat(group / "memory.stat") or 0), 0), limit=limit)
    return None


class MachineGauges:
    """The gauges of this machine, or of the container that we run in. `own` gives the workload's process ids."""

    def __init__(
        self,
        workspace: Path,
        gpus: Gpus,
        own: Callable[[], Collection[int]],
        cgroup_root: Path = Path("/sys/fs/cgroup"),
    ) -> None:
        self._workspace = workspace
        self._gpus = gpus
        self._own = own
        self._cgroup_root = cgroup_root

    def cpu(self) -> Cpu | None:
        try:
            times = psutil.cpu_times()
        except (OSError, psutil.Error):
            return None
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)  # counted in user, nice
        return Cpu(busy_s=total - times.idle - getattr(times, "iowait", 0.0), total_s=total)

    def memory(self) -> Memory | None:
        try:
            machine = psutil.virtual_memory()
        except (OSError, psutil.Error):
            return None
        group = cgroup_memory(self._cgroup_root, _text(Path("/proc/self/cgroup")) or "")
        if group and group.limit < machine.total:
            return group
        return Memory(used=machine.total - machine.available, limit=machine.total)

    def disk_free_bytes(self) -> int | None:
        try:
            return int(psutil.disk_usage(str(self._workspace)).free)
        except OSError:
            return None

    def net(self) -> Net | None:
        try:
            counters = psutil.net_io_counters(pernic=True)
        except (OSError, psutil.Error):
            return None
        outer = [counter for name, counter in counters.items() if name != _LOOPBACK]
        if not outer:
            return None
        return Net(sum(counter.bytes_recv for counter in outer), sum(counter.bytes_sent for counter in outer))

    def gpu_percent(self) -> float | None:
        return self._gpus.percent()

    def gpu_memory(self) -> Reading:
        return self._gpus.memory(self._own)


def _own_groups(cgroup_text: str) -> tuple[str | None, str | None]:
    """Our group's path below the v2 mount and below the v1 memory mount, from lines such as `4:memory:/a/b`."""
    own_v2 = own_v1 = None
    for line in cgroup_text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            own_v2 = path.strip("/")
        elif "memory" in controllers.split(","):
            own_v1 = path.strip("/")
    return own_v2, own_v1


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> int | None:
    """The number in a file; an unlimited one for v2's `max`; None when there is none."""
    text = (_text(path) or "").strip()
    if text == "max":
        return LIMIT_BYTES_SOME
    return int(text) if text.isdecimal() else None


def _stat(path: Path) -> int | None:
    """`inactive_file` of a memory.stat; v1's total if there is one, for its usage includes child groups."""
    fields = dict(line.split(maxsplit=1) for line in (_text(path) or "").splitlines() if " " in line)
    value = fields.get("total_inactive_file", fields.get("inactive_file", ""))
    return int(value) if value.isdecimal() else None
