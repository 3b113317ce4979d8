"""Links to rows and back."""

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import cache
from itertools import chain
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, TextualSelect, column, text

from counterfoil.core.link import Address, Deletion, Doubt, Ended, Fields, Lane, Link, ParkReason, Ruling
from counterfoil.store.driver import POSTGRESQL, driver, is_here

COLUMNS = Link.__struct_fields__
COLUMN_LIST = ", ".join(COLUMNS)
WORKER_COLUMNS = COLUMNS[COLUMNS.index("customer_id") : COLUMNS.index("due_at")]
NEWCOMER_COLUMNS = (
    "subject_id",
    "source_version",
    "fields",
    "address",
    "wanted",
    "revision",
    "due_at",
    "dirty_at",
)
"""What differs from the columns' defaults in the row of nearly every user who signs up."""
_INTAKE_COLUMNS = (*COLUMNS[: COLUMNS.index("customer_id")], "due_at", "dirty_at", "lane")
INTAKE_COLUMNS = (*NEWCOMER_COLUMNS, *(name for name in _INTAKE_COLUMNS if name not in NEWCOMER_COLUMNS))
_SIZES = (64, 32, 16, 8, 4, 2, 1)
"""Rows of one statement: a few sizes, so that the driver knows each statement already."""
_encoder = msgspec.json.Encoder()
_decode_fields = msgspec.json.Decoder(Fields).decode


def _members(kind: type[IntEnum]) -> Callable[[int], IntEnum]:
    """The members by their numbers, which go up from 0: several times as fast as calling the class."""
    members = tuple(kind)
    assert [int(member) for member in members] == list(range(len(members)))
    return members.__getitem__


_READERS = tuple(
    (COLUMNS.index(name), read)
    for read, names in (
        ((False, True).__getitem__, ("eligible", "wanted", "asked", "sighted", "claiming")),
        (_members(Address), ("address",)),
        (_members(Deletion), ("deletion",)),
        (_members(Doubt), ("must_confirm",)),
        (_members(Ruling), ("ruling",)),
        (_members(Lane), ("lane",)),
        (_decode_fields, ("fields", "applied", "intent_params")),
        (Ended, ("ended",)),
        (ParkReason, ("parked",)),
    )
    for name in names
)
"""How values are read that a database holds otherwise than a link does."""


def fields_json(fields: Fields | None) -> str | None:
    """Fields, as a column holds them."""
    return None if fields is None else _encoder.encode(fields).decode()


def to_row(link: Link) -> dict[str, Any]:
    """The parameters of a statement, one per column."""
    row = {name: getattr(link, name) for name in COLUMNS}
    row["wanted"] = int(link.wanted)
    row["sighted"] = int(link.sighted)
    row["eligible"] = int(link.eligible)
    row["asked"] = int(link.asked)
    row["claiming"] = int(link.claiming)
    row["fields"] = fields_json(link.fields)
    row["applied"] = fields_json(link.applied)
    row["intent_params"] = fields_json(link.intent_params)
    for name in ("address", "deletion", "must_confirm", "ruling", "lane"):
        row[name] = int(row[name])
    row["parked"] = str(link.parked) if link.parked is not None else None
    row["ended"] = str(link.ended) if link.ended is not None else None
    return row


def to_intake_row(link: Link) -> tuple[Any, ...]:
    """The values of intake's columns and of the schedule, in the order of `INTAKE_COLUMNS`: on the hot path."""
    return (
        link.subject_id,
        link.source_version,
        fields_json(link.fields),
        int(link.address),
        int(link.wanted),
        link.revision,
        link.due_at,
        link.dirty_at,
        link.link_back,
        link.private_name,
        int(link.eligible),
        link.mapping_error,
        int(link.asked),
        int(link.sighted),
        link.deleted_at,
        int(link.deletion),
        int(link.must_confirm),
        link.doubted_at,
        link.absent_at,
        int(link.ruling),
        int(link.lane),
    )


OTHER_DEFAULTS = to_intake_row(Link(subject_id=""))[len(NEWCOMER_COLUMNS) :]
"""What a row holds of intake's columns that are not among `NEWCOMER_COLUMNS`, unless there is more to say."""


def to_link(row: Sequence[Any]) -> Link:
    """A link from a row selected with `COLUMN_LIST`."""
    values = list(row)
    for place, read in _READERS:
        value = values[place]
        if value is not None:
            values[place] = read(value)
    return Link(*values)


def returning_links(statement: str, *more: str) -> TextualSelect:
    """A statement whose rows have the columns of `COLUMN_LIST`, and then ``more``.

    Told what they are, SQLAlchemy remembers how such rows are read; it found that out anew at every execution.
    """
    return text(statement).columns(*map(column, (*COLUMNS, *more)))


def ids_parameter(connection: Connection, ids: Iterable[str]) -> str | list[str]:
    """Many ids as one parameter."""
    return _encoder.encode(sorted(ids)).decode() if is_here(connection) else sorted(ids)


def write_batch(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """SQLite: carry out ``statement``, whose ``{rows}`` are many rows at once; all of the same length.

    Not row by row: the driver gives the interpreter away and takes it back for each statement, and whoever else
    wants it makes that slow. Each value of each row costs, NULL too: a statement names no columns for nothing.
    """
    execute = driver(connection).execute
    start = 0
    for size in _SIZES:
        while len(rows) - start >= size:
            values = tuple(chain.from_iterable(rows[start : start + size]))
            execute(_of_many(statement, len(rows[0]), size), values)
            start += size


@cache
def _of_many(statement: str, columns: int, size: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return statement.format(rows=", ".join([row] * size))


def recordset(table: Table, names: Iterable[str]) -> str:
    """PostgreSQL: rows of these columns, from one parameter ``rows``: see `to_records`.

    One statement and one parameter for a whole batch: the server takes JSON apart faster than we could bind
    values.
    """
    types = {name: table.c[name].type.compile(dialect=POSTGRESQL) for name in names}
    columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
    return f"json_to_recordset(CAST(:rows AS JSON)) AS r ({columns})"


def to_records(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The parameter of a statement with `recordset`."""
    return _encoder.encode([dict(zip(names, row, strict=True)) for row in rows]).decode()
