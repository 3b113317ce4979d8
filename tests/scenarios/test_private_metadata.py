"""An old handler may have kept the customer's id where the browser cannot read it."""

from counterfoil.core.link import ParkReason
from tests.harness import World, scenario


@scenario
async def test_a_customer_named_in_private_metadata_is_adopted_and_linked_back_in_public(world: World) -> None:
    await world.start()
    customer = world.sandbox.stripe.create_customer(world.time(), email="ada@example.com")
    user = world.sandbox.clerk.create_user(
        world.time(), email="ada@example.com", private_metadata={"stripeCustomerId": customer, "plan": "pro"}
    )
    await world.settle()
    assert world.sandbox.verdict(world.time()).clean
    assert [each.id for each in world.sandbox.stripe.live_customers()] == [customer]
    assert world.sandbox.clerk.users[user].private_metadata == {"stripeCustomerId": customer, "plan": "pro"}
    assert world.sandbox.clerk.users[user].public_metadata == {"stripeCustomerId": customer}


@scenario
async def test_unsafe_metadata_names_nobodys_customer_for_the_browser_writes_it(world: World) -> None:
    await world.start()
    customer = world.sandbox.stripe.create_customer(world.time(), email="rich@example.com")
    world.sandbox.clerk.create_user(
        world.time(), email="eve@example.com", unsafe_metadata={"stripeCustomerId": customer}
    )
    await world.settle()
    assert "clerkUserId" not in world.sandbox.stripe.customers[customer].metadata
    assert len(list(world.sandbox.stripe.live_customers())) == 2


@scenario
async def test_a_customer_that_another_link_holds_is_not_taken_though_its_own_metadata_names_nobody(
    world: World,
) -> None:
    await world.start()
    first = world.sandbox.clerk.create_user(world.time(), email="ada@example.com")
    await world.settle()
    link = await world.link(first)
    assert link is not None
    assert link.customer_id is not None
    world.sandbox.stripe.edit_customer(world.time(), link.customer_id, metadata={"clerkUserId": ""})
    named = {"stripeCustomerId": link.customer_id}
    second = world.sandbox.clerk.create_user(world.time(), email="eve@example.com", public_metadata=named)
    await world.settle()
    parked = await world.link(second)
    assert parked is not None
    assert parked.parked is ParkReason.CLAIMED
    assert parked.customer_id is None
    assert "clerkUserId" not in world.sandbox.stripe.customers[link.customer_id].metadata
