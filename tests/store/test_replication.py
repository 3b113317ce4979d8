"""A server that waits for a standby before it calls a commit done."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from counterfoil.errors import DatabaseUnavailable
from counterfoil.store import links
from counterfoil.store.database import PostgresqlDatabase
from tests.postgresql import Server, own
from tests.store.test_database import add, make_table, numbers
from tests.store.test_pipeline import signed_up

CANCEL = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def server() -> Iterator[Server]:
    """One of our own: which standbys there must be is said for a whole server."""
    with own() as ours:
        made = Server(ours.admin)
        yield made
        made.close()


async def write_number(database: PostgresqlDatabase, number: int) -> None:
    await database.write(add(number))


async def take_newcomer(database: PostgresqlDatabase, number: int) -> None:
    await database.take(signed_up(f"{number:03}"))


async def all_of(database: PostgresqlDatabase) -> list[int]:
    """The numbers that were written, and those of the users who were taken."""
    taken = await database.read(lambda connection: links.after(connection, "", 1_000))
    return [*await database.read(numbers), *(int(link.subject_id.removeprefix("user_")) for link in taken)]


@pytest.mark.parametrize("put", [write_number, take_newcomer])
async def test_a_commit_whose_wait_for_a_standby_was_cancelled_is_not_taken_for_done(
    server: Server, put: Callable[[PostgresqlDatabase, int], Coroutine[Any, Any, None]]
) -> None:
    database = PostgresqlDatabase(server.migrated())
    await database.write(make_table)
    server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")  # there is none
    server.execute("SELECT pg_reload_conf()")
    number = itertools.count(1)
    writing = asyncio.create_task(put(database, next(number)))
    while not server.execute(CANCEL):
        if writing.done():  # the server had not yet taken the change
            await writing
            writing = asyncio.create_task(put(database, next(number)))
        await asyncio.sleep(0.01)
    with pytest.raises(DatabaseUnavailable, match="standby"):
        await writing
    server.execute("ALTER SYSTEM RESET synchronous_standby_names")
    server.execute("SELECT pg_reload_conf()")
    last = next(number)
    await put(database, last)
    assert await all_of(database) == list(range(1, last + 1)), "here it is: nobody knows what a failover keeps"
    await database.close()
