"""A standby that joins: it gets what it lacks, whenever it comes, and its word counts for what it was sent."""

import asyncio
from collections.abc import Callable
from typing import Any

from dumont.errors import LinkClosed
from dumont.model.commit import CommitId
from dumont.replication.cut import Pace
from dumont.replication.parts import PART_BYTES_MAX
from dumont.replication.ports import BlobSink, Grabbed, Reading
from dumont.replication.primary import Primary
from dumont.wire.stream import VERSION, Ack, Blob, CommitMessage, CommitPart, Manifest, Pong, Refusal, StreamHello
from tests.simulation.disk import SimSource
from tests.simulation.network import SimLink
from tests.simulation.pair import WORKSPACE, Stage, passes, play
from tests.unit.pairing import EPOCH, holds, pair


class Line:
    """The other end of a link: what a primary says, and whatever a test answers."""

    def __init__(self, link: SimLink) -> None:
        self.link = link
        self.heard: list[Any] = []
        self._hearing = asyncio.ensure_future(self._hear())
        self._living = asyncio.ensure_future(self._live())

    async def _hear(self) -> None:
        try:
            while True:
                self.heard.append(await self.link.receive())
        except LinkClosed:
            self.heard.append(None)

    async def _live(self) -> None:
        try:
            while True:
                await self.link.send(Pong(EPOCH, 0.0))
                await passes(0.25)
        except LinkClosed:
            return

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    async def greet(self) -> None:
        """What a standby with nothing says."""
        await self.link.send(StreamHello(VERSION, WORKSPACE, "cpu", EPOCH, None, b""))
        await self.link.send(Manifest((), last=True))


async def line(stage: Stage, primary: Primary) -> Line:
    near, far = await stage.wire()
    primary.attach(near)
    return Line(far)


class Pausing(SimSource):
    """A source that waits at `gate` before it hands anything out, and calls `meanwhile` once it does."""

    gate: asyncio.Event | None = None
    meanwhile: Callable[[], None] | None = None

    async def grab(self, paths: "list[bytes] | set[bytes]", bytes_max: int) -> list[Grabbed]:
        grabbed = await super().grab(paths, bytes_max)
        if self.gate:
            await self.gate.wait()
        return grabbed

    async def digest(self, grabbed: list[Grabbed], sink: BlobSink) -> list[Reading]:
        if self.meanwhile:
            self.meanwhile()
            await passes(1.0)
        return await super().digest(grabbed, sink)


def test_a_standby_that_joins_during_a_cut_gets_what_the_cut_had_read_already() -> None:
    """Blocks that were handed out before it had greeted are handed out again with the next."""

    async def story(stage: Stage) -> None:
        stage.gpu.source = source = Pausing(stage.gpu.disk.files, stage.gpu.rng)
        for number in range(30):
            stage.gpu.write(b"d/%d" % number, b"data %d" % number)
        primary = stage.gpu.lead(EPOCH, ("cpu",))
        standby = await stage.cpu.follow(EPOCH, "gpu")
        joined: list[Any] = []

        def join() -> None:
            source.meanwhile = None
            joined.append(asyncio.ensure_future(stage.connect(primary, standby)))

        source.meanwhile = join
        answer = await primary.barrier()
        assert holds(standby, answer) and joined
        assert standby.tree.root() == answer.commit.root if answer.commit else False
        await standby.stop()
        assert stage.cpu.disk.files.content == stage.gpu.disk.files.content

    play(story)


