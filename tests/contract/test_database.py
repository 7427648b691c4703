"""The contract of the database, bound to the drivers in memory, on SQLite, and on a real PostgreSQL."""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dumont.control.learner import Learner
from dumont.db.base import Database
from dumont.db.memory import MemoryDatabase
from dumont.db.sql import open_database
from dumont.db.tables import metadata
from dumont.errors import NameTaken, NoSuchWorkspace, NotPossibleHere
from dumont.model.branch import Branch
from dumont.model.commit import CommitId
from dumont.model.event import Event
from dumont.model.instance import InstanceState
from dumont.model.workspace import State, Wanted
from tests.clocks import HandClock
from tests.contract.observed import NEED, ObservedContract, Reopen, numbers, spot_offer, watch
from tests.contract.pasts import PastsContract
from tests.records import AT, a_price, a_workspace, an_instance


class DatabaseContract(ObservedContract, PastsContract):
    """What every driver promises. A subclass supplies `reopen`: close what is open, and open the same records."""

    @pytest.fixture
    async def database(self, reopen: Reopen) -> Database:
        return await reopen()

    async def test_prices_are_kept_by_moment_and_product(self, database: Database) -> None:
        """A history of prices that counts a moment twice would tell a wrong hazard."""
        dear = a_price(lowest_micros_per_hour=500_000)
        later = a_price(at=AT + timedelta(hours=1))
        await database.add_prices([later, a_price(), a_price(product="L4")])
        await database.add_prices([dear])
        assert await database.prices(AT, "RTX 4090") == [a_price(), later]
        assert [point.product for point in await database.prices(AT)] == ["L4", "RTX 4090", "RTX 4090"]
        await database.drop_prices(AT + timedelta(minutes=1))
        assert await database.prices(AT) == [later]

    async def test_why_an_instance_ended_stays_as_it_was_first_told(self, database: Database) -> None:
        """Its release is written later, by somebody who does not know that it had been outbid."""
        await database.add_instance(an_instance(product="RTX 4090", domain="vast/31877", spot=True))
        await database.save_instance(an_instance(ended="outbid", ended_at=AT))
        await database.save_instance(an_instance(ended="dead", ended_at=AT + timedelta(seconds=9)))
        found = await database.instance("vox-1")
        assert found is not None
        assert (found.ended, found.ended_at) == ("outbid", AT)

    async def test_what_was_added_is_read_back_whole(self, database: Database) -> None:
        """A field lost on the way would be lost at each restart of the server."""
        await database.add_workspace(a_workspace())
        assert await database.workspace("vox") == a_workspace()

    async def test_a_name_is_taken_once(self, database: Database) -> None:
        """Two workspaces of one name would share an address."""
        await database.add_workspace(a_workspace())
        with pytest.raises(NameTaken):
            await database.add_workspace(a_workspace())

    async def test_a_deleted_name_is_free_but_its_epochs_go_on(self, database: Database) -> None:
        """An agent left over from the old workspace must never find itself leading at an epoch it once had."""
        await database.add_workspace(a_workspace())
        assert await database.promote(a_workspace(), primary_id="vox-1", epoch=7, ack_set=())
        row = await database.workspace("vox")
        await database.describe(replace(row, state=State.DELETED))
        await database.add_workspace(a_workspace())
        assert await database.workspace("vox") == replace(a_workspace(), epoch=7, generation=2)

    async def test_an_unknown_name_is_an_error_in_words(self, database: Database) -> None:
        """Silence would look like success to whoever mistyped a name."""
        with pytest.raises(NoSuchWorkspace):
            await database.workspace("nobody")
        with pytest.raises(NoSuchWorkspace):
            await database.want("nobody", Wanted.DELETED)
        with pytest.raises(NoSuchWorkspace):
            await database.describe(a_workspace("nobody"))

    async def test_the_list_is_by_name_and_leaves_out_the_deleted(self, database: Database) -> None:
        """The control loop goes through it at each pass."""
        for name in ("b", "a", "c"):
            await database.add_workspace(a_workspace(name))
        await database.describe(replace(await database.workspace("b"), state=State.DELETED))
        assert [workspace.name for workspace in await database.workspaces()] == ["a", "c"]
        assert (await database.workspace("b")).state is State.DELETED

    async def test_describing_touches_neither_ownership_nor_the_users_wish(self, database: Database) -> None:
        """A description is saved from a view that may be old: it must not bring an old owner or wish back."""
        old = a_workspace()
        await database.add_workspace(old)
        await database.want("vox", Wanted.DELETED)
        await database.promote(old, primary_id="vox-1", epoch=1, ack_set=("vox-2",))
        described = replace(old, state=State.DEGRADED, single_copy_since=AT, stored=CommitId(1, 9), ssh_port=9)
        await database.describe(described)
        row = await database.workspace("vox")
        assert (row.wanted, row.epoch, row.primary_id, row.ack_set) == (
            Wanted.DELETED,
            1,
            "vox-1",
            frozenset({"vox-2"}),
        )
        assert (row.state, row.single_copy_since, row.stored, row.ssh_port) == (State.DEGRADED, AT, CommitId(1, 9), 9)

    async def test_a_promotion_sets_the_whole_ownership_at_once(self, database: Database) -> None:
        """Half an ownership could let a barrier count the acknowledgement of a former standby."""
        await database.add_workspace(a_workspace())
        seen = await database.workspace("vox")
        assert await database.promote(seen, primary_id="vox-1", epoch=1, ack_set=("vox-2",))
        seen = await database.workspace("vox")
        assert await database.change_ack_set(seen, ())
        seen = await database.workspace("vox")
        assert await database.begin_switch(seen, "vox-2")
        seen = await database.workspace("vox")
        assert (seen.ack_version, seen.switching_to) == (1, "vox-2")
        assert await database.promote(seen, primary_id="vox-2", epoch=2, ack_set=("vox-1",))
        row = await database.workspace("vox")
        assert (row.primary_id, row.epoch, row.ack_set, row.ack_version, row.switching_to) == (
            "vox-2",
            2,
            frozenset({"vox-1"}),
            0,
            "",
        )
        assert row.promoted_at is not None
        assert row.promoted_at.utcoffset() == timedelta(0)

    async def test_nobody_is_promoted_at_an_epoch_that_was(self, database: Database) -> None:
        """The epoch is the fencing token: a second primary at the same one would be acknowledged too (I2)."""
        await database.add_workspace(a_workspace())
        await database.promote(a_workspace(), primary_id="vox-1", epoch=3, ack_set=())
        seen = await database.workspace("vox")
        for epoch in (1, 2, 3):
            assert not await database.promote(seen, primary_id="vox-2", epoch=epoch, ack_set=())
        assert await database.workspace("vox") == seen

    async def test_an_old_view_changes_nothing(self, database: Database) -> None:
        """A server process that slept through a failover must not undo it."""
        await database.add_workspace(a_workspace())
        old = await database.workspace("vox")
        await database.promote(old, primary_id="vox-1", epoch=1, ack_set=("vox-2",))
        row = await database.workspace("vox")
        assert not await database.promote(old, primary_id="vox-3", epoch=9, ack_set=())
        assert not await database.change_ack_set(old, ("vox-3",))
        assert not await database.begin_switch(old, "vox-3")
        assert await database.workspace("vox") == row

    async def test_a_member_that_was_left_out_cannot_be_promoted_any_more(self, database: Database) -> None:
        """Otherwise barriers acknowledged without it could be lost (I1)."""
        await database.add_workspace(a_workspace())
        await database.promote(a_workspace(), primary_id="vox-1", epoch=1, ack_set=("vox-2",))
        seen = await database.workspace("vox")
        assert await database.change_ack_set(seen, ())
        assert not await database.promote(seen, primary_id="vox-2", epoch=2, ack_set=())
        assert not await database.change_ack_set(seen, ("vox-3",))
        assert (await database.workspace("vox")).ack_version == seen.ack_version + 1

    async def test_a_switchover_begins_once(self, database: Database) -> None:
        """Two targets of one switchover could both be promoted."""
        await database.add_workspace(a_workspace())
        seen = await database.workspace("vox")
        assert await database.begin_switch(seen, "vox-2")
        assert not await database.begin_switch(seen, "vox-3")
        assert (await database.workspace("vox")).switching_to == "vox-2"

    async def test_of_twenty_promotions_at_once_one_wins(self, database: Database) -> None:
        """Server processes are equal and may all see the same failure in the same instant."""
        await database.add_workspace(a_workspace())
        seen = await database.workspace("vox")
        answers = await asyncio.gather(
            *(
                database.promote(seen, primary_id=f"vox-{number}", epoch=1 + number % 3, ack_set=())
                for number in range(20)
            )
        )
        assert sorted(answers) == [False] * 19 + [True]
        row = await database.workspace("vox")
        winner = answers.index(True)
        assert (row.primary_id, row.epoch) == (f"vox-{winner}", 1 + winner % 3)

    async def test_of_promotion_and_change_of_the_ack_set_one_wins(self, database: Database) -> None:
        """A standby that is left out and promoted in the same instant would lose what was acknowledged between."""
        await database.add_workspace(a_workspace())
        await database.promote(a_workspace(), primary_id="vox-1", epoch=1, ack_set=("vox-2",))
        seen = await database.workspace("vox")
        promoted, shrunk = await asyncio.gather(
            database.promote(seen, primary_id="vox-2", epoch=2, ack_set=()), database.change_ack_set(seen, ())
        )
        assert promoted != shrunk

    async def test_ownership_of_one_workspace_is_nothing_to_another(self, database: Database) -> None:
        """A WHERE without the name would hand all workspaces to one machine."""
        await database.add_workspace(a_workspace("a"))
        await database.add_workspace(a_workspace("b"))
        assert await database.promote(a_workspace("a"), primary_id="a-1", epoch=1, ack_set=())
        await database.want("a", Wanted.DELETED)
        assert await database.workspace("b") == a_workspace("b")

    async def test_instances_are_listed_oldest_first_without_those_gone(self, database: Database) -> None:
        """The sweeper compares this list with the provider's (I4)."""
        late = an_instance("vox-a", created_at=AT + timedelta(seconds=1))
        gone = an_instance("vox-c", state=InstanceState.GONE, gone_at=AT)
        other = an_instance("pi-1", workspace="pi", created_at=AT - timedelta(hours=1))
        for instance in (late, an_instance("vox-b"), gone, other):
            await database.add_instance(instance)
        assert await database.instances("vox") == [an_instance("vox-b"), late]
        assert await database.instances("vox", gone=True) == [an_instance("vox-b"), gone, late]
        assert await database.instances() == [other, an_instance("vox-b"), late]
        assert await database.instance("vox-a") == late
        assert await database.instance("nobody") is None

    async def test_an_intent_is_written_down_once(self, database: Database) -> None:
        """Its id is the provider's idempotency label."""
        await database.add_instance(an_instance())
        with pytest.raises(NameTaken):
            await database.add_instance(an_instance(state=InstanceState.RENTED))
        assert await database.instance("vox-1") == an_instance()

    async def test_a_saved_instance_is_read_back_whole(self, database: Database) -> None:
        """What the provider told us of a machine is needed to end it."""
        await database.add_instance(an_instance())
        saved = an_instance(
            state=InstanceState.GONE, provider_ref="ref", lost=True, branch="vox-1-e3", gone_at=AT + timedelta(days=1)
        )
        await database.save_instance(saved)
        assert await database.instance("vox-1") == saved
        await database.save_instance(an_instance("vox-9"))
        assert await database.instance("vox-9") is None

    async def test_a_stale_save_turns_nothing_back(self, database: Database) -> None:
        """Hub, sweeper and control loop each save what they read a moment before: a released machine must not come
        back to life, nor a lost one be trusted again, nor a spent token admit a second machine (I7)."""
        await database.add_instance(an_instance())
        assert await database.spend_token("vox-1", "hash")
        await database.save_instance(
            an_instance(state=InstanceState.GONE, lost=True, branch="b", gone_at=AT, token_hash="")
        )
        await database.save_instance(an_instance(state=InstanceState.RENTED))
        row = await database.instance("vox-1")
        assert row == an_instance(state=InstanceState.GONE, lost=True, branch="b", gone_at=AT, token_hash="")
        await database.save_instance(an_instance(state=InstanceState.GONE, token_hash="fresh"))
        assert await database.spend_token("vox-1", "fresh")

    async def test_a_token_is_spent_once_and_only_if_right(self, database: Database) -> None:
        """A token read from a host's disk later must be worth nothing."""
        await database.add_instance(an_instance())
        assert not await database.spend_token("vox-1", "wrong")
        assert not await database.spend_token("nobody", "hash")
        answers = await asyncio.gather(*(database.spend_token("vox-1", "hash") for _ in range(5)))
        assert sorted(answers) == [False] * 4 + [True]
        assert not await database.spend_token("vox-1", "")

    async def test_the_newest_events_come_oldest_first(self, database: Database) -> None:
        """A timeline is read from top to bottom."""
        facts: dict[str, str | int | float | bool] = {"ms": 12, "share": 0.5, "ok": True, "why": "ã \udcff"}
        wrote = [Event(workspace="vox", at=AT, kind=f"kind-{number}", facts=facts) for number in range(5)]
        for event in wrote:
            await database.add_event(event)
        await database.add_event(Event(workspace="pi", at=AT, kind="other"))
        assert await database.events("vox") == wrote
        assert await database.events("vox", limit=2) == wrote[-2:]
        assert await database.events("nobody") == []

    async def test_events_of_one_kind_are_found_across_workspaces(self, database: Database) -> None:
        """Predictions are graded over all runs, those of deleted workspaces included."""
        names = ("vox", "pi", "vox", "tau")
        for at, name in enumerate(names):
            moment = AT + timedelta(seconds=at)
            await database.add_event(Event(workspace=name, at=moment, kind="advised", facts={"hours": at}))
            await database.add_event(Event(workspace=name, at=moment, kind="launched"))
        assert [event.facts["hours"] for event in await database.happened("advised")] == [0, 1, 2, 3]
        assert [event.workspace for event in await database.happened("advised", limit=2)] == ["vox", "tau"]
        assert await database.happened("never") == []

    async def test_a_branch_is_kept_once(self, database: Database) -> None:
        """An agent says again and again that it saved one; names may hold bytes that are no text."""
        branch = Branch(
            workspace="vox",
            name="vox-1-e3",
            commit=CommitId(3, 7),
            root="ab" * 32,
            created_at=AT,
            forked_from=CommitId(3, 5),
            paths=("a", b"\xff\x00".decode(errors="surrogateescape")),
        )
        later = replace(branch, name="vox-1-e1", created_at=AT + timedelta(seconds=1), forked_from=None)
        for kept in (later, branch, replace(branch, root="cd" * 32)):
            await database.add_branch(kept)
        assert await database.branches("vox") == [branch, later]
        assert await database.branches("nobody") == []

    async def test_an_instant_is_the_same_from_every_zone(self, database: Database) -> None:
        """Money is counted between instants (I8)."""
        zone = timezone(timedelta(hours=-3))
        await database.add_instance(an_instance(created_at=AT.astimezone(zone)))
        row = await database.instance("vox-1")
        assert row is not None
        assert row.created_at == AT


