"""What hints leave out: dropped ones, times that were put back, shared memory. A barrier must cover it, or name it.

Each protection is tried twice on the same story, as it is and switched off: then the very same comparison must fail.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dumont.agent.source import LiveSource
from dumont.demo.walker import describe, differences
from dumont.replication.barrier import Answer
from dumont.replication.ports import Happening, Hint
from dumont.replication.replica import Replica
from dumont.snapshot.tree import Tree
from tests.integration.household import Household, household, within
from tests.integration.pair import CPU, GPU, Machine, following, leading, said

pytestmark = pytest.mark.timeout(60)

FILES = 500
QUEUED_MAX = Path("/proc/sys/fs/inotify/max_queued_events")
SMALL_BYTES, LARGE_BYTES = 100_000, 9_000_000
APPLIED_S_MAX = 20.0
MAPPER = """
import mmap, os, sys, time
path, go, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(path, "wb") as file:
    file.truncate(size)
with open(path, "r+b") as file:
    shared = mmap.mmap(file.fileno(), size)
open(go + ".ready", "w").close()
while not os.path.exists(go):
    time.sleep(0.005)
shared[size - 100 : size - 97] = b"yes"
open(go + ".done", "w").close()
time.sleep(1000)
"""


class DeafSource(LiveSource):
    """Does not care that hints were dropped."""

    def hints(self) -> list[Hint]:
        return [hint for hint in super().hints() if hint.happening is not Happening.OVERFLOW]


class TrustingSource(LiveSource):
    """Takes a file of the same size and mtime for unchanged."""

    async def walk(self, below: bytes, known: Tree) -> set[bytes]:
        found = await super().walk(below, known)
        return {path for path in found if not self._seems_unchanged(path, known)}

    def _seems_unchanged(self, path: bytes, known: Tree) -> bool:
        entry = known.get(path)
        with contextlib.suppress(FileNotFoundError):
            seen = os.lstat(os.path.join(os.fsencode(self._tree.directory), path))
            return entry is not None and (entry.mtime_ns, entry.size) == (seen.st_mtime_ns, seen.st_size)
        return False


class BlindSource(LiveSource):
    """Does not look for files that are written through shared memory."""

    def mapped(self) -> set[bytes]:
        return set()


@dataclass
class Story:
    """A primary with its workload, and a standby."""

    house: Household
    primary: Replica
    standby: Replica
    tree: Path
    copy: Path

    async def barrier(self) -> Answer:
        """A barrier that must return OK; returns when the standby's files are those of its commit."""
        answer = await self.primary.barrier((), 30.0)
        assert answer.ok, answer.reason
        assert answer.commit
        give_up = time.monotonic() + APPLIED_S_MAX
        while (applied := said(self.standby).applied) is None or applied < answer.commit.id:
            assert time.monotonic() < give_up, f"{applied} is applied, not {answer.commit.id}: {said(self.standby)}"
            await asyncio.sleep(0.01)
        return answer

    async def missing(self) -> list[str]:
        """What the standby holds otherwise than it was written, of what the last commit before it did not name."""
        answer = await self.barrier()
        assert answer.commit
        named = {*answer.commit.fuzzy, *answer.commit.uncovered}
        mine, copied = describe(self.tree), describe(self.copy)
        for path in named:
            mine.pop(path, None)
            copied.pop(path, None)
        return differences(mine, copied)

    async def map(self, name: str, size: int) -> Callable[[], None]:
        """Have the workload map a file; what is given back makes it write there, and waits until it did."""
        go = self.house.directory / f"go-{name}"
        (self.house.directory / "mapper.py").write_text(MAPPER)
        before = len(self.house.workload())
        words = [sys.executable, self.house.directory / "mapper.py", self.tree / name, go, size]
        self.house.ask(" ".join(map(str, words)), before + 1)
        while not go.with_name(f"{go.name}.ready").exists():
            await asyncio.sleep(0.01)

        def write() -> None:
            go.touch()
            within(5.0, go.with_name(f"{go.name}.done").exists, "the workload wrote")

        return write


@contextlib.asynccontextmanager
async def telling(directory: Path, source: type[LiveSource]) -> AsyncIterator[Story]:
    """A pair in this process, the primary's live tree being read by `source`."""
    gpu, cpu = Machine(directory / "gpu"), Machine(directory / "cpu")
    gpu.path.mkdir()
    with household(gpu.path) as house:
        standby, primary = cpu.replica(CPU), gpu.replica(GPU, source=source)
        async with following(standby) as port, leading(primary, lambda: port):
            story = Story(house, primary, standby, gpu.workspace, cpu.workspace)
            (story.tree / "before").write_text("something")
            await story.barrier()
            yield story


async def many_creates(story: Story) -> None:
    """After so many other changes that the kernel has no room for hints. Nobody takes any: this never awaits."""
    one, other = story.tree / "one", story.tree / "other"
    one.touch()
    other.touch()
    for _ in range(int(QUEUED_MAX.read_text()) // 2 + 1):  # two of one file in a row would be one hint
        os.utime(one)
        os.utime(other)
    for number in range(FILES):
        (story.tree / f"file-{number}").write_bytes(b"%d" % number)


async def a_time_put_back(story: Story) -> None:
    """Same size, same mtime, and the hint of it among those that are dropped."""
    quiet = story.tree / "quiet"
    quiet.write_bytes(b"before" * 1000)
    await story.barrier()
    seen = quiet.stat()
    await many_creates(story)
    with quiet.open("r+b") as file:
        file.write(b"after!" * 1000)
    os.utime(quiet, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert (quiet.stat().st_mtime_ns, quiet.stat().st_size) == (seen.st_mtime_ns, seen.st_size)


async def writes_through_shared_memory(story: Story) -> None:
    """A small file, and one that is too large to be read while the workload stands still."""
    small, large = await story.map("small", SMALL_BYTES), await story.map("large", LARGE_BYTES)
    await story.barrier()
    small()
    large()


Tell = Callable[[Story], Coroutine[Any, Any, None]]
STORIES: dict[str, tuple[Tell, type[LiveSource], str]] = {
    "overflow": (many_creates, DeafSource, "b'file-499': only in the first"),
    "mtime": (a_time_put_back, TrustingSource, "b'quiet': sha256"),
    "mmap": (writes_through_shared_memory, BlindSource, "b'small': sha256"),
}


@pytest.mark.parametrize("name", STORIES)
async def test_a_barrier_covers_or_names_it(short_dir: Path, name: str) -> None:
    """Its OK is believed by people who then let the machine go."""
    tell, _, _ = STORIES[name]
    async with telling(short_dir, LiveSource) as story:
        await tell(story)
        assert await story.missing() == []


@pytest.mark.parametrize("name", STORIES)
async def test_without_its_protection_the_comparison_finds_it_missing(short_dir: Path, name: str) -> None:
    """The negative control: a comparison that finds nothing here would prove nothing above."""
    tell, without, what = STORIES[name]
    async with telling(short_dir, without) as story:
        await tell(story)
        assert any(line.startswith(what) for line in await story.missing())
