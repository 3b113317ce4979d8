"""Every statement on links, each with a name and a reason; those on sightings are in `sightings`.

Intake's columns are written only by `fold_batch`, the worker's only by `save`: neither ever writes the
other's, so that news and work need no lock between them.

Whoever locks several links on PostgreSQL locks them in the order of their ids, or skips those that are
locked: so two transactions can hardly wait for each other. Where they do, the server ends one of them, and it
is run again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, TextClause, TextualSelect, text

from counterfoil.core.fold import fold_news
from counterfoil.core.link import Ended, Link, Order
from counterfoil.core.news import CustomerSeen, News
from counterfoil.store import sightings
from counterfoil.store.driver import change_postgresql, driver, is_here, rows_of
from counterfoil.store.rows import (
    COLUMN_LIST,
    INTAKE_COLUMNS,
    NEWCOMER_COLUMNS,
    OTHER_DEFAULTS,
    WORKER_COLUMNS,
    ids_parameter,
    recordset,
    returning_links,
    to_intake_row,
    to_link,
    to_records,
    to_row,
    write_batch,
)
from counterfoil.store.schema import link_rows

CHUNK = 500
"""Rows a statement names at most (SQLite takes 32,766 parameters, PostgreSQL 65,535)."""


def _assign(names: Iterable[str]) -> str:
    return ", ".join(f"{name} = :{name}" for name in names)


# The statements are made of this module's own column names and of bound parameters.
_SELECT_ONE = returning_links(f"SELECT {COLUMN_LIST} FROM link_rows WHERE subject_id = :subject_id")  # noqa: S608
# One parameter for all ids: the statement is the same for every batch.
_SELECT_HERE = f"SELECT {COLUMN_LIST} FROM link_rows WHERE subject_id IN (SELECT value FROM json_each(?))"  # noqa: S608
_SELECT_LOCKED = returning_links(
    f"SELECT {COLUMN_LIST} FROM link_rows WHERE subject_id = ANY(:ids) ORDER BY subject_id FOR UPDATE"  # noqa: S608
)
_SELECT_MANY = returning_links(f"SELECT {COLUMN_LIST} FROM link_rows WHERE subject_id = ANY(:ids)")  # noqa: S608
_SELECT_PAGE = returning_links(
    f"SELECT {COLUMN_LIST} FROM link_rows WHERE subject_id > :after ORDER BY subject_id LIMIT :limit"  # noqa: S608
)
_INTAKE_LIST = ", ".join(INTAKE_COLUMNS)
_EXCLUDED = ", ".join(f"{name} = excluded.{name}" for name in INTAKE_COLUMNS[1:])
_FOLD_HERE = (
    f"INSERT INTO link_rows ({_INTAKE_LIST}) VALUES {{rows}}"  # noqa: S608
    f" ON CONFLICT (subject_id) DO UPDATE SET {_EXCLUDED}"
)
_ADD_HERE = f"INSERT INTO link_rows ({', '.join(NEWCOMER_COLUMNS)}) VALUES {{rows}}"  # noqa: S608
_OTHERS = len(NEWCOMER_COLUMNS)
_RECORDS = recordset(link_rows, INTAKE_COLUMNS)
_ADD = text(
    f"INSERT INTO link_rows ({_INTAKE_LIST}) SELECT {_INTAKE_LIST} FROM {_RECORDS}"  # noqa: S608
    " ON CONFLICT (subject_id) DO NOTHING"
)
# What another node has made meanwhile is not returned: it is there now, and can be locked.
_ADD_SHARED = text(f"{_ADD.text} RETURNING subject_id")
_CHANGE_SHARED = text(
    f"UPDATE link_rows SET {', '.join(f'{name} = r.{name}' for name in INTAKE_COLUMNS[1:])} FROM {_RECORDS}"  # noqa: S608
    " WHERE link_rows.subject_id = r.subject_id"
)
_DROP = text("DELETE FROM link_rows WHERE subject_id = :subject_id AND customer_id IS NULL AND intent_key IS NULL")
# Whoever takes over a lease that ran out cannot know what the last holder still wrote: applied = NULL.
_LEASED = (
    "lease = lease + 1, held = held + 1, due_at = {lease_end},"
    " applied = CASE WHEN held > 0 THEN NULL ELSE applied END"
)
_CLAIM_HERE = returning_links(
    f"UPDATE link_rows SET {_LEASED.format(lease_end=':lease_end')} WHERE subject_id IN"  # noqa: S608
    " (SELECT subject_id FROM link_rows WHERE lane = :lane AND due_at <= :now ORDER BY due_at LIMIT :limit)"
    f" RETURNING {COLUMN_LIST}"
)
# Of nodes whose clocks differ none may take what another holds, so the database's own time counts.
_TIME = (
    "CASE WHEN CAST(:by_database AS BOOLEAN)"
    " THEN CAST(extract(epoch FROM statement_timestamp()) * 1000 AS BIGINT) ELSE CAST(:now AS BIGINT) END"
)
_LEASE_END = f"{_TIME} + :lease_end - CAST(:now AS BIGINT)"
# MATERIALIZED and ARRAY: planned as a join, the lane could be read, and locked, again and again.
_CLAIM_SHARED = returning_links(
    "WITH due AS MATERIALIZED (SELECT subject_id, due_at AS was_due FROM link_rows"  # noqa: S608
    f" WHERE lane = :lane AND due_at <= {_TIME} ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED),"
    f" claimed AS (UPDATE link_rows SET {_LEASED.format(lease_end=_LEASE_END)}"
    " WHERE subject_id = ANY (ARRAY (SELECT subject_id FROM due))"
    f" RETURNING {COLUMN_LIST})"
    f" SELECT {COLUMN_LIST}, was_due FROM claimed JOIN due USING (subject_id)",
    "was_due",
)
_SAVE = returning_links(
    f"UPDATE link_rows SET {_assign(WORKER_COLUMNS)} WHERE subject_id = :subject_id AND lease = :lease"  # noqa: S608
    f" RETURNING {COLUMN_LIST}"
)
# No intent is ever committed after the tombstone.
_OPEN_INTENT = returning_links(
    f"UPDATE link_rows SET {_assign(WORKER_COLUMNS)} WHERE subject_id = :subject_id AND lease = :lease"  # noqa: S608
    f" AND deleted_at IS NULL RETURNING {COLUMN_LIST}"
)
# News that came during the turn (another revision) makes the link due at once instead.
_RELEASE = returning_links(
    f"UPDATE link_rows SET {_assign(WORKER_COLUMNS)}, held = 0,"  # noqa: S608
    " due_at = CASE WHEN revision = :revision THEN CAST(:next_due AS BIGINT) ELSE :now END,"
    " dirty_at = CASE WHEN revision = :revision AND :clean = 1 THEN NULL ELSE dirty_at END,"
    " lane = CASE WHEN revision = :revision AND :clean = 1 THEN 0 ELSE lane END"
    f" WHERE subject_id = :subject_id AND lease = :lease RETURNING {COLUMN_LIST}"
)
_DISOWN = text(
    "UPDATE link_rows SET applied = NULL, revision = revision + 1, dirty_at = COALESCE(dirty_at, :now),"
    " written_back = COALESCE(CAST(:written_back AS TEXT), written_back),"
    " ended = COALESCE(CAST(:ended AS TEXT), ended),"
    " due_at = CASE WHEN held > 0 THEN due_at ELSE :now END WHERE subject_id = :subject_id"
)
_RECLAIM = text("UPDATE link_rows SET due_at = :at WHERE held > 0 AND due_at > :at")
_WAITING = "dirty_at IS NOT NULL AND held = 0 AND parked IS NULL AND due_at > :now AND absent_at IS NULL"
_HASTEN_HERE = text(f"UPDATE link_rows SET due_at = :now WHERE {_WAITING}")  # noqa: S608
_HASTEN_SHARED = text(
    "UPDATE link_rows SET due_at = :now WHERE subject_id IN"  # noqa: S608
    f" (SELECT subject_id FROM link_rows WHERE {_WAITING} ORDER BY subject_id FOR UPDATE)"
)
_RECONSIDER = (
    "UPDATE link_rows SET due_at = :now, lane = CASE WHEN dirty_at IS NULL THEN 1 ELSE lane END,"
    " dirty_at = COALESCE(dirty_at, :now) WHERE {these}"
)
_UNDECIDED = "deleted_at IS NULL AND held = 0 AND (due_at IS NULL OR due_at > :now)"
# A changed policy may decide otherwise about everybody who is there; they go after live news.
_RECONSIDER_HERE = text(_RECONSIDER.format(these=_UNDECIDED))
_RECONSIDER_SHARED = text(
    _RECONSIDER.format(
        these="subject_id IN"  # noqa: S608
        f" (SELECT subject_id FROM link_rows WHERE {_UNDECIDED} ORDER BY subject_id FOR UPDATE)"
    )
)
_OWNER = text("SELECT subject_id FROM link_rows WHERE customer_id = :customer_id")


def fold_batch(connection: Connection, news: Sequence[News], since: int, now: int) -> list[str]:
    """Fold a batch of news into its links, all in the caller's transaction.

    Args:
        connection: inside a transaction that may write.
        news: in the order in which it was taken; several of one subject are folded in turn.
        since: the first start, milliseconds.
        now: milliseconds.

    Returns:
        The subjects whose link has something to think about now.
    """
    moved: list[str] = []
    for start in range(0, len(news), CHUNK):
        moved += _fold_chunk(connection, news[start : start + CHUNK], since, now)
    return moved


def _fold_chunk(connection: Connection, news: Sequence[News], since: int, now: int) -> list[str]:
    before = _lock(connection, {each.subject_id for each in news})
    return _fold_rows(connection, before, _heard(connection, before, news), since, now)


def _heard(connection: Connection, before: Mapping[str, Link], news: Sequence[News]) -> Sequence[News]:
    """``news`` without customers that are none: those that their link holds, and those sighted already."""
    if not any(isinstance(each, CustomerSeen) for each in news):
        return news
    seen = {
        each.customer_id: each
        for each in news
        if isinstance(each, CustomerSeen)
        and (
            each.order is not Order.NONE
            or each.subject_id not in before
            or before[each.subject_id].customer_id != each.customer_id
        )
    }
    new = sightings.sight(connection, [seen[key] for key in sorted(seen)]) if seen else set()
    return [
        each
        for each in news
        if not isinstance(each, CustomerSeen) or (each.customer_id in new and each is seen[each.customer_id])
    ]


def _fold_rows(
    connection: Connection, before: dict[str, Link], news: Sequence[News], since: int, now: int
) -> list[str]:
    after: dict[str, Link | None] = dict(before)
    for each in news:
        after[each.subject_id] = fold_news(after.get(each.subject_id), each, since, now)
    changed = {key: link for key, link in after.items() if link is not None and link is not before.get(key)}
    late = _write(connection, before, changed)
    dropped = [{"subject_id": key} for key, link in after.items() if link is None and key in before]
    if dropped:
        connection.execute(_DROP, dropped)
    moved = [
        key
        for key, link in changed.items()
        if key not in late and (key not in before or link.revision != before[key].revision)
    ]
    if late:
        again = [each for each in news if each.subject_id in late]
        moved += _fold_rows(connection, _lock(connection, late), again, since, now)
    return moved


def _lock(connection: Connection, ids: Collection[str]) -> dict[str, Link]:
    """The links of ``ids`` that exist, held against other writers until the transaction ends."""
    return _these(connection, ids, _SELECT_LOCKED)


def _these(connection: Connection, ids: Collection[str], shared: TextualSelect) -> dict[str, Link]:
    these = ids_parameter(connection, ids)
    if is_here(connection):
        rows: Iterable[Sequence[Any]] = driver(connection).execute(_SELECT_HERE, (these,))
    else:
        rows = rows_of(connection, shared, {"ids": these})
    return {row[0]: to_link(row) for row in rows}


def _write(connection: Connection, before: Collection[str], links: Mapping[str, Link]) -> set[str]:
    """Write intake's columns of ``links``; returns those that another node has made since we looked."""
    if is_here(connection):
        _write_here(connection, before, links)
        return set()
    new = {key: link for key, link in links.items() if key not in before}
    known = [links[key] for key in links if key in before]
    if known:
        change_postgresql(
            connection, _CHANGE_SHARED, {"rows": to_records(INTAKE_COLUMNS, map(to_intake_row, known))}
        )
    if not new:
        return set()
    _, records = adding(new)
    return new.keys() - {row[0] for row in rows_of(connection, _ADD_SHARED, {"rows": records})}


