"""Statements on the links of deleted users: for the deletion breaker, and for what waits."""

import msgspec
from sqlalchemy import Connection, text

from counterfoil.core.link import Doubt

# A customer was there to lose, or is there still: deletions of users whom we never served count for nothing.
_SERVED = "(customer_id IS NOT NULL OR intent_key IS NOT NULL OR generation > 0)"
# Neither done, nor called off, nor known by a plan alone, which says itself what goes.
_OPEN = (
    "deleted_at IS NOT NULL AND (ended IS NULL OR ended = 'closing') AND ruling <> 1"
    " AND (ruling <> 3 OR wanted = 1)"
)
# What a removal is still owed. The last part are customers that only a scan has met.
_OWED = (
    f"{_OPEN} AND (customer_id IS NOT NULL OR intent_key IS NOT NULL OR (sighted = 1 AND dirty_at IS NOT NULL))"
)
_RECENT = text(
    "SELECT COUNT(*) FROM (SELECT 1 FROM link_rows"  # noqa: S608
    f" WHERE deleted_at > :after AND {_SERVED} AND ruling <> 3 LIMIT :limit) AS r"
)
_HELD = text(f"SELECT COUNT(*) FROM link_rows WHERE {_OWED}")  # noqa: S608
_WAITING = text(
    "SELECT COUNT(*) AS links, MIN(due_at) AS next_due FROM link_rows"  # noqa: S608
    f" WHERE {_OPEN} AND customer_id IS NOT NULL AND due_at IS NOT NULL AND parked IS NULL"
)
# Those who went shortly before the breaker opened are asked for too. As for news: a lease is left alone, and
# the revision moves, so that no turn under way ends as if nothing had happened.
_DOUBT = text(
    "UPDATE link_rows SET must_confirm = :read, doubted_at = :now, revision = revision + 1,"  # noqa: S608
    " due_at = CASE WHEN held > 0 THEN due_at ELSE :now END, dirty_at = COALESCE(dirty_at, :now)"
    f" WHERE ({_OWED}) OR (deleted_at > :after AND {_SERVED})"
)


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Removals that are owed and wait. ``next_due``: when the first goes on (milliseconds)."""

    links: int
    next_due: int | None


def count_recent(connection: Connection, after: int, limit: int) -> int:
    """Tombstones of users who had a customer, younger than ``after`` (ms); it stops counting at ``limit``.

    Those that a person approved with a plan (`Ruling.PLANNED`) count for nothing.
    """
    return connection.execute(_RECENT, {"after": after, "limit": limit}).scalar() or 0


def count_held(connection: Connection) -> int:
    """The links whose removal is owed: all of them wait while deletions are held."""
    return connection.execute(_HELD).scalar() or 0


def waiting(connection: Connection) -> Waiting:
    """What waits for a grace period, for a period's end, or for the breaker."""
    row = connection.execute(_WAITING).one()
    return Waiting(links=row.links, next_due=row.next_due)


def doubt_all(connection: Connection, after: int, now: int) -> int:
    """Have every deleted user read from Clerk before anything else is done about it.

    Args:
        connection: inside a transaction that may write.
        after: users deleted later than this (ms) are read even where their customer is gone already.
        now: milliseconds.

    Returns:
        How many will be read.
    """
    values = {"read": int(Doubt.READ), "now": now, "after": after}
    return connection.execute(_DOUBT, values).rowcount