class SqlContract(DatabaseContract):
    """What the drivers on SQL promise beyond that. A subclass supplies `url`."""

    @pytest.fixture
    async def reopen(self, url: str) -> AsyncIterator[Reopen]:
        held: list[Database] = []

        async def reopen() -> Database:
            while held:
                await held.pop().close()
            held.append(await open_database(url))
            return held[0]

        yield reopen
        while held:
            await held.pop().close()

    async def test_after_a_restart_everything_is_there(self, reopen: Reopen) -> None:
        """The server is stateless; the database is all that it knows."""
        database = await reopen()
        await database.add_workspace(a_workspace())
        await database.promote(a_workspace(), primary_id="vox-1", epoch=1, ack_set=("vox-2",))
        await database.add_instance(an_instance())
        await database.add_event(Event(workspace="vox", at=AT, kind="rented"))
        await database.add_branch(Branch(workspace="vox", name="b", commit=CommitId(1, 1), root="", created_at=AT))
        before = await database.workspace("vox")
        database = await reopen()
        assert await database.workspace("vox") == before
        assert await database.instances() == [an_instance()]
        assert [event.kind for event in await database.events("vox")] == ["rented"]
        assert [branch.name for branch in await database.branches("vox")] == ["b"]

    async def test_of_twenty_processes_one_wins(self, url: str, reopen: Reopen) -> None:
        """Each process has connections of its own; the row's lock is the database's, not ours."""
        first = await reopen()
        await first.add_workspace(a_workspace())
        seen = await first.workspace("vox")
        others = await asyncio.gather(*(open_database(url) for _ in range(20)))
        answers = await asyncio.gather(
            *(
                other.promote(seen, primary_id=f"vox-{number}", epoch=number + 1, ack_set=())
                for number, other in enumerate(others)
            )
        )
        assert sum(answers) == 1
        assert (await first.workspace("vox")).primary_id == f"vox-{answers.index(True)}"
        await asyncio.gather(*(other.close() for other in others))

    async def test_two_processes_that_look_in_turn_believe_alike(self, url: str, reopen: Reopen) -> None:
        """Each counts what the other saw, and no moment twice: together they are as one that looks twice as often."""
        clock, other = HandClock(began=AT), HandClock(began=AT)
        second = await open_database(url)
        pair = [Learner(await reopen(), clock), Learner(second, clock)]
        for turn in range(12):
            await watch(pair[turn % 2], clock, 1, first=turn)
        now_h = clock.now().timestamp() / 3600
        await pair[0].look("shop", [spot_offer("a")], [NEED])
        await pair[1].look("shop", [spot_offer("a")], [NEED])  # at the same moment: it takes over what was counted
        alone = Learner(MemoryDatabase(), other)
        await watch(alone, other, 12)
        await alone.look("shop", [spot_offer("a")], [NEED])
        await second.close()
        assert numbers(pair[0].beliefs, now_h) == numbers(pair[1].beliefs, now_h) == numbers(alone.beliefs, now_h)

    async def test_the_migrations_end_where_the_code_is(self, url: str, reopen: Reopen) -> None:
        """Otherwise a fresh database lacks what the code asks for, or the other way round."""
        await reopen()
        async with _engine(url).connect() as connection:
            found = await connection.run_sync(_columns)
        assert found == {
            table.name: {(column.name, column.nullable) for column in table.columns} for table in metadata.sorted_tables
        }

    async def test_a_newer_database_is_refused_in_words(self, url: str, reopen: Reopen) -> None:
        """An old program that writes to newer tables would break what it does not know."""
        await reopen()
        async with _engine(url).begin() as connection:
            await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(NotPossibleHere, match="newer Dumont"):
            await open_database(url)


