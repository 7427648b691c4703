"""A network of named nodes: ordered links with delays, one-way cuts that are only silence, and clean closes."""

import asyncio
import random
from collections import deque
from typing import Any

from dumont.errors import LinkClosed

_RESEND_S = 0.2


class Network:
    """Who reaches whom. A cut direction loses nothing for good: like TCP, it delivers once the cut is mended."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.cuts: set[tuple[str, str]] = set()
        self.slow_s_max = 0.002
        self.doubles = 0.0
        self.links: set[SimLink] = set()
        self.frozen: set[str] = set()

    def reaches(self, source: str, target: str) -> bool:
        return (source, target) not in self.cuts

    def cut(self, node: str, others: list[str], direction: str) -> None:
        """Silence `node`: `out`, `in` or `both`."""
        for other in others:
            if direction in ("out", "both"):
                self.cuts.add((node, other))
            if direction in ("in", "both"):
                self.cuts.add((other, node))

    def heal(self, node: str) -> None:
        self.cuts = {(source, target) for source, target in self.cuts if node not in (source, target)}

    def delay_s(self) -> float:
        """Mostly short, now and then long."""
        if self._rng.random() < 0.01:
            return self._rng.uniform(0, 0.3)
        return self._rng.uniform(0.0001, self.slow_s_max)

    def thaw_s(self) -> float:
        """How long after its process woke a socket is read."""
        return self._rng.uniform(0, 0.4)

    def doubled(self) -> bool:
        return self._rng.random() < self.doubles

    async def connect(
        self, source: str, target: str, names: tuple[str, str] | None = None
    ) -> "tuple[SimLink, SimLink]":
        """A fresh pair of links; both directions must work, as a handshake needs them. `names`: what each is called."""
        await asyncio.sleep(self.delay_s())
        if not (self.reaches(source, target) and self.reaches(target, source)):
            await asyncio.sleep(1.0)
            raise LinkClosed(f"{target} does not answer")
        caller, callee = names or (source, target)
        near, far = SimLink(self, source, target, callee), SimLink(self, target, source, caller)
        near.other, far.other = far, near
        self.links |= {near, far}
        return near, far

    def kill(self, node: str) -> None:
        """The node's process died: its sockets close, which others see at once if the network carries it."""
        for link in sorted((link for link in self.links if link.node == node), key=lambda link: link.number):
            link.die()


class SimLink:
    """One end of a link. What was sent before a close still arrives; a dead node's end never speaks again."""

    _numbers = 0

    def __init__(self, network: Network, node: str, remote: str, peer: str) -> None:
        SimLink._numbers += 1
        self.number = SimLink._numbers
        self.node = node
        self.peer = peer
        self.other: SimLink
        self._network = network
        self._remote = remote
        self._inbox: deque[Any] = deque()
        self._arrived = asyncio.Event()
        self._closed = False
        self._dead = False
        self._outbox: deque[Any] = deque()
        self._carrying: asyncio.Task[None] | None = None

    async def send(self, message: Any) -> None:
        if self._closed or self._dead:
            raise LinkClosed(f"the link to {self.peer} is closed")
        self._outbox.append(message)
        if self._network.doubled() and _harmless_twice(message):
            self._outbox.append(message)
        self._carry()
        while len(self._outbox) > 200 and not self._closed:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)

    async def receive(self) -> Any:
        await self._thawed()
        while not self._inbox:
            if self._closed or self._dead:
                raise LinkClosed(f"{self.peer} went away")
            self._arrived.clear()
            await self._arrived.wait()
            await self._thawed()
        return self._inbox.popleft()

    async def _thawed(self) -> None:
        """A process that stood still reads its sockets in any order afterwards."""
        if self.node in self._network.frozen:
            while self.node in self._network.frozen:
                await asyncio.sleep(0.01)
            await asyncio.sleep(self._network.thaw_s())

    def close(self) -> None:
        """Hang up: an abort, so nothing more is read here; the other side sees it after what was sent."""
        if not self._closed:
            self._closed = True
            self._inbox.clear()
            self._arrived.set()
            self._outbox.append(_BYE)
            self._carry()

    def die(self) -> None:
        """The process behind this end is gone; its kernel closes the socket."""
        if not self._dead:
            self._dead = True
            self._outbox.clear()
            self._outbox.append(_BYE)
            self._carry()

    def _carry(self) -> None:
        if self._carrying is None or self._carrying.done():
            self._carrying = asyncio.get_running_loop().create_task(self._deliver())

    async def _deliver(self) -> None:
        while self._outbox:
            await asyncio.sleep(self._network.delay_s())
            while not self._network.reaches(self.node, self._remote):
                await asyncio.sleep(_RESEND_S)
            if not self._outbox:
                return
            message = self._outbox.popleft()
            if message is _BYE:
                self.other.hang_up()
                self._network.links.discard(self)
                return
            self.other.take(message)

    def take(self, message: Any) -> None:
        if not (self._closed or self._dead):
            self._inbox.append(message)
            self._arrived.set()

    def hang_up(self) -> None:
        self._closed = True
        self._arrived.set()


_BYE = object()


def _harmless_twice(message: Any) -> bool:
    return type(message).__name__ in {
        "Assignment",
        "Status",
        "Beat",
        "BeatReply",
        "Ack",
        "Ping",
        "Pong",
        "Probe",
        "Routes",
    }
