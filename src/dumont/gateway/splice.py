"""A splice: one client's connection to a workspace, waiting for a primary or joined to one.

A client is accepted at once. Until the first byte of a primary reached it, the splice is *undecided*: whatever the
client said is held, and another primary, or the same one a moment later, may be tried. Nothing is replayed afterwards.
Only a bounded amount is ever held: what one side does not take, the other side is not read for.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from dumont.wire.control import Endpoints
from dumont.wire.route import Route

WAIT_S = 30.0
"""How long a client waits for a primary before it is let down."""
CONNECT_S = 1.0
"""How long one attempt to connect may take; a SYN that got lost is sent again after a second anyway."""
GRACE_S = 0.02
"""After closed doors were met once, how long they may take to close before the client's bytes are given away again."""
HELD_BYTES_MAX = 32 * 2**10
"""What is held of an undecided client; also the most that can be replayed."""
READ_BYTES_MAX = 256 * 2**10
IN_FLIGHT_BYTES_MAX = 512 * 2**10
"""What one direction of a decided splice buffers, besides the kernel, before its source is not read any more."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Patience:
    """How long a splice stays undecided after it connected, and how often a client's bytes may be given away.

    An HTTP request that a dying primary took may have been carried out, so it is repeated a few times at most, each
    time after the primary said anew that its doors are open; an SSH server speaks first and has done nothing before.
    """

    undecided_s: float
    deliveries_max: int


SSH = Patience(undecided_s=WAIT_S, deliveries_max=10_000)
HTTP = Patience(undecided_s=1.0, deliveries_max=5)


class Door(Protocol):
    """Where a client came in, and what it says of where to go.

    `buffer` is shared by all sides of all splices; `attempts` bounds how many of a workspace connect at once.
    """

    patience: Patience
    buffer: memoryview
    attempts: asyncio.Semaphore

    @property
    def route(self) -> Route:
        """Where the workspace is now."""

    @property
    def answers(self) -> int:
        """Grows whenever a primary answered somebody: a sign to try again for all who wait."""

    @property
    def retry_s(self) -> float:
        """How long to wait between two attempts, by how many wait."""

    def port(self, endpoints: Endpoints) -> int:
        """The port of an instance that belongs to this door; 0 when it is not open."""

    def may_try(self, deliveries: int) -> bool:
        """Whether there is a point in connecting for a client whose bytes were given away so often in vain."""

    def doubt(self) -> None:
        """A primary took a client's bytes and closed without a word."""

    def arrived(self, splice: "Splice") -> None:
        """Its client is connected."""

    def decided(self, splice: "Splice") -> None:
        """Its client waits no longer."""

    def left(self, splice: "Splice") -> None:
        """Its client is gone."""


class Side(asyncio.BufferedProtocol):
    """One TCP connection of a splice. `ended`: it will send nothing more. `lost`: it is closed both ways."""

    def __init__(self, splice: "Splice", buffer: memoryview) -> None:
        self._splice = splice
        self._buffer = buffer  # shared by all sides: it is emptied in the same step of the loop in which it was filled
        self._transport: asyncio.Transport | None = None
        self._stuffed = False
        self.ended = False
        self.lost = False
        self.connected = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=IN_FLIGHT_BYTES_MAX)
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connected = True
        self._splice.on_connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[: self._splice.room(self)]

    def buffer_updated(self, nbytes: int) -> None:
        self._splice.on_bytes(self, bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool:
        self.ended = True
        self._splice.on_end(self)
        return True  # the other direction may go on

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._splice.on_lost(self, exc)

    def pause_writing(self) -> None:
        self._stuffed = True
        self._splice.balance()

    def resume_writing(self) -> None:
        self._stuffed = False
        self._splice.balance()

    @property
    def stuffed(self) -> bool:
        """Whether it takes no more for now."""
        return self._stuffed

    def write(self, data: bytes) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(data)

    def end(self) -> None:
        """Pass on that nothing more will come, once everything that came was sent."""
        if self._transport and not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def read(self, wanted: bool) -> None:
        if self._transport is None or self._transport.is_closing() or self.ended:
            return
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self) -> None:
        """Close once everything that was written is sent."""
        if self._transport:
            self._transport.close()

    def reset(self) -> None:
        """Cut at once, so that nobody takes half an answer for a whole one."""
        if self._transport and not self.lost:
            connection: socket.socket = self._transport.get_extra_info("socket")
            if connection.fileno() != -1:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()


