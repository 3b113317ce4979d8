"""Rows, put and looked at directly."""

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, text

from counterfoil.core.link import Fields, Link
from counterfoil.core.news import UserBody, UserEvent
from counterfoil.store import links
from counterfoil.store.rows import COLUMN_LIST, COLUMNS, to_row

S = TypeVar("S", bound=msgspec.Struct)
NOW = 1_790_000_000_000
SINCE = NOW - 1_000_000
LEASE_END = NOW + 120_000
_PUT = text(f"INSERT INTO link_rows ({COLUMN_LIST}) VALUES ({', '.join(f':{name}' for name in COLUMNS)})")


def put(connection: Connection, *made: Link) -> None:
    """Write whole rows, as no part of the product does."""
    connection.execute(_PUT, [to_row(link) for link in made])


def due(subject_id: str, **more: Any) -> Link:
    """A link that waits for a worker."""
    values: dict[str, Any] = {"revision": 1, "due_at": NOW, "dirty_at": NOW, **more}
    return Link(subject_id=subject_id, **values)


def got(connection: Connection, subject_id: str) -> Link:
    """A link that must be there."""
    link = links.get(connection, subject_id)
    assert link is not None
    return link


def claimed(connection: Connection, link: Link) -> Link:
    """The link, put there and claimed."""
    put(connection, link)
    (mine,) = links.claim(connection, NOW, LEASE_END, 1)
    return mine


def event(subject_id: str, version: int = NOW, **more: Any) -> UserEvent:
    """A fresh and trusted ``user.created``."""
    email = more.pop("email", "ada@example.com")
    body = UserBody(subject_id=subject_id, version=version, created_at=NOW, fields=Fields(email=email), **more)
    return UserEvent(body=body, created=True, sent_at=NOW, trusted=True)


def changed(given: S, **values: Any) -> S:
    """The same with other values."""
    return msgspec.structs.replace(given, **values)


def explained_claim(connection: Connection, now: int, limit: int, *, by_database: bool) -> list[dict[str, Any]]:
    """PostgreSQL: claim live links, and give every node of the plan as it was run; the first is the root."""
    explained = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {links._CLAIM_SHARED}")
    values = {"lane": 0, "now": now, "lease_end": now + 120_000, "limit": limit, "by_database": by_database}
    return list(_nodes(connection.execute(explained, values).scalar_one()[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)
