"""A world made from a seed: machines, server, gateway and provider around the real code, with faults, then without."""

import asyncio
import logging
import random
from collections import Counter
from dataclasses import dataclass

import structlog

from dumont.control.history import PROMOTED
from dumont.db.memory import MemoryDatabase
from dumont.errors import LinkClosed
from dumont.model.instance import Machine as MachineKind
from dumont.model.workspace import State, Workspace
from dumont.provider.memory import Faults, MemoryProvider, Rented
from dumont.wire.control import Endpoints
from dumont.wire.route import GatewayHello, Probe, Routes
from tests.simulation.bills import Bills
from tests.simulation.checks import Broken, Checks
from tests.simulation.faults import Mischief
from tests.simulation.loop import VirtualClock, VirtualLoop
from tests.simulation.machine import Machine, Surroundings, Swaps
from tests.simulation.market import draw_hosts, draw_policy
from tests.simulation.network import Network, SimLink
from tests.simulation.server import FreezableClock, Server

NAME = "sim"
FAULTY_S = 25.0
HEALED_S_MAX = 180.0
REAL = Swaps()


@dataclass(frozen=True)
class Outcome:
    """What a run did, to show that it did something."""

    seed: int
    events: int
    acknowledged: int
    promotions: int
    epoch: int
    faults: tuple[str, ...]
    reasons: tuple[tuple[str, int], ...]


