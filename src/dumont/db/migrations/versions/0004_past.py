"""The histories that removed workspaces left in the store, and which workspace of its name each one is."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("workspace", sa.Column("generation", sa.Integer, nullable=False, server_default="1"))
    op.create_table(
        "past",
        sa.Column("workspace", sa.Text, primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True),
        sa.Column("removed_at", INSTANT, nullable=False),
        sa.Column("keep_until", INSTANT),
        sa.Column("ending", sa.Boolean, nullable=False),
    )
    # What was removed before was said to stay: it stays until somebody says otherwise.
    op.execute(
        """
        INSERT INTO past (workspace, generation, removed_at, keep_until, ending)
        SELECT name, 1, COALESCE(
            (SELECT MAX(event.at) FROM event WHERE event.workspace = workspace.name AND event.kind = 'removing'),
            created_at
        ), NULL, FALSE
        FROM workspace WHERE state = 'deleted'
        """
    )
