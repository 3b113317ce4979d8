"""A mess as an old handler leaves it: duplicates, orphans, stale addresses, lost links; planted by seed.

What was planted is told, so that an audit can be held against it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from counterfoil.sandbox.sandbox import Sandbox

OWNER, NAMED, ARCHIVED = "clerkUserId", "stripeCustomerId", "counterfoilArchived"


@dataclass(frozen=True, slots=True, order=True)
class Planted:
    """One thing that is wrong. ``person``: no rule may mend it. ``subject`` or ``customer`` "": either."""

    kind: str
    subject: str = ""
    customer: str = ""
    person: bool = False


@dataclass(slots=True)
class Mess:
    """What was planted, and what must come through whatever is done about it."""

    planted: set[Planted] = field(default_factory=set)
    subscribed: set[str] = field(default_factory=set)
    """Customers with a live subscription: none of them may ever be lost."""
    keepers: dict[str, str] = field(default_factory=dict)
    """Of users with several customers: the one that stays."""
    adopted: dict[str, str] = field(default_factory=dict)
    """Users, and the customer that is to become theirs."""
    mapping: dict[str, str] = field(default_factory=dict)
    """What a person knows: users, and their customers."""


_WEIGHTS = {
    "in_step": 50,
    "missing": 7,
    "no_email": 2,
    "several": 9,
    "gone": 8,
    "stale": 7,
    "unlinked": 6,
    "foreign": 5,
    "unclaimed": 6,
    "guest": 4,
}


class Planter:
    """Plants users and customers that were there long before anybody looks."""

    def __init__(self, sandbox: Sandbox, seed: int, now: float, span: float = 40 * 86_400.0) -> None:
        """Args:
        sandbox: where.
        seed: the same mess each time.
        now: Unix seconds; all of it is over a day older.
        span: the seconds over which it came about.
        """
        self._clerk, self._stripe = sandbox.clerk, sandbox.stripe
        self._random = Random(f"{seed} mess")
        self._begin, self._span = now - 86_400.0 - span, span
        self._at = self._begin
        self._number = 0
        self.mess = Mess()

    def plant(self, count: int) -> Mess:
        """So many cases, of every kind."""
        cases = self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=count)
        for place, case in enumerate(cases):
            self._at = self._begin + self._span * place / max(1, count)
            getattr(self, f"_{case}")()
        return self.mess

    # Small parts.

    def _user(self, *, email: bool = True, verified: bool = True) -> str:
        self._number += 1
        address = f"user{self._number}@example.com" if email else None
        return self._clerk.create_user(
            self._at,
            silent=True,
            email=address,
            verified=verified,
            first_name="Ada",
            last_name=f"N{self._number}",
        )

    def _customer(self, owner: str | None, like: str | None = None, email: str | None = None) -> str:
        self._at += 1.0
        user = self._clerk.users.get(like or owner or "")
        return self._stripe.create_customer(
            self._at,
            email=email or (user.email if user is not None else f"guest{self._number}@example.org"),
            name=user.name if user is not None else "A Guest",
            metadata={OWNER: owner} if owner is not None else {},
        )

    def _name(self, user: str, customer: str | None) -> None:
        self._clerk.users[user].public_metadata = {NAMED: customer} if customer is not None else {}

    def _subscribe(self, customer: str) -> str:
        self._stripe.add_subscription(self._at, customer, period=10_000 * 86_400)
        self.mess.subscribed.add(customer)
        return customer

    def _pair(self) -> tuple[str, str]:
        user = self._user()
        customer = self._customer(user)
        self._name(user, customer)
        if self._random.random() < 0.2:
            self._subscribe(customer)
        return user, customer

    def _add(self, kind: str, subject: str = "", customer: str = "", *, person: bool = False) -> None:
        self.mess.planted.add(Planted(kind, subject, customer, person))

    # Cases.

    def _in_step(self) -> None:
        self._pair()

    def _no_email(self) -> None:
        self._user(email=False)

    def _missing(self) -> None:
        self._add("missing", self._user())

    def _several(self) -> None:
        user = self._user()
        oldest, *others = made = [self._customer(user) for _ in range(self._random.choice((2, 2, 3)))]
        way = self._random.choice(("subscribed", "paid", "named", "oldest", "two", "archived"))
        keeper = self._random.choice(others)
        named = self._random.choice(made)
        if way == "archived":  # somebody has marked it, and it names the user all the same
            for each in others:
                self._stripe.edit_customer(self._at, each, metadata={ARCHIVED: "2026-01-01T00:00:00Z"})
            named = keeper = oldest
        if way == "two":
            self._subscribe(oldest)
            self._subscribe(keeper)
            self._add("duplicate", user, person=True)
            return
        if way == "subscribed":
            self._subscribe(keeper)
            self._stripe.add_payment_intent(self._at, oldest)
        elif way == "paid":
            self._stripe.add_payment_intent(self._at, keeper)
            self._stripe.add_payment_intent(self._at, oldest, status="canceled")
        elif way == "named":
            named = keeper
        elif way == "oldest":
            keeper, named = oldest, ""
        self._name(user, named or None)
        self.mess.keepers[user] = keeper
        self._add("duplicate", user, keeper)
        if not named:
            self._add("unlinked", user, keeper)

    def _gone(self) -> None:
        owner = f"user_2gone{self._number:020d}"
        self._number += 1
        way = self._random.choice(("bare", "bare", "paid", "subscribed", "two", "mixed"))
        made = [self._customer(owner) for _ in range(2 if way in {"two", "mixed"} else 1)]
        if way == "paid":
            self._stripe.add_payment_intent(self._at, made[0])
        if way in {"subscribed", "mixed"}:
            self._subscribe(made[0])
        for each in made:
            self._add("orphan", owner, each, person=way in {"subscribed", "mixed"})

    def _stale(self) -> None:
        user, customer = self._pair()
        way = self._random.choice(("email", "name", "both"))
        if way != "name":
            self._stripe.edit_customer(self._at, customer, email=f"old{self._number}@example.net")
        if way != "email":
            self._stripe.edit_customer(self._at, customer, name="Old Name")
        self._add("stale", user, customer)

    def _unlinked(self) -> None:
        user, customer = self._pair()
        way = self._random.choice(("none", "none", "guest", "subscribed"))
        self._name(user, None)
        if way != "none":
            guest = self._customer(None, email=f"guest{self._number}@example.org")
            self._name(user, guest)
            if way == "subscribed":
                self._subscribe(guest)
        self._add("unlinked", user, customer, person=way == "subscribed")

    def _foreign(self) -> None:
        _, other = self._pair()
        way = self._random.choice(("another's", "deleted", "mode", "no_id", "deleted, none", "another's, none"))
        if way.endswith("none"):
            user, customer = self._user(), ""
        else:
            user, customer = self._pair()
        named = {"another's": other, "mode": "cus_OfAnotherMode00", "no_id": "premium"}.get(way.partition(",")[0])
        if named is None:
            named = self._customer(None)
            self._stripe.delete_customer(self._at, named)
        self._name(user, named)
        self._add("foreign", user, customer, person=way in {"no_id", "another's, none"})

    def _unclaimed(self) -> None:
        way = self._random.choice(("clerk", "verified", "unverified", "two", "map", "rivals"))
        user = self._user(verified=way != "unverified")
        customer = self._customer(
            None, like=user, email="somebody@example.org" if way in {"clerk", "map"} else None
        )
        if way == "clerk":
            self._name(user, customer)
        if way == "map":
            self.mess.mapping[user] = customer
        if way in {"clerk", "map", "verified"}:
            self.mess.adopted[user] = customer
            if self._random.random() < 0.3:
                self._subscribe(customer)
        if way == "two":
            self._add("unclaimed", "", self._customer(None, like=user), person=True)
        if way == "rivals":
            rival = self._user()
            for each in (user, rival):
                self._name(each, customer)
        self._add("unclaimed", "", customer, person=way in {"unverified", "two", "rivals"})

    def _guest(self) -> None:
        self._number += 1
        guest = self._customer(None)
        if self._random.random() < 0.3:
            self._subscribe(guest)
