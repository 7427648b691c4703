"""Ownership: who is to be primary, and whose acknowledgement counts. At most one change of it at a time. Pure.

Whoever is promoted in another's place is the senior of the row's ack set, or holds exactly the commit that the primary
sealed, or nobody else is left (first launch, restore from the store, a database that was itself restored).
"""

from datetime import datetime, timedelta

from dumont.control.judge import Case, ids
from dumont.control.view import (
    Action,
    BeginSwitch,
    ChangeAckSet,
    Fence,
    Notify,
    Promote,
    Reason,
    Sighting,
)
from dumont.model.instance import Machine, Role
from dumont.wire.control import Status

_JUST_HEARD_S = 0.5
"""Whoever a switchover is given up to has said so lately that it is well. Should its machine have restarted since, it
refuses to lead, and the ack set, which is kept, has who leads instead (docs/adr/0009-restarted-primary.md).
"""


def change_ownership(case: Case, now: datetime) -> list[Action]:
    """The one change of ownership that is due, with what goes with it; [] when there is none."""
    if not case.row.primary_id:
        return _recover(case) or _first(case)
    if not case.knows_all_epochs:
        return _recover(case)
    if case.row.switching_to:
        return _finish_switch(case, now)
    if is_primary_dead(case, now):
        return _fail_over(case)
    if case.leader_halted or case.leader_rebooted:
        return _replace_unfit(case)
    if case.row.ack_set:
        return _shrink(case, now) or _exchange(case, now) or _begin_switch(case, now)
    return _grow(case)


def is_primary_dead(case: Case, now: datetime) -> bool:
    """Whether the row's primary has failed. Just after its promotion its doors may be closed still."""
    primary, promoted_at = case.primary, case.row.promoted_at
    if primary is None:
        return True
    if not case.is_dead(primary):
        return False
    if primary.instance.lost or case.is_ended(primary) or promoted_at is None:
        return True
    started = primary.status is not None and primary.status.epoch == case.row.epoch and primary.status.ready
    return started or now - promoted_at >= timedelta(seconds=case.timing.start_grace_s)


def fence(case: Case, sighting: Sighting) -> list[Action]:
    """Stop trusting it; its divergent files become a branch named after it and the epoch that it led in."""
    if sighting.instance.lost:
        return []
    status = sighting.status
    led = status.epoch if status and status.role is Role.PRIMARY else case.row.epoch
    return [Fence(sighting.instance.id, f"{sighting.instance.id}-e{led}")]


def _first(case: Case) -> list[Action]:
    """Launch: the first GPU that is there leads an empty tree; the standby joins it."""
    ready = [s for s in case.of_kind(Machine.GPU) if case.can_lead(s)]
    return [_promote(case, ready[0], Reason.FIRST)] if ready else []


def _recover(case: Case) -> list[Action]:
    """The database was restored from a copy, replicas know a higher epoch: whoever leads at the highest goes on.

    Only when every machine has been heard of, for one that has not may know a higher epoch still.
    """
    leaders = [s for s in case.present if s.status and s.status.role is Role.PRIMARY and case.can_lead(s)]
    leaders = [s for s in leaders if s.status and s.status.epoch == case.epoch_max and s.status.sealed is None]
    heard = all(case.is_fresh(s) or case.is_dead(s) for s in case.present)
    if len(leaders) != 1 or not heard:
        return []
    facts = {"database_epoch": case.row.epoch, "replica_epoch": case.epoch_max}
    return [Notify("database_was_restored", facts), _promote(case, leaders[0], Reason.RECOVER)]


def _finish_switch(case: Case, now: datetime) -> list[Action]:
    """Promote the target once it holds the sealed commit. If it can't, keep the former primary, or fail over."""
    row, primary, target = case.row, case.primary, case.view.sighting(case.row.switching_to)
    # A sealing primary has shut its doors, which the gateway sees as closed: while its agent is heard it is not dead.
    alive = primary is not None and case.is_heard(primary) and case.is_fresh(primary)
    dead = is_primary_dead(case, now) and not alive
    present = target is not None and target in case.present
    if primary is not None and target is not None and present and _has_sealed(case, primary, target):
        members = frozenset() if dead else frozenset({row.primary_id})
        return [_promote(case, target, Reason.SWITCHOVER, members)]
    if dead:
        return _fail_over(case)
    if case.leader_rebooted:  # given up to it, what it had acknowledged and not fsynced would be lost
        return _replace_unfit(case)
    unfit = target is None or not present or case.is_dead(target) or row.switching_to not in row.ack_set
    halted = target is not None and target.status is not None and bool(target.status.halted)
    limit_s = case.timing.seal_timeout_s + row.policy.service.switch_grace_s
    late = case.view.switch_began_at is not None and now - case.view.switch_began_at > timedelta(seconds=limit_s)
    just_heard = primary is not None and case.is_fresh(primary) and primary.status_age_s <= _JUST_HEARD_S
    if primary and just_heard and (unfit or halted or late):
        if case.leader_halted and not (unfit or halted):
            return _fail_over(case)  # it can neither seal nor lead; the target holds whatever was acknowledged
        members = frozenset(ids(case.present)) & row.ack_set  # whatever is acknowledged needs them in this epoch too
        return [_promote(case, primary, Reason.GIVE_UP, members)]
    return []