def test_links_replaced_all_the_time_lose_nothing() -> None:
    """Whatever a link that closed had carried is not relied on."""

    async def story(stage: Stage) -> None:
        primary, standby = await pair(stage)
        rng = stage.gpu.rng

        async def disturb() -> None:
            while True:
                await passes(rng.uniform(0, 0.1))
                await stage.connect(primary, standby)

        disturbing = asyncio.ensure_future(disturb())
        for number in range(60):
            for _ in range(3):
                stage.gpu.write(b"%d/%d" % (rng.randrange(3), rng.randrange(4)), b"%d" % number)
            answer = await primary.barrier()
            if answer.ok:
                assert holds(standby, answer)
                assert all(standby.tree.get(path) == entry for path, entry in stage.gpu.disk.files.tree().entries())
        disturbing.cancel()
        await stage.until(lambda: primary.barriers.acked("cpu") == (primary.head.id if primary.head else None))
        await standby.stop()
        assert stage.cpu.disk.files.content == stage.gpu.disk.files.content

    play(story)


def test_a_block_that_moves_between_files_is_never_taken_for_known_too_early() -> None:
    """What is in our index may come from a cut that nobody was sent; the standby refuses what it can't fill in."""

    async def story(stage: Stage) -> None:
        primary, standby = await pair(stage)
        rng = stage.gpu.rng
        for _ in range(150):
            stage.gpu.source.stubborn = rng.choice([0.0, 1.0])
            for _ in range(rng.randrange(1, 4)):
                path = b"%d" % rng.randrange(4)
                stage.gpu.write(path, rng.choice([None, b"x", b"y", b"z"]))
            if rng.random() < 0.3:
                await passes(rng.uniform(0, 0.3))
            if rng.random() < 0.1:
                await stage.connect(primary, standby)
            if rng.random() < 0.4:
                await primary.barrier(timeout_s=2.0)
        stage.gpu.source.stubborn = 0.0
        answer = await primary.barrier()
        assert answer.ok and not any(peer.refusal.startswith("Corrupt") for peer in primary.peers())
        assert standby.tree.root() == primary._cutter.tree.root()

    play(story)


def test_a_standby_that_joins_while_changes_of_a_fuzzy_cut_are_pending_gets_them() -> None:
    """They are in the index and in no commit: a hello that named the index's root would hide them."""

    async def story(stage: Stage) -> None:
        primary, standby = await pair(stage)
        await primary.barrier()
        stage.gpu.source.stubborn = 1.0
        stage.gpu.write(b"a", b"fuzzy")
        await stage.until(lambda: bool(primary._cutter.pending))
        await stage.connect(primary, standby)
        stage.gpu.source.stubborn = 0.0
        answer = await primary.barrier()
        assert holds(standby, answer) and standby.tree.get(b"a") == stage.gpu.disk.files.entry(b"a")

    play(story)


def test_a_standby_whose_greeting_takes_long_gets_what_was_committed_meanwhile() -> None:
    """It had the tree of our hello; what changed after it has to follow with its blocks."""

    async def story(stage: Stage) -> None:
        primary, standby = await pair(stage)
        before = primary.head
        stage.network.slow_s_max = 1.5
        await stage.connect(primary, standby)
        for number in range(3):
            stage.gpu.write(b"a", b"%d" % number)
            await stage.until(lambda before=before: primary.head is not before)
            before = primary.head
        stage.network.slow_s_max = 0.002
        assert holds(standby, await primary.barrier())
        assert not primary.peers()[0].refusal and standby.tree.get(b"a") == stage.gpu.disk.files.entry(b"a")

    play(story)


def test_an_ack_of_what_was_never_sent_is_not_believed() -> None:
    """An ack from another life, or of a stranger's making, must not stand for writes it never saw."""

    async def story(stage: Stage) -> None:
        primary = stage.gpu.lead(EPOCH, ("cpu",))
        other = await line(stage, primary)
        await other.greet()
        await stage.until(lambda: bool(other.of(CommitMessage)))
        await other.link.send(Ack(CommitId(EPOCH, 10**6)))
        await stage.until(lambda: other.heard[-1] is None)
        assert primary.barriers.acked("cpu") is None
        assert "never sent" in primary.peers()[0].refusal and not primary.peers()[0].connected
        assert not (await primary.barrier(timeout_s=1.0)).ok

    play(story)


