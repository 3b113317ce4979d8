"""Moving everything from one database to another: a copy that can be stopped, checked before it counts.

Two marks in the table ``environment`` say how far it is. The target carries `MOVING` from the first row on,
and nothing else may use it while it does; the source carries `MOVED_TO` once the copy was found to be the
same, and nothing may use it from then on. The source is marked before the target is let go, so at no time
can both be used.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Table, delete, func, select, text

from counterfoil.errors import ConfigurationError, DatabaseOutdated, DatabaseUnavailable
from counterfoil.store import environment
from counterfoil.store.engine import transact
from counterfoil.store.schema import journal, link_rows, sightings
from counterfoil.store.upgrade import upgrade

MOVING = "moving"
MOVED_TO = "moved_to"
_SOURCE = "move_id"
_MARKS = {MOVING, MOVED_TO, _SOURCE}
TABLES = (link_rows, sightings, journal)
_PAGE = 1_000
_BITS = 128
# Rows were copied with their numbers, of which PostgreSQL's own counter knows nothing.
_COUNT_ON = text(
    "SELECT setval(pg_get_serial_sequence('journal', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM journal), false)"
)


class Digest(msgspec.Struct, frozen=True):
    """A table's content, whatever order it is read in: the number of rows, and the sum of their hashes."""

    rows: int
    total: int


class Moving(msgspec.Struct, frozen=True):
    """The target's mark: which source is copied, and the last key that each table has (``tables`` in order)."""

    source: str
    table: int = 0
    after: str | int | None = None


class Report(msgspec.Struct, frozen=True):
    """What was moved: rows of each table. ``again``: the source had changed, and was copied once more."""

    rows: dict[str, int]
    again: bool = False


Told = Callable[[str, int, int], None]
"""Called with what is done (``copying``, ``checking``), how many rows of how many."""


def refuse_moved(known: Mapping[str, str]) -> None:
    """Say why a database may not be used, from its ``environment``.

    Raises:
        DatabaseOutdated: it was moved elsewhere, or a move to it has not ended.
    """
    if MOVED_TO in known:
        raise DatabaseOutdated(
            f"this database was moved to {known[MOVED_TO]}: set DATABASE_URL to that one. What is here is a copy "
            "from before the move, and must not be used again"
        )
    if MOVING in known:
        raise DatabaseOutdated("a move to this database has not ended: run the same `counterfoil move` again")


