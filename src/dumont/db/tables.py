"""The tables of the database, for SQLite and PostgreSQL, and how our values become columns and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from dumont.model.branch import Branch
from dumont.model.commit import CommitId
from dumont.model.event import Event
from dumont.model.instance import Instance, InstanceState, Machine
from dumont.model.observed import CapacityAnswer
from dumont.model.offer import PricePoint
from dumont.model.policy import Policy
from dumont.model.workspace import State, Wanted, Workspace


class Utc(sa.TypeDecorator[datetime]):
    """An instant in UTC, to the microsecond. SQLite keeps no zone, so it is taken off and put back."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "a date without a zone is nobody's"
        in_utc = value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if dialect.name == "sqlite" else in_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData()

workspaces = sa.Table(
    "workspace",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("policy", sa.Text, nullable=False),
    sa.Column("wanted", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("primary_id", sa.Text, nullable=False),
    sa.Column("ack_set", sa.Text, nullable=False),
    sa.Column("ack_version", sa.BigInteger, nullable=False),
    sa.Column("switching_to", sa.Text, nullable=False),
    sa.Column("promoted_at", Utc),
    sa.Column("single_copy_since", Utc),
    sa.Column("stored", sa.Text),
    sa.Column("ssh_port", sa.Integer, nullable=False),
    sa.Column("http_port", sa.Integer, nullable=False),
    sa.Column("host_key", sa.Text, nullable=False),
    sa.Column("owner_keys", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False, server_default="1"),
)

pasts = sa.Table(
    "past",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True),
    sa.Column("removed_at", Utc, nullable=False),
    sa.Column("keep_until", Utc),
    sa.Column("ending", sa.Boolean, nullable=False),
)

