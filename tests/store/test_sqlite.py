"""What only SQLite has: one writer whose fsync serves many, a file, and its settings."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, RootTransaction, event, text
from structlog.testing import capture_logs

from counterfoil.core.link import Lane, Link
from counterfoil.errors import DatabaseUnavailable
from counterfoil.store import links, sqlite_database
from counterfoil.store.database import Database, InlineDatabase
from counterfoil.store.engine import connect
from counterfoil.store.sqlite_database import SqliteDatabase
from tests.databases import migrate
from tests.store.support import LEASE_END, NOW, put
from tests.store.test_database import KINDS, add, make_table, numbers, on_disk


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return f"sqlite:///{tmp_path / 'counterfoil.db'}"


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A connection inside a transaction, with the schema made."""
    migrate(url)
    engine = connect(url)
    with engine.begin() as made:
        yield made
    engine.dispose()


async def test_writers_that_wait_together_share_one_commit(url: str) -> None:
    database = SqliteDatabase(url)
    await database.write(make_table)
    commits: list[int] = []
    event.listen(database._engine, "commit", lambda _: commits.append(1))
    first = asyncio.create_task(database.write(add(1_000)))
    while not commits:  # its commit is under way, or over
        await asyncio.sleep(0)
    await asyncio.gather(first, *[database.write(add(number), urgent=number < 50) for number in range(400)])
    assert len(commits) == 2
    assert on_disk(url) == [*range(400), 1_000]
    await database.close()


async def test_who_goes_on_writing_shares_the_next_commit_with_what_came_meanwhile(url: str) -> None:
    database = SqliteDatabase(url)
    await database.write(make_table)
    begun: list[int] = []
    event.listen(database._engine, "begin", lambda _: begun.append(1))

    async def deliveries() -> None:
        for number in range(3):
            await database.write(add(number))

    going_on = asyncio.create_task(deliveries())
    while not begun:  # its first commit is under way
        await asyncio.sleep(0)
    await asyncio.gather(going_on, database.write(add(1_000)))
    assert len(begun) == 3
    await database.close()


async def test_a_lock_that_somebody_else_holds_is_waited_for_without_holding_up_the_loop(url: str) -> None:
    database = SqliteDatabase(url)
    await database.write(make_table)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(database.write(add(1)))
        for _ in range(20):
            await asyncio.sleep(0.005)
            assert not writing.done()
        other.execute("COMMIT")
    assert await writing == 1
    assert on_disk(url) == [1]
    await database.close()


async def test_a_lock_that_lasts_is_waited_for_once_by_all_who_wait(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_database, "_LOCKED", 0.05)
    database = SqliteDatabase(url)
    await database.write(make_table)
    waited: list[int] = []
    begin = database._begin

    async def counted() -> RootTransaction:
        waited.append(1)
        return await begin()

    monkeypatch.setattr(database, "_begin", counted)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = await asyncio.gather(*(database.write(add(number)) for number in range(3)), return_exceptions=True)
        other.execute("COMMIT")
    assert [type(each) for each in told] == 3 * [DatabaseUnavailable]
    assert len(waited) == 1
    assert await database.write(add(7)) == 7
    assert on_disk(url) == [7]
    await database.close()


