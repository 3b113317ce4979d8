"""The judge: compares the true state of both sides, knowing nothing of how they came to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from counterfoil.sandbox.clerk import ClerkState
from counterfoil.sandbox.clerk_user import User
from counterfoil.sandbox.stripe import StripeState
from counterfoil.sandbox.stripe_objects import ENDED, Customer


def email_and_name(user: User) -> dict[str, str]:
    """What a customer carries by default. Stripe takes names of 256 characters."""
    values = {"email": user.email, "name": user.name[:256] if user.name is not None else None}
    return {field: value for field, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What counts as in step.

    A user is `eligible` for a customer: by default one with an email. One who is `barred` must have none.
    `expected`: the fields that the customer must carry (`metadata[key]` for a key of its metadata); an address
    that Stripe refuses is compared with nothing. `archived_key`: customers of deleted users that carry this
    metadata key are archived, not orphans. `keep`: customers of deleted users may stay as they are;
    `hold_subscribed`: they may while they have a subscription. `link_back` None asks for no link-back.
    """

    metadata_key: str = "clerkUserId"
    link_back_key: str = "stripeCustomerId"
    link_back: Literal["public", "private"] | None = "public"
    archived_key: str | None = None
    keep: bool = False
    hold_subscribed: bool = False
    eligible: Callable[[User], bool] = lambda user: user.email is not None
    barred: Callable[[User], bool] = lambda user: False
    expected: Callable[[User], Mapping[str, str]] = email_and_name
    compare_fields: bool = True


@dataclass(frozen=True, slots=True)
class WrongField:
    """A customer's field that differs from the user's."""

    user: str
    customer: str
    field: str
    wanted: str
    found: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the sides compare.

    `missing`, `unwanted` (barred, and with a customer) and `wrong_links` hold user ids; `orphans`, `archived`,
    `kept` (of deleted users, as the rules allow) and `wrong_archives` (of living users, or still billed) customer
    ids.
    `late` customers will still appear, being the tail of requests that Stripe has answered with a 500.
    """

    users: int
    eligible: int
    customers: int
    owned: int
    missing: tuple[str, ...]
    unwanted: tuple[str, ...]
    duplicates: dict[str, tuple[str, ...]]
    orphans: tuple[str, ...]
    archived: tuple[str, ...]
    kept: tuple[str, ...]
    wrong_archives: tuple[str, ...]
    wrong_links: tuple[str, ...]
    wrong_fields: tuple[WrongField, ...]
    late: int

    @property
    def clean(self) -> bool:
        """Every eligible user has exactly one customer, in step and linked; no orphans, none to come."""
        wrong = self.missing or self.unwanted or self.duplicates or self.orphans or self.wrong_links
        return not wrong and not self.wrong_fields and not self.wrong_archives and not self.late

    def summary(self) -> dict[str, int]:
        """The counts alone."""
        return {
            name: len(value) if isinstance(value, (tuple, dict)) else value
            for name, value in ((name, getattr(self, name)) for name in self.__slots__)
        }

    def as_json(self, most: int = 100) -> dict[str, Any]:
        """Counts, and up to `most` examples of each kind of fault."""
        body: dict[str, Any] = {"clean": self.clean, "counts": self.summary()}
        for name in ("missing", "unwanted", "orphans", "archived", "kept", "wrong_archives", "wrong_links"):
            body[name] = list(getattr(self, name)[:most])
        body["duplicates"] = {user: list(self.duplicates[user]) for user in list(self.duplicates)[:most]}
        body["wrong_fields"] = [asdict(wrong) for wrong in self.wrong_fields[:most]]
        return body


@dataclass(slots=True)
class _Left:
    """Customers whose users are gone, and archives that should not be."""

    orphans: list[str] = field(default_factory=list)
    archived: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    wrong_archives: list[str] = field(default_factory=list)

    def add(self, customer: Customer, stripe: StripeState, rules: Rules, *, marked: bool) -> None:
        billed = any(each.status not in ENDED for each in stripe.subscriptions_of(customer.id))
        if marked:
            (self.wrong_archives if billed else self.archived).append(customer.id)
        elif rules.keep or (rules.hold_subscribed and billed):
            self.kept.append(customer.id)
        else:
            self.orphans.append(customer.id)


def judge(clerk: ClerkState, stripe: StripeState, rules: Rules) -> Verdict:
    """Compare the two sides."""
    owned, left, customers = _sorted(clerk, stripe, rules)
    missing: list[str] = []
    unwanted: list[str] = []
    wrong_links: list[str] = []
    wrong_fields: list[WrongField] = []
    eligible = 0
    for user in clerk.live_users():
        wanted = rules.eligible(user)
        eligible += wanted
        mine = owned.get(user.id, [])
        if mine and rules.barred(user):
            unwanted.append(user.id)
        if not mine:
            if wanted:
                missing.append(user.id)
        elif len(mine) == 1:
            if not _linked(user, mine[0], rules):
                wrong_links.append(user.id)
            if rules.compare_fields:
                wrong_fields += _wrong_fields(user, mine[0], stripe, rules)
    return Verdict(
        users=len(clerk.users),
        eligible=eligible,
        customers=customers,
        owned=sum(len(found) for found in owned.values()),
        missing=tuple(missing),
        unwanted=tuple(unwanted),
        duplicates={user: tuple(c.id for c in found) for user, found in owned.items() if len(found) > 1},
        orphans=tuple(left.orphans),
        archived=tuple(left.archived),
        kept=tuple(left.kept),
        wrong_archives=tuple(left.wrong_archives),
        wrong_links=tuple(wrong_links),
        wrong_fields=tuple(wrong_fields),
        late=stripe.late_creations(),
    )


def _sorted(clerk: ClerkState, stripe: StripeState, rules: Rules) -> tuple[dict[str, list[Customer]], _Left, int]:
    """The customers of each user who is there, what is left of the others, and the number of all."""
    owned: dict[str, list[Customer]] = {}
    left = _Left()
    customers = 0
    for customer in stripe.live_customers():
        customers += 1
        owner = customer.metadata.get(rules.metadata_key)
        if owner is None:
            continue
        marked = rules.archived_key is not None and rules.archived_key in customer.metadata
        if owner in clerk.users:
            owned.setdefault(owner, []).append(customer)
            if marked:
                left.wrong_archives.append(customer.id)
        else:
            left.add(customer, stripe, rules, marked=marked)
    return owned, left, customers


def _linked(user: User, customer: Customer, rules: Rules) -> bool:
    if rules.link_back is None:
        return True
    metadata = user.public_metadata if rules.link_back == "public" else user.private_metadata
    return bool(metadata.get(rules.link_back_key) == customer.id)


def _wrong_fields(user: User, customer: Customer, stripe: StripeState, rules: Rules) -> list[WrongField]:
    wrong = []
    for name, wanted in rules.expected(user).items():
        if name == "email" and stripe.settings.refuses_email(wanted):
            continue
        key = name.removeprefix("metadata[").removesuffix("]")
        found = customer.metadata.get(key) if key != name else getattr(customer, name)
        if found != wanted:
            wrong.append(WrongField(user.id, customer.id, name, wanted, found))
    return wrong
