"""Meters: what is unknown stays unknown (I6)."""

from pathlib import Path

import pytest

from dumont.agent.gpus import Nvml, Reading, Use
from dumont.agent.meters import Cpu, MachineGauges, Memory, Meter, Net, cgroup_memory, cpu_percent, net_rates


class Script:
    """Gauges that read what a test says; None is unknown."""

    def __init__(self) -> None:
        self.cpu_now: Cpu | None = Cpu(10.0, 100.0)
        self.net_now: Net | None = Net(1_000, 2_000)
        self.memory_now: Memory | None = Memory(3, 8)
        self.gpu_now: float | None = None
        self.uses: tuple[Use, ...] = ()
        self.asked = 0

    def cpu(self) -> Cpu | None:
        return self.cpu_now

    def memory(self) -> Memory | None:
        return self.memory_now

    def disk_free_bytes(self) -> int | None:
        return 77

    def net(self) -> Net | None:
        return self.net_now

    def gpu_percent(self) -> float | None:
        return self.gpu_now

    def gpu_memory(self) -> Reading:
        self.asked += 1
        return Reading(self.uses)


class Hand:
    """A monotonic clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_reading_knows_no_rates() -> None:
    """psutil's own first answer is 0.0, which would pass for idleness."""
    first = Meter(Script(), Hand()).read()
    assert first.cpu_percent is None
    assert first.net_in_bytes_per_s is None
    assert first.net_out_bytes_per_s is None
    assert (first.memory_bytes, first.memory_bytes_max, first.disk_free_bytes) == (3, 8, 77)


def test_rates_come_from_two_readings_and_the_time_between() -> None:
    """Counters mean nothing by themselves."""
    script, hand = Script(), Hand()
    meter = Meter(script, hand)
    meter.read()
    hand.now += 2.0
    script.cpu_now, script.net_now = Cpu(11.0, 104.0), Net(5_000, 2_000)
    second = meter.read()
    assert second.cpu_percent == 25.0
    assert second.net_in_bytes_per_s == 2_000.0
    assert second.net_out_bytes_per_s == 0.0


def test_a_gpu_without_a_driver_is_unknown_and_not_idle() -> None:
    """Otherwise a broken driver would put a busy training run to sleep."""
    assert Meter(Script(), Hand()).read().gpu_percent is None


def test_a_peak_belongs_to_what_is_served() -> None:
    """What a standby's card held before is not the workload's, and a new epoch's workload begins anew."""
    script, hand = Script(), Hand()
    script.uses = (Use("a", "RTX 4090", 24 * 10**9, 20 * 10**9, None),)
    meter = Meter(script, hand)
    assert meter.read().gpu_peak is None
    assert script.asked == 0
    first = meter.read(3).gpu_peak
    script.uses = (Use("a", "RTX 4090", 24 * 10**9, 1 * 10**9, None),)
    closed = meter.read().gpu_peak
    again = meter.read(5).gpu_peak
    assert first is not None and first.bytes == 20 * 10**9
    assert closed == first, "the doors were closed; what was measured stays known"
    assert again is not None and again.bytes == 10**9


def test_after_a_gap_the_rate_is_unknown_and_then_known_again() -> None:
    """A reading that failed must not be taken for zero, neither now nor as the base of the next rate."""
    script, hand = Script(), Hand()
    meter = Meter(script, hand)
    meter.read()
    script.cpu_now = script.net_now = script.memory_now = None
    hand.now += 1
    gap = meter.read()
    script.cpu_now, script.net_now = Cpu(50.0, 200.0), Net(9_000, 9_000)
    hand.now += 1
    after = meter.read()
    script.cpu_now = Cpu(51.0, 201.0)
    hand.now += 1
    assert (gap.cpu_percent, gap.memory_bytes, gap.net_in_bytes_per_s) == (None, None, None)
    assert (after.cpu_percent, after.net_in_bytes_per_s) == (None, None)
    assert meter.read().cpu_percent == 100.0


@pytest.mark.parametrize(
    ("before", "after"), [(None, Cpu(1, 2)), (Cpu(1, 2), None), (Cpu(1, 2), Cpu(1, 2)), (Cpu(1, 2), Cpu(0, 1))]
)
def test_processor_time_that_did_not_pass_gives_no_share(before: Cpu | None, after: Cpu | None) -> None:
    """Dividing by nothing, or by a counter that went back, tells nothing."""
    assert cpu_percent(before, after) is None


def test_network_counters_that_went_back_give_no_rate() -> None:
    """An interface that was replaced starts at zero again."""
    assert net_rates(Net(5, 5), Net(4, 9), 1.0) == (None, None)
    assert net_rates(Net(5, 5), Net(6, 9), 0.0) == (None, None)


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_a_containers_own_limit_counts_and_not_the_hosts(tmp_path: Path) -> None:
    """In a container the host's memory is nobody's to use; page cache that can be dropped is not in use."""
    write(
        tmp_path, memory_dot_max="1000000", memory_dot_current="700000", memory_dot_stat="anon 1\ninactive_file 200000"
    )
    assert cgroup_memory(tmp_path, "0::/") == Memory(used=500_000, limit=1_000_000)


def test_our_own_group_below_the_mount_is_read_where_it_is_visible(tmp_path: Path) -> None:
    """Without a namespace of its own, a container sees the whole tree of groups."""
    write(tmp_path, a__b__memory_dot_max="4096", a__b__memory_dot_current="1024")
    assert cgroup_memory(tmp_path, "0::/a/b\n") == Memory(used=1024, limit=4096)


def test_the_older_cgroups_are_read_too(tmp_path: Path) -> None:
    """Many rented hosts still run them."""
    write(
        tmp_path,
        memory__memory_dot_limit_in_bytes="2048",
        memory__memory_dot_usage_in_bytes="512",
        memory__memory_dot_stat="inactive_file 1\ntotal_inactive_file 12",
    )
    assert cgroup_memory(tmp_path, "4:memory:/elsewhere\n0::/\n") == Memory(used=500, limit=2048)


@pytest.mark.parametrize("limit", ["max", "9223372036854771712", "", "nonsense"])
def test_no_limit_is_no_limit(tmp_path: Path, limit: str) -> None:
    """The kernel writes "none" in two ways; an unreadable file is none either."""
    write(tmp_path, memory_dot_max=limit, memory_dot_current="1")
    assert cgroup_memory(tmp_path, "0::/") is None


def test_a_missing_workspace_has_unknown_space(tmp_path: Path) -> None:
    """Zero free bytes would be an alarm about nothing."""
    assert MachineGauges(tmp_path / "gone", Nvml(), set).disk_free_bytes() is None
