"""Bring a database's schema to this release, and say whether it is there."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

_LOCK = 0x63663031  # "cf01": nodes that start together migrate one after the other


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the caller's transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    command.upgrade(_config(connection), "head")


def versions(connection: Connection) -> tuple[str | None, str | None]:
    """The schema's version, and the one that this release needs."""
    script = ScriptDirectory.from_config(_config(connection))
    return MigrationContext.configure(connection).get_current_revision(), script.get_current_head()
