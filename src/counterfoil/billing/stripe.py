"""Stripe's customers, through the official SDK on its aiohttp client (facts 3).

The SDK's own retries are off: what a failure means is decided in `core.outcome`.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp
import msgspec
import stripe

from counterfoil.billing.translate import subscription_of, translated
from counterfoil.core.customer import HIDDEN, Customer, Subscription
from counterfoil.core.link import Fields
from counterfoil.errors import KeyRefused, NotFound, Rejected
from counterfoil.upstream.gate import Gate, Ticket

T = TypeVar("T")
PAGE = 100
"""Customers a page: the most that Stripe gives."""
MARK = "counterfoil"
"""The metadata key of our mark: the idempotency key that made the customer."""
ARCHIVED = "counterfoilArchived"
"""The metadata key of our mark of an archived customer: when its user was deleted, in UTC."""
ARCHIVED_OF = "counterfoilArchivedOf"
"""The metadata key that says whose a customer was that an applied plan has archived."""
TIMEOUT = aiohttp.ClientTimeout(total=20, connect=5)

# It would write a file into the home folder and send an id from it (facts 3.7).
stripe.enable_telemetry = False


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A live customer on a list. ``created`` in milliseconds."""

    customer_id: str
    created: int
    owner: str | None
    mark: str | None
    archived: bool


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page of customers, newest first. ``at``: Stripe's time (ms) that the list is no older than."""

    customers: tuple[Listed, ...]
    more: bool
    at: int


class Created(msgspec.Struct, frozen=True):
    """A create's answer. ``replayed``: it is the stored answer of an earlier request."""

    customer_id: str
    replayed: bool
    request_id: str


