"""The tables, the same on SQLite and PostgreSQL. Times are milliseconds since the epoch."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

metadata = MetaData()

_DUE = text("due_at IS NOT NULL")

link_rows = Table(
    "link_rows",
    metadata,
    # intake
    Column("subject_id", Text, primary_key=True),
    Column("source_version", BigInteger, nullable=False, server_default="0"),
    Column("fields", Text),
    Column("link_back", Text),
    Column("private_name", Text),
    Column("address", SmallInteger, nullable=False, server_default="0"),
    Column("eligible", SmallInteger, nullable=False, server_default="1"),
    Column("mapping_error", Text),
    Column("wanted", SmallInteger, nullable=False, server_default="0"),
    Column("asked", SmallInteger, nullable=False, server_default="0"),
    Column("sighted", SmallInteger, nullable=False, server_default="0"),
    Column("deleted_at", BigInteger),
    Column("deletion", SmallInteger, nullable=False, server_default="0"),
    Column("must_confirm", SmallInteger, nullable=False, server_default="0"),
    Column("doubted_at", BigInteger),
    Column("absent_at", BigInteger),
    Column("ruling", SmallInteger, nullable=False, server_default="0"),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    # worker
    Column("customer_id", Text, unique=True),
    Column("claiming", SmallInteger, nullable=False, server_default="0"),
    Column("applied", Text),
    Column("written_back", Text),
    Column("ended", Text),
    Column("intent_key", Text),
    Column("intent_params", Text),
    Column("intent_at", BigInteger),
    Column("look_after", BigInteger),
    Column("generation", Integer, nullable=False, server_default="0"),
    Column("abandoned_at", BigInteger),
    Column("looks", Integer, nullable=False, server_default="0"),
    Column("refused_email", Text),
    Column("parked", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    # schedule
    Column("due_at", BigInteger),
    Column("dirty_at", BigInteger),
    Column("lane", SmallInteger, nullable=False, server_default="0"),
    Column("lease", BigInteger, nullable=False, server_default="0"),
    Column("held", Integer, nullable=False, server_default="0"),
    # the walk's own: the number of the last walk that met this user
    Column("walked", BigInteger, nullable=False, server_default="0"),
    Index("ix_links_due", "lane", "due_at", sqlite_where=_DUE, postgresql_where=_DUE),
    Index(
        "ix_links_dirty",
        "dirty_at",
        sqlite_where=text("dirty_at IS NOT NULL"),
        postgresql_where=text("dirty_at IS NOT NULL"),
    ),
    Index(
        "ix_links_parked",
        "parked",
        sqlite_where=text("parked IS NOT NULL"),
        postgresql_where=text("parked IS NOT NULL"),
    ),
    Index(
        "ix_links_deleted",
        "deleted_at",
        sqlite_where=text("deleted_at IS NOT NULL"),
        postgresql_where=text("deleted_at IS NOT NULL"),
    ),
)

sightings = Table(
    "sightings",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("subject_id", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("mark", Text),
    Column("archived", SmallInteger, nullable=False, server_default="0"),
    Column("ordered", SmallInteger, nullable=False, server_default="0"),
    Index("ix_sightings_subject", "subject_id"),
)

journal = Table(
    "journal",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("subject_id", Text),
    Column("kind", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("request_id", Text),
    Column("ms", Integer),
    Column("body", LargeBinary),
    Index("ix_journal_subject", "subject_id", "id"),
    Index("ix_journal_at", "at"),
)

environment = Table(
    "environment",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

quotas = Table(
    "quotas",
    metadata,
    # Microseconds of the database's clock; what is granted last is kept only to be returned.
    Column("bucket", Text, primary_key=True),
    Column("next_at", BigInteger, nullable=False, server_default="0"),
    Column("first", BigInteger, nullable=False, server_default="0"),
    Column("granted", Integer, nullable=False, server_default="0"),
    Column("live_until", BigInteger, nullable=False, server_default="0"),
)
