"""Records as a database keeps them, each with something in it that a careless driver would lose."""

from dataclasses import replace
from datetime import UTC, datetime

from dumont.model.instance import Instance, InstanceState, Machine
from dumont.model.offer import PricePoint
from dumont.model.policy import Policy, Service
from dumont.model.workspace import Workspace

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def a_workspace(name: str = "vox") -> Workspace:
    return Workspace(
        name=name,
        created_at=AT,
        policy=Policy(service=Service(run="python train.py 'ç'"), settle_s=0.25),
        ssh_port=2201,
        http_port=8081,
        host_key="-----KEY-----\nline\n",
        owner_keys=("ssh-ed25519 AAAA á", "ssh-rsa BBBB"),
    )


def an_instance(instance_id: str = "vox-1", workspace: str = "vox", **others: object) -> Instance:
    before = Instance(
        id=instance_id,
        workspace=workspace,
        machine=Machine.GPU,
        provider="local",
        state=InstanceState.INTENDED,
        price_micros_per_hour=2**40,
        created_at=AT,
        token_hash="hash",
    )
    return replace(before, **others)  # type: ignore[arg-type]


def a_price(**others: object) -> PricePoint:
    point = PricePoint(
        at=AT,
        provider="vast",
        product="RTX 4090",
        region="BR",
        spot=True,
        lowest_micros_per_hour=200_000,
        median_micros_per_hour=2**40,
        offers=3,
    )
    return replace(point, **others)  # type: ignore[arg-type]
