"""Negative controls: switch one protection off, and the simulator must notice. Otherwise it would prove nothing."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime

import msgspec
import pytest

from dumont.clock import Clock
from dumont.control.decide import decide
from dumont.control.observe import Observatory
from dumont.control.view import (
    TIMING,
    Action,
    ChangeAckSet,
    Fence,
    Promote,
    Reason,
    Release,
    ReleaseReason,
    Rent,
    Timing,
    View,
)
from dumont.model.instance import Machine
from dumont.model.policy import OnDemand, Policy
from dumont.replication.barrier import Answer
from dumont.replication.ports import Hint
from dumont.replication.replica import Replica
from dumont.replication.sender import StreamLink
from dumont.replication.standby import Standby
from dumont.wire.control import Assignment
from dumont.wire.stream import Ack, CommitMessage
from tests.simulation.checks import Broken
from tests.simulation.disk import SimDisk, SimSource
from tests.simulation.machine import Swaps
from tests.simulation.world import simulate

SEEDS = range(1, 60)
RACERS_MAX = 9


def _caught(swaps: Swaps, promise: str, calm: bool = False) -> None:
    """Some world breaks that promise, and does not break it with the protection on."""
    with ProcessPoolExecutor(max_workers=2) as pool:
        tried = [pool.submit(_broken, seed, calm, swaps) for seed in SEEDS]
        for seed, found in zip(SEEDS, tried, strict=True):
            if found.result().startswith(promise):
                pool.shutdown(wait=True, cancel_futures=True)
                simulate(seed, calm)
                return
    pytest.fail(f"{len(SEEDS)} worlds ran without the protection, and nobody noticed")


def _broken(seed: int, calm: bool, swaps: Swaps) -> str:
    """Which promise that world breaks; "" for none."""
    try:
        simulate(seed, calm, swaps)
    except Broken as broken:
        return str(broken)
    return ""


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


class Resurrected(Replica):
    """Starts again after its machine was stopped, as if nothing had happened meanwhile."""

    async def start(self) -> None:
        await super().start()
        self._fork, self._unsure_epoch = None, 0


class Gullible(Replica):
    """Leads at whatever epoch it is promoted to, though its machine restarted and another copy has everything."""

    def _may_lead(self, assignment: Assignment) -> bool:
        return super()._may_lead(msgspec.structs.replace(assignment, ack_set=()))


def shunning_nobody(view: View, now: datetime, timing: Timing = TIMING) -> list[Action]:
    """Forgets which hosts failed."""
    return decide(replace(view, beliefs=replace(view.beliefs, shunned={})), now, timing)


def keeping_extras(view: View, now: datetime, timing: Timing = TIMING) -> list[Action]:
    """Lets no loser of a race go."""
    return [a for a in decide(view, now, timing) if not (isinstance(a, Release) and a.reason is ReleaseReason.EXTRA)]


def never_fencing(view: View, now: datetime, timing: Timing = TIMING) -> list[Action]:
    """Goes on counting on a machine that was failed over from, whatever it does when it comes back."""
    actions = decide(view, now, timing)
    dropped = (Fence, Rent) if any(isinstance(action, Fence) for action in actions) else ()
    return [action for action in actions if not isinstance(action, dropped)]


def exchanging_at_once(view: View, now: datetime, timing: Timing = TIMING) -> list[Action]:
    """Puts the new standby in the place of the old one, which stays a while, before the primary has heard of it."""
    return [
        replace(action, ack_set=action.ack_set - view.workspace.ack_set)
        if isinstance(action, ChangeAckSet) and len(action.ack_set) > 1
        else action
        for action in keeping_extras(view, now, timing)
    ]


def promoting_whoever_is_there(view: View, now: datetime, timing: Timing = TIMING) -> list[Action]:
    """Fails over to the member that joined last."""
    row = view.workspace
    actions = decide(view, now, timing)
    return [
        replace(action, instance_id=max(row.ack_set - {action.instance_id}))
        if isinstance(action, Promote) and action.reason is Reason.FAILOVER and len(row.ack_set) > 1
        else action
        for action in actions
    ]


def lavish(policy: Policy) -> Policy:
    """Reads every policy as one that allows machines on demand."""
    return msgspec.structs.replace(policy, gpu=msgspec.structs.replace(policy.gpu, on_demand=OnDemand.FALLBACK))


def racing_on(view: View, now: datetime, timing: Timing = TIMING) -> list[Action]:
    """Starts racers before those that it started have come."""
    gpus = [seen for seen in view.sightings if seen.instance.machine is Machine.GPU and seen.status is None]
    others = tuple(seen for seen in view.sightings if seen not in gpus)
    again = decide(replace(view, sightings=others), now, timing) if gpus and len(gpus) < RACERS_MAX else []
    return decide(view, now, timing) + [action for action in again if isinstance(action, Rent)]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("swaps", "promise"),
    [
        pytest.param(Swaps(decide=shunning_nobody, focus=("_break_hosts",)), "policy: ", id="no host is shunned"),
        pytest.param(Swaps(decide=keeping_extras, focus=("_kill_primary",)), "liveness", id="losers of a race stay"),
        pytest.param(Swaps(decide=never_fencing, focus=("_outbid",)), "liveness", id="a former primary is not fenced"),
        pytest.param(
            Swaps(policy=lavish, focus=("_drought", "_preempt")), "policy: ", id="on demand against the policy"
        ),
        pytest.param(Swaps(decide=racing_on, focus=("_preempt",)), "policy: ", id="racers without end"),
    ],
)
def test_the_simulator_notices_what_is_paid_for_in_vain(swaps: Swaps, promise: str) -> None:
    """Each of these costs somebody's money, or their GPU."""
    _caught(swaps, promise)


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
            Swaps(replica=OptimisticReplica, focus=("_kill_primary", "_cut_primary")),
            "I1",
            id="barrier OK with the standby gone",
        ),
        pytest.param(Swaps(source=CarelessSource, focus=("_kill_primary",)), "I", id="overflow ignored"),
        pytest.param(
            Swaps(source=BlindSource, focus=("_kill_primary",)),
            "I1: a write through shared memory",
            id="mmap neither covered nor named",
        ),
        pytest.param(
            Swaps(replica=Resurrected, focus=("_outbid", "_crash_server")),
            "I",
            id="a resumed machine goes on as before",
        ),
        pytest.param(
            Swaps(replica=Gullible, focus=("_preempt_with_notice", "_cling")),
            "I1",
            id="a restarted machine leads whenever it is promoted",
        ),
        pytest.param(
            Swaps(decide=exchanging_at_once, focus=("_preempt_with_notice", "_ambush")),
            "I1",
            id="a standby is exchanged before the primary knows",
        ),
        pytest.param(
            Swaps(decide=promoting_whoever_is_there, focus=("_preempt_with_notice", "_ambush")),
            "I1",
            id="who joined beside the standby is promoted",
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
