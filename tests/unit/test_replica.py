"""A replica: one role at a time, at the newest epoch, promised before it is played; what can't be is said in words."""

import asyncio

from msgspec.structs import replace

from dumont.errors import Refused
from dumont.model.commit import CommitId
from dumont.model.instance import Role
from dumont.replication.ports import Promise
from tests.simulation.pair import passes
from tests.simulation.two import Two, assignment, both, engine, status


def test_an_agent_boots_without_a_role_and_opens_no_door() -> None:
    """What it was before may be over."""

    async def story(two: Two) -> None:
        assert two.gpu.role is Role.NONE and two.stage.gpu.doors.log == []
        assert not (await two.gpu.barrier()).ok
        near, _ = await two.stage.wire()
        assert two.gpu.attach(near) is None

    both(story)


def test_a_failover_keeps_every_acknowledged_byte() -> None:
    """The standby becomes primary with exactly the commit that it acknowledged."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.write(b"a", b"precious")
        answer = await two.gpu.barrier()
        assert answer.ok and two.stage.gpu.doors.serving == 1
        await two.cpu.assign(assignment(2, Role.PRIMARY, "cpu", "gpu"))
        assert two.stage.cpu.disk.files.content == {b"a": b"precious"}
        assert two.stage.cpu.doors.serving == 2 and two.stage.cpu.watchdog.led == [2]
        assert two.stage.cpu.disk.durable.promise == Promise(2)
        state = status(two.cpu)
        assert state.ready and state.role is Role.PRIMARY and answer.commit and state.head == answer.commit.id

    both(story)


def test_a_lower_epoch_is_never_followed_again() -> None:
    """Messages may come late, from a server that was frozen."""

    async def story(two: Two) -> None:
        await two.cpu.assign(assignment(5, Role.STANDBY))
        await two.cpu.assign(assignment(4, Role.PRIMARY, "cpu", "gpu"))
        assert two.cpu.role is Role.STANDBY and status(two.cpu).epoch == 5
        restarted = await engine(two.stage.cpu)
        await restarted.assign(assignment(4, Role.PRIMARY, "cpu", "gpu"))
        assert restarted.role is Role.NONE and two.stage.cpu.doors.serving == 0

    both(story)


def test_a_higher_epoch_silences_the_old_primary_before_anything_is_awaited() -> None:
    """Between hearing of it and leaving there must be no instant in which it says OK."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.write(b"a", b"1")
        asking = asyncio.ensure_future(two.gpu.barrier())
        await passes(0)
        assigning = asyncio.ensure_future(two.gpu.assign(assignment(2, Role.NONE, "cpu")))
        await passes(0)
        assert two.stage.gpu.watchdog.ended == [2] and two.stage.gpu.doors.serving == 0
        await assigning
        assert not (await asking).ok

    both(story)


def test_a_fenced_primary_keeps_its_divergent_files_as_a_branch() -> None:
    """They are somebody's work, and must never be merged over the workspace."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.write(b"a", b"acked")
        acked = await two.gpu.barrier()
        two.stage.network.cut("gpu", ["cpu"], "both")
        two.stage.gpu.write(b"b", b"mine alone")
        await passes(1)
        two.stage.gpu.write(b"c", b"at the last moment")
        await two.gpu.assign(assignment(2, Role.STANDBY, "cpu"))
        assert two.gpu.role is Role.NONE and "nobody acknowledged" in status(two.gpu).halted
        await two.gpu.assign(assignment(2, Role.NONE, "cpu", branch="gpu-e1"))
        saved = status(two.gpu).branch_saved
        assert saved is not None and saved.paths == (b"b", b"c") and status(two.gpu).halted == ""
        assert acked.commit and saved.forked_from == acked.commit.id
        await two.gpu.assign(assignment(2, Role.NONE, "cpu", branch="gpu-e1"))
        assert list(two.stage.gpu.history.kept) == ["gpu-e1"]

    both(story)


def test_a_fenced_primary_that_diverged_in_nothing_says_so() -> None:
    """Then it can be released at once."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.write(b"a", b"acked")
        await two.gpu.barrier()
        await two.gpu.assign(assignment(2, Role.NONE, "cpu", branch="gpu-e1"))
        saved = status(two.gpu).branch_saved
        assert saved is not None and saved.paths == () and two.stage.gpu.history.kept == {}

    both(story)


