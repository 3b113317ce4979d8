"""Every statement on links and sightings, each with a name and a reason.

Intake's columns are written only by `fold_batch`, the worker's only by `save`: neither ever writes the
other's, so that news and work need no lock between them.
"""

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import Connection, bindparam, text

from counterfoil.core.fold import fold_news
from counterfoil.core.link import Doubt, Ended, Link, Sighting
from counterfoil.core.news import CustomerSeen, News
from counterfoil.store.rows import (
    COLUMN_LIST,
    INTAKE_COLUMNS,
    WORKER_COLUMNS,
    driver_sql,
    to_intake_row,
    to_link,
    to_row,
)

CHUNK = 500
"""Rows a statement names at most (SQLite takes 32,766 parameters, PostgreSQL 65,535)."""


def _assign(names: Iterable[str]) -> str:
    return ", ".join(f"{name} = :{name}" for name in names)


# The statements are made of this module's own column names and of bound parameters.
_SELECT_ONE = text(f"SELECT {COLUMN_LIST} FROM links WHERE subject_id = :subject_id")  # noqa: S608
# One parameter for all ids: the statement is the same for every batch.
_SELECT_HERE = text(
    f"SELECT {COLUMN_LIST} FROM links WHERE subject_id IN (SELECT value FROM json_each(:ids))"  # noqa: S608
)
# PostgreSQL: rows are locked in one order by everybody, so that two nodes cannot wait for each other.
_SELECT_LOCKED = text(
    f"SELECT {COLUMN_LIST} FROM links WHERE subject_id = ANY(:ids) ORDER BY subject_id FOR UPDATE"  # noqa: S608
)
_BLANK = text("INSERT INTO links (subject_id) VALUES (:subject_id) ON CONFLICT (subject_id) DO NOTHING")
_FOLDED = ", ".join(f"{name} = excluded.{name}" for name in INTAKE_COLUMNS[1:])
_FOLD = (
    f"INSERT INTO links ({', '.join(INTAKE_COLUMNS)}) VALUES ({{values}})"  # noqa: S608
    f" ON CONFLICT (subject_id) DO UPDATE SET {_FOLDED}"
)
_DROP = text("DELETE FROM links WHERE subject_id = :subject_id AND customer_id IS NULL AND intent_key IS NULL")
_SIGHT = text(
    "INSERT INTO sightings (customer_id, subject_id, created, mark, archived)"
    " VALUES (:customer_id, :subject_id, :created, :mark, :archived)"
    # A person may have moved the customer to another user since it was sighted, or archived it.
    " ON CONFLICT (customer_id) DO UPDATE SET subject_id = excluded.subject_id, archived = excluded.archived"
    " WHERE sightings.subject_id <> excluded.subject_id OR sightings.archived <> excluded.archived"
)
_SIGHTED = text(
    "SELECT customer_id, subject_id, created, mark, archived FROM sightings"
    " WHERE subject_id IN :ids ORDER BY customer_id"
).bindparams(bindparam("ids", expanding=True))
_UNSIGHT = text("DELETE FROM sightings WHERE customer_id = :customer_id")
_CLAIM = """
    UPDATE links SET lease = lease + 1, held = held + 1, due_at = :lease_end,
           applied = CASE WHEN held > 0 THEN NULL ELSE applied END
     WHERE subject_id IN (SELECT subject_id FROM links WHERE lane = :lane AND due_at <= :now
                           ORDER BY due_at LIMIT :limit {lock})
 RETURNING {columns}
"""
# Whoever takes over a lease that ran out cannot know what the last holder still wrote: applied = NULL.
_CLAIM_HERE = text(_CLAIM.format(columns=COLUMN_LIST, lock=""))
_CLAIM_SHARED = text(_CLAIM.format(columns=COLUMN_LIST, lock="FOR UPDATE SKIP LOCKED"))
_SAVE = text(
    f"UPDATE links SET {_assign(WORKER_COLUMNS)} WHERE subject_id = :subject_id AND lease = :lease"  # noqa: S608
    f" RETURNING {COLUMN_LIST}"
)
# No intent is ever committed after the tombstone.
_OPEN_INTENT = text(
    f"UPDATE links SET {_assign(WORKER_COLUMNS)} WHERE subject_id = :subject_id AND lease = :lease"  # noqa: S608
    f" AND deleted_at IS NULL RETURNING {COLUMN_LIST}"
)
# News that came during the turn (another revision) makes the link due at once instead.
_RELEASE = text(
    f"UPDATE links SET {_assign(WORKER_COLUMNS)}, held = 0,"  # noqa: S608
    " due_at = CASE WHEN revision = :revision THEN CAST(:next_due AS BIGINT) ELSE :now END,"
    " dirty_at = CASE WHEN revision = :revision AND :clean = 1 THEN NULL ELSE dirty_at END,"
    " lane = CASE WHEN revision = :revision AND :clean = 1 THEN 0 ELSE lane END"
    f" WHERE subject_id = :subject_id AND lease = :lease RETURNING {COLUMN_LIST}"
)
_DISOWN = text(
    "UPDATE links SET applied = NULL, revision = revision + 1, dirty_at = COALESCE(dirty_at, :now),"
    " written_back = COALESCE(CAST(:written_back AS TEXT), written_back),"
    " ended = COALESCE(CAST(:ended AS TEXT), ended),"
    " due_at = CASE WHEN held > 0 THEN due_at ELSE :now END WHERE subject_id = :subject_id"
)
_RECLAIM = text("UPDATE links SET due_at = :at WHERE held > 0 AND due_at > :at")
_HASTEN = text(
    "UPDATE links SET due_at = :now WHERE dirty_at IS NOT NULL AND held = 0 AND parked IS NULL"
    " AND due_at > :now AND must_confirm <> :read"
)
_OWNER = text("SELECT subject_id FROM links WHERE customer_id = :customer_id")


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
    ids = sorted({each.subject_id for each in news})
    before = _lock(connection, ids)
    after: dict[str, Link | None] = {key: link if link.revision else None for key, link in before.items()}
    for each in news:
        link = after.get(each.subject_id)
        if isinstance(each, CustomerSeen):
            if link is not None and link.customer_id == each.customer_id:
                continue
            seen = {**msgspec.structs.asdict(each), "archived": int(each.archived)}
            if connection.execute(_SIGHT, seen).rowcount == 0:
                continue
        after[each.subject_id] = fold_news(link, each, since, now)
    changed = [
        to_intake_row(link) for key, link in after.items() if link is not None and link is not before.get(key)
    ]
    if changed:
        statement = driver_sql(connection.dialect.name, _FOLD, len(INTAKE_COLUMNS))
        connection.exec_driver_sql(statement, changed)
    dropped = [{"subject_id": key} for key, link in after.items() if link is None and key in before]
    if dropped:
        connection.execute(_DROP, dropped)
    return [
        key
        for key, link in after.items()
        if link is not None and (key not in before or link.revision != before[key].revision)
    ]


