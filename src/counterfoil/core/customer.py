"""Stripe's side: a customer as retrieved, and what it should carry."""

import msgspec

from counterfoil.core.link import Fields, Link
from counterfoil.core.policy import EMAIL_LIMIT, NAME_LIMIT


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


_CLAIM = "claim-"


def claim_key(customer_id: str) -> str:
    """The key of an intent to claim a customer; never sent: a claim may be repeated without one."""
    return _CLAIM + customer_id


def claimed_by(key: str) -> str | None:
    """The customer that an intent with this key means to claim; ``None``: it means to create one."""
    return key.removeprefix(_CLAIM) if key.startswith(_CLAIM) else None


def mirrored(email: str | None, first: str | None, last: str | None) -> Fields:
    """Clerk's values, as a customer may carry them.

    Stripe's limits: name 256 (cut), email 512 (left out: a cut address is another address); facts 3.2.
    """
    name = " ".join(part for part in (first, last) if part)[:NAME_LIMIT].strip()
    fits = email is not None and 0 < len(email) <= EMAIL_LIMIT
    return Fields(email=email if fits else None, name=name or None)


def wanted_fields(link: Link) -> Fields:
    """What the customer should carry: Clerk's fields, less an address that Stripe has refused."""
    fields = link.fields or Fields()
    if fields.email is not None and fields.email == link.refused_email:
        return msgspec.structs.replace(fields, email=None)
    return fields


def difference(wanted: Fields, applied: Fields | None) -> Fields:
    """The fields to send: those that differ. What Clerk does not have is never blanked."""
    known = applied or Fields()
    return Fields(
        email=wanted.email if wanted.email != known.email else None,
        name=wanted.name if wanted.name != known.name else None,
    )


def overlay(base: Fields | None, changes: Fields) -> Fields:
    """``base`` with the fields of ``changes`` that are set."""
    known = base or Fields()
    return Fields(email=changes.email or known.email, name=changes.name or known.name)
