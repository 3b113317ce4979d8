"""Clerk and Stripe as toys: just enough of each to lose, delay, repeat and half do what it is asked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from counterfoil.core.customer import Customer, Subscription
from counterfoil.core.link import Address, Fields
from counterfoil.core.news import News, UserBody, UserDeleted, UserEvent
from counterfoil.core.policy import HOUR, MINUTE, SECOND, LinkBack
from counterfoil.errors import (
    KeyReused,
    NotFound,
    ObjectLocked,
    RateLimited,
    Rejected,
    ReplayedFailure,
    ServerFailed,
    Unreachable,
    UpstreamError,
)

from .support import DAY, NOW, replace

REFUSED = "refused@example.com"
SKEW = 1_500
"""Stripe's clock is ahead of ours by so much."""


@dataclass
class Chaos:
    """The one source of time, chance and faults."""

    random: Random
    now: int = NOW
    rate: float = 0.3
    later: list[tuple[int, Callable[[], None]]] = field(default_factory=list)

    def hit(self, share: float = 1.0) -> bool:
        return self.random.random() < self.rate * share

    def after(self, wait: int, effect: Callable[[], None]) -> None:
        self.later.append((self.now + wait, effect))

    def pass_time(self, until: int) -> None:
        """Go to ``until``; what was to happen by then happens in its order, each at its time."""
        while due := [each for each in self.later if each[0] <= until]:
            first = min(due, key=lambda each: each[0])
            self.later.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = max(self.now, until)


def _error(kind: type[UpstreamError], upstream: str = "stripe", code: str = "") -> UpstreamError:
    return kind("a fault", upstream=upstream, status=0 if kind is Unreachable else 500, code=code)


@dataclass
class ToyCustomer:
    customer_id: str
    owner: str | None
    mark: str | None
    fields: Fields
    created: int
    late: bool
    """Made of a request that was answered with a 500."""
    gone: bool = False
    archived: bool = False
    subscriptions: dict[str, Subscription] = field(default_factory=dict)

    @property
    def subscribed(self) -> bool:
        return any(each.live for each in self.subscriptions.values())


@dataclass
class _Stored:
    """What Stripe keeps of a key."""

    at: int
    fields: Fields
    customer_id: str | None = None
    failed: bool = False


class ToyStripe:
    """Customers, and the memory of idempotency keys."""

    def __init__(self, chaos: Chaos) -> None:
        self.customers: dict[str, ToyCustomer] = {}
        self._keys: dict[str, _Stored] = {}
        self._chaos = chaos

    @property
    def now(self) -> int:
        return self._chaos.now + SKEW

    def live(self, subject_id: str) -> list[ToyCustomer]:
        return [each for each in self.customers.values() if each.owner == subject_id and not each.gone]

    def _before(self) -> None:
        if self._chaos.hit(0.4):
            raise _error(self._chaos.random.choice([Unreachable, RateLimited, ObjectLocked]))

    def _after(self) -> None:
        if self._chaos.hit(0.4):
            raise _error(Unreachable)

    def _make(self, key: str, subject_id: str, fields: Fields, *, late: bool) -> str:
        customer_id = f"cus_{len(self.customers) + 1}"
        self.customers[customer_id] = ToyCustomer(customer_id, subject_id, key, fields, self.now, late)
        return customer_id

    def create(self, key: str, subject_id: str, fields: Fields) -> tuple[str, bool]:
        """Return the id, and whether it was replayed."""
        self._before()
        stored = self._keys.get(key)
        if stored is not None and self.now - stored.at > DAY:
            stored = None
        if stored is not None:
            if stored.fields != fields:
                raise _error(KeyReused)
            if stored.failed:
                raise _error(ReplayedFailure)
            if stored.customer_id is None:
                raise _error(ObjectLocked)
            self._after()
            return stored.customer_id, True
        if fields.email == REFUSED:
            raise _error(Rejected, code="email_invalid")
        self._keys[key] = stored = _Stored(self.now, fields)
        if self._chaos.hit(0.4):
            stored.failed = True
            if self._chaos.random.random() < 0.7:
                wait = self._chaos.random.choice([5 * SECOND, 5 * MINUTE, 2 * HOUR, 23 * HOUR])
                self._chaos.after(wait, lambda: self._finish(key, subject_id, fields))
            raise _error(ServerFailed)
        if self._chaos.hit(0.2):  # cut off, but still at work
            self._chaos.after(5 * SECOND, lambda: self._finish(key, subject_id, fields))
            raise _error(Unreachable)
        stored.customer_id = self._make(key, subject_id, fields, late=False)
        self._after()
        return stored.customer_id, False

    def _finish(self, key: str, subject_id: str, fields: Fields) -> None:
        stored = self._keys[key]
        made = self._make(key, subject_id, fields, late=stored.failed)
        if not stored.failed:
            stored.customer_id = made

    def inspect(self, customer_id: str) -> Customer:
        self._before()
        found = self.customers[customer_id]
        if found.gone:
            return Customer(customer_id=customer_id, gone=True)
        return Customer(
            customer_id=customer_id,
            owner=found.owner,
            mark=found.mark,
            attached=found.subscribed,
            archived=found.archived,
            subscriptions=tuple(each for each in found.subscriptions.values() if each.live),
        )

    def _living(self, customer_id: str) -> ToyCustomer:
        self._before()
        found = self.customers[customer_id]
        if found.gone:
            raise _error(NotFound)
        return found

    def stranger(self, email: str) -> str:
        """A customer of which we know nothing."""
        customer_id = f"cus_{len(self.customers) + 1}"
        made = ToyCustomer(customer_id, None, None, Fields(email=email, name="Stranger"), self.now, late=False)
        self.customers[customer_id] = made
        return customer_id

    def with_email(self, email: str) -> tuple[Customer, ...]:
        self._before()
        return tuple(
            Customer(customer_id=each.customer_id, owner=each.owner, mark=each.mark)
            for each in self.customers.values()
            if each.fields.email == email and not each.gone
        )

    def claim(self, customer_id: str, subject_id: str) -> None:
        found = self._living(customer_id)
        assert found.owner in {None, subject_id}, "nobody else's customer is ever taken"
        found.owner = subject_id
        self._after()

    def update(self, customer_id: str, changes: Fields) -> None:
        found = self._living(customer_id)
        if changes.email == REFUSED:
            raise _error(Rejected, code="email_invalid")
        old = found.fields
        found.fields = Fields(email=changes.email or old.email, name=changes.name or old.name)
        self._after()

    def remove(self, customer_id: str) -> None:
        found = self._living(customer_id)
        found.gone = True
        found.subscriptions = {
            name: replace(each, status="canceled") for name, each in found.subscriptions.items()
        }
        self._after()

    def archive(self, customer_id: str, *, archived: bool) -> None:
        self._living(customer_id).archived = archived
        self._after()

    def subscribe(self, customer_id: str) -> None:
        """A subscription for two hours, and on unless it is to end."""
        name = f"sub_{customer_id[4:]}"
        end = self._chaos.now + 2 * HOUR
        self.customers[customer_id].subscriptions[name] = Subscription(
            subscription_id=name, status="active", period_end=end
        )
        self._chaos.after(2 * HOUR, lambda: self._period_ends(customer_id, name))

    def _period_ends(self, customer_id: str, name: str) -> None:
        held = self.customers[customer_id].subscriptions
        if held[name].closing:
            held[name] = replace(held[name], status="canceled")
        elif held[name].live:
            held[name] = replace(held[name], period_end=self._chaos.now + 2 * HOUR)
            self._chaos.after(2 * HOUR, lambda: self._period_ends(customer_id, name))

    def cancel(self, customer_id: str, subscription_id: str, *, at_once: bool) -> Subscription:
        held = self._living(customer_id).subscriptions
        changes = {"status": "canceled"} if at_once else {"closing": True}
        changed = held[subscription_id] = replace(held[subscription_id], **changes)
        self._after()
        return changed

    def list_since(self, created: int) -> list[ToyCustomer]:
        self._before()
        return [each for each in self.customers.values() if each.created >= created and not each.gone]


