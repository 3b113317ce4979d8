"""What each Stripe endpoint does once a request has been let through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from counterfoil.sandbox.messages import Handled, json_answer
from counterfoil.sandbox.stripe import StripeState
from counterfoil.sandbox.stripe_forms import (
    Invalid,
    Params,
    check_customer,
    check_metadata,
    merge_metadata,
    too_many,
    whole_number,
)
from counterfoil.sandbox.stripe_objects import (
    ENDED,
    Customer,
    Json,
    Subscription,
    customer_body,
    list_body,
    payment_intent_body,
    payment_method_body,
    subscription_body,
)
from counterfoil.sandbox.stripe_search import QueryError, parse

_ASSIGNED = frozenset({"email", "name", "phone", "description", "metadata", "test_clock"})
_HIDDEN = frozenset({"expand", "source", "payment_method", "tax", "tax_id_data", "cash_balance"})
_MAX = 10**12


def _missing(what: str, identifier: str, param: str, status: int = 404) -> Invalid:
    return Invalid(f"No such {what}: '{identifier}'", code="resource_missing", param=param, status=status)


class Endpoints:
    """Runs operations by name. `Invalid` is raised for what Stripe refuses during execution."""

    def __init__(self, state: StripeState) -> None:
        self._state = state
        self._reads: dict[str, Callable[[list[str], Params, float], Json]] = {
            "customers.retrieve": self._retrieve,
            "customers.list": self._list,
            "customers.search": self._search,
            "customers.payment_methods": self._methods_of,
            "account.retrieve": self._account,
            "subscriptions.list": self._subscriptions,
            "subscriptions.retrieve": self._subscription,
            "payment_methods.list": self._methods,
            "payment_intents.list": self._intents,
        }
        self._writes: dict[str, Callable[[list[str], Params, float], Json]] = {
            "customers.update": self._update,
            "customers.delete": self._delete,
            "subscriptions.update": self._update_subscription,
            "subscriptions.cancel": self._cancel,
        }

    def validate(self, operation: str, params: Params) -> None:
        """The checks that come before execution."""
        if operation not in {"customers.create", "customers.update"}:
            return
        check_customer(params, create=operation == "customers.create")
        email = params.get("email")
        if email and ("@" not in email or self._state.settings.refuses_email(email)):
            stored = self._state.settings.store_email_invalid
            message = f"Invalid email address: {email}"
            raise Invalid(message, code="email_invalid", param="email", stored=stored)

    def run(self, operation: str, parts: list[str], params: Params, at: float, *, late: bool) -> Handled:
        """Execute at `at`; `late` lets a creation exist only then."""
        if operation == "customers.create":
            return self._create(params, at, late)
        subject = parts[1] if len(parts) > 1 and parts[0] == "customers" else params.get("customer")
        if operation in self._writes:
            body = self._writes[operation](parts, params, at)
            return Handled(json_answer(200, body), subject or body.get("customer"), at)
        if operation in self._reads:
            return Handled(json_answer(200, self._reads[operation](parts, params, at)), subject)
        raise Invalid("Unrecognized request URL. This is not built in the sandbox.", status=404)

    # Customers.

    def _create(self, params: Params, at: float, late: bool) -> Handled:
        state = self._state
        customer = state.new_customer(at)
        self._assign(customer, params)
        if late:
            state.insert_late(at, customer)
        else:
            state.insert(at, customer)
        return Handled(json_answer(200, self._expanded(customer, params)), customer.id, at)

    def _update(self, parts: list[str], params: Params, at: float) -> Json:
        customer = self._customer(parts[1])
        too_many(merge_metadata(customer.metadata, params.get("metadata", {})))
        self._assign(customer, params)
        self._state.touched(at, customer)
        return self._expanded(customer, params)

    def _delete(self, parts: list[str], params: Params, at: float) -> Json:
        customer = self._customer(parts[1])
        self._state.delete_customer(at, customer.id)
        return customer_body(customer)

    def _retrieve(self, parts: list[str], params: Params, at: float) -> Json:
        customer = self._state.customers.get(parts[1])
        if customer is None:
            raise _missing("customer", parts[1], "id")
        return self._expanded(customer, params)

    def _list(self, parts: list[str], params: Params, at: float) -> Json:
        limit = whole_number(params, "limit", 10, 1, 100)
        page = list(islice(self._listed(params), limit + 1))
        data = [self._expanded(customer, params, "data.subscriptions") for customer in page[:limit]]
        return list_body("/v1/customers", data, len(page) > limit)

    def _listed(self, params: Params) -> Iterator[Customer]:
        state = self._state
        low, high = _bounds(params)
        after = None
        if "starting_after" in params:
            cursor = state.customers.get(params["starting_after"])
            refuse = cursor is not None and cursor.deleted and state.settings.deleted_cursor == "refuse"
            if cursor is None or refuse:
                raise _missing("customer", params["starting_after"], "starting_after", 400)
            after = (cursor.created, cursor.serial, cursor.id)
        clock = params.get("test_clock")
        if "email" in params:
            same = (state.customers[found] for found in state.by_email.get(params["email"], {}))
            kept = (c for c in same if low <= c.created <= high)
            ordered = sorted(kept, key=lambda c: (c.created, c.serial), reverse=True)
            found = (c for c in ordered if after is None or (c.created, c.serial, c.id) < after)
        else:
            ids = state.by_created.downwards(after=after, low=low, high=high)
            found = (state.customers[identifier] for identifier in ids)
        # Customers on a test clock are absent unless their clock is asked for.
        return (customer for customer in found if customer.test_clock == clock)

    def _search(self, parts: list[str], params: Params, at: float) -> Json:
        if not self._state.settings.search_available:
            raise Invalid("Search is not available for merchants in your country.")
        limit = whole_number(params, "limit", 10, 1, 100)
        start = whole_number(params, "page", 0, 0, 10**9)
        try:
            found = self._state.search.find(at, parse(params.get("query", "")))
        except QueryError as error:
            raise Invalid(str(error), param="query") from error
        live = [c for c in (self._state.customers[identifier] for identifier in found) if not c.deleted]
        live.sort(key=lambda c: (c.created, c.serial), reverse=True)
        more = len(live) > start + limit
        return {
            "object": "search_result",
            "data": [customer_body(customer) for customer in live[start : start + limit]],
            "has_more": more,
            "next_page": str(start + limit) if more else None,
            "url": "/v1/customers/search",
        }

    def _account(self, parts: list[str], params: Params, at: float) -> Json:
        return {
            "id": self._state.settings.account_id,
            "object": "account",
            "charges_enabled": True,
            "country": "US",
            "default_currency": "usd",
            "details_submitted": True,
            "email": "owner@example.com",
            "payouts_enabled": True,
            "type": "standard",
        }

    # What hangs on customers.

    def _subscriptions(self, parts: list[str], params: Params, at: float) -> Json:
        status = params.get("status")
        customer = params.get("customer")
        pool = list(self._state.subscriptions.values())
        found = [s for s in pool if customer is None or s.customer == customer]
        if status is None:
            found = [s for s in found if s.status not in ENDED]
        elif status != "all":
            found = [s for s in found if s.status == status]
        return _page("/v1/subscriptions", found, params, subscription_body)

    def _subscription(self, parts: list[str], params: Params, at: float) -> Json:
        return subscription_body(self._find_subscription(parts[1]))

    def _update_subscription(self, parts: list[str], params: Params, at: float) -> Json:
        subscription = self._find_subscription(parts[1])
        if subscription.status in ENDED:
            raise Invalid("A canceled subscription can only update its cancellation_details.")
        for name in params:
            if name not in {"cancel_at_period_end", "metadata", "expand"}:
                raise Invalid(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
        if "cancel_at_period_end" in params:
            closing = params["cancel_at_period_end"] == "true"
            self._state.close_subscription(at, subscription.id, closing=closing)
        check_metadata(params.get("metadata", {}))
        subscription.metadata = merge_metadata(subscription.metadata, params.get("metadata", {}))
        return subscription_body(subscription)

    def _cancel(self, parts: list[str], params: Params, at: float) -> Json:
        subscription = self._find_subscription(parts[1])
        if subscription.status in ENDED:
            raise _missing("subscription", parts[1], "id")
        self._state.cancel_subscription(at, subscription.id)
        return subscription_body(subscription)

    def _methods_of(self, parts: list[str], params: Params, at: float) -> Json:
        customer = self._customer(parts[1])
        found = [m for m in self._state.payment_methods.values() if m.customer == customer.id]
        return _page(f"/v1/customers/{customer.id}/payment_methods", found, params, payment_method_body)

    def _methods(self, parts: list[str], params: Params, at: float) -> Json:
        customer = params.get("customer")
        found = [m for m in self._state.payment_methods.values() if m.customer == customer]
        return _page("/v1/payment_methods", found, params, payment_method_body)

    def _intents(self, parts: list[str], params: Params, at: float) -> Json:
        customer = params.get("customer")
        pool = list(self._state.payment_intents.values())
        found = [p for p in pool if customer is None or p.customer == customer]
        return _page("/v1/payment_intents", found, params, payment_intent_body)

    # Small things.

    def _customer(self, identifier: str) -> Customer:
        customer = self._state.customers.get(identifier)
        if customer is None or customer.deleted:
            raise _missing("customer", identifier, "id")
        return customer

    def _find_subscription(self, identifier: str) -> Subscription:
        subscription = self._state.subscriptions.get(identifier)
        if subscription is None:
            raise _missing("subscription", identifier, "id")
        return subscription

    def _assign(self, customer: Customer, params: Params) -> None:
        self._state.assign(customer, {name: params[name] for name in _ASSIGNED & params.keys()})
        for name in params.keys() - _ASSIGNED - _HIDDEN:
            numeric = name in {"balance", "next_invoice_sequence"}
            customer.plain[name] = int(params[name]) if numeric else params[name] or None

    def _expanded(self, customer: Customer, params: Params, wish: str = "subscriptions") -> Json:
        body = customer_body(customer)
        if not customer.deleted and wish in params.get("expand", []):
            going = [s for s in self._state.subscriptions_of(customer.id) if s.status not in ENDED]
            url = f"/v1/customers/{customer.id}/subscriptions"
            body["subscriptions"] = list_body(url, [subscription_body(s) for s in going[:10]], len(going) > 10)
        return body


def _bounds(params: Params) -> tuple[int, int]:
    """`created` as an exact second or as gt/gte/lt/lte, to a closed interval."""
    created = params.get("created")
    if created is None:
        return 0, _MAX
    if isinstance(created, str):
        exact = whole_number(params, "created", 0, 0, _MAX)
        return exact, exact
    low = whole_number(created, "gte", 0, 0, _MAX)
    low = max(low, whole_number(created, "gt", -1, -1, _MAX) + 1)
    high = whole_number(created, "lte", _MAX, 0, _MAX)
    return low, min(high, whole_number(created, "lt", _MAX + 1, 0, _MAX + 1) - 1)


def _page(url: str, found: list[Any], params: Mapping[str, Any], render: Callable[[Any], Json]) -> Json:
    limit = whole_number(dict(params), "limit", 10, 1, 100)
    newest = sorted(found, key=lambda item: item.created, reverse=True)
    cursor = params.get("starting_after")
    if cursor is not None:
        places = [place for place, item in enumerate(newest) if item.id == cursor]
        if not places:
            raise _missing("object", cursor, "starting_after", 400)
        newest = newest[places[0] + 1 :]
    return list_body(url, [render(item) for item in newest[:limit]], len(newest) > limit)
