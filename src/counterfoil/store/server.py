"""What is to be known of a PostgreSQL server before it is trusted."""

import msgspec
from sqlalchemy import Connection, text

_LOOK = text(
    "SELECT current_setting('server_version') AS version, current_setting('synchronous_commit') AS commits,"
    " current_setting('fsync') AS syncs"
)


class Server(msgspec.Struct, frozen=True):
    """A server: its version, when it calls a commit done by default, and whether it syncs its disk at all."""

    version: str
    synchronous_commit: str
    fsync: bool


def look(connection: Connection) -> Server | None:
    """The server, from a connection that reads; ``None``: it is SQLite."""
    if connection.dialect.name == "sqlite":
        return None
    row = connection.execute(_LOOK).one()
    return Server(row.version.partition(" ")[0], row.commits, row.syncs == "on")
