"""The first tables: workspaces, instances, events and branches."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Migrations repeat what the tables were then; they never import `tables`, which is what they are now.
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "workspace",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("wanted", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("primary_id", sa.Text, nullable=False),
        sa.Column("ack_set", sa.Text, nullable=False),
        sa.Column("ack_version", sa.BigInteger, nullable=False),
        sa.Column("switching_to", sa.Text, nullable=False),
        sa.Column("promoted_at", INSTANT),
        sa.Column("single_copy_since", INSTANT),
        sa.Column("stored", sa.Text),
        sa.Column("ssh_port", sa.Integer, nullable=False),
        sa.Column("http_port", sa.Integer, nullable=False),
        sa.Column("host_key", sa.Text, nullable=False),
        sa.Column("owner_keys", sa.Text, nullable=False),
    )
    _instances()
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Index("event_by_workspace", "workspace", "id"),
    )
    op.create_table(
        "branch",
        sa.Column("workspace", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("commit", sa.Text, nullable=False),
        sa.Column("root", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("forked_from", sa.Text),
        sa.Column("paths", sa.Text, nullable=False),
    )


def _instances() -> None:
    op.create_table(
        "instance",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("workspace", sa.Text, nullable=False, index=True),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("price_micros_per_hour", sa.BigInteger, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("provider_ref", sa.Text, nullable=False),
        sa.Column("token_hash", sa.Text, nullable=False),
        sa.Column("token_spent", sa.Text, nullable=False, server_default=""),
        sa.Column("lost", sa.Boolean, nullable=False),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("gone_at", INSTANT),
    )


def downgrade() -> None:
    for table in ("branch", "event", "instance", "workspace"):
        op.drop_table(table)
