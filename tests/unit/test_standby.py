"""A standby: acknowledges what is fsynced, at its epoch, until it is silenced; and materialises whole commits only."""

import asyncio
from typing import Any

import blake3
import pytest

from dumont.errors import Corrupt, DiskFull, LinkClosed, NotDurable
from dumont.model.commit import Change, Commit, CommitId, Entry, Kind
from dumont.replication.parts import Inbox, parts, weight
from dumont.replication.standby import Standby
from dumont.snapshot.tree import TOP, Tree
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
)
from tests.simulation.disk import SimDisk
from tests.simulation.network import SimLink
from tests.simulation.pair import WORKSPACE, Stage, passes, play

EPOCH = 3
_DIRECTORY = Entry(Kind.DIRECTORY, 0o755, 0, 0, 0)


class Author:
    """A primary as a standby sees it: the other end of a link, and a tree that grows by one file a commit."""

    def __init__(self, link: SimLink, epoch: int = EPOCH) -> None:
        self.link = link
        self.epoch = epoch
        self.tree = Tree()
        self.heard: list[Any] = []
        self.pings = True
        self._tasks = [asyncio.ensure_future(self._hear()), asyncio.ensure_future(self._ping())]

    async def _ping(self) -> None:
        while self.pings and not (self.heard and self.heard[-1] is None):
            try:
                await self.link.send(Ping(self.epoch, -1.0))
            except LinkClosed:
                return
            await passes(0.25)

    async def _hear(self) -> None:
        try:
            while True:
                self.heard.append(await self.link.receive())
        except LinkClosed:
            self.heard.append(None)

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    @property
    def acked(self) -> list[int]:
        return [ack.id.seq for ack in self.of(Ack)]

    async def greet(self, epoch: int | None = None) -> None:
        hello = StreamHello(VERSION, WORKSPACE, "gpu", epoch or self.epoch, None, b"")
        await self.link.send(hello)

    def message(self, seq: int, data: bytes | None = None) -> tuple[Blob, CommitMessage]:
        """The next commit: a file `f<seq>`."""
        data = data or b"data of %d" % seq
        blob = Blob(blake3.blake3(data).digest(), data)
        entry = Entry(Kind.FILE, 0o644, 0, 0, len(data), size=len(data), chunks=(blob.id,))
        changes = [Change(b"f%d" % seq, entry)]
        if self.tree.get(TOP) is None:
            changes.insert(0, Change(TOP, _DIRECTORY))
        parent = self.tree.root()
        self.tree.apply(changes)
        commit = Commit(CommitId(self.epoch, seq), None, self.tree.root(), 0, consistent=True)
        return blob, CommitMessage(commit, parent, tuple(changes))

    async def commit(self, seq: int) -> None:
        for message in self.message(seq):
            await self.link.send(message)


async def follow(stage: Stage) -> tuple[Standby, Author]:
    standby = await stage.cpu.follow(EPOCH, "gpu")
    near, far = await stage.wire()
    standby.attach(far)
    author = Author(near)
    await author.greet()
    await stage.until(lambda: bool(author.of(Manifest)))
    return standby, author


