"""An assignment: what each agent is to be, and the route: where the gateway leads, both read off a view. Pure."""

from dumont.control.judge import Case
from dumont.control.view import Sighting, View
from dumont.model.commit import CommitId
from dumont.model.instance import InstanceState, Machine, Role
from dumont.wire.control import Assignment, Endpoints, Peer
from dumont.wire.route import Route


def assignment(view: View, instance_id: str) -> Assignment:
    """All that this agent needs to know. An instance that we don't trust, or let go, or don't need, has no role."""
    case = Case(view)
    row, sighting = view.workspace, view.sighting(instance_id)
    role = _role(case, sighting)
    leader = (case.primary,) if case.primary else ()
    others = {Role.PRIMARY: case.followers, Role.STANDBY: leader, Role.NONE: ()}[role]
    return Assignment(
        workspace=row.name,
        epoch=row.epoch,
        role=role,
        primary_id=row.primary_id,
        ack_set=tuple(sorted(row.ack_set)),
        ack_version=row.ack_version,
        peers=tuple(_peer(sighting, other, role) for other in others) if sighting else (),
        seal=role is Role.PRIMARY and bool(row.switching_to),
        branch=sighting.instance.branch if sighting and sighting.instance.lost else "",
        restore=_restore(case, sighting),
        service=row.policy.service,
        on_gpu=sighting is not None and sighting.instance.machine is Machine.GPU,
        owner_keys=row.owner_keys,
        host_key=row.host_key if role is not Role.NONE else "",
        barrier_timeout_s=row.policy.barrier_timeout_s,
        store_every_s=row.policy.store_every_s,
    )


def route(view: View) -> Route:
    """Where the workspace's address leads.

    With an instance id but no endpoints, we can't say yet: a gateway that has a route to that very instance at that
    epoch keeps it (this server, or the agent's engine, may just have started), any other waits. Without an id, nobody
    serves: the primary is sealed, or fenced.
    """
    row, primary = view.workspace, view.primary
    status = primary.status if primary else None
    known = status if status and status.epoch == row.epoch else None
    ready = known is not None and known.role is Role.PRIMARY and known.ready
    nobody = primary is None or primary.instance.lost or (known is not None and known.sealed is not None)
    return Route(
        workspace=row.name,
        epoch=row.epoch,
        ssh_port=row.ssh_port,
        http_port=row.http_port,
        instance_id="" if nobody else row.primary_id,
        endpoints=known.endpoints if known and ready and not nobody else None,
    )


def _role(case: Case, sighting: Sighting | None) -> Role:
    row = case.row
    if sighting is None or sighting.instance.lost:
        return Role.NONE
    if sighting.instance.state in (InstanceState.RELEASING, InstanceState.GONE):
        return Role.NONE
    if sighting.instance.id == row.primary_id:
        return Role.PRIMARY
    if sighting in case.followers and not case.is_restoring:
        return Role.STANDBY
    return Role.NONE


def _peer(sighting: Sighting, other: Sighting, role: Role) -> Peer:
    """The GPU side dials, whatever role it plays; of two of a kind, the standby."""
    mine, theirs = sighting.instance.machine, other.instance.machine
    dial = role is Role.STANDBY if mine is theirs else mine is Machine.GPU
    endpoints = other.status.endpoints if other.status else Endpoints("")
    return Peer(other.instance.id, endpoints, dial, keeper=theirs is Machine.CPU)


def _restore(case: Case, sighting: Sighting | None) -> CommitId | None:
    """What a machine without a role is to fetch from the store, when no other copy is left."""
    if sighting is None or not case.is_restoring or sighting not in case.present or case.has_role(sighting):
        return None
    return case.row.stored
