"""What the tests of the rules share: fixed times, short builders, and news to draw from."""

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st

from counterfoil.core.fold import fold_news
from counterfoil.core.link import Address, Fields, Lane, Link, Ruling, Sighting
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
from counterfoil.core.policy import HOUR, MINUTE, SECOND, Policy
from counterfoil.core.step import World

DAY = 24 * HOUR
NOW = 1_800_000_000_000
SINCE = NOW - 30 * DAY
SUBJECT = "user_1"

POLICY = Policy(environment="test environment", since=SINCE, livemode=False)
WORLD = World(seen_to=NOW - 30 * SECOND, stripe_now=NOW)

ADA = Fields(email="ada@example.com", name="Ada")
BOB = Fields(email="bob@example.com", name="Bob")

_COLUMNS = list(Link.__struct_fields__)
_FROM, _TO = _COLUMNS.index("customer_id"), _COLUMNS.index("due_at")
INTAKE, WORKER, SCHEDULE = _COLUMNS[:_FROM], _COLUMNS[_FROM:_TO], _COLUMNS[_TO:]

replace = msgspec.structs.replace


def quick(examples: int) -> settings:
    """Settings of a property: the same examples on every run, on every machine."""
    return settings(
        derandomize=True,
        max_examples=examples,
        database=None,
    )


def body(version: int = NOW - MINUTE, fields: Fields = ADA, **more: Any) -> UserBody:
    address = Address.CARRIED if fields.email is not None else Address.NONE
    known: dict[str, Any] = {"subject_id": SUBJECT, "created_at": NOW - DAY, "address": address, **more}
    return UserBody(version=version, fields=fields, **known)


def event(version: int = NOW - MINUTE, fields: Fields = ADA, **more: Any) -> UserEvent:
    """A fresh, trusted ``user.updated``, unless told otherwise."""
    known: dict[str, Any] = {"created": False, "sent_at": NOW - SECOND, "trusted": True}
    known |= {name: more.pop(name) for name in list(more) if name in known}
    return UserEvent(body=body(version, fields, **more), **known)


def read(version: int = NOW - MINUTE, fields: Fields = ADA, at: int | None = None, **more: Any) -> UserRead:
    return UserRead(body=body(version, fields, **more), at_revision=at)


def absent(link: Link) -> UserAbsent:
    """Clerk's 404 to a read made to confirm the link as it is."""
    return UserAbsent(subject_id=link.subject_id, at_revision=link.revision)


def deleted(*, trusted: bool = True) -> UserDeleted:
    return UserDeleted(subject_id=SUBJECT, sent_at=NOW - SECOND, trusted=trusted)


def unconfirmed() -> Unconfirmed:
    return Unconfirmed(subject_id=SUBJECT)


def fold(link: Link | None, *news: News, now: int = NOW) -> Link | None:
    """Fold one piece of news after another."""
    for each in news:
        link = fold_news(link, each, SINCE, now)
    return link


def kept(link: Link | None, *news: News, now: int = NOW) -> Link:
    """`fold`, where a row must be left."""
    new = fold(link, *news, now=now)
    assert new is not None
    return new


def known(**columns: Any) -> Link:
    """The settled link of a user whose email and name are known and believed."""
    values: dict[str, Any] = {
        "subject_id": SUBJECT,
        "source_version": NOW - HOUR,
        "fields": ADA,
        "address": Address.CARRIED,
        "wanted": True,
        "revision": 3,
        **columns,
    }
    return Link(**values)


def linked(**columns: Any) -> Link:
    """The link of a user in step with its customer."""
    values: dict[str, Any] = {
        "customer_id": "cus_1",
        "applied": ADA,
        "link_back": "cus_1",
        "written_back": "cus_1",
        **columns,
    }
    return known(**values)


def sighting(customer_id: str = "cus_9", mark: str | None = None, created: int = NOW - HOUR) -> Sighting:
    return Sighting(customer_id=customer_id, subject_id=SUBJECT, created=created, mark=mark)


# What the order of news may change: the count of changes, and times.
_BY_ARRIVAL: dict[str, Any] = {
    "revision": 0,
    "doubted_at": None,
    "due_at": None,
    "dirty_at": None,
    "deleted_at": None,
    "lane": Lane.LIVE,
}


def essence(link: Link | None) -> Link | None:
    """The link without what depends on when, and in which order, its news came."""
    return None if link is None else replace(link, **_BY_ARRIVAL)


FIELDS = st.sampled_from(
    [
        ADA,
        BOB,
        Fields(email="ada@example.com"),
        Fields(name="Ada"),
        Fields(),
        Fields(name="Ada", phone="+15550100", description="A friend", metadata={"plan": "pro", "seat": "1"}),
        Fields(name="Ada", metadata={"plan": "free"}),
    ]
)
VERSIONS = st.sampled_from([SINCE - DAY, NOW - 2 * HOUR, NOW - HOUR, NOW - MINUTE, NOW + 2 * MINUTE, NOW + HOUR])

bodies = st.builds(
    UserBody,
    subject_id=st.just(SUBJECT),
    version=VERSIONS,
    created_at=st.sampled_from([SINCE - DAY, SINCE, NOW - HOUR]),
    fields=FIELDS,
    link_back=st.sampled_from([None, "cus_1", "cus_2"]),
    private_name=st.sampled_from([None, None, "cus_1"]),
    address=st.sampled_from(Address),
    eligible=st.booleans(),
    mapping_error=st.sampled_from([None, None, "KeyError: 'plan'"]),
)
events = st.builds(
    UserEvent,
    body=bodies,
    created=st.booleans(),
    sent_at=st.sampled_from([NOW - DAY, NOW - 5 * MINUTE, NOW - MINUTE, NOW, NOW + 10 * MINUTE]),
    trusted=st.booleans(),
)
deletions = st.builds(
    UserDeleted,
    subject_id=st.just(SUBJECT),
    sent_at=st.sampled_from([NOW - 90 * DAY, NOW - MINUTE]),
    trusted=st.booleans(),
)
walked = st.just(unconfirmed())
asked = st.builds(Asked, subject_id=st.just(SUBJECT), want=st.booleans())
seen = st.builds(
    CustomerSeen,
    subject_id=st.just(SUBJECT),
    customer_id=st.sampled_from(["cus_8", "cus_9"]),
    created=st.sampled_from([SINCE - DAY, NOW - HOUR]),
    mark=st.sampled_from([None, "cf1-mark"]),
    archived=st.booleans(),
)
ruled = st.builds(Ruled, subject_id=st.just(SUBJECT), ruling=st.sampled_from(Ruling))
reads = st.builds(UserRead, body=bodies, at_revision=st.sampled_from([None, 0, 1, 2, 3, 4]))
absences = st.builds(UserAbsent, subject_id=st.just(SUBJECT), at_revision=st.integers(0, 4))

webhooks = events | deletions | walked
anything = webhooks | asked | ruled | seen | reads | absences
