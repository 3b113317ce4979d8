"""Stripe's objects as far as a synchroniser sees them, and their JSON bodies. All times are integer Unix
seconds.

Fields and which may be null: Stripe's published OpenAPI files and fixtures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

# Subscriptions in these states are over: left out of lists unless asked for, and not cancelled by a deletion.
ENDED = frozenset({"canceled", "incomplete_expired"})


@dataclass(slots=True)
class Customer:
    """The true state of one customer. Read it freely; change it only through `StripeState`.

    `plain` holds parameters that are kept and answered but never looked into (address, shipping, ...).
    """

    id: str
    serial: int
    created: int
    livemode: bool
    email: str | None = None
    name: str | None = None
    phone: str | None = None
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    test_clock: str | None = None
    plain: Json = field(default_factory=dict)
    deleted: bool = False


@dataclass(slots=True)
class Subscription:
    """A subscription with one item."""

    id: str
    customer: str
    created: int
    livemode: bool
    status: str
    price: str
    current_period_start: int
    current_period_end: int
    cancel_at_period_end: bool = False
    canceled_at: int | None = None
    ended_at: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class PaymentMethod:
    """A card attached to a customer."""

    id: str
    customer: str
    created: int
    livemode: bool
    kind: str = "card"


@dataclass(slots=True)
class PaymentIntent:
    """A payment, or an attempt at one."""

    id: str
    customer: str
    created: int
    livemode: bool
    amount: int
    status: str


def customer_body(customer: Customer) -> Json:
    """A live customer in full, or the bare stub of a deleted one, which Stripe answers with a 200."""
    if customer.deleted:
        return {"id": customer.id, "object": "customer", "deleted": True}
    body: Json = {
        "id": customer.id,
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": customer.created,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": customer.description,
        "discount": None,
        "email": customer.email,
        "invoice_prefix": customer.id[-8:].upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": customer.livemode,
        "metadata": customer.metadata,
        "name": customer.name,
        "next_invoice_sequence": 1,
        "phone": customer.phone,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": customer.test_clock,
    }
    body.update(customer.plain)
    return body


def list_body(url: str, data: list[Json], has_more: bool = False) -> Json:
    """Stripe's list object."""
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def subscription_body(subscription: Subscription) -> Json:
    """A subscription. The period is on its item, not on itself."""
    item = {
        "id": "si_" + subscription.id.removeprefix("sub_"),
        "object": "subscription_item",
        "created": subscription.created,
        "current_period_start": subscription.current_period_start,
        "current_period_end": subscription.current_period_end,
        "discounts": [],
        "metadata": {},
        "price": {
            "id": subscription.price,
            "object": "price",
            "active": True,
            "currency": "usd",
            "livemode": subscription.livemode,
            "product": "prod_sandbox",
            "type": "recurring",
            "unit_amount": 2000,
        },
        "quantity": 1,
        "subscription": subscription.id,
        "tax_rates": [],
    }
    url = f"/v1/subscription_items?subscription={subscription.id}"
    at_period_end = subscription.current_period_end if subscription.cancel_at_period_end else None
    return {
        "id": subscription.id,
        "object": "subscription",
        "cancel_at": at_period_end,
        "cancel_at_period_end": subscription.cancel_at_period_end,
        "canceled_at": subscription.canceled_at,
        "collection_method": "charge_automatically",
        "created": subscription.created,
        "currency": "usd",
        "customer": subscription.customer,
        "ended_at": subscription.ended_at,
        "items": list_body(url, [item]),
        "latest_invoice": None,
        "livemode": subscription.livemode,
        "metadata": subscription.metadata,
        "start_date": subscription.created,
        "status": subscription.status,
        "trial_end": None,
    }


def payment_method_body(method: PaymentMethod) -> Json:
    """A payment method."""
    return {
        "id": method.id,
        "object": "payment_method",
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "created": method.created,
        "customer": method.customer,
        "livemode": method.livemode,
        "metadata": {},
        "type": method.kind,
    }


def payment_intent_body(intent: PaymentIntent) -> Json:
    """A payment intent."""
    return {
        "id": intent.id,
        "object": "payment_intent",
        "amount": intent.amount,
        "amount_received": intent.amount if intent.status == "succeeded" else 0,
        "created": intent.created,
        "currency": "usd",
        "customer": intent.customer,
        "livemode": intent.livemode,
        "metadata": {},
        "payment_method_types": ["card"],
        "status": intent.status,
    }
