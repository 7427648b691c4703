"""Deciding what to do about a workspace: one pure function over a view, level-triggered.

Deciding again on the view after its actions were carried out makes progress or rests; nothing is asked for twice. In
the order of what matters: who owns the workspace (`ownership`), which machines it has (`fleet`), what a person is told.
"""

from datetime import datetime

from dumont.control.fleet import change_fleet
from dumont.control.judge import Case
from dumont.control.ownership import change_ownership, is_primary_dead
from dumont.control.view import TIMING, Action, Become, Notify, Release, ReleaseReason, Timing, View
from dumont.model.instance import InstanceState
from dumont.model.workspace import MOVES, State, Wanted


def decide(view: View, now: datetime, timing: Timing = TIMING) -> list[Action]:
    """What to do now about the workspace of this view. `now` is in UTC."""
    case, row = Case(view, timing), view.workspace
    if row.state is State.DELETED:
        return []
    if row.wanted is Wanted.DELETED or row.state is State.DELETING:
        return _delete(case)
    owned = change_ownership(case, now)
    if owned:
        return owned  # the rest is decided on what is true then
    fleet = change_fleet(case, now) if case.knows_all_epochs else []
    return fleet + _become(case, now)


def _delete(case: Case) -> list[Action]:
    """Let every machine go; deleted once the provider has confirmed the end of each."""
    if case.row.state is not State.DELETING:
        return [Become(State.DELETING)]
    if not case.view.sightings:
        return [Become(State.DELETED)]
    ended = (InstanceState.RELEASING, InstanceState.GONE)
    left = [s.instance for s in case.view.sightings if s.instance.state not in ended]
    return [Release(instance.id, ReleaseReason.DELETED) for instance in left]


def _become(case: Case, now: datetime) -> list[Action]:
    """Say what the workspace is doing, when that has changed, and since when there is a single copy."""
    row = case.row
    state = _state(case, now)
    if state not in MOVES[row.state]:
        state = row.state
    single = (row.single_copy_since or now) if row.primary_id and not row.ack_set else None
    if (state, single) == (row.state, row.single_copy_since):
        return []
    told = [Notify(state.value, _facts(case, state))] if state is not row.state else []
    return [*told, Become(state, single)]


def _state(case: Case, now: datetime) -> State:
    """What the view amounts to. While too little is known to say, the state stays what it was."""
    row = case.row
    if not row.primary_id:
        return State.LAUNCHING
    if not case.knows_all_epochs:
        return State.LOST
    if is_primary_dead(case, now):
        return _state_without_primary(case)
    if row.switching_to:
        return State.SWITCHING
    if not case.is_serving:
        return State.LOST if case.leader_halted else row.state
    if row.ack_set:
        return State.RUNNING if case.is_confirmed else row.state
    just_launched = row.state is State.LAUNCHING and row.promoted_at is not None
    if just_launched and row.promoted_at and (now - row.promoted_at).total_seconds() < case.timing.boot_timeout_s:
        return State.LAUNCHING
    return State.DEGRADED


def _state_without_primary(case: Case) -> State:
    """FAILING_OVER as long as who may be promoted may still turn up; LOST when nobody can."""
    if case.is_restoring and case.row.state in (State.LOST, State.LAUNCHING):
        return State.LAUNCHING
    hopeful = [s for s in case.present if s.instance.id == case.senior and s is not case.primary]
    return State.FAILING_OVER if any(not case.is_dead(s) for s in hopeful) else State.LOST


def _facts(case: Case, state: State) -> dict[str, str | int | float | bool]:
    row, primary = case.row, case.primary
    facts: dict[str, str | int | float | bool] = {"before": row.state.value, "epoch": row.epoch}
    if state in (State.LOST, State.FAILING_OVER):
        facts["primary"] = row.primary_id
        facts["why"] = case.finding(primary).why if primary else "its machine is gone"
        facts["stored"] = str(row.stored) if row.stored else "nothing"
        if case.leader_halted:
            facts["why"] = case.leader_halted
        if not case.knows_all_epochs:
            facts["why"] = f"a replica knows epoch {case.epoch_max}, which the database does not"
    return facts
