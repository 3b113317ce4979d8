"""Stripe's side of the world: customers and what hangs on them, in one account and one mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Any, Literal, TypedDict, Unpack

from counterfoil.sandbox.calls import CallLog
from counterfoil.sandbox.identifiers import Identifiers
from counterfoil.sandbox.limits import Window
from counterfoil.sandbox.ordering import Order
from counterfoil.sandbox.stripe_forms import merge_metadata
from counterfoil.sandbox.stripe_idempotency import KeyStore
from counterfoil.sandbox.stripe_objects import (
    ENDED,
    Customer,
    PaymentIntent,
    PaymentMethod,
    Subscription,
)
from counterfoil.sandbox.stripe_search import SearchIndex

DAY = 24 * 3600


def ends_with_invalid(email: str) -> bool:
    """The addresses that the stand-in refuses unless told otherwise; which ones Stripe refuses is not
    published.
    """
    return email.lower().endswith(".invalid-for-stripe")


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeSettings:
    """One account in one mode; the key's prefix says which. Limits are requests per second; None lifts one.

    `global_limit` 0 means Stripe's own: 100 live, 25 in a sandbox. `key_keep` (seconds) is how long an
    idempotency key is remembered, `search_lag` (seconds) how far search trails. `deleted_cursor` is what
    `starting_after` does with a deleted customer. `dates_at_answer` stamps `Date` when the answer leaves,
    not when the work is done.
    """

    secret_key: str = "sk_test_stripeSandbox"
    account_id: str = "acct_1Sandbox00000000"
    global_limit: int | None = 0
    endpoint_limit: int | None = 25
    endpoint_limits: Mapping[str, int | None] = field(default_factory=lambda: {"customers.search": 20})
    search_lag: float = 30.0
    search_available: bool = True
    key_keep: float = 1.0 * DAY
    refuses_email: Callable[[str], bool] = ends_with_invalid
    store_email_invalid: bool = False
    deleted_cursor: Literal["refuse", "continue"] = "refuse"
    dates_at_answer: bool = False
    log_size: int = 100_000


class CustomerFields(TypedDict, total=False):
    """What a customer may be given. Metadata merges; an empty string removes a key or clears a field."""

    email: str | None
    name: str | None
    phone: str | None
    description: str | None
    metadata: dict[str, str]
    test_clock: str | None


class StripeState:
    """What one account holds. Direct methods act as the dashboard or another program; `stripe_api` is the
    HTTP side.
    """

    def __init__(self, settings: StripeSettings, random: Random) -> None:
        self.settings = settings
        self.log = CallLog(settings.log_size)
        self.identifiers = Identifiers(random)
        self.secret_key = settings.secret_key
        self.expired_keys: set[str] = set()
        self.forbidden: set[str] = set()
        self.livemode = "_live_" in settings.secret_key
        self.keys = KeyStore(settings.key_keep)
        self.search = SearchIndex(settings.search_lag)
        self.customers: dict[str, Customer] = {}
        self.by_created = Order(lambda identifier, _: not self.customers[identifier].deleted)
        self.by_email: dict[str, dict[str, None]] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self._subscribed: dict[str, list[str]] = {}
        self.payment_methods: dict[str, PaymentMethod] = {}
        self.payment_intents: dict[str, PaymentIntent] = {}
        self.busy: dict[str, float] = {}
        limit = settings.global_limit
        self.global_window = Window((100 if self.livemode else 25) if limit == 0 else limit, 1.0)
        self.endpoint_windows: dict[str, Window] = {}
        self.endpoint_limit = settings.endpoint_limit
        self.endpoint_limits = dict(settings.endpoint_limits)
        self._serial = 0
        self._late: list[tuple[float, int, Customer]] = []
        self._periods: list[tuple[int, str]] = []

    # What people and other programs do.

    def create_customer(self, now: float, **fields: Unpack[CustomerFields]) -> str:
        """A customer that somebody else makes; answers its id."""
        customer = self.new_customer(now)
        self.assign(customer, dict(fields))
        self.insert(now, customer)
        return customer.id

    def edit_customer(self, now: float, customer_id: str, **changes: Unpack[CustomerFields]) -> None:
        """Change a customer in the dashboard."""
        customer = self._live(customer_id)
        self.assign(customer, dict(changes))
        self.touched(now, customer)

    def delete_customer(self, now: float, customer_id: str) -> None:
        """Delete for good: subscriptions end at once, cards are gone, only the id is remembered."""
        customer = self._live(customer_id)
        for subscription in self.subscriptions_of(customer_id):
            if subscription.status not in ENDED:
                self.cancel_subscription(now, subscription.id)
        for method in [m for m in self.payment_methods.values() if m.customer == customer_id]:
            del self.payment_methods[method.id]
        self._unlist_email(customer)
        customer.deleted = True
        customer.email = customer.name = customer.phone = customer.description = None
        customer.metadata, customer.plain = {}, {}
        self.search.changed(now, customer)

    def add_subscription(
        self,
        now: float,
        customer_id: str,
        *,
        status: str = "active",
        price: str = "price_sandbox",
        period: int = 30 * DAY,
    ) -> str:
        """A subscription, renewed every `period` seconds; answers its id."""
        identifier = self.identifiers.make("sub_1", 23)
        customer, begun = self._live(customer_id), int(now)
        subscription = Subscription(
            identifier, customer.id, begun, self.livemode, status, price, begun, begun + period
        )
        self.subscriptions[identifier] = subscription
        self._subscribed.setdefault(customer.id, []).append(identifier)
        heappush(self._periods, (subscription.current_period_end, identifier))
        return identifier

    def close_subscription(self, now: float, subscription_id: str, *, closing: bool = True) -> None:
        """Let a subscription end with its period, or, `closing` False, go on after all."""
        subscription = self.subscriptions[subscription_id]
        subscription.cancel_at_period_end = closing
        subscription.canceled_at = int(now) if closing else None

    def cancel_subscription(self, now: float, subscription_id: str) -> None:
        """End a subscription at once."""
        subscription = self.subscriptions[subscription_id]
        subscription.status = "canceled"
        subscription.canceled_at = subscription.ended_at = int(now)

    def attach_payment_method(self, now: float, customer_id: str) -> str:
        """A card on a customer; answers its id."""
        identifier = self.identifiers.make("pm_1", 23)
        customer = self._live(customer_id)
        self.payment_methods[identifier] = PaymentMethod(identifier, customer.id, int(now), self.livemode)
        return identifier

    def add_payment_intent(
        self, now: float, customer_id: str, *, amount: int = 1000, status: str = "succeeded"
    ) -> str:
        """A payment by a customer; answers its id."""
        identifier = self.identifiers.make("pi_3", 23)
        customer = self._live(customer_id)
        intent = PaymentIntent(identifier, customer.id, int(now), self.livemode, amount, status)
        self.payment_intents[identifier] = intent
        return identifier

    def roll_key(self, secret_key: str | None = None) -> str:
        """A new secret key; the old one is expired from here on. Answers the new one."""
        self.expired_keys.add(self.secret_key)
        self.secret_key = secret_key or self.identifiers.make(self.secret_key.rsplit("_", 1)[0] + "_", 24)
        return self.secret_key

    def restrict(self, *operations: str) -> None:
        """The key loses these operations: they answer 403."""
        self.forbidden.update(operations)

    def permit(self, *operations: str) -> None:
        """The key gets these operations back; all of them when none is named."""
        self.forbidden.difference_update(operations or set(self.forbidden))

    def lift_limits(self) -> None:
        """No limits from here on."""
        self.global_window.limit = None
        self.endpoint_limit = None
        self.endpoint_limits.clear()
        self.endpoint_windows.clear()

    # What the API and the verdict need.

    def live_customers(self) -> Iterator[Customer]:
        """Every customer that is there, in no order of meaning."""
        return (customer for customer in self.customers.values() if not customer.deleted)

    def subscriptions_of(self, customer_id: str) -> list[Subscription]:
        """All subscriptions of a customer, ended ones too, newest first."""
        found = [self.subscriptions[identifier] for identifier in self._subscribed.get(customer_id, ())]
        return sorted(found, key=lambda s: s.created, reverse=True)

    def new_customer(self, now: float) -> Customer:
        """A customer with an id that nobody has seen yet; `insert` makes it exist."""
        self._serial += 1
        return Customer(self.identifiers.make("cus_", 14), self._serial, int(now), self.livemode)

    def assign(self, customer: Customer, values: Mapping[str, Any]) -> None:
        """Set fields; what is not given stays. Does not tell search: `insert` and `touched` do."""
        if "email" in values:
            listed = customer.id in self.customers
            if listed:
                self._unlist_email(customer)
            customer.email = values["email"] or None
            if listed:
                self._list_email(customer)
        for name in ("name", "phone", "description", "test_clock"):
            if name in values:
                setattr(customer, name, values[name] or None)
        if "metadata" in values:
            customer.metadata = merge_metadata(customer.metadata, values["metadata"])

    def insert(self, now: float, customer: Customer) -> None:
        """Make a customer exist."""
        self.customers[customer.id] = customer
        self.by_created.add(customer.created, customer.serial, customer.id)
        self._list_email(customer)
        self.search.changed(now, customer)

    def insert_late(self, at: float, customer: Customer) -> None:
        """Make it exist at `at`: Stripe finishing a request that it has answered already."""
        heappush(self._late, (at, customer.serial, customer))

    def touched(self, now: float, customer: Customer) -> None:
        """Let search learn of a change."""
        self.search.changed(now, customer)

    def advance(self, now: float) -> None:
        """Carry out what was to happen by now: late creations, and periods that end."""
        while self._periods and self._periods[0][0] <= now:
            end, identifier = heappop(self._periods)
            self._end_period(end, self.subscriptions[identifier])
        while self._late and self._late[0][0] <= now:
            at, _, customer = heappop(self._late)
            self.insert(at, customer)

    def _end_period(self, end: int, subscription: Subscription) -> None:
        if subscription.status in ENDED:
            return
        if subscription.cancel_at_period_end:
            canceled_at = subscription.canceled_at
            self.cancel_subscription(end, subscription.id)
            subscription.canceled_at = canceled_at  # when it was asked for, not when it took effect
            return
        length = subscription.current_period_end - subscription.current_period_start
        subscription.current_period_start, subscription.current_period_end = end, end + length
        heappush(self._periods, (subscription.current_period_end, subscription.id))

    def late_creations(self) -> int:
        """How many customers are still to appear."""
        return len(self._late)

    def next_late(self) -> float | None:
        """When the next of them appears; None when there is none."""
        return self._late[0][0] if self._late else None

    def endpoint_window(self, operation: str) -> Window:
        """The limit of one named operation."""
        window = self.endpoint_windows.get(operation)
        if window is None:
            limit = self.endpoint_limits.get(operation, self.endpoint_limit)
            window = self.endpoint_windows[operation] = Window(limit, 1.0)
        return window

    def _live(self, customer_id: str) -> Customer:
        customer = self.customers[customer_id]
        if customer.deleted:
            raise KeyError(f"{customer_id} has been deleted")
        return customer

    def _list_email(self, customer: Customer) -> None:
        if customer.email is not None:
            self.by_email.setdefault(customer.email, {})[customer.id] = None

    def _unlist_email(self, customer: Customer) -> None:
        found = self.by_email.get(customer.email or "", {})
        found.pop(customer.id, None)
        if customer.email is not None and not found:
            self.by_email.pop(customer.email, None)
