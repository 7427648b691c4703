"""A pair: two replicas over a real socket, with real disks and a real live tree, and nobody else. `tests/` only.

    python -m tests.integration.pair standby DIRECTORY [DISK]

runs the standby's half in a process of its own, so that it can be traced: it writes its process id to `pid`,
its port to `port` and what halts it to `halted`. DISK names another disk than the real one, for negative controls.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from dumont.agent.boot import RunDir
from dumont.agent.numbers import WrittenNumbers
from dumont.agent.source import LiveSource
from dumont.clock import SystemClock
from dumont.errors import LinkClosed
from dumont.model.commit import Commit, CommitId
from dumont.model.instance import Role
from dumont.replication.ports import Disk, Host, Kept, Source
from dumont.replication.replica import Replica
from dumont.snapshot.disk import WorkspaceDisk
from dumont.snapshot.tree import Tree
from dumont.wire.control import Assignment, BranchSaved, Endpoints, Peer, Status
from dumont.wire.link import READ_AHEAD_BYTES, SocketLink, dial
from dumont.wire.stream import StreamMessage

WORKSPACE, EPOCH = "w", 1
GPU, CPU = "gpu", "cpu"
NOWHERE = Endpoints("127.0.0.1")
LOOK_EVERY_S = 0.02

MakeDisk = Callable[[Path, Path], Disk]


class SleepingDisk(WorkspaceDisk):
    """Acknowledges what was never fsynced."""

    async def sync(self) -> None:
        """Promise, and do nothing."""


class HastyDisk(WorkspaceDisk):
    """Acknowledges first and fsyncs a little later."""

    async def sync(self) -> None:
        self._late = asyncio.get_running_loop().create_task(self._sync_late())

    async def _sync_late(self) -> None:
        await asyncio.sleep(0.05)
        await super().sync()


DISKS: dict[str, MakeDisk] = {"WorkspaceDisk": WorkspaceDisk, "SleepingDisk": SleepingDisk, "HastyDisk": HastyDisk}


class NoWatchdog:
    """No lease, no workload to stop."""

    def lead(self, epoch: int) -> None: ...

    def renew(self, epoch: int, sent_at: float) -> None: ...

    def end(self, epoch: int) -> None: ...


class NoDoors:
    """Nobody comes in."""

    serving = 0

    def prepare(self, assignment: Assignment) -> None: ...

    def open(self, assignment: Assignment, head: Commit | None) -> None: ...

    def close(self) -> None: ...

    async def quiesce(self, assignment: Assignment) -> None: ...


class NoHistory:
    """No store."""

    async def keep_branch(self, name: str, tree: Tree, forked_from: CommitId | None, paths: set[bytes]) -> BranchSaved:
        raise AssertionError("nothing is fenced here")

    async def restore(self, id: CommitId) -> Kept:
        raise AssertionError("nothing is restored here")


@dataclass(frozen=True)
class Machine:
    """A directory as a machine's disk: the tree, the data beside it, and the run directory."""

    path: Path

    @property
    def workspace(self) -> Path:
        return self.path / "workspace"

    @property
    def run(self) -> RunDir:
        return RunDir(self.path / "run")

    def replica(self, name: str, make_disk: MakeDisk = WorkspaceDisk, source: type[LiveSource] = LiveSource) -> Replica:
        """A replica of that name on this machine, not started."""
        for directory in (self.workspace, self.path / "data", self.run.path):
            directory.mkdir(parents=True, exist_ok=True)
        disk = make_disk(self.workspace, self.path / "data")

        async def watch(tree: Tree) -> Source:
            return await source.open(self.run, self.workspace, getattr(disk, "index", None))

        numbers = WrittenNumbers(self.run.path / "numbers")
        return Replica(name, Host(disk, NoWatchdog(), NoDoors(), NoHistory(), numbers, SystemClock(), watch))


def assignment(role: Role) -> Assignment:
    """Both halves of the pair, in an epoch that the standby is in the ack set of."""
    other = CPU if role is Role.PRIMARY else GPU
    return Assignment(
        WORKSPACE, EPOCH, role, GPU, ack_set=(CPU,), ack_version=1, peers=(Peer(other, NOWHERE, role is Role.PRIMARY),)
    )


@contextlib.asynccontextmanager
async def leading(replica: Replica, port: Callable[[], int]) -> AsyncIterator[Replica]:
    """The primary's half: it leads, and dials whoever listens at `port` again and again."""
    await replica.start()
    await replica.assign(assignment(Role.PRIMARY))
    dialling = asyncio.create_task(_dial_forever(replica, port))
    try:
        yield replica
    finally:
        dialling.cancel()
        replica.crew.dismiss()


async def _dial_forever(replica: Replica, port: Callable[[], int]) -> None:
    while True:
        with contextlib.suppress(LinkClosed):
            link = await dial("127.0.0.1", port(), StreamMessage, tls=None)
            link.peer = CPU
            if attached := replica.attach(link):
                await asyncio.wait([attached])
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def following(replica: Replica) -> AsyncIterator[int]:
    """The standby's half: it follows whoever dials the port that is given."""
    await replica.start()
    await replica.assign(assignment(Role.STANDBY))

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replica.attach(SocketLink(reader, writer, StreamMessage, peer=GPU))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=READ_AHEAD_BYTES)
    async with server:
        yield server.sockets[0].getsockname()[1]
    replica.crew.dismiss()


def said(replica: Replica) -> Status:
    """What a server would be told."""
    return replica.status(NOWHERE)


async def _stand_by(machine: Machine, make_disk: MakeDisk) -> None:
    replica = machine.replica(CPU, make_disk)
    async with following(replica) as port:
        _put(machine.path / "pid", str(os.getpid()))
        _put(machine.path / "port", str(port))
        told = ""
        parent = os.getppid()
        while os.getppid() == parent:
            if (halted := said(replica).halted) != told:
                _put(machine.path / "halted", told := halted)
            await asyncio.sleep(LOOK_EVERY_S)


def _put(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text)
    unfinished.rename(path)


if __name__ == "__main__":
    asyncio.run(_stand_by(Machine(Path(sys.argv[2])), DISKS[(sys.argv[3:] or ["WorkspaceDisk"])[0]]))
