"""A server that waits for a standby before it calls a commit done."""

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from counterfoil.errors import DatabaseUnavailable
from counterfoil.store.database import PostgresqlDatabase
from tests.postgresql import Server, own
from tests.store.test_database import add, make_table, numbers

CANCEL = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def server() -> Iterator[Server]:
    """One of our own: which standbys there must be is said for a whole server."""
    with own() as ours:
        made = Server(ours.admin)
        yield made
        made.close()


async def test_a_commit_whose_wait_for_a_standby_was_cancelled_is_not_taken_for_done(server: Server) -> None:
    database = PostgresqlDatabase(server.migrated())
    await database.write(make_table)
    server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")  # there is none
    server.execute("SELECT pg_reload_conf()")
    number = itertools.count(1)
    writing = asyncio.create_task(database.write(add(next(number))))
    while not server.execute(CANCEL):
        if writing.done():  # the server had not yet taken the change
            await writing
            writing = asyncio.create_task(database.write(add(next(number))))
        await asyncio.sleep(0.01)
    with pytest.raises(DatabaseUnavailable, match="standby"):
        await writing
    server.execute("ALTER SYSTEM RESET synchronous_standby_names")
    server.execute("SELECT pg_reload_conf()")
    last = next(number)
    await database.write(add(last))
    assert await database.read(numbers) == list(range(1, last + 1)), (
        "here it is: nobody knows what a failover keeps"
    )
    await database.close()
