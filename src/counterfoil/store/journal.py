"""The journal: append-only, the story of every link. It holds no personal data."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, TextClause, text

from counterfoil.store.driver import change_postgresql, is_here
from counterfoil.store.rows import write_batch

_encode = msgspec.json.Encoder().encode
Kind = Literal["news", "decision", "call", "result", "note", "unreadable"]

_COLUMNS = ("at", "subject_id", "kind", "what", "detail", "request_id", "ms", "body")
_LIST = ", ".join(_COLUMNS)
_ALWAYS = _COLUMNS.index("request_id")
"""So many columns have a value in every entry; those of news have no other."""
_NOTHING = (None,) * (len(_COLUMNS) - _ALWAYS)
_INSERT_NEWS = f"INSERT INTO journal ({', '.join(_COLUMNS[:_ALWAYS])}) VALUES {{rows}}"  # noqa: S608
_INSERT_HERE = f"INSERT INTO journal ({_LIST}) VALUES {{rows}}"  # noqa: S608
# PostgreSQL takes the entries as they are encoded: JSON, with bytes in base64.
_INSERT_SHARED = text(
    f"INSERT INTO journal ({_LIST})"  # noqa: S608
    " SELECT at, subject_id, kind, what, CAST(detail AS TEXT), request_id, ms, decode(body, 'base64')"
    " FROM json_to_recordset(CAST(:entries AS JSON)) AS r"
    " (at BIGINT, subject_id TEXT, kind TEXT, what TEXT, detail JSON, request_id TEXT, ms INTEGER, body TEXT)"
)
_STORY = text(
    "SELECT at, subject_id, kind, what, detail, request_id, ms FROM journal"
    " WHERE subject_id = :subject_id ORDER BY id DESC LIMIT :limit"
)
# A bounded bite: pruning must never hold the writer for long.
_PRUNE = (
    "DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE at < :before ORDER BY at LIMIT :limit{lock})"
)
_PRUNE_HERE = text(_PRUNE.format(lock=""))
_PRUNE_SHARED = text(_PRUNE.format(lock=" FOR UPDATE SKIP LOCKED"))


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line. ``ms``: how long a call took; ``body``: a signed body that could not be read."""

    at: int
    kind: Kind
    what: str
    subject_id: str | None = None
    detail: dict[str, Any] = {}
    request_id: str | None = None
    ms: int | None = None
    body: bytes | None = None


def append(connection: Connection, entries: Sequence[Entry]) -> None:
    """Write entries, in their order."""
    if not entries:
        return
    if not is_here(connection):
        statement, records = appending(entries)
        change_postgresql(connection, statement, {"entries": records})
        return
    rows = [
        (
            entry.at,
            entry.subject_id,
            entry.kind,
            entry.what,
            _encode(entry.detail).decode(),
            entry.request_id,
            entry.ms,
            entry.body,
        )
        for entry in entries
    ]
    if any(row[_ALWAYS:] != _NOTHING for row in rows):
        write_batch(connection, _INSERT_HERE, rows)
    else:
        write_batch(connection, _INSERT_NEWS, [row[:_ALWAYS] for row in rows])


def appending(entries: Sequence[Entry]) -> tuple[TextClause, str]:
    """PostgreSQL: the statement that appends entries, and its parameter ``entries``."""
    return _INSERT_SHARED, _encode(entries).decode()


def story(connection: Connection, subject_id: str, limit: int = 500) -> list[Entry]:
    """The last ``limit`` entries about a subject, oldest first."""
    rows = connection.execute(_STORY, {"subject_id": subject_id, "limit": limit}).all()
    return [
        Entry(
            at=row.at,
            subject_id=row.subject_id,
            kind=row.kind,
            what=row.what,
            detail=msgspec.json.decode(row.detail),
            request_id=row.request_id,
            ms=row.ms,
        )
        for row in reversed(rows)
    ]


def prune(connection: Connection, before: int, limit: int = 5_000) -> int:
    """Delete up to ``limit`` entries older than ``before``; returns how many went."""
    statement = _PRUNE_HERE if is_here(connection) else _PRUNE_SHARED
    return connection.execute(statement, {"before": before, "limit": limit}).rowcount
