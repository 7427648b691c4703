"""A gate: every request of every actor to the store waits in it; a seed decides which goes next, and its fate."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from dumont.errors import StoreError
from dumont.repository.record import STATE
from dumont.repository.upkeep.prune import LOCK
from dumont.store.base import Data
from dumont.store.memory import MemoryStore
from tests.simulation.saving.witness import Witness

PAGE_KEYS = 8
"""How many keys one request of a listing answers; between two requests others have their turn."""
_GHOST_SHARE = 0.4
T = TypeVar("T")


class Fate(Enum):
    """What becomes of a request: done; lost; done, with the answer lost; given up by its actor, and done later."""

    DONE = "done"
    LOST = "lost"
    UNANSWERED = "unanswered"
    LATE = "late"


@dataclass(eq=False)
class Request:
    """One request that waits. `again` carries it out once more, if its actor is gone by then."""

    actor: str
    operation: str
    key: str
    again: "Callable[[], Awaitable[Any]] | None"
    turn: "asyncio.Future[Fate]"


@dataclass
class Gate:
    """`trouble`: the share of requests that are lost in one way or another. `persistence`: how often whoever had the
    last turn has the next too, if it can: so that much, or little, happens between two requests of another. `trace`
    tells what happened, in order.
    """

    rng: random.Random
    trouble: float = 0.0
    persistence: float = 0.0
    last: str = ""
    steps: int = 0
    is_closed: bool = False
    waiting: list[Request] = field(default_factory=list)
    paused: dict[str, int] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    trace: list[str] = field(default_factory=list)
    ghosts: "set[asyncio.Task[None]]" = field(default_factory=set)

    async def turn(self, request: Request) -> Fate:
        """Wait until it may go."""
        if request.actor in self.dead or self.is_closed:
            raise asyncio.CancelledError
        self.waiting.append(request)
        try:
            return await request.turn
        except asyncio.CancelledError:  # whoever asked gave up, and can't call back what is on its way
            if request in self.waiting:
                self._abandon(request)
            raise

    def let_one_go(self) -> str | None:
        """Whose request goes next; None when nobody waits."""
        if not self.waiting:
            return None
        self.steps += 1
        actors = dict.fromkeys(request.actor for request in self.waiting)
        awake = [actor for actor in actors if self.paused.get(actor, 0) <= self.steps]
        is_on = self.last in awake and self.rng.random() < self.persistence
        actor = self.last if is_on else self.rng.choice(awake or list(actors))
        self.last = actor
        request = self.rng.choice([request for request in self.waiting if request.actor == actor])
        self.waiting.remove(request)
        fate = self._fate(request)
        self.trace.append(f"{self.steps} {request.actor} {request.operation} {request.key} {fate.value}")
        request.turn.set_result(fate)
        return actor

    def kill(self, actor: str) -> None:
        """It asks for nothing any more. What it has asked for may reach the store all the same, at any later time."""
        self.dead.add(actor)
        self.trace.append(f"{self.steps} {actor} is killed")
        for request in [request for request in self.waiting if request.actor == actor]:
            self._abandon(request)

    def close(self) -> None:
        """Nothing is asked for any more."""
        self.is_closed = True

    def haunt(self, request: Request) -> None:
        """Have it carried out at some later time."""
        task = asyncio.get_running_loop().create_task(self._haunt(request))
        self.ghosts.add(task)
        task.add_done_callback(self.ghosts.discard)

    def _abandon(self, request: Request) -> None:
        self.waiting.remove(request)
        if request.again is not None and not self.is_closed and self.rng.random() < _GHOST_SHARE:
            self.haunt(request)

    async def _haunt(self, request: Request) -> None:
        again = request.again
        assert again is not None
        ghost = Request(f"ghost of {request.actor}", request.operation, request.key, None, _future())
        self.paused[ghost.actor] = self.steps + self.rng.choice([0, 5, 50, 300])
        await self.turn(ghost)
        try:
            await again()
        except StoreError:
            return  # nobody is there to hear it

    def _fate(self, request: Request) -> Fate:
        if request.actor.startswith("ghost") or self.rng.random() >= self.trouble:
            return Fate.DONE
        return self.rng.choice([Fate.LOST, Fate.UNANSWERED, Fate.LATE if request.again is not None else Fate.LOST])


def _future() -> "asyncio.Future[Fate]":
    return asyncio.get_running_loop().create_future()


class Line:
    """One actor's way to the store in memory: the driver that is tested with everything in between."""

    def __init__(self, memory: MemoryStore, gate: Gate, witness: Witness, actor: str) -> None:
        self.memory, self.gate, self.witness, self.actor = memory, gate, witness, actor

    async def put(self, key: str, data: Data) -> None:
        body = bytes(data)

        async def put() -> None:
            await self.memory.put(key, body)
            self.witness.stored(key, body)

        await self._ask("put", key, put, may_haunt=True)

    async def get(self, key: str) -> bytes:
        return await self._ask("get", key, lambda: self.memory.get(key))

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return await self._ask("get", key, lambda: self.memory.get_range(key, start, length))

    async def size(self, key: str) -> int:
        return await self._ask("size", key, lambda: self.memory.size(key))

    async def exists(self, key: str) -> bool:
        return await self._ask("exists", key, lambda: self.memory.exists(key))

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        last = ""
        while True:
            page = await self._ask("list", f"{prefix} after {last}", lambda: self.page(prefix, last))  # noqa: B023
            for key in page:
                yield key
            if len(page) < PAGE_KEYS:
                return
            last = page[-1]

    async def delete(self, key: str) -> None:
        async def delete() -> None:
            await self.memory.delete(key)
            self.witness.deleted(key)

        # A place that is filled again after its object went is not safe from a delete that comes ages late.
        is_refilled = key == LOCK or (key.startswith(STATE) and "commits/" in key)
        await self._ask("delete", key, delete, may_haunt=not is_refilled)

    async def rest(self, steps: int) -> None:
        """Let others go on for so many steps, at least if there are others."""
        self.gate.paused[self.actor] = self.gate.steps + steps
        await self.gate.turn(Request(self.actor, "rest", "", None, _future()))

    async def page(self, prefix: str, after: str) -> list[str]:
        """The next keys of a listing."""
        found = []
        async for key in self.memory.keys(prefix):
            if key > after:
                found.append(key)
        return found[:PAGE_KEYS]

    async def _ask(self, operation: str, key: str, do: Callable[[], Awaitable[T]], may_haunt: bool = False) -> T:
        request = Request(self.actor, operation, key, do if may_haunt else None, _future())
        fate = await self.gate.turn(request)
        if fate is Fate.LATE:
            self.gate.haunt(request)
        if fate in (Fate.LATE, Fate.LOST):
            raise StoreError(f"{operation} {key}: the store did not answer")
        answer = await do()
        if fate is Fate.UNANSWERED:
            raise StoreError(f"{operation} {key}: the store did not answer")
        return answer
