"""The link: one row per Clerk user, and the small values it is made of.

Times are milliseconds since the epoch, unless a name says otherwise.
"""

from enum import IntEnum, StrEnum

import msgspec


class Fields(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is mirrored from Clerk's user to Stripe's customer. ``None``: Clerk has no such value."""

    email: str | None = None
    name: str | None = None
    phone: str | None = None
    description: str | None = None
    metadata: dict[str, str] | None = None
    """Keys of the mapping's own; never one of ours, and never empty."""


class Address(IntEnum):
    """What is known of the user's primary email address."""

    NONE = 0  # there is none
    UNVERIFIED = 1
    VERIFIED = 2  # Clerk says so (facts 1.4)
    CARRIED = 3  # verified, and the very address that the customer is to carry


class Doubt(IntEnum):
    """Whether the news that the link holds may be acted on without reading the user first."""

    NONE = 0
    UNSURE = 1  # a replay, a retry, another instance's, or dated ahead
    CONFLICT = 2  # two bodies of one version differ
    READ = 3  # whatever else arrives: only a read of the user settles it


class Deletion(IntEnum):
    """How sure it is that the user is gone."""

    NONE = 0
    ABSENT = 1  # Clerk answered 404 twice; a later 200 lifts it
    SIGNED = 2  # a signed user.deleted of the pinned instance; final


class Ruling(IntEnum):
    """What a person has said about the removal of a deleted user's customer."""

    NONE = 0
    UNDO = 1  # called off: the customer stays
    RELEASE = 2  # it goes on, whatever is subscribed
    PLANNED = 3  # a plan was approved that says which customers go: the breaker does not count this user


class Ended(StrEnum):
    """What was done with the customer of a deleted user, where it is still there."""

    ARCHIVED = "archived"  # it carries our mark
    KEPT = "kept"  # nothing was touched
    CLOSING = "closing"  # about to be archived, once its subscriptions have ended


class Order(IntEnum):
    """What a person has approved to be done with a sighted customer, by applying a plan."""

    NONE = 0
    ADOPT = 1  # the link is to hold this one, which may be nobody's yet
    ARCHIVE = 2  # our mark, and it names the user no more
    DELETE = 3  # if nothing is attached to it; otherwise as ARCHIVE
    KEEP = 4  # the link is to hold this one, which names the user


class Lane(IntEnum):
    """Which work goes first."""

    LIVE = 0
    BULK = 1


class ParkReason(StrEnum):
    """Why a link needs a person."""

    DUPLICATE = "duplicate"  # two live customers claim this user
    CLAIMED = "claimed"  # the customer named in Clerk's metadata is another user's
    FOREIGN = "foreign"  # Clerk's metadata names a customer that we cannot take
    MISNAMED = "misnamed"  # Clerk's metadata names another customer than the link's
    REASSIGNED = "reassigned"  # the link's customer now carries another user's id
    SUBSCRIBED = "subscribed"  # the user is deleted, and the customer still has subscriptions
    ATTACHED = "attached"  # a surplus customer has something attached to it
    WRONG_MODE = "wrong_mode"  # the customer is live and we are not, or the reverse
    REJECTED = "rejected"  # Stripe or Clerk refuses the request itself
    REVIEW = "review"  # customers with the user's address, but none that may be taken unseen
    MAPPING = "mapping"  # the user's own function failed
    OBSERVED = "observed"  # serve --observe: would act, may not


class Link(msgspec.Struct, frozen=True):
    """One user's row. Three owners; none writes another's columns.

    *Intake*: ``subject_id`` to ``revision``; *worker*: ``customer_id`` to ``last_error``;
    *schedule*: ``due_at`` to ``held``.
    """

    subject_id: str
    source_version: int = 0
    """Clerk's ``updated_at`` of the newest body folded in; 0: none yet."""
    fields: Fields | None = None
    link_back: str | None = None
    """The customer id that Clerk's public metadata holds, as last heard."""
    private_name: str | None = None
    """The customer id that Clerk's private metadata holds, as last heard."""
    address: Address = Address.NONE
    eligible: bool = True
    """What the filter said of this body: only an eligible user gets a customer."""
    mapping_error: str | None = None
    """Why an own function (mapping, filter) could not be used for this body; it may hold personal data."""
    wanted: bool = False
    """A customer is to be made where there is none: the user is no older than the first start,
    or its ``user.created`` came, or somebody asked."""
    asked: bool = False
    """Somebody asked for a customer."""
    sighted: bool = False
    """A scan met a customer of this user: the link is not dropped, whatever Clerk says."""
    deleted_at: int | None = None
    deletion: Deletion = Deletion.NONE
    must_confirm: Doubt = Doubt.NONE
    doubted_at: int | None = None
    absent_at: int | None = None
    """When Clerk first answered 404 for this user, since its last 200."""
    ruling: Ruling = Ruling.NONE
    """Of this deletion: it goes when the deletion is lifted. ``PLANNED`` comes before it, and goes where the user
    is found to be there, or where Clerk says by itself that the user was deleted."""
    revision: int = 0

    customer_id: str | None = None
    claiming: bool = False
    """The customer is reserved for this link; that its metadata names the subject is not known yet."""
    applied: Fields | None = None
    """The fields last written to the customer; ``None``: unknown, so all are written."""
    written_back: str | None = None
    """The customer id that we last wrote to Clerk's metadata."""
    ended: Ended | None = None
    """What was done with the customer when the user was deleted."""
    intent_key: str | None = None
    intent_params: Fields | None = None
    intent_at: int | None = None
    look_after: int | None = None
    """The open intent is resolved by looking: a scan must have seen Stripe up to here (Stripe's time)."""
    generation: int = 0
    abandoned_at: int | None = None
    """When an intent was given up without proof that nothing came of it."""
    looks: int = 0
    """How many of the later looks for such a surplus are done."""
    refused_email: str | None = None
    parked: ParkReason | None = None
    attempts: int = 0
    last_error: str | None = None

    due_at: int | None = None
    dirty_at: int | None = None
    lane: Lane = Lane.LIVE
    lease: int = 0
    held: int = 0
    """Claims since the last release: over 1 means that a lease ran out under somebody."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A live customer, found by a scan, that claims a user whose link does not have it."""

    customer_id: str
    subject_id: str
    created: int
    """Stripe's ``created``, in milliseconds."""
    mark: str | None = None
    """Our idempotency key, from the customer's metadata; ``None``: made by something else."""
    archived: bool = False
    """It carries our mark of an archived customer."""
    order: Order = Order.NONE
