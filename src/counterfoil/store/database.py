"""Who runs the store's functions, and when they commit.

`ThreadDatabase` is what serves: one writer thread that commits all waiting work as one transaction, so
that one fsync serves many, and one reader thread beside it. `InlineDatabase` runs each job where it is
called: for a command that runs alone, and for a simulation that must replay.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from counterfoil.errors import ConfigurationError, DatabaseUnavailable

T = TypeVar("T")
Job = Callable[[Connection], T]

_BATCH = 1_000
"""Jobs in one transaction at most."""


class Database(Protocol):
    """Runs plain functions of a connection."""

    async def write(self, job: Job[T]) -> T:
        """Run ``job`` in a transaction and return what it returns, once that is on disk.

        A job may be run again from the start if the transaction it shared was rolled back, so it has no
        effect but on the database.

        Raises:
            DatabaseUnavailable: nothing of the job was kept.
        """

    async def read(self, job: Job[T]) -> T:
        """Run ``job`` on a snapshot; it sees all that was committed before the call."""

    async def close(self) -> None:
        """Finish what was handed in, then let the database go."""


def connect(url: str) -> Engine:
    """An engine for ``DATABASE_URL``.

    Raises:
        ConfigurationError: the URL is not one of SQLite's or PostgreSQL's.
    """
    try:
        parsed = make_url(url)
    except SQLAlchemyError as error:
        raise ConfigurationError("DATABASE_URL is not a database URL; try sqlite:///counterfoil.db") from error
    name = parsed.get_backend_name()
    if name in {"postgresql", "postgres"}:
        return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_size=2, max_overflow=0)
    if name != "sqlite":
        raise ConfigurationError(f"DATABASE_URL: {name} is not supported; use sqlite:/// or postgresql://")
    engine = create_engine(
        parsed.set(drivername="sqlite+pysqlite"),
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": 5},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # We begin transactions ourselves: the driver's own begin comes too late for BEGIN IMMEDIATE.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "journal_size_limit=67108864"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    # A writer that begins by reading and upgrades later can fail half-way; this one waits at the start.
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


class InlineDatabase:
    """Runs every job where it is called, each in a transaction of its own."""

    def __init__(self, url: str) -> None:
        self._engine = connect(url)

    async def write(self, job: Job[T]) -> T:
        return _alone(self._engine, job)

    async def read(self, job: Job[T]) -> T:
        return _alone(self._engine, job)

    async def close(self) -> None:
        self._engine.dispose()


def _alone(engine: Engine, job: Job[T]) -> T:
    try:
        with engine.begin() as connection:
            return job(connection)
    except DBAPIError as error:
        raise _unavailable(error) from error


def _unavailable(error: DBAPIError) -> DatabaseUnavailable:
    # The driver's sentence only: the statement's parameters may hold personal data.
    return DatabaseUnavailable(f"the database cannot be used: {str(error.orig)[:200]}")


class _Waiting:
    """A job on its way, and the future of whoever waits for it."""

    __slots__ = ("error", "future", "job", "loop", "result")

    def __init__(self, job: Job[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def tell(self) -> None:
        if self.future.done():
            return  # the waiter was cancelled; its work is kept all the same
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class ThreadDatabase:
    """One writer thread with group commit, one reader thread beside it."""

    def __init__(self, url: str) -> None:
        self._lanes = [_Lane(connect(url), read_only=False), _Lane(connect(url), read_only=True)]

    async def write(self, job: Job[T]) -> T:
        return await self._lanes[0].run(job)

    async def read(self, job: Job[T]) -> T:
        return await self._lanes[1].run(job)

    async def close(self) -> None:
        for lane in self._lanes:
            await lane.close()


class _Lane:
    """A thread that owns one connection."""

    def __init__(self, engine: Engine, *, read_only: bool) -> None:
        self._engine = engine.execution_options(read_only=read_only)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, name="database-reader" if read_only else "database-writer", daemon=True
        )
        self._closed = False
        self._thread.start()

    async def run(self, job: Job[T]) -> T:
        if self._closed:
            raise DatabaseUnavailable("the database is closed")
        waiting = _Waiting(job, asyncio.get_running_loop())
        self._queue.put(waiting)
        result: T = await waiting.future
        return result

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        open_ = True
        while open_:
            batch: list[_Waiting] = []
            item = self._queue.get()
            while item is not None:
                batch.append(item)
                if len(batch) >= _BATCH or self._queue.empty():
                    break
                item = self._queue.get()
            open_ = item is not None
            if batch:
                self._run_batch(batch)
                _tell_all(batch)
        self._engine.dispose()

    def _run_batch(self, batch: list[_Waiting]) -> None:
        """All jobs in one transaction; if one fails, each by itself, so that it spoils only its own."""
        try:
            with self._engine.begin() as connection:
                for waiting in batch:
                    waiting.result = waiting.job(connection)
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = _unavailable(error) if isinstance(error, DBAPIError) else error
                return
            for waiting in batch:
                self._run_batch([waiting])


def _tell_all(batch: list[_Waiting]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
    for waiting in batch:
        by_loop.setdefault(waiting.loop, []).append(waiting)
    for loop, told in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_tell, told)


def _tell(batch: list[_Waiting]) -> None:
    for waiting in batch:
        waiting.tell()