def _write_here(connection: Connection, before: Collection[str], links: Mapping[str, Link]) -> None:
    """As `_write`, on SQLite; of newcomers only what is not a default anyway."""
    newcomers, others = [], []
    for key, link in links.items():
        row = to_intake_row(link)
        if row[_OTHERS:] == OTHER_DEFAULTS and key not in before:
            newcomers.append(row[:_OTHERS])
        else:
            others.append(row)
    write_batch(connection, _ADD_HERE, newcomers)
    write_batch(connection, _FOLD_HERE, others)


def adding(links: Mapping[str, Link]) -> tuple[TextClause, str]:
    """PostgreSQL: the statement that makes those links that are not there, and its parameter ``rows``."""
    rows = (to_intake_row(links[key]) for key in sorted(links))
    return _ADD, to_records(INTAKE_COLUMNS, rows)


def get(connection: Connection, subject_id: str) -> Link | None:
    """One link, or ``None``."""
    return _one(connection, _SELECT_ONE, {"subject_id": subject_id})


def _one(connection: Connection, statement: TextualSelect, values: Mapping[str, Any]) -> Link | None:
    """The link that a statement has found or written, or ``None``."""
    rows = rows_of(connection, statement, values)
    return to_link(rows[0]) if rows else None


def many(connection: Connection, subject_ids: Collection[str]) -> dict[str, Link]:
    """Those of these links that there are."""
    return _these(connection, subject_ids, _SELECT_MANY)


