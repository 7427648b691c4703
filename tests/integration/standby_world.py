"""A world for tests of a standby's disk: a primary's directory, and the disk that follows it."""

from pathlib import Path

from dumont.demo.walker import describe, differences
from dumont.snapshot.chunk import chunk_id
from dumont.snapshot.disk import Limits, WorkspaceDisk
from dumont.wire.stream import Blob
from tests.integration.author import Author


class World:
    """A primary's directory, and a standby's disk."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "primary"
        self.workspace = top / "standby"
        self.author = Author(self.root)

    def disk(self, step: object = None) -> WorkspaceDisk:
        """The disk, as a process that was just started finds it."""
        keywords = {"step": step} if step else {}
        return WorkspaceDisk(self.workspace, self.top / "data", Limits(2**20), **keywords)  # type: ignore[arg-type]

    def different(self) -> list[str]:
        """What the walker finds different between the two."""
        return differences(describe(self.root), describe(self.workspace))


async def loaded(world: World, step: object = None) -> WorkspaceDisk:
    disk = world.disk(step)
    await disk.load()
    return disk


def blob_of(data: bytes) -> Blob:
    return Blob(chunk_id(data), data)
