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
"""After so long, a read from Clerk beats newer-looking news that it contradicts."""
ABSENT_TWICE = 60 * SECOND
"""A user is gone when Clerk answers 404 twice, so far apart."""
DISAGREED = 30 * SECOND
"""How long to wait where Clerk's answer contradicts what it told before; its replicas will agree by then."""
LATER_LOOKS = (HOUR, 24 * HOUR + 30 * MINUTE)
"""When to look again for a customer that Stripe made late of a request it had failed. Stripe keeps a
key for 24 h at least; the last look falls after that, and early enough that a surplus is gone within 25 h."""
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
    create: Create = Create.ON_CREATED
    no_email: NoEmail = NoEmail.WAIT
    adopt: Adopt = Adopt.METADATA
    link_back: LinkBack = LinkBack.PUBLIC

    def intent_key(self, subject_id: str, generation: int) -> str:
        """The idempotency key of one generation of one subject: the same on every try, on every node."""
        text = f"{self.environment}\n{subject_id}\n{generation}"
        return "cf1-" + hashlib.sha256(text.encode()).hexdigest()[:40]
