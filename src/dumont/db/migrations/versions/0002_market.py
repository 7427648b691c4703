"""What a market needs: what was rented where and why it ended, and what was asked for it when."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    for name in ("product", "region", "host", "domain", "ended"):
        op.add_column("instance", sa.Column(name, sa.Text, nullable=False, server_default=""))
    op.add_column("instance", sa.Column("spot", sa.Boolean, nullable=False, server_default=sa.true()))
    op.add_column("instance", sa.Column("boot_s_max", sa.Float, nullable=False, server_default="0"))
    op.add_column("instance", sa.Column("ended_at", INSTANT))
    op.create_table(
        "price",
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("product", sa.Text, primary_key=True),
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("spot", sa.Boolean, primary_key=True),
        sa.Column("at", INSTANT, primary_key=True),
        sa.Column("lowest_micros_per_hour", sa.BigInteger, nullable=False),
        sa.Column("median_micros_per_hour", sa.BigInteger, nullable=False),
        sa.Column("offers", sa.Integer, nullable=False),
    )
    op.create_index("price_by_time", "price", ["at"])
