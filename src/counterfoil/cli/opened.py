"""A database that a command reads: what is there, never a new empty one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from counterfoil.errors import DatabaseOutdated
from counterfoil.settings import database_schema
from counterfoil.store import environment
from counterfoil.store.database import InlineDatabase
from counterfoil.store.move import refuse_moved
from counterfoil.store.ownership import sqlite_path
from counterfoil.store.upgrade import versions


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[InlineDatabase]:
    """The database, checked to be of this release.

    Raises:
        DatabaseOutdated: there is none, or its schema is another release's.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise DatabaseOutdated(f"{path} does not exist yet: start `counterfoil serve` first, or set DATABASE_URL")
    database = InlineDatabase(url, database_schema())
    try:
        now, needed = await database.read(versions)
        if now != needed:
            raise DatabaseOutdated(
                f"the database's schema is {now or 'missing'}, this release needs {needed}: "
                "run `counterfoil db upgrade`"
            )
        refuse_moved(await database.read(environment.load))
        yield database
    finally:
        await database.close()
