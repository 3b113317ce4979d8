"""Who runs the store's functions, and when they commit.

`SqliteDatabase` (in a module of its own) and `PostgresqlDatabase` are what serves. PostgreSQL has many
writers and gathers their commits itself: each job is a transaction of its own, on a few connections, and one
connection is kept for the work that somebody waits for. `InlineDatabase` runs each job where it is called:
for a command that runs alone, and for a simulation that must replay.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Engine

from counterfoil.errors import DatabaseUnavailable
from counterfoil.store.deliveries import Deliveries
from counterfoil.store.engine import SCHEMA, Job, T, connect, transact
from counterfoil.store.pipeline import Pipeline

Given = TypeVar("Given")
"""What threads are handed."""

_WRITERS = 3
"""Connections to PostgreSQL for writing, beside the urgent one."""


class Database(Protocol):
    """Runs plain functions of a connection."""

    async def write(self, job: Job[T], *, urgent: bool = False) -> T:
        """Run ``job`` in a transaction and return what it returns, once that is on disk.

        A job may be run again from the start if the transaction it shared was rolled back, so it has no
        effect but on the database. ``urgent``: somebody waits for the answer; it need not wait for other
        jobs, as far as the database allows.

        Raises:
            DatabaseUnavailable: nothing of the job was kept; or, where the connection was lost while it was
                being committed, nobody knows.
        """

    async def take(self, batch: Deliveries) -> None:
        """Write a batch of deliveries; all of it is on disk when this returns.

        Raises:
            DatabaseUnavailable: not all of it was kept, or nobody knows.
        """
        await self.write(batch.write, urgent=True)

    async def read(self, job: Job[T]) -> T:
        """Run ``job`` on a snapshot; it sees all that was committed before the call."""

    async def tidy(self) -> None:
        """Leave nothing of what was erased in the database's files, as far as that is in our hands.

        Raises:
            DatabaseUnavailable: it could not be done now.
        """

    async def close(self) -> None:
        """Finish what was handed in, then let the database go."""


class InlineDatabase(Database):
    """Runs every job where it is called, each in a transaction of its own."""

    def __init__(self, url: str, schema: str = SCHEMA) -> None:
        self._engine = connect(url, schema)
        self._reader = self._engine.execution_options(read_only=True)

    async def write(self, job: Job[T], *, urgent: bool = False) -> T:
        return transact(self._engine, job)

    async def read(self, job: Job[T]) -> T:
        return transact(self._reader, job)

    async def tidy(self) -> None:
        """Closing does it."""

    async def close(self) -> None:
        self._engine.dispose()


class Waiting:
    """A job, or what else threads are handed, on its way, and the future of whoever waits for it."""

    __slots__ = ("error", "future", "job", "loop", "result")

    def __init__(self, job: Any, loop: asyncio.AbstractEventLoop) -> None:
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


class PostgresqlDatabase(Database):
    """Jobs on threads of their own, so that the event loop goes on meanwhile; newcomers from the loop itself."""

    def __init__(self, url: str, schema: str = SCHEMA) -> None:
        # Work in one transaction would hold row locks for each other, in no order: a deadlock with the
        # next node's. Each by itself, and whoever locks several rows locks them in their order.
        self._writer = Lane("database-writer", connect(url, schema, _WRITERS), threads=_WRITERS)
        self._urgent = Lane("database-urgent", connect(url, schema))
        self._newcomers = Pipeline(connect(url, schema))
        self._reader = Lane("database-reader", connect(url, schema).execution_options(read_only=True))

    async def write(self, job: Job[T], *, urgent: bool = False) -> T:
        return await (self._urgent if urgent else self._writer).run(job)

    async def take(self, batch: Deliveries) -> None:
        left = await batch.send_newcomers(self._newcomers)
        if left is not None:
            await self.write(left.write, urgent=True)

    async def read(self, job: Job[T]) -> T:
        return await self._reader.run(job)

    async def tidy(self) -> None:
        """The server vacuums by itself."""

    async def close(self) -> None:
        for each in (self._newcomers, self._urgent, self._writer, self._reader):
            await each.close()


class Threads(Generic[Given]):
    """Threads that take from one queue what is handed in, and carry it out."""

    def __init__(self, name: str, carry_out: Callable[[Given], Any], threads: int = 1) -> None:
        self._carry_out = carry_out
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(threads)]
        self._closed = False
        for thread in self._threads:
            thread.start()

    def hand_in(self, given: Given) -> asyncio.Future[Any]:
        """What comes of it.

        Raises:
            DatabaseUnavailable: they are closed.
        """
        if self._closed:
            raise DatabaseUnavailable("the database is closed")
        waiting = Waiting(given, asyncio.get_running_loop())
        self._queue.put(waiting)
        return waiting.future

    async def close(self) -> None:
        """Finish what was handed in."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._queue.put(None)
            for thread in self._threads:
                await asyncio.to_thread(thread.join)

    def _work(self) -> None:
        while (waiting := self._queue.get()) is not None:
            try:
                waiting.result = self._carry_out(waiting.job)
            except Exception as error:
                waiting.error = error
            if not waiting.loop.is_closed():
                waiting.loop.call_soon_threadsafe(waiting.tell)


class Lane(Threads[Job[Any]]):
    """Threads for jobs, each in a transaction of its own."""

    def __init__(self, name: str, engine: Engine, *, threads: int = 1) -> None:
        self._engine = engine
        super().__init__(name, partial(transact, engine), threads)

    async def run(self, job: Job[T]) -> T:
        result: T = await self.hand_in(job)
        return result

    async def close(self) -> None:
        await super().close()
        self._engine.dispose()