class Watched(SimDisk):
    """A disk that writes down the order of what is asked of it, and is as slow and as broken as a test wants."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.cpu.rng)
        self.log: list[str] = []
        self.sync_s = 0.0
        self.record_s = 0.0
        self.unappliable: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def record(self, message: CommitMessage) -> None:
        await passes(self.record_s)
        await super().record(message)
        self.log.append(f"record {message.commit.id.seq}")

    async def sync(self) -> None:
        await passes(self.sync_s)
        await super().sync()
        self.log.append("sync")

    async def apply(self, message: CommitMessage) -> None:
        await self.gate.wait()
        if self.unappliable:
            raise self.unappliable
        await super().apply(message)
        self.log.append(f"apply {message.commit.id.seq}")


def watched(stage: Stage) -> Watched:
    disk = Watched(stage)
    stage.cpu.disk = disk
    stage.cpu.host = type(stage.cpu.host)(
        disk, *(getattr(stage.cpu.host, name) for name in ("watchdog", "doors", "history", "numbers", "clock", "watch"))
    )
    return disk


def test_an_ack_follows_the_fsync_of_its_commit() -> None:
    """Before it, a power cut would take the commit back."""

    async def story(stage: Stage) -> None:
        disk = watched(stage)
        disk.sync_s = 5.0
        standby, author = await follow(stage)
        await author.commit(1)
        await stage.until(lambda: "record 1" in disk.log)
        await passes(4)
        assert author.acked == [] and standby.head is None
        await stage.until(lambda: author.acked == [1])
        assert disk.log.index("record 1") < disk.log.index("sync")
        assert disk.durable.journal or disk.durable.head

    play(story)


def test_nothing_is_acknowledged_after_it_was_silenced() -> None:
    """A higher epoch was promised: an ack of the old one would let its primary answer OK."""

    async def story(stage: Stage) -> None:
        disk = watched(stage)
        disk.sync_s = 1.0
        standby, author = await follow(stage)
        await author.commit(1)
        await stage.until(lambda: "record 1" in disk.log)
        standby.silence()
        await standby.stop()
        await passes(5)
        assert author.acked == [] and author.heard[-1] is None
        assert standby.head is not None and standby.head.id.seq == 1  # it is whole, and promoted so
        assert disk.files.tree().root() == standby.head.root

    play(story)


def test_stopping_materialises_everything_that_was_journaled() -> None:
    """A promoted tree is exactly a commit, and no older than what was acknowledged."""

    async def story(stage: Stage) -> None:
        disk = watched(stage)
        standby, author = await follow(stage)
        disk.gate.clear()
        await author.commit(1)
        await author.commit(2)
        await stage.until(lambda: bool(author.acked))
        stopping = asyncio.ensure_future(standby.stop())
        await passes(1)
        assert not stopping.done()
        disk.gate.set()
        await stopping
        assert standby.head is not None and disk.files.tree().root() == standby.head.root == standby.tree.root()
        assert standby.applied == standby.head.id

    play(story)


def test_half_a_commit_is_dropped() -> None:
    """Blobs without their record are no commit: the tree stays what it was."""

    async def story(stage: Stage) -> None:
        standby, author = await follow(stage)
        await author.commit(1)
        await stage.until(lambda: author.acked == [1])
        blob, _ = author.message(2)
        await author.link.send(blob)
        author.link.close()
        await passes(1)
        await standby.stop()
        assert standby.head is not None and standby.head.id.seq == 1
        assert stage.cpu.disk.files.tree().root() == standby.head.root

    play(story)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("another epoch", "is not of epoch"),
        ("an older commit", "is older than our"),
        ("a gap", "does not follow from our tree"),
        ("one id twice", "to two commits"),
        ("a message of a standby", "never sends"),
        ("a chunk that was not sent", "was never sent"),
    ],
)
def test_a_primary_that_makes_no_sense_is_refused(case: str, words: str) -> None:
    """An ack for what can't be understood would promise something that nobody has."""

    async def story(stage: Stage) -> None:
        standby, author = await follow(stage)
        await author.commit(5)
        await stage.until(lambda: author.acked == [5])
        head = standby.head
        match case:
            case "another epoch":
                author.epoch = EPOCH + 1
                await author.commit(6)
            case "an older commit":
                await author.commit(4)
            case "a gap":
                author.message(6)
                await author.commit(7)
            case "one id twice":
                for message in author.message(5, b"something else"):
                    await author.link.send(message)
            case "a message of a standby":
                await author.link.send(Pong(EPOCH, 0.0))
            case _:
                await author.link.send(author.message(6)[1])
        await stage.until(lambda: author.heard[-1] is None)
        assert author.acked == [5] and standby.head == head
        assert words in author.of(Refusal)[0].detail and author.of(Refusal)[0].reason == "Corrupt"
        assert not standby.halted and not standby.up

    play(story)


