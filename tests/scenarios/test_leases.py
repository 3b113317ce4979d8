"""Workers that stand still, and news that comes while they work."""

import pytest

from counterfoil.sandbox.faults import Fault
from tests.harness import MINUTE, World, scenario


@scenario
async def test_news_that_comes_during_the_creation_is_carried_out_after_it(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="slow", delay=10.0))
    user = world.sign_up()
    await world.run(2.0)
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com")
    await world.run(2.0)
    world.sandbox.clerk.change_name(world.time(), user, "Augusta", "King")
    await world.settle()
    customer = world.customer_of(user)
    assert (customer.email, customer.name) == ("countess@example.com", "Augusta King")
    assert len(world.sandbox.calls("stripe", "customers.create")) == 1
    assert len(world.sandbox.calls("stripe", "customers.update")) == 1
    world.assert_in_step()


@pytest.mark.parametrize("before", [True, False])
@scenario
async def test_a_worker_that_stands_still_past_its_lease_while_creating_makes_no_second_customer(
    world: World, before: bool
) -> None:
    await world.start()
    freeze = world.freeze("POST", "/v1/customers", before=before)
    user = world.sign_up()
    await world.run(1.0)
    assert freeze.reached.is_set()
    await world.start()
    await world.run(3 * MINUTE)
    assert len(world.customers_of(user)) == 1, "the second node has taken over"
    await world.settle()
    link = await world.link(user)
    freeze.thaw.set()
    await world.run(1.0)
    disowned = await world.link(user)
    assert link is not None
    assert disowned is not None
    assert disowned.revision > link.revision, "the first finds its lease gone, and says so"
    await world.settle()
    assert len({call.idempotency_key for call in world.sandbox.calls("stripe", "customers.create")}) == 1
    assert len(world.sandbox.stripe.customers) == 1
    world.assert_in_step()


@scenario
async def test_a_late_update_of_a_worker_that_stood_still_is_put_right(world: World) -> None:
    """It sends an older email after the second node has sent the newer one."""
    await world.start()
    user = world.sign_up()
    await world.settle()
    customer = world.customer_of(user)
    freeze = world.freeze("POST", f"/v1/customers/{customer.id}", before=True)
    world.sandbox.clerk.change_email(world.time(), user, "old@example.com")
    await world.run(1.0)
    assert freeze.reached.is_set()
    await world.start()
    world.sandbox.clerk.change_email(world.time(), user, "new@example.com")
    await world.run(3 * MINUTE)
    await world.settle()
    assert customer.email == "new@example.com"
    freeze.thaw.set()
    await world.run(0.05)
    assert customer.email in {"old@example.com", "new@example.com"}
    await world.settle()
    assert customer.email == "new@example.com"
    addresses = [call for call in world.sandbox.calls("stripe", "customers.update") if call.status == 200]
    assert len(addresses) == 3, "the newer one, the older one late, and the newer one again"
    world.assert_in_step()


@scenario
async def test_a_late_link_back_of_a_worker_that_stood_still_is_put_right(world: World) -> None:
    """It writes the id of a customer that was replaced meanwhile."""
    await world.start()
    freeze = world.freeze("PATCH", "/v1/users/", before=True)
    user = world.sign_up()
    await world.run(1.0)
    assert freeze.reached.is_set()
    await world.start()
    await world.run(3 * MINUTE)
    await world.settle()
    dead = world.customer_of(user).id
    world.sandbox.stripe.delete_customer(world.time(), dead)
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com")
    await world.settle()
    assert world.user(user).public_metadata == {"stripeCustomerId": world.customer_of(user).id}
    freeze.thaw.set()
    await world.settle()
    assert world.customer_of(user).id != dead
    world.assert_in_step()


@scenario
async def test_a_late_removal_of_a_worker_that_stood_still_harms_nobody(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    freeze = world.freeze("DELETE", "/v1/customers/", before=True)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(1.0)
    assert freeze.reached.is_set()
    await world.start()
    await world.run(3 * MINUTE)
    assert world.customers_of(user) == []
    freeze.thaw.set()
    await world.settle()
    world.assert_in_step()


@scenario
async def test_two_nodes_share_the_work_without_doing_it_twice(world: World) -> None:
    first = await world.start()
    await world.start()
    users = [world.sign_up(f"person{number}@example.com") for number in range(40)]
    for attempt in world.sandbox.svix.due(world.time(), 20):
        world.sandbox.svix.settle(attempt, await world.post(attempt, first), world.time())
    await world.settle()
    # Each node has quotas of its own, so together they run into limits; what is refused has no effect.
    for upstream, operation in (("stripe", "customers.create"), ("clerk", "users.merge_metadata")):
        calls = world.sandbox.calls(upstream, operation)  # type: ignore[arg-type]
        assert len([call for call in calls if call.status == 200]) == len(users)
    world.assert_in_step()
