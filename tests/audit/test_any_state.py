"""For any state of both sides: plan, apply, audit; then all is clean, or only what is left for a person."""

from random import Random
from typing import Any

import pytest

from counterfoil.audit import plan_file
from counterfoil.sandbox.verdict import Rules
from tests.audit.support import CHOSEN, apply, audit
from tests.harness import World, scenario

OTHER = "somebody else's key"
"""What another program has written under our key: no user's id."""


def scatter(world: World, seed: int) -> set[str]:
    """Users and customers who name each other at random; answers the customers with live subscriptions."""
    random = Random(seed)
    clerk, stripe = world.sandbox.clerk, world.sandbox.stripe
    long_ago = world.time() - 10 * 86_400
    gone = ["user_2gone0000000000000000000001", "user_2gone0000000000000000000002"]
    users = []
    for number in range(random.randint(1, 7)):
        email = f"{random.choice('abc')}{number}@example.com" if random.random() < 0.9 else None
        users.append(
            clerk.create_user(
                long_ago + number, silent=True, email=email, verified=random.random() < 0.8, first_name="Ada"
            )
        )
    customers, subscribed = [], set()
    for _ in range(random.randint(0, 11)):
        owner = random.choice([*users, *users, *gone, None, None, OTHER])
        like = clerk.users.get(owner or "") or clerk.users[random.choice(users)]
        metadata = {} if owner is None else {"clerkUserId": owner}
        if random.random() < 0.1:
            metadata["counterfoilArchived"] = "2026-01-01T00:00:00Z"
        if random.random() < 0.1:
            metadata["counterfoil"] = "cf1-0000"
        customer = stripe.create_customer(
            long_ago + random.randint(0, 86_400),
            email=random.choice([like.email, like.email, (like.email or "x").upper(), "old@example.com", None]),
            name=random.choice([like.name, "Old", None]),
            metadata=metadata,
        )
        customers.append(customer)
        if random.random() < 0.2 and "counterfoilArchived" not in metadata:
            stripe.add_subscription(long_ago + 90_000, customer, period=10_000 * 86_400)
            subscribed.add(customer)
        if random.random() < 0.2:
            stripe.add_payment_intent(long_ago + 90_000, customer)
    for user in users:
        names = [*customers, *customers, "cus_OfNobody000000", "premium"]
        if random.random() < 0.6:
            clerk.users[user].public_metadata = {"stripeCustomerId": random.choice(names), "theme": "dark"}
        if random.random() < 0.1:
            clerk.users[user].private_metadata = {"stripeCustomerId": random.choice(names)}
    return subscribed


POLICIES: list[dict[str, Any]] = [
    {},
    {"COUNTERFOIL_LINK_BACK": "private"},
    {"COUNTERFOIL_ON_DELETION": "archive", "COUNTERFOIL_ADOPT": "metadata"},
    {"COUNTERFOIL_LINK_BACK": "off", "COUNTERFOIL_ADOPT": "never"},
    {"COUNTERFOIL_NO_EMAIL": "create", "COUNTERFOIL_IF_SUBSCRIBED": "hold"},
    {"COUNTERFOIL_ON_DELETION": "keep", "COUNTERFOIL_CREATE": "on_verified_email"},
]
"""What the settings may ask for; each block of seeds has the next of them."""


@pytest.mark.parametrize("block", range(18))
@pytest.mark.parametrize("max_deletes", [0, 100])
@scenario
async def test_after_an_apply_only_what_is_for_a_person_is_left(
    world: World, block: int, max_deletes: int
) -> None:
    await assert_mended(world, 1000 * block + max_deletes, max_deletes, POLICIES[block % len(POLICIES)])


async def assert_mended(world: World, seed: int, max_deletes: int, policy: dict[str, Any]) -> None:
    """Audit, apply, audit, apply: what is left is for a person, and nothing was lost."""
    world.sandbox.lift_limits()
    environ = {**CHOSEN, **policy}
    subscribed = scatter(world, seed)
    stripe = world.sandbox.stripe
    if seed % 2000:
        # A database that knows all of it, and has done what needs no plan.
        node = await world.start(**environ)
        await world.settle()
        await world.crash(node)
    # What that did by its own rules is no plan's doing.
    subscribed = {each for each in subscribed if not stripe.customers[each].deleted}
    deleted = {each.id for each in stripe.customers.values() if each.deleted}
    strangers = {each.id: dict(each.metadata) for each in stripe.live_customers() if not each.metadata}
    about, found = await audit(world, environ)
    plan = world.folder / "plan.jsonl"
    plan_file.write(plan, about, found)
    report = await apply(world, plan, environ, max_deletes)
    assert (report.skipped, report.refused) == ([], []), (seed, report)
    person = {each.subject_id or each.customer_id for each in found if each.repair is None}
    about, left_first = await audit(world, environ)
    # What was for a person may have become plain, now that other things are in order; nothing else is left.
    plain = [each for each in left_first if each.repair is not None]
    assert {each.subject_id or each.customer_id for each in plain} <= person, seed
    plan_file.write(plan, about, left_first)
    await apply(world, plan, environ, max_deletes)
    for database in (True, False):
        _, left = await audit(world, environ, database=database)
        assert [each for each in left if each.repair is not None] == [], seed
    for customer in subscribed:
        assert not stripe.customers[customer].deleted, seed
        assert "counterfoilArchived" not in stripe.customers[customer].metadata, seed
    if max_deletes == 0:
        assert {each.id for each in stripe.customers.values() if each.deleted} == deleted, seed
    adopted = {
        each.customer_id for each in [*found, *left_first] if each.kind == "unclaimed" and each.repair is not None
    }
    for customer, metadata in strangers.items():
        assert customer in adopted or stripe.customers[customer].metadata == metadata, seed
    if (
        not policy
        and not left
        and not any(each.metadata.get("clerkUserId") == OTHER for each in stripe.live_customers())
    ):
        world.assert_in_step(Rules(archived_key="counterfoilArchived"))
    for user in world.sandbox.clerk.users.values():
        assert user.public_metadata.get("theme") in {None, "dark"}
