"""What nodes on one database have in common: locks, a call to the others, the time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy.engine import make_url

from counterfoil.core.link import Lane
from counterfoil.errors import DatabaseUnavailable
from counterfoil.store import links, locks
from counterfoil.store.engine import connect, transact
from counterfoil.store.peers import PostgresqlPeers
from tests.postgresql import Server
from tests.store.support import LEASE_END, NOW, due, put

ONLY_POSTGRESQL = True

Peers = Callable[..., PostgresqlPeers]


@pytest.fixture
async def peers(migrated_url: str) -> AsyncIterator[Peers]:
    """Makes nodes on one database."""
    made: list[PostgresqlPeers] = []

    def make(schema: str = "counterfoil") -> PostgresqlPeers:
        made.append(PostgresqlPeers(migrated_url, schema))
        return made[-1]

    yield make
    for each in made:
        await each.close()


class Job:
    """Work that begins, and ends when it is let."""

    def __init__(self) -> None:
        self.begun, self.end = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def nothing() -> None:
    """Done at once."""


async def test_one_node_at_a_time_does_what_only_one_may(peers: Peers) -> None:
    one, other, job = peers(), peers(), Job()
    task = asyncio.create_task(one.only("chores", job))
    await job.begun.wait()
    assert await other.only("chores", nothing) is False
    assert await other.only("catch-up", nothing) is True, "another work has a lock of its own"
    job.end.set()
    assert await task is True
    assert await other.only("chores", nothing) is True


async def test_nodes_of_another_schema_are_strangers(peers: Peers) -> None:
    job = Job()
    task = asyncio.create_task(peers().only("chores", job))
    await job.begun.wait()
    assert await peers("other").only("chores", nothing) is True
    job.end.set()
    await task


async def test_work_that_is_given_up_or_fails_lets_the_next_node_begin(peers: Peers) -> None:
    one, other, job = peers(), peers(), Job()
    task = asyncio.create_task(one.only("chores", job))
    await job.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert job.cancelled

    async def fails() -> None:
        raise ValueError("it failed")

    with pytest.raises(ValueError, match="it failed"):
        await other.only("chores", fails)
    assert await one.only("chores", nothing) is True


async def test_whose_lock_is_lost_stops_and_says_so(
    peers: Peers, postgresql: Server, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_BEAT", 0.05)
    one, other, job = peers(), peers(), Job()
    task = asyncio.create_task(one.only("chores", job))
    await job.begun.wait()
    name = make_url(migrated_url).database
    postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    with pytest.raises(DatabaseUnavailable, match="lost"):
        await task
    assert job.cancelled
    assert await other.only("chores", nothing) is True


async def test_a_lock_that_is_held_hinders_no_vacuum_and_is_ended_by_the_server_in_silence(
    peers: Peers, postgresql: Server, migrated_url: str
) -> None:
    job = Job()
    task = asyncio.create_task(peers().only("chores", job))
    await job.begun.wait()
    name = make_url(migrated_url).database
    rows = postgresql.execute(
        "SELECT state, backend_xmin, backend_xid FROM pg_stat_activity"
        f" WHERE datname = '{name}' AND state = 'idle in transaction'"
    )
    assert rows == [("idle in transaction", None, None)]
    job.end.set()
    await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_one_node_tells_wakes_the_others_and_not_itself(peers: Peers) -> None:
    woken = {"one": 0, "two": 0, "three": 0}
    nodes = {name: peers() for name in woken}

    def wake(name: str) -> Callable[[], None]:
        def count() -> None:
            woken[name] += 1

        return count

    tasks = [asyncio.create_task(node.listen(wake(name))) for name, node in nodes.items()]
    await until(lambda: min(woken.values()) == 1)  # each looks once when it has begun to listen
    for _ in range(50):
        nodes["one"].tell()
    await until(lambda: woken["two"] > 1 and woken["three"] > 1)
    assert woken["two"] + woken["three"] < 10, "many calls at once are one"
    assert woken["one"] == 1
    await stop(tasks)


async def stop(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_listener_whose_connection_is_lost_listens_again(
    peers: Peers, postgresql: Server, migrated_url: str
) -> None:
    woken: list[int] = []
    node = peers()
    task = asyncio.create_task(node.listen(lambda: woken.append(1)))
    await until(lambda: len(woken) == 1)
    name = make_url(migrated_url).database
    postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    await until(lambda: len(woken) == 2)
    peers().tell()
    await until(lambda: len(woken) == 3)
    await stop([task])


async def test_calls_of_two_nodes_come_out_of_one_quota(peers: Peers) -> None:
    one, other = peers().slots("stripe", 4.0), peers().slots("stripe", 4.0)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await asyncio.gather(*[each.take(Lane.LIVE) for each in (one, other) for _ in range(4)])
    assert loop.time() - begun >= (8 - 3) / 4, "eight slots, of which three may be caught up on or come at once"


def test_a_claim_by_the_databases_time_takes_what_is_due_by_it_whatever_the_nodes_clock_says(
    migrated_url: str,
) -> None:
    engine = connect(migrated_url)
    transact(engine, lambda connection: put(connection, due("user_a")))
    (claimed,) = transact(engine, lambda connection: links.claim(connection, 5, 120_005, 9, by_database=True))
    assert claimed.due_at is not None
    assert claimed.due_at > NOW
    assert transact(engine, lambda connection: links.claim(connection, NOW, LEASE_END, 9)) == []
    engine.dispose()


async def test_the_time_is_the_databases(peers: Peers, postgresql: Server) -> None:
    node: Awaitable[int | None] = peers().time()
    told = await node
    ((now,),) = postgresql.execute("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)")
    assert told is not None
    assert isinstance(now, int)
    assert 0 <= now - told < 60_000
