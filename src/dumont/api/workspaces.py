"""Workspaces: launch, list, show and remove them."""

from collections.abc import Sequence

import msgspec
from fastapi import APIRouter

from dumont.api.calibration import check_prediction
from dumont.api.names import find_workspace
from dumont.api.retention import read_rules
from dumont.api.site import Here, Site
from dumont.client.results import Address, AtRisk, ChunkKey, Launch, Meters, Replica, WorkspaceShown
from dumont.client.results import Retention as RetentionShown
from dumont.client.results import Wish as WishAsked
from dumont.control import ask
from dumont.control.keys import public_half
from dumont.control.observe import Heard, peer_of
from dumont.control.peaks import ADVISED
from dumont.errors import BadInput
from dumont.model.instance import Instance
from dumont.model.past import read_term
from dumont.model.policy import OnDemand, Policy, Service, Wish
from dumont.model.workspace import Workspace
from dumont.wire.control import Status

GATEWAY_HOST = "127.0.0.1"
SSH_USER = "dumont"
PATHS_MAX = 100
GPUS_MAX, RACE_MAX, SPARES_MAX, DISK_GB_MAX = 16, 4, 4, 16_000
VALUE_MICROS_PER_HOUR_MAX = 1_000_000_000_000

router = APIRouter()


@router.get("/workspaces")
async def list_workspaces(site: Here) -> list[WorkspaceShown]:
    """All but the deleted ones, by name."""
    instances = await site.parts.database.instances()
    rows = await site.parts.database.workspaces()
    return [shown(site, row, [one for one in instances if one.workspace == row.name]) for row in rows]


@router.post("/workspaces", status_code=201)
async def launch(site: Here, wish: Launch) -> WorkspaceShown:
    """Answers once it is written down; the control loop rents its machines."""
    service = Service(run=wish.run, on_standby=wish.on_standby, on_switch=wish.on_switch)
    policy = Policy(
        service=service,
        return_to_gpu=wish.return_to_gpu,
        gpu=_wish(wish.gpu),
        retention=read_rules(wish.retention),
    )
    most = wish.gpu.price_micros_per_hour_max
    if most is not None:
        policy = msgspec.structs.replace(policy, gpu_price_micros_per_hour_max=most)
    if wish.value_micros_per_hour is not None:
        policy = msgspec.structs.replace(policy, value_micros_per_hour=_value(wish.value_micros_per_hour))
    check_prediction(wish.advised)
    row = await ask.launch(site.parts, wish.name, policy)
    if wish.advised:
        await site.parts.acts.note(wish.name, ADVISED, wish.advised)
    return shown(site, row, [])


@router.get("/workspaces/{name}")
async def show(site: Here, name: str) -> WorkspaceShown:
    """As it is now."""
    instances = await site.parts.database.instances(name)
    return shown(site, await find_workspace(site, name), instances)


@router.get("/workspaces/{name}/chunk-key")
async def chunk_key(site: Here, name: str) -> ChunkKey:
    """The key under which the chunks of its files are named: with it, roots of trees can be computed by others too."""
    await find_workspace(site, name)
    return ChunkKey(key=(await site.parts.vault.open(name)).keys.chunk_key.hex())


@router.delete("/workspaces/{name}")
async def remove(site: Here, name: str, keep_history: str = "") -> WorkspaceShown:
    """Answers once it is wanted so; its machines are let go after that.

    `keep_history`: for how many days its history stays in the store, or `for-ever`; without it as the server is set.
    """
    await find_workspace(site, name)
    row = await ask.remove(site.parts, name, read_term(keep_history) if keep_history else None)
    return shown(site, row, await site.parts.database.instances(name))


def shown(site: Site, row: Workspace, instances: Sequence[Instance]) -> WorkspaceShown:
    """Records and what was last heard, together."""
    replicas = [_replica(site, row, instance) for instance in instances]
    primary = next((one for one in instances if one.id == row.primary_id), None)
    heard = site.parts.observatory.heard_of(row.primary_id)
    status = heard.status if heard.engine_up and heard.status and heard.status.epoch == row.epoch else None
    acked = [one for one in replicas if one.in_ack_set and one.connected and not one.refusal]
    return WorkspaceShown(
        name=row.name,
        state=row.state.value,
        wanted=row.wanted.value,
        epoch=row.epoch,
        primary=row.primary_id,
        machine=primary.machine.value if primary else "",
        copies=(1 if status and status.ready else 0) + len(acked),
        address=_address(row),
        created_at=row.created_at.isoformat(),
        promoted_at=row.promoted_at.isoformat() if row.promoted_at else None,
        single_copy_since=row.single_copy_since.isoformat() if row.single_copy_since else None,
        switching_to=row.switching_to,
        at_risk=AtRisk(bytes=status.risk.bytes, seconds=status.risk.ms / 1000) if status else None,
        head=str(status.head) if status and status.head else None,
        root=status.root.hex() if status else None,
        consistent=status.consistent if status else None,
        fuzzy=_paths(status.fuzzy if status else ()),
        uncovered=_paths(status.uncovered if status else ()),
        stored=str(row.stored) if row.stored else None,
        workload=status.workload if status else "",
        halted=status.halted if status else "",
        run=row.policy.service.run,
        on_standby=row.policy.service.on_standby,
        on_switch=row.policy.service.on_switch,
        return_to_gpu=row.policy.return_to_gpu,
        replicas=replicas,
        retention=RetentionShown(**msgspec.structs.asdict(row.policy.retention)),
    )


