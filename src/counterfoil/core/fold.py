"""What news does to a link: one versioned fold for every source.

The order in which news arrives does not matter: for any interleaving the link ends the same, but for
``revision`` and times. (So a link is a small lattice: the highest version wins; of two bodies of one
version the greater wins and a read decides; a signed deletion is above everything.)
"""

from typing import assert_never

import msgspec

from counterfoil.core.link import Address, Deletion, Doubt, Fields, Lane, Link, ParkReason, Ruling
from counterfoil.core.news import (
    Asked,
    CustomerSeen,
    News,
    Ruled,
    Unconfirmed,
    UserAbsent,
    UserBody,
    UserDeleted,
    UserEvent,
    UserRead,
)
from counterfoil.core.policy import ABSENT_TWICE, AHEAD, OLD_READ_WINS, RETRY_AGE

_replace = msgspec.structs.replace
# Made once: a union in the call itself is made anew for each delivery.
_OF_THE_KNOWN = (UserAbsent, Ruled)
_LIVE = (UserEvent, UserDeleted, Ruled)


def fold_news(link: Link | None, news: News, since: int, now: int) -> Link | None:
    """Fold ``news`` into ``link``.

    Args:
        link: the row as it is; ``None`` where there is none.
        news: one piece of news about this subject.
        since: the first start (milliseconds): users created after it get customers.
        now: milliseconds.

    Returns:
        The new row: the very same object where nothing changed; ``None`` to drop the row, for a user
        that never was (the dashboard's example event).
    """
    if link is None and isinstance(news, UserRead) and max(news.body.created_at, news.body.version) < since:
        return None  # met on a list, older than the first start and not changed since: no row until it is
    if link is None and isinstance(news, _OF_THE_KNOWN):
        return None
    base = link if link is not None else Link(subject_id=news.subject_id)
    if isinstance(news, UserAbsent) and never_used(base) and news.at_revision == base.revision:
        return None
    new = _fold(base, news, since, now)
    if new is link or (link is not None and new == link):
        return link
    return _schedule(link, new, news, now)


def _fold(link: Link, news: News, since: int, now: int) -> Link:
    alive = link.deletion is not Deletion.SIGNED
    match news:
        case UserEvent():
            return _fold_event(link, news, since, now)
        case UserRead():
            return _fold_read(link, news, since, now)
        case UserDeleted():
            return _fold_deletion(link, news, now)
        case UserAbsent():
            return _fold_absence(link, news, now)
        case Unconfirmed():
            return link if link.deletion else _doubt(link, Doubt.READ, now)
        case Asked():
            want = news.want and alive
            asked = _replace(
                link, wanted=link.wanted or want, asked=link.asked or want, revision=link.revision + 1
            )
            # Whoever asks about a parked link has mended something, and its news may have been lost.
            mended = link.parked not in {None, ParkReason.OBSERVED} and link.deletion is Deletion.NONE
            return _doubt(asked, Doubt.READ, now) if mended else asked
        case Ruled():
            # A plan rules about those whom no deletion was known of; of others the usual rules have begun.
            fits = (link.deletion is not Deletion.NONE) != (news.ruling is Ruling.PLANNED)
            return _replace(link, ruling=news.ruling, revision=link.revision + 1) if fits else link
        case CustomerSeen():
            # An archived customer tells of a user who is gone, if of anybody.
            ours = alive and not news.archived and (news.mark is not None or news.created >= since)
            return _replace(link, wanted=link.wanted or ours, sighted=True, revision=link.revision + 1)
        case _ as never:
            assert_never(never)


def never_used(link: Link) -> bool:
    """No customer was ever made, meant or named for this link: nothing is lost with it."""
    return (
        link.customer_id is None
        and link.intent_key is None
        and link.generation == 0
        and link.written_back is None
        and not link.sighted
        and link.deletion is Deletion.NONE
    )


def _schedule(link: Link | None, new: Link, news: News, now: int) -> Link:
    """Make the link due where the news gives a worker something to think about."""
    if link is not None and link.parked is None and _same_but_for_times(link, new):
        return new  # only a later version of what is known already: our own echo, a sign-in
    live = isinstance(news, _LIVE) or (isinstance(news, Asked) and not news.bulk)
    lane = Lane.LIVE if live or (new.dirty_at is not None and new.lane is Lane.LIVE) else Lane.BULK
    return _replace(
        new,
        # `Asked`, `Ruled` and `CustomerSeen` have moved the revision already.
        revision=new.revision + (link is None or new.revision == link.revision),
        # While a worker holds the lease, due_at is the lease's end and not ours to bring forward.
        due_at=new.due_at if new.held else min(now, new.due_at if new.due_at is not None else now),
        dirty_at=new.dirty_at if new.dirty_at is not None else now,
        lane=lane,
    )


def _same_but_for_times(link: Link, new: Link) -> bool:
    times = {"source_version": new.source_version, "absent_at": new.absent_at, "doubted_at": new.doubted_at}
    return _replace(link, **times) == new


def _doubt(link: Link, doubt: Doubt, now: int) -> Link:
    if doubt is Doubt.NONE:
        trusted = link.must_confirm is doubt and link.doubted_at is None
        return link if trusted else _replace(link, must_confirm=doubt, doubted_at=None)
    since = link.doubted_at if link.must_confirm and link.doubted_at is not None else now
    return _replace(link, must_confirm=doubt, doubted_at=since)


