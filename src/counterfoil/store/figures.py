"""Read-only figures about all links: for status, metrics, the walk and retry."""

import msgspec
from sqlalchemy import Connection, text

from counterfoil.core.link import Link
from counterfoil.store import tombstones
from counterfoil.store.driver import rows_of
from counterfoil.store.rows import COLUMN_LIST, returning_links, to_link
from counterfoil.store.tombstones import Waiting

_COUNTS = text(
    "SELECT COUNT(*) AS links, COUNT(deleted_at) AS deleted, COUNT(customer_id) AS linked,"
    " COUNT(refused_email) AS flagged FROM link_rows"
)
_UNREADABLE = text("SELECT COUNT(*) FROM journal WHERE subject_id IS NULL AND kind = 'unreadable'")
_DIRTY = text("SELECT COUNT(*) AS unsettled, MIN(dirty_at) AS oldest FROM link_rows WHERE dirty_at IS NOT NULL")
_PARKED = text(
    "SELECT parked, COUNT(*) AS parked_links FROM link_rows WHERE parked IS NOT NULL"
    " GROUP BY parked ORDER BY parked"
)
_PARKED_IDS = text(
    "SELECT subject_id FROM link_rows WHERE parked IS NOT NULL AND (:reason = '' OR parked = :reason)"
    " AND subject_id > :after ORDER BY subject_id LIMIT :limit"
)
# Lane by lane, each answer is the first entry of the index: asked every second by every worker.
_NEXT_DUE = text(
    "SELECT MIN(due) FROM (SELECT MIN(due_at) AS due FROM link_rows WHERE lane = 0 AND due_at IS NOT NULL"
    " UNION ALL SELECT MIN(due_at) FROM link_rows WHERE lane = 1 AND due_at IS NOT NULL) AS lanes"
)
_UNWALKED = returning_links(
    f"SELECT {COLUMN_LIST} FROM link_rows"  # noqa: S608 - our own column names
    " WHERE walked < :walk AND deleted_at IS NULL AND source_version < :started"
    # Customers of users who were gone before our first start are for the audit, not for us.
    " AND (wanted = 1 OR walked > 0 OR source_version > 0)"
    " AND subject_id > :after ORDER BY subject_id LIMIT :limit"
)
_WALKED_HERE = text("UPDATE link_rows SET walked = :walk WHERE subject_id IN (SELECT value FROM json_each(:ids))")
_WALKED_SHARED = text(
    "UPDATE link_rows SET walked = :walk WHERE subject_id IN"
    " (SELECT subject_id FROM link_rows WHERE subject_id = ANY(:ids) ORDER BY subject_id FOR UPDATE)"
)


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What is not settled. ``oldest``: since when the oldest unsettled link is dirty (milliseconds)."""

    unsettled: int
    oldest: int | None
    parked: dict[str, int]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How all links stand."""

    links: int
    deleted: int
    linked: int
    flagged: int
    """Stripe refused the user's address; the customer has none, or an older one."""
    removals: Waiting
    unreadable: int
    """Signed bodies that could not be read, kept in the journal."""
    backlog: Backlog


def backlog(connection: Connection) -> Backlog:
    """Count what is not settled, from indexes alone."""
    unsettled, oldest = connection.execute(_DIRTY).one()
    parked = {row.parked: row.parked_links for row in connection.execute(_PARKED)}
    return Backlog(unsettled=unsettled, oldest=oldest, parked=parked)


def figures(connection: Connection) -> Figures:
    """Count everything: one pass over the links."""
    counts = connection.execute(_COUNTS).one()
    return Figures(
        links=counts.links,
        deleted=counts.deleted,
        linked=counts.linked,
        flagged=counts.flagged,
        removals=tombstones.waiting(connection),
        unreadable=connection.execute(_UNREADABLE).scalar() or 0,
        backlog=backlog(connection),
    )


def parked_ids(connection: Connection, reason: str, after: str, limit: int) -> list[str]:
    """Parked subjects in the order of their ids; ``reason`` "" means any."""
    values = {"reason": reason, "after": after, "limit": limit}
    return [row[0] for row in connection.execute(_PARKED_IDS, values)]


def next_due(connection: Connection) -> int | None:
    """When the next link is due, or ``None`` where all are settled."""
    [(due,)] = rows_of(connection, _NEXT_DUE, {})
    return None if due is None else int(due)


def mark_walked(connection: Connection, subject_ids: list[str], walk: int) -> None:
    """The walk of this number has met these users."""
    if connection.dialect.name == "sqlite":
        ids = msgspec.json.encode(subject_ids).decode()
        connection.execute(_WALKED_HERE, {"walk": walk, "ids": ids})
    else:
        connection.execute(_WALKED_SHARED, {"walk": walk, "ids": subject_ids})


def unwalked(connection: Connection, walk: int, started: int, after: str, limit: int) -> list[Link]:
    """Links that this walk should have met and did not: a page, in the order of their ids."""
    values = {"walk": walk, "started": started, "after": after, "limit": limit}
    return [to_link(row) for row in connection.execute(_UNWALKED, values)]
