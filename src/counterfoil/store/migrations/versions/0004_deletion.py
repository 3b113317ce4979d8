"""What a person ruled about a removal, what was done with the customer, and when users were deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns that the policies about deletion need."""
    op.add_column("link_rows", sa.Column("ruling", sa.SmallInteger, nullable=False, server_default="0"))
    op.add_column("link_rows", sa.Column("ended", sa.Text))
    op.add_column("sightings", sa.Column("archived", sa.SmallInteger, nullable=False, server_default="0"))
    where = sa.text("deleted_at IS NOT NULL")
    op.create_index("ix_links_deleted", "link_rows", ["deleted_at"], sqlite_where=where, postgresql_where=where)
