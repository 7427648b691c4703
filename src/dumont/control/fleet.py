"""The fleet: which machines a workspace should have, one GPU and one CPU, and which are let go. Pure.

Nothing is released that plays a role. What may hold files is released only while the primary is known to serve (I5),
and a provider that errs never removes anything (I6).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from dumont.control.judge import ENDED, Case, witness_of
from dumont.control.ownership import fence, is_primary_dead, may_hold_a_fork
from dumont.control.placing import Going, place, surplus
from dumont.control.view import Action, Failures, Fence, Notify, Release, ReleaseReason, Rent, Sighting, Voice
from dumont.market.cost import Priced
from dumont.model.instance import InstanceState, Machine, Role
from dumont.provider.base import Why

_TIMES_MAX = 20
_TAKEN = (Why.OUTBID, Why.PREEMPTED)


def change_fleet(case: Case, now: datetime) -> list[Action]:
    """What to fence, to let go and to rent now."""
    actions: list[Action] = []
    for sighting in case.view.sightings:
        if sighting.instance.state in (InstanceState.RELEASING, InstanceState.GONE) or case.has_role(sighting):
            continue
        actions += _let_go_of_lost(case, sighting, now) if sighting.instance.lost else _let_go(case, sighting, now)
    return actions + _rent(case, now, actions)


def _let_go_of_lost(case: Case, sighting: Sighting, now: datetime) -> list[Action]:
    """A fenced instance stays until its branch is in the store, or nothing can come of it any more."""
    instance, timing = sighting.instance, case.timing
    if not case.is_serving:
        return []
    if case.is_ended(sighting):
        return [Release(instance.id, ReleaseReason.GONE, sighting.why)]
    if instance.branch in case.view.branches:
        return [Release(instance.id, ReleaseReason.BRANCH_SAVED, _word(case, sighting))]
    since_s = (now - case.row.promoted_at).total_seconds() if case.row.promoted_at else 0.0
    if case.quiet_s(sighting) > timing.fence_timeout_s or since_s > timing.branch_timeout_s:
        given_up = Notify("branch_given_up", {"instance": instance.id, "branch": instance.branch})
        return [given_up, Release(instance.id, ReleaseReason.FENCE_TIMEOUT, sighting.why)]
    return []


def _let_go(case: Case, sighting: Sighting, now: datetime) -> list[Action]:
    """An instance without a role: a former primary is fenced, one that is of no use is released."""
    if _is_former_primary(case, sighting):
        return fence(case, sighting)
    reason = _why_useless(case, sighting, now)
    if reason is None:
        return []
    if _may_have_led(case, sighting) and reason is not ReleaseReason.EXTRA:
        return fence(case, sighting)
    holds_nothing = case.row.primary_id == "" or (sighting.status is None and not _may_have_led(case, sighting))
    if not (holds_nothing or case.is_serving):
        return []
    return [Release(sighting.instance.id, reason, _word(case, sighting))]


def _word(case: Case, sighting: Sighting) -> Why:
    """What its provider said of its end; an announcement that it takes the machine back is such a word."""
    announced = sighting.why is Why.UNTOLD and case.is_taken_back(sighting)
    return Why.PREEMPTED if announced else sighting.why


def _is_former_primary(case: Case, sighting: Sighting) -> bool:
    """It led at a lower epoch, or says that it holds files nobody acknowledged."""
    status = sighting.status
    if status is None or not case.row.primary_id:
        return False
    left_over = may_hold_a_fork(status) and status.epoch < case.row.epoch
    return left_over or (status.role is Role.NONE and bool(status.halted))


def _may_have_led(case: Case, sighting: Sighting) -> bool:
    """It did lead; or it joined before the last promotion, and we have not heard of it since this server started."""
    if sighting.phase in ENDED:
        return False
    if sighting.status is not None:
        return may_hold_a_fork(sighting.status)
    joined = not sighting.instance.token_hash  # spent when its agent came for the first time
    promoted_at = case.row.promoted_at
    return joined and promoted_at is not None and sighting.instance.created_at < promoted_at


def _why_useless(case: Case, sighting: Sighting, now: datetime) -> ReleaseReason | None:
    instance, timing = sighting.instance, case.timing
    quiet_s, age_s = case.quiet_s(sighting), (now - instance.created_at).total_seconds()
    if case.is_dead(sighting) and (case.is_ended(sighting) or quiet_s > timing.silent_replace_s):
        return ReleaseReason.DEAD
    if sighting.status is None and sighting.why is Why.FAILED:
        return ReleaseReason.BOOT_TIMEOUT  # the provider itself says that it will not come up
    if sighting.status is None and sighting.why in _TAKEN and case.is_ended(sighting):
        return ReleaseReason.DEAD  # taken away before its agent came
    boot_s_max = max(timing.boot_timeout_s, instance.boot_s_max if sighting.status is None else 0.0)
    if sighting.status is not None:
        quiet_s = min(quiet_s, sighting.status_age_s)  # an engine that has just joined speaks before its pulse does
    if min(quiet_s, age_s) > boot_s_max:
        return ReleaseReason.BOOT_TIMEOUT if sighting.status is None else ReleaseReason.UNREACHABLE
    if _goes_on_refusing(case, sighting, now):
        return ReleaseReason.REFUSED
    if sighting is case.standby:
        return ReleaseReason.UNREACHABLE if _is_unreachable(case, sighting, now) else None
    return ReleaseReason.EXTRA if _is_extra(case, sighting, now) else None


def _is_extra(case: Case, sighting: Sighting, now: datetime) -> bool:
    """Another of its kind serves, or can; and this one is no spare that pays."""
    staying = case.staying(sighting.instance.machine)
    keeper = next(iter(staying), sighting)
    if keeper is sighting or not (case.has_role(keeper) or case.can_lead(keeper)):
        return False
    return case.is_leaving(sighting) or sighting in surplus(case, staying, now)


def _goes_on_refusing(case: Case, sighting: Sighting, now: datetime) -> bool:
    """It can't keep what it is sent, and still can't some seconds after it was left out."""
    if not case.row.primary_id:
        return sighting.status is not None and bool(sighting.status.halted)
    return case.is_refusing(sighting) and _single_s(case, now) > case.timing.refuse_grace_s


def _is_unreachable(case: Case, standby: Sighting, now: datetime) -> bool:
    """Its stream stays down although both sides are there."""
    timing, stream, single_s = case.timing, witness_of(standby, Voice.STREAM), _single_s(case, now)
    if not case.is_serving:
        return False
    if stream is not None and stream.up is not None:
        return min(stream.silent_s, single_s) > timing.unreachable_s
    age_s = (now - standby.instance.created_at).total_seconds()
    return min(age_s, single_s) > timing.unreachable_s + timing.boot_timeout_s


def _single_s(case: Case, now: datetime) -> float:
    """For how long there has been a single copy."""
    since = case.row.single_copy_since
    return (now - since).total_seconds() if since else 0.0


def _rent(case: Case, now: datetime, actions: Sequence[Action]) -> list[Action]:
    """Rent what is missing of one GPU and one CPU, and spares that pay, the later the more often it failed."""
    row = case.row
    if row.primary_id and is_primary_dead(case, now) and not case.is_restoring:
        return []  # first somebody has to be promoted
    going = [action for action in actions if isinstance(action, Release | Fence)]
    left = {one.instance_id: isinstance(one, Release) and one.reason.is_failure for one in going}
    rents: list[Action] = []
    taken: tuple[Priced, ...] = ()
    for machine in (Machine.GPU, Machine.CPU):
        kept = [s for s in case.staying(machine) if s.instance.id not in left]
        if len(kept) > _beside(case, machine, kept) or _has_to_wait(case, machine, now):
            continue
        chosen = place(case, machine, kept, Going(left, taken), now)
        taken += chosen
        rents += [Rent(machine, priced.offer) for priced in chosen]
        if not kept and not chosen and machine not in case.view.told_of_no_offer:
            rents.append(Notify("no_offer", _wanted(case, machine)))
    return rents


def _beside(case: Case, machine: Machine, kept: Sequence[Sighting]) -> int:
    """How many of that kind may be there when one more is looked for: spares, and who comes for a fallback."""
    if machine is Machine.CPU or not kept:
        return 0
    spares = case.row.policy.gpu.spares
    return max(spares, 1) if all(case.is_fallback(s) for s in kept) else spares


def _wanted(case: Case, machine: Machine) -> dict[str, str | int | float | bool]:
    """What nobody offers, for a person who wonders why nothing happens."""
    policy, need = case.row.policy, case.row.policy.need(machine)
    facts: dict[str, str | int | float | bool] = {"machine": machine.value}
    if need.price_micros_per_hour_max is not None:
        facts["price_micros_per_hour_max"] = need.price_micros_per_hour_max
    if machine is Machine.GPU:
        facts |= {"names": ", ".join(policy.gpu.names), "regions": ", ".join(policy.gpu.regions)}
    return facts


def _has_to_wait(case: Case, machine: Machine, now: datetime) -> bool:
    """Renting that kind failed a moment ago. The other kind does not have to wait for it."""
    failures = case.view.failures.get(machine, Failures())
    if failures.last_at is None:
        return False
    wait_s = min(case.timing.rent_backoff_s * 2.0 ** min(failures.times, _TIMES_MAX), case.timing.settle_max_s)
    return now - failures.last_at < timedelta(seconds=wait_s)
