"""What a person decides about removals, and the breaker that stops them all.

These functions run in a transaction. The breaker's state is in the database's ``environment``, so that a restart
and other nodes agree; it is decided where a tombstone is folded and where a removal would be planned.
"""

from collections.abc import Sequence

import structlog
from sqlalchemy import Connection

from counterfoil.core.link import Deletion, Link, Ruling
from counterfoil.core.news import Ruled
from counterfoil.core.policy import DELETIONS_WITHIN
from counterfoil.store import environment, journal, links, tombstones
from counterfoil.store.journal import Entry

HELD_AT, RELEASED_AT = "deletions_held_at", "deletions_released_at"
_SAID = {
    Ruling.UNDO: "asked to call the removal off",
    Ruling.RELEASE: "asked to let the removal go on, whatever is subscribed",
}

_log = structlog.get_logger(__name__)


def are_held(connection: Connection, limit: int, now: int) -> bool:
    """Whether removals are held: since earlier, or because too many users went in the last hour.

    Args:
        connection: inside a transaction that may write.
        limit: so many tombstones are not too many; 0: no number is.
        now: milliseconds.
    """
    if limit == 0:
        return False
    known = environment.load(connection)
    if HELD_AT in known:
        return True
    # What a person has released counts no more.
    after = max(now - DELETIONS_WITHIN, int(known.get(RELEASED_AT, "0")))
    if tombstones.count_recent(connection, after, limit + 1) <= limit:
        return False
    environment.put(connection, {HELD_AT: str(now)})
    detail = {"limit": limit}
    journal.append(connection, [Entry(at=now, kind="note", what="deletions are held", detail=detail)])
    _log.error("deletions.held", more_than=limit, within="1h", release="counterfoil release deletions")
    return True


def held_removals(connection: Connection) -> int | None:
    """How many removals are held; ``None``: none is, the breaker is closed."""
    return tombstones.count_held(connection) if HELD_AT in environment.load(connection) else None


def release_deletions(connection: Connection, now: int) -> int:
    """Let removals go on, each after its user was read from Clerk; returns how many will be read.

    All in one transaction: there is no moment at which a held removal could go unread.
    """
    held_at = environment.load(connection).get(HELD_AT)
    if held_at is None:
        return 0
    count = tombstones.doubt_all(connection, int(held_at) - DELETIONS_WITHIN, now)
    environment.put(connection, {HELD_AT: None, RELEASED_AT: str(now)})
    detail = {"links": count}
    journal.append(connection, [Entry(at=now, kind="note", what="deletions are released", detail=detail)])
    return count


def rule(connection: Connection, subject_ids: Sequence[str], ruling: Ruling, since: int, now: int) -> int:
    """Tell links what a person has ruled about their removal.

    Returns:
        How many there were about which there is something to rule: of deleted users, with a customer left.
    """
    known = [each for each in subject_ids if _owes(links.get(connection, each))]
    links.fold_batch(connection, [Ruled(subject_id=each, ruling=ruling) for each in known], since, now)
    entries = [Entry(at=now, kind="news", what=_SAID[ruling], subject_id=each) for each in known]
    journal.append(connection, entries)
    return len(known)


def _owes(link: Link | None) -> bool:
    if link is None or link.deletion is Deletion.NONE:
        return False
    return link.customer_id is not None or link.intent_key is not None or link.sighted
