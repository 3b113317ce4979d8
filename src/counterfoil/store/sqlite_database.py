"""What serves on SQLite: jobs run on the event loop's own thread, only commits and checkpoints have threads.

A job is a few statements on pages that are in memory: microseconds. What takes long is the fsync, and that
needs no interpreter. With a thread for the jobs as well, both threads waited for each other's turn at the
interpreter, twice for every row ([decision 0014](docs/decisions/0014-sqlite-on-the-loop.md)).
"""

import asyncio
import sqlite3
import threading

import structlog
from sqlalchemy import Connection, Engine, RootTransaction
from sqlalchemy.exc import DBAPIError, OperationalError

from counterfoil.errors import DatabaseUnavailable
from counterfoil.store.database import Database, Lane, Threads, Waiting
from counterfoil.store.driver import driver
from counterfoil.store.engine import Job, T, connect, unavailable

_BATCH = 1_000
"""Jobs in one transaction at most."""
_LOCKED = 3.0
"""Seconds for which another process may hold the file. Four times this may pass until a delivery is refused: two
transactions that are under way, and two that its batch waits for; Svix gives it 15 s (facts 1.2)."""
_LOOK_AGAIN = 0.01
_CHECKPOINT_AFTER = 40
"""Transactions: a batch of deliveries writes about 25 pages, and 1,000 is what SQLite itself waits for."""
_LOG_PAGES = 4_000
"""Of the write-ahead log (16 MB). At so many a commit copies what is left itself, and the log begins anew: beside
commits it would not come to that."""

_log = structlog.get_logger(__name__)


class _Committer(Threads[sqlite3.Connection]):
    """A thread that ends transactions, so that the event loop goes on while the disk is waited for."""

    def __init__(self) -> None:
        self._under_way = threading.Semaphore(0)
        super().__init__("database-commit", self._commit)

    def hand_in(self, given: sqlite3.Connection) -> asyncio.Future[None]:
        """Give the interpreter away until the commit needs it no more.

        The thread would get it when the loop has nothing left to do: after the requests that are there to be
        read, and there would be nothing to do meanwhile but to wait for the disk.
        """
        future = super().hand_in(given)
        self._under_way.acquire()
        return future

    def _commit(self, connection: sqlite3.Connection) -> None:
        self._under_way.release()
        connection.execute("COMMIT")


class _Checkpointer(Threads[None]):
    """A thread that copies the write-ahead log into the file and syncs that, beside the commits.

    A commit that does it, as SQLite's do by themselves, takes several times as long as others, and all who wait
    for it or for the next one wait for that.
    """

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        self._transactions = 0
        self._under_way: asyncio.Future[None] | None = None
        super().__init__("database-checkpoint", self._copy)

    def committed(self) -> None:
        """One more transaction is in the log."""
        self._transactions += 1
        if self._transactions >= _CHECKPOINT_AFTER and (self._under_way is None or self._under_way.done()):
            self._transactions = 0
            self._under_way = self.hand_in(None)

    def _copy(self, _: None) -> None:
        try:
            _checkpoint(self._engine, "PASSIVE")
        except DatabaseUnavailable as error:
            # Nothing is lost: the log has it all, and the next one tries again.
            _log.warning("checkpoint.failed", error=str(error))

    async def close(self) -> None:
        """Finish the one under way."""
        await super().close()
        self._engine.dispose()


class SqliteDatabase(Database):
    """All writes that wait share one transaction, so one fsync; reads have a thread and a connection of their own.

    Belongs to one event loop.
    """

    def __init__(self, url: str) -> None:
        # A lock that somebody else holds is waited for here, not in the driver: that would hold up the loop.
        self._url = url
        self._engine = connect(url, patience=0.0)
        self._reader = Lane("database-reader", connect(url).execution_options(read_only=True))
        self._committer = _Committer()
        self._checkpointer = _Checkpointer(url)
        self._connection: Connection | None = None
        self._waiting: list[Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self._closed = False

    async def write(self, job: Job[T], *, urgent: bool = False) -> T:
        """See `Database.write`; all that waits goes into the next transaction, urgent or not."""
        if self._closed:
            raise DatabaseUnavailable("the database is closed")
        loop = asyncio.get_running_loop()
        waiting = Waiting(job, loop)
        self._waiting.append(waiting)
        if self._writing is None:
            self._writing = loop.create_task(self._write())
        result: T = await waiting.future
        return result

    async def read(self, job: Job[T]) -> T:
        """See `Database.read`."""
        return await self._reader.run(job)

    async def tidy(self) -> None:
        """See `Database.tidy`: the write-ahead log is emptied into the file."""
        await asyncio.to_thread(_empty_log, self._url)

    async def close(self) -> None:
        """Finish what was handed in, then let the database go."""
        if self._closed:
            return
        self._closed = True
        if self._writing is not None:
            await self._writing
        await self._reader.close()
        await self._checkpointer.close()
        self._roll_back()
        self._engine.dispose()
        await self._committer.close()

    def _roll_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            # The driver's own: for SQLAlchemy a transaction is over even where its commit has failed.
            connection.connection.rollback()
        except Exception as error:
            # It cannot even be rolled back: a new one is made, and whoever waits is still told.
            connection.invalidate(error)
        connection.close()

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            await self._transact(batch)
            for waiting in batch:
                waiting.tell()
            self._checkpointer.committed()
            if self._waiting:
                # Who is told now has more to write, as a rule: the next deliveries. What has come meanwhile would
                # begin a transaction without them, for which they would wait.
                await asyncio.sleep(0)
        self._writing = None

    async def _transact(self, batch: list[Waiting]) -> None:
        """All jobs in one transaction; if one fails, each by itself, so that it spoils only its own."""
        try:
            transaction = await self._begin()
        except Exception as error:
            # No job's fault: the next one by itself would only wait as long again.
            self._roll_back()
            for waiting in batch:
                waiting.error = _told(error)
            return
        try:
            for waiting in batch:
                waiting.result = waiting.job(transaction.connection)
            await self._committer.hand_in(driver(transaction.connection))
            transaction.commit()
        except Exception as error:
            self._roll_back()
            if len(batch) == 1:
                batch[0].error = _told(error)
                return
            for waiting in batch:
                await self._transact([waiting])

    async def _begin(self) -> RootTransaction:
        loop = asyncio.get_running_loop()
        end = loop.time() + _LOCKED
        while True:
            if self._connection is None:
                self._connection = self._engine.connect()
                driver(self._connection).execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
            try:
                return self._connection.begin()
            except (OperationalError, sqlite3.OperationalError) as error:
                if "locked" not in str(error) or loop.time() >= end:
                    raise
            await asyncio.sleep(_LOOK_AGAIN)


def _told(error: Exception) -> Exception:
    """What whoever waits is told."""
    return unavailable(error) if isinstance(error, DBAPIError | sqlite3.Error) else error


def _empty_log(url: str) -> None:
    """On a connection of its own. Where others read or write for too long, nothing is done until the next time."""
    engine = connect(url)
    try:
        _checkpoint(engine, "TRUNCATE")
    finally:
        engine.dispose()


def _checkpoint(engine: Engine, kind: str) -> None:
    """Copy the write-ahead log into the file.

    Raises:
        DatabaseUnavailable: it could not be done.
    """
    try:
        connection = engine.raw_connection()
        try:
            connection.execute(f"PRAGMA wal_checkpoint({kind})")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"the database cannot be used: {error}") from error
    except DBAPIError as error:
        raise unavailable(error) from error
