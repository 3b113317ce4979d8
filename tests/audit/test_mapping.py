"""The mapping file goes above whatever else ties a customer to another user, whichever of the two is met first."""

import pytest

from counterfoil.core.finding import Finding, Kind
from tests.audit.support import CHOSEN, SWIFT, audit
from tests.harness import DAY, World, scenario


def two_users(world: World, *, given_first: bool) -> tuple[str, str]:
    """Two users, days old: the one to whom the file gives a customer, and another."""
    pair = sorted(
        world.sandbox.clerk.create_user(world.time() - 5 * DAY, silent=True, email=f"{name}@example.com")
        for name in ("x", "y")
    )
    return (pair[0], pair[1]) if given_first else (pair[1], pair[0])


def a_customer(world: World, email: str) -> str:
    return world.sandbox.stripe.create_customer(world.time() - 10 * DAY, email=email)


def short(found: list[Finding]) -> set[tuple[str, str | None, str | None]]:
    return {(str(each.kind), each.subject_id, each.repair) for each in found}


@pytest.mark.parametrize("environ", [SWIFT, CHOSEN], ids=["addresses say nothing", "addresses count"])
@pytest.mark.parametrize("given_first", [True, False])
@scenario
async def test_a_customer_that_the_file_gives_away_is_not_the_users_whose_address_it_has(
    world: World, environ: dict[str, str], given_first: bool
) -> None:
    world.sandbox.lift_limits()
    given, other = two_users(world, given_first=given_first)
    free = a_customer(world, str(world.user(other).email))
    _, found = await audit(world, environ, mapping={given: free})
    assert short(found) == {("unclaimed", given, "adopt"), ("missing", other, "create")}


@pytest.mark.parametrize("given_first", [True, False])
@scenario
async def test_a_customer_that_the_file_gives_to_one_and_clerk_names_for_another_is_for_a_person(
    world: World, given_first: bool
) -> None:
    world.sandbox.lift_limits()
    given, other = two_users(world, given_first=given_first)
    free = a_customer(world, "free@example.com")
    world.sandbox.clerk.set_public_metadata(world.time() - 4 * DAY, other, {"stripeCustomerId": free}, silent=True)
    _, found = await audit(world, SWIFT, mapping={given: free})
    assert [(each.kind, each.customer_id, each.repair) for each in found] == [(Kind.UNCLAIMED, free, None)]
    assert found[0].why == "the mapping file gives it to one user, and Clerk's metadata of another names it"
