"""The database under all processes: each job inline, in a transaction of its own, seen by the lookouts."""

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError

from counterfoil.engine import worker
from counterfoil.store import environment, figures
from counterfoil.store.engine import Job, T, connect, transact, unavailable
from tests.databases import Home
from tests.simulation.watch import Watch, register

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Ground:
    """One database, which backups are made of and put back to."""

    def __init__(self, home: Home, watch: Watch) -> None:
        self.home = home
        self.watched = home.kind == "sqlite"
        """Every row that is changed is seen."""
        self.url = home.migrated()
        self._watch = watch
        self._memory: dict[object, Any] = {}
        self._driver: Any = None
        self._known_at = 0
        self._open()

    def _open(self) -> None:
        self._engine = connect(self.url)
        self._open_connections: dict[bool, Connection] = {}
        self._memory.clear()
        if self.watched:
            event.listen(self._engine, "connect", self._connected)

    def _connected(self, driver: Any, _record: object) -> None:
        self._driver = driver
        register(self._watch, driver)

    def commit(self, process: "Process", job: Job[T]) -> T:
        """Run a job for a process, in a transaction of its own."""
        if self._finds_nothing(process, job):
            nothing: T = []  # type: ignore[assignment]
            return nothing
        self._watch.writer = process
        try:
            return self._transact(job, read_only=False)
        finally:
            self._watch.writer = None
            if not self.watched or self._changes() != self._known_at:
                self._memory.clear()

    def _finds_nothing(self, process: "Process", job: Job[Any]) -> bool:
        """A claim where nothing is due: what idle nodes do most of the time."""
        if getattr(job, "__qualname__", "") != _CLAIM:
            return False
        due = self.look(figures.next_due)
        return due is None or due > process.clock.now()

    def _changes(self) -> int:
        """How many rows this connection has changed (SQLite)."""
        return self._driver.total_changes if self._driver is not None else -1

    def look(self, job: Job[T]) -> T:
        """Read; what the idle loops ask again and again is remembered until somebody writes."""
        if job not in _REMEMBERED:
            return self._transact(job, read_only=True)
        if job not in self._memory:
            self._memory[job] = self._transact(job, read_only=True)
            self._known_at = self._changes()
        known: T = self._memory[job]
        return known

    def _transact(self, job: Job[T], *, read_only: bool) -> T:
        """As `InlineDatabase` does it, on connections that are kept: to get one is much of a short job's work."""
        if not self.watched:
            return transact(self._engine.execution_options(read_only=read_only), job)
        if read_only not in self._open_connections:
            engine = self._engine.execution_options(read_only=read_only)
            self._open_connections[read_only] = engine.connect()
        connection = self._open_connections[read_only]
        try:
            with connection.begin():
                return job(connection)
        except (DBAPIError, sqlite3.Error) as error:
            raise unavailable(error) from error

    async def backup(self) -> str:
        """A copy of the database, while it is used: its URL."""
        await self.close()
        return self.home.copy(self.url)

    async def put_back(self, copy: str | None) -> None:
        """Put a backup back, or begin with an empty database. No process may run."""
        await self.close()
        self.url = self.home.migrated() if copy is None else self.home.copy(copy)
        self._watch.holders.clear()
        self._open()

    async def close(self) -> None:
        """Let the database go; it opens again by itself."""
        for connection in self._open_connections.values():
            connection.close()
        self._open_connections.clear()
        self._engine.dispose()


_CLAIM = f"{worker.Worker._claim.__qualname__}.<locals>.job"
_REMEMBERED: frozenset[Callable[..., Any]] = frozenset({figures.next_due, environment.load})
