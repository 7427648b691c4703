"""A tiny pure world to try decisions on: machines, agents that do as they are assigned, a clock that a test turns.

Agents are drawn with few strokes: a primary's head grows by one commit a step, a standby that can reach it has it at
once, and a barrier is answered OK as soon as the whole ack set holds it. `acknowledged` must never be lost.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dumont.control import detect
from dumont.control.assign import assignment
from dumont.control.decide import decide
from dumont.control.view import (
    Action,
    Become,
    BeginSwitch,
    ChangeAckSet,
    Fence,
    Notify,
    Promote,
    Reason,
    Release,
    Rent,
    Sighting,
    View,
    Voice,
    Witness,
)
from dumont.model.commit import CommitId
from dumont.model.instance import Instance, InstanceState, Role
from dumont.model.policy import Policy
from dumont.model.workspace import State, Wanted, Workspace, move
from dumont.provider.base import Phase
from dumont.wire.control import Assignment, BranchSaved, Endpoints, PeerStatus, Status
from tests.unit.views import OFFERS, START

BOOT_S = 1.5
ROUNDS_MAX = 20


@dataclass
class Host:
    """One machine with its agent, and what the server last heard of it."""

    instance: Instance
    boots_at: float
    killed: bool = False
    cut: bool = False
    unknown: bool = False  # the provider errs about it
    epoch: int = 0
    role: Role = Role.NONE
    head: CommitId | None = None
    ack_version: int = -1
    members: set[str] = field(default_factory=set)
    ok_seq: int = 0
    sealed: CommitId | None = None
    fork: bool = False
    branch: str = ""
    halted: str = ""
    leaving: str = ""
    stream_at: float | None = None
    heard_at: float | None = None
    up: bool | None = None
    status: Status | None = None
    peers: dict[str, tuple[CommitId | None, float]] = field(default_factory=dict)


class World:
    """Steps of `step_s` seconds; each ends with passes of decide until it rests."""

    def __init__(self, step_s: float = 0.25, *, has_gateway: bool = True) -> None:
        self.step_s = step_s
        self.has_gateway = has_gateway
        self.at = 0.0
        self.awake_at = 0.0
        self.row = Workspace(name="vox", created_at=START, policy=Policy())
        self.hosts: dict[str, Host] = {}
        self.acknowledged = CommitId(0, 0)
        self.branches: set[str] = set()
        self.promotions: list[Promote] = []
        self.switch_began_at: datetime | None = None
        self.notices: list[str] = []
        self._promotion_times: list[float] = []
        self._rented = 0

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.at)

    # --- faults

    def restart_server(self) -> None:
        """Everything that was only heard is forgotten."""
        self.awake_at = self.at
        for host in self.hosts.values():
            host.up, host.heard_at, host.status = None, None, None

    # --- one step

    def step(self) -> None:
        self.at += self.step_s
        view = self.view()
        for host in self.hosts.values():
            if self.at >= host.boots_at and not host.killed and host.instance.state is not InstanceState.GONE:
                self._live(host, assignment(view, host.instance.id))
        for host in self.hosts.values():
            self._hear(host)
        for _ in range(ROUNDS_MAX):
            actions = decide(self.view(), self.now)
            if not any(self.act(action) for action in actions):
                return
        raise AssertionError(f"decide does not come to rest: {actions}")

    def _live(self, host: Host, told: Assignment) -> None:
        if not host.cut and told.epoch >= host.epoch and host.instance.state is not InstanceState.RELEASING:
            self._obey(host, told)
        if host.role is Role.PRIMARY and host.sealed is None:
            host.head = CommitId(host.epoch, (host.head.seq if host.head else 0) + 1)
            self._replicate(host)

    def _obey(self, host: Host, told: Assignment) -> None:
        if told.epoch > host.epoch:
            if host.role is Role.PRIMARY and host.sealed is None and told.primary_id != host.instance.id:
                host.fork, host.head = True, None
            host.epoch, host.role, host.sealed, host.peers = told.epoch, Role.NONE, None, {}
            host.stream_at = None
        if told.role is Role.PRIMARY and host.sealed is None:
            host.role, host.ack_version, host.fork = Role.PRIMARY, told.ack_version, False
            host.members = set(told.ack_set)
            if told.seal:
                host.sealed = host.head
        elif told.role is Role.STANDBY and host.fork:
            host.halted = "holds files that nobody acknowledged"
        elif told.role is not Role.PRIMARY:
            host.role = told.role
            host.branch = told.branch or host.branch
            if told.restore and host.head is None:
                host.head = told.restore

    def _replicate(self, primary: Host) -> None:
        assert primary.head
        for host in self.hosts.values():
            linked = not (primary.cut or host.cut or host.killed) and self.at >= host.boots_at
            if host.role is Role.STANDBY and host.epoch == primary.epoch and linked:
                host.head, host.stream_at = primary.head, self.at
                primary.peers[host.instance.id] = (primary.head, self.at)
        holding = {peer for peer, (acked, _) in primary.peers.items() if acked == primary.head}
        if primary.members and primary.members <= holding:
            primary.ok_seq = primary.head.seq
            self.acknowledged = max(self.acknowledged, primary.head)

    def _hear(self, host: Host) -> None:
        if host.killed or self.at < host.boots_at:
            host.up = False if host.up else host.up
        elif not host.cut:
            host.up, host.heard_at, host.status = True, self.at, self._status(host)
            host.instance = replace(host.instance, token_hash="")

    def _status(self, host: Host) -> Status:
        silent_ms = int((self.at - host.stream_at) * 1000) if host.stream_at is not None else 0
        peers = tuple(
            PeerStatus(peer, not self.hosts[peer].killed, acked, silent_ms=int((self.at - at) * 1000))
            for peer, (acked, at) in host.peers.items()
        )
        return Status(
            instance_id=host.instance.id,
            epoch=host.epoch,
            role=host.role,
            endpoints=Endpoints("h", 1, 2, 3),
            ready=host.role is Role.PRIMARY and host.sealed is None,
            head=host.head,
            applied=host.head,
            ack_version=host.ack_version,
            ok_seq=host.ok_seq,
            peers=peers if host.role is Role.PRIMARY else (),
            sealed=host.sealed,
            stream_up=host.role is Role.STANDBY and host.stream_at is not None and not self._stream_closed(host),
            stream_seen=host.role is Role.STANDBY and host.stream_at is not None,
            stream_silent_ms=silent_ms if host.role is Role.STANDBY else 0,
            branch_saved=BranchSaved(host.branch, CommitId(1, 1), b"") if host.branch else None,
            halted=host.halted,
            leaving=host.leaving,
        )

    def _stream_closed(self, standby: Host) -> bool:
        primary = self.hosts.get(self.row.primary_id)
        return primary is None or primary.killed

    # --- what the server sees, and does

    def view(self) -> View:
        rows = [host for host in self.hosts.values() if host.instance.state is not InstanceState.GONE]
        hour_ago = self.at - 3600
        failed = [at for at, promotion in self._promoted_at if promotion.reason is Reason.FAILOVER and at > hour_ago]
        given_up = [at for at, promotion in self._promoted_at if promotion.reason is Reason.GIVE_UP and at > hour_ago]
        return View(
            workspace=self.row,
            sightings=tuple(self._sighting(host) for host in rows),
            offers=OFFERS,
            failovers_last_hour=len(failed),
            give_ups_last_hour=len(given_up),
            switch_began_at=self.switch_began_at,
            branches=tuple(self.branches),
        )

    @property
    def _promoted_at(self) -> list[tuple[float, Promote]]:
        return list(zip(self._promotion_times, self.promotions, strict=True))

    def _sighting(self, host: Host) -> Sighting:
        leads = host.instance.id == self.row.primary_id
        phase = Phase.STOPPED if host.killed else Phase.RUNNING
        phase = Phase.UNKNOWN if host.unknown else phase
        awake_s = self.at - self.awake_at
        witnesses = [
            detect.agent_witness(host.up, host.heard_at, self.at, self.awake_at),
            self._stream_of_primary() if leads else self._stream_of_standby(host),
            detect.provider_witness(phase),
        ]
        if leads and host.role is Role.PRIMARY and self.has_gateway:
            silent_s = 0.0 if not host.cut else detect.silence(self.at, host.heard_at, self.awake_at)
            witnesses.append(Witness(Voice.GATEWAY, not host.killed, min(silent_s, awake_s)))
        age_s = self.at - host.heard_at if host.heard_at is not None else 0.0
        return Sighting(
            instance=host.instance, phase=phase, status=host.status, status_age_s=age_s, witnesses=tuple(witnesses)
        )

    def _stream_of_primary(self) -> Witness:
        awake_s = self.at - self.awake_at
        said = [
            detect.stream_witness(host.status, self.at - (host.heard_at or 0.0), self.row.epoch, awake_s)
            for host in self.hosts.values()
            if host.instance.id in self.row.ack_set and host.status and host.status.role is Role.STANDBY
        ]
        return min(said, key=lambda one: (not one.up, one.silent_s)) if said else Witness(Voice.STREAM, None, awake_s)

    def _stream_of_standby(self, host: Host) -> Witness:
        awake_s = self.at - self.awake_at
        primary = self.hosts.get(self.row.primary_id)
        peers = primary.status.peers if primary and primary.status else ()
        peer = next((peer for peer in peers if peer.instance_id == host.instance.id), None)
        age_s = self.at - (primary.heard_at or 0.0) if primary else 0.0
        return detect.peer_witness(peer, age_s, awake_s)

    def act(self, action: Action) -> bool:
        """Carry one action out; True when a record changed."""
        row = self.row
        match action:
            case Promote():
                self._promote(action)
            case ChangeAckSet():
                self._check_set(action.ack_set)
                self.row = replace(row, ack_set=action.ack_set, ack_version=row.ack_version + 1)
            case BeginSwitch():
                assert not row.switching_to
                self.row, self.switch_began_at = replace(row, switching_to=action.to), self.now
            case Rent():
                self._rent(action)
            case Fence():
                host = self.hosts[action.instance_id]
                assert not host.instance.lost
                host.instance = replace(host.instance, lost=True, branch=action.branch)
            case Release():
                self._release(action)
            case Become():
                self.row = replace(move(row, action.state), single_copy_since=action.single_copy_since)
                assert self.row != row, "asked to become what it is"
            case Notify():
                self.notices.append(action.kind)
                return False
        return True

    def _promote(self, action: Promote) -> None:
        row, host = self.row, self.hosts[action.instance_id]
        assert action.epoch > row.epoch
        if action.instance_id != row.primary_id and action.reason in (Reason.FAILOVER, Reason.SWITCHOVER):
            assert host.head is not None
            assert host.head >= self.acknowledged, "an acknowledged commit is lost"
        self.row = replace(
            row,
            epoch=action.epoch,
            primary_id=action.instance_id,
            ack_set=action.ack_set,
            ack_version=0,
            switching_to="",
            promoted_at=self.now,
        )
        self.promotions.append(action)
        self._promotion_times.append(self.at)

    def _check_set(self, members: frozenset[str]) -> None:
        """Who may be promoted then, the oldest of them, holds everything that was acknowledged."""
        assert members != self.row.ack_set, "asked to change it to what it is"
        if members:
            senior = min((self.hosts[one].instance.created_at, one) for one in members)[1]
            head = self.hosts[senior].head
            assert head is not None and head >= self.acknowledged, f"{senior} lacks an acknowledged commit"

    def _rent(self, action: Rent) -> None:
        self._rented += 1
        instance = Instance(
            id=f"{action.machine.value[0]}{self._rented}",
            workspace="vox",
            machine=action.machine,
            provider="local",
            state=InstanceState.RENTED,
            price_micros_per_hour=action.offer.price_micros_per_hour,
            created_at=self.now,
            token_hash="unspent",
        )
        self.hosts[instance.id] = Host(instance, boots_at=self.at + BOOT_S)

    def _release(self, action: Release) -> None:
        host = self.hosts[action.instance_id]
        assert action.instance_id not in {self.row.primary_id, *self.row.ack_set} or self.row.wanted is Wanted.DELETED
        assert host.instance.state is not InstanceState.GONE
        host.killed = True
        host.instance = replace(host.instance, state=InstanceState.GONE, gone_at=self.now)

    # --- what a test asks

    def keep_branches(self) -> None:
        """The shell writes down what agents say that they saved."""
        for host in self.hosts.values():
            if host.status and host.status.branch_saved:
                self.branches.add(host.status.branch_saved.name)

    def present(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.instance.state is not InstanceState.GONE]

    @property
    def is_well(self) -> bool:
        """Running on a GPU with a CPU as its standby, and nothing else rented."""
        primary = self.hosts.get(self.row.primary_id)
        kinds = sorted(host.instance.machine.value for host in self.present())
        on_gpu = primary is not None and primary.instance.machine.value == "gpu"
        ill = any(host.killed or host.cut or host.leaving for host in self.present())
        return not ill and self.row.state is State.RUNNING and kinds == ["cpu", "gpu"] and on_gpu


def run(world: World, seconds: float, *, until_well: bool = False) -> None:
    """Step for that long, or until all is well."""
    end = world.at + seconds
    while world.at < end and not (until_well and world.is_well):
        world.step()
        world.keep_branches()