def _has_sealed(case: Case, primary: Sighting, target: Sighting) -> bool:
    """Whether the target can lead and its head is exactly what the primary sealed in the row's epoch."""
    status = primary.status
    if status is None or status.sealed is None or status.epoch != case.row.epoch or not case.can_lead(target):
        return False
    return target.status is not None and target.status.head == status.sealed


def _fail_over(case: Case) -> list[Action]:
    """Promote the senior of the ack set: it alone is known to hold everything that was acknowledged."""
    fit = [s for s in case.present if s.instance.id == case.senior and s is not case.primary]
    fit = [s for s in fit if case.can_lead(s) and s.status is not None and s.status.head is not None]
    if fit:
        fenced = fence(case, case.primary) if case.primary else []
        return [_promote(case, fit[0], Reason.FAILOVER), *fenced]
    return _restore(case)


def _replace_unfit(case: Case) -> list[Action]:
    """The primary is there and can't lead: fail over; if it only restarted and no other copy is left, go on with it.

    A machine that restarted may lack what it had not fsynced; a single copy is all there is, and a person is told.
    """
    others = [s for s in case.present if s.instance.id == case.senior and s is not case.primary]
    if any(not case.is_ended(s) for s in others) or case.primary is None or not case.leader_rebooted:
        return _fail_over(case)
    facts = {"instance": case.primary.instance.id, "missing": "what was not yet on its disk when it restarted"}
    return [Notify("restarted_single_copy", facts), _promote(case, case.primary, Reason.RESTART)]


def _restore(case: Case) -> list[Action]:
    """Every copy is gone for good: go on with what the store has, and say what may be missing."""
    row = case.row
    if not case.is_restoring or row.stored is None:
        return []
    fit = [s for s in case.present if s is not case.primary and case.can_lead(s)]
    fit = sorted((s for s in fit if s.status and s.status.head == row.stored), key=case.preference)
    if not fit:
        return []
    facts = {"commit": str(row.stored), "missing": "everything acknowledged after that commit"}
    return [Notify("restored_from_store", facts), _promote(case, fit[0], Reason.RESTORE)]


def _shrink(case: Case, now: datetime) -> list[Action]:
    """Leave a lost or refusing standby out, on the word of a primary that leads. Always safe; barriers are unknown.

    Who joined beside it stays only if it takes its place (`_exchange`): it may not hold everything yet.
    """
    if case.primary is None or case.leading is None or not case.is_heard_now(case.primary):
        return []  # it may have died a moment ago, and that very member be needed
    lost = {member: why for member in sorted(case.row.ack_set) if (why := _why_lost(case, member, now))}
    left = case.row.ack_set - lost.keys()
    if not lost or (left and case.senior in lost and case.successor is not None and case.is_confirmed):
        return []
    return [ChangeAckSet(left if case.senior in left else frozenset(), next(iter(lost.values())))]


def _why_lost(case: Case, member: str, now: datetime) -> str:
    sighting, peer, row = case.view.sighting(member), case.peer(member), case.row
    if sighting is None or sighting not in case.present:
        return "lost"
    if case.is_refusing(sighting):
        return "refused"
    if case.is_relieved(sighting) and case.primary and case.primary.instance.machine is Machine.CPU:
        return "relieved"  # the spot GPU takes its place, and then the workspace's
    since_promotion_s = (now - row.promoted_at).total_seconds() if row.promoted_at else 0.0
    silent_s = peer.silent_ms / 1000 if peer else _stream_silence(case, sighting, since_promotion_s)
    # Shortly after a promotion a member that still looks dead is one that has not dialled yet.
    dead = case.is_dead(sighting) and since_promotion_s > case.timing.start_grace_s
    return "lost" if dead or silent_s > case.timing.standby_lost_s else ""


def _stream_silence(case: Case, standby: Sighting, otherwise_s: float) -> float:
    """How long the stream has been silent as its standby sees it: the primary's engine may have started anew."""
    status = standby.status
    if status is None or not case.is_fresh(standby) or status.epoch != case.row.epoch:
        return otherwise_s
    return status.stream_silent_ms / 1000 if status.stream_up or status.stream_silent_ms else otherwise_s


