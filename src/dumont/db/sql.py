"""The database on SQLite or PostgreSQL. Each compare-and-set is one UPDATE whose row count tells who won."""

from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dumont.clock import Clock, SystemClock
from dumont.db import tables
from dumont.errors import NameTaken, NoSuchWorkspace, NotPossibleHere
from dumont.model.branch import Branch
from dumont.model.event import Event
from dumont.model.instance import Instance, InstanceState
from dumont.model.observed import BidPoint, CapacityAnswer, Look
from dumont.model.offer import PricePoint
from dumont.model.past import Past
from dumont.model.workspace import State, Wanted, Workspace

BUSY_TIMEOUT_S = 15
"""How long a writer of SQLite waits for another process's transaction."""
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATING = 0x64756D6F
"""The key of PostgreSQL's advisory lock that lets one process at a time migrate."""
_ORDER = {state.value: place for place, state in enumerate(InstanceState)}


async def open_database(url: str, clock: Clock | None = None) -> "SqlDatabase":
    """Open and, if need be, bring up to date the database at `url`: `sqlite:///path`, `postgresql://…`, or a path.

    Raises NotPossibleHere when it can't be reached, or when a newer Dumont has written it.
    """
    address = _address(url)
    engine = _engine(address)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(engine.dispose)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(_migrate)
        except (OSError, OperationalError) as error:
            shown = address.render_as_string(hide_password=True)
            raise NotPossibleHere(
                f"the database {shown} can't be opened, so nobody can be promoted: {error}"
            ) from error
        undo.pop_all()
    return SqlDatabase(engine, clock or SystemClock())


