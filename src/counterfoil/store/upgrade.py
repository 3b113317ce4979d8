"""Bring a database's schema to this release, and say whether it is there."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

_LOCK = 0x63663031  # "cf01": nodes that start together migrate one after the other


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the caller's transaction."""
    if connection.dialect.name == "postgresql":
        _prepare_postgresql(connection, str(connection.get_execution_options()["schema"]))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _prepare_postgresql(connection: Connection, schema: str) -> None:
    # An index of a large table takes its time, and so does another node that migrates already.
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    # IF NOT EXISTS asks for the permission to make a schema even where there is nothing to make.
    if connection.execute(text("SELECT to_regnamespace(:schema)"), {"schema": schema}).scalar() is None:
        connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')


def remove(connection: Connection) -> None:
    """PostgreSQL: drop the schema with all that is in it, for the demo, which makes one of its own."""
    connection.exec_driver_sql(f'DROP SCHEMA IF EXISTS "{connection.get_execution_options()["schema"]}" CASCADE')


def needed() -> str:
    """The version of the schema that this release needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "there is always a migration"
    return head


def versions(connection: Connection) -> tuple[str | None, str]:
    """The schema's version, and the one that this release needs."""
    return MigrationContext.configure(connection).get_current_revision(), needed()
