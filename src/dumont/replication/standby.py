"""A standby: journals whole commits, fsyncs, acknowledges, and materialises them close behind.

It acknowledges only at the epoch it has promised, never after it stopped, and only what `sync` has made durable.
"""

import asyncio
from collections import deque

from msgspec.structs import replace

from dumont.errors import Corrupt, DiskFull, LinkClosed, NotDurable, Refused
from dumont.model.commit import Change
from dumont.replication.crew import Crew
from dumont.replication.parts import Inbox, parts, weight
from dumont.replication.ports import Host, Kept
from dumont.replication.sender import PING_EVERY_S, SILENCE_S_MAX, StreamLink
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

_INBOX_BYTES_MAX = 16 * 2**20
_COMMIT_BYTES_MAX = 2**30
_PENDING_BYTES_MAX = 64 * 2**20
_LEFT_CHANGES_MAX = 500
_LEFT_BYTES_MAX = 8 * 2**20
BEHIND_S_MAX = 0.5
"""How far the copy on disk may be behind what is acknowledged: promotion has to wait for it."""


class Standby:
    """The second copy of a workspace at one epoch. `tree` is the tree of `head` as journaled, not yet applied.

    `halted` says in words why it takes nothing more; `unfit`, that its files can't be relied on to be those of `head`.
    """

    def __init__(self, hello: StreamHello, primary_id: str, kept: Kept, host: Host, crew: Crew) -> None:
        self._hello = hello
        self._primary_id = primary_id
        self._disk = host.disk
        self._clock = host.clock
        self._crew = crew
        self._link: StreamLink | None = None
        self._following: asyncio.Task[None] | None = None
        self._applying: asyncio.Task[None] | None = None
        self._unapplied: deque[tuple[float, CommitMessage]] = deque()
        self._parts: list[Change] = []
        self._parts_bytes = 0
        self._progress = asyncio.Condition()
        self._heard_at = self._clock.monotonic()
        self._stopped = False
        self.tree = kept.tree
        self.head = kept.head
        self.applied = kept.head.id if kept.head else None
        self.up = False
        self.ever_up = False
        self.halted = ""
        self._why: type[Refused] = Refused
        self.unfit = False
        self.commits = 0

    @property
    def epoch(self) -> int:
        """The epoch whose primary this standby follows."""
        return self._hello.epoch

    @property
    def silent_s(self) -> float:
        """Seconds since the primary's last word."""
        return self._clock.monotonic() - self._heard_at

    def attach(self, link: StreamLink) -> "asyncio.Task[None] | None":
        """Follow the primary over `link`; a newer link replaces an older one. A stranger's is closed."""
        if self._stopped or link.peer != self._primary_id:
            link.close()
            return None
        if self._link:
            self._link.close()
        before, self._link = self._following, link
        self.up = False
        self._following = self._crew.start(self._follow(link, before))
        return self._following

    def silence(self) -> None:
        """Acknowledge nothing more, from this instant on."""
        self._stopped = True
        self.up = False
        if self._link:
            self._link.close()

    async def stop(self) -> None:
        """Be silent, and return when everything whole that was journaled is materialised, or it is `unfit`."""
        self.silence()
        if self._following:
            await self._following
        if self._applying:
            async with self._progress:
                await self._progress.wait_for(lambda: not self._unapplied or self.unfit)
            self._applying.cancel()

    async def _follow(self, link: StreamLink, before: "asyncio.Task[None] | None") -> None:
        """One connection, from hello to its end. The one before it has to be over first."""
        if before:
            await before
        inbox = Inbox(_INBOX_BYTES_MAX)
        self._parts, self._parts_bytes = [], 0
        listening = self._crew.start(self._listen(link, inbox))
        try:
            await self._greet(link)
            while (message := await inbox.get()) is not None and not self._stopped:
                self._check_fit()
                await self._take(link, message)
        except Refused as refused:
            self.halted, self._why = self.halted or str(refused), type(refused)
            self.unfit = self.unfit or isinstance(refused, NotDurable)
            await self._refuse(link, self._why.__name__, self.halted)
        except (Corrupt, LinkClosed) as broken:
            await self._refuse(link, type(broken).__name__, str(broken))
        finally:
            self.up = self.up and self._link is not link
            link.close()
            listening.cancel()
        await self._drop_partial()

    async def _listen(self, link: StreamLink, inbox: Inbox) -> None:
        """Read ahead, answering pings at once, so that a slow disk is not mistaken for a dead one."""
        try:
            while True:
                async with asyncio.timeout(SILENCE_S_MAX + PING_EVERY_S):
                    message = await link.receive()
                self._heard_at = self._clock.monotonic()
                if isinstance(message, Ping):
                    if message.epoch == self.epoch and not self._stopped:
                        await link.send(Pong(message.epoch, message.sent_at))
                else:
                    await inbox.put(message)
        except (LinkClosed, Corrupt, TimeoutError):
            link.close()
            if self._link is link:
                self.up = False
            await inbox.end()

    async def _greet(self, link: StreamLink) -> None:
        head = self.head.id if self.head else None
        root = self.tree.root() if self.head else b""
        hello = self._hello
        await link.send(StreamHello(VERSION, hello.workspace, hello.instance_id, hello.epoch, head, root))

    async def _take(self, link: StreamLink, message: StreamMessage) -> None:
        match message:
            case StreamHello():
                await self._take_hello(link, message)
            case Blob():
                await self._disk.blob(message)
            case CommitPart(changes):
                self._parts += changes
                self._parts_bytes += weight(changes)
                if self._parts_bytes > _COMMIT_BYTES_MAX:
                    raise Corrupt(f"a commit lists more than {_COMMIT_BYTES_MAX} bytes of changes")
            case CommitMessage():
                changes, self._parts, self._parts_bytes = (*self._parts, *message.changes), [], 0
                await self._take_commit(link, replace(message, changes=changes))
            case _:
                raise Corrupt(f"a primary never sends a {type(message).__name__}")

    async def _take_hello(self, link: StreamLink, hello: StreamHello) -> None:
        """Check who speaks; unless both have one tree, list ours so that only differences travel."""
        if hello.version != VERSION:
            raise Corrupt(f"{link.peer} speaks version {hello.version} of the stream, we speak {VERSION}: upgrade both")
        if hello.workspace != self._hello.workspace or hello.epoch != self.epoch:
            raise Corrupt(f"{link.peer} leads {hello.workspace} at epoch {hello.epoch}, we follow epoch {self.epoch}")
        self.up = self.ever_up = True
        if self.head is not None and hello.root == self.tree.root():
            return
        *first, last = parts(Change(path, entry) for path, entry in self.tree.entries())
        for part in first:
            await link.send(Manifest(part, last=False))
        await link.send(Manifest(last, last=True))

    async def _take_commit(self, link: StreamLink, message: CommitMessage) -> None:
        """Journal, fsync, acknowledge: in this order, and only at our epoch."""
        commit = message.commit
        if commit.id.epoch != self.epoch:
            raise Corrupt(f"commit {commit.id} is not of epoch {self.epoch}")
        if self.head is None or commit.id != self.head.id:
            if self.head is not None and commit.id < self.head.id:
                raise Corrupt(f"commit {commit.id} is older than our {self.head.id}")
            if message.parent_root != self.tree.root():
                raise Corrupt(f"commit {commit.id} does not follow from our tree")
            await self._room()
            self._check_fit()
            await self._disk.record(message)
            await self._disk.sync()
            self.tree.apply(message.changes)
            self.head = commit
            self.commits += 1
            await self._queue(message)
            await self._nearly_applied()
            self._check_fit()
        elif commit.root != self.head.root:
            raise Corrupt(f"{link.peer} gave the id {commit.id} to two commits")
        if not self._stopped:
            await link.send(Ack(commit.id))

    def _check_fit(self) -> None:
        """Take nothing more once halted: what can't be materialised must not be acknowledged."""
        if self.halted:
            raise self._why(self.halted)

    async def _room(self) -> None:
        """Wait until the copy on disk is close enough behind, in bytes and in time."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._is_close() or bool(self.halted))

    def _is_close(self) -> bool:
        if not self._unapplied:
            return True
        behind_s = self._clock.monotonic() - self._unapplied[0][0]
        return self._disk.pending_bytes < _PENDING_BYTES_MAX and behind_s < BEHIND_S_MAX

    async def _nearly_applied(self) -> None:
        """Wait until little is left to apply: a promotion would have to wait for it, and a barrier can wait better."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._is_little_left() or bool(self.halted))

    def _is_little_left(self) -> bool:
        changes = sum(len(message.changes) for _, message in self._unapplied)
        return changes <= _LEFT_CHANGES_MAX and self._disk.pending_bytes <= _LEFT_BYTES_MAX

    async def _queue(self, message: CommitMessage) -> None:
        async with self._progress:
            self._unapplied.append((self._clock.monotonic(), message))
            self._progress.notify_all()
        if self._applying is None:
            self._applying = self._crew.start(self._apply_forever())

    async def _apply_forever(self) -> None:
        """Materialise journaled commits in order. A copy that can't be made is halted, in words."""
        while not self.unfit:
            async with self._progress:
                await self._progress.wait_for(lambda: bool(self._unapplied))
            try:
                await self._disk.apply(self._unapplied[0][1])
            except (Corrupt, DiskFull, NotDurable) as error:
                self.unfit = True
                self.halted = f"the copy can't be brought up to date: {error}"
            async with self._progress:
                if not self.unfit:
                    self.applied = self._unapplied.popleft()[1].commit.id
                self._progress.notify_all()

    async def _drop_partial(self) -> None:
        try:
            await self._disk.drop_partial()
        except (DiskFull, NotDurable) as error:
            self.halted = self.halted or str(error)

    async def _refuse(self, link: StreamLink, reason: str, detail: str) -> None:
        try:
            await link.send(Refusal(self.epoch, reason, detail))
        except LinkClosed:
            return


def hello_of(workspace: str, instance_id: str, epoch: int) -> StreamHello:
    """What a standby says of itself before it knows what it has."""
    return StreamHello(VERSION, workspace, instance_id, epoch, None, b"")
