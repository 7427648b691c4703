"""Bystanders: what processes of others took of the processors while we measured. A busy machine measures itself.

All that was busy, by `/proc/stat`, less what the bench and its descendants used and less the kernel's own threads,
which work for whoever asks. Time that a hypervisor took away counts as others'. See proc(5).
"""

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SHARE_MAX = 0.05
"""Above this share of the machine, a round is told to have been disturbed."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KERNEL_THREADS = 2
"""Their parent, kthreadd, has this number."""

_COMMAND_MAX = 40


@dataclass(frozen=True)
class Usage:
    """Seconds of processors since the machine started: `whole_s` there were, `busy_s` of them something ran, `ours_s`
    we and `kernel_s` threads of the kernel. `others` that live: number → name and seconds, with its ended children's.
    """

    busy_s: float
    whole_s: float
    ours_s: float
    kernel_s: float
    others: Mapping[int, tuple[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Disturbance:
    """What others took between two moments: a share of all processors, and the name of who took most of it."""

    share: float
    who: str = ""

    @property
    def is_grave(self) -> bool:
        """Whether figures of that time should be distrusted."""
        return self.share > SHARE_MAX


def disturbance(before: Usage, after: Usage) -> Disturbance:
    """What others took between two looks."""
    whole = after.whole_s - before.whole_s
    theirs = after.busy_s - before.busy_s - (after.ours_s - before.ours_s) - (after.kernel_s - before.kernel_s)
    took = [
        (seconds - before.others.get(number, ("", 0.0))[1], name) for number, (name, seconds) in after.others.items()
    ]
    most, who = max(took, default=(0.0, ""))
    return Disturbance(max(0.0, theirs / whole) if whole else 0.0, who if most > 0 else "")


def look(proc: Path = Path("/proc")) -> Usage:
    """What has been used until now."""
    words = (proc / "stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _waiting, _hard, _soft, steal = (int(word) / _TICKS_PER_S for word in words[:8])
    processes = _processes(proc)
    ours = _descendants(os.getpid(), processes)
    kernel = {number for number, one in processes.items() if _KERNEL_THREADS in (number, one.parent)}
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Usage(
        busy_s=user + nice + system + steal,
        whole_s=sum(int(word) for word in words[:8]) / _TICKS_PER_S,
        ours_s=sum(one.ru_utime + one.ru_stime for one in spent) + sum(processes[one].seconds for one in ours),
        kernel_s=sum(processes[one].own_s for one in kernel),
        others={
            number: (one.name, one.seconds)
            for number, one in processes.items()
            if number not in ours and number not in kernel and number != os.getpid()
        },
    )


@dataclass(frozen=True)
class _Process:
    parent: int
    name: str
    own_s: float
    seconds: float


def _processes(proc: Path) -> dict[int, _Process]:
    found = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # it has ended
        words = rest.split()
        own, with_children = (sum(map(int, words[11:end])) / _TICKS_PER_S for end in (13, 15))
        found[int(entry.name)] = _Process(int(words[1]), name[:_COMMAND_MAX], own, with_children)
    return found


def _descendants(top: int, processes: Mapping[int, _Process]) -> set[int]:
    """Every process below `top`, not `top` itself."""
    found: set[int] = set()
    while True:
        more = {number for number, one in processes.items() if one.parent in found | {top}} - found - {top}
        if not more:
            return found
        found |= more
