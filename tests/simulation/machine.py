"""An instance in the simulator: the real replica, duty and lease over a simulated disk, workload and network."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dumont.agent.duty import Duty, Lines
from dumont.clock import Clock
from dumont.control.decide import decide
from dumont.control.observe import Observatory
from dumont.control.shell import Decider
from dumont.errors import DiskFull, LinkClosed, NotDurable, Refused
from dumont.model.commit import Commit, CommitId
from dumont.model.policy import Policy
from dumont.replication.barrier import Answer
from dumont.replication.cut import Pace
from dumont.replication.lease import Beats, Lease, Verdict
from dumont.replication.ports import Host, Kept, Source
from dumont.replication.replica import Replica
from dumont.snapshot.tree import Tree
from dumont.wire.control import Assignment, Beat, BeatReply, BranchSaved, Endpoints, Peer
from tests.simulation.disk import SimDisk, SimSource
from tests.simulation.network import Network, SimLink


def as_asked(policy: Policy) -> Policy:
    """The same."""
    return policy


@dataclass(frozen=True)
class Swaps:
    """Parts to use instead of the real ones: how a negative control switches one protection off.

    `focus`: the only faults to make, by name; all when empty.
    """

    replica: type[Replica] = Replica
    disk: type[SimDisk] = SimDisk
    source: type[SimSource] = SimSource
    observatory: type[Observatory] = Observatory
    decide: Decider = decide
    policy: Callable[[Policy], Policy] = as_asked
    heeds_notice: bool = True
    focus: tuple[str, ...] = ()


@dataclass
class Surroundings:
    """What a machine shares with its world."""

    network: Network
    clock: Clock
    rng: random.Random
    dial_hub: Callable[[str, str], Awaitable[SimLink]]
    dial_peer: Callable[[str, str], Awaitable[SimLink]]
    asked: "Callable[[Machine], Ask]"
    swaps: "Swaps"
    branches: dict[str, set[bytes]] = field(default_factory=dict)
    counter: int = 0

    def next_value(self) -> bytes:
        self.counter += 1
        return b"%09d" % self.counter


@dataclass
class Ask:
    """One barrier as its caller remembers it: what it had written before, and where."""

    machine: str
    covered: dict[bytes, bytes]
    mapped: dict[bytes, bytes]
    answer: Answer | None = None


class Machine:
    """One rented machine: its disk outlives its processes; its death ends both."""

    def __init__(self, instance_id: str, world: Surroundings, on_gpu: bool) -> None:
        self.id = instance_id
        self.world = world
        self.on_gpu = on_gpu
        self.disk = world.swaps.disk(world.rng)
        self.lease = Lease()
        self.numbers = SimNumbers()
        self.doors = SimDoors(self)
        self.source: SimSource | None = None
        self.replica: Replica | None = None
        self.duty: Duty | None = None
        self.alive = True
        self.stubborn = 0.0
        self.clings = False
        """Its workload does not end when it is asked to."""
        self.leaving = ""
        self._engine: list[asyncio.Task[Any]] = []
        self._others: list[asyncio.Task[Any]] = []
        self._asks = 0

    # --- life and death

    @property
    def has_booted(self) -> bool:
        """Whether its processes were started once: a second engine on the same disk would be no machine at all."""
        return bool(self._others)

    def boot(self) -> None:
        """All processes start."""
        self._others = [self._spawn(self._pulse()), self._spawn(self._work()), self._spawn(self._ask())]
        self.start_engine()

    def start_engine(self) -> None:
        self._engine = [self._spawn(self._run_engine())]

    def crash_engine(self) -> None:
        """The engine's process dies; pulse, workload, disk and page cache go on."""
        for task in self._engine:
            task.cancel()
        self.world.network.kill(self.id + "/engine")
        if self.replica:
            self.replica.crew.dismiss()  # a dead process writes nothing more, not even one turn of the loop later
        self.replica = self.duty = self.source = None

    def die(self) -> None:
        """The machine is taken away, for good."""
        self.alive = False
        for task in self._engine + self._others:
            task.cancel()
        for process in ("/engine", "/pulse"):
            self.world.network.kill(self.id + process)
        if self.replica:
            self.replica.crew.dismiss()  # a dead process writes nothing more, not even one turn of the loop later
        self.replica = self.duty = self.source = None

    def power_cycle(self) -> None:
        """Every process dies and whatever was not fsynced with it; then it starts again."""
        self.die()
        self.resume()

    def resume(self) -> None:
        """It starts again on the disk that it had, without what was not fsynced there."""
        self.disk.power_cut()
        self.leaving = ""
        self.doors.serving = 0
        self.lease = Lease()
        self.numbers = SimNumbers()
        self.alive = True
        self.boot()

    # --- the engine

    async def _run_engine(self) -> None:
        world, history = self.world, SimHistory(self)
        host = Host(self.disk, SimWatchdog(self), self.doors, history, self.numbers, world.clock, self._watch)
        replica = self.world.swaps.replica(self.id, host, Pace(rounds_max=4))
        try:
            await replica.start()
        except (DiskFull, NotDurable):
            return
        self.replica = replica
        lines = Lines(
            server=lambda: self.world.dial_hub(self.id + "/engine", self.id),
            peer=self._dial_peer,
            endpoints=lambda: Endpoints(self.id, 22, 80, 7400),
            decorate=lambda status: msgspec.structs.replace(status, leaving=self.leaving),
        )
        self.duty = Duty(self.id, replica, lines, self.world.clock, self.world.rng)
        await self.duty.run()

    async def _dial_peer(self, peer: Peer) -> SimLink:
        return await self.world.dial_peer(self.id, peer.instance_id)

    async def _watch(self, tree: Tree) -> Source:
        self.source = self.world.swaps.source(self.disk.files, self.world.rng)
        self.source.stubborn = self.stubborn
        return self.source

    async def _pulse(self) -> None:
        """What the pulse process does, on the real accounting of beats and leases."""
        clock = self.world.clock
        beats = Beats(clock.monotonic())
        while True:
            try:
                link = await self.world.dial_hub(self.id + "/pulse", self.id)
                beats.opened(clock.monotonic())
                hearing = self._spawn(self._hear(link, beats))
                try:
                    while True:
                        epoch = self.replica.status(Endpoints("")).epoch if self.replica else 0
                        now = clock.monotonic()
                        await link.send(Beat(self.id, epoch, now, beats.heard_ms_ago(now)))
                        await clock.sleep(0.25)
                finally:
                    hearing.cancel()
            except LinkClosed:
                await clock.sleep(0.1)

    async def _hear(self, link: SimLink, beats: Beats) -> None:
        try:
            while True:
                reply: BeatReply = await link.receive()
                now = self.world.clock.monotonic()
                beats.heard(now)
                if reply.leads and self.lease.led == reply.epoch:
                    self.lease.renew(reply.epoch, reply.sent_at, now)
                elif self.lease.led is not None and reply.epoch > self.lease.led:
                    self.lease.end(reply.epoch)
        except LinkClosed:
            link.close()

    # --- the workload

    @property
    def may_work(self) -> bool:
        verdict = self.lease.tick(self.world.clock.monotonic())
        return self.doors.serving > 0 and verdict is Verdict.RUN and not (self.source and self.source.frozen)

    async def _work(self) -> None:
        """Writes a pair that belongs together, single files, renames, deletions and shared memory."""
        rng, clock = self.world.rng, self.world.clock
        while True:
            await clock.sleep(rng.uniform(0.005, 0.06))
            if not self.may_work:
                continue
            if rng.random() < 0.4:
                value = self.world.next_value()
                await self._write(b"pair/a", value)
                await clock.sleep(rng.uniform(0, 0.004))
                await self._write(b"pair/b", value)
            elif rng.random() < 0.2:
                await self._write(b"tmp/new", self.world.next_value())
                await self._rename(b"tmp/new", b"kept/%d" % rng.randrange(4))
            elif rng.random() < 0.1:
                self._map(b"shared", self.world.next_value())
            else:
                await self._write(b"d%d/f%d" % (rng.randrange(3), rng.randrange(6)), self.world.next_value())

    async def _write(self, path: bytes, value: bytes) -> None:
        while not self.may_work:
            await self.world.clock.sleep(0.002)
        self.disk.files.content[path] = value
        if self.source:
            self.source.touched(path)
            self.source.touched(path.rpartition(b"/")[0])

    async def _rename(self, path: bytes, to: bytes) -> None:
        while not self.may_work:
            await self.world.clock.sleep(0.002)
        if path in self.disk.files.content:
            self.disk.files.content[to] = self.disk.files.content.pop(path)
            for touched in (path, to, b"", b"tmp", b"kept"):
                if self.source:
                    self.source.touched(touched)

    def _map(self, path: bytes, value: bytes) -> None:
        """A write through shared memory: no hint; the map is visible while it lasts."""
        self.disk.files.content[path] = value
        if self.source:
            self.source.mapped_paths.add(path)

    async def _ask(self) -> None:
        """A program that takes barriers and remembers what each covered."""
        while True:
            await self.world.clock.sleep(self.world.rng.uniform(0.02, 0.4))
            if self.replica and self.may_work:
                ask = self.world.asked(self)
                ask.answer = await self.replica.barrier(timeout_s=3.0)

    def _spawn(self, work: Any) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_tell)
        return task


