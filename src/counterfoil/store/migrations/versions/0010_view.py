"""The table of links is called ``link_rows``, and ``links`` is a view that others may read."""

from alembic import op

revision = "0010"
down_revision = "0006"

# Documented in docs/reference/view.md: a column may be added, none is ever renamed, retyped or dropped.
_VIEW = """
    CREATE VIEW links AS
    SELECT subject_id, customer_id, dirty_at IS NULL AS settled, parked, deleted_at IS NOT NULL AS deleted,
           NULLIF(source_version, 0) AS user_updated_at
      FROM link_rows
"""


def upgrade() -> None:
    """Rename the table and make the view."""
    op.rename_table("links", "link_rows")
    if op.get_bind().dialect.name == "postgresql":
        for suffix in ("pkey", "customer_id_key"):
            op.execute(f"ALTER INDEX links_{suffix} RENAME TO link_rows_{suffix}")
    op.execute(_VIEW)
