"""What a link needs next (`Step`), what came of it (`Outcome`), and what is known while deciding (`Turn`)."""

from collections.abc import Mapping

import msgspec

from counterfoil.core.customer import Customer
from counterfoil.core.link import Fields, Link, ParkReason, Sighting


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of Stripe as a whole."""

    seen_to: int
    """Stripe's time up to which the scans know every customer (milliseconds)."""
    stripe_now: int
    """Stripe's time, now, at the latest (milliseconds)."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One link, as its lease holder sees it."""

    link: Link
    sightings: tuple[Sighting, ...] = ()
    """Whoever carries out a step drops the sighting it dealt with (adopted, removed, dropped, not found)."""
    inspected: Mapping[str, Customer] = {}
    """Customers retrieved under this very lease; never kept."""
    read_at: int | None = None
    """The revision at which this turn has read the user."""
    wrote_back: bool = False
    """This turn has written the link-back."""


# Steps that call Clerk or Stripe.


class ReadUser(msgspec.Struct, frozen=True, tag=True):
    """GET the user."""


class InspectCustomer(msgspec.Struct, frozen=True, tag=True):
    """Retrieve a customer; ``thoroughly``: with what is attached to it."""

    customer_id: str
    thoroughly: bool = False


class LookForCustomer(msgspec.Struct, frozen=True, tag=True):
    """Wait until a scan has seen Stripe up to ``until`` (Stripe's time)."""

    until: int


class CreateCustomer(msgspec.Struct, frozen=True, tag=True):
    """POST a customer under the committed intent."""

    key: str
    fields: Fields


class ClaimCustomer(msgspec.Struct, frozen=True, tag=True):
    """Write the subject's id into the metadata of a customer that nobody claims, and keep it."""

    customer_id: str


class UpdateCustomer(msgspec.Struct, frozen=True, tag=True):
    """POST the fields that differ."""

    customer_id: str
    changes: Fields


class RemoveCustomer(msgspec.Struct, frozen=True, tag=True):
    """DELETE a customer that was inspected just now."""

    customer_id: str


class WriteLinkBack(msgspec.Struct, frozen=True, tag=True):
    """PATCH the customer's id into the user's metadata."""

    customer_id: str


# Steps that only change the row.


class OpenIntent(msgspec.Struct, frozen=True, tag=True):
    """Commit what is about to be created, before anything is sent."""

    key: str
    fields: Fields


class OpenClaim(msgspec.Struct, frozen=True, tag=True):
    """Commit whom we are about to claim: should its answer be lost and the user go, it is found again."""

    customer_id: str


class CloseClaim(msgspec.Struct, frozen=True, tag=True):
    """The claim has come to nothing, and nothing will come of it."""

    customer_id: str


class StartLook(msgspec.Struct, frozen=True, tag=True):
    """The intent is not sent again; a scan up to ``until`` (Stripe's time) will tell what came of it."""

    until: int


class AbandonIntent(msgspec.Struct, frozen=True, tag=True):
    """Looked, and nothing came of the intent: the next generation."""


class AdoptCustomer(msgspec.Struct, frozen=True, tag=True):
    """Keep a customer that names this subject already."""

    customer_id: str


class DropCustomer(msgspec.Struct, frozen=True, tag=True):
    """The link's customer is gone in Stripe: let its id go."""

    customer_id: str


class DropSighting(msgspec.Struct, frozen=True, tag=True):
    """A sighted customer is gone, or is another subject's by now."""

    customer_id: str


class CountLook(msgspec.Struct, frozen=True, tag=True):
    """One of the later looks was done and found nothing that is left."""


# Steps that end the turn.


class WaitUntil(msgspec.Struct, frozen=True, tag=True):
    """Nothing to do before ``at``; ``settled``: nothing is owed either, it is a check."""

    at: int
    settled: bool = False


class Park(msgspec.Struct, frozen=True, tag=True):
    """This link needs a person."""

    reason: ParkReason
    detail: str = ""


class Settled(msgspec.Struct, frozen=True, tag=True):
    """Both sides are in step."""

    note: str = ""


CallStep = (
    ReadUser
    | InspectCustomer
    | LookForCustomer
    | CreateCustomer
    | ClaimCustomer
    | UpdateCustomer
    | RemoveCustomer
    | WriteLinkBack
)
RowStep = (
    OpenIntent
    | OpenClaim
    | CloseClaim
    | StartLook
    | AbandonIntent
    | AdoptCustomer
    | DropCustomer
    | DropSighting
    | CountLook
)
EndStep = WaitUntil | Park | Settled
Step = CallStep | RowStep | EndStep