def test_the_same_commit_again_is_acknowledged_again() -> None:
    """A sealed primary sends its last commit to whoever connects anew."""

    async def story(stage: Stage) -> None:
        standby, author = await follow(stage)
        blob, message = author.message(1)
        for sent in (blob, message, message):
            await author.link.send(sent)
        await stage.until(lambda: author.acked == [1, 1])
        assert standby.commits == 1

    play(story)


@pytest.mark.parametrize("what", ["epoch", "workspace", "version"])
def test_a_primary_of_something_else_is_refused(what: str) -> None:
    """A standby follows one workspace at one epoch."""

    async def story(stage: Stage) -> None:
        standby = await stage.cpu.follow(EPOCH, "gpu")
        near, far = await stage.wire()
        standby.attach(far)
        author = Author(near)
        fields = {"version": VERSION, "workspace": WORKSPACE, "epoch": EPOCH}
        fields[what] = {"epoch": EPOCH - 1, "workspace": "other", "version": VERSION + 1}[what]  # type: ignore[assignment]
        await near.send(StreamHello(fields["version"], fields["workspace"], "gpu", fields["epoch"], None, b""))  # type: ignore[arg-type]
        await stage.until(lambda: bool(author.of(Refusal)))
        assert not standby.up and not standby.ever_up

    play(story)


def test_a_stranger_s_link_is_closed() -> None:
    """Only the primary that the assignment names may write here."""

    async def story(stage: Stage) -> None:
        standby = await stage.cpu.follow(EPOCH, "somebody else")
        near, far = await stage.wire()
        assert standby.attach(far) is None
        with pytest.raises(LinkClosed):
            await near.receive()

    play(story)


def test_a_newer_link_replaces_the_older_once_that_is_over() -> None:
    """Two links at once would mix the blobs of one with the record of the other."""

    async def story(stage: Stage) -> None:
        disk = watched(stage)
        disk.sync_s = 2.0
        standby, first = await follow(stage)
        await first.commit(1)
        await stage.until(lambda: "record 1" in disk.log)
        near, far = await stage.wire()
        second = Author(near)
        standby.attach(far)
        await second.greet()
        await passes(1)
        assert second.of(StreamHello) == []
        await stage.until(lambda: bool(second.of(StreamHello)))
        assert second.of(StreamHello)[0].head == CommitId(EPOCH, 1)
        assert first.acked == [] and standby.up

    play(story)


def test_a_full_disk_is_a_refusal_in_words_and_stays_one() -> None:
    """Acknowledging on would be a lie, and flapping would hide it."""

    async def story(stage: Stage) -> None:
        standby, author = await follow(stage)
        await author.commit(1)
        await stage.until(lambda: author.acked == [1])
        stage.cpu.disk.full = True
        await author.commit(2)
        await stage.until(lambda: bool(author.of(Refusal)))
        assert author.of(Refusal)[0].reason == "DiskFull" and "rent a larger one" in standby.halted
        stage.cpu.disk.full = False
        near, far = await stage.wire()
        again = Author(near)
        standby.attach(far)
        await again.greet()
        await stage.until(lambda: bool(again.of(Refusal)))
        assert again.of(Refusal)[0].reason == "DiskFull" and again.acked == []
        await standby.stop()
        assert not standby.unfit and standby.head is not None
        assert stage.cpu.disk.files.tree().root() == standby.head.root

    play(story)


def test_after_a_failed_fsync_nothing_here_is_relied_on() -> None:
    """The kernel forgets what it could not write; trying again would only seem to work."""

    async def story(stage: Stage) -> None:
        standby, author = await follow(stage)
        stage.cpu.disk.failing = True
        await author.commit(1)
        await stage.until(lambda: bool(author.of(Refusal)))
        assert author.of(Refusal)[0].reason == "NotDurable" and author.acked == []
        await standby.stop()
        assert standby.unfit and standby.head is None

    play(story)