def test_an_ack_of_a_replaced_link_is_not_believed() -> None:
    """The newer link is the standby's word; what the older one still had in flight may be another process's."""

    async def story(stage: Stage) -> None:
        primary = stage.gpu.lead(EPOCH, ("cpu",))
        old = await line(stage, primary)
        await old.greet()
        await stage.until(lambda: bool(old.of(CommitMessage)))
        commit = old.of(CommitMessage)[0].commit
        stage.network.cut("gpu", ["cpu"], "in")
        await old.link.send(Ack(commit.id))
        near, _ = await _blind(stage)
        primary.attach(near)
        stage.network.heal("gpu")
        await passes(1)
        assert primary.barriers.acked("cpu") is None

    play(story)


async def _blind(stage: Stage) -> tuple[SimLink, SimLink]:
    """A link, although the network is cut."""
    cuts, stage.network.cuts = stage.network.cuts, set()
    ends = await stage.wire()
    stage.network.cuts = cuts
    return ends


def test_an_ack_of_another_epoch_is_not_believed() -> None:
    """Epochs order everything."""

    async def story(stage: Stage) -> None:
        primary = stage.gpu.lead(EPOCH, ("cpu",))
        other = await line(stage, primary)
        await other.greet()
        await stage.until(lambda: bool(other.of(CommitMessage)))
        await other.link.send(Ack(CommitId(EPOCH - 1, 10**6)))
        await passes(0.5)
        assert primary.barriers.acked("cpu") is None

    play(story)


def test_what_a_standby_never_says_closes_its_link() -> None:
    """And endless manifests would fill our memory."""

    async def story(stage: Stage) -> None:
        primary = stage.gpu.lead(EPOCH, ("cpu",))
        for message in (Blob(b"", b""), Manifest((), last=True)):
            other = await line(stage, primary)
            await other.greet()
            await stage.until(lambda other=other: bool(other.of(CommitMessage)))
            await other.link.send(message)
            await stage.until(lambda other=other: other.heard[-1] is None)
        assert "more of a manifest" in primary.peers()[0].refusal

    play(story)


def test_a_refusal_is_told() -> None:
    """The server acts on it: a full standby is left out and replaced."""

    async def story(stage: Stage) -> None:
        primary = stage.gpu.lead(EPOCH, ("cpu",))
        other = await line(stage, primary)
        await other.link.send(Refusal(EPOCH, "DiskFull", "no space"))
        await stage.until(lambda: not primary.peers()[0].connected)
        assert primary.peers()[0].refusal == "DiskFull: no space"

    play(story)


def test_a_standby_that_stops_answering_is_hung_up_on() -> None:
    """Its socket may stay open for hours."""

    async def story(stage: Stage) -> None:
        primary = stage.gpu.lead(EPOCH, ("cpu",))
        other = await line(stage, primary)
        other._living.cancel()
        await stage.until(lambda: not primary.peers()[0].connected, 6)
        assert "silent" in primary.peers()[0].refusal

    play(story)


def test_a_large_commit_travels_in_parts() -> None:
    """A workspace of half a million files joins with one commit, which no message could hold."""

    async def story(stage: Stage) -> None:
        names = [b"d/" + b"n" * 200 + b"%d" % number for number in range(20_000)]
        stage.gpu.disk.files.content |= dict.fromkeys(names, b"")
        stage.gpu.disk.files.paths = lambda: {b"", b"d", *names}  # type: ignore[method-assign]
        primary = stage.gpu.lead(EPOCH, ("cpu",))
        primary._cutter.pace = Pace(frozen_paths_max=10**6)
        other = await line(stage, primary)
        await other.greet()
        await stage.until(lambda: bool(other.of(CommitMessage)), 300)
        last, first = other.of(CommitMessage)[0], other.of(CommitPart)
        assert first and sum(len(message.changes) for message in (*first, last)) == len(names) + 2
        assert len(names) * 300 > PART_BYTES_MAX

    play(story)
