"""What only PostgreSQL has: connections that are lost, transactions that meet, and a schema of our own."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from counterfoil.core.link import Link
from counterfoil.core.news import News
from counterfoil.errors import ConfigurationError, DatabaseUnavailable
from counterfoil.store import environment, links
from counterfoil.store.database import Database, InlineDatabase, PostgresqlDatabase
from counterfoil.store.engine import connect, transact
from counterfoil.store.server import look
from counterfoil.store.upgrade import needed, remove, upgrade, versions
from tests.postgresql import Server
from tests.store.support import LEASE_END, NOW, SINCE, due, event, put
from tests.store.test_database import KINDS, add, make_table, numbers, on_disk

LOSE = text("SELECT pg_terminate_backend(pg_backend_pid())")

ONLY_POSTGRESQL = True


@pytest.fixture(params=sorted(KINDS))
async def database(request: pytest.FixtureRequest, migrated_url: str) -> AsyncIterator[Database]:
    """Each runner, with an empty table."""
    made = KINDS[request.param](migrated_url)
    await made.write(make_table)
    yield made
    await made.close()


def settings(*names: str) -> Callable[[Connection], list[str]]:
    """A job that reads settings of its session."""
    return lambda connection: [
        str(connection.execute(text("SELECT current_setting(:name)"), {"name": name}).scalar()) for name in names
    ]


def database_of(url: str) -> str:
    return str(make_url(url).database)


async def test_a_write_is_durable_whatever_the_servers_default(postgresql: Server, migrated_url: str) -> None:
    for given, kept in (("off", "on"), ("on", "on"), ("local", "local"), ("remote_apply", "remote_apply")):
        postgresql.execute(f"ALTER DATABASE {database_of(migrated_url)} SET synchronous_commit = {given}")
        database = PostgresqlDatabase(migrated_url)
        for urgent in (False, True):
            assert await database.write(settings("synchronous_commit"), urgent=urgent) == [kept]
        server = await database.read(look)
        assert server is not None
        assert server.synchronous_commit == given
        await database.close()


async def test_nothing_is_left_on_a_connection_for_the_next_transaction(migrated_url: str) -> None:
    engine = connect(migrated_url)
    names = ("search_path", "lock_timeout", "statement_timeout", "synchronous_commit", "transaction_isolation")
    transact(engine, lambda connection: links.fold_batch(connection, [event("user_a")], SINCE, NOW))
    for _ in range(20):
        transact(engine, lambda connection: links.get(connection, "user_a"))
    raw = engine.raw_connection()
    driver = raw.driver_connection
    assert driver is not None
    left = [driver.execute(f"SHOW {name}").fetchone()[0] for name in names]
    assert left == ['"$user", public', "0", "0", "on", "read committed"]
    assert driver.execute("SELECT COUNT(*) FROM pg_prepared_statements").fetchone() == (0,)
    held = driver.execute("SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert held == (0,)
    raw.close()
    engine.dispose()


async def test_a_connection_that_was_lost_between_transactions_costs_nothing(
    postgresql: Server, database: Database, migrated_url: str
) -> None:
    await database.write(add(1))
    await database.read(numbers)
    postgresql.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database_of(migrated_url)}'"
    )
    assert await database.read(numbers) == [1]
    await asyncio.gather(*[database.write(add(number), urgent=number % 2 == 0) for number in range(2, 20)])
    assert on_disk(migrated_url) == list(range(1, 20))


async def test_a_connection_lost_in_a_transaction_costs_a_second_try(
    database: Database, migrated_url: str
) -> None:
    tries: list[int] = []

    def lose_once(connection: Connection) -> int:
        tries.append(1)
        add(len(tries))(connection)
        if len(tries) == 1:
            connection.execute(LOSE)
        return len(tries)

    assert await database.write(lose_once) == 2
    assert on_disk(migrated_url) == [2]


async def test_a_connection_that_is_lost_each_time_makes_the_database_unavailable(
    database: Database, migrated_url: str
) -> None:
    tries: list[int] = []

    def lose(connection: Connection) -> None:
        tries.append(1)
        add(1)(connection)
        connection.execute(LOSE)

    with pytest.raises(DatabaseUnavailable):
        await database.write(lose)
    assert len(tries) == 2
    await database.write(add(2))
    assert on_disk(migrated_url) == [2]


async def test_a_commit_whose_answer_was_lost_is_not_tried_again(database: Database, migrated_url: str) -> None:
    tries: list[int] = []

    def lose_at_commit(connection: Connection) -> None:
        tries.append(1)
        add(1)(connection)
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER lose AFTER INSERT ON numbers DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION lose()"
        )
        add(2)(connection)

    with pytest.raises(DatabaseUnavailable):
        await database.write(lose_at_commit)
    assert len(tries) == 1
    await database.write(add(3))
    assert on_disk(migrated_url) == [3]


async def test_a_failed_statement_that_a_job_hides_fails_the_job(database: Database, migrated_url: str) -> None:
    def hides(connection: Connection) -> str:
        add(1)(connection)
        try:
            add(1)(connection)
        except DBAPIError:
            return "all is well"
        raise AssertionError("a number is there once")

    with pytest.raises(DatabaseUnavailable, match="failed"):
        await database.write(hides)
    assert on_disk(migrated_url) == []


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_what_the_server_asks_to_try_again_is_tried_again(
    database: Database, migrated_url: str, state: str
) -> None:
    tries: list[int] = []

    def refused_twice(connection: Connection) -> int:
        tries.append(1)
        add(len(tries))(connection)
        if len(tries) <= 2:
            connection.exec_driver_sql(f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$")
        return len(tries)

    assert await database.write(refused_twice) == 3
    assert on_disk(migrated_url) == [3]


async def test_two_transactions_that_wait_for_each_other_both_succeed(migrated_url: str) -> None:
    engines = [connect(migrated_url), connect(migrated_url)]
    transact(engines[0], lambda connection: put(connection, due("user_a"), due("user_b")))
    both = threading.Barrier(2)
    tries: list[str] = []

    def in_order(*names: str) -> Callable[[Connection], None]:
        def job(connection: Connection) -> None:
            tries.append(names[0])
            links.disown(connection, names[0], NOW)
            if tries.count(names[0]) == 1:
                both.wait(10)
            links.disown(connection, names[1], NOW)

        return job

    await asyncio.gather(
        asyncio.to_thread(transact, engines[0], in_order("user_a", "user_b")),
        asyncio.to_thread(transact, engines[1], in_order("user_b", "user_a")),
    )
    assert len(tries) == 3
    for name in ("user_a", "user_b"):
        link = transact(engines[0], lambda connection, name=name: links.get(connection, name))  # type: ignore[misc]
        assert link is not None
        assert link.revision == 3
    for engine in engines:
        engine.dispose()


async def test_a_delivery_does_not_wait_behind_the_workers(migrated_url: str) -> None:
    database = PostgresqlDatabase(migrated_url)
    await database.write(make_table)
    free = threading.Event()
    held = [asyncio.create_task(database.write(lambda _: free.wait(10))) for _ in range(20)]
    await asyncio.sleep(0)
    assert await database.write(add(1), urgent=True) == 1
    assert not any(task.done() for task in held)
    assert on_disk(migrated_url) == [1]
    free.set()
    assert all(await asyncio.gather(*held))
    await database.close()


async def test_two_nodes_that_hear_of_a_new_user_at_once_both_fold_their_news(migrated_url: str) -> None:
    engines = [connect(migrated_url), connect(migrated_url)]
    folded, go_on = threading.Event(), threading.Event()

    def first(connection: Connection) -> list[str]:
        moved = links.fold_batch(connection, [event("user_b", NOW, email="old@example.com")], SINCE, NOW)
        folded.set()
        assert go_on.wait(10)
        return moved

    news: list[News] = [event("user_a"), event("user_b", NOW + 1, email="new@example.com"), event("user_c")]

    def second(connection: Connection) -> list[str]:
        return links.fold_batch(connection, news, SINCE, NOW)

    one = asyncio.create_task(asyncio.to_thread(transact, engines[0], first))
    await asyncio.to_thread(folded.wait, 10)
    other = asyncio.create_task(asyncio.to_thread(transact, engines[1], second))
    await asyncio.to_thread(_until_somebody_waits, engines[0].url.render_as_string(hide_password=False))
    go_on.set()
    assert await one == ["user_b"]
    assert sorted(await other) == ["user_a", "user_b", "user_c"]
    link = transact(engines[0], lambda connection: links.get(connection, "user_b"))
    assert link is not None
    assert (link.source_version, link.revision) == (NOW + 1, 2)
    assert link.fields is not None
    assert link.fields.email == "new@example.com"
    for engine in engines:
        engine.dispose()


async def test_older_news_that_meets_newer_news_on_another_node_does_not_overwrite_it(migrated_url: str) -> None:
    engines = [connect(migrated_url), connect(migrated_url)]
    transact(engines[0], lambda connection: links.fold_batch(connection, [event("user_a")], SINCE, NOW))
    folded, go_on = threading.Event(), threading.Event()

    def newer(connection: Connection) -> None:
        links.fold_batch(connection, [event("user_a", NOW + 9, email="new@example.com")], SINCE, NOW)
        folded.set()
        assert go_on.wait(10)

    def older(connection: Connection) -> None:
        links.fold_batch(connection, [event("user_a", NOW + 5, email="old@example.com")], SINCE, NOW)

    one = asyncio.create_task(asyncio.to_thread(transact, engines[0], newer))
    await asyncio.to_thread(folded.wait, 10)
    other = asyncio.create_task(asyncio.to_thread(transact, engines[1], older))
    await asyncio.to_thread(_until_somebody_waits, engines[0].url.render_as_string(hide_password=False))
    go_on.set()
    await asyncio.gather(one, other)
    link = transact(engines[0], lambda connection: links.get(connection, "user_a"))
    assert link is not None
    assert link.fields is not None
    assert (link.source_version, link.fields.email) == (NOW + 9, "new@example.com")
    for engine in engines:
        engine.dispose()


def _until_somebody_waits(url: str) -> None:
    engine = connect(url)
    waiting = text("SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    for _ in range(1_000):
        if transact(engine, lambda connection: connection.execute(waiting).scalar()):
            break
    engine.dispose()


def test_two_claims_at_once_take_different_links_and_neither_waits(migrated_url: str) -> None:
    one, other = connect(migrated_url), connect(migrated_url)
    transact(one, lambda connection: put(connection, *[due(f"user_{number}") for number in range(10)]))
    with one.begin() as first, other.begin() as second:
        mine = links.claim(first, NOW, LEASE_END, 4)
        theirs = links.claim(second, NOW, LEASE_END, 9)
    assert len(mine) == 4
    assert len(theirs) == 6
    assert len({link.subject_id for link in [*mine, *theirs]}) == 10
    one.dispose()
    other.dispose()


@pytest.mark.parametrize("due_every", [1, 50])
def test_a_claim_reads_the_due_links_from_their_index_without_sorting(
    connection: Connection, due_every: int
) -> None:
    rows = [
        Link(
            subject_id=f"user_{number:06}",
            revision=1,
            due_at=NOW - number % 977 if number % due_every == 0 else None,
        )
        for number in range(10_000)
    ]
    put(connection, *rows)
    connection.exec_driver_sql("ANALYZE link_rows")
    values = {"lane": 0, "now": NOW, "lease_end": LEASE_END, "limit": 64, "by_database": False}
    plan = [row[0] for row in connection.execute(text(f"EXPLAIN {links._CLAIM_SHARED}"), values)]
    assert any("Index Scan using ix_links_due" in line for line in plan), plan
    assert not any("Seq Scan on link_rows" in line for line in plan), plan
    assert len(links.claim(connection, NOW, LEASE_END, 64)) == 64


async def test_two_schemas_of_one_database_know_nothing_of_each_other(url: str) -> None:
    ours, theirs = InlineDatabase(url), InlineDatabase(url, "other_2")
    for database in (ours, theirs):
        assert await database.read(versions) == (None, needed())
        await database.write(upgrade)
    await theirs.write(lambda connection: put(connection, due("user_a")))
    assert await ours.read(lambda connection: links.get(connection, "user_a")) is None
    await ours.write(remove)
    assert await ours.read(versions) == (None, needed())
    assert await theirs.read(versions) == (needed(), needed())
    await ours.close()
    await theirs.close()


async def test_nodes_that_start_together_migrate_one_after_the_other(url: str) -> None:
    databases = [PostgresqlDatabase(url) for _ in range(4)]
    await asyncio.gather(*[database.write(upgrade) for database in databases])
    assert await databases[0].read(versions) == (needed(), needed())
    for database in databases:
        await database.close()


async def test_a_role_without_rights_on_the_database_uses_a_schema_made_for_it(
    postgresql: Server, url: str
) -> None:
    role = f"app_{database_of(url)}"
    postgresql.execute(f"CREATE ROLE {role} LOGIN")
    made = InlineDatabase(url)
    await made.write(
        lambda connection: connection.exec_driver_sql(f"CREATE SCHEMA counterfoil AUTHORIZATION {role}")
    )
    await made.close()
    database = InlineDatabase(make_url(url).set(username=role).render_as_string(hide_password=False))
    await database.write(upgrade)
    await database.write(lambda connection: put(connection, due("user_a")))
    await database.close()
    again = InlineDatabase(url)
    await again.write(remove)
    await again.close()
    postgresql.execute(f"DROP ROLE {role}")


async def test_a_role_that_may_read_the_view_reads_no_table(postgresql: Server, migrated_url: str) -> None:
    role = f"reader_{database_of(migrated_url)}"
    postgresql.execute(f"CREATE ROLE {role} LOGIN")
    database = InlineDatabase(migrated_url)

    def grant(connection: Connection) -> None:
        put(connection, due("user_a", customer_id="cus_1"))
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA counterfoil TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT ON counterfoil.links TO {role}")

    await database.write(grant)
    theirs = InlineDatabase(make_url(migrated_url).set(username=role).render_as_string(hide_password=False))
    view = text("SELECT subject_id, customer_id, settled, deleted FROM counterfoil.links")
    rows = await theirs.read(lambda connection: [tuple(row) for row in connection.execute(view)])
    assert rows == [("user_a", "cus_1", False, False)]
    with pytest.raises(DatabaseUnavailable, match="permission denied"):
        await theirs.read(lambda connection: links.get(connection, "user_a"))
    await theirs.close()
    await database.write(lambda connection: connection.exec_driver_sql(f"DROP OWNED BY {role}"))
    await database.close()
    postgresql.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_server_that_does_not_answer_is_told_without_the_password(kind: str) -> None:
    database = KINDS[kind]("postgres://somebody:hunter2@127.0.0.1:9/nowhere")
    for attempt in (database.write(make_table), database.read(numbers)):
        with pytest.raises(DatabaseUnavailable) as error:
            await attempt
        assert "127.0.0.1" in str(error.value)
        assert "hunter2" not in str(error.value)
    await database.close()


@pytest.mark.parametrize("name", ["", "Upper", "with space", 'quoted"', "1st", "x" * 64])
def test_a_schemas_name_that_would_have_to_be_quoted_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="COUNTERFOIL_SCHEMA"):
        connect("postgresql://host/name", name)


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'counterfoil\[postgresql\]'"):
        connect("postgresql://host/name")


async def test_a_connection_on_which_no_transaction_can_begin_is_replaced(migrated_url: str) -> None:
    """As after a failover: the old primary takes connections still, and refuses to write."""
    engine = connect(migrated_url)
    transact(engine, lambda connection: put(connection, due("user_a")))
    raw = engine.raw_connection()
    driver = raw.driver_connection
    assert driver is not None
    pid = driver.info.backend_pid
    driver.execute("SELECT set_config('lock_timeout', '1s', false)")
    driver.execute("BEGIN READ ONLY; SELECT 1")
    raw.close()
    assert transact(engine, lambda connection: links.get(connection, "user_a")) is not None
    fresh = transact(engine, lambda connection: connection.execute(text("SELECT pg_backend_pid()")).scalar())
    assert fresh != pid
    engine.dispose()


async def test_of_two_who_lock_the_environment_the_second_sees_what_the_first_wrote(migrated_url: str) -> None:
    engines = [connect(migrated_url), connect(migrated_url)]
    locked, go_on = threading.Event(), threading.Event()

    def first(connection: Connection) -> None:
        environment.lock(connection)
        locked.set()
        assert go_on.wait(10)
        environment.put(connection, {"since": "1"})

    def second(connection: Connection) -> dict[str, str]:
        environment.lock(connection)
        return environment.load(connection)

    one = asyncio.create_task(asyncio.to_thread(transact, engines[0], first))
    await asyncio.to_thread(locked.wait, 10)
    other = asyncio.create_task(asyncio.to_thread(transact, engines[1], second))
    await asyncio.to_thread(_until_somebody_waits, migrated_url)
    go_on.set()
    await one
    assert await other == {"since": "1"}
    for engine in engines:
        engine.dispose()