def test_a_switchover_moves_exactly_the_sealed_commit() -> None:
    """The former primary holds it too, and follows from it without sending everything again."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.write(b"a", b"1")
        await two.gpu.assign(replace(two.roles["gpu"], seal=True))
        sealed = status(two.gpu).sealed
        assert sealed is not None and two.stage.gpu.disk.durable.promise == Promise(1, sealed)
        assert "quiesce 1" in two.stage.gpu.doors.log and two.stage.gpu.doors.serving == 0
        await two.stage.until(lambda: status(two.cpu).head == sealed)
        await two.assign(2, "cpu", ("gpu",), ack_version=2)
        near, far = await two.stage.wire()
        two.gpu.attach(near)
        two.cpu.attach(far)
        two.stage.cpu.write(b"b", b"2")
        assert (await two.cpu.barrier()).ok
        assert two.gpu.role is Role.STANDBY and status(two.gpu).sealed is None
        await two.gpu.assign(assignment(3, Role.NONE, "cpu"))
        assert two.stage.gpu.disk.files.content == {b"a": b"1", b"b": b"2"}

    both(story)


def test_a_sealed_primary_leads_again_only_at_a_higher_epoch() -> None:
    """It may be that the target was promoted, and the word of it is still on its way."""

    async def story(two: Two) -> None:
        await two.working()
        await two.gpu.assign(replace(two.roles["gpu"], seal=True))
        await two.gpu.assign(two.roles["gpu"])
        assert two.stage.gpu.doors.serving == 0 and not (await two.gpu.barrier()).ok
        restarted = await engine(two.stage.gpu)
        await restarted.assign(two.roles["gpu"])
        assert restarted.role is Role.NONE and two.stage.gpu.doors.serving == 0
        await restarted.assign(assignment(2, Role.PRIMARY))
        assert restarted.role is Role.PRIMARY and two.stage.gpu.doors.serving == 2

    both(story)


def test_a_primary_that_is_fenced_while_it_seals_follows_the_new_epoch() -> None:
    """The seal holds the lock, and a workload that can't be frozen kept it there for ever."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.source.stubborn = 1.0
        two.stage.gpu.write(b"a", b"1")
        sealing = asyncio.ensure_future(two.gpu.assign(replace(two.roles["gpu"], seal=True)))
        await passes(2)
        assert not sealing.done()
        async with asyncio.timeout(5):
            await two.gpu.assign(assignment(2, Role.PRIMARY))
        assert two.gpu.role is Role.PRIMARY and two.stage.gpu.doors.serving == 2
        await sealing

    both(story)


def test_nothing_is_sealed_while_the_workload_may_still_run() -> None:
    """A program that writes on after the seal would leave a tree that is no commit."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.doors.refusal = Refused("the session process is away")
        await two.gpu.assign(replace(two.roles["gpu"], seal=True))
        assert status(two.gpu).sealed is None and status(two.gpu).halted == ""
        await two.gpu.assign(assignment(2, Role.PRIMARY))
        assert two.stage.gpu.doors.serving == 2

    both(story)


def test_after_a_seal_that_was_given_up_everything_is_looked_at_again() -> None:
    """Nobody watched the tree between the two epochs."""

    async def story(two: Two) -> None:
        await two.working()
        await two.gpu.assign(replace(two.roles["gpu"], seal=True))
        two.stage.gpu.disk.files.content[b"straggler"] = b"written by what would not end"
        await two.gpu.assign(assignment(2, Role.PRIMARY, ack_set=("cpu",), ack_version=2))
        await two.cpu.assign(assignment(2, Role.STANDBY, "gpu", "gpu"))
        await two.connect()
        assert (await two.gpu.barrier()).ok
        await two.cpu.assign(assignment(3, Role.PRIMARY, "cpu", "gpu"))
        assert b"straggler" in two.stage.cpu.disk.files.content

    both(story)


def test_a_stored_commit_is_fetched_when_nobody_else_has_it() -> None:
    """Every copy is gone; the store's is what there is."""

    async def story(two: Two) -> None:
        id = CommitId(1, 9)
        await two.gpu.assign(assignment(1, Role.NONE, "cpu", restore=id))
        assert status(two.gpu).head == id and two.stage.gpu.disk.durable.head is not None

    both(story)


def test_only_peers_of_the_assignment_are_spoken_to() -> None:
    """Every instance has a certificate; only one is the other copy."""

    async def story(two: Two) -> None:
        await two.gpu.assign(assignment(1, Role.PRIMARY, "gpu", "somebody else"))
        near, _ = await two.stage.wire()
        assert two.gpu.attach(near) is None
        await two.cpu.assign(assignment(1, Role.STANDBY, "gpu", "somebody else"))
        _, far = await two.stage.wire()
        assert two.cpu.attach(far) is None

    both(story)


def test_only_a_tree_that_is_its_commit_goes_to_the_store() -> None:
    """While changes are pending the head says something else than the tree."""

    async def story(two: Two) -> None:
        assert two.gpu.committed() is None
        await two.working()
        two.stage.gpu.write(b"a", b"1")
        await two.gpu.barrier()
        led = two.gpu.committed()
        assert led is not None and led[1].root() == led[0].root
        two.stage.gpu.source.stubborn = 1.0
        two.stage.gpu.write(b"a", b"2")
        await two.stage.until(lambda: two.gpu.committed() is None)

    both(story)
