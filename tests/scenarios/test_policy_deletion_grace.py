"""`COUNTERFOIL_DELETION_GRACE`: a removal that waits, and whoever takes it back meanwhile."""

from typing import Any

from counterfoil.core.link import Deletion, Ended, Link, Ruling
from counterfoil.sandbox.faults import Fault
from counterfoil.sandbox.verdict import Rules
from tests.harness import HOUR, MINUTE, World, scenario

WAIT: dict[str, Any] = {"COUNTERFOIL_DELETION_GRACE": "6h"}
KEPT = Rules(keep=True)


async def link_of(world: World, user: str) -> Link:
    link = await world.link(user)
    assert link is not None
    return link


async def deleted(world: World) -> str:
    """A user who had a customer, and is deleted."""
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    return user


@scenario
async def test_the_removal_comes_when_the_grace_is_over_and_not_before(world: World) -> None:
    await world.start(**WAIT)
    user = await deleted(world)
    link = await link_of(world, user)
    assert link.deleted_at is not None
    assert (link.due_at, link.dirty_at) == (link.deleted_at + 6 * 3_600_000, None), "it waits, and owes nothing"
    assert (link.fields, link.applied, link.link_back) == (None, None, None), "of the user nothing is kept"
    assert (await world.figures()).removals.links == 1
    assert any("the grace period" in line for line in await world.story(user))
    await world.run(5 * HOUR)
    await world.restart(**WAIT)
    assert len(world.customers_of(user)) == 1
    await world.run(HOUR + MINUTE)
    assert world.customers_of(user) == []
    assert (await world.figures()).removals.links == 0
    world.assert_in_step()


@scenario
async def test_a_second_delivery_of_the_deletion_does_not_lengthen_the_grace(world: World) -> None:
    await world.start(**WAIT)
    user = await deleted(world)
    await world.run(5 * HOUR)
    (message,) = world.sandbox.svix.messages("user.deleted")
    world.sandbox.svix.resend(message.id, world.time())
    await world.run(HOUR + MINUTE)
    assert world.customers_of(user) == []


@scenario
async def test_a_person_calls_the_removal_off_within_the_grace(world: World) -> None:
    node = await world.start(**WAIT)
    user = await deleted(world)
    written = len(world.writes())
    await world.run(HOUR)
    assert await node.supervisor.rule([user], Ruling.UNDO) == 1
    await world.settle()
    assert (await link_of(world, user)).due_at is None
    story = await world.story(user)
    assert any("asked to call the removal off" in line for line in story)
    assert "the removal was called off: the customer is kept" in story[-1]
    await world.run(6 * HOUR)
    await world.restart(**WAIT)
    await world.settle()
    assert len(world.customers_of(user)) == 1
    assert len(world.writes()) == written
    world.assert_in_step(KEPT)


@scenario
async def test_there_is_nothing_to_call_off_for_who_lives_or_has_no_customer_left(world: World) -> None:
    node = await world.start()
    user = await deleted(world)
    lives = world.sign_up("grace@example.com")
    await world.settle()
    assert await node.supervisor.rule([user, lives, "user_2nobody"], Ruling.UNDO) == 0
    assert (await link_of(world, lives)).ruling is Ruling.NONE
    assert await world.link("user_2nobody") is None


@scenario
async def test_an_archived_customer_is_restored_by_a_person(world: World) -> None:
    node = await world.start(COUNTERFOIL_ON_DELETION="archive")
    user = await deleted(world)
    assert (await link_of(world, user)).ended is Ended.ARCHIVED
    assert await node.supervisor.rule([user], Ruling.UNDO) == 1
    await world.settle()
    assert "counterfoilArchived" not in world.customer_of(user).metadata
    world.assert_in_step(KEPT)


@scenario
async def test_an_absence_that_is_lifted_within_the_grace_leaves_everything_in_step(world: World) -> None:
    await world.start(**WAIT)
    user = world.sign_up()
    await world.run(HOUR)
    customer = world.customer_of(user).id
    world.sandbox.plan_fault("clerk", "users.get", Fault(kind="error_before", status=404), times=2)
    body = b'{"type":"user.deleted","object":"event","instance_id":"ins_other","data":{"object":"user","id":"%s"}}'
    world.sandbox.svix.publish(world.time(), "user.deleted", body % user.encode())
    await world.settle()
    assert (await link_of(world, user)).deletion is Deletion.ABSENT
    await world.run(HOUR)
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com")
    await world.settle()
    assert (await link_of(world, user)).deletion is Deletion.NONE
    await world.run(6 * HOUR)
    assert world.customer_of(user).id == customer
    world.assert_in_step()


@scenario
async def test_a_customer_that_was_moved_within_the_grace_is_not_removed(world: World) -> None:
    await world.start(**WAIT)
    user = await deleted(world)
    other = world.sign_up(None)
    await world.settle()
    customer = world.customer_of(user).id
    world.sandbox.stripe.edit_customer(world.time(), customer, metadata={"clerkUserId": other})
    await world.run(6 * HOUR + MINUTE)
    assert world.customer_of(other).id == customer
    assert (await link_of(world, other)).customer_id == customer
    assert (await link_of(world, user)).customer_id is None