def _tell(task: "asyncio.Task[Any]") -> None:
    """A process that ends by an exception is a bug of ours; nobody awaits it here."""
    if not task.cancelled() and (error := task.exception()):
        context = {"message": "a process of an instance failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)


class SimNumbers:
    """Port `Numbers`: outlives the engine, and is lost with the power."""

    def __init__(self) -> None:
        self._last: CommitId | None = None

    def last(self) -> CommitId | None:
        return self._last

    def note(self, id: CommitId) -> None:
        self._last = id


class SimWatchdog:
    """Port `Watchdog`, on the real lease."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def lead(self, epoch: int) -> None:
        self._machine.lease.lead(epoch, self._machine.world.clock.monotonic())

    def renew(self, epoch: int, sent_at: float) -> None:
        self._machine.lease.renew(epoch, sent_at, self._machine.world.clock.monotonic())

    def end(self, epoch: int) -> None:
        self._machine.lease.end(epoch)


class SimDoors:
    """Port `Doors`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.serving = 0

    def prepare(self, assignment: Assignment) -> None:
        self.serving = 0

    def open(self, assignment: Assignment, head: Commit | None) -> None:
        self.serving = assignment.epoch

    def close(self) -> None:
        self.serving = 0

    async def quiesce(self, assignment: Assignment) -> None:
        await self._machine.world.clock.sleep(self._machine.world.rng.uniform(0, 0.2))
        if self._machine.clings:
            raise Refused("the workload goes on")
        self.serving = 0


class SimHistory:
    """Port `History`: branches are noted; nothing is restored, since no store is simulated."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def keep_branch(self, name: str, tree: Tree, forked_from: CommitId | None, paths: set[bytes]) -> BranchSaved:
        await self._machine.world.clock.sleep(0.05)
        self._machine.world.branches[name] = paths
        return BranchSaved(name, CommitId(0, 1), tree.root(), forked_from, tuple(sorted(paths)))

    async def restore(self, id: CommitId) -> Kept:
        raise AssertionError("no store is simulated")
