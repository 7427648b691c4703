"""Negative controls: switch one protection off, and the simulator must notice. Otherwise it would prove nothing."""

import asyncio

import pytest

from dumont.clock import Clock
from dumont.control.observe import Observatory
from dumont.replication.barrier import Answer
from dumont.replication.ports import Hint
from dumont.replication.replica import Replica
from dumont.replication.sender import StreamLink
from dumont.replication.standby import Standby
from dumont.wire.stream import Ack, CommitMessage
from tests.simulation.checks import Broken
from tests.simulation.disk import SimDisk, SimSource
from tests.simulation.machine import Swaps
from tests.simulation.world import simulate

SEEDS = range(1, 60)


def _caught(swaps: Swaps, promise: str, calm: bool = False) -> None:
    """Some world breaks that promise, and none of them breaks it with the protection on."""
    for seed in SEEDS:
        try:
            simulate(seed, calm, swaps)
        except Broken as broken:
            if str(broken).startswith(promise):
                simulate(seed, calm)
                return
    pytest.fail(f"{len(SEEDS)} worlds ran without the protection, and nobody noticed")


class EagerDisk(SimDisk):
    """Says that it is durable, and becomes so a second later."""

    async def sync(self) -> None:
        asyncio.get_running_loop().call_later(1.0, lambda: asyncio.ensure_future(self._sync_late()))

    async def _sync_late(self) -> None:
        if self._volatile:
            await super().sync()


class DoubleAgent(Standby):
    """Goes on acknowledging for the old epoch after it was promoted."""

    _promoted = False

    def silence(self) -> None:
        self._promoted = True

    async def stop(self) -> None:
        self._promoted = True
        while self._unapplied:
            await self._clock.sleep(0.001)

    async def _take_commit(self, link: StreamLink, message: CommitMessage) -> None:
        if self._promoted:
            await link.send(Ack(message.commit.id))
        else:
            await super()._take_commit(link, message)


class ForgetfulReplica(Replica):
    """Has no epoch check at the standby."""

    standby_type = DoubleAgent


class HalfDisk(SimDisk):
    """Calls a commit applied when half of it is."""

    checks_itself = False

    async def apply(self, message: CommitMessage) -> None:
        kept = self.files.content.copy()
        await super().apply(message)
        for change in message.changes[len(message.changes) // 2 :]:
            if change.path in kept:
                self.files.content[change.path] = kept[change.path]
            else:
                self.files.content.pop(change.path, None)


class OptimisticReplica(Replica):
    """Says OK with the standby gone."""

    async def barrier(self, paths: "tuple[bytes, ...]" = (), timeout_s: float = 10.0) -> Answer:  # type: ignore[override]
        answer = await super().barrier(paths, timeout_s)
        primary = self._primary
        if answer.ok or primary is None:
            return answer
        return Answer(ok=True, commit=primary.head)


class CarelessSource(SimSource):
    """Loses hints when its queue is full, and says nothing."""

    def touched(self, path: bytes) -> None:
        if len(self._hints) < 5:
            self._hints.append(Hint(path))


class BlindSource(SimSource):
    """Does not look for files that are written through shared memory."""

    def mapped(self) -> set[bytes]:
        return set()


class SleeplessObservatory(Observatory):
    """Never notices that it was itself frozen."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, tick_s=1e9)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("swaps", "promise"),
    [
        pytest.param(Swaps(disk=EagerDisk, focus=("_black_out",)), "I1", id="ack before fsync"),
        pytest.param(
            Swaps(replica=ForgetfulReplica, focus=("_cut_primary",)), "I1", id="no epoch check at the standby"
        ),
        pytest.param(Swaps(disk=HalfDisk, focus=("_kill_primary",)), "I3", id="half-applied commit promoted"),
        pytest.param(
            Swaps(replica=OptimisticReplica, focus=("_kill_primary",)), "I1", id="barrier OK with the standby gone"
        ),
        pytest.param(Swaps(source=CarelessSource, focus=("_kill_primary",)), "I", id="overflow ignored"),
        pytest.param(
            Swaps(source=BlindSource, focus=("_kill_primary",)),
            "I1: a write through shared memory",
            id="mmap neither covered nor named",
        ),
    ],
)
def test_the_simulator_notices(swaps: Swaps, promise: str) -> None:
    """Each of these is a way in which an earlier design lost somebody's work."""
    _caught(swaps, promise)


@pytest.mark.timeout(400)
def test_a_frozen_server_that_does_not_know_it_was_frozen_is_noticed() -> None:
    """It would take its own silence for the primary's, and fail over for nothing."""
    _caught(Swaps(observatory=SleeplessObservatory, focus=("_freeze_server",)), "I6", calm=True)
