"""GPUs: how busy the ones of this machine are, and how much of each one's memory is in use, through NVIDIA's NVML.

What can't be read is left out, and `Reading.lacks` says why: never zero (I6).
"""

import ctypes
import importlib
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

LIBRARY = "libnvidia-ml.so.1"
"""Comes with NVIDIA's driver, and with nothing else."""
FIRST_PIDS = 0xEFFFFFFC
"""The inode number of the namespace of process ids that the kernel boots with (PROC_PID_INIT_INO, linux/proc_ns.h)."""

NOBODYS_BYTES_MAX = 10**9
"""Drivers keep less of an idle card. Where more is in use and no process is named, some are kept from us."""

NO_DRIVER, NO_GPU, UNREADABLE = "no_driver", "no_gpu", "unreadable"


class Use(NamedTuple):
    """Memory of one GPU in bytes. `own` is what our own processes hold of it; None when the driver doesn't tell."""

    uuid: str
    card: str
    total: int
    used: int
    own: int | None


class Reading(NamedTuple):
    """Every GPU that could be read, and in a word why another one, or all of them, could not."""

    uses: tuple[Use, ...] = ()
    lacks: str = ""


class Gpus(Protocol):
    """The GPUs of one machine. Calls may block for a short while, and raise nothing."""

    def percent(self) -> float | None:
        """Mean utilisation of all of them, 0–100; None is unknown."""

    def memory(self, own: Callable[[], Collection[int]]) -> Reading:
        """Memory in use now. `own` gives the process ids that count as ours; it is asked only when one is needed."""


def open_nvml() -> Any:
    """The module `pynvml` of nvidia-ml-py. Raises OSError without NVIDIA's driver, ImportError without the package."""
    ctypes.CDLL(LIBRARY)  # most machines have none: a module of seven thousand lines need not be read to learn that
    return importlib.import_module("pynvml")


def in_first_pids(path: Path = Path("/proc/self/ns/pid")) -> bool:
    """Whether our process ids are the driver's. In a container they are not, and a number there may be anybody's."""
    try:
        return os.stat(path).st_ino == FIRST_PIDS
    except OSError:
        return False


class Nvml:
    """NVIDIA's GPUs (https://docs.nvidia.com/deploy/nvml-api). `load` gives the module, `own_pids` whether it and we
    mean the same by a process id.

    The second version of the memory call leaves out what the driver keeps for itself, as nvidia-smi does; drivers
    before 510 have only the first.
    """

    def __init__(self, load: Callable[[], Any] = open_nvml, own_pids: Callable[[], bool] = in_first_pids) -> None:
        self._load = load
        self._nvml: Any = None
        self._ready = False
        self._names_processes = own_pids()

    def percent(self) -> float | None:
        if not self._opened():
            return None
        nvml = self._nvml
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            shares = [float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu) for handle in handles]
        except nvml.NVMLError:
            self._ready = False  # a driver that was restarted has to be asked anew
            return None
        return sum(shares) / len(shares) if shares else None

    def memory(self, own: Callable[[], Collection[int]]) -> Reading:
        if not self._opened():
            return Reading(lacks=NO_DRIVER)
        nvml, uses, lacks = self._nvml, [], ""
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError:
            self._ready = False
            return Reading(lacks=UNREADABLE)
        for index in range(count):
            try:
                uses.append(self._use(nvml.nvmlDeviceGetHandleByIndex(index), own))
            except nvml.NVMLError:  # lost, or not ours to see: the others are still worth reading
                self._ready, lacks = False, UNREADABLE
        return Reading(tuple(uses), lacks if count else NO_GPU)

    def _opened(self) -> bool:
        if self._ready:
            return True
        try:
            self._nvml = self._nvml or self._load()
        except (OSError, ImportError):
            return False
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlInit()
            self._ready = True
        return self._ready

    def _use(self, handle: Any, own: Callable[[], Collection[int]]) -> Use:
        nvml = self._nvml
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        except nvml.NVMLError:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return Use(
            uuid=str(nvml.nvmlDeviceGetUUID(handle)),
            card=str(nvml.nvmlDeviceGetName(handle)),
            total=int(memory.total),
            used=int(memory.used),
            own=self._own(handle, int(memory.used), own),
        )

    def _own(self, handle: Any, used: int, own: Callable[[], Collection[int]]) -> int | None:
        """What our processes hold of it; 0 when none of them uses it, None when the driver doesn't tell."""
        if not self._names_processes:
            return None
        try:
            computing = self._nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
            drawing = self._nvml.nvmlDeviceGetGraphicsRunningProcesses_v3(handle)
        except self._nvml.NVMLError:
            return None
        listed = {one.pid: one.usedGpuMemory for one in (*drawing, *computing)}  # who does both is in both, alike
        if not listed:
            return 0 if used <= NOBODYS_BYTES_MAX else None
        ours = own()
        held = [amount for pid, amount in listed.items() if pid in ours]
        return None if None in held else sum(map(int, held))
