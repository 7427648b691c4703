"""A machine that started anew may have lost what was not fsynced: its disk says so."""

from pathlib import Path

from dumont.snapshot.disk import WorkspaceDisk
from dumont.snapshot.kept import Promise


async def test_a_restart_of_the_process_is_no_restart_of_the_machine(tmp_path: Path) -> None:
    """The page cache outlives a process: nothing is missing, and the primary may go on in its epoch."""
    await _promised(tmp_path, "boot-1")
    kept = await _disk(tmp_path, "boot-1").load()
    assert kept.promise == Promise(3)
    assert not kept.rebooted


async def test_a_restart_of_the_machine_is_told(tmp_path: Path) -> None:
    """The control: the same promise, read in another boot."""
    await _promised(tmp_path, "boot-1")
    kept = await _disk(tmp_path, "boot-2").load()
    assert kept.promise == Promise(3)
    assert kept.rebooted


async def test_a_new_promise_belongs_to_the_new_boot(tmp_path: Path) -> None:
    """Leading at a higher epoch starts from what is there, and is trusted again."""
    await _promised(tmp_path, "boot-1")
    disk = _disk(tmp_path, "boot-2")
    await disk.load()
    await disk.promise(Promise(4))
    await disk.close()
    assert not (await _disk(tmp_path, "boot-2").load()).rebooted


async def _promised(directory: Path, boot_id: str) -> None:
    disk = _disk(directory, boot_id)
    await disk.load()
    await disk.promise(Promise(3))
    await disk.close()


def _disk(directory: Path, boot_id: str) -> WorkspaceDisk:
    disk = WorkspaceDisk(directory / "workspace", directory / "data")
    disk.boot_id = boot_id
    return disk
