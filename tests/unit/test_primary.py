"""A primary: no OK without the fsync of every member, whatever joins, leaves, restarts or lies meanwhile."""

import asyncio
from typing import Any

import pytest

from dumont.errors import Fenced, LinkClosed
from dumont.model.commit import Change, CommitId
from dumont.replication.cut import Pace
from dumont.replication.primary import FUZZY_AFTER_S
from tests.simulation.pair import Stage, passes, play
from tests.unit.pairing import EPOCH, holds, pair


def test_a_barrier_is_ok_when_its_writes_are_on_the_standby() -> None:
    """This is the promise."""

    async def story(stage: Stage) -> None:
        primary, standby = await pair(stage)
        for number in range(20):
            stage.gpu.write(b"a", b"%d" % number)
            answer = await primary.barrier()
            assert holds(standby, answer)
            assert standby.tree.get(b"a") == stage.gpu.disk.files.entry(b"a")
        assert primary.barriers.ok_seq >= 20 and stage.gpu.watchdog.renewed

    play(story)


def test_an_inconsistent_cut_that_changes_nothing_is_no_consistent_head() -> None:
    """The head says that nothing moved; a file written through shared memory may have."""

    async def story(stage: Stage) -> None:
        stage.gpu.pace = Pace(frozen_bytes_max=40, rounds_max=3)
        primary, standby = await pair(stage)
        stage.gpu.write(b"model", bytes(30))
        first = await primary.barrier()
        assert first.ok and first.commit and first.commit.consistent
        stage.gpu.source.mapped_paths.add(b"model")
        second = await primary.barrier()
        assert second.ok and second.commit and second.commit.fuzzy == (b"model",)
        third = await primary.barrier()
        assert third.commit == second.commit  # it says so already
        stage.gpu.disk.files.content[b"model"] = b"x" * 30
        fourth = await primary.barrier()
        assert fourth.commit and fourth.commit.fuzzy == (b"model",)
        assert standby.tree.get(b"model") == stage.gpu.disk.files.entry(b"model")

    play(story)


def test_what_can_never_be_cut_consistently_is_sent_fuzzy_after_a_while() -> None:
    """A workload that can't be frozen, and asks for no barrier, would otherwise risk more with every second."""

    async def story(stage: Stage) -> None:
        _, standby = await pair(stage)
        stage.gpu.source.stubborn = 1.0
        seen_after_s = None
        for turn in range(200):  # never quiet: what was read is always older than the last write
            stage.gpu.write(b"a", b"%d" % turn)
            await passes(0.05)
            if seen_after_s is None and b"a" in standby.tree:
                seen_after_s = turn * 0.05
        assert seen_after_s is not None, "nothing was sent"
        assert FUZZY_AFTER_S - 0.5 < seen_after_s < FUZZY_AFTER_S + 1.5
        assert standby.head and not standby.head.consistent and standby.head.fuzzy == (b"a",)

    play(story)


def test_a_fuzzy_head_is_followed_by_a_consistent_one() -> None:
    """Even when nothing changed any more."""

    async def story(stage: Stage) -> None:
        primary, _ = await pair(stage)
        stage.gpu.source.stubborn = 1.0
        stage.gpu.write(b"a", b"1")
        fuzzy = await primary.barrier()
        assert fuzzy.commit and not fuzzy.commit.consistent
        stage.gpu.source.stubborn = 0.0
        after = await primary.barrier()
        assert after.commit and after.commit.consistent and after.commit.root == fuzzy.commit.root

    play(story)


def test_sealing_fails_at_once_when_the_primary_is_fenced() -> None:
    """Whoever waits for the seal holds the replica's lock: the new epoch would never be followed."""

    async def story(stage: Stage) -> None:
        primary, _ = await pair(stage)
        stage.gpu.source.stubborn = 1.0
        stage.gpu.write(b"a", b"1")
        sealing = asyncio.ensure_future(primary.seal())
        await passes(1)
        assert not sealing.done()
        primary.close("fenced: epoch 4 exists")
        await passes(0)
        await passes(0)
        with pytest.raises(Fenced, match="epoch 4"):
            sealing.result()
        with pytest.raises(Fenced):
            await primary.seal()

    play(story)


def test_only_a_consistent_commit_is_sealed() -> None:
    """The tree on this disk has to be exactly what is promoted there: this disk is to follow from it."""

    async def story(stage: Stage) -> None:
        primary, standby = await pair(stage)
        stage.gpu.source.stubborn = 1.0
        stage.gpu.write(b"a", b"1")
        sealing = asyncio.ensure_future(primary.seal())
        await passes(1)
        stage.gpu.source.stubborn = 0.0
        sealed = await sealing
        assert sealed.consistent and sealed.sealed and sealed.root == stage.gpu.disk.files.tree().root()
        await stage.until(lambda: standby.head == sealed)
        assert not (await primary.barrier()).ok

    play(story)


