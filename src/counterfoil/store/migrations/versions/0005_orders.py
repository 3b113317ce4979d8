"""What a person has approved for a sighted customer, by applying a plan."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column."""
    op.add_column("sightings", sa.Column("ordered", sa.SmallInteger, nullable=False, server_default="0"))