def _address(fields: Fields) -> Address:
    """Whoever is named B has not verified the address."""
    if fields.email is None:
        return Address.NONE
    return Address.UNVERIFIED if fields.name == "B" else Address.CARRIED


class ToyClerk:
    """Users, and the deliveries that tell of them: some lost, some late, some twice."""

    def __init__(self, chaos: Chaos, deliver: Callable[[News], None]) -> None:
        self.users: dict[str, UserBody] = {}
        self._older: dict[str, UserBody] = {}
        self._chaos = chaos
        self._deliver = deliver

    def sign_up(self, subject_id: str, fields: Fields) -> None:
        now = self._chaos.now
        body = UserBody(subject_id=subject_id, version=now, created_at=now, fields=fields)
        self.users[subject_id] = replace(body, address=_address(fields))
        self._tell_of(subject_id, created=True)

    def change(self, subject_id: str, fields: Fields | None = None, **more: str) -> UserBody:
        old = self._older[subject_id] = self.users[subject_id]
        fields = fields or old.fields
        new = replace(old, version=self._chaos.now, fields=fields, address=_address(fields), **more)
        self.users[subject_id] = new
        self._tell_of(subject_id, created=False)
        return new

    def delete(self, subject_id: str) -> None:
        del self.users[subject_id]
        self._send(UserDeleted(subject_id=subject_id, sent_at=self._chaos.now, trusted=not self._chaos.hit(0.2)))

    def _tell_of(self, subject_id: str, *, created: bool) -> None:
        trusted = not self._chaos.hit(0.2)
        body = self.users[subject_id]
        self._send(UserEvent(body=body, created=created, sent_at=self._chaos.now, trusted=trusted))

    def _send(self, news: News) -> None:
        copies = 0 if self._chaos.hit(0.3) else 1 + sum(self._chaos.hit() for _ in range(2))
        for _ in range(copies):
            late = self._chaos.random.choice([5 * SECOND, 5 * MINUTE, 2 * HOUR, 27 * HOUR])
            wait = late if self._chaos.hit() else self._chaos.random.randrange(SECOND)
            self._chaos.after(wait, lambda: self._deliver(news))

    def _before(self) -> None:
        if self._chaos.hit(0.4):
            raise _error(self._chaos.random.choice([Unreachable, RateLimited, ServerFailed]), "clerk")

    def user(self, subject_id: str) -> UserBody:
        self._before()
        if subject_id not in self.users or self._chaos.hit(0.05):
            raise _error(NotFound, "clerk")
        stale = self._chaos.hit(0.1)
        return self._older.get(subject_id, self.users[subject_id]) if stale else self.users[subject_id]

    def write_link_back(self, subject_id: str, customer_id: str, place: LinkBack) -> UserBody:
        self._before()
        if subject_id not in self.users:
            raise _error(NotFound, "clerk")
        private = place is LinkBack.PRIVATE
        names: dict[str, Any] = {"private_name" if private else "link_back": customer_id}
        body = self.change(subject_id, **names)
        if self._chaos.hit(0.4):
            raise _error(Unreachable, "clerk")
        return body
