"""Newcomers, whose links PostgreSQL gets in one round trip, from the event loop."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from counterfoil.core.news import News
from counterfoil.errors import DatabaseUnavailable
from counterfoil.store import links
from counterfoil.store.database import InlineDatabase, PostgresqlDatabase
from counterfoil.store.deliveries import Deliveries
from counterfoil.store.engine import connect
from tests.postgresql import Server
from tests.store.support import NOW, SINCE, event
from tests.store.test_deliveries import heard

ONLY_POSTGRESQL = True
_KILL = "PERFORM pg_terminate_backend(pg_backend_pid());"


def batch(news: Sequence[News]) -> Deliveries:
    return Deliveries([(each, heard(each.subject_id)) for each in news], SINCE, NOW)


def signed_up(*names: str) -> Deliveries:
    return batch([event(f"user_{name}") for name in names])


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[PostgresqlDatabase]:
    made = PostgresqlDatabase(migrated_url)
    yield made
    await made.close()


async def known(url: str) -> dict[str, str | None]:
    """The users that somebody else finds, and their addresses."""
    looking = InlineDatabase(url)
    found = await looking.read(lambda connection: links.after(connection, "", 10_000))
    await looking.close()
    return {link.subject_id: link.fields.email if link.fields else None for link in found}


async def lines(url: str) -> int:
    looking = InlineDatabase(url)
    found = await looking.read(
        lambda connection: connection.execute(text("SELECT COUNT(*) FROM journal")).scalar()
    )
    await looking.close()
    return int(found or 0)


def at_each_line(url: str, body: str, *, deferred: bool = False) -> None:
    """Have the server carry out ``body`` for each line of the journal; ``deferred``: at the commit."""
    engine = connect(url)
    when = "DEFERRABLE INITIALLY DEFERRED" if deferred else ""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SEQUENCE tries")
        connection.exec_driver_sql(
            f"CREATE FUNCTION happens() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
        )
        connection.exec_driver_sql(
            f"CREATE CONSTRAINT TRIGGER happens AFTER INSERT ON journal {when}"
            " FOR EACH ROW EXECUTE FUNCTION happens()"
        )
    engine.dispose()


def nothing_happens(url: str) -> None:
    engine = connect(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER happens ON journal")
    engine.dispose()


async def test_newcomers_cost_one_transaction_and_no_reading(
    migrated_url: str, database: PostgresqlDatabase
) -> None:
    await database.take(signed_up("a"))
    line = database._newcomers._line
    assert line is not None
    sent: list[bytes] = []
    send = line._pq.send_query_params

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(pq, name)

        def send_query_params(self, statement: bytes, *given: object) -> None:
            sent.append(statement)
            send(statement, *given)

    pq, line._pq = line._pq, Watched()
    await database.take(signed_up("b", "c"))
    assert [statement.split()[0] for statement in sent] == [b"BEGIN", b"SELECT", b"INSERT", b"INSERT", b"COMMIT"]
    assert sorted(await known(migrated_url)) == ["user_a", "user_b", "user_c"]


async def test_a_connection_that_was_lost_meanwhile_costs_nothing(
    postgresql: Server, migrated_url: str, database: PostgresqlDatabase
) -> None:
    await database.take(signed_up("a"))
    name = make_url(migrated_url).database
    postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    await database.take(signed_up("b"))
    assert sorted(await known(migrated_url)) == ["user_a", "user_b"]


@pytest.mark.parametrize("deferred", [False, True], ids=["in mid-transaction", "at the commit"])
async def test_a_connection_that_is_lost_each_time_makes_the_database_unavailable(
    migrated_url: str, database: PostgresqlDatabase, deferred: bool
) -> None:
    at_each_line(migrated_url, f"PERFORM nextval('tries'); {_KILL}", deferred=deferred)
    with pytest.raises(DatabaseUnavailable):
        await database.take(signed_up("a"))
    tries = connect(migrated_url)
    with tries.begin() as connection:
        assert connection.exec_driver_sql("SELECT last_value FROM tries").scalar() == 2
    tries.dispose()
    assert await known(migrated_url) == {}
    nothing_happens(migrated_url)
    await database.take(signed_up("a"))
    assert sorted(await known(migrated_url)) == ["user_a"]


@pytest.mark.parametrize("deferred", [False, True], ids=["in mid-transaction", "at the commit"])
async def test_a_connection_that_is_lost_once_is_made_anew(
    migrated_url: str, database: PostgresqlDatabase, deferred: bool
) -> None:
    at_each_line(migrated_url, f"IF nextval('tries') = 1 THEN {_KILL} END IF;", deferred=deferred)
    await database.take(signed_up("a"))
    assert sorted(await known(migrated_url)) == ["user_a"]
    assert await lines(migrated_url) == 1


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_what_the_server_asks_to_try_again_is_tried_again(
    migrated_url: str, database: PostgresqlDatabase, state: str
) -> None:
    at_each_line(migrated_url, f"IF nextval('tries') <= 2 THEN RAISE 'no' USING ERRCODE = '{state}'; END IF;")
    await database.take(signed_up("a"))
    assert sorted(await known(migrated_url)) == ["user_a"]
    assert await lines(migrated_url) == 1


async def test_what_the_server_refuses_is_told_without_a_value_and_nothing_of_it_is_kept(
    migrated_url: str, database: PostgresqlDatabase
) -> None:
    at_each_line(migrated_url, "RAISE 'the disk is full' USING ERRCODE = '53100', DETAIL = 'of user_a';")
    with pytest.raises(DatabaseUnavailable) as told:
        await database.take(signed_up("a"))
    assert str(told.value) == "the database cannot be used: the disk is full"
    nothing_happens(migrated_url)
    await database.take(signed_up("b"))
    assert sorted(await known(migrated_url)) == ["user_b"]


async def test_a_batch_larger_than_what_the_connection_takes_at_once_is_written_whole(
    migrated_url: str, database: PostgresqlDatabase
) -> None:
    news = [event(f"user_{number:05}", email=f"{number}{'x' * 400}@example.com") for number in range(5_000)]
    await database.take(batch(news))
    assert await known(migrated_url) == {each.subject_id: each.body.fields.email for each in news}
    assert await lines(migrated_url) == 5_000


async def test_news_of_a_user_whom_another_node_makes_meanwhile_is_folded_all_the_same(
    migrated_url: str, database: PostgresqlDatabase
) -> None:
    other = connect(migrated_url)
    with other.begin() as connection:
        links.fold_batch(connection, [event("user_b", NOW, email="old@example.com")], SINCE, NOW)
        news = [event("user_a"), event("user_b", NOW + 1, email="new@example.com"), event("user_c")]
        ours = asyncio.create_task(database.take(batch(news)))
        await asyncio.sleep(0.2)
        assert not ours.done()
    await ours
    assert await known(migrated_url) == {
        "user_a": "ada@example.com",
        "user_b": "new@example.com",
        "user_c": "ada@example.com",
    }
    assert await lines(migrated_url) == 3
    other.dispose()


async def test_who_is_no_more_waited_for_does_not_spoil_the_next(
    migrated_url: str, database: PostgresqlDatabase
) -> None:
    other = connect(migrated_url)
    with other.begin() as connection:
        links.fold_batch(connection, [event("user_b")], SINCE, NOW)
        ours = asyncio.create_task(database.take(signed_up("a", "b")))
        await asyncio.sleep(0.2)
        ours.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ours
        await database.take(signed_up("c"))
        assert "user_c" in await known(migrated_url)
    await database.take(signed_up("a", "b", "d"))
    assert sorted(await known(migrated_url)) == ["user_a", "user_b", "user_c", "user_d"]
    other.dispose()


async def test_batches_at_once_do_not_take_each_others_answers(
    migrated_url: str, database: PostgresqlDatabase
) -> None:
    await asyncio.gather(*(database.take(signed_up(f"{number}", f"{number % 7}")) for number in range(40)))
    assert len(await known(migrated_url)) == 40
    assert await lines(migrated_url) == 80


async def test_two_nodes_that_hear_of_the_same_users_at_once_both_answer(
    migrated_url: str, database: PostgresqlDatabase
) -> None:
    peer = PostgresqlDatabase(migrated_url)
    names = [f"{number}" for number in range(60)]
    for start in range(0, 60, 20):
        some = names[start : start + 20]
        await asyncio.gather(database.take(signed_up(*some)), peer.take(signed_up(*reversed(some))))
    assert len(await known(migrated_url)) == 60
    assert await lines(migrated_url) == 120
    await peer.close()


async def test_newcomers_are_durable_whatever_the_servers_default_and_leave_no_setting(
    postgresql: Server, migrated_url: str
) -> None:
    postgresql.execute(f"ALTER DATABASE {make_url(migrated_url).database} SET synchronous_commit = off")
    database = PostgresqlDatabase(migrated_url)
    at_each_line(
        migrated_url,
        "IF current_setting('synchronous_commit') <> 'on' THEN RAISE 'not durable'; END IF;",
    )
    await database.take(signed_up("a"))
    line = database._newcomers._line
    assert line is not None
    line._pq.send_query_params(b"SHOW search_path", None)
    (answer,) = await line._answers(1)
    assert answer.get_value(0, 0) == b'"$user", public'
    await database.close()


async def test_a_database_that_is_away_is_said_to_be() -> None:
    database = PostgresqlDatabase("postgresql://nobody@127.0.0.1:9/none?connect_timeout=1")
    with pytest.raises(DatabaseUnavailable, match="cannot be used"):
        await database.take(signed_up("a"))
    await database.close()
