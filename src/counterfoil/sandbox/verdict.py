"""The judge: compares the true state of both sides, knowing nothing of how they came to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from counterfoil.sandbox.clerk import ClerkState
from counterfoil.sandbox.clerk_user import User
from counterfoil.sandbox.stripe import StripeState
from counterfoil.sandbox.stripe_objects import Customer


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
    metadata key are archived, not orphans. `link_back` None asks for no link-back.
    """

    metadata_key: str = "clerkUserId"
    link_back_key: str = "stripeCustomerId"
    link_back: Literal["public", "private"] | None = "public"
    archived_key: str | None = None
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

    `missing`, `unwanted` (barred, and with a customer) and `wrong_links` hold user ids, `orphans` and `archived`
    customer ids.
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
    wrong_links: tuple[str, ...]
    wrong_fields: tuple[WrongField, ...]
    late: int

    @property
    def clean(self) -> bool:
        """Every eligible user has exactly one customer, in step and linked; no orphans, none to come."""
        wrong = self.missing or self.unwanted or self.duplicates or self.orphans
        return not wrong and not self.wrong_links and not self.wrong_fields and not self.late

    def summary(self) -> dict[str, int]:
        """The counts alone."""
        return {
            name: len(value) if isinstance(value, (tuple, dict)) else value
            for name, value in ((name, getattr(self, name)) for name in self.__slots__)
        }

    def as_json(self, most: int = 100) -> dict[str, Any]:
        """Counts, and up to `most` examples of each kind of fault."""
        body: dict[str, Any] = {"clean": self.clean, "counts": self.summary()}
        for name in ("missing", "unwanted", "orphans", "archived", "wrong_links"):
            body[name] = list(getattr(self, name)[:most])
        body["duplicates"] = {user: list(self.duplicates[user]) for user in list(self.duplicates)[:most]}
        body["wrong_fields"] = [asdict(wrong) for wrong in self.wrong_fields[:most]]
        return body


def judge(clerk: ClerkState, stripe: StripeState, rules: Rules) -> Verdict:
    """Compare the two sides."""
    owned: dict[str, list[Customer]] = {}
    orphans: list[str] = []
    archived: list[str] = []
    customers = 0
    for customer in stripe.live_customers():
        customers += 1
        owner = customer.metadata.get(rules.metadata_key)
        if owner is None:
            continue
        if owner in clerk.users:
            owned.setdefault(owner, []).append(customer)
        elif rules.archived_key is not None and rules.archived_key in customer.metadata:
            archived.append(customer.id)
        else:
            orphans.append(customer.id)
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
        orphans=tuple(orphans),
        archived=tuple(archived),
        wrong_links=tuple(wrong_links),
        wrong_fields=tuple(wrong_fields),
        late=stripe.late_creations(),
    )


def _linked(user: User, customer: Customer, rules: Rules) -> bool:
    if rules.link_back is None:
        return True
    metadata = user.public_metadata if rules.link_back == "public" else user.private_metadata
    return bool(metadata.get(rules.link_back_key) == customer.id)


def _wrong_fields(user: User, customer: Customer, stripe: StripeState, rules: Rules) -> list[WrongField]:
    wrong = []
    for field, wanted in rules.expected(user).items():
        if field == "email" and stripe.settings.refuses_email(wanted):
            continue
        key = field.removeprefix("metadata[").removesuffix("]")
        found = customer.metadata.get(key) if key != field else getattr(customer, field)
        if found != wanted:
            wrong.append(WrongField(user.id, customer.id, field, wanted, found))
    return wrong