instances = sa.Table(
    "instance",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("workspace", sa.Text, nullable=False, index=True),
    sa.Column("machine", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("price_micros_per_hour", sa.BigInteger, nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("provider_ref", sa.Text, nullable=False),
    sa.Column("token_hash", sa.Text, nullable=False),
    sa.Column("token_spent", sa.Text, nullable=False, server_default=""),
    sa.Column("lost", sa.Boolean, nullable=False),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("gone_at", Utc),
    sa.Column("product", sa.Text, nullable=False, server_default=""),
    sa.Column("region", sa.Text, nullable=False, server_default=""),
    sa.Column("host", sa.Text, nullable=False, server_default=""),
    sa.Column("domain", sa.Text, nullable=False, server_default=""),
    sa.Column("spot", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("boot_s_max", sa.Float, nullable=False, server_default="0"),
    sa.Column("ended", sa.Text, nullable=False, server_default=""),
    sa.Column("ended_at", Utc),
    sa.Column("bid_micros_per_hour", sa.BigInteger, nullable=False, server_default="0"),
)

prices = sa.Table(
    "price",
    metadata,
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("product", sa.Text, primary_key=True),
    sa.Column("region", sa.Text, primary_key=True),
    sa.Column("spot", sa.Boolean, primary_key=True),
    sa.Column("at", Utc, primary_key=True),
    sa.Column("lowest_micros_per_hour", sa.BigInteger, nullable=False),
    sa.Column("median_micros_per_hour", sa.BigInteger, nullable=False),
    sa.Column("offers", sa.Integer, nullable=False),
    sa.Index("price_by_time", "at"),
)

bids = sa.Table(
    "bid",
    metadata,
    sa.Column("slice", sa.Text, primary_key=True),
    sa.Column("at", Utc, primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("lowest_micros_per_hour", sa.BigInteger, nullable=False),
    sa.Index("bid_by_time", "provider", "at"),
)

capacities = sa.Table(
    "capacity",
    metadata,
    sa.Column("domain", sa.Text, primary_key=True),
    sa.Column("at", Utc, primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("rates", sa.Text, nullable=False),
)

looks = sa.Table(
    "look",
    metadata,
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("at", Utc, nullable=False),
    sa.Column("seen", sa.Text, nullable=False),
)

events = sa.Table(
    "event",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("workspace", sa.Text, nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
    sa.Index("event_by_workspace", "workspace", "id"),
)

branches = sa.Table(
    "branch",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("commit", sa.Text, nullable=False),
    sa.Column("root", sa.Text, nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("forked_from", sa.Text),
    sa.Column("paths", sa.Text, nullable=False),
)


def row_of_workspace(workspace: Workspace) -> dict[str, Any]:
    """All columns of a new workspace."""
    return {
        "name": workspace.name,
        "created_at": workspace.created_at,
        "wanted": workspace.wanted.value,
        "epoch": workspace.epoch,
        "primary_id": workspace.primary_id,
        "ack_set": ack_set_text(workspace.ack_set),
        "ack_version": workspace.ack_version,
        "switching_to": workspace.switching_to,
        "promoted_at": workspace.promoted_at,
        "generation": workspace.generation,
        **description_of(workspace),
    }


def description_of(workspace: Workspace) -> dict[str, Any]:
    """The columns that are not ownership, and that a user's wish does not set either."""
    return {
        "policy": _text(workspace.policy),
        "state": workspace.state.value,
        "single_copy_since": workspace.single_copy_since,
        "stored": _text(workspace.stored) if workspace.stored else None,
        "ssh_port": workspace.ssh_port,
        "http_port": workspace.http_port,
        "host_key": workspace.host_key,
        "owner_keys": _text(workspace.owner_keys),
    }


def workspace_of(row: Mapping[str, Any]) -> Workspace:
    """The workspace that a row holds."""
    return Workspace(
        name=row["name"],
        created_at=row["created_at"],
        policy=msgspec.json.decode(row["policy"], type=Policy),
        wanted=Wanted(row["wanted"]),
        state=State(row["state"]),
        epoch=row["epoch"],
        primary_id=row["primary_id"],
        ack_set=frozenset(msgspec.json.decode(row["ack_set"], type=list[str])),
        ack_version=row["ack_version"],
        switching_to=row["switching_to"],
        promoted_at=row["promoted_at"],
        single_copy_since=row["single_copy_since"],
        stored=_commit_id(row["stored"]),
        ssh_port=row["ssh_port"],
        http_port=row["http_port"],
        host_key=row["host_key"],
        owner_keys=msgspec.json.decode(row["owner_keys"], type=tuple[str, ...]),
        generation=row["generation"],
    )


def ack_set_text(ack_set: frozenset[str]) -> str:
    """One text for one set, whatever order it is walked in."""
    return _text(sorted(ack_set))


def row_of_instance(instance: Instance) -> dict[str, Any]:
    """All columns of a new instance."""
    return {
        "id": instance.id,
        "workspace": instance.workspace,
        "machine": instance.machine.value,
        "provider": instance.provider,
        "state": instance.state.value,
        "price_micros_per_hour": instance.price_micros_per_hour,
        "created_at": instance.created_at,
        "provider_ref": instance.provider_ref,
        "token_hash": instance.token_hash,
        "lost": instance.lost,
        "branch": instance.branch,
        "gone_at": instance.gone_at,
        "product": instance.product,
        "region": instance.region,
        "host": instance.host,
        "domain": instance.domain,
        "spot": instance.spot,
        "boot_s_max": instance.boot_s_max,
        "ended": instance.ended,
        "ended_at": instance.ended_at,
        "bid_micros_per_hour": instance.bid_micros_per_hour,
    }


def instance_of(row: Mapping[str, Any]) -> Instance:
    """The instance that a row holds."""
    return Instance(
        id=row["id"],
        workspace=row["workspace"],
        machine=Machine(row["machine"]),
        provider=row["provider"],
        state=InstanceState(row["state"]),
        price_micros_per_hour=row["price_micros_per_hour"],
        created_at=row["created_at"],
        provider_ref=row["provider_ref"],
        token_hash=row["token_hash"],
        lost=row["lost"],
        branch=row["branch"],
        gone_at=row["gone_at"],
        product=row["product"],
        region=row["region"],
        host=row["host"],
        domain=row["domain"],
        spot=row["spot"],
        boot_s_max=row["boot_s_max"],
        ended=row["ended"],
        ended_at=row["ended_at"],
        bid_micros_per_hour=row["bid_micros_per_hour"],
    )


def row_of_price(point: PricePoint) -> dict[str, Any]:
    """All columns of a price."""
    return asdict(point)


def price_of(row: Mapping[str, Any]) -> PricePoint:
    """The price that a row holds."""
    return PricePoint(**row)


def row_of_capacity(answer: CapacityAnswer) -> dict[str, Any]:
    """All columns of what a provider told of its capacity."""
    return asdict(answer) | {"rates": _text(answer.rates)}


def capacity_of(row: Mapping[str, Any]) -> CapacityAnswer:
    """What a provider told of its capacity, as a row holds it."""
    rates = msgspec.json.decode(row["rates"], type=tuple[float, ...])
    return CapacityAnswer(at=row["at"], provider=row["provider"], domain=row["domain"], rates=rates)


def row_of_event(event: Event) -> dict[str, Any]:
    """All columns of an event but its number."""
    return {"workspace": event.workspace, "at": event.at, "kind": event.kind, "facts": json.dumps(event.facts)}


def event_of(row: Mapping[str, Any]) -> Event:
    """The event that a row holds."""
    return Event(workspace=row["workspace"], at=row["at"], kind=row["kind"], facts=json.loads(row["facts"]))


def row_of_branch(branch: Branch) -> dict[str, Any]:
    """All columns of a branch. Paths may hold bytes that are not text (as surrogates): plain JSON escapes those."""
    return {
        "workspace": branch.workspace,
        "name": branch.name,
        "commit": _text(branch.commit),
        "root": branch.root,
        "created_at": branch.created_at,
        "forked_from": _text(branch.forked_from) if branch.forked_from else None,
        "paths": json.dumps(branch.paths),
    }


def branch_of(row: Mapping[str, Any]) -> Branch:
    """The branch that a row holds."""
    return Branch(
        workspace=row["workspace"],
        name=row["name"],
        commit=msgspec.json.decode(row["commit"], type=CommitId),
        root=row["root"],
        created_at=row["created_at"],
        forked_from=_commit_id(row["forked_from"]),
        paths=tuple(json.loads(row["paths"])),
    )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _commit_id(text: str | None) -> CommitId | None:
    return msgspec.json.decode(text, type=CommitId) if text else None
