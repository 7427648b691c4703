"""Barriers: OK only with every ack of the set, at this epoch; otherwise unknown, never OK."""

import asyncio

from dumont.model.commit import Commit, CommitId
from dumont.replication.barrier import AckSet, Answer, Barriers
from tests.simulation.loop import VirtualLoop


def _commit(seq: int, epoch: int = 3) -> Commit:
    return Commit(CommitId(epoch, seq), None, b"root", 0, True)


def _answers(barriers: Barriers, *steps: object) -> Answer:
    """Ask for a barrier, take the steps, and return the answer in virtual time."""

    async def play() -> Answer:
        asking = asyncio.ensure_future(barriers.ask(5.0))
        await asyncio.sleep(0)
        for step in steps:
            step(barriers.take_asked()) if callable(step) else None
        return await asking

    loop = VirtualLoop()
    try:
        return loop.run_until_complete(play())
    finally:
        loop.close()


def _with_members(*members: str) -> Barriers:
    barriers = Barriers(3)
    barriers.adopt(AckSet(3, 1, frozenset(members)))
    return barriers


def test_a_barrier_is_ok_once_the_whole_ack_set_holds_its_commit():
    """One member of two is one machine too few."""
    barriers = _with_members("a", "b")

    def acknowledge(asked: list[asyncio.Future[Answer]]) -> None:
        barriers.cover(asked, _commit(7))
        barriers.ack("a", CommitId(3, 7))
        assert not asked[0].done()
        barriers.ack("b", CommitId(3, 8))

    answer = _answers(barriers, acknowledge)
    assert answer.ok and answer.commit == _commit(7)
    assert barriers.ok_seq == 7


def test_an_empty_ack_set_answers_unknown_at_once():
    """With a single copy nothing can be promised, and waiting would only hide it."""
    answer = _answers(Barriers(3))
    assert not answer.ok and "single copy" in answer.reason


def test_silence_answers_unknown_after_its_time():
    """A standby that says nothing has promised nothing."""
    barriers = _with_members("a")
    answer = _answers(barriers, lambda asked: barriers.cover(asked, _commit(1)))
    assert not answer.ok and "not acknowledged within 5 s by a" in answer.reason


def test_an_ack_of_another_epoch_counts_for_nothing():
    """Otherwise a standby of an earlier life could vouch for commits it never saw."""
    barriers = _with_members("a")

    def stale(asked: list[asyncio.Future[Answer]]) -> None:
        barriers.cover(asked, _commit(1))
        barriers.ack("a", CommitId(2, 9))
        barriers.ack("a", CommitId(4, 9))

    assert not _answers(barriers, stale).ok


def test_a_stranger_s_ack_counts_for_nothing():
    """Only members of the set are asked for their fsync."""
    barriers = _with_members("a")

    def strange(asked: list[asyncio.Future[Answer]]) -> None:
        barriers.cover(asked, _commit(1))
        barriers.ack("b", CommitId(3, 1))

    assert not _answers(barriers, strange).ok


def test_shrinking_the_ack_set_to_nobody_answers_unknown_instead_of_ok():
    """The last member was left out: what it did not acknowledge was acknowledged by nobody."""
    barriers = _with_members("a")

    def shrink(asked: list[asyncio.Future[Answer]]) -> None:
        barriers.cover(asked, _commit(1))
        barriers.adopt(AckSet(3, 2, frozenset()))

    answer = _answers(barriers, shrink)
    assert not answer.ok and "single copy" in answer.reason


def test_an_older_version_of_the_ack_set_is_ignored():
    """Messages may come late; the set only moves forward."""
    barriers = _with_members("a")
    barriers.adopt(AckSet(3, 0, frozenset()))
    barriers.adopt(AckSet(2, 9, frozenset()))
    assert barriers.ack_set.members == {"a"}


def test_after_closing_nothing_is_ever_ok():
    """A sealed or fenced primary acknowledges nothing more, even if the ack is already on its way."""
    barriers = _with_members("a")

    def close(asked: list[asyncio.Future[Answer]]) -> None:
        barriers.cover(asked, _commit(1))
        barriers.close("fenced: epoch 4 exists")
        barriers.ack("a", CommitId(3, 1))

    answer = _answers(barriers, close)
    assert not answer.ok and answer.reason == "fenced: epoch 4 exists"
    assert barriers.ok_seq == 0
