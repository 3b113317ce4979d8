"""The database under all processes: each job inline, in a transaction of its own, seen by the lookouts."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from counterfoil.engine import worker
from counterfoil.store import environment, figures
from counterfoil.store.database import InlineDatabase
from counterfoil.store.engine import Job, T
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
        self._database = InlineDatabase(self.url)
        self._memory.clear()
        if self.watched:
            event.listen(self._database._engine, "connect", self._connected)

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
            return _now(self._database.write(job))
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
            return _now(self._database.read(job))
        if job not in self._memory:
            self._memory[job] = _now(self._database.read(job))
            self._known_at = self._changes()
        known: T = self._memory[job]
        return known

    async def backup(self) -> str:
        """A copy of the database, while it is used: its URL."""
        await self.close()  # it opens again by itself
        return self.home.copy(self.url)

    async def put_back(self, copy: str | None) -> None:
        """Put a backup back, or begin with an empty database. No process may run."""
        await self.close()
        self.url = self.home.migrated() if copy is None else self.home.copy(copy)
        self._watch.holders.clear()
        self._open()

    async def close(self) -> None:
        """Let the database go."""
        await self._database.close()


def _now(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("an inline database waits for nothing")


_CLAIM = f"{worker.Worker._claim.__qualname__}.<locals>.job"
_REMEMBERED: frozenset[Callable[..., Any]] = frozenset({figures.next_due, environment.load})
