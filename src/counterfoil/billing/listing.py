"""Stripe's customers as an audit reads them: lists only, subscriptions with them, never one GET for each.

Decoded from the answer itself: the client's objects would cost more than all the rest of an audit.
"""

from typing import Any

import msgspec

from counterfoil.billing.stripe import ARCHIVED, ARCHIVED_OF, MARK, PAGE, StripeApi
from counterfoil.core.customer import Subscription
from counterfoil.core.finding import SeenCustomer
from counterfoil.core.link import Fields
from counterfoil.errors import KeyRefused
from counterfoil.upstream.gate import BULK, Ticket

_OURS = frozenset({ARCHIVED, ARCHIVED_OF, MARK})
_PAYING = frozenset({"succeeded", "processing", "requires_capture"})


class ListedPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of live customers, newest first."""

    customers: tuple[SeenCustomer, ...]
    more: bool


class CustomerLister:
    """Lists customers by when they were created. Every method raises `UpstreamError`."""

    def __init__(self, stripe: StripeApi, owner_key: str) -> None:
        """Args:
        stripe: the client; calls go through its gate, in the bulk lane.
        owner_key: the metadata key that holds the user's id.
        """
        self._stripe = stripe
        self._owner_key = owner_key
        self.sees_subscriptions = True
        """The key may read subscriptions, as far as is known."""
        self.sees_payments = True

    async def page(self, low: int, high: int, after: str | None, ticket: Ticket = BULK) -> ListedPage:
        """Customers created from ``low`` up to, but not at, ``high`` (Stripe's time, in seconds)."""
        query: dict[str, Any] = {"limit": PAGE, "created": {"gte": low, "lt": high}}
        if after is not None:
            query["starting_after"] = after
        if self.sees_subscriptions:
            try:
                expanded = {**query, "expand": ["data.subscriptions"]}
                return self._page(await self._stripe.raw("customers.list", ticket, "/v1/customers", expanded))
            except KeyRefused as error:
                self._stripe.forgive(error)
                self.sees_subscriptions = False
        return self._page(await self._stripe.raw("customers.list", ticket, "/v1/customers", query))

    async def paid(self, customer_id: str) -> bool | None:
        """Whether a customer has made payments; ``None``: the key may not read them."""
        if not self.sees_payments:
            return None
        query = {"customer": customer_id, "limit": PAGE}
        try:
            found = await self._stripe.raw("payment_intents.list", BULK, "/v1/payment_intents", query)
        except KeyRefused as error:
            self._stripe.forgive(error)
            self.sees_payments = False
            return None
        return any(each.get("status") in _PAYING for each in found["data"])

    def _page(self, found: dict[str, Any]) -> ListedPage:
        listed = tuple(self._customer(each) for each in found["data"] if not each.get("deleted"))
        return ListedPage(customers=listed, more=bool(found.get("has_more")))

    def _customer(self, found: dict[str, Any]) -> SeenCustomer:
        metadata: dict[str, str] = found.get("metadata") or {}
        own = {key: value for key, value in metadata.items() if key not in _OURS and key != self._owner_key}
        live = None
        if self.sees_subscriptions:
            shown = (found.get("subscriptions") or {}).get("data") or ()
            live = sum(Subscription(subscription_id="", status=str(each["status"])).live for each in shown)
        return SeenCustomer(
            customer_id=str(found["id"]),
            created=int(found["created"]) * 1000,
            owner=metadata.get(self._owner_key) or None,
            mark=metadata.get(MARK) or None,
            archived=bool(metadata.get(ARCHIVED)),
            fields=Fields(
                email=found.get("email") or None,
                name=found.get("name") or None,
                phone=found.get("phone") or None,
                description=found.get("description") or None,
                metadata=own or None,
            ),
            live=live,
        )
