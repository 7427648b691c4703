"""The source on a real machine: a primary's live tree, its hints, and a workload that can be made to stand still."""

import asyncio
from collections.abc import Collection
from pathlib import Path

from dumont.agent.boot import RunDir
from dumont.agent.freeze import Freezer
from dumont.agent.inotify import Inotify
from dumont.agent.maps import mapped_files
from dumont.replication.ports import BlobSink, Grabbed, Hint, Reading
from dumont.snapshot.chunk import NO_KEY
from dumont.snapshot.index import Index
from dumont.snapshot.live import LiveTree
from dumont.snapshot.tree import Tree


class LiveSource:
    """The port `Source`, made of the parts that each do one thing."""

    def __init__(self, tree: LiveTree, inotify: Inotify, freezer: Freezer) -> None:
        self._tree = tree
        self._inotify = inotify
        self._freezer = freezer
        self.unasked: list[int] = []
        """Processes of the workload that would not tell, at the last `mapped`, what they map."""

    @classmethod
    async def open(cls, run: RunDir, directory: Path, index: Index | None = None, key: bytes = NO_KEY) -> "LiveSource":
        """The source of the workspace at `directory`, watched before this returns.

        `index` is what the disk of the same directory knows of it; chunks are named under `key`.
        Raises OSError when it can't be read.
        """
        inotify = await asyncio.to_thread(Inotify, directory)
        return cls(LiveTree(directory, index, key), inotify, Freezer(run))

    def close(self) -> None:
        """Let the workload run, and give watches and files back."""
        self._freezer.close()
        self._inotify.close()
        self._tree.close()

    @property
    def incomplete(self) -> str:
        """Why hints do not tell everything, so that the whole workspace is walked each time; "" when they do."""
        return self._inotify.incomplete

    async def wait(self) -> None:
        """Return when there are hints to take."""
        await self._inotify.wait()

    def hints(self) -> list[Hint]:
        """Everything that the kernel has queued, without waiting, and names whose inode was read by another name."""
        return self._inotify.drain() + [Hint(path) for path in sorted(self._tree.relinked())]

    def mapped(self) -> set[bytes]:
        """Files that a process of the workload may change through shared memory."""
        pids = [process.pid for generation in self._freezer.workload() for process in generation]
        found, self.unasked = mapped_files(self._tree.directory, pids)
        return found

    async def walk(self, below: bytes, known: Tree) -> set[bytes]:
        """Paths at or under `below` that differ from `known`, or might, or are gone."""
        return await self._tree.walk(below, known)

    async def size(self, paths: Collection[bytes]) -> int:
        """How many bytes `grab` would copy for `paths`."""
        return await self._tree.size(paths)

    async def copy(self, path: bytes, sink: BlobSink) -> Reading:
        """Read one path while the workload runs, each block handed to `sink`."""
        return await self._tree.copy(path, sink)

    async def grab(self, paths: Collection[bytes], bytes_max: int) -> list[Grabbed]:
        """Copy all `paths` into memory, unhashed. Raises BadInput when they exceed `bytes_max`."""
        return await self._tree.grab(paths, bytes_max)

    async def digest(self, grabbed: list[Grabbed], sink: BlobSink) -> list[Reading]:
        """Hash what was grabbed and hand its blocks to `sink`."""
        return await self._tree.digest(grabbed, sink)

    async def freeze(self, timeout_s: float) -> bool:
        """Stop the workload; True when every thread of it stands still. Blocks for about `timeout_s` at most:
        a thread of its own would wait for the interpreter's lock longer than a freeze lasts.
        """
        return self._freezer.freeze(timeout_s)

    async def thaw(self) -> None:
        """Let the workload run again, unless the watchdog holds it."""
        self._freezer.thaw()
