"""NVIDIA's GPUs through NVML: what is asked of the library, and what is made of its answers and refusals."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from dumont.agent.gpus import LIBRARY, NO_DRIVER, NO_GPU, UNREADABLE, Nvml, in_first_pids

GB = 10**9


class Library:
    """NVML as a driver that a test arranges; with the structures, constants and errors of the real package."""

    NVMLError = pynvml.NVMLError
    nvmlMemory_v2 = pynvml.nvmlMemory_v2  # noqa: N815  # NVIDIA's name

    def __init__(self, *used: float) -> None:
        self.used = list(used)
        self.processes: list[tuple[int, int | None]] = []
        self.drawing: list[tuple[int, int | None]] = []
        self.refuses: dict[str, int] = {}
        self.lost: set[int] = set()
        self.inits = 0
        self.first_version_only = False

    def _answer(self, name: str) -> None:
        if name in self.refuses:
            raise pynvml.NVMLError(self.refuses[name])

    def nvmlInit(self) -> None:  # noqa: N802
        self.inits += 1
        self._answer("init")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._answer("count")
        return len(self.used)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index in self.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: int | None = None) -> Any:  # noqa: N802
        if version and self.first_version_only:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        memory = pynvml.c_nvmlMemory_v2_t() if version else pynvml.c_nvmlMemory_t()
        memory.total, memory.used = 24 * GB, round(self.used[handle] * GB)
        return memory

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return "NVIDIA GeForce RTX 4090"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        rates = pynvml.c_nvmlUtilization_t()
        rates.gpu = 10 * (handle + 1)
        return rates

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: int) -> list[Any]:  # noqa: N802
        return self._listed(self.processes)

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, handle: int) -> list[Any]:  # noqa: N802
        return self._listed(self.drawing)

    def _listed(self, processes: list[tuple[int, int | None]]) -> list[Any]:
        self._answer("processes")
        found = []
        for pid, held in processes:
            info = pynvml.nvmlStructToFriendlyObject(pynvml.c_nvmlProcessInfo_v3_t())
            info.pid, info.usedGpuMemory = pid, held
            found.append(info)
        return found


def driver(library: Library, *, names: bool = False) -> Nvml:
    return Nvml(lambda: library, lambda: names)


def ours(*pids: int) -> Callable[[], set[int]]:
    return lambda: set(pids)


def test_memory_in_use_is_read_per_card() -> None:
    """In a container the driver's process ids are not ours, so the whole card is what can be said."""
    library = Library(8.0, 0.5)
    library.processes = [(7, 6 * GB)]
    found = driver(library).memory(ours(7))
    assert [(use.uuid, use.used, use.total, use.own) for use in found.uses] == [
        ("GPU-0", 8 * GB, 24 * GB, None),
        ("GPU-1", GB // 2, 24 * GB, None),
    ]
    assert (found.lacks, found.uses[0].card) == ("", "NVIDIA GeForce RTX 4090")
    assert driver(library).percent() == 15.0


def test_our_own_processes_are_summed_where_their_ids_are_the_drivers() -> None:
    """On a machine of our own; other people's processes there are left out."""
    library = Library(8.0)
    library.processes = [(7, 3 * GB), (8, 2 * GB), (9, GB)]
    assert driver(library, names=True).memory(ours(7, 8)).uses[0].own == 5 * GB
    assert driver(library, names=True).memory(ours(1)).uses[0].own == 0


def test_a_process_that_computes_and_draws_is_counted_once() -> None:
    """Renderers do both, and the driver lists them twice."""
    library = Library(8.0)
    library.processes, library.drawing = [(7, 3 * GB)], [(7, 3 * GB), (8, GB)]
    assert driver(library, names=True).memory(ours(7, 8)).uses[0].own == 4 * GB


def test_memory_that_no_process_is_named_for_is_not_nobodys() -> None:
    """Some drivers list nobody. An idle card holds a little for itself, and there nothing is kept from us."""
    assert driver(Library(8.0), names=True).memory(ours(7)).uses[0].own is None
    assert driver(Library(0.4), names=True).memory(ours(7)).uses[0].own == 0


@pytest.mark.parametrize("untold", ["value", "call"])
def test_processes_that_the_driver_does_not_tell_of_are_unknown(untold: str) -> None:
    """A sum with one summand missing is smaller than what was needed."""
    library = Library(8.0)
    library.processes = [(7, None), (8, 2 * GB)]
    if untold == "call":
        library.refuses["processes"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    assert driver(library, names=True).memory(ours(7, 8)).uses[0].own is None


def test_an_older_driver_is_asked_the_older_way() -> None:
    """Rented hosts run drivers of many ages."""
    library = Library(8.0)
    library.first_version_only = True
    assert driver(library).memory(ours()).uses[0].used == 8 * GB


def test_a_lost_card_is_left_out_and_the_others_are_read() -> None:
    """Eight cards, one of which fell off the bus: seven still work, and the reading says that it is not whole."""
    library = Library(8.0, 9.0)
    library.lost = {0}
    found = driver(library).memory(ours())
    assert [use.uuid for use in found.uses] == ["GPU-1"]
    assert found.lacks == UNREADABLE


def test_a_driver_that_comes_back_is_asked_anew() -> None:
    """A driver that was restarted forgets who asked it."""
    library = Library(8.0)
    nvml = driver(library)
    library.refuses["count"] = pynvml.NVML_ERROR_UNINITIALIZED
    assert nvml.memory(ours()).lacks == UNREADABLE
    assert nvml.percent() is None
    del library.refuses["count"]
    assert nvml.memory(ours()).uses[0].used == 8 * GB
    assert library.inits == 3


def test_a_machine_without_a_driver_or_a_card_says_so() -> None:
    """Most standbys, and this computer. The real library is asked for, by name."""

    def missing() -> Any:
        raise OSError(f"{LIBRARY}: cannot open shared object file")

    assert Nvml(missing).memory(ours()) == ((), NO_DRIVER)
    assert Nvml(missing).percent() is None
    assert driver(Library()).memory(ours()) == ((), NO_GPU)
    broken = Library(8.0)
    broken.refuses["init"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    assert driver(broken).memory(ours()).lacks == NO_DRIVER


def test_the_package_has_what_is_asked_of_it() -> None:
    """The library here is arranged: a name that NVIDIA's package lacks would only show on a rented GPU."""
    source = inspect.getsource(Nvml).partition('"""')[2].partition('"""')[2]
    asked = {name for name in dir(Library) if name.lower().startswith("nvml")}
    assert set(re.findall(r"nvml\.(\w+)", source)) == asked
    for name in asked:
        assert hasattr(pynvml, name), name
    for name in asked & set(vars(Library)) - {"NVMLError", "nvmlMemory_v2"}:
        taken = [parameter for parameter in inspect.signature(getattr(Library, name)).parameters if parameter != "self"]
        assert taken == list(inspect.signature(getattr(pynvml, name)).parameters)[: len(taken)], name
    for structure in (pynvml.c_nvmlMemory_t, pynvml.c_nvmlMemory_v2_t):
        assert {"total", "used"} <= {field[0] for field in structure._fields_}
    assert {"pid", "usedGpuMemory"} <= {field[0] for field in pynvml.c_nvmlProcessInfo_v3_t._fields_}
    assert issubclass(pynvml.NVMLError, Exception)


def test_only_the_first_namespace_shares_its_process_ids_with_the_driver(tmp_path: Path) -> None:
    """A container's process 7 is another one than the host's."""
    assert not in_first_pids(tmp_path / "nothing")
    assert not in_first_pids(tmp_path)