class Move:
    """One move; `run` may be called again after any interruption, in the same or in another process."""

    def __init__(self, source: Engine, target: Engine, told: Told) -> None:
        """Nobody else may use the source meanwhile: its owner's lock is held by the caller."""
        self._source = source
        self._reading = source.execution_options(read_only=True)
        self._target = target
        self._told = told
        self._done = 0
        self._total = 0

    def run(self) -> Report:
        """Copy, check, mark.

        Raises:
            ConfigurationError: the source has moved elsewhere, or the target holds something else.
            DatabaseUnavailable: one of them cannot be used; run it again.
        """
        transact(self._source, upgrade)
        transact(self._target, upgrade)
        moving = self._begin()
        known = transact(self._reading, environment.load)
        again = False
        if MOVED_TO not in known:
            self._copy(moving)
            if not self._same():
                # Somebody has used the source between two attempts: what was copied before is of no use.
                again = True
                transact(self._target, lambda connection: _clear(connection, moving.source))
                self._copy(Moving(moving.source))
                if not self._same():
                    raise DatabaseUnavailable("the copy is not the same as its source; nothing was marked")
            self._mark(known)
        transact(self._target, lambda connection: environment.put(connection, {MOVING: None}))
        rows = {table.name: transact(self._target, _counted(table)) for table in TABLES}
        return Report(rows, again)

    def _begin(self) -> Moving:
        source = transact(self._reading, environment.load)
        name = source.get(_SOURCE)
        target = transact(self._target.execution_options(read_only=True), environment.load)
        moving = msgspec.json.decode(target[MOVING], type=Moving) if MOVING in target else None
        if MOVED_TO in source and (moving is None or moving.source != name):
            raise ConfigurationError(f"the source was moved to {source[MOVED_TO]} already")
        if name is None:
            name = secrets.token_hex(8)
            transact(self._source, lambda connection: environment.put(connection, {_SOURCE: name}))
        if moving is None:
            if target or any(transact(self._target, _counted(table)) for table in TABLES):
                raise ConfigurationError(
                    "the target holds a database of Counterfoil already: name an empty one, or another "
                    "schema (COUNTERFOIL_SCHEMA)"
                )
            moving = Moving(name)
            transact(self._target, lambda connection: _remember(connection, moving))
        elif moving.source != name:
            raise ConfigurationError("the target is half-filled from another source: name an empty one")
        return moving

    def _copy(self, moving: Moving) -> None:
        counts = [transact(self._reading, _counted(table)) for table in TABLES]
        self._total = sum(counts)
        there = [transact(self._target, _counted(table)) for table in TABLES]
        self._done = sum(there)
        for number in range(moving.table, len(TABLES)):
            table = TABLES[number]
            (key,) = table.primary_key.columns
            after = moving.after if number == moving.table else None
            while True:
                self._told("copying", self._done, self._total)
                rows = transact(self._reading, _page(table, after))
                if not rows:
                    break
                after = rows[-1][key.name]
                transact(self._target, _write(table, rows, Moving(moving.source, number, after)))
                self._done += len(rows)

    def _same(self) -> bool:
        done = 0
        for table in TABLES:
            digests = []
            for engine in (self._reading, self._target.execution_options(read_only=True)):
                self._told("checking", done, 2 * self._total)
                digests.append(transact(engine, partial(digest, table=table)))
                done += digests[-1].rows
            if digests[0] != digests[1]:
                return False
        return True

    def _mark(self, known: Mapping[str, str]) -> None:
        pinned = {key: value for key, value in known.items() if key not in _MARKS}

        def finish(connection: Connection) -> None:
            environment.put(connection, pinned)
            if connection.dialect.name == "postgresql":
                connection.execute(_COUNT_ON)

        transact(self._target, finish)
        where = self._target.url.set(drivername="postgresql", password=None, query={}).render_as_string()
        transact(self._source, lambda connection: environment.put(connection, {MOVED_TO: where}))


def digest(connection: Connection, table: Table) -> Digest:
    """The content of ``table``, in flat memory; the same on both kinds of database."""
    rows, total = 0, 0
    found = connection.execution_options(yield_per=_PAGE).execute(select(table))
    for row in found:
        rows += 1
        seal = hashlib.blake2b(msgspec.json.encode(list(row)), digest_size=_BITS // 8).digest()
        total = (total + int.from_bytes(seal)) % (1 << _BITS)
    return Digest(rows, total)


def _counted(table: Table) -> Callable[[Connection], int]:
    return lambda connection: connection.execute(select(func.count()).select_from(table)).scalar_one()


def _page(table: Table, after: str | int | None) -> Callable[[Connection], list[dict[str, Any]]]:
    (key,) = table.primary_key.columns
    wanted = select(table).order_by(key).limit(_PAGE)
    if after is not None:
        wanted = wanted.where(key > after)
    return lambda connection: [dict(row) for row in connection.execute(wanted).mappings()]


def _write(table: Table, rows: list[dict[str, Any]], moving: Moving) -> Callable[[Connection], None]:
    def job(connection: Connection) -> None:
        connection.execute(table.insert(), rows)
        _remember(connection, moving)

    return job


def _remember(connection: Connection, moving: Moving) -> None:
    environment.put(connection, {MOVING: msgspec.json.encode(moving).decode()})


def _clear(connection: Connection, source: str) -> None:
    for table in TABLES:
        connection.execute(delete(table))
    _remember(connection, Moving(source))
