"""A replica when things break: disks, stores, engines and power; it says so in words, or ends loudly."""

from typing import Any

import pytest
from msgspec.structs import replace

from dumont.errors import DiskFull, NotDurable, StoreError
from dumont.model.instance import Role
from dumont.replication.ports import Kept
from dumont.snapshot.tree import Tree
from dumont.wire.stream import CommitMessage
from tests.simulation.disk import SimDisk
from tests.simulation.pair import passes
from tests.simulation.two import Two, assignment, both, engine, status


def test_a_store_that_is_away_is_tried_again() -> None:
    """A restarting server must not cost anybody his branch, nor leave an instance halted for ever."""

    async def story(two: Two) -> None:
        await two.working()
        two.cpu.attach((await two.stage.wire())[1])
        two.stage.network.cut("gpu", ["cpu"], "both")
        two.stage.gpu.write(b"b", b"mine alone")
        await passes(1)
        two.stage.gpu.history.failing = StoreError("the store can't be reached")
        last = assignment(2, Role.NONE, "cpu", branch="gpu-e1")
        await two.gpu.assign(last)
        assert "can't be reached" in status(two.gpu).halted and two.gpu.may_go_on
        two.stage.gpu.history.failing = None
        await two.gpu.assign(last)
        assert status(two.gpu).branch_saved and status(two.gpu).halted == "" and not two.gpu.may_go_on

    both(story)


def test_no_role_is_played_before_its_epoch_is_durable() -> None:
    """A replica that forgot its promise could acknowledge for two primaries."""

    async def story(two: Two) -> None:
        two.stage.cpu.disk.failing = True
        await two.cpu.assign(assignment(1, Role.PRIMARY, "cpu", "gpu"))
        state = status(two.cpu)
        assert two.cpu.role is Role.NONE and two.stage.cpu.doors.serving == 0 and "fsync" in state.halted
        assert state.epoch == 1  # so that a server sees that it is this epoch's leader that can't
        two.stage.cpu.disk.failing = False
        await two.cpu.assign(assignment(1, Role.PRIMARY, "cpu", "gpu"))
        assert two.cpu.role is Role.NONE and not two.cpu.may_go_on

    both(story)


def test_a_primary_whose_disk_fails_when_it_seals_closes_its_doors() -> None:
    """The server must fail over, and nobody is to go on writing there."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.disk.failing = True
        await two.gpu.assign(replace(two.roles["gpu"], seal=True))
        state = status(two.gpu)
        assert state.halted and state.sealed is None and not state.ready
        await two.gpu.assign(two.roles["gpu"])
        assert two.stage.gpu.doors.serving == 0

    both(story)


def test_a_full_disk_is_tried_again() -> None:
    """Somebody may free some."""

    async def story(two: Two) -> None:
        disk = two.stage.gpu.disk
        assert isinstance(disk, Narrow)
        disk.room = False
        await two.gpu.assign(assignment(1, Role.PRIMARY))
        assert two.gpu.role is Role.NONE and two.gpu.may_go_on and "no space" in status(two.gpu).halted
        disk.room = True
        await two.gpu.assign(assignment(1, Role.PRIMARY))
        assert two.gpu.role is Role.PRIMARY and status(two.gpu).halted == ""

    both(story, gpu=Narrow)


class Narrow(SimDisk):
    """A disk on which a primary can't note that its tree moves on."""

    room = True

    async def set_head(self, commit: Any, tree: Tree) -> None:
        if not self.room:
            raise DiskFull("no space left")
        await super().set_head(commit, tree)


def test_a_disk_that_can_t_be_recovered_is_said_in_words() -> None:
    """An engine that died of it would be started again for ever, and nobody told why."""

    async def story(two: Two) -> None:
        assert "can't be recovered" in status(two.cpu).halted
        await two.cpu.assign(assignment(4, Role.STANDBY))
        assert two.cpu.role is Role.NONE and status(two.cpu).epoch == 4

    both(story, cpu=Broken)


class Broken(SimDisk):
    """A disk that failed before."""

    async def load(self) -> Kept:
        raise NotDurable("this disk failed before")


