"""An agent's duty: keep the control link to a server, do what it assigns, and dial the streams it names."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from dumont.clock import Clock
from dumont.errors import Corrupt, LinkClosed
from dumont.model.instance import Role
from dumont.replication.replica import Replica
from dumont.replication.sender import StreamLink
from dumont.wire.control import VERSION, AgentHello, Assignment, Endpoints, Peer, Status, Sync, Synced
from dumont.wire.link import Link

STATUS_EVERY_S = 0.25
_LOOK_EVERY_S = 0.02
_REDIAL_S = 0.1
_RETRY_S_MAX = 1.0

ControlLink = Link[Any, Any]


@dataclass(frozen=True)
class Lines:
    """How an agent reaches others, and how others reach it. Both dials raise LinkClosed when nobody answers."""

    server: Callable[[], Awaitable[ControlLink]]
    peer: Callable[[Peer], Awaitable[StreamLink]]
    endpoints: Callable[[], Endpoints]
    decorate: Callable[[Status], Status]


class Duty:
    """Runs until cancelled, or a task of the replica fails. Nothing here waits for the server while data flows."""

    def __init__(self, instance_id: str, replica: Replica, lines: Lines, clock: Clock, rng: random.Random) -> None:
        self._me = instance_id
        self._replica = replica
        self._lines = lines
        self._clock = clock
        self._rng = rng
        self._assignment: Assignment | None = None
        self._crew = replica.crew
        self._streams: dict[str, asyncio.Task[None]] = {}
        self._heard_at = clock.monotonic()
        self._linked = False

    @property
    def silent_s(self) -> float:
        """Seconds since a server process was there; 0 while the link to one is open on which it has said something."""
        return 0.0 if self._linked else self._clock.monotonic() - self._heard_at

    async def run(self) -> None:
        """Hold the control link and the streams, each for ever. Raises what is unforeseen: the engine then ends."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._control_forever())
                tasks.create_task(self._dial_forever())
                tasks.create_task(self._retry_forever())
                tasks.create_task(self._crew.fail())
        finally:
            self._crew.dismiss()

    def accept(self, link: StreamLink) -> None:
        """A replica dialled us."""
        self._replica.attach(link)

    async def _control_forever(self) -> None:
        pause_s = _REDIAL_S
        while True:
            try:
                link = await self._lines.server()
                pause_s = _REDIAL_S
                await self._control(link)
            except (LinkClosed, Corrupt):
                await self._clock.sleep(pause_s * self._rng.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, _RETRY_S_MAX)

    async def _control(self, link: ControlLink) -> None:
        """One control link, until it closes. Raises LinkClosed or Corrupt."""
        try:
            await link.send(AgentHello(VERSION, self._me))
            reporting = self._crew.start(self._report_forever(link))
            try:
                while True:
                    message = await link.receive()
                    self._linked = True
                    await self._obey(link, message)
            finally:
                reporting.cancel()
        finally:
            if self._linked:
                self._linked, self._heard_at = False, self._clock.monotonic()
            link.close()

    async def _obey(self, link: ControlLink, message: object) -> None:
        match message:
            case Assignment():
                self._assignment = message
                self._crew.start(self._replica.assign(message))
            case Sync():
                self._crew.start(self._sync(link, message))

    async def _sync(self, link: ControlLink, sync: Sync) -> None:
        answer = await self._replica.barrier((), sync.timeout_s)
        commit = answer.commit
        synced = Synced(
            request=sync.request,
            outcome="ok" if answer.ok else "unknown",
            id=commit.id if commit else None,
            root=commit.root if commit else b"",
            consistent=commit.consistent if commit else False,
            fuzzy=commit.fuzzy if commit else (),
            reason=answer.reason,
        )
        try:
            await link.send(synced)
        except LinkClosed:
            return  # the server asks again, or its user sees an unknown

    async def _report_forever(self, link: ControlLink) -> None:
        """The whole status a few times a second, and at once when something a server acts on has changed."""
        last: tuple[object, ...] = ()
        sent_at = float("-inf")
        try:
            while True:
                status = self._lines.decorate(self._replica.status(self._lines.endpoints()))
                urgent = _urgent(status)
                if urgent != last or self._clock.monotonic() - sent_at >= STATUS_EVERY_S:
                    last, sent_at = urgent, self._clock.monotonic()
                    await link.send(status)
                await self._clock.sleep(_LOOK_EVERY_S)
        except LinkClosed:
            link.close()

    async def _retry_forever(self) -> None:
        """Try an assignment again that could not be followed for a reason that may pass: a full disk, a store away."""
        while True:
            await self._clock.sleep(_RETRY_S_MAX)
            if self._assignment and self._replica.may_go_on:
                await self._replica.assign(self._assignment)

    async def _dial_forever(self) -> None:
        """Keep one stream to every peer that the assignment tells us to dial."""
        while True:
            assignment = self._assignment
            if assignment and assignment.role is not Role.NONE:
                for peer in assignment.peers:
                    busy = self._streams.get(peer.instance_id)
                    if peer.dial and peer.endpoints.stream_port and (busy is None or busy.done()):
                        self._streams[peer.instance_id] = self._crew.start(self._stream(peer))
            await self._clock.sleep(_REDIAL_S)

    async def _stream(self, peer: Peer) -> None:
        try:
            link = await self._lines.peer(peer)
        except LinkClosed:
            return  # the next turn dials again
        if link.peer != peer.instance_id:
            link.close()
            return
        if attached := self._replica.attach(link):
            await asyncio.wait([attached])


def _urgent(status: Status) -> tuple[object, ...]:
    """What a server acts on at once."""
    peers = tuple((peer.instance_id, peer.connected, peer.refusal, peer.acked is not None) for peer in status.peers)
    head = status.head if status.role is Role.STANDBY else None
    return (
        status.role, status.epoch, status.ready, status.stream_up, status.sealed, status.halted, head,
        status.ack_version, status.branch_saved, status.endpoints, status.leaving, peers,
    )  # fmt: skip