class Splice:
    """One client on its way through a door of the address."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._stirred = asyncio.Event()
        self._held = bytearray()
        self._deliveries = 0
        self._delivered = False
        self._resting = False
        self.client = Side(self, door.buffer)
        self.primary: Side | None = None
        self.route: Route | None = None
        self.decided = False

    # --- the way to a primary

    async def find_primary(self) -> None:
        """Try until a primary spoke, the client left, or patience ends; then the client is let down."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + WAIT_S
        while not self._settled:
            route, answers = self._door.route, self._door.answers
            endpoints = route.endpoints
            if endpoints is not None and self._door.port(endpoints) and self._door.may_try(self._deliveries):
                deliveries = self._deliveries
                await self._attempt(route, endpoints)
                if self._settled:
                    return
                if self._deliveries > deliveries:
                    self._door.doubt()
                self._let_go()
            left_s = give_up_at - loop.time()
            if left_s <= 0 or self._deliveries >= self._door.patience.deliveries_max:
                self.client.reset()
                return
            pause_s = left_s if endpoints is None else min(self._door.retry_s, left_s)
            self._resting = True
            await self._until(partial(self._may_try_again, route, answers), pause_s)
            self._resting = False

    def encourage(self) -> None:
        """A primary answered somebody: no need to wait any longer."""
        if self._resting:
            self._resting = False
            self._stirred.set()

    def follow(self) -> None:
        """The route changed: a joined client of a lower epoch is cut, a waiting one tries again at once.

        All in this step of the loop, or a word that the former primary already sent could still decide for it.
        """
        if self.route and self.decided and self.route.epoch < self._door.route.epoch:
            self.cut()
        elif self.route and not self.decided and self._moved_on(self.route):
            self._let_go()
        self._stirred.set()

    def cut(self) -> None:
        """Reset both sides."""
        self.client.reset()
        if self.primary:
            self.primary.reset()

    async def _attempt(self, route: Route, endpoints: Endpoints) -> None:
        """Connect and wait until the primary speaks; returns sooner when there is no point in waiting."""

        def pointless() -> bool:
            return self._settled or primary.lost or self.primary is not primary or self._moved_on(route)

        async with self._door.attempts:
            primary = self.primary = Side(self, self._door.buffer)
            self.route = route
            self._delivered = False
            if pointless():
                return
            await self._connect(primary, endpoints, pointless)
        if not primary.connected:
            return
        if not self._delivered and not pointless():
            await self._until(pointless, GRACE_S)
            if not pointless():
                self._deliver()
        await self._until(pointless, self._door.patience.undecided_s)
        if not pointless():
            self._decide()

    async def _connect(self, primary: Side, endpoints: Endpoints, pointless: Callable[[], bool]) -> None:
        port = self._door.port(endpoints)
        loop = asyncio.get_running_loop()
        connecting = asyncio.ensure_future(loop.create_connection(lambda: primary, endpoints.host, port))
        connecting.add_done_callback(self._on_connecting_done)
        try:
            await self._until(lambda: connecting.done() or pointless(), CONNECT_S)
        finally:
            if not primary.connected:
                connecting.cancel()

    def _on_connecting_done(self, connecting: "asyncio.Future[Any]") -> None:
        if not connecting.cancelled():
            connecting.exception()  # refused or unreachable: the primary simply isn't connected
        self._stirred.set()

    @property
    def _settled(self) -> bool:
        return self.decided or self.client.lost

    def _may_try_again(self, route: Route, answers: int) -> bool:
        return self.client.lost or self._moved_on(route) or self._door.answers != answers

    def _moved_on(self, route: Route) -> bool:
        now = self._door.route
        return (now.epoch, now.instance_id, now.endpoints) != (route.epoch, route.instance_id, route.endpoints)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Return when `condition` holds or `seconds` are over."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._stirred.clear()
                    await self._stirred.wait()
        except TimeoutError:
            pass

    def _deliver(self) -> None:
        """Give the primary what the client said so far. A copy is held until it answers."""
        assert self.primary
        self._delivered = True
        if self._held or self.client.ended:
            self._deliveries += 1
        if self._held:
            self.primary.write(bytes(self._held))
        if self.client.ended:
            self.primary.end()
        if self._full:
            self._decide()  # too much to replay: what this primary does now counts
        self.balance()

    @property
    def _full(self) -> bool:
        return len(self._held) >= HELD_BYTES_MAX

    def _decide(self) -> None:
        self.decided = True
        self._door.decided(self)
        self._held.clear()
        self._stirred.set()
        self.balance()

    def _let_go(self) -> None:
        """Forget a primary that did not answer."""
        if self.primary:
            self.primary.reset()
        self.primary = None
        self.route = None
        self._delivered = False
        self.balance()

    # --- what the two sides report

    def on_connected(self, side: Side) -> None:
        if side is self.client:
            self._door.arrived(self)
        elif side is not self.primary or self.client.lost:
            side.reset()
        elif self._deliveries == 0 and not self._full:
            self._deliver()  # the common case: no step of the loop is lost
        self._stirred.set()

    def room(self, side: Side) -> int:
        """How many bytes may be read from that side now."""
        if self.decided or side is not self.client:
            return READ_BYTES_MAX
        return max(1, HELD_BYTES_MAX - len(self._held))

    def on_bytes(self, side: Side, data: bytes) -> None:
        if side is self.client:
            if not self.decided:
                self._hold(data)
            if self.primary and (self._delivered or self.decided):
                self.primary.write(data)
        elif side is self.primary:
            if not self.decided:
                if not self._delivered:
                    self._deliver()
                if not self.decided:
                    self._decide()
            self.client.write(data)

    def _hold(self, data: bytes) -> None:
        first = not self._held
        self._held += data
        if self._delivered:
            if first and not self.client.ended:
                self._deliveries += 1
            if self._full:
                self._decide()
        self.balance()

    def on_end(self, side: Side) -> None:
        if side is self.client:
            if self.primary and (self._delivered or self.decided):
                self.primary.end()
        elif side is self.primary:
            if not self.decided:
                side.reset()  # closed doors: it said nothing and won't
                return
            self.client.end()
        else:
            return
        if self.primary and self.client.ended and self.primary.ended:
            self.client.close()
            self.primary.close()

    def on_lost(self, side: Side, why: Exception | None) -> None:
        self._stirred.set()
        if side is self.client:
            if self.primary:
                _part(self.primary, why)
            self._door.left(self)
        elif side is self.primary and self.decided:
            _part(self.client, why)

    def balance(self) -> None:
        """Read each side only while the other takes what comes."""
        if not self.decided:
            self.client.read(not self._full and not (self.primary and self.primary.stuffed))
            return
        if self.primary:
            self.client.read(not self.primary.stuffed)
            self.primary.read(not self.client.stuffed)


def _part(other: Side, why: Exception | None) -> None:
    """One side is gone: flush and close the other, or cut it if the first one broke."""
    if why is None:
        other.close()
    else:
        other.reset()
