"""Both databases keep the same promises; the threaded one commits in groups besides."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from counterfoil.errors import ConfigurationError, DatabaseUnavailable
from counterfoil.store.database import Database, InlineDatabase, ThreadDatabase
from counterfoil.store.engine import connect

KINDS: dict[str, Callable[[str], Database]] = {"inline": InlineDatabase, "thread": ThreadDatabase}


def add(number: int) -> Callable[[Connection], int]:
    """A job that writes a number, and returns it."""

    def job(connection: Connection) -> int:
        connection.execute(text("INSERT INTO numbers (number) VALUES (:number)"), {"number": number})
        return number

    return job


def numbers(connection: Connection) -> list[int]:
    return [row[0] for row in connection.execute(text("SELECT number FROM numbers ORDER BY rowid"))]


def on_disk(file: Path) -> list[int]:
    """What somebody else finds in the file."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM numbers ORDER BY rowid")]


def make_table(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE numbers (number INTEGER PRIMARY KEY)"))


@pytest.fixture(params=sorted(KINDS))
async def database(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Database]:
    """Each kind, with an empty table."""
    made = KINDS[request.param](url)
    await made.write(make_table)
    yield made
    await made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "counterfoil.db"


async def test_many_writers_each_get_their_own_result_and_all_is_on_disk(database: Database, file: Path) -> None:
    results = await asyncio.gather(*[database.write(add(number)) for number in range(300)])
    assert results == list(range(300))
    assert on_disk(file) == list(range(300))


async def test_a_write_is_on_disk_when_it_returns(database: Database, file: Path) -> None:
    for number in (3, 1, 2):
        await database.write(add(number))
        assert number in on_disk(file)


async def test_a_read_sees_what_was_committed_before_it(database: Database) -> None:
    for number in range(20):
        await database.write(add(number))
        assert await database.read(numbers) == list(range(number + 1))


async def test_a_job_that_fails_spoils_only_itself(database: Database, file: Path) -> None:
    def broken(connection: Connection) -> None:
        add(1_000)(connection)
        raise LookupError("mine")

    jobs: list[Callable[[Connection], Any]] = [add(0), add(1), broken, add(1), add(2)]
    results = await asyncio.gather(*[database.write(job) for job in jobs], return_exceptions=True)
    assert results[:2] == [0, 1]
    assert isinstance(results[2], LookupError)
    assert isinstance(results[3], DatabaseUnavailable)
    assert results[4] == 2
    assert on_disk(file) == [0, 1, 2]


async def test_the_drivers_sentence_is_told_and_no_value(database: Database) -> None:
    await database.write(add(4_711))
    with pytest.raises(DatabaseUnavailable) as error:
        await database.write(add(4_711))
    assert "UNIQUE" in str(error.value)
    assert "4711" not in str(error.value)


async def test_a_file_that_may_only_be_read_refuses_writes_and_keeps_working(
    database: Database, file: Path
) -> None:
    await database.write(add(1))
    kind = type(database)
    assert issubclass(kind, InlineDatabase | ThreadDatabase)
    barred = kind(f"sqlite:///file:{file}?mode=ro&uri=true")
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        await barred.write(add(2))
    await barred.close()
    assert on_disk(file) == [1]


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_folder_that_is_not_there_makes_the_database_unavailable(tmp_path: Path, kind: str) -> None:
    database = KINDS[kind](f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        await database.write(make_table)
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        await database.read(numbers)
    await database.close()


async def test_a_database_that_comes_back_is_used_again(tmp_path: Path) -> None:
    database = ThreadDatabase(f"sqlite:///{tmp_path / 'later' / 'x.db'}")
    with pytest.raises(DatabaseUnavailable):
        await database.write(make_table)
    (tmp_path / "later").mkdir()
    await database.write(make_table)
    assert await database.write(add(7)) == 7
    await database.close()


async def test_what_was_handed_in_is_finished_and_then_nothing_more_is_taken(url: str, file: Path) -> None:
    database = ThreadDatabase(url)
    await database.write(make_table)
    waiting = [asyncio.create_task(database.write(add(number))) for number in range(50)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*waiting) == list(range(50))
    assert on_disk(file) == list(range(50))
    for attempt in (database.write(add(99)), database.read(numbers)):
        with pytest.raises(DatabaseUnavailable, match="closed"):
            await attempt
    await database.close()


async def test_writers_that_wait_together_share_one_commit(url: str, file: Path) -> None:
    database = ThreadDatabase(url)
    await database.write(make_table)
    commits: list[int] = []
    event.listen(database._lanes[0]._engine, "commit", lambda _: commits.append(1))
    busy, free = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        busy.set()
        assert free.wait(10)

    first = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(busy.wait, 10)
    rest = [asyncio.create_task(database.write(add(number))) for number in range(400)]
    await asyncio.sleep(0)
    free.set()
    await asyncio.gather(first, *rest)
    assert len(commits) == 2
    assert on_disk(file) == list(range(400))
    await database.close()


async def test_a_writer_that_is_cancelled_does_not_disturb_the_others(url: str, file: Path) -> None:
    database = ThreadDatabase(url)
    await database.write(make_table)
    tasks = [asyncio.create_task(database.write(add(number))) for number in range(10)]
    await asyncio.sleep(0)
    tasks[4].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each for each in results if isinstance(each, int)] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    await database.close()
    assert set(on_disk(file)) >= {0, 1, 2, 3, 5, 6, 7, 8, 9}


async def test_writers_of_two_connections_wait_for_each_other(url: str, file: Path) -> None:
    one, other = ThreadDatabase(url), ThreadDatabase(url)
    await one.write(make_table)
    results = await asyncio.gather(*[(one, other)[number % 2].write(add(number)) for number in range(60)])
    assert results == list(range(60))
    assert sorted(on_disk(file)) == list(range(60))
    await one.close()
    await other.close()


def test_commits_are_synced_to_a_write_ahead_log(url: str) -> None:
    engine = connect(url)
    with engine.begin() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    engine.dispose()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize("wrong", ["nonsense", "mysql://host/name", ""])
def test_a_url_of_something_else_is_a_matter_of_settings(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        connect(wrong)