@pytest.mark.parametrize("error", [DiskFull("no space"), NotDurable("fsync"), Corrupt("a chunk is missing")])
def test_a_copy_that_can_t_be_made_takes_nothing_more(error: Exception) -> None:
    """A replica that acknowledges and can't materialise could not be promoted to what it acknowledged."""

    async def story(stage: Stage) -> None:
        disk = watched(stage)
        standby, author = await follow(stage)
        disk.unappliable = error
        await author.commit(1)
        await stage.until(lambda: standby.unfit)
        acked = list(author.acked)
        await author.commit(2)
        await stage.until(lambda: author.heard[-1] is None)
        assert author.acked == acked and author.of(Refusal) and str(error) in standby.halted
        await standby.stop()

    play(story)


def test_pings_are_answered_while_the_disk_is_slow() -> None:
    """Otherwise a slow fsync looks like a dead standby."""

    async def story(stage: Stage) -> None:
        disk = watched(stage)
        disk.sync_s = 10.0
        _, author = await follow(stage)
        await author.commit(1)
        for number in range(8):
            await author.link.send(Ping(EPOCH, float(number)))
            await passes(0.25)
        answered = [pong.sent_at for pong in author.of(Pong) if pong.sent_at >= 0]
        assert answered[:7] == [0, 1, 2, 3, 4, 5, 6] and author.acked == []
        await author.link.send(Ping(EPOCH - 1, 99.0))
        await passes(1)
        assert 99.0 not in [pong.sent_at for pong in author.of(Pong)]

    play(story)


def test_a_silent_primary_s_link_is_given_up() -> None:
    """A half-open connection would keep the next one waiting for ever."""

    async def story(stage: Stage) -> None:
        standby, author = await follow(stage)
        await passes(5)
        assert standby.up
        author.pings = False
        await stage.until(lambda: author.heard[-1] is None, 5)
        assert not standby.up and standby.ever_up and standby.silent_s > 3

    play(story)


def test_a_commit_may_come_in_parts() -> None:
    """Half a million changes do not fit into one message."""

    async def story(stage: Stage) -> None:
        standby, author = await follow(stage)
        blob, whole = author.message(1)
        first, second = whole.changes
        await author.link.send(blob)
        await author.link.send(CommitPart((first,)))
        await author.link.send(CommitMessage(whole.commit, whole.parent_root, (second,)))
        await stage.until(lambda: author.acked == [1])
        await author.commit(2)
        await stage.until(lambda: author.acked == [1, 2])
        assert standby.tree.root() == author.tree.root()

    play(story)


def test_parts_of_a_link_that_closed_are_forgotten() -> None:
    """The next link begins anew."""

    async def story(stage: Stage) -> None:
        standby, author = await follow(stage)
        await author.link.send(CommitPart((Change(b"stray", None),)))
        await passes(0.5)
        near, far = await stage.wire()
        again = Author(near)
        standby.attach(far)
        await again.greet()
        await again.commit(1)
        await stage.until(lambda: again.acked == [1])

    play(story)


def test_changes_are_cut_into_parts_that_fit() -> None:
    """One file of a tebibyte names 65,536 chunks; thousands of them are more than a link carries at once."""
    entry = Entry(Kind.FILE, 0o644, 0, 0, 0, size=2**30, chunks=(bytes(32),) * 1024)
    changes = [Change(b"%d" % number, entry) for number in range(1_000)]
    cut = parts(changes)
    assert [change for part in cut for change in part] == changes
    assert all(weight(part) <= 4 * 2**20 for part in cut) and len(cut) < 12
    assert parts([]) == [()]


def test_an_inbox_is_bounded_by_bytes() -> None:
    """Sixteen messages of sixteen mebibytes are more than a cheap machine has to spare."""

    async def story(stage: Stage) -> None:
        inbox = Inbox(1_000)
        for _ in range(2):
            await inbox.put(Blob(b"id", bytes(800)))
        late = asyncio.ensure_future(inbox.put(Blob(b"id", bytes(800))))
        await passes(1)
        assert not late.done() and inbox.held_bytes < 2_000
        assert await inbox.get() is not None
        await late
        await inbox.end()
        assert [type(await inbox.get()) for _ in range(3)] == [Blob, Blob, type(None)]
        assert inbox.held_bytes == 0

    play(story)
