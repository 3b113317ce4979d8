"""Statements handed to the driver itself: those of every delivery and of every turn.

SQLAlchemy's layers around a statement (parameters, result columns, cursor objects) cost several times what the
databases' clients do in it.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import Connection, TextClause, TextualSelect
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]


def is_here(connection: Connection) -> bool:
    """SQLite: one writer at a time. Otherwise the database is shared with other nodes."""
    return connection.dialect.name == "sqlite"


def driver(connection: Connection) -> Any:
    """The driver's own connection. Its errors are the driver's; who runs jobs knows `sqlite3.Error` too."""
    return connection.connection.dbapi_connection


def rows_of(
    connection: Connection, statement: TextClause | TextualSelect, values: Mapping[str, Any]
) -> Sequence[Sequence[Any]]:
    """All rows that ``statement`` finds or returns; it must be one that returns rows.

    Raises:
        DBAPIError: PostgreSQL; as SQLAlchemy would.
        sqlite3.Error: SQLite.
    """
    cursor: Any
    if is_here(connection):
        cursor = driver(connection).execute(_written(statement), values)
    else:
        cursor = ask_postgresql(connection, _compiled(statement), values)
    found: Sequence[Sequence[Any]] = cursor.fetchall()
    return found


def change_postgresql(connection: Connection, statement: TextClause, values: Mapping[str, Any]) -> None:
    """Carry out a statement that returns nothing."""
    ask_postgresql(connection, _compiled(statement), values)


def ask_postgresql(connection: Connection, statement: str, values: Mapping[str, Any] | None = None) -> Any:
    """The driver's cursor, after ``statement``.

    Raises:
        DBAPIError: with the driver's error as ``orig``; a connection that is lost is known to be so.
    """
    of_driver = driver(connection)
    try:
        return of_driver.execute(statement, values)
    except connection.dialect.loaded_dbapi.Error as error:
        lost = connection.dialect.is_disconnect(error, of_driver, None)
        if lost:
            connection.invalidate(error)
        raise DBAPIError(None, None, error, hide_parameters=True, connection_invalidated=lost) from error


def _written(statement: TextClause | TextualSelect) -> str:
    """SQLite's driver names parameters as we do."""
    return (cast("TextClause", statement.element) if isinstance(statement, TextualSelect) else statement).text


@cache
def _compiled(statement: TextClause | TextualSelect) -> str:
    """As PostgreSQL's driver names parameters."""
    return str(statement.compile(dialect=POSTGRESQL))
