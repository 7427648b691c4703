"""A primary and its standby in one process and in virtual time: real replication over simulated disks and links."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dumont.clock import Clock
from dumont.model.commit import Commit, CommitId
from dumont.replication.crew import Crew
from dumont.replication.cut import Cutter, Pace
from dumont.replication.ports import Host, Kept, Promise, Source
from dumont.replication.primary import Primary, Seat
from dumont.replication.standby import Standby, hello_of
from dumont.snapshot.tree import Tree
from dumont.wire.control import Assignment, BranchSaved
from tests.simulation.disk import SimDisk, SimSource
from tests.simulation.loop import VirtualClock, VirtualLoop
from tests.simulation.machine import SimNumbers
from tests.simulation.network import Network, SimLink

T = TypeVar("T")
WORKSPACE = "films"


async def passes(seconds: float) -> None:
    """So much virtual time goes by."""
    await asyncio.sleep(seconds)


class Doors:
    """Port `Doors`, remembering what was asked. `refusal` is what `quiesce` raises."""

    def __init__(self) -> None:
        self.serving = 0
        self.refusal: Exception | None = None
        self.log: list[str] = []

    def prepare(self, assignment: Assignment) -> None:
        self.serving = 0
        self.log.append(f"prepare {assignment.epoch}")

    def open(self, assignment: Assignment, head: Commit | None) -> None:
        self.serving = assignment.epoch
        self.log.append(f"open {assignment.epoch}")

    def close(self) -> None:
        self.serving = 0
        self.log.append("close")

    async def quiesce(self, assignment: Assignment) -> None:
        self.serving = 0
        self.log.append(f"quiesce {assignment.epoch}")
        if self.refusal:
            raise self.refusal


class Watchdog:
    """Port `Watchdog`, remembering what was said."""

    def __init__(self) -> None:
        self.led: list[int] = []
        self.renewed: list[int] = []
        self.ended: list[int] = []

    def lead(self, epoch: int) -> None:
        self.led.append(epoch)

    def renew(self, epoch: int, sent_at: float) -> None:
        self.renewed.append(epoch)

    def end(self, epoch: int) -> None:
        self.ended.append(epoch)


class History:
    """Port `History`. `failing` is raised by every call; `kept` remembers branches."""

    def __init__(self) -> None:
        self.failing: Exception | None = None
        self.kept: dict[str, set[bytes]] = {}

    async def keep_branch(self, name: str, tree: Tree, forked_from: CommitId | None, paths: set[bytes]) -> BranchSaved:
        if self.failing:
            raise self.failing
        self.kept[name] = paths
        return BranchSaved(name, CommitId(0, 1), tree.root(), forked_from, tuple(sorted(paths)))

    async def restore(self, id: CommitId) -> Kept:
        if self.failing:
            raise self.failing
        return Kept(head=Commit(id, None, Tree().root(), 0, consistent=True), tree=Tree())


class Side:
    """One instance: its disk, what plays on it, and the ports around."""

    source_type: type[SimSource] = SimSource

    def __init__(self, name: str, clock: Clock, disk: SimDisk | None = None) -> None:
        self.name = name
        self.rng = random.Random(name)
        self.disk = disk or SimDisk(self.rng)
        self.doors, self.watchdog, self.history, self.numbers = Doors(), Watchdog(), History(), SimNumbers()
        self.crew = Crew()
        self.source: SimSource = self.source_type(self.disk.files, self.rng)
        self.host = Host(self.disk, self.watchdog, self.doors, self.history, self.numbers, clock, self._watch)
        self.pace = Pace(rounds_max=3)

    async def _watch(self, tree: Tree) -> Source:
        self.source = self.source_type(self.disk.files, self.rng)
        return self.source

    def write(self, path: bytes, data: bytes | None) -> None:
        """What a program does: change a file, and have the kernel hint at it. None deletes."""
        if data is None:
            self.disk.files.content.pop(path, None)
        else:
            self.disk.files.content[path] = data
        self.source.touched(path)
        self.source.touched(path.rpartition(b"/")[0])

    def lead(self, epoch: int, members: tuple[str, ...] = ()) -> Primary:
        """Begin to lead a tree of which nothing is known."""
        cutter = Cutter(self.source, Tree(), self.host.clock, self.pace)
        cutter.distrust_everything()
        primary = Primary(Seat(WORKSPACE, self.name, epoch), cutter, None, self.host, self.crew)
        primary.adopt(1, members)
        self.crew.start(primary.run())
        return primary

    async def follow(self, epoch: int, primary_id: str) -> Standby:
        """Begin to follow, with what the disk holds."""
        kept = await self.disk.load()
        await self.disk.promise(Promise(epoch))
        return Standby(hello_of(WORKSPACE, self.name, epoch), primary_id, kept, self.host, self.crew)


class Stage:
    """What a test plays on: two sides, `gpu` and `cpu`, and links between them."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.clock = VirtualClock(loop)
        self.network = Network(random.Random(7))
        self.gpu, self.cpu = Side("gpu", self.clock), Side("cpu", self.clock)

    async def wire(self) -> tuple[SimLink, SimLink]:
        """A link: the end of `gpu`, whose peer is `cpu`, and the other."""
        return await self.network.connect("gpu", "cpu")

    async def connect(self, primary: Primary, standby: Standby) -> tuple[SimLink, SimLink]:
        """Have the two talk over a new link."""
        near, far = await self.wire()
        standby.attach(far)
        primary.attach(near)
        return near, far

    async def until(self, true: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait in virtual time until something holds; it has to."""
        end = self.clock.monotonic() + seconds
        while not true():
            assert self.clock.monotonic() < end, "it never came true"
            await asyncio.sleep(0.005)


def play(story: Callable[[Stage], Awaitable[T]]) -> T:
    """Run `story` to its end in virtual time. What a task failed of that nobody awaited fails the test."""
    loop = VirtualLoop()
    failures: list[BaseException] = []
    stage = Stage(loop)

    async def told() -> T:
        try:
            return await story(stage)
        finally:
            for side in (stage.gpu, stage.cpu):
                failures.extend(side.crew._failures)
                side.crew.dismiss()

    try:
        answer = loop.run_until_complete(told())
        loop.run_until_complete(asyncio.sleep(1))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(1))
        loop.close()
    if failures:
        raise failures[0]
    return answer