def after(connection: Connection, subject_id: str, limit: int) -> list[Link]:
    """A page of all links, in the order of their ids."""
    return [to_link(row) for row in connection.execute(_SELECT_PAGE, {"after": subject_id, "limit": limit})]


def claim(
    connection: Connection, now: int, lease_end: int, limit: int, *, by_database: bool = False
) -> list[Link]:
    """Take a lease on up to ``limit`` due links, live ones first.

    Args:
        connection: inside a transaction that may write.
        now: milliseconds.
        lease_end: the same.
        limit: how many.
        by_database: PostgreSQL's own time counts in place of ``now``, and the lease lasts as long from then.

    Returns:
        The links as claimed: ``lease`` is the claimer's number, ``held`` over 1 tells that an earlier
        lease ran out; ``due_at`` is the lease's end.
    """
    statement = _CLAIM_HERE if is_here(connection) else _CLAIM_SHARED
    claimed: list[Link] = []
    for lane in (0, 1):
        if len(claimed) < limit:
            values = {"lane": lane, "now": now, "lease_end": lease_end, "limit": limit - len(claimed)}
            if statement is _CLAIM_SHARED:
                values["by_database"] = by_database
            rows = rows_of(connection, statement, values)
            if statement is _CLAIM_SHARED:  # the longest due first; sorted here, the plan needs no sort
                rows = [row[:-1] for row in sorted(rows, key=itemgetter(-1))]
            claimed += [to_link(row) for row in rows]
    return claimed