async def test_a_commit_that_fails_is_told_and_the_next_one_is_tried(url: str) -> None:
    database = SqliteDatabase(url)
    await database.write(make_table)
    await database.write(lambda connection: connection.execute(text("CREATE TABLE a (id INTEGER PRIMARY KEY)")))
    deferred = "CREATE TABLE b (a INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED)"
    await database.write(lambda connection: connection.execute(text(deferred)))
    with pytest.raises(DatabaseUnavailable, match="FOREIGN KEY"):
        await database.write(lambda connection: connection.execute(text("INSERT INTO b VALUES (7)")))
    assert await database.write(add(1)) == 1
    assert on_disk(url) == [1]
    await database.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_file_that_may_only_be_read_refuses_writes_and_keeps_working(url: str, kind: str) -> None:
    database = InlineDatabase(url)
    await database.write(make_table)
    await database.write(add(1))
    barred: Database = KINDS[kind](f"sqlite:///file:{url.removeprefix('sqlite:///')}?mode=ro&uri=true")
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        await barred.write(add(2))
    assert await barred.read(numbers) == [1]
    await barred.close()
    await database.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_folder_that_is_not_there_makes_the_database_unavailable(tmp_path: Path, kind: str) -> None:
    database = KINDS[kind](f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        await database.write(make_table)
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        await database.read(numbers)
    await database.close()


async def test_a_database_that_comes_back_is_used_again(tmp_path: Path) -> None:
    database = SqliteDatabase(f"sqlite:///{tmp_path / 'later' / 'x.db'}")
    with pytest.raises(DatabaseUnavailable):
        await database.write(make_table)
    (tmp_path / "later").mkdir()
    await database.write(make_table)
    assert await database.write(add(7)) == 7
    await database.close()


async def test_a_connection_that_breaks_beyond_a_rollback_is_replaced(url: str) -> None:
    database = SqliteDatabase(url)
    await database.write(make_table)

    def breaks(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.close()
        connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        await asyncio.wait_for(database.write(breaks), 10)
    assert await asyncio.wait_for(database.write(add(1)), 10) == 1
    assert on_disk(url) == [1]
    await database.close()


async def test_what_was_erased_is_in_no_file_once_it_was_tidied_up(url: str, tmp_path: Path) -> None:
    def found() -> set[str]:
        return {path.name for path in tmp_path.iterdir() if b"canary@" in path.read_bytes()}

    database = SqliteDatabase(url)
    await database.write(lambda connection: connection.execute(text("CREATE TABLE p (id INTEGER, email TEXT)")))
    for number in range(300):
        email = f"canary@{number}.example.com"
        await database.write(
            lambda connection, email=email: connection.execute(  # type: ignore[misc]
                text("INSERT INTO p VALUES (:id, :email)"), {"id": len(email), "email": email}
            )
        )
    await database.tidy()
    assert found() == {"counterfoil.db"}
    await database.write(lambda connection: connection.execute(text("UPDATE p SET email = NULL WHERE id % 2 = 0")))
    await database.write(lambda connection: connection.execute(text("DELETE FROM p WHERE id % 2 = 1")))
    await database.tidy()
    assert found() == set()
    assert await database.read(lambda connection: connection.execute(text("SELECT COUNT(*) FROM p")).scalar())
    await database.close()


async def test_tidying_up_beside_a_writer_breaks_nothing(url: str) -> None:
    database = SqliteDatabase(url)
    await database.write(make_table)
    writing = [asyncio.create_task(database.write(add(number))) for number in range(200)]
    await asyncio.gather(database.tidy(), database.tidy(), *writing)
    assert on_disk(url) == list(range(200))
    await database.close()


def in_the_file_alone(url: str, folder: Path) -> list[int]:
    """The numbers that are in the file, without its write-ahead log."""
    copy = folder / "copy.db"
    copy.write_bytes(Path(url.removeprefix("sqlite:///")).read_bytes())
    return on_disk(f"sqlite:///{copy}")


async def test_the_log_is_copied_into_the_file_while_commits_go_on(url: str, tmp_path: Path) -> None:
    database = SqliteDatabase(url)
    await database.write(make_table)
    await database.tidy()  # the table itself
    number = 0
    while not in_the_file_alone(url, tmp_path):
        assert number < 500
        await database.write(add(number))
        number += 1
    await database.close()
    assert on_disk(url) == [*range(number)]


async def test_a_checkpoint_that_fails_is_told_of_and_harms_nobody(url: str, tmp_path: Path) -> None:
    database = SqliteDatabase(url)
    await database.write(make_table)
    database._checkpointer._engine = connect(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")
    with capture_logs() as told:
        for number in range(100):
            await database.write(add(number))
        await database.close()
    assert {each["event"] for each in told} == {"checkpoint.failed"}
    assert on_disk(url) == [*range(100)]


def test_commits_are_synced_to_a_write_ahead_log(url: str) -> None:
    engine = connect(url)
    with engine.begin() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    engine.dispose()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize("due_every", [1, 50])
def test_a_claim_reads_the_due_links_from_their_index_without_sorting(
    connection: Connection, due_every: int
) -> None:
    many = [
        Link(
            subject_id=f"user_{number:06}",
            revision=1,
            lane=Lane.BULK if number % 2 else Lane.LIVE,
            due_at=NOW - number % 977 if number % due_every == 0 else None,
        )
        for number in range(10_000)
    ]
    put(connection, *many)
    connection.exec_driver_sql("ANALYZE")
    values = {"lane": 0, "now": NOW, "lease_end": LEASE_END, "limit": 64}
    plan = [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {links._CLAIM_HERE}"), values)]
    assert any("ix_links_due" in line for line in plan), plan
    assert not any("TEMP B-TREE" in line for line in plan), plan
    assert not any(line.startswith("SCAN link_rows") for line in plan), plan
    claimed = links.claim(connection, NOW, LEASE_END, 64)
    assert len(claimed) == 64