def _engine(url: str) -> AsyncEngine:
    drivers = (("sqlite:", "sqlite+aiosqlite:"), ("postgresql:", "postgresql+asyncpg:"))
    for plain, driver in drivers:
        url = url.replace(plain, driver)
    return create_async_engine(url, poolclass=sa.pool.NullPool)


def _columns(connection: sa.Connection) -> dict[str, set[tuple[str, bool]]]:
    inspector = sa.inspect(connection)
    return {
        table: {(column["name"], column["nullable"]) for column in inspector.get_columns(table)}
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


class TestMemory(DatabaseContract):
    """The driver of the simulator."""

    @pytest.fixture
    def reopen(self) -> Reopen:
        database = MemoryDatabase()

        async def reopen() -> Database:
            return database

        return reopen


class TestSqlite(SqlContract):
    """The embedded default."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'has space and %.db'}"

    async def test_a_commit_survives_a_power_cut(self, tmp_path: Path) -> None:
        """synchronous=NORMAL in WAL mode may lose the last transactions: an epoch could come twice."""
        database = await open_database(str(tmp_path / "plain.db"))
        async with database._engine.connect() as connection:
            settings = [
                (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "synchronous", "busy_timeout")
            ]
        await database.close()
        assert settings == ["wal", 2, 15_000]

    async def test_a_database_that_cannot_be_opened_is_an_error_in_words(self, tmp_path: Path) -> None:
        """Without the database nobody is promoted, and the server has to say so."""
        with pytest.raises(NotPossibleHere, match="can't be opened"):
            await open_database(str(tmp_path / "no such directory" / "plain.db"))

    async def test_another_kind_of_database_is_refused_in_words(self) -> None:
        """A driver's stack trace helps nobody."""
        with pytest.raises(NotPossibleHere, match="SQLite or PostgreSQL"):
            await open_database("mysql://localhost/dumont")


class TestPostgres(SqlContract):
    """For several server processes."""

    @pytest.fixture
    async def url(self, cluster: str) -> str:
        admin = create_async_engine(
            cluster.replace("postgresql:", "postgresql+asyncpg:") + "/postgres", isolation_level="AUTOCOMMIT"
        )
        async with admin.connect() as connection:
            await connection.execute(sa.text("DROP DATABASE IF EXISTS dumont WITH (FORCE)"))
            await connection.execute(sa.text("CREATE DATABASE dumont"))
        await admin.dispose()
        return f"{cluster}/dumont"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A throwaway PostgreSQL on a free loopback port, run by a user that is not root."""
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    pytest.importorskip("asyncpg", reason="asyncpg is missing: pip install 'dumont[postgres]'")
    drop = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    directory = Path(tempfile.mkdtemp(prefix="dumont-pg-"))
    if drop:
        shutil.chown(directory, "nobody", "nogroup")
    data = directory / "data"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    initdb = [*drop, str(binaries / "initdb"), "-D", str(data), "-U", "dumont", "--auth=trust", "--no-sync"]
    pg_ctl = [*drop, str(binaries / "pg_ctl"), "-D", str(data), "-w", "-t", "60"]
    settings = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={directory} -c fsync=off"
    quiet = {"cwd": directory, "check": True, "stdout": subprocess.DEVNULL}
    try:
        subprocess.run(initdb, **quiet)  # type: ignore[call-overload]
        subprocess.run([*pg_ctl, "-l", str(directory / "log"), "-o", settings, "start"], **quiet)  # type: ignore[call-overload]
        yield f"postgresql://dumont@127.0.0.1:{port}"
    finally:
        subprocess.run([*pg_ctl, "-m", "immediate", "stop"], cwd=directory, check=False, capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)


def _postgres_binaries() -> Path | None:
    """Where `initdb` and `pg_ctl` are: beside the `postgres` on the path, or where Debian puts them."""
    found = shutil.which("postgres")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)