def save(connection: Connection, link: Link) -> Link | None:
    """Write the worker's columns under the link's lease, which is kept.

    Returns:
        The row as it is now, with the news that came meanwhile; ``None``: the lease is gone.
    """
    return _one(connection, _SAVE, to_row(link))


def open_intent(connection: Connection, link: Link) -> Link | None:
    """As `save`, for a new intent: refused (``None``) too where a tombstone came meanwhile."""
    return _one(connection, _OPEN_INTENT, to_row(link))


def release(connection: Connection, link: Link, now: int, due_at: int | None, *, clean: bool) -> Link | None:
    """Write the worker's columns and give the lease back.

    Args:
        connection: inside a transaction that may write.
        link: with the lease and the revision that the turn was decided on.
        now: milliseconds.
        due_at: when to come back; ``None``: not before there is news.
        clean: nothing is owed; without news meanwhile the link counts as settled.

    Returns:
        The row as it is now; ``None``: the lease is gone.
    """
    values = to_row(link) | {"now": now, "next_due": due_at, "clean": int(clean)}
    return _one(connection, _RELEASE, values)


def disown(
    connection: Connection,
    subject_id: str,
    now: int,
    written_back: str | None = None,
    ended: Ended | None = None,
) -> None:
    """A holder found its lease gone after an effect: whatever was known of the customer is not known now.

    ``written_back``: the customer id that it wrote to Clerk's metadata, which must stay known as our own;
    ``ended``: what it made of the customer.
    """
    values = {"written_back": written_back, "ended": str(ended) if ended is not None else None}
    connection.execute(_DISOWN, {"subject_id": subject_id, "now": now, **values})


def reclaim(connection: Connection, at: int) -> int:
    """Let all leases end at ``at``, if they last longer: for the sole owner of a database, at its start.

    Whoever held them is dead; a call that it sent may still be on its way, so they do not end at once.
    """
    return connection.execute(_RECLAIM, {"at": at}).rowcount


def hasten(connection: Connection, now: int) -> int:
    """An upstream is back: whoever waits for another try need not wait any longer.

    Those that wait for the second of two 404s wait for time to pass, and go on doing so.
    """
    statement = _HASTEN_HERE if is_here(connection) else _HASTEN_SHARED
    return connection.execute(statement, {"now": now}).rowcount


def reconsider(connection: Connection, now: int) -> int:
    """The policy has changed: every link of a user who is there is to be planned anew."""
    statement = _RECONSIDER_HERE if is_here(connection) else _RECONSIDER_SHARED
    return connection.execute(statement, {"now": now}).rowcount


def owner_of(connection: Connection, customer_id: str) -> str | None:
    """The subject whose link holds this customer, or ``None``."""
    rows = rows_of(connection, _OWNER, {"customer_id": customer_id})
    return str(rows[0][0]) if rows else None
