"""What an audit finds: how the two sides differ about one subject, and the repair that is proposed.

A finding is about one user, one customer, or both. One without a repair is for a person, and says why.
"""

from enum import StrEnum
from typing import Any

import msgspec

from counterfoil.core.link import Fields, Link
from counterfoil.core.news import UserBody


class Kind(StrEnum):
    """What is wrong. In the order in which a person reads them."""

    DUPLICATE = "duplicate"  # several live customers claim one user
    ORPHAN = "orphan"  # the customer of a user who is gone
    MISSING = "missing"  # a user without a customer
    FOREIGN = "foreign"  # Clerk's metadata names a customer that is not the user's, or not there
    UNLINKED = "unlinked"  # Clerk's metadata lacks or misnames the customer
    STALE = "stale"  # mirrored fields differ
    UNCLAIMED = "unclaimed"  # a customer without a user id, and something ties it to a user
    MISLINKED = "mislinked"  # our database, or our mark, says something else than the two sides agree on


class Repair(StrEnum):
    """What is proposed. Each is done by the link's own turn."""

    CREATE = "create"
    ADOPT = "adopt"
    UPDATE = "update"
    LINK = "link"  # write the customer's id into Clerk's metadata
    RETIRE = "retire"  # archive, or delete where that is allowed and nothing is attached
    RECONCILE = "reconcile"  # have the link planned anew


class SeenCustomer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A live customer, as the audit's list showed it. ``created`` in milliseconds."""

    customer_id: str
    created: int
    owner: str | None = None
    """The subject that its metadata names."""
    mark: str | None = None
    archived: bool = False
    fields: Fields = Fields()
    live: int | None = 0
    """Its live subscriptions; ``None``: the key may not read them."""
    paid: bool | None = None
    """It has made payments; ``None``: not looked at, or the key may not read them."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A customer that nobody claims and that may be the user's.

    ``named_by``: users whose metadata names it; ``shared_with``: users who have its address, both in order and
    with the subject among them.
    """

    customer: SeenCustomer
    named_by: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = ()
    given_to: str | None = None
    """Another user, to whom the mapping file gives it."""
    held_by: str | None = None
    """Another user, whose customer it is by our database."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that both sides, and our database, say about one subject."""

    subject_id: str
    user: UserBody | None = None
    unread: bool = False
    """The user is there, and what Clerk says of them cannot be read."""
    customers: tuple[SeenCustomer, ...] = ()
    """Those whose metadata names the subject."""
    named: SeenCustomer | None = None
    """The customer that Clerk's metadata names, whosever it is; ``None``: it is not on Stripe's list."""
    candidates: tuple[Candidate, ...] = ()
    rivals: dict[str, tuple[str, ...]] = {}
    """Of the customers that may have to go: other users whose metadata names them, and who have no other."""
    elsewhere: tuple[str, ...] = ()
    """Customers of other users that carry the user's address."""
    mapped: str | None = None
    """The customer that the mapping file gives the user; "": none, on purpose."""
    link: Link | None = None
    held: SeenCustomer | None = None
    """The link's customer, where it is on Stripe's list and none there names the subject."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is not right. ``repair`` ``None``: for a person."""

    kind: Kind
    why: str
    subject_id: str | None = None
    customer_id: str | None = None
    """The customer that it is about; of duplicates, the keeper."""
    repair: Repair | None = None
    retire: tuple[str, ...] = ()
    """The customers to archive or delete."""
    named: str | None = None
    """What Clerk's metadata holds, where that is to be replaced."""
    fields: Fields | None = None
    """What the customer carries now, where that is to be changed."""
    version: int = 0
    """The user's, as it was read."""
    subscribed: int = 0
    """Live subscriptions of the customers that it is about."""
    recent: bool = False
    """It may be a change on its way: something of it is only minutes old, or a worker is at it."""
    evidence: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """Names the finding: the same in every audit of the same state."""
        if self.kind is Kind.UNCLAIMED:
            return f"{self.kind}:{self.customer_id}"
        return ":".join(filter(None, [self.kind, self.subject_id, self.customer_id]))


def told(seen: SeenCustomer) -> dict[str, Any]:
    """What a person decides by."""
    told: dict[str, Any] = {"created": seen.created, "subscriptions": seen.live}
    if seen.paid is not None:
        told["paid"] = seen.paid
    if seen.fields.email is not None:
        told["email"] = seen.fields.email
    return told
