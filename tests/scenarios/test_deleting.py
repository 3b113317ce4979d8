"""Deleted stays deleted, and deletion finds its customer whatever else is under way."""

import pytest

from counterfoil.core.link import Deletion
from counterfoil.sandbox.faults import Fault
from tests.harness import DAY, HOUR, MINUTE, World, scenario


@scenario
async def test_a_deletion_during_the_creation_removes_its_customer_at_once(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="slow", delay=15.0))
    user = world.sign_up()
    await world.run(5.0)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(5.0)
    assert len(world.customers_of(user)) == 1, "it is still being made"
    await world.run(6.0)
    assert world.customers_of(user) == []
    await world.settle()
    link = await world.link(user)
    assert link is not None
    assert link.deletion is Deletion.SIGNED
    assert len(world.sandbox.calls("stripe", "customers.create")) == 1
    world.assert_in_step()


@pytest.mark.parametrize("kind", ["slow", "slow_effect"])
@scenario
async def test_a_deletion_while_the_creation_times_out_resolves_it_first(world: World, kind: str) -> None:
    await world.start()
    fault = Fault(kind=kind, delay=30.0)  # type: ignore[arg-type]
    world.sandbox.plan_fault("stripe", "customers.create", fault)
    user = world.sign_up()
    await world.run(5.0)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    creates = world.sandbox.calls("stripe", "customers.create")
    assert len({call.idempotency_key for call in creates}) == 1, "no intent after the tombstone"
    assert len(world.sandbox.stripe.customers) == 1
    world.assert_in_step()


@scenario
async def test_a_deletion_before_the_creation_was_sent_makes_no_customer(world: World) -> None:
    """The tombstone lies in the database before the intent could."""
    node = await world.start()
    await node.supervisor.worker.stop(0.0)
    user = world.sign_up()
    await world.run(1.0)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(1.0)
    await world.restart()
    await world.settle()
    assert world.sandbox.calls("stripe", "customers.create") == []
    world.assert_in_step()


@scenario
async def test_an_update_that_comes_after_the_deletion_brings_nobody_back(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com")
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    before = world.calls()
    for message in world.sandbox.svix.messages():
        world.sandbox.svix.resend(message.id, world.time())
    await world.settle()
    await world.run(2 * HOUR)
    for message in world.sandbox.svix.messages("user.updated"):
        world.sandbox.svix.resend(message.id, world.time())
    await world.settle()
    assert len(world.sandbox.calls("stripe", "customers.create")) == 1
    assert not [call for call in world.writes() if call.begun_at > world.time() - HOUR]
    assert world.calls() - before <= 13, "the sweeps"
    world.assert_in_step()


@scenario
async def test_a_deletion_that_overtakes_the_sign_up_makes_no_customer(world: World) -> None:
    await world.start()
    user = world.sign_up()
    (created,) = world.sandbox.svix.due(world.time(), 10)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert await world.post(created, world.nodes[0]) == 204
    world.sandbox.svix.settle(created, 204, world.time())
    await world.settle()
    assert world.sandbox.calls("stripe", "customers.create") == []
    world.assert_in_step()


@scenario
async def test_a_deletion_removes_nothing_that_names_another_user_by_now(world: World) -> None:
    await world.start()
    user, other = world.sign_up(), world.sign_up("grace@example.com")
    await world.settle()
    customer = world.customer_of(user).id
    world.sandbox.stripe.delete_customer(world.time(), world.customer_of(other).id)
    world.sandbox.stripe.edit_customer(world.time(), customer, metadata={"clerkUserId": other})
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert world.customer_of(other).id == customer
    link = await world.link(other)
    assert link is not None
    assert link.customer_id == customer
    world.assert_in_step()


@scenario
async def test_a_deletion_that_never_comes_is_found_by_the_walk(world: World) -> None:
    await world.start()
    user, other = world.sign_up(), world.sign_up("grace@example.com")
    await world.settle()
    world.sandbox.clerk.delete_user(world.time(), user, silent=True)
    await world.run(DAY + 10 * MINUTE)
    link = await world.link(user)
    assert link is not None
    assert link.deletion is Deletion.ABSENT
    assert len(world.customers_of(other)) == 1
    world.assert_in_step()


@scenario
async def test_users_seem_gone_and_come_back_without_loss(world: World) -> None:
    """Clerk answers 404 for a moment: twice, a minute apart, is what it takes."""
    await world.start()
    user = world.sign_up()
    await world.settle()
    kept = world.customer_of(user).id
    world.sandbox.plan_fault("clerk", "users.get", Fault(kind="error_before", status=404), times=1)
    world.sandbox.clerk.send_example(world.time())
    message = world.sandbox.svix.messages("user.created")[0]
    await world.run(HOUR)
    world.sandbox.svix.resend(message.id, world.time())
    await world.settle()
    assert world.customer_of(user).id == kept
    world.assert_in_step()


@scenario
async def test_a_customer_removed_in_stripe_first_does_not_stop_the_deletion(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    world.sandbox.stripe.delete_customer(world.time(), world.customer_of(user).id)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert world.sandbox.calls("stripe", "customers.delete") == []
    world.assert_in_step()


@scenario
async def test_an_untrusted_deletion_of_a_user_who_lives_removes_nothing(world: World) -> None:
    """A signed deletion of another instance: the user is read first."""
    await world.start()
    user = world.sign_up()
    await world.settle()
    kept = world.customer_of(user).id
    body = b'{"type":"user.deleted","object":"event","instance_id":"ins_other","data":{"object":"user","id":"%s"}}'
    world.sandbox.svix.publish(world.time(), "user.deleted", body % user.encode())
    await world.settle()
    assert world.customer_of(user).id == kept
    assert len(world.sandbox.calls("clerk", "users.get")) == 1
    world.assert_in_step()