def _lock(connection: Connection, ids: list[str]) -> dict[str, Link]:
    """The links of ``ids``, held against other writers until the transaction ends."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(_SELECT_HERE, {"ids": msgspec.json.encode(ids).decode()})
        return {row[0]: to_link(row) for row in rows}
    # A row must exist to be locked; one of revision 0 is blank, and counts as none.
    connection.execute(_BLANK, [{"subject_id": each} for each in ids])
    return {row[0]: to_link(row) for row in connection.execute(_SELECT_LOCKED, {"ids": ids})}


def get(connection: Connection, subject_id: str) -> Link | None:
    """One link, or ``None``."""
    row = connection.execute(_SELECT_ONE, {"subject_id": subject_id}).first()
    return None if row is None else to_link(row)


def sightings_of(connection: Connection, subject_ids: Sequence[str]) -> dict[str, tuple[Sighting, ...]]:
    """The sightings of each of these subjects that has any."""
    found: dict[str, tuple[Sighting, ...]] = {}
    for row in connection.execute(_SIGHTED, {"ids": list(subject_ids)}):
        sighting = Sighting(
            customer_id=row.customer_id,
            subject_id=row.subject_id,
            created=row.created,
            mark=row.mark,
            archived=bool(row.archived),
        )
        found[row.subject_id] = (*found.get(row.subject_id, ()), sighting)
    return found


def forget_sighting(connection: Connection, customer_id: str) -> None:
    """The worker has dealt with a sighted customer."""
    connection.execute(_UNSIGHT, {"customer_id": customer_id})


def claim(connection: Connection, now: int, lease_end: int, limit: int) -> list[Link]:
    """Take a lease on up to ``limit`` due links, live ones first.

    Returns:
        The links as claimed: ``lease`` is the claimer's number, ``held`` over 1 tells that an earlier
        lease ran out.
    """
    statement = _CLAIM_HERE if connection.dialect.name == "sqlite" else _CLAIM_SHARED
    claimed: list[Link] = []
    for lane in (0, 1):
        if len(claimed) < limit:
            values = {"lane": lane, "now": now, "lease_end": lease_end, "limit": limit - len(claimed)}
            claimed += [to_link(row) for row in connection.execute(statement, values)]
    return claimed


def save(connection: Connection, link: Link) -> Link | None:
    """Write the worker's columns under the link's lease, which is kept.

    Returns:
        The row as it is now, with the news that came meanwhile; ``None``: the lease is gone.
    """
    row = connection.execute(_SAVE, to_row(link)).first()
    return None if row is None else to_link(row)


def open_intent(connection: Connection, link: Link) -> Link | None:
    """As `save`, for a new intent: refused (``None``) too where a tombstone came meanwhile."""
    row = connection.execute(_OPEN_INTENT, to_row(link)).first()
    return None if row is None else to_link(row)


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
    row = connection.execute(_RELEASE, values).first()
    return None if row is None else to_link(row)


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

    Those that wait for the second of two reads (`Doubt.READ`) wait for time to pass, and go on doing so.
    """
    return connection.execute(_HASTEN, {"now": now, "read": int(Doubt.READ)}).rowcount


def owner_of(connection: Connection, customer_id: str) -> str | None:
    """The subject whose link holds this customer, or ``None``."""
    row = connection.execute(_OWNER, {"customer_id": customer_id}).first()
    return None if row is None else str(row[0])
