"""A server process in the simulator: the real hub, control loop and sweeper over a database that survives it."""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

from dumont.control.act import Acts, Landing
from dumont.control.hub import Hub
from dumont.control.shell import Shell
from dumont.control.sweep import Sweeper
from dumont.control.vault import Vault
from dumont.db.memory import MemoryDatabase
from dumont.provider.memory import MemoryProvider
from dumont.store.memory import MemoryStore
from tests.simulation.loop import VirtualClock
from tests.simulation.machine import Surroundings
from tests.simulation.network import SimLink


class FreezableClock:
    """The clock as a process sees it that may stand still: a sleep that ends meanwhile returns afterwards."""

    def __init__(self, clock: VirtualClock, frozen: Callable[[], bool]) -> None:
        self._clock = clock
        self._frozen = frozen

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def now(self) -> datetime:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        while self._frozen():
            await self._clock.sleep(0.01)


class SlowDatabase:
    """The database as one process reaches it: every call takes a moment before it counts, and none after its death."""

    def __init__(self, database: MemoryDatabase, rng: random.Random) -> None:
        self._database = database
        self._rng = rng
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._database, name)

        async def call(*args: Any, **named: Any) -> Any:
            await asyncio.sleep(self._rng.uniform(0, 0.002))
            if self.dead:
                await asyncio.get_running_loop().create_future()
            answer = await method(*args, **named)
            await asyncio.sleep(self._rng.uniform(0, 0.002))
            return answer

        return call


class NoSigner:
    """Instances of a simulation are known by the names of their links."""

    def issue_instance(self, csr_pem: str, instance_id: str, workspace: str) -> str:
        raise AssertionError("nobody joins in a simulation")


class Server:
    """One incarnation of the server process."""

    def __init__(
        self, world: Surroundings, frozen: FreezableClock, database: MemoryDatabase, provider: MemoryProvider
    ) -> None:
        rng = world.rng
        self._network = world.network
        self._provider = provider
        self.database = SlowDatabase(database, rng)
        landing = Landing(1, "", lambda instance_id: instance_id)
        acts = Acts(self.database, {provider.name: provider}, landing, frozen, rng)  # type: ignore[arg-type]
        observatory = world.swaps.observatory(frozen)
        vault = Vault(MemoryStore(), bytes(32), rng.randbytes)
        self.hub = Hub(self.database, observatory, NoSigner(), vault, frozen)
        self.shell = Shell(acts, self.hub, observatory, frozen, world.swaps.decide)
        self.listing = acts.listing
        self._sweeper = Sweeper(acts, observatory, frozen)
        self._acts = acts
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        self._spawn(self.shell.run())
        self._spawn(self._sweeper.run(self._provider))

    def serve(self, link: SimLink) -> None:
        self._spawn(self.hub.serve(link))

    def crash(self) -> None:
        """kill -9: nothing it was about to write is written."""
        self.database.dead = True
        for task in list(self._tasks):
            task.cancel()
        for errand in self._acts._errands.values():
            if errand.task:
                errand.task.cancel()
        self._network.kill("server")

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
