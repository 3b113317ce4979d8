"""What the policies on creating and adopting rest on."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the facts of a user's body, who asked, and the claim under way."""
    for name, default in (("address", "0"), ("eligible", "1"), ("asked", "0"), ("claiming", "0")):
        op.add_column("links", sa.Column(name, sa.SmallInteger, nullable=False, server_default=default))
    op.add_column("links", sa.Column("mapping_error", sa.Text))
