"""The observatory: everything last heard of every instance, in memory, and the views that are made of it.

Nothing here outlives the process, and nothing needs to: agents repeat themselves. All times are the clock's monotonic
seconds. A server that was itself frozen starts every silence anew when it wakes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dumont.clock import Clock
from dumont.control import detect
from dumont.control.view import Sighting, Voice, Witness
from dumont.model.instance import Instance, Role
from dumont.model.workspace import Workspace
from dumont.provider.base import Phase, Why
from dumont.wire.control import Beat, PeerStatus, Status
from dumont.wire.route import Probe

LATE_S_MAX = 0.5
"""Nothing at all happened in this process for so much longer than it should: it was frozen, not the world silent."""


@dataclass(frozen=True)
class Heard:
    """What we heard of one instance, and when. `pulse_up` None: its pulse never connected to this process."""

    pulse_up: bool | None = None
    life_at: float | None = None
    engine_up: bool = False
    status: Status | None = None
    status_at: float = 0.0
    phase: Phase = Phase.UNKNOWN
    phase_since: float = 0.0
    why: Why = Why.UNTOLD


@dataclass(frozen=True)
class Seen:
    """A moment of the observatory, standing still. Taken *before* the database is read, so that no status is newer."""

    at: float
    awake_since: float
    heard: Mapping[str, Heard]
    probes: Mapping[tuple[str, str], tuple[Probe, float]]

    @property
    def awake_s(self) -> float:
        return self.at - self.awake_since

    def sightings(self, workspace: Workspace, instances: Sequence[Instance]) -> tuple[Sighting, ...]:
        """Every one of `instances` with what its witnesses say."""
        return tuple(self._sighting(instance, workspace, instances) for instance in instances)

    def _sighting(self, instance: Instance, workspace: Workspace, all_of_them: Sequence[Instance]) -> Sighting:
        heard = self.heard.get(instance.id, Heard())
        leads = instance.id == workspace.primary_id
        witnesses = [
            detect.agent_witness(heard.pulse_up, heard.life_at, self.at, self.awake_since),
            self._stream_of_primary(workspace, all_of_them) if leads else self._stream_of_standby(instance, workspace),
            detect.provider_witness(heard.phase, self.at - heard.phase_since),
        ]
        if leads:
            witnesses.append(self._gateway(workspace))
        return Sighting(
            instance=instance,
            phase=heard.phase,
            why=heard.why,
            status=heard.status,
            status_age_s=self.at - heard.status_at if heard.status else 0.0,
            witnesses=tuple(witnesses),
        )

    def _stream_of_primary(self, workspace: Workspace, instances: Sequence[Instance]) -> Witness:
        """What the standbys say; where several say different things, the best news counts."""
        said = []
        for instance in instances:
            heard = self.heard.get(instance.id)
            if heard is None or heard.status is None or heard.status.role is not Role.STANDBY:
                continue
            if instance.id != workspace.primary_id and not instance.lost:
                age_s = self.at - heard.status_at
                said.append(detect.stream_witness(heard.status, age_s, workspace.epoch, self.awake_s))
        known = [witness for witness in said if witness.up is not None] or said
        if not known:
            return Witness(Voice.STREAM, None)
        return min(known, key=lambda witness: (not witness.up, witness.silent_s))

    def _stream_of_standby(self, instance: Instance, workspace: Workspace) -> Witness:
        primary = self.heard.get(workspace.primary_id)
        if primary is None or primary.status is None or primary.status.role is not Role.PRIMARY:
            return detect.peer_witness(None, 0.0, self.awake_s)
        return detect.peer_witness(peer_of(primary.status, instance.id), self.at - primary.status_at, self.awake_s)

    def _gateway(self, workspace: Workspace) -> Witness:
        found = self.probes.get((workspace.name, workspace.primary_id))
        if found is None:
            return detect.gateway_witness(None, 0.0, self.awake_s)
        probe, at = found
        return detect.gateway_witness(probe, self.at - at, self.awake_s)


class Observatory:
    """What this server process heard. Methods that answer a bool say whether it is news worth a pass at once."""

    def __init__(self, clock: Clock, tick_s: float = 0.1) -> None:
        self._clock = clock
        self._gap_s_max = tick_s + LATE_S_MAX
        self._last_tick = self._awake_since = clock.monotonic()
        self._heard: dict[str, Heard] = {}
        self._probes: dict[tuple[str, str], tuple[Probe, float]] = {}

    def tick(self) -> float:
        """Note that this process is awake; answers the time. To be called at least every `tick_s`, and at each news."""
        now = self._clock.monotonic()
        self._awake_since = detect.awake_since(self._awake_since, self._last_tick, now, self._gap_s_max)
        self._last_tick = now
        return now

    def look(self) -> Seen:
        """A moment to build views from."""
        now = self.tick()
        return Seen(now, self._awake_since, dict(self._heard), dict(self._probes))

    def heard_of(self, instance_id: str) -> Heard:
        """The last we heard of an instance; an empty record when that is nothing."""
        return self._heard.get(instance_id, Heard())

    def forget(self, living: set[str]) -> None:
        """Drop what we know of instances that are gone; `living` are the ids of the others."""
        for instance_id in self._heard.keys() - living:
            del self._heard[instance_id]
        for key in [key for key in self._probes if key[1] not in living]:
            del self._probes[key]

    def agent_opened(self, instance_id: str) -> None:
        """Its engine connected."""
        self._note(instance_id, replace(self.heard_of(instance_id), engine_up=True))

    def agent_closed(self, instance_id: str) -> None:
        """Its engine's link closed. No witness: the watchdog may be starting another engine."""
        self._note(instance_id, replace(self.heard_of(instance_id), engine_up=False))

    def status(self, status: Status) -> bool:
        """Its engine's whole status."""
        heard = self.heard_of(status.instance_id)
        self._note(status.instance_id, replace(heard, status=status, status_at=self.tick()))
        return heard.status is None or _gist(heard.status) != _gist(status)

    def pulse_opened(self, instance_id: str) -> None:
        """Its pulse connected."""
        self._note(instance_id, replace(self.heard_of(instance_id), pulse_up=True))

    def beat(self, beat: Beat) -> None:
        """A beat. One whose pulse has not heard us for long is no sign of life: it may be unable to."""
        now = self.tick()
        if detect.is_life(beat.heard_ms_ago):
            self._note(beat.instance_id, replace(self.heard_of(beat.instance_id), life_at=now))

    def pulse_closed(self, instance_id: str) -> None:
        """Its pulse's link closed: a witness."""
        self._note(instance_id, replace(self.heard_of(instance_id), pulse_up=False))

    def probe(self, probe: Probe) -> bool:
        """What the gateway sees of a primary."""
        key = (probe.workspace, probe.instance_id)
        before = self._probes.get(key)
        self._probes[key] = (probe, self.tick())
        return before is None or before[0].up != probe.up

    def gateway_opened(self) -> None:
        """A gateway connected; what the one before it saw does not count any more."""
        self.tick()
        self._probes.clear()

    def gateway_closed(self) -> None:
        """No gateway: its channel is absent, which is not the same as silent."""
        self.tick()
        self._probes.clear()

    def phase(self, instance_id: str, phase: Phase, why: Why = Why.UNTOLD) -> bool:
        """What the provider says of its machine; UNKNOWN when it could not say (I6)."""
        heard = self.heard_of(instance_id)
        if (heard.phase, heard.why) == (phase, why):
            return False
        since = heard.phase_since if heard.phase is phase else self.tick()
        self._note(instance_id, replace(heard, phase=phase, phase_since=since, why=why))
        return True

    def _note(self, instance_id: str, heard: Heard) -> None:
        self.tick()
        self._heard[instance_id] = heard


def peer_of(status: Status, instance_id: str) -> PeerStatus | None:
    """What a primary's status says of one standby."""
    return next((peer for peer in status.peers if peer.instance_id == instance_id), None)


def _gist(status: Status) -> tuple[object, ...]:
    """The part of a status whose change should not wait for the next tick."""
    peers = tuple((peer.instance_id, peer.connected, peer.refusal) for peer in status.peers)
    branch = status.branch_saved.name if status.branch_saved else ""
    return (
        status.epoch,
        status.role,
        status.endpoints,
        status.ready,
        status.ack_version,
        status.sealed,
        status.stream_up,
        status.stream_seen,
        status.halted,
        status.leaving,
        branch,
        peers,
    )
