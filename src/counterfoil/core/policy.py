"""What the user of Counterfoil chose, and the figures that the rules rest on. All times in milliseconds."""

import hashlib
from enum import StrEnum

import msgspec

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

RETRY_AGE = 4 * MINUTE
"""An event older than this is a late retry or a replay (Svix tries after 5 s, then after 5 min)."""
AHEAD = 5 * MINUTE
"""News dated further ahead than this is not believed: the tolerance of the signature itself."""
OLD_READ_WINS = 10 * MINUTE
"""After so long, a read from Clerk beats newer-looking news that it contradicts; a 404 too."""
ABSENT_TWICE = 60 * SECOND
"""A user is gone when Clerk answers 404 twice, so far apart at least."""
DISAGREED = 30 * SECOND
"""How long to wait where Clerk's answer contradicts what it told before; its replicas will agree by then."""
LATER_LOOKS = (HOUR, 24 * HOUR + 30 * MINUTE)
"""When to look again for a customer that Stripe made late of a request it had failed. Stripe keeps a
key for 24 h at least; the last look falls after that, and early enough that a surplus is gone within 25 h."""
DELETIONS_WITHIN = HOUR
"""The deletion breaker counts the tombstones of so long."""
HELD_FOR = 24 * HOUR
"""A removal that the breaker holds waits so long before it looks again; a release calls it out."""
CLOSED_BY = 10 * MINUTE
"""A subscription that is to end with its period is looked for so long after the period's end."""
_FORGOTTEN = 20
"""More generations than any link has."""
NAME_LIMIT = 256
EMAIL_LIMIT = 512
PHONE_LIMIT = 20
DESCRIPTION_LIMIT = 5_000


class Create(StrEnum):
    """When a user gets a customer."""

    ON_CREATED = "on_created"
    ON_VERIFIED_EMAIL = "on_verified_email"  # once the primary address is verified
    ON_DEMAND = "on_demand"  # only when somebody asked for it


class NoEmail(StrEnum):
    """What becomes of a user without a primary email address."""

    WAIT = "wait"
    CREATE = "create"


class Adopt(StrEnum):
    """Which customers may become a user's, besides those whose own metadata names the user."""

    METADATA = "metadata"  # the one that Clerk's public or private metadata names
    VERIFIED_EMAIL = "verified_email"  # also the only one with the user's verified address
    NEVER = "never"


class LinkBack(StrEnum):
    """Which of Clerk's metadata gets the customer's id."""

    PUBLIC = "public"
    PRIVATE = "private"
    OFF = "off"


class OnDeletion(StrEnum):
    """What becomes of the customer of a user who is deleted."""

    DELETE = "delete"
    ARCHIVE = "archive"  # our mark in its metadata: Stripe has no such state (facts 3.2)
    KEEP = "keep"


class IfSubscribed(StrEnum):
    """What becomes of it, if it is still subscribed. Where it is kept, nothing is touched."""

    DELETE = "delete"  # billing stops at once
    HOLD = "hold"  # a person decides
    CANCEL_AT_PERIOD_END = "cancel_at_period_end"  # then it is archived


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The policies in force for one pinned environment."""

    environment: str
    """Names the pair (Clerk instance, Stripe account, mode); a part of every idempotency key."""
    since: int
    """The first start. Users older than it are left as they are until they change."""
    livemode: bool
    intent_ttl: int = 20 * HOUR
    """Below Stripe's 24 h floor for idempotency keys, by more than any stall we allow for."""
    quiet: int = 10 * SECOND
    """How long after its last sending a request may still take effect unseen."""
    on_deletion: OnDeletion = OnDeletion.DELETE
    deletion_grace: int = 0
    """A removal waits so long after the deletion."""
    if_subscribed: IfSubscribed = IfSubscribed.DELETE
    deletion_breaker: int = 100
    """More tombstones than this within an hour hold all removals; 0: no number does."""

    create: Create = Create.ON_CREATED
    no_email: NoEmail = NoEmail.WAIT
    adopt: Adopt = Adopt.METADATA
    link_back: LinkBack = LinkBack.PUBLIC

    @property
    def deletion_limit(self) -> int:
        """So many deletions within an hour are not too many; 0: no number is, or nothing is removed anyway."""
        return 0 if self.on_deletion is OnDeletion.KEEP else self.deletion_breaker

    def intent_key(self, subject_id: str, generation: int) -> str:
        """The idempotency key of one generation of one subject: the same on every try, on every node."""
        text = f"{self.environment}\n{subject_id}\n{generation}"
        return "cf1-" + hashlib.sha256(text.encode()).hexdigest()[:40]

    def made(self, mark: str | None, subject_id: str, generation: int) -> bool:
        """Whether a customer with this mark was made for this very subject.

        A person may have moved it from another user: then its mark is a key of that one. A database that was
        lost may have forgotten some generations.
        """
        known = range(generation + _FORGOTTEN)
        return mark is not None and any(mark == self.intent_key(subject_id, each) for each in known)
