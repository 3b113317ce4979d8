"""Links, sightings, the journal and the pinned environment."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_LINK_TIMES = (
    "deleted_at",
    "doubted_at",
    "absent_at",
    "intent_at",
    "look_after",
    "abandoned_at",
    "due_at",
    "dirty_at",
)
_LINK_TEXTS = (
    "fields",
    "link_back",
    "private_name",
    "applied",
    "written_back",
    "intent_key",
    "intent_params",
    "refused_email",
    "parked",
    "last_error",
)
_LINK_FLAGS = ("wanted", "sighted", "deletion", "must_confirm", "lane")
_LINK_COUNTS = ("generation", "looks", "attempts", "held")


def upgrade() -> None:
    """Make the first schema."""
    op.create_table(
        "links",
        sa.Column("subject_id", sa.Text, primary_key=True),
        sa.Column("source_version", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("customer_id", sa.Text, unique=True),
        sa.Column("lease", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("walked", sa.BigInteger, nullable=False, server_default="0"),
        *[sa.Column(name, sa.BigInteger) for name in _LINK_TIMES],
        *[sa.Column(name, sa.Text) for name in _LINK_TEXTS],
        *[sa.Column(name, sa.SmallInteger, nullable=False, server_default="0") for name in _LINK_FLAGS],
        *[sa.Column(name, sa.Integer, nullable=False, server_default="0") for name in _LINK_COUNTS],
    )
    for name, columns, where in (
        ("ix_links_due", ["lane", "due_at"], "due_at IS NOT NULL"),
        ("ix_links_dirty", ["dirty_at"], "dirty_at IS NOT NULL"),
        ("ix_links_parked", ["parked"], "parked IS NOT NULL"),
    ):
        op.create_index(name, "links", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    op.create_table(
        "sightings",
        sa.Column("customer_id", sa.Text, primary_key=True),
        sa.Column("subject_id", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.Text),
    )
    op.create_index("ix_sightings_subject", "sightings", ["subject_id"])
    op.create_table(
        "journal",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("subject_id", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("ms", sa.Integer),
        sa.Column("body", sa.LargeBinary),
    )
    op.create_index("ix_journal_subject", "journal", ["subject_id", "id"])
    op.create_index("ix_journal_at", "journal", ["at"])
    op.create_table(
        "environment",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
