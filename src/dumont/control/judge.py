"""A case: one view, judged. Which replicas are alive or gone for sure, who is the standby, what the next epoch is."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from dumont.control.detect import Finding, Verdict, verdict
from dumont.control.view import TIMING, Sighting, Timing, View, Voice, Witness
from dumont.model.instance import InstanceState, Machine, Role
from dumont.model.policy import OnDemand
from dumont.model.workspace import Workspace
from dumont.provider.base import Phase
from dumont.wire.control import PeerStatus, Status

ENDED = (Phase.GONE, Phase.STOPPED)
_PRESENT = (InstanceState.INTENDED, InstanceState.RENTED)
_REFUSALS = ("DiskFull", "NotDurable", "Corrupt")


@dataclass(frozen=True)
class Case:
    """A view with the times that it is judged by. Nothing here decides anything."""

    view: View
    timing: Timing = TIMING

    @property
    def row(self) -> Workspace:
        return self.view.workspace

    @property
    def primary(self) -> Sighting | None:
        """The row's primary; None when there is none, or none any more."""
        return self.view.primary

    @cached_property
    def present(self) -> tuple[Sighting, ...]:
        """Instances that we pay for and trust, dead or alive, oldest first."""
        return tuple(s for s in self.view.sightings if s.instance.state in _PRESENT and not s.instance.lost)

    def finding(self, sighting: Sighting) -> Finding:
        """What its witnesses add up to. A lost instance is dead to us, whatever they say."""
        if sighting.instance.lost:
            return Finding(Verdict.DEAD, "it was fenced")
        return verdict(sighting.witnesses, self.timing)

    def is_dead(self, sighting: Sighting) -> bool:
        return self.finding(sighting).is_dead

    def is_ended(self, sighting: Sighting | None) -> bool:
        """Dead for good: the provider confirms it, and nothing else contradicts it (a provider may lie)."""
        return sighting is None or (sighting.phase in ENDED and not self.is_heard(sighting))

    def is_heard(self, sighting: Sighting) -> bool:
        """Whether its agent is there now."""
        agent = witness_of(sighting, Voice.AGENT)
        return agent is not None and agent.up is True and agent.silent_s <= self.timing.lease_s + self.timing.margin_s

    def is_heard_now(self, sighting: Sighting) -> bool:
        """Whether its agent is there, and its status no older than a few that may have been lost."""
        return self.is_heard(sighting) and sighting.status_age_s <= self.timing.status_now_s

    def is_leaving(self, sighting: Sighting) -> bool:
        """Whether it will not stay: it is being taken back, or a cheaper one has come for it."""
        return self.is_taken_back(sighting) or self.is_relieved(sighting)

    def is_taken_back(self, sighting: Sighting) -> bool:
        """Whether its provider announced that it is taking the machine back; that is never taken back itself."""
        return sighting.status is not None and bool(sighting.status.leaving)

    def is_fallback(self, sighting: Sighting) -> bool:
        """Whether it is a GPU on demand, rented only because there was no spot one, that the workspace may move from.

        The way to a spot one leads by the CPU, so it is closed where nobody returns from there without being asked.
        """
        instance, policy = sighting.instance, self.row.policy
        wanted = policy.gpu.on_demand is OnDemand.FALLBACK and policy.return_to_gpu
        return wanted and instance.machine is Machine.GPU and not instance.spot

    def is_relieved(self, sighting: Sighting) -> bool:
        """Whether it is a fallback, and a spot GPU is there that can take over and will stay."""
        others = (s for s in self.present if s is not sighting and s.instance.machine is Machine.GPU)
        able = (s for s in others if s.instance.spot and self.can_lead(s) and not self.is_taken_back(s))
        return self.is_fallback(sighting) and any(able)

    def is_fresh(self, sighting: Sighting) -> bool:
        """Whether its status still tells the present."""
        return sighting.status is not None and sighting.status_age_s <= self.timing.status_fresh_s

    def can_lead(self, sighting: Sighting) -> bool:
        """Whether promoting it makes sense: it was heard of just now, it is well, and its link is not closed.

        A closed pulse with an engine that goes on reporting is a pulse that broke, after a while.
        """
        status, agent = sighting.status, witness_of(sighting, Voice.AGENT)
        if status is None or not self.is_fresh(sighting) or status.halted or self.is_dead(sighting):
            return False
        closed = agent is not None and agent.up is False and agent.silent_s <= self.timing.status_fresh_s
        return sighting.instance.state in _PRESENT and not closed

    @cached_property
    def leading(self) -> Status | None:
        """The primary's status, if it is fresh and plays that role at the row's epoch."""
        primary = self.primary
        if primary is None or primary.status is None or not self.is_fresh(primary) or self.is_dead(primary):
            return None
        status = primary.status
        return status if status.epoch == self.row.epoch and status.role is Role.PRIMARY else None

    @property
    def is_serving(self) -> bool:
        """Whether the primary is known to serve the workspace at the row's epoch."""
        return self.leading is not None and self.leading.ready

    @property
    def is_confirmed(self) -> bool:
        """Whether the primary uses the very ack set of the row."""
        return self.leading is not None and self.leading.ack_version == self.row.ack_version

    def peer(self, instance_id: str) -> PeerStatus | None:
        """What a leading primary says of that standby."""
        peers = self.leading.peers if self.leading else ()
        return next((peer for peer in peers if peer.instance_id == instance_id), None)

    def is_refusing(self, standby: Sighting) -> bool:
        """Whether a standby says, itself or over the stream, that it can't keep what it is sent."""
        peer = self.peer(standby.instance.id)
        halted = standby.status is not None and self.is_fresh(standby) and bool(standby.status.halted)
        return halted or (peer is not None and not peer.connected and peer.refusal.startswith(_REFUSALS))

    @cached_property
    def senior(self) -> str:
        """The one member of the ack set that may be promoted: the oldest, beside which a younger one may have joined.

        Every set that the primary may still be using has it. "" when nobody knows who of several is the oldest.
        """
        if len(self.row.ack_set) == 1:
            return min(self.row.ack_set)
        members = [s.instance for s in self.view.sightings if s.instance.id in self.row.ack_set]
        if len(members) < len(self.row.ack_set):
            return ""
        return min(((one.created_at, one.id) for one in members), default=(None, ""))[1]

    @cached_property
    def standby(self) -> Sighting | None:
        """The one that replicates: the senior of the ack set, else the best of the kind that the primary is not.

        When there is none, and the primary is about to be taken away, one of its own kind takes the files over.
        """
        primary = self.primary
        if primary is None:
            return None
        candidates = [s for s in self.present if s is not primary]
        members = [s for s in candidates if s.instance.id in self.row.ack_set]
        members = [s for s in members if s.instance.id == self.senior] or members
        able = [s for s in candidates if not (s.status and s.status.halted)]
        others = [s for s in able if s.instance.machine is not primary.instance.machine]
        if not members and not others and self.is_leaving(primary):
            others = [s for s in able if not self.is_leaving(s)]
        return min(members or others, key=self.preference, default=None)

    @cached_property
    def successor(self) -> Sighting | None:
        """Who comes for a standby that is being taken back: it replicates beside it, and then in its place.

        It is younger than the standby, for that is how the senior of both is known.
        """
        primary, standby, row = self.primary, self.standby, self.row
        if primary is None or standby is None or standby.instance.id not in row.ack_set:
            return None
        others = [s for s in self.present if s not in (primary, standby)]
        if joined := [s for s in others if s.instance.id in row.ack_set]:
            return min(joined, key=self.preference)
        if row.switching_to or not self.is_taken_back(standby):
            return None
        able = [s for s in others if s.status is not None and not (self.is_leaving(s) or self.is_refusing(s))]
        able = [s for s in able if not self.is_dead(s) and _age(s) > _age(standby)]
        of_the_other_kind = [s for s in able if s.instance.machine is not primary.instance.machine]
        same = able if self.is_leaving(primary) else []
        return min(of_the_other_kind or same, key=self.preference, default=None)

    @property
    def followers(self) -> tuple[Sighting, ...]:
        """All that replicate."""
        return tuple(s for s in (self.standby, self.successor) if s is not None)

    def preference(self, sighting: Sighting) -> tuple[bool, bool, bool, datetime, str]:
        """Sort key: those that play a role first, then those that will stay, those heard of, the oldest."""
        instance, fresh = sighting.instance, self.is_fresh(sighting)
        return (not self.has_role(sighting), self.is_leaving(sighting), not fresh, instance.created_at, instance.id)

    def has_role(self, sighting: Sighting) -> bool:
        """Primary, member of the ack set, or the target of a switchover: such an instance is never released."""
        row = self.row
        return sighting.instance.id in {row.primary_id, row.switching_to, *row.ack_set}

    def staying(self, machine: Machine) -> list[Sighting]:
        """Those of that kind that are not about to be taken away."""
        return [s for s in self.of_kind(machine) if not self.is_leaving(s)]

    def of_kind(self, machine: Machine) -> list[Sighting]:
        """Present instances of that kind, the preferred first. When all copies have ended, those don't count."""
        found = [s for s in self.present if s.instance.machine is machine]
        if self.is_restoring:
            found = [s for s in found if not self.is_ended(s)]
        return sorted(found, key=self.preference)

    @cached_property
    def epoch_max(self) -> int:
        """The highest epoch that database, replicas or store know of."""
        statuses = [s.status for s in self.view.sightings if s.status]
        known = [status.epoch for status in statuses]
        known += [commit.epoch for status in statuses for commit in (status.head, status.sealed) if commit]
        return max([self.row.epoch, *known, self.row.stored.epoch if self.row.stored else 0])

    @property
    def knows_all_epochs(self) -> bool:
        """False when the database is older than what replicas or store know: it was restored from a copy."""
        return self.epoch_max == self.row.epoch

    @property
    def leader_halted(self) -> str:
        """Why the row's primary, which is there, does not serve and will not; "" if that isn't so."""
        primary = self.primary
        status = primary.status if primary and self.is_fresh(primary) else None
        return status.halted if status and status.epoch == self.row.epoch and not status.ready else ""

    @property
    def leader_rebooted(self) -> bool:
        """Whether the row's primary, which is there, started anew in this epoch and so leads only at a higher one."""
        primary = self.primary
        status = primary.status if primary and self.is_fresh(primary) else None
        return status is not None and status.epoch == self.row.epoch and status.rebooted

    @property
    def next_epoch(self) -> int:
        return self.epoch_max + 1

    @cached_property
    def is_restoring(self) -> bool:
        """Nobody can be promoted, ever, and the store has a commit: every replica that held data has ended for sure."""
        row = self.row
        if not row.primary_id or row.stored is None or not self.is_ended(self.primary):
            return False
        return all(self.is_ended(s) or not self._may_hold_data(s) for s in self.present if s is not self.primary)

    def _may_hold_data(self, sighting: Sighting) -> bool:
        status, row = sighting.status, self.row
        if status is not None:
            return status.head not in (None, row.stored)
        return row.promoted_at is None or sighting.instance.created_at <= row.promoted_at

    def quiet_s(self, sighting: Sighting) -> float:
        """Seconds since its agent, or the other side of its stream, last heard of it; 0 if nobody listens."""
        heard = [w.silent_s for w in sighting.witnesses if w.voice is Voice.AGENT]
        heard += [w.silent_s for w in sighting.witnesses if w.voice is Voice.STREAM and w.up is not None]
        return min(heard, default=0.0)


def witness_of(sighting: Sighting, voice: Voice) -> Witness | None:
    """What that voice says of an instance."""
    return next((witness for witness in sighting.witnesses if witness.voice is voice), None)


def _age(sighting: Sighting) -> tuple[datetime, str]:
    """Sort key: the older first."""
    return (sighting.instance.created_at, sighting.instance.id)


def ids(sightings: Iterable[Sighting]) -> list[str]:
    """Their instances' ids."""
    return [sighting.instance.id for sighting in sightings]