def _grow(case: Case) -> list[Action]:
    """Take the standby in once the primary confirmed the empty set and the standby holds all that was answered OK."""
    standby = case.standby
    if standby is None or not case.is_confirmed or not case.is_serving:
        return []
    if not _holds_all(case, standby) or not _is_near(case, standby):
        return []
    return [ChangeAckSet(frozenset(ids([standby])), "joined")]


def _exchange(case: Case, now: datetime) -> list[Action]:
    """Put a new standby in the place of one that is being taken back, while both live: beside it, then without it.

    Beside it the new one takes no part yet in what may be promoted, so it need only be near. Without it: once the
    primary uses the set of both and the new one holds all that was answered OK; whatever is answered later needs it.
    """
    standby, successor = case.standby, case.successor
    if standby is None or successor is None or not case.is_serving or not case.is_confirmed:
        return []
    if successor.instance.id not in case.row.ack_set:
        near = _is_near(case, successor) and _caught_up(case, successor)
        return [ChangeAckSet(frozenset(ids([standby, successor])), "joined")] if near else []
    if not _holds_all(case, successor):
        return []
    if _is_near(case, successor) or _why_lost(case, standby.instance.id, now):
        return [ChangeAckSet(frozenset(ids([successor])), "exchanged")]
    return []


def _holds_all(case: Case, standby: Sighting) -> bool:
    """Whether the primary says that it acknowledged, in this epoch, all that was ever answered OK."""
    peer, leading = case.peer(standby.instance.id), case.leading
    if peer is None or leading is None or peer.acked is None:
        return False
    return peer.acked.epoch == case.row.epoch and peer.acked.seq >= leading.ok_seq


def _is_near(case: Case, standby: Sighting) -> bool:
    """Whether it would be of use in the ack set: connected, well, with files that are close to what it acknowledged."""
    peer = case.peer(standby.instance.id)
    if peer is None or not peer.connected or case.is_refusing(standby) or not case.can_lead(standby):
        return False
    heard = peer.silent_ms <= case.timing.lease_s * 1000  # or it would be left out again at once
    return heard and _has_applied(case, standby)


def _begin_switch(case: Case, now: datetime) -> list[Action]:
    """Go back to a GPU that has caught up, but not too soon after the last move, and later the more often it failed.

    From a primary that is about to be taken away, go to the other copy at once; from a GPU on demand, when a spot one
    has come for it: by way of the CPU, for the one standby is what can be switched to.
    """
    row, view, primary, standby = case.row, case.view, case.primary, case.standby
    if primary is None or standby is None or not case.is_serving or not case.is_confirmed:
        return []
    if case.is_leaving(standby) or not case.can_lead(standby) or not _caught_up(case, standby):
        return []
    if len(row.ack_set) > 1:
        return []  # one of them is on its way out
    if case.is_taken_back(primary):
        return [BeginSwitch(standby.instance.id)]
    kinds = (primary.instance.machine, standby.instance.machine)
    back = kinds == (Machine.CPU, Machine.GPU) and row.policy.return_to_gpu
    if not back and not case.is_relieved(primary):
        return []
    times_failed = min(view.failovers_last_hour + view.give_ups_last_hour, 20)
    settle_s = min(row.policy.settle_s * 2.0**times_failed, case.timing.settle_max_s)
    moved_at = max((at for at in (row.promoted_at, view.last_switchover_at) if at is not None), default=now)
    if now - moved_at < timedelta(seconds=settle_s):
        return []
    return [BeginSwitch(standby.instance.id)]


def _caught_up(case: Case, standby: Sighting) -> bool:
    peer, leading = case.peer(standby.instance.id), case.leading
    if peer is None or leading is None or not peer.connected or peer.acked is None or leading.head is None:
        return False
    behind = leading.head.seq - peer.acked.seq
    near = peer.acked.epoch == case.row.epoch and behind <= case.timing.catch_up_commits_max
    return near and _has_applied(case, standby)


def _has_applied(case: Case, standby: Sighting) -> bool:
    """Whether its files are close to what it acknowledged: until then its promotion would take a while."""
    status = standby.status
    if status is None or status.head is None or status.applied is None:
        return False
    return status.head.seq - status.applied.seq <= case.timing.catch_up_commits_max


def _promote(case: Case, sighting: Sighting, reason: Reason, ack_set: frozenset[str] = frozenset()) -> Promote:
    return Promote(sighting.instance.id, case.next_epoch, ack_set, reason)


def may_hold_a_fork(status: Status) -> bool:
    """Whether a replica may hold writes of its own that nobody acknowledged: it led, and did not seal."""
    return status.role is Role.PRIMARY and status.sealed is None