class StripeApi:
    """Stripe's customers. Every method raises `UpstreamError` where it has no answer to give."""

    def __init__(
        self,
        key: str,
        base: str | None,
        gate: Gate,
        owner_key: str,
        now: Callable[[], int],
        http_client: stripe.HTTPClient | None = None,
    ) -> None:
        """Args:
        key: a secret or restricted key.
        base: ``STRIPE_API_BASE``; ``None`` for Stripe's own.
        gate: quota and breaker.
        owner_key: the metadata key that holds the user's id.
        now: our time, in milliseconds: Stripe's is measured against it.
        http_client: another transport than the real network.
        """
        self._http = http_client or stripe.AIOHTTPClient(timeout=TIMEOUT)
        self._client = stripe.StripeClient(
            key,
            base_addresses={"api": base.rstrip("/")} if base else {},
            max_network_retries=0,
            http_client=self._http,
        )
        self._gate = gate
        self._owner_key = owner_key
        self._now = now
        self.offset = 0
        """Stripe's time less ours at the most, in milliseconds, as of the last answer."""

    def time(self) -> int:
        """Stripe's time, now, at the latest (ms): by the very clock that it was compared with."""
        return self._now() + self.offset

    async def account(self, ticket: Ticket) -> str | None:
        """The account's id; ``None`` where a restricted key may not ask."""
        try:
            account = await self._call("account", ticket, self._client.v1.accounts.retrieve_current_async)
        except KeyRefused as error:
            self.forgive(error)
            return None
        return str(account.id)

    async def livemode(self, ticket: Ticket) -> bool | None:
        """What a customer says of the key's mode; ``None`` where there is no customer yet."""
        found = await self._call(
            "customers.list", ticket, lambda: self._client.v1.customers.list_async({"limit": 1})
        )
        return bool(found.data[0].livemode) if found.data else None

    async def customers(self, ticket: Ticket, created_from: int, after: str | None) -> Page:
        """One page of live customers created since ``created_from`` (Stripe's time, ms), newest first."""
        query: dict[str, Any] = {"limit": PAGE}
        if created_from > 0:
            query["created"] = {"gte": created_from // 1000}
        if after is not None:
            query["starting_after"] = after
        found, at = await self._timed(
            "customers.list",
            ticket,
            lambda: self._client.v1.customers.list_async(query),  # type: ignore[arg-type]
        )
        listed = []
        for each in found.data:
            metadata = _metadata(each)
            listed.append(
                Listed(
                    customer_id=each.id,
                    created=each.created * 1000,
                    owner=metadata.get(self._owner_key) or None,
                    mark=metadata.get(MARK) or None,
                    archived=bool(metadata.get(ARCHIVED)),
                )
            )
        return Page(customers=tuple(listed), more=found.has_more, at=at)

    async def inspect(
        self, customer_id: str, ticket: Ticket, *, thoroughly: bool = False, subscriptions: bool = False
    ) -> Customer:
        """Retrieve a customer. A deleted one and an unknown one are both ``gone``, never an error.

        ``thoroughly``: also whether anything hangs on it (subscription, payment method, payment); what the key
        may not see counts as attached. ``subscriptions``: also those, with one that is `HIDDEN` where the key may
        not see them.
        """
        _guard(customer_id)
        try:
            found, told = await self._retrieve(customer_id, ticket, expanded=thoroughly or subscriptions)
        except NotFound:
            return Customer(customer_id=customer_id, gone=True)
        if getattr(found, "deleted", False):
            return Customer(customer_id=customer_id, gone=True)
        attached = (not told or await self._attached(found, ticket)) if thoroughly else None
        shown = await self._subscriptions(found, ticket, told=told) if subscriptions else None
        return self._seen(found, attached=attached, subscriptions=shown)

    async def with_email(self, email: str, ticket: Ticket) -> tuple[Customer, ...]:
        """The live customers that carry this address, as it is given and in lower case.

        Stripe's filter is exact and minds the case (facts 3.2). What is more than a page is cut: nobody needs it.
        """
        found: dict[str, Customer] = {}
        for spelling in dict.fromkeys((email, email.lower())):
            page = await self._call(
                "customers.list",
                ticket,
                lambda spelling=spelling: self._client.v1.customers.list_async(  # type: ignore[misc]
                    {"email": spelling, "limit": PAGE}
                ),
            )
            found.update({each.id: self._seen(each) for each in page.data})
        return tuple(found.values())

    def _seen(
        self,
        found: stripe.Customer,
        *,
        attached: bool | None = None,
        subscriptions: tuple[Subscription, ...] | None = None,
    ) -> Customer:
        metadata = _metadata(found)
        return Customer(
            customer_id=found.id,
            owner=metadata.get(self._owner_key) or None,
            mark=metadata.get(MARK) or None,
            livemode=bool(found.livemode),
            attached=attached,
            archived=bool(metadata.get(ARCHIVED)),
            subscriptions=subscriptions,
        )

    async def _subscriptions(
        self, customer: stripe.Customer, ticket: Ticket, *, told: bool
    ) -> tuple[Subscription, ...]:
        if not told:
            return (Subscription(subscription_id="", status=HIDDEN),)
        found = customer.subscriptions
        if found is not None and found.has_more:  # the customer shows ten of them
            query: Any = {"customer": customer.id, "limit": PAGE}
            many = self._client.v1.subscriptions.list_async
            found = await self._call("subscriptions.list", ticket, lambda: many(query))
        return tuple(subscription_of(each) for each in found.data) if found is not None else ()

    async def _retrieve(self, customer_id: str, ticket: Ticket, *, expanded: bool) -> tuple[stripe.Customer, bool]:
        """A customer, and whether the key could see what is asked of it."""
        retrieve = self._client.v1.customers.retrieve_async
        if expanded:
            try:
                expand: Any = {"expand": ["subscriptions"]}
                send = lambda: retrieve(customer_id, expand)  # noqa: E731
                return await self._call("customers.retrieve", ticket, send), True
            except KeyRefused as error:
                self.forgive(error)
        found = await self._call("customers.retrieve", ticket, lambda: retrieve(customer_id))
        return found, not expanded

    def forgive(self, error: KeyRefused) -> None:
        """A restricted key lacks one permission, and is good otherwise; any other refusal is raised again."""
        if error.status != 403:
            raise error
        self._gate.breaker.succeeded()

    async def _attached(self, customer: stripe.Customer, ticket: Ticket) -> bool:
        subscriptions = getattr(customer, "subscriptions", None)
        if subscriptions is not None and subscriptions.data:
            return True
        if getattr(customer, "balance", 0) or getattr(customer, "default_source", None):
            return True
        methods = self._client.v1.payment_methods.list_async
        intents = self._client.v1.payment_intents.list_async
        try:
            if (
                await self._call(
                    "payment_methods.list", ticket, lambda: methods({"customer": customer.id, "limit": 1})
                )
            ).data:
                return True
            found = await self._call(
                "payment_intents.list", ticket, lambda: intents({"customer": customer.id, "limit": 1})
            )
        except KeyRefused as error:
            self.forgive(error)
            return True
        return bool(found.data)

    async def create(self, subject_id: str, fields: Fields, key: str, ticket: Ticket) -> Created:
        """POST a customer under an idempotency key."""
        metadata = {**(fields.metadata or {}), self._owner_key: subject_id, MARK: key}
        params = {**_params(fields), "metadata": metadata}
        made = await self._call(
            "customers.create",
            ticket,
            lambda: self._client.v1.customers.create_async(params, {"idempotency_key": key}),  # type: ignore[arg-type]
        )
        replayed = _header(made, "idempotent-replayed") == "true"
        return Created(str(made.id), replayed, _header(made, "request-id"))

    async def update(self, customer_id: str, changes: Fields, ticket: Ticket) -> str:
        """POST the fields that are set; returns the request id."""
        return await self._update(customer_id, _params(changes), ticket)

    async def claim(self, customer_id: str, subject_id: str, ticket: Ticket) -> str:
        """Write the user's id into the metadata of a customer that has none; other keys stay."""
        return await self._update(customer_id, {"metadata": {self._owner_key: subject_id}}, ticket)

    async def archive(self, customer_id: str, at: int, ticket: Ticket) -> str:
        """Mark a customer as archived; its user was deleted at ``at`` (ms). Sent twice it is the same."""
        when = datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return await self._update(customer_id, {"metadata": {ARCHIVED: when}}, ticket)

    async def retire(self, customer_id: str, subject_id: str, at: int, ticket: Ticket) -> str:
        """Archive a customer for good: it names its user under another key, so that nobody takes it for theirs."""
        when = datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = {ARCHIVED: when, ARCHIVED_OF: subject_id, self._owner_key: ""}
        return await self._update(customer_id, {"metadata": metadata}, ticket)

    async def restore(self, customer_id: str, ticket: Ticket) -> str:
        """Take that mark away: an empty value removes its key (facts 3.2)."""
        return await self._update(customer_id, {"metadata": {ARCHIVED: ""}}, ticket)

    async def cancel(self, subscription_id: str, ticket: Ticket, *, at_once: bool) -> tuple[Subscription, str]:
        """End a subscription, at once or with its period; returns it as it is then, and the request id.

        A subscription that is over already is answered as such. A key that may not do it: `Rejected`.
        """
        _guard(subscription_id, "sub_")
        subscriptions = self._client.v1.subscriptions
        closing: Any = {"cancel_at_period_end": True}
        try:
            if at_once:
                operation, send = "subscriptions.cancel", lambda: subscriptions.cancel_async(subscription_id)
            else:
                operation, send = (
                    "subscriptions.update",
                    lambda: subscriptions.update_async(subscription_id, closing),
                )
            changed = await self._call(operation, ticket, send)
        except NotFound as error:
            return Subscription(subscription_id=subscription_id, status="canceled"), error.request_id
        except KeyRefused as error:
            self.forgive(error)
            raise Rejected(
                str(error), upstream="stripe", status=error.status, code=error.code, request_id=error.request_id
            ) from error
        return subscription_of(changed), _header(changed, "request-id")

    async def _update(self, customer_id: str, params: dict[str, Any], ticket: Ticket) -> str:
        _guard(customer_id)
        update = self._client.v1.customers.update_async
        changed = await self._call(
            "customers.update",
            ticket,
            lambda: update(customer_id, params),  # type: ignore[arg-type]
        )
        return _header(changed, "request-id")

    async def remove(self, customer_id: str, ticket: Ticket) -> str:
        """DELETE a customer: at once, for good, and its subscriptions with it (facts 3.2)."""
        _guard(customer_id)
        gone = await self._call(
            "customers.delete", ticket, lambda: self._client.v1.customers.delete_async(customer_id)
        )
        return _header(gone, "request-id")

    async def raw(self, operation: str, ticket: Ticket, path: str, query: Mapping[str, Any]) -> dict[str, Any]:
        """GET ``path``, as plain JSON."""
        answer = await self._call(operation, ticket, lambda: self._client.raw_request_async("get", path, **query))
        told: dict[str, Any] = answer.data
        return told

    async def close(self) -> None:
        """Let the connections go."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def _call(self, operation: str, ticket: Ticket, send: Callable[[], Awaitable[T]]) -> T:
        return (await self._timed(operation, ticket, send))[0]

    async def _timed(self, operation: str, ticket: Ticket, send: Callable[[], Awaitable[T]]) -> tuple[T, int]:
        """A call's result, and Stripe's time (ms) that it is no older than."""

        async def told() -> tuple[T, int]:
            sent = self._now()
            try:
                result = await send()
            except stripe.StripeError as error:
                self._measure(error.headers or {}, sent)
                raise translated(error) from error
            return result, self._measure(_headers(result), sent)

        return await self._gate.call(operation, ticket, told)

    def _measure(self, headers: Mapping[str, str], sent: int) -> int:
        """Compare clocks by an answer's ``Date``, which was written, in whole seconds, while the call lasted.

        Returns:
            The earliest that Stripe's clock can have shown when the call was sent (ms).
        """
        text = next((value for name, value in headers.items() if name.lower() == "date"), "")
        try:
            told = int(parsedate_to_datetime(text).timestamp() * 1000)
        except ValueError:
            return sent + self.offset - 60_000  # no date: far on the safe side
        self.offset = told + 1_000 - sent
        return told - (self._now() - sent)


def is_live(key: str) -> bool | None:
    """Whether a Stripe key is of live mode, by its prefix; ``None``: it does not tell."""
    parts = key.split("_")
    return {"live": True, "test": False}.get(parts[1]) if len(parts) > 2 else None


def _guard(identifier: str, prefix: str = "cus_") -> None:
    """An empty id would address the whole collection (facts 3.7)."""
    if not identifier.startswith(prefix) or not identifier[4:].replace("_", "").isalnum():
        raise NotFound(f"not an id that begins with {prefix}", upstream="stripe", status=404)


def _params(fields: Fields) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(fields).items() if value is not None}


def _metadata(customer: Any) -> dict[str, str]:
    metadata = getattr(customer, "metadata", None)
    return dict(metadata.to_dict()) if metadata is not None else {}


def _headers(result: Any) -> Mapping[str, str]:
    response = getattr(result, "last_response", None)
    return response.headers if response is not None else {}


def _header(result: Any, name: str) -> str:
    return next((value for key, value in _headers(result).items() if key.lower() == name), "")