class SqlDatabase:
    """The driver of `Database` on SQL. See there for what it promises."""

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def close(self) -> None:
        """Give all connections back."""
        await self._engine.dispose()

    async def add_workspace(self, workspace: Workspace) -> None:
        row = tables.row_of_workspace(workspace)
        try:
            await self._write(sa.insert(tables.workspaces).values(row))
        except IntegrityError as error:
            # The name of a deleted workspace is free again, but its epochs go on: nobody may lead at an old one twice.
            epoch = sa.case((_WORKSPACE.epoch > workspace.epoch, _WORKSPACE.epoch), else_=workspace.epoch)
            following = _WORKSPACE.generation + 1
            generation = sa.case((following > workspace.generation, following), else_=workspace.generation)
            freed = sa.update(tables.workspaces).where(
                _WORKSPACE.name == workspace.name, _WORKSPACE.state == State.DELETED.value
            )
            if not await self._write(freed.values({**row, "epoch": epoch, "generation": generation})):
                raise NameTaken(f"a workspace named {workspace.name} exists; pick another name") from error

    async def workspace(self, name: str) -> Workspace:
        rows = await self._read(sa.select(tables.workspaces).where(_WORKSPACE.name == name))
        if not rows:
            raise NoSuchWorkspace(f"there is no workspace named {name}; `dumont ls` lists them")
        return tables.workspace_of(rows[0])

    async def workspaces(self) -> list[Workspace]:
        query = sa.select(tables.workspaces).where(_WORKSPACE.state != State.DELETED.value)
        return sorted(map(tables.workspace_of, await self._read(query)), key=lambda workspace: workspace.name)

    async def want(self, name: str, wanted: Wanted) -> None:
        await self._change(name, {"wanted": wanted.value})

    async def describe(self, workspace: Workspace) -> None:
        await self._change(workspace.name, tables.description_of(workspace))

    async def promote(self, seen: Workspace, *, primary_id: str, epoch: int, ack_set: Iterable[str]) -> bool:
        ownership = {
            "primary_id": primary_id,
            "epoch": epoch,
            "ack_set": tables.ack_set_text(frozenset(ack_set)),
            "ack_version": 0,
            "switching_to": "",
            "promoted_at": self._clock.now(),
        }
        return await self._write(_as_seen(seen).where(_WORKSPACE.epoch < epoch).values(ownership)) == 1

    async def change_ack_set(self, seen: Workspace, ack_set: Iterable[str]) -> bool:
        ownership = {"ack_set": tables.ack_set_text(frozenset(ack_set)), "ack_version": seen.ack_version + 1}
        return await self._write(_as_seen(seen).values(ownership)) == 1

    async def begin_switch(self, seen: Workspace, to: str) -> bool:
        unbegun = _as_seen(seen).where(_WORKSPACE.switching_to == "")
        return await self._write(unbegun.values(switching_to=to)) == 1

    async def add_instance(self, instance: Instance) -> None:
        try:
            await self._write(sa.insert(tables.instances).values(tables.row_of_instance(instance)))
        except IntegrityError as error:
            raise NameTaken(f"an instance {instance.id} is written down already") from error

    async def save_instance(self, instance: Instance) -> None:
        row = tables.row_of_instance(instance)
        place = sa.case(_ORDER, value=_INSTANCE.state)
        further = place > _ORDER[instance.state.value]
        row["state"] = sa.case((further, _INSTANCE.state), else_=instance.state.value)
        row["gone_at"] = sa.func.coalesce(_INSTANCE.gone_at, sa.bindparam("ended", instance.gone_at, tables.Utc))
        row["lost"] = sa.or_(_INSTANCE.lost, sa.literal(instance.lost))
        row["branch"] = sa.case((sa.literal(instance.branch) == "", _INSTANCE.branch), else_=instance.branch)
        told = _INSTANCE.ended != ""
        row["ended"] = sa.case((told, _INSTANCE.ended), else_=instance.ended)
        row["ended_at"] = sa.func.coalesce(_INSTANCE.ended_at, sa.bindparam("let_go", instance.ended_at, tables.Utc))
        spent = _INSTANCE.token_spent == instance.token_hash
        row["token_hash"] = sa.case((spent, ""), else_=instance.token_hash)
        await self._write(sa.update(tables.instances).where(_INSTANCE.id == instance.id).values(row))

    async def instance(self, instance_id: str) -> Instance | None:
        rows = await self._read(sa.select(tables.instances).where(_INSTANCE.id == instance_id))
        return tables.instance_of(rows[0]) if rows else None

    async def instances(self, workspace: str | None = None, *, gone: bool = False) -> list[Instance]:
        query = sa.select(tables.instances).order_by(_INSTANCE.created_at, _INSTANCE.id)
        if workspace is not None:
            query = query.where(_INSTANCE.workspace == workspace)
        if not gone:
            query = query.where(_INSTANCE.state != InstanceState.GONE.value)
        return [tables.instance_of(row) for row in await self._read(query)]

    async def spend_token(self, instance_id: str, token_hash: str) -> bool:
        held = sa.update(tables.instances).where(_INSTANCE.id == instance_id, _INSTANCE.token_hash == token_hash)
        return bool(token_hash) and await self._write(held.values(token_hash="", token_spent=token_hash)) == 1

    async def add_event(self, event: Event) -> None:
        await self._write(sa.insert(tables.events).values(tables.row_of_event(event)))

    async def events(self, workspace: str, limit: int = 200) -> list[Event]:
        query = sa.select(tables.events).where(tables.events.c.workspace == workspace)
        newest = await self._read(query.order_by(tables.events.c.id.desc()).limit(limit))
        return [tables.event_of(row) for row in reversed(newest)]

    async def happened(self, kind: str, limit: int = 1000) -> list[Event]:
        query = sa.select(tables.events).where(tables.events.c.kind == kind)
        newest = await self._read(query.order_by(tables.events.c.id.desc()).limit(limit))
        return [tables.event_of(row) for row in reversed(newest)]

    async def add_branch(self, branch: Branch) -> None:
        try:
            await self._write(sa.insert(tables.branches).values(tables.row_of_branch(branch)))
        except IntegrityError:
            return  # it is there already

    async def branches(self, workspace: str) -> list[Branch]:
        query = sa.select(tables.branches).where(tables.branches.c.workspace == workspace)
        ordered = query.order_by(tables.branches.c.created_at, tables.branches.c.name)
        return [tables.branch_of(row) for row in await self._read(ordered)]

    async def leave_past(self, past: Past) -> None:
        known = sa.update(tables.pasts).where(
            _PAST.workspace == past.workspace, _PAST.generation == past.generation, ~_PAST.ending
        )
        if not await self._write(known.values(asdict(past))):
            await self._add_new(tables.pasts, [asdict(past)])

    async def pasts(self) -> list[Past]:
        query = sa.select(tables.pasts).where(~_is_alive())
        ordered = query.order_by(_PAST.removed_at, _PAST.workspace, _PAST.generation)
        return [Past(**row) for row in await self._read(ordered)]

    async def change_past(self, seen: Past, to: Past) -> bool:
        unchanged = sa.update(tables.pasts).where(
            _PAST.workspace == seen.workspace,
            _PAST.generation == seen.generation,
            _PAST.keep_until.is_(None) if seen.keep_until is None else _PAST.keep_until == seen.keep_until,
            ~_PAST.ending,
            ~_is_alive(),
        )
        return await self._write(unchanged.values(keep_until=to.keep_until, ending=to.ending)) == 1

    async def drop_past(self, past: Past) -> None:
        same = sa.and_(_PAST.workspace == past.workspace, _PAST.generation == past.generation, _PAST.ending)
        async with self._engine.begin() as connection:
            await connection.execute(sa.delete(tables.pasts).where(same))

    async def add_prices(self, points: Iterable[PricePoint]) -> None:
        for point in points:
            try:
                await self._write(sa.insert(tables.prices).values(tables.row_of_price(point)))
            except IntegrityError:
                continue  # another server process looked at the same moment

    async def prices(self, since: datetime, product: str = "") -> list[PricePoint]:
        query = sa.select(tables.prices).where(_PRICE.at >= since)
        if product:
            query = query.where(_PRICE.product == product)
        ordered = query.order_by(_PRICE.at, _PRICE.provider, _PRICE.product, _PRICE.region, _PRICE.spot)
        return [tables.price_of(row) for row in await self._read(ordered)]

    async def drop_prices(self, before: datetime) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(sa.delete(tables.prices).where(_PRICE.at < before))

    async def spot_lives(self, since: datetime) -> list[Instance]:
        end = sa.func.coalesce(_INSTANCE.ended_at, _INSTANCE.gone_at)
        query = sa.select(tables.instances).where(_INSTANCE.spot, sa.or_(end.is_(None), end >= since))
        return [tables.instance_of(row) for row in await self._read(query.order_by(_INSTANCE.created_at, _INSTANCE.id))]

    async def add_bids(self, points: Iterable[BidPoint]) -> None:
        await self._add_new(tables.bids, [asdict(point) for point in points])

    async def bids(self, since: datetime, provider: str = "") -> list[BidPoint]:
        query = sa.select(tables.bids).where(_BID.at >= since).order_by(_BID.at, _BID.slice)
        if provider:
            query = query.where(_BID.provider == provider)
        return [BidPoint(**row) for row in await self._read(query)]

    async def add_capacity(self, answer: CapacityAnswer) -> None:
        await self._add_new(tables.capacities, [tables.row_of_capacity(answer)])

    async def capacities(self, provider: str = "") -> list[CapacityAnswer]:
        query = sa.select(tables.capacities).where(_CAPACITY.at == _last_of(tables.capacities, "domain"))
        if provider:
            query = query.where(_CAPACITY.provider == provider)
        return [tables.capacity_of(row) for row in await self._read(query.order_by(_CAPACITY.domain))]

    async def save_look(self, look: Look, before: datetime | None) -> bool:
        row = asdict(look)
        if before is None:
            return await self._add_new(tables.looks, [row]) == 1
        unchanged = sa.update(tables.looks).where(_LOOK.provider == look.provider, _LOOK.at == before)
        return await self._write(unchanged.values(row)) == 1

    async def looks(self, provider: str = "") -> list[Look]:
        query = sa.select(tables.looks).order_by(_LOOK.provider)
        if provider:
            query = query.where(_LOOK.provider == provider)
        return [Look(**row) for row in await self._read(query)]

    async def drop_observed(self, before: datetime) -> None:
        async with self._engine.begin() as connection:
            for table, name in ((tables.bids, "slice"), (tables.capacities, "domain")):
                old = sa.and_(table.c.at < before, table.c.at < _last_of(table, name))
                await connection.execute(sa.delete(table).where(old))

    async def _add_new(self, table: sa.Table, rows: list[dict[str, Any]]) -> int:
        """Add the rows whose key is not there yet, in one transaction. Of a single row: how many were added."""
        if not rows:
            return 0
        dialect = sqlite if self._engine.dialect.name == "sqlite" else postgresql
        async with self._engine.begin() as connection:
            return (await connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)).rowcount

    async def _change(self, name: str, values: dict[str, Any]) -> None:
        if not await self._write(sa.update(tables.workspaces).where(_WORKSPACE.name == name).values(values)):
            raise NoSuchWorkspace(f"there is no workspace named {name}; `dumont ls` lists them")

    async def _write(self, statement: sa.Insert | sa.Update) -> int:
        """Carry one statement out in a transaction of its own: how many rows it changed."""
        async with self._engine.begin() as connection:
            return (await connection.execute(statement)).rowcount

    async def _read(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        async with self._engine.connect() as connection:
            return [dict(row._mapping) for row in await connection.execute(query)]


_WORKSPACE = tables.workspaces.c
_INSTANCE = tables.instances.c
_PRICE = tables.prices.c
_BID = tables.bids.c
_CAPACITY = tables.capacities.c
_LOOK = tables.looks.c
_PAST = tables.pasts.c


def _is_alive() -> sa.ColumnElement[bool]:
    """Whether the very workspace that a past would be of is not deleted yet."""
    same = sa.and_(_WORKSPACE.name == _PAST.workspace, _WORKSPACE.generation == _PAST.generation)
    return sa.exists().where(same, _WORKSPACE.state != State.DELETED.value)


def _last_of(table: sa.Table, name: str) -> sa.ScalarSelect[Any]:
    """The last moment of the row's own slice or domain."""
    same = table.alias()
    return sa.select(sa.func.max(same.c.at)).where(same.c[name] == table.c[name]).scalar_subquery()


def _as_seen(seen: Workspace) -> sa.Update:
    """An update of ownership that touches nothing unless the row is still as the caller saw it."""
    return sa.update(tables.workspaces).where(
        _WORKSPACE.name == seen.name, _WORKSPACE.epoch == seen.epoch, _WORKSPACE.ack_version == seen.ack_version
    )


def _address(url: str) -> URL:
    """`url` with the asynchronous driver that we use for it."""
    address = make_url(url if "://" in url else f"sqlite:///{url}")
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}.get(address.get_backend_name())
    if driver is None:
        raise NotPossibleHere(f"{address.get_backend_name()} is not a database Dumont knows; use SQLite or PostgreSQL")
    return address.set(drivername=driver)


def _engine(address: URL) -> AsyncEngine:
    if address.get_backend_name() == "sqlite":
        return _sqlite(address)
    try:
        return create_async_engine(address)
    except ModuleNotFoundError as error:
        raise NotPossibleHere("PostgreSQL needs its driver: pip install 'dumont[postgres]'") from error


def _sqlite(address: URL) -> AsyncEngine:
    """An engine whose commits survive a power cut, and whose readers don't wait for its writer."""
    engine = create_async_engine(address, connect_args={"timeout": BUSY_TIMEOUT_S})

    @sa.event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    return engine


def _migrate(connection: sa.Connection) -> None:
    """Bring the tables up to date, one process at a time. Raises NotPossibleHere for tables newer than this code."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in known:
        raise NotPossibleHere(
            f"the database was written by a newer Dumont (its tables are at {found}); install that version, or newer"
        )
    command.upgrade(config, "head")
