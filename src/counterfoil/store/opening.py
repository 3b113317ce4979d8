"""The database that serve runs on, by its URL."""

from counterfoil.store.database import Database, PostgresqlDatabase
from counterfoil.store.engine import SCHEMA, parse
from counterfoil.store.sqlite_database import SqliteDatabase


def open_database(url: str, schema: str = SCHEMA) -> Database:
    """Nothing is connected yet.

    Raises:
        ConfigurationError: the URL or the schema's name is none, or the driver is not installed.
    """
    if parse(url).get_backend_name() == "sqlite":
        return SqliteDatabase(url)
    return PostgresqlDatabase(url, schema)
