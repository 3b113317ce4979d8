"""One quota for all nodes: where each bucket's next slot is."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "quotas",
        sa.Column("bucket", sa.Text, primary_key=True),
        sa.Column("next_at", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("first", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("granted", sa.Integer, nullable=False, server_default="0"),
        sa.Column("live_until", sa.BigInteger, nullable=False, server_default="0"),
    )
