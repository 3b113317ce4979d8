"""The runners keep the same promises on both databases; what only one of them has is tested beside this."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import Connection, text

from counterfoil.errors import ConfigurationError, DatabaseUnavailable
from counterfoil.store.database import Database, InlineDatabase
from counterfoil.store.engine import connect
from counterfoil.store.opening import open_database
from tests.databases import looking

KINDS: dict[str, Callable[[str], Database]] = {"inline": InlineDatabase, "serving": open_database}


def add(number: int) -> Callable[[Connection], int]:
    """A job that writes a number, and returns it."""

    def job(connection: Connection) -> int:
        connection.execute(text("INSERT INTO numbers (number) VALUES (:number)"), {"number": number})
        return number

    return job


def numbers(connection: Connection) -> list[int]:
    return [row[0] for row in connection.execute(text("SELECT number FROM numbers ORDER BY number"))]


def on_disk(url: str) -> list[int]:
    """What somebody else finds."""
    with looking(url) as connection:
        rows = connection.execute("SELECT number FROM numbers ORDER BY number").fetchall()
    return [int(str(row[0])) for row in rows]


def make_table(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE numbers (number INTEGER PRIMARY KEY)"))


@pytest.fixture(params=sorted(KINDS))
async def database(request: pytest.FixtureRequest, migrated_url: str) -> AsyncIterator[Database]:
    """Each kind, with an empty table."""
    made = KINDS[request.param](migrated_url)
    await made.write(make_table)
    yield made
    await made.close()


async def test_many_writers_each_get_their_own_result_and_all_is_on_disk(
    database: Database, migrated_url: str
) -> None:
    jobs = [database.write(add(number), urgent=number % 7 == 0) for number in range(300)]
    assert await asyncio.gather(*jobs) == list(range(300))
    assert on_disk(migrated_url) == list(range(300))


async def test_a_write_is_on_disk_when_it_returns(database: Database, migrated_url: str) -> None:
    for number in (3, 1, 2):
        await database.write(add(number))
        assert number in on_disk(migrated_url)


async def test_a_read_sees_what_was_committed_before_it(database: Database) -> None:
    for number in range(20):
        await database.write(add(number), urgent=number % 2 == 0)
        assert await database.read(numbers) == list(range(number + 1))


async def test_a_read_is_of_one_moment(migrated_url: str) -> None:
    database, other = open_database(migrated_url), open_database(migrated_url)
    await database.write(make_table)
    looked, written = threading.Event(), threading.Event()

    def twice(connection: Connection) -> tuple[list[int], list[int]]:
        first = numbers(connection)
        looked.set()
        assert written.wait(10)
        return first, numbers(connection)

    reading = asyncio.create_task(database.read(twice))
    await asyncio.to_thread(looked.wait, 10)
    await other.write(add(1))
    written.set()
    assert await reading == ([], [])
    assert await database.read(numbers) == [1]
    await database.close()
    await other.close()


async def test_a_job_that_fails_spoils_only_itself(database: Database, migrated_url: str) -> None:
    def broken(connection: Connection) -> None:
        add(1_000)(connection)
        raise LookupError("mine")

    await database.write(add(1))
    jobs: list[Callable[[Connection], Any]] = [add(0), broken, add(1), add(2)]
    results = await asyncio.gather(*[database.write(job) for job in jobs], return_exceptions=True)
    assert results[0] == 0
    assert isinstance(results[1], LookupError)
    assert isinstance(results[2], DatabaseUnavailable)
    assert results[3] == 2
    assert on_disk(migrated_url) == [0, 1, 2]


async def test_the_drivers_sentence_is_told_and_no_value(database: Database) -> None:
    await database.write(add(4_711))
    with pytest.raises(DatabaseUnavailable) as error:
        await database.write(add(4_711))
    assert "unique" in str(error.value).lower()
    assert "4711" not in str(error.value)


async def test_what_was_handed_in_is_finished_and_then_nothing_more_is_taken(migrated_url: str) -> None:
    database = open_database(migrated_url)
    await database.write(make_table)
    waiting = [asyncio.create_task(database.write(add(number), urgent=number < 9)) for number in range(50)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*waiting) == list(range(50))
    assert on_disk(migrated_url) == list(range(50))
    for attempt in (database.write(add(99)), database.write(add(98), urgent=True), database.read(numbers)):
        with pytest.raises(DatabaseUnavailable, match="closed"):
            await attempt
    await database.close()


async def test_a_writer_that_is_cancelled_does_not_disturb_the_others(migrated_url: str) -> None:
    database = open_database(migrated_url)
    await database.write(make_table)
    tasks = [asyncio.create_task(database.write(add(number))) for number in range(10)]
    await asyncio.sleep(0)
    tasks[4].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each for each in results if isinstance(each, int)] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    await database.close()
    assert set(on_disk(migrated_url)) >= {0, 1, 2, 3, 5, 6, 7, 8, 9}


async def test_writers_of_two_nodes_do_not_disturb_each_other(migrated_url: str) -> None:
    one, other = open_database(migrated_url), open_database(migrated_url)
    await one.write(make_table)
    results = await asyncio.gather(*[(one, other)[number % 2].write(add(number)) for number in range(60)])
    assert results == list(range(60))
    assert on_disk(migrated_url) == list(range(60))
    await one.close()
    await other.close()


@pytest.mark.parametrize(
    ("named", "hosts", "ports"),
    [
        ("me:a%2Cb@db1,db2,db3/app?connect_timeout=3", "db1,db2,db3", ",,"),
        ("me@db1:5001,db2,[::1]:5003/app", "db1,db2,::1", "5001,5432,5003"),
        ("db1:5001,db2:5002", "db1,db2", "5001,5002"),
        ("me@/app?host=db1:5001&host=db2:5002", "db1,db2", "5001,5002"),
        ("me,you@db1:5001/app", "db1", 5001),
    ],
)
def test_servers_are_named_as_libpq_has_them(named: str, hosts: str, ports: str | int) -> None:
    engine = connect(f"postgresql://{named}")
    _, given = engine.dialect.create_connect_args(engine.url)
    assert (given["host"], given.get("port")) == (hosts, ports)


@pytest.mark.parametrize(
    "wrong",
    [
        "nonsense",
        "mysql://host/hunter2",
        "",
        "postgresql://user:hunter2@host:port/name",
        "postgresql://user:hunter2@db1:port,db2/name",
        "postgresql://user:hunter2@db1,/name",
        "postgresql://user:hunter2@/name?host=db1,db2&port=5432",
    ],
)
def test_a_url_of_something_else_is_a_matter_of_settings(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as error:
        connect(wrong)
    assert "hunter2" not in str(error.value)