def test_a_standby_that_can_t_materialise_what_it_acknowledged_is_not_promoted() -> None:
    """Its files are no commit. A new engine finishes what is journaled, or says why it can't."""

    async def story(two: Two) -> None:
        await two.working()
        disk = two.stage.cpu.disk
        assert isinstance(disk, Unappliable)
        disk.broken = True
        two.stage.gpu.write(b"a", b"1")
        await two.gpu.barrier(timeout_s=1.0)
        await two.cpu.assign(assignment(2, Role.PRIMARY, "cpu", "gpu"))
        assert two.cpu.role is Role.NONE and two.stage.cpu.doors.serving == 0
        assert "can't be brought up to date" in status(two.cpu).halted and status(two.cpu).epoch == 2
        disk.broken = False
        restarted = await engine(two.stage.cpu)
        await restarted.assign(assignment(2, Role.PRIMARY, "cpu", "gpu"))
        assert restarted.role is Role.PRIMARY and two.stage.cpu.disk.files.content == {b"a": b"1"}

    both(story, cpu=Unappliable)


class Unappliable(SimDisk):
    """A disk that has room for the journal and not for the files."""

    broken = False

    async def apply(self, message: CommitMessage) -> None:
        if self.broken:
            raise DiskFull("no space left")
        await super().apply(message)


def test_a_standby_that_refused_can_still_be_promoted_to_what_it_acknowledged() -> None:
    """All of it is there; only the next commit did not fit."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.write(b"a", b"acked")
        assert (await two.gpu.barrier()).ok
        two.stage.cpu.disk.full = True
        two.stage.gpu.write(b"b", b"refused")
        await two.stage.until(lambda: bool(status(two.cpu).halted))
        two.stage.cpu.disk.full = False
        await two.cpu.assign(assignment(2, Role.PRIMARY, "cpu", "gpu"))
        assert two.cpu.role is Role.PRIMARY and two.stage.cpu.disk.files.content == {b"a": b"acked"}

    both(story)


def test_a_workspace_that_can_t_be_read_is_said_and_closes_the_doors() -> None:
    """The server fails over on it; a loop that died in silence would leave every barrier unknown for ever."""

    async def story(two: Two) -> None:
        await two.working()

        def fail() -> None:
            raise OSError(5, "input/output error")

        two.stage.gpu.source.hints = fail  # type: ignore[method-assign,assignment]
        await two.stage.until(lambda: bool(status(two.gpu).halted))
        state = status(two.gpu)
        assert "can't be read" in state.halted and not state.ready and two.stage.gpu.doors.serving == 0
        await two.gpu.assign(two.roles["gpu"])
        assert two.stage.gpu.doors.serving == 0 and not (await two.gpu.barrier()).ok

    both(story)


def test_what_is_unforeseen_ends_the_engine() -> None:
    """The watchdog starts it anew; a primary without its loop would stay a zombie."""

    async def story(two: Two) -> None:
        await two.working()

        def fail() -> None:
            raise AssertionError("a bug of ours")

        two.stage.gpu.source.hints = fail  # type: ignore[method-assign,assignment]
        with pytest.raises(AssertionError, match="a bug of ours"):
            await two.gpu.crew.fail()
        two.gpu.crew._failures.clear()

    both(story)


def test_a_restarted_engine_leads_on_in_the_same_epoch_and_gives_no_id_twice() -> None:
    """The machine went on; its tree may have changed in between, and has to be walked."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.write(b"a", b"1")
        before = await two.gpu.barrier()
        two.gpu.crew.dismiss()
        two.stage.gpu.disk.files.content[b"b"] = b"written while no engine looked"
        two.gpu = await engine(two.stage.gpu)
        await two.gpu.assign(two.roles["gpu"])
        await two.stage.until(lambda: status(two.gpu).head is not None)
        head = status(two.gpu).head
        assert before.commit and head and head > before.commit.id
        await two.connect()
        assert (await two.gpu.barrier()).ok
        await two.cpu.assign(assignment(2, Role.PRIMARY, "cpu", "gpu"))
        assert two.stage.cpu.disk.files.content == {b"a": b"1", b"b": b"written while no engine looked"}

    both(story)


