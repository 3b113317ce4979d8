"""Connections over TCP that are reset while the loop that serves, uvloop's, is about to read them."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from sqlalchemy.engine import make_url

from counterfoil.errors import DatabaseUnavailable
from counterfoil.store.database import PostgresqlDatabase
from tests.acceptance.node import free_port
from tests.postgresql import Server, own
from tests.store.support import event
from tests.store.test_pipeline import at_each_line, batch, known, signed_up

ONLY_POSTGRESQL = True
_KILL_ONCE = "IF nextval('tries') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Server, int]]:
    """One of our own, that listens on a port of 127.0.0.1."""
    port = free_port()
    with own(port=port) as ours:
        made = Server(ours.admin)
        yield made, port
        made.close()


@pytest.fixture
def url(server: tuple[Server, int]) -> str:
    made, port = server
    return f"postgresql://postgres@127.0.0.1:{port}/{make_url(made.migrated()).database}"


def run(play: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(30):
            await play

    uvloop.run(within())


def kill(server: Server, url: str) -> None:
    server.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{make_url(url).database}'"
    )
    time.sleep(0.1)  # the loop is busy meanwhile: it has not yet heard of it


@pytest.mark.parametrize("_time", range(4))
def test_a_server_that_ends_in_the_middle_of_a_large_batch_is_asked_once_more(url: str, _time: int) -> None:
    at_each_line(url, _KILL_ONCE)
    news = [event(f"user_{number:04}", email=f"{number}{'x' * 200}@example.com") for number in range(500)]

    async def play() -> None:
        database = PostgresqlDatabase(url)
        await database.take(batch(news))
        assert len(await known(url)) == 500
        await database.close()

    run(play())


@pytest.mark.parametrize("polled", [False, True])
def test_a_connection_that_ended_while_nothing_was_asked_costs_nothing(
    server: tuple[Server, int], url: str, polled: bool
) -> None:
    async def play() -> None:
        database = PostgresqlDatabase(url)
        for number in range(5):
            await database.take(signed_up(f"{number}"))
            kill(server[0], url)
            if polled:
                await asyncio.sleep(0.05)
        await database.take(signed_up("last"))
        assert len(await known(url)) == 6
        await database.close()

    run(play())


def test_connections_that_end_before_anything_is_sent_leave_nothing_behind(
    server: tuple[Server, int], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither does the next socket, which gets the number of the one that was closed, hear of them."""
    large = batch([event(f"user_{number}", email=f"{'x' * 400}@example.com") for number in range(200)])

    async def play() -> None:
        database = PostgresqlDatabase(url)
        connect = database._newcomers._engine.raw_connection

        def ended() -> Any:
            connection: Any = connect()
            server[0].execute(f"SELECT pg_terminate_backend({connection.dbapi_connection.info.backend_pid})")
            time.sleep(0.1)
            return connection

        with monkeypatch.context() as patched:
            patched.setattr(database._newcomers._engine, "raw_connection", ended)
            with pytest.raises(DatabaseUnavailable):
                await database.take(large)
        assert database._newcomers._line is None
        await talk()
        await database.take(large)
        assert len(await known(url)) == 200
        await database.close()

    run(play())


async def talk() -> None:
    """Sockets that come and go."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    served = await asyncio.start_server(answer, "127.0.0.1", 0)
    for _ in range(4):
        reader, writer = await asyncio.open_connection(*served.sockets[0].getsockname())
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
    served.close()
