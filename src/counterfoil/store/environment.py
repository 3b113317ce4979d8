"""What is pinned and remembered about this database's one environment: a small table of keys."""

from collections.abc import Mapping

from sqlalchemy import Connection, text

from counterfoil.store.driver import rows_of

_ALL = text("SELECT key, value FROM environment")
_PUT = text(
    "INSERT INTO environment (key, value) VALUES (:key, :value)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_LOCK = text("LOCK TABLE environment IN SHARE ROW EXCLUSIVE MODE")
_DELETE = text("DELETE FROM environment WHERE key = :key")


def lock(connection: Connection) -> None:
    """Nobody else writes here until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK)


def load(connection: Connection) -> dict[str, str]:
    """Everything that is remembered."""
    return {row[0]: row[1] for row in rows_of(connection, _ALL, {})}


def put(connection: Connection, values: Mapping[str, str | None]) -> None:
    """Remember ``values``; ``None`` forgets a key."""
    for key, value in sorted(values.items()):  # in one order, so that two nodes cannot wait for each other
        if value is None:
            connection.execute(_DELETE, {"key": key})
        else:
            connection.execute(_PUT, {"key": key, "value": value})
