"""Through PgBouncer in transaction mode: migrations, locks, calls to the others, and TLS where it is asked for."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from counterfoil.core.link import Lane
from counterfoil.errors import DatabaseUnavailable
from counterfoil.store import links
from counterfoil.store.database import PostgresqlDatabase
from counterfoil.store.peers import PostgresqlPeers
from counterfoil.store.upgrade import needed, upgrade, versions
from tests import pgbouncer
from tests.store.support import due, put
from tests.store.test_peers import Job, nothing, stop, until

ONLY_POSTGRESQL = True


@pytest.fixture
def through(url: str) -> Iterator[str]:
    """A database without anything, seen through PgBouncer."""
    with pgbouncer.before(url) as made:
        yield made


@pytest.fixture
async def database(through: str) -> AsyncIterator[PostgresqlDatabase]:
    """What serves, through PgBouncer, with our schema."""
    made = PostgresqlDatabase(through)
    await made.write(upgrade)
    yield made
    await made.close()


async def test_migrations_and_work_go_through_it(database: PostgresqlDatabase) -> None:
    assert await database.read(versions) == (needed(), needed())
    await database.write(lambda connection: put(connection, *[due(f"user_{number}") for number in range(8)]))
    claims = [database.write(lambda c: links.claim(c, 1, 120_001, 2, by_database=True)) for _ in range(4)]
    claimed = [link.subject_id for found in await asyncio.gather(*claims) for link in found]
    assert sorted(claimed) == [f"user_{number}" for number in range(8)]


async def test_locks_quota_and_calls_go_through_it(url: str, through: str, database: PostgresqlDatabase) -> None:
    one, other = PostgresqlPeers(through, listen_url=url), PostgresqlPeers(through, listen_url=url)
    job, woken = Job(), list[int]()
    holds = asyncio.create_task(one.only("chores", job))
    await job.begun.wait()
    # Many transactions of others come and go on the server's connections meanwhile.
    for number in range(30):
        await database.write(lambda connection, name=f"user_{number}": put(connection, due(name)))  # type: ignore[misc]
        assert await other.only("chores", nothing) is False
    listens = asyncio.create_task(other.listen(lambda: woken.append(1)))
    await until(lambda: len(woken) == 1)
    one.tell()
    await until(lambda: len(woken) == 2)
    await asyncio.gather(one.slots("stripe", 80.0).take(Lane.LIVE), other.slots("stripe", 80.0).take(Lane.LIVE))
    job.end.set()
    assert await holds is True
    assert await other.only("chores", nothing) is True
    await stop([listens])
    await one.close()
    await other.close()


async def test_whoever_asks_for_tls_gets_no_connection_without(through: str) -> None:
    database = PostgresqlDatabase(f"{through}?sslmode=require")
    with pytest.raises(DatabaseUnavailable, match="SSL"):
        await database.read(versions)
    await database.close()
