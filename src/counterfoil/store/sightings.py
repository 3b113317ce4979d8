"""Statements on sightings: customers that name a subject as theirs and that no link holds."""

from collections.abc import Sequence
from operator import itemgetter

from sqlalchemy import Connection, text

from counterfoil.core.link import Order, Sighting
from counterfoil.core.news import CustomerSeen
from counterfoil.store.driver import is_here, rows_of
from counterfoil.store.rows import ids_parameter, recordset, to_records
from counterfoil.store.schema import sightings as table

_SIGHTING = ("customer_id", "subject_id", "created", "mark", "archived", "ordered")
_SIGHT = (
    f"INSERT INTO sightings ({', '.join(_SIGHTING)}) {{rows}}"
    # A person may have moved the customer to another user since it was sighted, or archived it. What was approved
    # for it was approved for that user, and is not undone by meeting it again.
    " ON CONFLICT (customer_id) DO UPDATE SET subject_id = excluded.subject_id, archived = excluded.archived,"
    " ordered = CASE WHEN excluded.ordered = 0 AND sightings.subject_id = excluded.subject_id"
    " THEN sightings.ordered ELSE excluded.ordered END"
    " WHERE sightings.subject_id <> excluded.subject_id OR sightings.archived <> excluded.archived"
    " OR excluded.ordered <> 0"
)
_SIGHT_HERE = text(_SIGHT.format(rows="VALUES (:customer_id, :subject_id, :created, :mark, :archived, :ordered)"))
_SIGHT_SHARED = text(
    _SIGHT.format(rows=f"SELECT {', '.join(_SIGHTING)} FROM {recordset(table, _SIGHTING)}")  # noqa: S608
    + " RETURNING customer_id"
)
_SIGHTED = (
    "SELECT customer_id, subject_id, created, mark, archived, ordered FROM sightings WHERE subject_id {these}"
)
_SIGHTED_HERE = text(_SIGHTED.format(these="IN (SELECT value FROM json_each(:ids))"))
_SIGHTED_SHARED = text(_SIGHTED.format(these="= ANY(:ids)"))
_LAPSE = text("UPDATE sightings SET ordered = 0 WHERE customer_id = :customer_id")
_UNSIGHT = text("DELETE FROM sightings WHERE customer_id = :customer_id")


def sight(connection: Connection, seen: Sequence[CustomerSeen]) -> set[str]:
    """Keep the sightings of different customers; returns those that were not known so."""
    rows = [
        (each.customer_id, each.subject_id, each.created, each.mark, int(each.archived), int(each.order))
        for each in seen
    ]
    if is_here(connection):
        named = [dict(zip(_SIGHTING, row, strict=True)) for row in rows]
        return {str(each["customer_id"]) for each in named if connection.execute(_SIGHT_HERE, each).rowcount > 0}
    records = to_records(_SIGHTING, rows)
    return {row[0] for row in connection.execute(_SIGHT_SHARED, {"rows": records})}


def of_subjects(connection: Connection, subject_ids: Sequence[str]) -> dict[str, tuple[Sighting, ...]]:
    """The sightings of each of these subjects that has any."""
    found: dict[str, tuple[Sighting, ...]] = {}
    statement = _SIGHTED_HERE if is_here(connection) else _SIGHTED_SHARED
    rows = rows_of(connection, statement, {"ids": ids_parameter(connection, subject_ids)})
    # Ordered here: asked to do it, SQLite reads the whole table in that order.
    for customer_id, subject_id, created, mark, archived, ordered in sorted(rows, key=itemgetter(0)):
        sighting = Sighting(
            customer_id=customer_id,
            subject_id=subject_id,
            created=created,
            mark=mark,
            archived=bool(archived),
            order=Order(ordered),
        )
        found[subject_id] = (*found.get(subject_id, ()), sighting)
    return found


def lapse_order(connection: Connection, customer_id: str) -> None:
    """What was approved for a sighted customer cannot be done any more."""
    connection.execute(_LAPSE, {"customer_id": customer_id})


def forget(connection: Connection, customer_id: str) -> None:
    """The worker has dealt with a sighted customer."""
    connection.execute(_UNSIGHT, {"customer_id": customer_id})
