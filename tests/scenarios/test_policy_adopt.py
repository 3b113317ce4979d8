"""Customers that were there before: COUNTERFOIL_ADOPT."""

from typing import Any

import pytest

from counterfoil.core.link import Link, ParkReason
from tests.harness import World, scenario

BY_EMAIL: dict[str, Any] = {"COUNTERFOIL_ADOPT": "verified_email"}


def there_before(world: World, email: str = "ada@example.com", **more: Any) -> str:
    """A customer that something else made."""
    return world.sandbox.stripe.create_customer(world.time(), email=email, **more)


async def link_of(world: World, user: str) -> Link:
    """A link that is there."""
    link = await world.link(user)
    assert link is not None
    return link


def stripe_writes(world: World) -> list[str]:
    """What was written to Stripe."""
    return [call.operation for call in world.writes() if call.upstream == "stripe"]


# By verified email.


@scenario
async def test_the_only_customer_with_the_verified_address_is_claimed_and_none_is_made(world: World) -> None:
    theirs = there_before(world, metadata={"crm": "77"})
    await world.start(**BY_EMAIL)
    user = world.sign_up()
    await world.settle()
    customer = world.customer_of(user)
    assert customer.id == theirs
    assert customer.metadata == {"crm": "77", "clerkUserId": user}
    assert "customers.create" not in stripe_writes(world)
    assert len(world.sandbox.stripe.customers) == 1
    world.assert_in_step()


@scenario
async def test_an_address_in_another_case_is_found_in_lower_case(world: World) -> None:
    theirs = there_before(world, "ada@example.com")
    await world.start(**BY_EMAIL)
    user = world.sign_up("Ada@Example.com")
    await world.settle()
    assert world.customer_of(user).id == theirs
    world.assert_in_step()


@scenario
async def test_one_customer_in_each_case_makes_two(world: World) -> None:
    both = {there_before(world, "ada@example.com"), there_before(world, "Ada@Example.com")}
    await world.start(**BY_EMAIL)
    user = world.sign_up("Ada@Example.com")
    await world.settle()
    assert (await link_of(world, user)).parked is ParkReason.REVIEW
    assert {each.id for each in world.sandbox.stripe.live_customers()} == both
    assert world.writes() == []


@scenario
async def test_where_nobody_has_the_address_a_customer_is_made(world: World) -> None:
    there_before(world, "somebody@example.com")
    await world.start(**BY_EMAIL)
    user = world.sign_up()
    await world.settle()
    assert world.customer_of(user).email == "ada@example.com"
    world.assert_in_step()


@scenario
async def test_an_address_that_is_not_verified_adopts_nobody(world: World) -> None:
    theirs = there_before(world)
    await world.start(**BY_EMAIL)
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", verified=False)
    await world.settle()
    assert world.customer_of(user).id != theirs
    assert world.sandbox.stripe.customers[theirs].metadata == {}
    world.assert_in_step()


@scenario
async def test_verified_first_and_adopted_then_for_who_asks_for_both(world: World) -> None:
    theirs = there_before(world)
    await world.start(**BY_EMAIL, COUNTERFOIL_CREATE="on_verified_email")
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", verified=False)
    await world.settle()
    assert stripe_writes(world) == []
    world.sandbox.clerk.verify_email(world.time(), user)
    await world.settle()
    assert world.customer_of(user).id == theirs
    world.assert_in_step()


@scenario
async def test_two_candidates_are_for_a_person_to_choose_from_and_the_choice_is_taken(world: World) -> None:
    one, two = there_before(world), there_before(world)
    await world.start(**BY_EMAIL)
    user = world.sign_up()
    await world.settle()
    link = await link_of(world, user)
    assert link.parked is ParkReason.REVIEW
    assert link.last_error is not None
    assert one in link.last_error
    assert two in link.last_error
    assert world.writes() == []
    world.sandbox.stripe.edit_customer(world.time(), two, metadata={"clerkUserId": user})
    await world.nodes[-1].supervisor.retry([user])
    await world.settle()
    assert world.customer_of(user).id == two
    assert world.sandbox.stripe.customers[one].metadata == {}
    world.assert_in_step()


@scenario
async def test_a_candidate_that_is_another_users_is_refused_and_nothing_is_made(world: World) -> None:
    other, theirs = world.sandbox.add_pair(world.time(), email="billing@example.com")
    world.sandbox.stripe.edit_customer(world.time(), theirs, email="ada@example.com")
    await world.run(60)
    await world.start(**BY_EMAIL)
    user = world.sign_up()
    await world.settle()
    link = await link_of(world, user)
    assert link.parked is ParkReason.REVIEW
    assert link.last_error == f"{theirs} has this address and is another user's ({other})"
    assert world.writes() == []
    assert world.customer_of(other).id == theirs


@scenario
async def test_a_candidate_with_our_mark_and_no_owner_is_not_taken_unseen(world: World) -> None:
    there_before(world, metadata={"counterfoil": "cf1-somebody"})
    await world.start(**BY_EMAIL)
    user = world.sign_up()
    await world.settle()
    assert (await link_of(world, user)).parked is ParkReason.REVIEW
    assert world.writes() == []


@scenario
async def test_a_candidate_that_goes_between_the_list_and_the_look_is_no_candidate(world: World) -> None:
    theirs = there_before(world)
    await world.start(**BY_EMAIL)
    frozen = world.freeze("GET", f"/v1/customers/{theirs}", before=True)
    user = world.sign_up()
    await world.run(5)
    assert frozen.reached.is_set()
    world.sandbox.stripe.delete_customer(world.time(), theirs)
    frozen.thaw.set()
    await world.settle()
    assert world.customer_of(user).id != theirs
    world.assert_in_step()