def test_a_sealed_commit_reaches_a_standby_that_comes_later() -> None:
    """The link may break at the very moment of the switchover."""

    async def story(stage: Stage) -> None:
        primary, standby = await pair(stage)
        stage.gpu.write(b"a", b"1")
        assert (await primary.barrier()).ok
        for sender in primary._senders.values():
            sender.close()
        stage.gpu.write(b"a", b"2")
        sealed = await primary.seal()
        assert standby.head != sealed
        await stage.connect(primary, standby)
        await stage.until(lambda: standby.head == sealed)
        await stage.connect(primary, standby)
        await stage.until(lambda: standby.up)
        await passes(1)
        assert standby.head == sealed and primary.head == sealed

    play(story)


def test_no_id_is_given_twice_in_an_epoch_although_the_engine_restarted() -> None:
    """Two trees under one id: a store would keep one and believe that it has the other."""

    async def story(stage: Stage) -> None:
        first = stage.gpu.lead(EPOCH)
        for number in range(3):
            stage.gpu.write(b"a", b"%d" % number)
            await stage.until(lambda number=number: first.commits > number)
        last = first.head
        first.close("its engine died")
        second = stage.gpu.lead(EPOCH)
        await stage.until(lambda: second.head is not None)
        assert last and second.head and second.head.id.seq > last.id.seq

    play(story)


def test_ids_go_on_above_what_a_standby_has() -> None:
    """It would refuse an older one."""

    async def story(stage: Stage) -> None:
        first, standby = await pair(stage)
        stage.gpu.write(b"a", b"1")
        await first.barrier()
        head = standby.head
        first.close("its machine restarted without a memory")
        stage.gpu.numbers = type(stage.gpu.numbers)()
        second = stage.gpu.lead(EPOCH, ("cpu",))
        await stage.connect(second, standby)
        assert (await second.barrier()).ok
        assert head and standby.head and standby.head.id > head.id

    play(story)


def test_what_the_workspace_can_t_give_ends_the_role_loudly() -> None:
    """A primary whose loop died in silence would leave every barrier unknown, for ever, and look well."""

    async def story(stage: Stage) -> None:
        primary = stage.gpu.lead(EPOCH, ("cpu",))

        def fail() -> None:
            raise OSError(5, "input/output error")

        stage.gpu.source.hints = fail  # type: ignore[method-assign,assignment]
        with pytest.raises(OSError, match="input/output"):
            await stage.gpu.crew.fail()
        stage.gpu.crew._failures.clear()
        primary.close("over")

    play(story)


def test_divergence_names_what_the_ack_set_does_not_hold() -> None:
    """That is what a fenced primary's branch is made of."""

    async def story(stage: Stage) -> None:
        primary, standby = await pair(stage)
        stage.gpu.write(b"a", b"acked")
        answer = await primary.barrier()
        assert primary.divergence() == (answer.commit.id if answer.commit else None, set())
        standby.silence()
        stage.gpu.write(b"b", b"mine alone")
        await stage.until(lambda: primary.divergence()[1] == {b"b"})
        assert primary.risk().bytes > 0 and primary.risk().ms >= 0

    play(story)


def test_a_single_copy_remembers_a_bounded_number_of_names() -> None:
    """A build makes and deletes temporary files for days, and nobody acknowledges any."""

    async def story(stage: Stage) -> None:
        primary = stage.gpu.lead(EPOCH)
        await stage.until(lambda: primary.head is not None)
        head = primary.head
        assert head is not None
        for number in range(1_000):
            changes = tuple(Change(b"t%d/%d" % (number, other), None) for other in range(100))
            primary._note_unacked(_next(head, number), 0.0, changes)
        assert len(primary._unacked) <= 256
        assert sum(len(unacked.paths) for unacked in primary._unacked) < 100_000

    play(story)


def _next(head: Any, number: int) -> Any:
    return type(head)(CommitId(EPOCH, 100 + number), head.id, head.root, 0, consistent=True)


def test_a_closed_primary_takes_nobody_in_and_answers_unknown() -> None:
    """It is over for this epoch, from the instant that it heard of a higher one."""

    async def story(stage: Stage) -> None:
        primary, _ = await pair(stage)
        asking = asyncio.ensure_future(primary.barrier())
        await passes(0)
        primary.close("fenced: epoch 4 exists")
        answer = await asking
        assert not answer.ok and answer.reason == "fenced: epoch 4 exists"
        near, far = await stage.wire()
        assert primary.attach(near) is None
        with pytest.raises(LinkClosed):
            await far.receive()
        assert not primary.peers()[0].connected

    play(story)


def test_a_cut_that_was_under_way_is_not_the_seal() -> None:
    """It may have read before the last write of a workload that ended meanwhile; the next cut holds it."""

    async def story(stage: Stage) -> None:
        primary, standby = await pair(stage)
        stage.gpu.source.digest_s = 0.2
        stage.gpu.write(b"a", b"1")
        asking = asyncio.ensure_future(primary.barrier())
        await passes(0.15)  # the cut has grabbed "1" and is still hashing it
        stage.gpu.write(b"a", b"2")
        sealed = await primary.seal()
        assert sealed.sealed and sealed.root == stage.gpu.disk.files.tree().root()
        await asking
        await stage.until(lambda: standby.head == sealed)

    play(story)
