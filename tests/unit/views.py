"""Builders of views for the tests of control: a workspace, its machines, what is said of them, what is decided."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dumont.control.decide import decide
from dumont.control.view import Action, Notify, Sighting, View, Voice, Witness
from dumont.model.commit import CommitId
from dumont.model.instance import Instance, InstanceState, Machine, Role
from dumont.model.policy import Policy
from dumont.model.workspace import State, Workspace
from dumont.provider.base import Offer, Phase
from dumont.wire.control import Endpoints, PeerStatus, Status

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(hours=1)
NOBODY: frozenset[str] = frozenset()
CHANNELS = (Voice.AGENT, Voice.STREAM, Voice.GATEWAY)
KILLED = tuple(Witness(voice, False, 0.1) for voice in CHANNELS)
CUT_OFF = tuple(Witness(voice, True, 2.5) for voice in CHANNELS)
OFFERS = tuple(
    Offer(id=f"{machine}-{price}", provider="local", machine=machine, name=machine.value, price_micros_per_hour=price)
    for machine, price in ((Machine.GPU, 500_000), (Machine.GPU, 400_000), (Machine.CPU, 20_000), (Machine.CPU, 10_000))
)


def a_workspace(**others: Any) -> Workspace:
    """One that runs since a minute: GPU `g` leads at epoch 3, CPU `c` is its ack set."""
    row = Workspace(
        name="vox",
        created_at=START,
        policy=Policy(),
        state=State.RUNNING,
        epoch=3,
        primary_id="g",
        ack_set=frozenset({"c"}),
        ack_version=1,
        promoted_at=NOW - timedelta(minutes=1),
        ssh_port=2201,
        http_port=8001,
    )
    return replace(row, **others)


def an_instance(instance_id: str, **others: Any) -> Instance:
    """Rented half an hour ago; its kind follows from its name's first letter, `g` or `c`."""
    row = Instance(
        id=instance_id,
        workspace="vox",
        machine=Machine.GPU if instance_id.startswith("g") else Machine.CPU,
        provider="local",
        state=InstanceState.RENTED,
        price_micros_per_hour=1,
        created_at=START + timedelta(minutes=30),
    )
    return replace(row, **others)


def endpoints(instance_id: str) -> Endpoints:
    return Endpoints(f"host-{instance_id}", 22, 80, 9000)


def leading(instance_id: str = "g", **others: Any) -> Status:
    """The status of a primary at epoch 3 whose standby `c` (or `g`) holds its head, 3.100."""
    other = "c" if instance_id.startswith("g") else "g"
    fields: dict[str, Any] = {
        "instance_id": instance_id,
        "epoch": 3,
        "role": Role.PRIMARY,
        "endpoints": endpoints(instance_id),
        "ready": True,
        "head": CommitId(3, 100),
        "ack_version": 1,
        "ok_seq": 100,
        "peers": (PeerStatus(other, True, CommitId(3, 100)),),
    }
    return Status(**{**fields, **others})


def following(instance_id: str = "c", **others: Any) -> Status:
    """The status of a standby at epoch 3 that holds 3.100."""
    fields: dict[str, Any] = {
        "instance_id": instance_id,
        "epoch": 3,
        "role": Role.STANDBY,
        "endpoints": endpoints(instance_id),
        "head": CommitId(3, 100),
        "applied": CommitId(3, 100),
        "stream_up": True,
        "stream_seen": True,
    }
    return Status(**{**fields, **others})


def idle(instance_id: str, epoch: int = 0, **others: Any) -> Status:
    """The status of an agent without a role."""
    fields: dict[str, Any] = {"instance_id": instance_id, "epoch": epoch, "role": Role.NONE}
    return Status(**{**fields, "endpoints": endpoints(instance_id), **others})


def heard(*voices: Voice) -> tuple[Witness, ...]:
    """Open channels that spoke just now."""
    return tuple(Witness(voice, True, 0.1) for voice in voices)


def closed(*voices: Voice, silent_s: float = 0.1) -> tuple[Witness, ...]:
    return tuple(Witness(voice, False, silent_s) for voice in voices)


def silent(*voices: Voice, silent_s: float = 2.5) -> tuple[Witness, ...]:
    """Open channels over which nothing comes."""
    return tuple(Witness(voice, True, silent_s) for voice in voices)


def seen(instance_id: str, status: Status | None = None, **others: Any) -> Sighting:
    """A sighting of a machine that is well, unless told otherwise."""
    fields: dict[str, Any] = {
        "instance": an_instance(instance_id),
        "phase": Phase.RUNNING,
        "status": status,
        "status_age_s": 0.1,
        "witnesses": heard(Voice.AGENT, Voice.STREAM),
    }
    return Sighting(**{**fields, **others})


def booting(instance_id: str, age_s: float = 1.0, **others: Any) -> Sighting:
    """A machine that was rented `age_s` ago and has not been heard of."""
    created_at = NOW - timedelta(seconds=age_s)
    fields: dict[str, Any] = {
        "instance": an_instance(instance_id, created_at=created_at, token_hash="unspent"),
        "phase": Phase.STARTING,
        "witnesses": (Witness(Voice.AGENT, None, age_s), Witness(Voice.STREAM, None)),
    }
    return seen(instance_id, **{**fields, **others})


def a_view(*sightings: Sighting, row: Workspace | None = None, **others: Any) -> View:
    """A view of these sightings; by default all is well."""
    return View(
        workspace=row or a_workspace(),
        sightings=sightings or (seen_leading(), seen_following()),
        offers=OFFERS,
        **others,
    )


def on_cpu(**others: Any) -> Workspace:
    """After a failover: CPU `c` leads at epoch 3."""
    return a_workspace(**{"primary_id": "c", "ack_set": frozenset({"g"}), **others})


def do(view: View) -> list[Action]:
    """What is decided, without what is only told."""
    return [action for action in decide(view, NOW) if not isinstance(action, Notify)]


def told(view: View) -> list[str]:
    """The kinds of what is told."""
    return [action.kind for action in decide(view, NOW) if isinstance(action, Notify)]


def seen_leading(**others: Any) -> Sighting:
    """The primary `g`, well."""
    return seen("g", **{"status": leading(), "witnesses": heard(*CHANNELS), **others})


def seen_following(**others: Any) -> Sighting:
    """The standby `c`, well."""
    return seen("c", **{"status": following(), **others})
