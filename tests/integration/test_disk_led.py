"""A disk whose tree a primary changed claims nothing that it has not seen."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from dumont.errors import BadInput
from dumont.model.commit import CommitId
from dumont.snapshot.live import LiveTree
from dumont.snapshot.tree import TOP
from tests.integration.author import follow, journal
from tests.integration.standby_world import World, loaded


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.root.mkdir()
    return world


async def test_a_primary_that_was_not_sealed_has_no_head(world: World) -> None:
    """Its workload went on after the last commit: claiming that commit would be a lie. Its tree is told as it is."""
    disk = await loaded(world)
    (world.root / "a").write_bytes(b"a")
    await follow(disk, world.author)
    await disk.set_head(None, world.author.tree)
    for touched in (False, True):
        if touched:
            (world.workspace / "b").write_bytes(b"written by the workload")
        kept = await world.disk().load()
        assert kept.head is None
        assert (b"b" in kept.tree) is touched
        assert b"a" in kept.tree


async def test_a_sealed_primary_has_its_commit_until_somebody_writes(world: World) -> None:
    """After a switchover it is a full standby; but only what is seen to be equal may be claimed."""
    disk = await loaded(world)
    (world.root / "a").write_bytes(b"a")
    message = await follow(disk, world.author)
    await disk.set_head(None, world.author.tree)
    (world.workspace / "b").write_bytes(b"bb")
    live = LiveTree(world.workspace, disk.index)
    tree = world.author.tree.copy()
    for path in sorted(await live.walk(TOP, tree)):
        reading = await live.copy(path, nowhere)
        assert reading.entry is not None
        tree.put(path, reading.entry)
    sealed = replace(message.commit, id=CommitId(1, 2), root=tree.root(), sealed=True)
    await disk.set_head(sealed, tree)
    assert (await world.disk().load()).head == sealed
    times = (world.workspace / "b").stat()
    (world.workspace / "b").write_bytes(b"BB")
    os.utime(world.workspace / "b", ns=(times.st_atime_ns, times.st_mtime_ns))
    kept = await world.disk().load()
    assert kept.head is None
    assert kept.tree.root() != sealed.root


async def nowhere(chunk: bytes, data: bytes) -> None:
    """A sink for what nobody needs."""


async def test_a_disk_that_led_must_be_loaded_before_it_follows(world: World) -> None:
    """Applying a commit onto a tree that moved on would give neither."""
    disk = await loaded(world)
    await follow(disk, world.author)
    await disk.set_head(None, world.author.tree)
    (world.root / "a").touch()
    with pytest.raises(BadInput):
        await journal(disk, *world.author.commit())


async def test_a_former_primary_follows_from_what_it_has(world: World) -> None:
    """Its tree is the manifest; the difference alone is sent, and stray files go."""
    disk = await loaded(world)
    (world.root / "a").write_bytes(b"a" * 3_000_000)
    await follow(disk, world.author)
    await disk.set_head(None, world.author.tree)
    (world.workspace / "stray").write_bytes(b"never acknowledged")
    disk = world.disk()
    kept = await disk.load()
    (world.root / "new").write_bytes(b"n")
    world.author.tree = kept.tree
    blobs, message = world.author.commit()
    assert sum(len(blob.data) for blob in blobs) == 1
    await journal(disk, blobs, message)
    assert (await world.disk().load()).head == message.commit
    assert world.different() == []