def _wish(asked: WishAsked) -> Wish:
    """Raises BadInput for what can't be."""
    if asked.on_demand not in list(OnDemand):
        raise BadInput(f"on_demand must be one of {', '.join(OnDemand)}, not {asked.on_demand!r}")
    if not (1 <= asked.gpus <= GPUS_MAX and 1 <= asked.race <= RACE_MAX and 8 <= asked.disk_gb <= DISK_GB_MAX):
        raise BadInput(
            f"a machine has 1 to {GPUS_MAX} GPUs and 8 to {DISK_GB_MAX} GB of disk; 1 to {RACE_MAX} may race"
        )
    if not 0 <= asked.spares <= SPARES_MAX:
        raise BadInput(f"0 to {SPARES_MAX} spares may be held, not {asked.spares}")
    return Wish(
        names=tuple(asked.names),
        gpus=asked.gpus,
        vram_gb_min=asked.vram_gb_min,
        disk_gb=asked.disk_gb,
        regions=tuple(asked.regions),
        reliability_min=asked.reliability_min,
        on_demand=OnDemand(asked.on_demand),
        race=asked.race,
        spares=asked.spares,
    )


def _value(micros_per_hour: int) -> int:
    """Raises BadInput for what an hour can't be worth."""
    if not 0 <= micros_per_hour <= VALUE_MICROS_PER_HOUR_MAX:
        raise BadInput(
            f"an hour without the GPU is worth 0 to {VALUE_MICROS_PER_HOUR_MAX // 1_000_000} US$, not "
            f"{micros_per_hour / 1_000_000:g}"
        )
    return micros_per_hour


def _address(row: Workspace) -> Address:
    return Address(
        host=GATEWAY_HOST,
        ssh_port=row.ssh_port,
        http_port=row.http_port,
        user=SSH_USER,
        alias=f"{row.name}.dumont",
        host_public_key=public_half(row.host_key),
    )


def _replica(site: Site, row: Workspace, instance: Instance) -> Replica:
    now = site.parts.clock.monotonic()
    heard = site.parts.observatory.heard_of(instance.id)
    status = heard.status
    leader = site.parts.observatory.heard_of(row.primary_id).status
    peer = peer_of(leader, instance.id) if leader else None
    return Replica(
        id=instance.id,
        machine=instance.machine.value,
        state=instance.state.value,
        role=status.role.value if status else "none",
        provider=instance.provider,
        provider_ref=instance.provider_ref,
        phase=heard.phase.value,
        price_micros_per_hour=instance.price_micros_per_hour,
        connected=heard.engine_up,
        heard_ms_ago=_heard_ms_ago(heard, now),
        ready=bool(status and status.ready),
        in_ack_set=instance.id in row.ack_set,
        lost=instance.lost,
        epoch=status.epoch if status else None,
        head=str(status.head) if status and status.head else None,
        root=status.root.hex() if status else None,
        commits=status.commits if status else None,
        acked=str(peer.acked) if peer and peer.acked else None,
        refusal=peer.refusal if peer else "",
        workload=status.workload if status else "",
        halted=status.halted if status else "",
        meters=_meters(status),
    )


def _heard_ms_ago(heard: Heard, now: float) -> int | None:
    last = max(
        (at for at in (heard.life_at, heard.status_at if heard.status else None) if at is not None), default=None
    )
    return None if last is None else max(0, round((now - last) * 1000))


def _meters(status: Status | None) -> Meters:
    return msgspec.convert(msgspec.to_builtins(status.meters), Meters) if status else Meters()


def _paths(paths: Sequence[bytes]) -> list[str]:
    return [path.decode(errors="backslashreplace") for path in paths[:PATHS_MAX]]
