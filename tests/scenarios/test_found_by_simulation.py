"""What the simulation found: each story by its name, as short as it can be told."""

from counterfoil.core.link import Deletion
from counterfoil.sandbox.faults import Fault
from tests.harness import DAY, HOUR, MINUTE, World, scenario


def named(world: World) -> tuple[str, str]:
    """A user whose private metadata names a customer that is nobody's: (user, customer)."""
    customer = world.sandbox.stripe.create_customer(world.time(), description="made by the app")
    user = world.sandbox.clerk.create_user(
        world.time(),
        email="ada@example.com",
        first_name="Ada",
        private_metadata={"stripeCustomerId": customer},
    )
    return user, customer


@scenario
async def test_a_deletion_right_after_a_claim_looks_at_the_customer_again(world: World) -> None:
    """What was seen before the claim, a customer of nobody's, parked the deletion, and billing went on."""
    await world.start()
    world.sandbox.plan_fault(
        "stripe", "customers.update", Fault(kind="slow", delay=9.0), when=lambda request: b"email" in request.body
    )
    user, customer = named(world)
    await world.run(3.0)
    assert world.customer_of(user).id == customer
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    link = await world.link(user)
    assert link is not None
    assert link.parked is None
    world.assert_in_step()


@scenario
async def test_a_claim_whose_answer_was_lost_is_found_again_when_its_user_goes(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.update", Fault(kind="error_after", status=503))
    # From then on Stripe is down, until the user has gone.
    user, customer = named(world)
    await world.run(0.2)
    world.sandbox.add_outage("stripe", world.time(), world.time() + 5 * MINUTE)
    assert world.customer_of(user).id == customer
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(6 * MINUTE)
    await world.settle()
    link = await world.link(user)
    assert link is not None
    assert link.deletion is Deletion.SIGNED
    assert link.intent_key is None
    world.assert_in_step()


@scenario
async def test_a_claim_that_took_no_effect_ends_with_its_user_and_touches_nothing(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.update", "error_before")
    user, customer = named(world)
    await world.run(0.05)
    world.sandbox.add_outage("stripe", world.time(), world.time() + 5 * MINUTE)
    await world.run(1.0)
    assert world.customers_of(user) == []
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(6 * MINUTE)
    await world.settle()
    kept = world.sandbox.stripe.customers[customer]
    assert not kept.deleted
    assert kept.metadata == {}


@scenario
async def test_a_late_customer_that_a_restored_database_forgot_is_removed_within_a_day(world: World) -> None:
    """That it was to be looked for lay in the rows that were lost, and no scan came until the next start."""
    await world.start()
    backup = await world.copy_database()
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="late_500", late=6 * HOUR))
    user = world.sign_up()
    await world.run(10 * MINUTE)
    assert len(world.customers_of(user)) == 1
    await world.crash(world.nodes[0])
    await world.put_back(backup)
    await world.start()
    await world.run(6 * HOUR)
    assert len(world.customers_of(user)) == 2, "Stripe has finished the failed request"
    await world.run(DAY)
    await world.settle()
    world.assert_in_step()
