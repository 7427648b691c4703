"""What estimates of the market start from: bids, capacity histories, looks at offers, and the bid of a machine."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("instance", sa.Column("bid_micros_per_hour", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "bid",
        sa.Column("slice", sa.Text, primary_key=True),
        sa.Column("at", INSTANT, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("lowest_micros_per_hour", sa.BigInteger, nullable=False),
    )
    op.create_index("bid_by_time", "bid", ["provider", "at"])
    op.create_table(
        "capacity",
        sa.Column("domain", sa.Text, primary_key=True),
        sa.Column("at", INSTANT, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("rates", sa.Text, nullable=False),
    )
    op.create_table(
        "look",
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("seen", sa.Text, nullable=False),
    )