def test_an_engine_that_starts_anew_never_goes_back_to_the_ack_set_before_an_exchange() -> None:
    """A server that lags behind may name it, and the standby that takes the place would lack what was answered OK."""

    async def story(two: Two) -> None:
        await two.working()
        await two.gpu.assign(assignment(1, Role.PRIMARY, ack_set=("cpu", "next"), ack_version=2))
        assert status(two.gpu).ack_version == 2
        assert not (await two.gpu.barrier(timeout_s=1.0)).ok, "the next one has acknowledged nothing"
        two.gpu.crew.dismiss()
        two.gpu = await engine(two.stage.gpu)
        await two.gpu.assign(two.roles["gpu"])
        await two.connect()
        await two.stage.until(lambda: any(peer.acked for peer in status(two.gpu).peers))
        assert (await two.gpu.barrier(timeout_s=1.0)).reason.startswith("single copy")
        await two.gpu.assign(assignment(1, Role.PRIMARY, ack_set=("cpu",), ack_version=3))
        assert (await two.gpu.barrier()).ok
        await two.assign(2, "gpu", ("cpu",))
        assert status(two.gpu).ack_version == 0, "a new epoch counts its own"

    both(story)


def test_an_exchange_that_can_t_be_noted_does_not_begin() -> None:
    """The set before it stays in use, and the server is told so."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.disk.failing = True
        await two.gpu.assign(assignment(1, Role.PRIMARY, ack_set=("cpu", "next"), ack_version=2))
        assert status(two.gpu).ack_version == 1
        assert (await two.gpu.barrier()).ok
        await two.gpu.assign(assignment(1, Role.PRIMARY, ack_set=("next",), ack_version=3))
        assert status(two.gpu).ack_version == 3

    both(story)


def test_a_machine_that_lost_power_leads_only_at_a_higher_epoch() -> None:
    """What it had not fsynced is gone, and some of it may have been acknowledged."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.write(b"a", b"1")
        assert (await two.gpu.barrier()).ok
        two.gpu.crew.dismiss()
        two.stage.gpu.disk.power_cut()
        restarted = await engine(two.stage.gpu)
        await restarted.assign(two.roles["gpu"])
        assert restarted.role is Role.NONE and status(restarted).rebooted
        await restarted.assign(assignment(2, Role.PRIMARY))
        assert restarted.role is Role.PRIMARY and not status(restarted).rebooted

    both(story)


def test_a_machine_that_lost_power_never_leads_beside_a_copy_that_has_everything() -> None:
    """A switchover may be given up to it before anybody knows; not even a new engine of it forgets its restart."""

    async def story(two: Two) -> None:
        await two.working()
        two.stage.gpu.write(b"a", b"1")
        assert (await two.gpu.barrier()).ok
        two.gpu.crew.dismiss()
        two.stage.gpu.disk.power_cut()
        assert two.stage.gpu.disk.files.content == {}
        for _ in range(2):
            restarted = await engine(two.stage.gpu)
            await restarted.assign(assignment(2, Role.PRIMARY, ack_set=("cpu",)))
            said = status(restarted)
            assert (restarted.role, said.epoch, said.rebooted) == (Role.NONE, 2, True)
        await restarted.assign(assignment(2, Role.PRIMARY))
        assert restarted.role is Role.PRIMARY and not status(restarted).rebooted
        restarted.crew.dismiss()
        restarted = await engine(two.stage.gpu)
        await restarted.assign(assignment(2, Role.PRIMARY, ack_set=("cpu",), ack_version=1))
        assert restarted.role is Role.PRIMARY, "an engine that starts anew on the machine that leads goes on"

    both(story)


def test_a_machine_that_lost_power_is_trusted_again_once_it_holds_a_whole_commit() -> None:
    """What it lacked came back to it over the stream."""

    async def story(two: Two) -> None:
        await two.working()
        two.gpu.crew.dismiss()
        two.stage.gpu.disk.power_cut()
        two.gpu = await engine(two.stage.gpu)
        await two.assign(2, "cpu")
        assert status(two.gpu).rebooted
        await two.connect()
        two.stage.cpu.write(b"b", b"2")
        await two.stage.until(lambda: two.stage.gpu.disk.files.content == {b"b": b"2"})
        assert not status(two.gpu).rebooted
        await two.assign(3, "gpu", ("cpu",))
        assert two.gpu.role is Role.PRIMARY

    both(story)