def _with_body(link: Link, body: UserBody, *, wanted: bool) -> Link:
    return _replace(
        link,
        wanted=wanted,
        source_version=body.version,
        fields=body.fields,
        link_back=body.link_back,
        private_name=body.private_name,
        address=body.address,
        eligible=body.eligible,
        mapping_error=body.mapping_error,
    )


def _holds(link: Link, body: UserBody) -> bool:
    """Whether the link has just this body: the delivery came twice."""
    return (
        link.fields == body.fields
        and link.link_back == body.link_back
        and link.private_name == body.private_name
        and link.address is body.address
        and link.eligible is body.eligible
        and link.mapping_error == body.mapping_error
    )


def _weight(body: Link | UserBody) -> tuple[str | int | list[tuple[str, str]], ...]:
    """An order among bodies of one version, the same on every node, whichever came first.

    What the settings make of a body counts too: after they were changed, a delivery that comes again is read
    once and agrees from then on, and no later version is touched by it.
    """
    known = body.fields or Fields()
    return (
        known.email or "",
        known.name or "",
        body.link_back or "",
        body.private_name or "",
        known.phone or "",
        known.description or "",
        sorted((known.metadata or {}).items()),
        body.address,
        body.eligible,
        body.mapping_error or "",
    )


def _fold_event(link: Link, event: UserEvent, since: int, now: int) -> Link:
    if link.deletion is Deletion.SIGNED:
        return link
    body = event.body
    wanted = link.wanted or event.created or body.created_at >= since
    stale = now - event.sent_at > RETRY_AGE or max(event.sent_at, body.version) > now + AHEAD
    gone = link.deletion is Deletion.ABSENT
    doubt = Doubt.UNSURE if stale or gone or not event.trusted else Doubt.NONE
    if body.version > link.source_version:
        kept = Doubt.READ if link.must_confirm is Doubt.READ else doubt
        return _doubt(_with_body(link, body, wanted=wanted), kept, now)
    link = link if wanted == link.wanted else _replace(link, wanted=wanted)
    if body.version < link.source_version:
        return link
    if _holds(link, body):
        joined = link.must_confirm if link.must_confirm >= Doubt.CONFLICT else min(link.must_confirm, doubt)
        return _doubt(link, joined, now)
    conflict = max(link.must_confirm, Doubt.CONFLICT)
    heavier = _weight(body) > _weight(link)
    return _doubt(_with_body(link, body, wanted=wanted) if heavier else link, conflict, now)


def _fold_read(link: Link, read: UserRead, since: int, now: int) -> Link:
    body = read.body
    confirms = read.at_revision is not None and read.at_revision == link.revision
    # A signed deletion is final, unless a person had it asked for again: then it is doubted itself.
    if link.deletion is Deletion.SIGNED and not (confirms and link.must_confirm is Doubt.READ):
        return link
    had_one = link.deletion is Deletion.SIGNED and (link.customer_id is not None or link.generation > 0)
    wanted = link.wanted or had_one or body.created_at >= since
    link = _replace(link, wanted=wanted, absent_at=None, ruling=Ruling.NONE)
    if link.deletion is not Deletion.NONE:
        link = _replace(link, deletion=Deletion.NONE, deleted_at=None)
    if body.version < link.source_version:
        patience = link.doubted_at is None or now - link.doubted_at <= OLD_READ_WINS
        if patience or not confirms:
            return link
    elif body.version > link.source_version and link.must_confirm is not Doubt.READ:
        confirms = True  # what was doubted is an older body than this one
    new = _with_body(link, body, wanted=link.wanted)
    return _doubt(new, Doubt.NONE, now) if confirms else new


def _erased(link: Link, deletion: Deletion, at: int) -> Link:
    """The tombstone: nothing of the user is kept but the id."""
    return _replace(
        link,
        source_version=0,
        fields=None,
        link_back=None,
        private_name=None,
        address=Address.NONE,
        eligible=True,
        mapping_error=None,
        wanted=link.wanted and deletion is not Deletion.SIGNED,
        asked=link.asked and deletion is not Deletion.SIGNED,
        deletion=deletion,
        deleted_at=at,
        must_confirm=Doubt.NONE,
        doubted_at=None,
        absent_at=None,
    )


def _fold_deletion(link: Link, news: UserDeleted, now: int) -> Link:
    if link.deletion is Deletion.SIGNED:
        return link
    if not news.trusted:
        return _doubt(link, Doubt.READ, now)
    if link.ruling is Ruling.PLANNED:
        link = _replace(link, ruling=Ruling.NONE)  # from here on it is a deletion like any other
    return _erased(link, Deletion.SIGNED, link.deleted_at if link.deleted_at is not None else now)


def _fold_absence(link: Link, news: UserAbsent, now: int) -> Link:
    if news.at_revision != link.revision:
        return link
    if link.deletion is Deletion.SIGNED:
        return _doubt(link, Doubt.NONE, now)
    if link.deletion is Deletion.ABSENT:
        return _erased(link, Deletion.ABSENT, link.deleted_at if link.deleted_at is not None else now)
    if link.absent_at is None:
        return _replace(_doubt(link, Doubt.READ, now), absent_at=now)
    # Clerk's reads may lag: of a user who was there just now, a 404 may be an answer of before that.
    there = min(link.source_version, link.absent_at)
    if now < max(link.absent_at + ABSENT_TWICE, there + OLD_READ_WINS):
        return link
    return _erased(link, Deletion.ABSENT, now)
