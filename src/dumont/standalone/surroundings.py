"""The surroundings of a verb: what the composition root gives it, and since when this process has been running."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dumont.standalone.early import Stretching, Unlocking

if TYPE_CHECKING:  # they are slow to import, or not needed by most verbs
    from dumont.repository.saving.walk import Walk
    from dumont.store.opening import OpenCloud

_START_TIME = 19
"""Which field of /proc/<pid>/stat after the command's name is the time of start, in ticks since boot (proc(5))."""


@dataclass(frozen=True)
class Surroundings:
    """`entropy` gives unguessable bytes. `started_s`: when this process began, by CLOCK_BOOTTIME.

    `unlocking`: the repository is being opened already, or what it takes to make it is being prepared. `walk`: what is
    to be saved is being looked at.
    """

    environment: Mapping[str, str]
    open_cloud: "OpenCloud"
    entropy: Callable[[int], bytes]
    started_s: float
    unlocking: Unlocking | Stretching | None = None
    walk: "Walk | None" = None

    def seconds(self) -> float:
        """Seconds since this process began."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.started_s


def process_start_s() -> float:
    """When this process began, in seconds of CLOCK_BOOTTIME; now, where the kernel does not tell."""
    try:
        with open("/proc/self/stat", "rb") as stat:
            ticks = int(stat.read().rpartition(b")")[2].split()[_START_TIME])
    except (OSError, ValueError, IndexError):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return ticks / os.sysconf("SC_CLK_TCK")