@scenario
async def test_an_address_that_changes_during_the_look_is_looked_for_anew(world: World) -> None:
    old, new = there_before(world), there_before(world, "new@example.com")
    await world.start(**BY_EMAIL)
    frozen = world.freeze("GET", f"/v1/customers/{old}")
    user = world.sign_up()
    await world.run(5)
    assert frozen.reached.is_set()
    world.sandbox.clerk.change_email(world.time(), user, "new@example.com")
    await world.run(5)
    frozen.thaw.set()
    await world.settle()
    assert world.sandbox.stripe.customers[old].metadata.get("clerkUserId") in {None, user}
    assert len(world.customers_of(user)) == 1
    assert world.customer_of(user).email == "new@example.com"
    assert world.customer_of(user).id in {old, new}


# Whoever dies or comes second.


@scenario
async def test_a_customer_is_reserved_before_it_is_claimed_so_that_only_one_user_writes_into_it(
    world: World,
) -> None:
    theirs = there_before(world, "old@example.com")
    await world.start()
    frozen = world.freeze("POST", f"/v1/customers/{theirs}", before=True)
    first = world.sign_up(stripeCustomerId=theirs)
    await world.run(5)
    assert frozen.reached.is_set()
    second = world.sign_up("eve@example.com", stripeCustomerId=theirs)
    await world.run(5)
    assert (await link_of(world, second)).parked is ParkReason.CLAIMED
    frozen.thaw.set()
    await world.settle()
    assert world.customer_of(first).id == theirs
    assert world.customer_of(first).email == "ada@example.com"
    assert world.customers_of(second) == []
    assert len(world.sandbox.stripe.customers) == 1


@scenario
async def test_two_users_who_name_one_customer_in_the_same_moment_do_not_share_it(world: World) -> None:
    theirs = there_before(world, "old@example.com")
    await world.start()
    users = [world.sign_up(f"person{each}@example.com", stripeCustomerId=theirs) for each in range(2)]
    await world.settle()
    reasons = [(await link_of(world, user)).parked for user in users]
    assert set(reasons) == {None, ParkReason.CLAIMED}
    winner = users[reasons.index(None)]
    assert world.customer_of(winner).id == theirs
    assert world.customer_of(winner).email == world.user(winner).email


@pytest.mark.parametrize("sent", [False, True], ids=["before it was sent", "after it took effect"])
@scenario
async def test_a_claim_that_a_crash_cut_short_is_finished(world: World, sent: bool) -> None:
    theirs = there_before(world)
    await world.start(**BY_EMAIL)
    frozen = world.freeze("POST", f"/v1/customers/{theirs}", before=not sent)
    user = world.sign_up()
    await world.run(5)
    assert frozen.reached.is_set()
    await world.restart(**BY_EMAIL)
    await world.settle()
    assert world.customer_of(user).id == theirs
    assert len(world.sandbox.stripe.customers) == 1
    world.assert_in_step()


@scenario
async def test_a_reserved_customer_is_let_be_where_the_user_goes_before_the_claim(world: World) -> None:
    theirs = there_before(world)
    await world.start(**BY_EMAIL)
    frozen = world.freeze("POST", f"/v1/customers/{theirs}", before=True)
    user = world.sign_up()
    await world.run(5)
    assert frozen.reached.is_set()
    await world.crash(world.nodes[-1])
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.start(**BY_EMAIL)
    await world.settle()
    assert world.sandbox.stripe.customers[theirs].metadata == {}
    assert not world.sandbox.stripe.customers[theirs].deleted
    assert (await link_of(world, user)).customer_id is None
    world.assert_in_step()


# By no means.


@pytest.mark.parametrize("adopt", ["metadata", "verified_email", "never"])
@scenario
async def test_what_the_users_own_browser_wrote_adopts_nobody_whatever_is_set(world: World, adopt: str) -> None:
    theirs = there_before(world, "rich@example.com")
    await world.start(COUNTERFOIL_ADOPT=adopt)
    named = {"stripeCustomerId": theirs}
    user = world.sandbox.clerk.create_user(world.time(), email="eve@example.com", unsafe_metadata=named)
    await world.settle()
    assert world.sandbox.stripe.customers[theirs].metadata == {}
    assert world.sandbox.stripe.customers[theirs].email == "rich@example.com"
    assert world.customer_of(user).id != theirs
    world.assert_in_step()


@scenario
async def test_never_means_not_even_whom_clerks_metadata_names(world: World) -> None:
    theirs = there_before(world)
    await world.start(COUNTERFOIL_ADOPT="never")
    named = {"stripeCustomerId": theirs}
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", private_metadata=named)
    await world.settle()
    assert world.sandbox.stripe.customers[theirs].metadata == {}
    assert world.customer_of(user).id != theirs
    assert world.user(user).private_metadata == named
    world.assert_in_step()


@scenario
async def test_never_makes_a_customer_and_leaves_a_name_that_others_wrote_for_a_person(world: World) -> None:
    theirs = there_before(world)
    await world.start(COUNTERFOIL_ADOPT="never")
    user = world.sign_up(stripeCustomerId=theirs)
    await world.settle()
    assert world.customer_of(user).id != theirs
    assert (await link_of(world, user)).parked is ParkReason.MISNAMED
    assert world.user(user).public_metadata == {"stripeCustomerId": theirs}


@scenario
async def test_never_still_knows_the_customer_that_names_the_user(world: World) -> None:
    await world.start(COUNTERFOIL_ADOPT="never")
    theirs = there_before(world)
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", silent=True)
    world.sandbox.stripe.edit_customer(world.time(), theirs, metadata={"clerkUserId": user})
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"stripeCustomerId": theirs})
    await world.settle()
    assert world.customer_of(user).id == theirs
    assert len(world.sandbox.stripe.customers) == 1
    world.assert_in_step()
