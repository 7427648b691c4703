"""The page cache of a machine that trains: saves and restores leave it as they found it."""

import os
import time
from pathlib import Path

import pytest

from dumont.repository.hands import ThreadHand
from dumont.repository.progress import Progress
from dumont.repository.restoring.restore import restore, start_restoring
from dumont.repository.saving.intake import start_saving
from dumont.repository.saving.save import Draft, Saved, save
from dumont.store.directory import DirectoryStore
from tests.integration.depot import Depot, settle, started
from tests.integration.page_cache import can_read_past, evict, resident, touch
from tests.tensor_files import safetensors

FILE_BYTES = 12 * 2**20
FEW = 0.1


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    """Two files that nobody uses, and one that a trainer has mapped."""
    if not can_read_past(tmp_path):
        pytest.skip("the kernel or the file system of the temporary directory has no RWF_DONTCACHE")
    source = tmp_path / "source"
    source.mkdir()
    (source / "cold").write_bytes(os.urandom(FILE_BYTES))
    (source / "cold.safetensors").write_bytes(safetensors({"a": os.urandom(FILE_BYTES // 2), "b": os.urandom(900_000)}))
    (source / "hot").write_bytes(os.urandom(FILE_BYTES))
    settle()
    for name in ("cold", "cold.safetensors"):
        evict(source / name)
        assert resident(source / name) < FEW
    touch(source / "hot")
    assert resident(source / "hot") == 1
    return source


class LeavingStore(DirectoryStore):
    """A wrong driver: it reads like everybody."""

    def read_into(self, key: str, start: int, room: memoryview) -> int:
        with (self._top / key).open("rb") as file:
            return os.preadv(file.fileno(), [room], start)


async def saved_in(depot: Depot, source: Path) -> Saved:
    repo = depot.open()
    async with started(lambda: ThreadHand(start_saving, repo.store), 2) as hands:
        return await save(repo, source, Draft(time.time_ns(), path=bytes(source)), hands, Progress())


def packs(depot: Depot) -> list[Path]:
    return [path for path in depot.top.glob("store/packs/*/*") if path.stat().st_size > 2**20]


async def test_a_save_leaves_nothing_of_what_it_read_or_wrote(tmp_path: Path, source: Path) -> None:
    """A nightly save of 500 GB would else push out the data set that the trainer reads again each epoch."""
    depot = await Depot.make(tmp_path / "depot")
    await saved_in(depot, source)
    assert resident(source / "cold") < FEW
    assert resident(source / "cold.safetensors") < FEW
    assert resident(source / "hot") == 1
    assert packs(depot)
    assert max(resident(path) for path in packs(depot)) < FEW


def test_control_whoever_reads_like_everybody_leaves_all_of_it(source: Path) -> None:
    """Negative control of the one above: `cp`, for one, is seen to."""
    (source / "cold").read_bytes()
    assert resident(source / "cold") > 1 - FEW


@pytest.mark.parametrize("driver", [DirectoryStore, LeavingStore])
async def test_a_restore_leaves_nothing_of_packs(tmp_path: Path, source: Path, driver: type[DirectoryStore]) -> None:
    """They are read once. The negative control is a driver that reads like everybody."""
    depot = await Depot.make(tmp_path / "depot")
    saved = await saved_in(depot, source)
    for path in packs(depot):
        evict(path)
    depot.wrap = lambda store: driver(depot.top / "store")
    repo = depot.open("fresh")
    async with started(lambda: ThreadHand(start_restoring, repo.store), 2) as hands:
        await restore(repo, saved.record, tmp_path / "out", hands)
    left = [resident(path) for path in packs(depot)]
    assert max(left) < FEW if driver is DirectoryStore else min(left) > 1 - FEW, left
    assert resident(source / "hot") == 1
