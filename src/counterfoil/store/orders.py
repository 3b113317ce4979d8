"""What an applied plan asks of links: folded like any other news, with the permissions that a person gave."""

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import Connection, text

from counterfoil.core.link import Fields, Link, Order, Ruling
from counterfoil.core.news import Asked, CustomerSeen, News, Ruled, Unconfirmed, UserBody, UserRead
from counterfoil.core.reading import holds_nul
from counterfoil.core.subject import user_id
from counterfoil.store import journal, links, sightings
from counterfoil.store.journal import Entry
from counterfoil.store.rows import fields_json

# The worker's columns: only where no worker holds the link, so that none writes its own copy over them.
# What is not known of a customer that we made or claimed is in doubt, and is written again as ever.
_PERMIT = text(
    "UPDATE link_rows SET applied = COALESCE(CAST(:applied AS TEXT), applied,"
    " CASE WHEN customer_id IS NULL OR sighted = 1 THEN CAST(:unwritten AS TEXT) END),"
    " written_back = COALESCE(CAST(:replaces AS TEXT), written_back), revision = revision + 1,"
    " due_at = :now, dirty_at = COALESCE(dirty_at, :now)"
    " WHERE subject_id = :subject_id AND held = 0"
)


class Errand(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of one link."""

    subject_id: str
    item: str
    """The plan's own name for it, for the journal."""
    body: UserBody | None = None
    """The user, read just now; ``None``: gone, which the link's turn confirms."""
    customers: tuple[CustomerSeen, ...] = ()
    """Customers for which something was approved."""
    applied: Fields | None = None
    """What the link's customer carries: what differs from the user is written."""
    unwritten: Fields | None = None
    """What it is taken to carry where that is not known: the user's values are not written until they change."""
    replaces: str | None = None
    """What the user's metadata holds, and may be written over."""


def place(connection: Connection, errands: Sequence[Errand], since: int, now: int) -> list[str]:
    """Ask links for what was approved, in the bulk lane.

    Args:
        connection: inside a transaction that may write.
        errands: one for each subject.
        since: the first start (ms).
        now: milliseconds.

    Returns:
        The subjects that a worker holds just now, so that not all could be told: ask again later.
    """
    # A held link that needs a permission is told nothing yet: news would have its next turn begin where this one
    # ends, so that it could be held whenever it is asked.
    asking = [each.subject_id for each in errands if _needs_permission(each)]
    held = [key for key, link in links.many(connection, asking).items() if link.held] if asking else []
    told = [each for each in errands if each.subject_id not in held]
    news: list[News] = []
    for errand in told:
        news += errand.customers
        if errand.body is None:
            news += [
                Unconfirmed(subject_id=errand.subject_id),
                Ruled(subject_id=errand.subject_id, ruling=Ruling.PLANNED),
            ]
        else:
            news += [
                Asked(subject_id=errand.subject_id, want=True, bulk=True),
                UserRead(body=errand.body),
            ]
    links.fold_batch(connection, news, since, now)
    held += [each.subject_id for each in told if not _permitted(connection, each, now)]
    entries = [
        Entry(
            at=now, kind="news", what="a plan was applied", subject_id=each.subject_id, detail={"item": each.item}
        )
        for each in told
    ]
    journal.append(connection, entries)
    return held


def _needs_permission(errand: Errand) -> bool:
    return errand.applied is not None or errand.unwritten is not None or errand.replaces is not None


def _permitted(connection: Connection, errand: Errand, now: int) -> bool:
    if not _needs_permission(errand):
        return True
    values = {
        "subject_id": errand.subject_id,
        "applied": fields_json(errand.applied),
        "unwritten": fields_json(errand.unwritten),
        "replaces": errand.replaces,
        "now": now,
    }
    return connection.execute(_PERMIT, values).rowcount > 0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a link stands, and which of its sighted customers still have something approved to be done."""

    link: Link
    ordered: tuple[str, ...] = ()


def standings(connection: Connection, subject_ids: Sequence[str]) -> Mapping[str, Standing]:
    """The links of these subjects, as far as there are any."""
    found = links.many(connection, subject_ids)
    sighted = sightings.of_subjects(connection, subject_ids) if subject_ids else {}
    return {
        key: Standing(
            link=link,
            ordered=tuple(each.customer_id for each in sighted.get(key, ()) if each.order is not Order.NONE),
        )
        for key, link in found.items()
    }


def decode(data: bytes) -> list[Errand]:
    """Errands from JSON.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: see `NOT_JSON`; or what cannot be stored.
        BadSubject: a subject is none of Clerk's.
    """
    if holds_nul(data):
        raise msgspec.ValidationError("a text holds a NUL character")
    errands = _decoder.decode(data)
    for errand in errands:
        _check(errand)
    return errands


def _check(errand: Errand) -> None:
    """An errand is about one subject, and its times are of 64 bits."""
    user_id(errand.subject_id)
    body, times = errand.body, [each.created for each in errand.customers]
    others = {each.subject_id for each in errand.customers}
    if body is not None:
        times += [body.version, body.created_at]
        others.add(body.subject_id)
    if others - {errand.subject_id}:
        raise msgspec.ValidationError("an errand about several subjects")
    if not all(0 <= time < 2**63 for time in times):
        raise msgspec.ValidationError("a time is out of range")


def encode(errands: Sequence[Errand]) -> bytes:
    """Errands as JSON."""
    return msgspec.json.encode(errands)


_decoder: msgspec.json.Decoder[list[Errand]] = msgspec.json.Decoder(list[Errand])
