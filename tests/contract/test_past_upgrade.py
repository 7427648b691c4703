"""A database of a version that deleted no history, brought up to date."""

from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import dumont.db
from dumont.db.sql import open_database
from dumont.model.past import Past
from dumont.model.workspace import State
from tests.records import a_workspace

MIGRATIONS = Path(dumont.db.__file__).parent / "migrations"
CREATED, REMOVED = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC)


def old_database(path: Path, states: dict[str, State]) -> None:
    """Tables as they were, with a workspace in each of those states; the first was removed by a person."""
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        command.upgrade(config, "0003")
        for name, state in states.items():
            row = (
                f"'{name}', '2026-01-02 00:00:00.000000', '{{}}', 'running', '{state.value}', 3, '', '[]', 0, '', 1, 2,"
            )
            columns = "name, created_at, policy, wanted, state, epoch, primary_id, ack_set, ack_version, switching_to,"
            columns += " ssh_port, http_port, host_key, owner_keys"
            connection.exec_driver_sql(f"INSERT INTO workspace ({columns}) VALUES ({row} '', '[]')")
        columns = "workspace, at, kind, facts"
        row = f"'{next(iter(states))}', '2026-02-03 04:05:06.000007', 'removing', '{{}}'"
        connection.exec_driver_sql(f"INSERT INTO event ({columns}) VALUES ({row})")
    engine.dispose()


async def test_what_was_removed_before_is_kept_for_ever_and_keeps_its_place(tmp_path: Path) -> None:
    """People were told that it stays. Nothing goes because a newer version was installed."""
    path = tmp_path / "old.db"
    old_database(path, {"asked": State.DELETED, "gone": State.DELETED, "lives": State.RUNNING})
    database = await open_database(str(path))
    removed = {"asked": REMOVED, "gone": CREATED}
    assert await database.pasts() == [
        Past(workspace=name, generation=1, removed_at=removed[name], keep_until=None) for name in ("gone", "asked")
    ]
    assert (await database.workspace("lives")).folder == "lives", "where its history lies"
    await database.add_workspace(a_workspace(name="gone"))
    assert (await database.workspace("gone")).folder == "gone.2"
    await database.close()
