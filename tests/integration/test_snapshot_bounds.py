"""Memory: whatever is saved or restored, all processes together need the stated budget, and the interpreters theirs."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import blake3
import numpy as np
import pytest

from tests.integration.depot import Depot
from tests.integration.test_snapshot_cli import RUN_S_MAX, Terminal
from tests.integration.test_snapshot_sudden_ends import group
from tests.integration.victim import Order, Victims, victims

pytestmark = pytest.mark.timeout(240)
BUDGET = 128 * 2**20
FILE_BYTES = 128 * 2**20
BLOCK_BYTES = 16 * 2**20
SPARE_BYTES = 5 * 2**30


@pytest.fixture(name="top")
def _top() -> Iterator[Path]:
    """In memory where there is enough of it: a gigabyte is written three times."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > SPARE_BYTES
    path = Path(tempfile.mkdtemp(prefix="dt-", dir=memory if roomy else None))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(name="terminal")
def _terminal(top: Path) -> Terminal:
    terminal = Terminal(top)
    terminal.source.mkdir()
    (terminal.source / "small").write_bytes(b"small")
    return terminal


def fill(source: Path, files: int) -> None:
    """Files of noise, and every fourth of floats; no block occurs twice."""
    noise = np.frombuffer(blake3.blake3(b"noise").digest(FILE_BYTES), np.uint8)
    floats = np.random.default_rng(7).standard_normal(FILE_BYTES // 4, np.float32) if files > 3 else None
    for number in range(files):
        is_noise = floats is None or number % 4 != 3
        (source / f"{number}").write_bytes((noise ^ np.uint8(number) if is_noise else floats * number).tobytes())


def high_water_bytes(pid: int) -> int:
    """The most memory that the process ever had (VmHWM, proc(5)); 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def peak_of(leader: int, runs: Callable[[], bool]) -> int:
    """The sum of what each process of the group had at most, whenever that was."""
    most: dict[int, int] = {}
    while runs():
        for pid in group(leader):
            most[pid] = max(most.get(pid, 0), high_water_bytes(pid))
        time.sleep(0.005)
    return sum(most.values())


def peak(terminal: Terminal, *words: object) -> int:
    """The memory that `dumont snapshot` needs for that."""
    process = terminal.start(*words, "--budget", BUDGET, start_new_session=True, stdout=subprocess.DEVNULL)
    most = peak_of(process.pid, lambda: process.poll() is None)
    _, err = process.communicate(timeout=RUN_S_MAX)
    assert process.returncode == 0, err
    return most


def test_memory_stays_within_the_budget_whatever_the_size(terminal: Terminal) -> None:
    """Eight times the budget is saved and restored; what nearly nothing needs is the interpreters' own."""
    repo, target = terminal.repo, terminal.home / "back"
    alone = peak(terminal, "save", terminal.source, repo), peak(terminal, "restore", repo, target)
    fill(terminal.source, 8 * BUDGET // FILE_BYTES)
    saving = peak(terminal, "save", terminal.source, repo) - alone[0]
    size = sum(path.stat().st_size for path in terminal.packs())
    assert size > 6 * BUDGET
    shutil.rmtree(target)
    restoring = peak(terminal, "restore", repo, target) - alone[1]
    print(f"above the interpreters' {alone}: saving {saving}, restoring {restoring}")
    assert 8 * 2**20 < saving <= BUDGET
    assert 2**20 < restoring <= BUDGET
    for path in terminal.source.iterdir():
        assert subprocess.run(["cmp", path, target / path.name], check=False).returncode == 0


def test_memory_stays_within_the_budget_for_the_largest_blocks(terminal: Terminal) -> None:
    """Files beyond 4 GiB are cut into blocks of 16 MiB, and each is a frame of its own."""
    repo, target = terminal.repo, terminal.home / "back"
    alone = peak(terminal, "save", terminal.source, repo), peak(terminal, "restore", repo, target)
    with (terminal.source / "large").open("wb") as file:
        for number in range(16):
            file.seek(number * 18 * BLOCK_BYTES)
            file.write(blake3.blake3(b"%d" % number).digest(BLOCK_BYTES))
        file.truncate(18 * 16 * BLOCK_BYTES)
    saving = peak(terminal, "save", terminal.source, repo) - alone[0]
    assert sum(path.stat().st_size for path in terminal.packs()) > 15 * BLOCK_BYTES
    shutil.rmtree(target)
    restoring = peak(terminal, "restore", repo, target) - alone[1]
    print(f"above the interpreters' {alone}: saving {saving}, restoring {restoring}")
    assert 2 * BLOCK_BYTES < saving <= BUDGET
    assert BLOCK_BYTES < restoring <= BUDGET
    assert (target / "large").stat().st_blocks * 512 < 20 * BLOCK_BYTES
    with (terminal.source / "large").open("rb") as one, (target / "large").open("rb") as two:
        for number in range(18 * 16):
            if number % 18 < 2:
                one.seek(number * BLOCK_BYTES)
                two.seek(number * BLOCK_BYTES)
                assert one.read(BLOCK_BYTES) == two.read(BLOCK_BYTES)


@pytest.fixture(name="all_victims")
def _all_victims() -> Iterator[Victims]:
    with victims() as all_of_them:
        yield all_of_them


def peak_of_victim(all_victims: Victims, order: Order) -> int:
    """The memory that a victim needs, as far as it gets."""
    pid = all_victims.start(order)
    most = peak_of(pid, lambda: not Path(order.report).exists() and bool(group(pid)))
    assert all_victims.wait(pid) == 0
    return most


async def test_control_a_hand_that_keeps_what_it_read_breaks_the_budget(top: Path, all_victims: Victims) -> None:
    """Negative control: it is seen by the same means."""
    depot = await Depot.make(top / "depot")
    source = top / "source"
    source.mkdir()
    needed = []
    for files in (0, 2):
        fill(source, files)
        done = top / f"done-{files}"
        order = Order("save", str(depot.top), str(source), forked=True, start="hoarding", report=str(done))
        needed.append(peak_of_victim(all_victims, order))
    assert needed[1] - needed[0] > BUDGET
