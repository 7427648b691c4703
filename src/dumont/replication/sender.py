"""A sender: one standby as its primary sees it, from the first hello to the last acknowledgement."""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass

from dumont.clock import Clock
from dumont.errors import Corrupt, LinkClosed
from dumont.model.commit import Change, Commit, CommitId
from dumont.replication.parts import parts
from dumont.snapshot.tree import Tree
from dumont.wire.link import Link
from dumont.wire.stream import (
    VERSION,
    Ack,
    Blob,
    CommitMessage,
    CommitPart,
    Manifest,
    Ping,
    Pong,
    Refusal,
    StreamHello,
    StreamMessage,
)

PING_EVERY_S = 0.25
SILENCE_S_MAX = 3.0
SEND_S_MAX = 20.0
MANIFEST_ENTRIES_MAX = 10_000_000

StreamLink = Link[StreamMessage, StreamMessage]


class Progress(enum.StrEnum):
    """How far a standby has come."""

    GREETING = "greeting"  # hello or manifest still outstanding
    JOINING = "joining"  # its tree is known, and differs
    FOLLOWING = "following"  # every commit reaches it as it is made


@dataclass(frozen=True)
class Greeted:
    """What a standby had when it connected. `tree` None: exactly the tree of the commit in our hello."""

    tree: Tree | None
    root: bytes


@dataclass(frozen=True)
class Heard:
    """Whom a sender tells: of an acknowledgement, and of an answered question (with the time it was sent)."""

    ack: Callable[[str, CommitId], None]
    alive: Callable[[str, float], None]
    changed: Callable[[], None]


class Sender:
    """Sends commits over one link. All methods but `run` are called from the primary's one loop."""

    def __init__(self, link: StreamLink, hello: StreamHello, clock: Clock, heard: Heard) -> None:
        self._link = link
        self._hello = hello
        self._clock = clock
        self._heard = heard
        self._sent: set[bytes] = set()
        self._newest: CommitId | None = None  # that was sent over this link
        self._manifest = Tree()
        self._heard_at = clock.monotonic()
        self.peer = link.peer
        self.stale: set[bytes] = set()  # changed since our hello
        self.progress = Progress.GREETING
        self.greeted: Greeted | None = None
        self.peer_head: CommitId | None = None
        self.refusal = ""
        self.closed = False

    @property
    def silent_s(self) -> float:
        """Seconds since the standby's last word."""
        return self._clock.monotonic() - self._heard_at

    async def run(self) -> None:
        """Greet, then listen and ping until the link closes. Never raises for what the other side does."""
        try:
            await self._link.send(self._hello)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen())
                tasks.create_task(self._ping())
        except* (LinkClosed, Corrupt) as broken:
            self.refusal = self.refusal or "; ".join(str(error) for error in broken.exceptions)
        finally:
            self.close()

    def close(self) -> None:
        """Hang up. Harmless when done already."""
        if not self.closed:
            self.closed = True
            self._link.close()
            self._heard.changed()

    async def blob(self, chunk: bytes, data: bytes, known: bool) -> None:
        """Send a block unless the standby has it. `known`: our own committed tree holds it."""
        if self.closed or self.progress is Progress.GREETING or chunk in self._sent or self._has(chunk, known):
            return
        self._sent.add(chunk)
        await self._send(Blob(chunk, data))

    async def commit(self, commit: Commit, parent_root: bytes, changes: tuple[Change, ...]) -> None:
        """Send the record that makes the blobs since the last one count; the standby follows from here on."""
        if self.closed or self.progress is Progress.GREETING:
            return
        self.progress = Progress.FOLLOWING
        self.greeted = None
        self.stale = set()
        self._sent = set()
        *first, last = parts(changes)
        for part in first:
            await self._send(CommitPart(part))
        self._newest = commit.id
        await self._send(CommitMessage(commit, parent_root, last))

    def _has(self, chunk: bytes, known: bool) -> bool:
        if self.progress is Progress.FOLLOWING:
            return known
        return self.greeted is not None and self.greeted.tree is not None and self.greeted.tree.has_chunk(chunk)

    async def _send(self, message: StreamMessage) -> None:
        if self.closed:
            return
        try:
            async with asyncio.timeout(SEND_S_MAX):
                await self._link.send(message)
        except (LinkClosed, TimeoutError):
            self.close()

    async def _ping(self) -> None:
        while not self.closed:
            await self._link.send(Ping(self._hello.epoch, self._clock.monotonic()))
            before = self._clock.monotonic()
            await self._clock.sleep(PING_EVERY_S)
            frozen = self._clock.monotonic() - before > 2 * PING_EVERY_S  # ourselves: what came meanwhile is unread
            if self.silent_s > SILENCE_S_MAX and not frozen:
                raise LinkClosed(f"{self.peer} has been silent for {self.silent_s:.1f} s")

    async def _listen(self) -> None:
        while True:
            message = await self._link.receive()
            if self.closed:
                return  # what was still on its way is believed no more
            self._heard_at = self._clock.monotonic()
            match message:
                case StreamHello():
                    self._take_hello(message)
                case Manifest():
                    self._take_manifest(message)
                case Ack(id):
                    if self._newest is None or id > self._newest:
                        raise Corrupt(f"{self.peer} acknowledged {id}, which was never sent to it")
                    self._heard.ack(self.peer, id)
                case Pong(epoch, sent_at) if epoch == self._hello.epoch:
                    self._heard.alive(self.peer, sent_at)
                case Refusal(_, reason, detail):
                    self.refusal = f"{reason}: {detail}" if detail else reason
                    raise LinkClosed(self.refusal)
                case _:
                    raise Corrupt(f"{self.peer} sent a {type(message).__name__}, which a standby never does")

    def _take_hello(self, hello: StreamHello) -> None:
        if hello.version != VERSION:
            raise Corrupt(f"{self.peer} speaks version {hello.version} of the stream, we speak {VERSION}: upgrade both")
        self.peer_head = hello.head
        if hello.head is not None and hello.root == self._hello.root:
            self._join(Greeted(None, hello.root))

    def _take_manifest(self, manifest: Manifest) -> None:
        if self.progress is not Progress.GREETING or len(self._manifest) > MANIFEST_ENTRIES_MAX:
            raise Corrupt(f"{self.peer} sent more of a manifest than anybody asked for")
        self._manifest.apply(manifest.entries)
        if manifest.last:
            manifested, self._manifest = self._manifest, Tree()
            self._join(Greeted(manifested, manifested.root()))

    def _join(self, greeted: Greeted) -> None:
        if self.progress is Progress.GREETING:
            self.greeted = greeted
            self.progress = Progress.JOINING
            self._heard.changed()