class World:
    """Everything of one run."""

    def __init__(self, seed: int, loop: VirtualLoop, calm: bool, swaps: Swaps) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.loop = loop
        self.calm = calm
        self.clock = VirtualClock(loop)
        self.network = Network(self.rng)
        self.database = MemoryDatabase(self.clock)
        self.provider = MemoryProvider(
            self.clock,
            self.rng,
            faults=Faults(boot_s=0.5, slow_s=0.2),
            on_start=self._rented,
            on_end=self._ended,
            on_resume=self._resumed,
            on_notice=self._warned,
            hosts=draw_hosts(self.rng),
        )
        self.policy = draw_policy(self.rng)
        self.machines: dict[str, Machine] = {}
        self.checks = Checks(self)
        self.bills = Bills(self)
        self.mischief = Mischief(self)
        self.surroundings = Surroundings(
            self.network, self.clock, self.rng, self._dial_hub, self._dial_peer, self.checks.asked, swaps
        )
        self.server: Server | None = None
        self.stopped: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> Outcome:
        """Faults first, then none: safety all along, liveness at the end. Raises Broken."""
        policy = self.surroundings.swaps.policy(self.policy)
        await self.database.add_workspace(
            Workspace(name=NAME, created_at=self.clock.now(), policy=policy, ssh_port=2000, http_port=2001)
        )
        self.start_server()
        self._spawn(self._gateway())
        self.loop.after_event = self._check
        mischief = self.mischief
        await mischief.make(FAULTY_S)
        mischief.heal_everything()
        await self._recover()
        row = await self.database.workspace(NAME)
        if self.calm and row.epoch > 1 + mischief.switchovers(row):
            raise Broken(f"I6: nothing happened to the primary, and the epoch is {row.epoch}")
        self.loop.after_event = None
        return Outcome(
            self.seed,
            self.loop.events,
            self.checks.acknowledged,
            self.checks.promotions,
            row.epoch,
            tuple(mischief.log),
            self._reasons(),
        )

    def _reasons(self) -> tuple[tuple[str, int], ...]:
        """Why somebody was promoted, and how often."""
        events = self.database._events.get(NAME, [])
        return tuple(sorted(Counter(str(one.facts["reason"]) for one in events if one.kind == PROMOTED).items()))

    def _check(self) -> None:
        self.mischief.after_event()
        self.checks.after_event()
        self.bills.after_event()

    async def _recover(self) -> None:
        """Liveness: without faults the workspace runs again with two copies, and a barrier is acknowledged."""
        deadline = self.clock.monotonic() + HEALED_S_MAX
        while self.clock.monotonic() < deadline:
            before = self.checks.acknowledged
            await self.clock.sleep(2.0)
            row = await self.database.workspace(NAME)
            if row.state is State.LOST and self.mischief.forgiven:
                return
            if self.mischief.dry and self.bills.is_settled_without_gpu(row):
                return
            if row.state is State.RUNNING and self.checks.acknowledged > before and self.bills.is_settled(row):
                return
        raise Broken(f"liveness: still {row.state} {HEALED_S_MAX:g} s after the last fault: {self._situation(row)}")

    def _situation(self, row: Workspace) -> str:
        """What a person needs to see of a world that does not recover."""
        lines = [f"epoch {row.epoch} primary {row.primary_id} ack set {set(row.ack_set)} to {row.switching_to!r}"]
        for machine in self.machines.values():
            status = machine.replica.status(Endpoints("")) if machine.replica else None
            instance = self.database._instances[machine.id]
            lines.append(f"{machine.id} alive={machine.alive} {instance.state} lost={instance.lost} {status}")
        events = [f"{event.at:%M:%S} {event.kind} {event.facts}" for event in self.database._events.get(NAME, [])]
        return "\n".join([*lines, *events[-40:]])

    # --- the server

    def start_server(self) -> None:
        self.server = Server(
            self.surroundings,
            FreezableClock(self.clock, lambda: "server" in self.stopped),
            self.database,
            self.provider,
        )
        self.server.start()

    def crash_server(self) -> None:
        if self.server:
            self.server.crash()
            self.server = None

    async def _dial_hub(self, node: str, name: str) -> SimLink:
        near, far = await self.network.connect(node, "server", (name, "server"))
        while "server" in self.network.frozen:
            await self.clock.sleep(0.05)
        if self.server is None:
            raise LinkClosed("nobody listens at the server's port")
        self.server.serve(far)
        return near

    # --- machines

    def _rented(self, rented: Rented) -> None:
        machine = Machine(rented.label, self.surroundings, rented.offer.machine is MachineKind.GPU)
        self.machines[rented.label] = machine
        self._spawn(self._boot(machine))

    async def _boot(self, machine: Machine) -> None:
        await self.clock.sleep(self.rng.uniform(0.2, 1.5))
        if machine.alive and not machine.has_booted:  # it may have been outbid and resumed before it came up
            machine.boot()

    def _ended(self, rented: Rented) -> None:
        self.machines[rented.label].die()

    def _resumed(self, rented: Rented) -> None:
        self.machines[rented.label].resume()

    def _warned(self, rented: Rented) -> None:
        if self.surroundings.swaps.heeds_notice:
            self.machines[rented.label].leaving = "preempted"

    async def _dial_peer(self, source: str, target: str) -> SimLink:
        near, far = await self.network.connect(source + "/engine", target + "/engine", (source, target))
        machine = self.machines.get(target)
        if machine is None or machine.duty is None:
            raise LinkClosed(f"{target} refuses the connection")
        machine.duty.accept(far)
        return near

    # --- the gateway

    async def _gateway(self) -> None:
        """A gateway that probes, as the real one does on sockets."""
        while True:
            try:
                link = await self._dial_hub("gateway", "gateway")
                await link.send(GatewayHello(1))
                probing = asyncio.get_running_loop().create_task(self._probe_forever(link))
                try:
                    while True:
                        message = await link.receive()
                        if isinstance(message, Routes):
                            self._routes = message
                finally:
                    probing.cancel()
            except LinkClosed:
                await self.clock.sleep(0.2)

    _routes = Routes(())

    async def _probe_forever(self, link: SimLink) -> None:
        heard_at: dict[str, float] = {}
        try:
            while True:
                for route in self._routes.routes:
                    machine = self.machines.get(route.instance_id)
                    if route.endpoints is None or machine is None:
                        continue
                    node = machine.id + "/engine"
                    now = self.clock.monotonic()
                    through = self.network.reaches("gateway", node) and self.network.reaches(node, "gateway")
                    serving = machine.alive and machine.doors.serving == route.epoch
                    if through:
                        heard_at[machine.id] = now
                    silent_ms = int((now - heard_at.setdefault(machine.id, now)) * 1000)
                    await link.send(Probe(route.workspace, machine.id, serving or not through, silent_ms))
                await self.clock.sleep(0.25)
        except LinkClosed:
            return

    def _spawn(self, work: "asyncio.coroutines.Coroutine[object, object, None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def simulate(seed: int, calm: bool = False, swaps: Swaps = REAL) -> Outcome:
    """Run one world to its end in virtual time. Raises Broken or whatever the code under test raised."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    loop = VirtualLoop()
    world = World(seed, loop, calm, swaps)
    failures: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    try:
        outcome = loop.run_until_complete(world.run())
        for context in failures:
            if isinstance(error := context.get("exception"), Exception):
                raise Broken(f"an exception nobody handled: {context['message']}") from error
        return outcome
    except Broken as broken:
        broken.add_note("\n".join(world.mischief.log))
        raise
    finally:
        loop.after_event = None
        loop.run_until_complete(_end_all())
        loop.close()


async def _end_all() -> None:
    """Cancel every task until none is left: the ends of some start others."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=1)
