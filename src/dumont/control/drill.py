"""A drill: a real interruption on purpose. The primary's machine is killed, the control loop is told nothing of it, and
what follows is measured and checked against a barrier taken just before.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from dumont.control.ask import Parts
from dumont.errors import BadInput, NotPossibleHere
from dumont.model.commit import CommitId
from dumont.model.event import Event
from dumont.model.instance import Instance
from dumont.model.workspace import State, Workspace
from dumont.wire.control import Status, Synced

BARRIER_S_MAX = 10.0
CONFIRM_S_MAX = 2.0
FAILOVER_S_MAX = 30.0
LOOK_EVERY_S = 0.02


@runtime_checkable
class Breakable(Protocol):
    """A provider that can break its own machines, as the local one can."""

    async def kill(self, ref: str) -> None:
        """End a machine the hard way; its record stays as it is."""


@dataclass(frozen=True, kw_only=True)
class Drilled:
    """What a drill saw. Milliseconds run from the kill; None was not observed in time."""

    workspace: str
    kind: str
    at: str
    ok: bool
    epoch_before: int
    epoch_after: int
    primary_before: str
    primary_after: str
    barrier: str
    barrier_root: str
    promoted_commit: str
    promoted_root: str
    lost: bool
    at_risk_bytes: int | None
    detected_ms: int | None
    decided_ms: int | None
    promoted_ms: int | None
    why: str
    verdict: str


async def drill(parts: Parts, name: str, kind: str = "killed") -> Drilled:
    """Raises BadInput when a drill would lose work now, NotPossibleHere when the provider can't be made to break."""
    if kind != "killed":
        raise BadInput(f"{kind!r} is no kind of drill; the server knows `killed`")
    before, primary = await _ready(parts, name)
    provider = parts.acts.providers[primary.provider]
    if not isinstance(provider, Breakable):
        raise NotPossibleHere(f"machines of {primary.provider} can't be broken on purpose from here")
    barrier = await parts.hub.sync(name, BARRIER_S_MAX)
    if barrier.outcome != "ok" or barrier.id is None:
        raise BadInput(f"no drill now, the barrier before it answered unknown: {barrier.reason}")
    await _confirmed(parts, before, barrier.id)
    last = parts.observatory.heard_of(primary.id).status
    await parts.acts.note(name, "drill", {"kind": kind, "instance": primary.id, "barrier": str(barrier.id)})
    at, killed = parts.clock.now(), parts.clock.monotonic()
    await provider.kill(primary.provider_ref)
    after, status = await _promoted(parts, before)
    ended = parts.clock.monotonic()
    story = await _story(parts, name, after.epoch) if status else None
    return _receipt(Case(before, after, barrier, last, status, at.isoformat()), story, round((ended - killed) * 1000))


@dataclass(frozen=True)
class Case:
    """What was known before the kill and after the promotion; `status` None: nobody was promoted in time."""

    before: Workspace
    after: Workspace
    barrier: Synced
    last: Status | None
    status: Status | None
    at: str


async def _ready(parts: Parts, name: str) -> tuple[Workspace, Instance]:
    row = await parts.database.workspace(name)
    if row.state is not State.RUNNING or not row.ack_set or row.switching_to:
        raise BadInput(
            f"no drill now: {name} is {row.state.value} with {1 + len(row.ack_set)} acknowledged copies; "
            "wait until `dumont show` says running with 2"
        )
    primary = await parts.database.instance(row.primary_id)
    if primary is None:
        raise BadInput(f"no drill now: {name} has no primary")
    return row, primary


async def _confirmed(parts: Parts, row: Workspace, barrier: CommitId) -> None:
    """Wait until the standby itself said that it holds the barrier's commit, so that its loss would be seen."""
    give_up = parts.clock.monotonic() + CONFIRM_S_MAX
    while parts.clock.monotonic() < give_up:
        for member in row.ack_set:
            status = parts.observatory.heard_of(member).status
            if status and status.head and status.head >= barrier:
                return
        await parts.clock.sleep(LOOK_EVERY_S)
    raise BadInput("no drill now: the standby does not confirm the barrier's commit")


async def _promoted(parts: Parts, before: Workspace) -> tuple[Workspace, Status | None]:
    """The row and the first status of a new primary that serves; None when nobody does within FAILOVER_S_MAX."""
    give_up = parts.clock.monotonic() + FAILOVER_S_MAX
    while True:
        row = await parts.database.workspace(before.name)
        status = parts.observatory.heard_of(row.primary_id).status
        if row.epoch > before.epoch and status and status.epoch == row.epoch and status.ready:
            return row, status
        if parts.clock.monotonic() > give_up:
            return row, None
        await parts.clock.sleep(LOOK_EVERY_S)


async def _story(parts: Parts, name: str, epoch: int) -> Event | None:
    """The timeline's own event of that failover; it is written within one pass."""
    give_up = parts.clock.monotonic() + CONFIRM_S_MAX
    while parts.clock.monotonic() < give_up:
        for event in reversed(await parts.database.events(name, 20)):
            if event.kind == "failover" and event.facts.get("epoch") == epoch:
                return event
        await parts.clock.sleep(LOOK_EVERY_S)
    return None


def _ms_between(earlier: str, later: str) -> int:
    return round((datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds() * 1000)


def _receipt(case: Case, story: Event | None, promoted_ms: int) -> Drilled:
    barrier, status = case.barrier, case.status
    assert barrier.id is not None
    decided = int(story.facts["decided_ms"]) if story else None
    detected = _ms_between(case.at, str(story.facts["detected_at"])) if story else None
    # The standby said before the kill that it holds the barrier's commit; the promoted one must not lie before it.
    lost = status is None or status.head is None or status.head.seq < barrier.id.seq
    if status is None:
        verdict = "nobody was promoted in time"
    elif lost:
        verdict = "LOST: the promoted commit lies before the barrier"
    else:
        verdict = "nothing acknowledged was lost"
    return Drilled(
        workspace=case.before.name,
        kind="killed",
        at=case.at,
        ok=not lost,
        epoch_before=case.before.epoch,
        epoch_after=case.after.epoch,
        primary_before=case.before.primary_id,
        primary_after=case.after.primary_id if status else "",
        barrier=str(barrier.id),
        barrier_root=barrier.root.hex(),
        promoted_commit=str(status.head) if status and status.head else "",
        promoted_root=status.root.hex() if status else "",
        lost=lost,
        at_risk_bytes=case.last.risk.bytes if case.last else None,
        detected_ms=detected,
        decided_ms=None if detected is None or decided is None else detected + decided,
        promoted_ms=promoted_ms if status else None,
        why=str(story.facts.get("why", "")) if story else "",
        verdict=verdict,
    )
