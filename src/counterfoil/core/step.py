"""What a link needs next (`Step`), what came of it (`Outcome`), and what is known while deciding (`Turn`)."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from counterfoil.core.customer import Customer
from counterfoil.core.link import Ended, Fields, Link, ParkReason, Sighting


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of Stripe as a whole."""

    seen_to: int
    """Stripe's time up to which the scans know every customer (milliseconds)."""
    stripe_now: int
    """Stripe's time, now, at the latest (milliseconds)."""
    deletions_held: bool = False
    """The deletion breaker has opened: nothing is removed."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One link, as its lease holder sees it."""

    link: Link
    sightings: tuple[Sighting, ...] = ()
    """Whoever carries out a step drops the sighting it dealt with (adopted, removed, dropped, not found)."""
    inspected: Mapping[str, Customer] = {}
    """Customers retrieved under this very lease; never kept."""
    candidates: tuple[Customer, ...] = ()
    """Customers that carry the address ``searched``; never kept."""
    searched: str | None = None
    read_at: int | None = None
    """The revision at which this turn has read the user."""
    wrote_back: bool = False
    """This turn has written the link-back."""


# Steps that call Clerk or Stripe.


class ReadUser(msgspec.Struct, frozen=True, tag=True):
    """GET the user."""


class InspectCustomer(msgspec.Struct, frozen=True, tag=True):
    """Retrieve a customer; ``thoroughly``: with what is attached; ``subscriptions``: with those."""

    customer_id: str
    thoroughly: bool = False
    subscriptions: bool = False


class LookForCustomer(msgspec.Struct, frozen=True, tag=True):
    """Wait until a scan has seen Stripe up to ``until`` (Stripe's time)."""

    until: int


class FindByEmail(msgspec.Struct, frozen=True, tag=True):
    """List the customers that carry this address."""

    email: str


class CreateCustomer(msgspec.Struct, frozen=True, tag=True):
    """POST a customer under the committed intent."""

    key: str
    fields: Fields


class ClaimCustomer(msgspec.Struct, frozen=True, tag=True):
    """Write the subject's id into the metadata of the customer that is reserved for this link."""

    customer_id: str


class UpdateCustomer(msgspec.Struct, frozen=True, tag=True):
    """POST the fields that differ."""

    customer_id: str
    changes: Fields


class RemoveCustomer(msgspec.Struct, frozen=True, tag=True):
    """DELETE a customer that was inspected just now."""

    customer_id: str


class ArchiveCustomer(msgspec.Struct, frozen=True, tag=True):
    """Write our mark into the metadata of a deleted user's customer; ``at``: the deletion (ms)."""

    customer_id: str
    at: int


class RetireCustomer(msgspec.Struct, frozen=True, tag=True):
    """Archive a customer for good: our mark, and its metadata names the subject no more; ``at``: when (ms)."""

    customer_id: str
    at: int


class RestoreCustomer(msgspec.Struct, frozen=True, tag=True):
    """Take our mark from an archived customer again."""

    customer_id: str


class CancelSubscription(msgspec.Struct, frozen=True, tag=True):
    """End a subscription of a deleted user: with its period, or ``at_once``."""

    customer_id: str
    subscription_id: str
    at_once: bool = False


class WriteLinkBack(msgspec.Struct, frozen=True, tag=True):
    """PATCH the customer's id into the user's metadata."""

    customer_id: str


# Steps that only change the row.


class OpenIntent(msgspec.Struct, frozen=True, tag=True):
    """Commit what is about to be created, before anything is sent."""

    key: str
    fields: Fields


class StartLook(msgspec.Struct, frozen=True, tag=True):
    """The intent is not sent again; a scan up to ``until`` (Stripe's time) will tell what came of it."""

    until: int


class AbandonIntent(msgspec.Struct, frozen=True, tag=True):
    """Looked, and nothing came of the intent: the next generation."""


class AdoptCustomer(msgspec.Struct, frozen=True, tag=True):
    """Keep a customer that names this subject already."""

    customer_id: str
    archived: bool = False


class ReserveCustomer(msgspec.Struct, frozen=True, tag=True):
    """Hold a customer that nobody claims, before it is claimed: no other link can take it meanwhile."""

    customer_id: str


class ForgoCustomer(msgspec.Struct, frozen=True, tag=True):
    """The reserved customer was not to be had: let it go, unclaimed."""

    customer_id: str


class DropCustomer(msgspec.Struct, frozen=True, tag=True):
    """The link's customer is gone in Stripe: let its id go."""

    customer_id: str


class DropSighting(msgspec.Struct, frozen=True, tag=True):
    """A sighted customer is gone, or is another subject's by now."""

    customer_id: str


class LapseOrder(msgspec.Struct, frozen=True, tag=True):
    """What was approved for a sighted customer cannot be done any more: it is a sighting like any other."""

    customer_id: str


class HandOver(msgspec.Struct, frozen=True, tag=True):
    """A person has moved a deleted user's customer to ``owner``: let it go, and tell that user's link."""

    customer_id: str
    owner: str


class RememberEnd(msgspec.Struct, frozen=True, tag=True):
    """Note what was decided about a deleted user's customer; ``None``: the user is back."""

    ended: Ended | None


class CountLook(msgspec.Struct, frozen=True, tag=True):
    """One of the later looks was done and found nothing that is left."""


# Steps that end the turn.


class WaitUntil(msgspec.Struct, frozen=True, tag=True):
    """Nothing to do before ``at``; ``settled``: nothing is owed either. ``why``: for the story."""

    at: int
    settled: bool = False
    why: str = ""


class Park(msgspec.Struct, frozen=True, tag=True):
    """This link needs a person."""

    reason: ParkReason
    detail: str = ""


class Without(StrEnum):
    """Why a link is settled although it has no customer."""

    NO_EMAIL = "no_email"  # one is made as soon as there is an address
    OLDER = "older"  # the user is older than the first start, and nobody asked
    UNASKED = "unasked"  # customers are made on demand, and nobody asked
    NOT_ELIGIBLE = "not_eligible"  # the filter leaves the user out
    UNVERIFIED = "unverified"  # one is made as soon as the address is verified
    UNREAD = "unread"  # nothing is known of the user but the id, and nobody asked


class Settled(msgspec.Struct, frozen=True, tag=True):
    """Both sides are in step. ``without``: why that means no customer, for a user who is not deleted."""

    note: str = ""
    without: Without | None = None


ReadStep = ReadUser | InspectCustomer | LookForCustomer | FindByEmail
"""Calls without an effect outside."""
CallStep = (
    ReadStep
    | CreateCustomer
    | ClaimCustomer
    | UpdateCustomer
    | RemoveCustomer
    | ArchiveCustomer
    | RetireCustomer
    | RestoreCustomer
    | CancelSubscription
    | WriteLinkBack
)
RowStep = (
    OpenIntent
    | StartLook
    | AbandonIntent
    | AdoptCustomer
    | ReserveCustomer
    | ForgoCustomer
    | DropCustomer
    | DropSighting
    | LapseOrder
    | HandOver
    | RememberEnd
    | CountLook
)
EndStep = WaitUntil | Park | Settled
Step = CallStep | RowStep | EndStep
