"""Stripe's side: a customer as retrieved, and what it should carry."""

from collections.abc import Collection

import msgspec

from counterfoil.core.link import Address, Fields, Link
from counterfoil.core.policy import EMAIL_LIMIT, NAME_LIMIT, PHONE_LIMIT

MIRRORED = frozenset({"email", "name"})
"""The fields that are mirrored unless told otherwise."""
_VERIFIED = "verified"

HIDDEN = "hidden"
"""The status of subscriptions that the key may not read: they count as live."""
_OVER = frozenset({"canceled", "incomplete_expired"})


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's subscription, as Stripe showed it."""

    subscription_id: str
    status: str
    period_end: int | None = None
    """The earliest end of its items' periods, in milliseconds (facts 3.8)."""
    closing: bool = False
    """It is to end with its period."""

    @property
    def live(self) -> bool:
        """It may still bill; the set of states is open, so whatever is not over counts."""
        return self.status not in _OVER


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """A customer as Stripe showed it."""

    customer_id: str
    gone: bool = False
    """Deleted, or never there."""
    owner: str | None = None
    """The subject that its metadata names."""
    mark: str | None = None
    """The idempotency key of ours that made it."""
    livemode: bool = False
    attached: bool | None = None
    """It has a subscription, payment method or payment; ``None``: not looked at."""
    archived: bool = False
    """It carries our mark of an archived customer."""
    subscriptions: tuple[Subscription, ...] | None = None
    """``None``: not looked at."""

    def with_subscription(self, changed: Subscription) -> "Customer":
        """The same, after one of its subscriptions has changed."""
        others = [each for each in self.subscriptions or () if each.subscription_id != changed.subscription_id]
        return msgspec.structs.replace(self, subscriptions=(*others, changed))


def mirrored(
    email: str | None,
    first: str | None,
    last: str | None,
    phone: str | None = None,
    mirror: Collection[str] = MIRRORED,
) -> Fields:
    """Clerk's values, as a customer may carry them: those whose field is in ``mirror``.

    Stripe's limits: name 256 (cut), email 512 and phone 20 (left out: what is cut is another address, another
    number); facts 3.2.
    """
    name = f"{first} {last}" if first and last else first or last or ""
    return Fields(
        email if email and len(email) <= EMAIL_LIMIT and "email" in mirror else None,
        name[:NAME_LIMIT].strip() or None if "name" in mirror else None,
        phone if phone and len(phone) <= PHONE_LIMIT and "phone" in mirror else None,
    )


def address_of(email: str | None, status: str | None, fields: Fields) -> Address:
    """What is known of a primary address.

    Args:
        email: the address; one that no customer could carry counts as none.
        status: its ``verification.status``, an open set of which only "verified" matters (facts 1.4).
        fields: what the customer is to carry.
    """
    if not email or len(email) > EMAIL_LIMIT:
        return Address.NONE
    if status != _VERIFIED:
        return Address.UNVERIFIED
    return Address.CARRIED if fields.email == email else Address.VERIFIED


def wanted_fields(link: Link) -> Fields:
    """What the customer should carry: Clerk's fields, less an address that Stripe has refused."""
    fields = link.fields or Fields()
    if fields.email is not None and fields.email == link.refused_email:
        return msgspec.structs.replace(fields, email=None)
    return fields


def difference(wanted: Fields, applied: Fields | None) -> Fields:
    """The fields, and of the metadata the keys, to send: those that differ.

    What Clerk does not have, or the mapping no longer gives, is never blanked.
    """
    known = applied or Fields()
    old = known.metadata or {}
    metadata = {key: value for key, value in (wanted.metadata or {}).items() if old.get(key) != value}
    return Fields(
        email=wanted.email if wanted.email != known.email else None,
        name=wanted.name if wanted.name != known.name else None,
        phone=wanted.phone if wanted.phone != known.phone else None,
        description=wanted.description if wanted.description != known.description else None,
        metadata=metadata or None,
    )


def overlay(base: Fields | None, changes: Fields) -> Fields:
    """``base`` with the fields of ``changes`` that are set."""
    known = base or Fields()
    return Fields(
        email=changes.email or known.email,
        name=changes.name or known.name,
        phone=changes.phone or known.phone,
        description=changes.description or known.description,
        metadata={**(known.metadata or {}), **(changes.metadata or {})} or None,
    )
