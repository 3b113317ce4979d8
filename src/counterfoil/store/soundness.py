"""Whether a database's file is whole. Only SQLite's is ours to check."""

from pathlib import Path

from sqlalchemy import Connection, text

from counterfoil.errors import DatabaseDamaged

AT_START = 1024**3
"""Bytes: up to this size a file is checked at each start; a larger one by `counterfoil db check` alone."""
SOUND = "ok"


def soundness(connection: Connection) -> str:
    """`SOUND`, or what is wrong first: every page and every row is read, but no index compared."""
    if connection.dialect.name != "sqlite":
        return SOUND
    return str(connection.execute(text("PRAGMA quick_check(1)")).scalar())


def refuse_damaged(connection: Connection) -> None:
    """At a start: a damaged file is not worked on.

    Raises:
        DatabaseDamaged: it says what to do.
    """
    if connection.dialect.name != "sqlite":
        return
    path = Path(
        str(connection.execute(text("SELECT file FROM pragma_database_list WHERE name = 'main'")).scalar())
    )
    if path.is_file() and path.stat().st_size <= AT_START and soundness(connection) != SOUND:
        raise damaged()


def damaged() -> DatabaseDamaged:
    """The error, and what to do."""
    return DatabaseDamaged("the file is damaged: restore a backup; a restored database catches up by itself")
