"""`COUNTERFOIL_IF_SUBSCRIBED`: hold for a person, or let what is paid for come to its end."""

from typing import Any

import pytest

from counterfoil.core.link import Ended, Link, ParkReason, Ruling
from counterfoil.sandbox.faults import Fault, FaultKind
from counterfoil.sandbox.verdict import Rules
from tests.harness import HOUR, World, scenario

HOLD: dict[str, Any] = {"COUNTERFOIL_IF_SUBSCRIBED": "hold"}
CANCEL: dict[str, Any] = {"COUNTERFOIL_IF_SUBSCRIBED": "cancel_at_period_end"}
ARCHIVED = Rules(archived_key="counterfoilArchived")
PERIOD = 5 * 3_600


async def link_of(world: World, user: str) -> Link:
    link = await world.link(user)
    assert link is not None
    return link


async def deleted(world: World, status: str = "active") -> tuple[str, str]:
    """A user who was subscribed, and is deleted; and the subscription."""
    user = world.sign_up()
    await world.settle()
    stripe = world.sandbox.stripe
    subscription = stripe.add_subscription(world.time(), world.customer_of(user).id, status=status, period=PERIOD)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    return user, subscription


@pytest.mark.parametrize("status", ["active", "trialing", "past_due"])
@scenario
async def test_a_subscribed_customer_is_held_until_a_person_releases_it(world: World, status: str) -> None:
    node = await world.start(**HOLD)
    user, subscription = await deleted(world, status)
    link = await link_of(world, user)
    assert (link.parked, link.last_error) == (ParkReason.SUBSCRIBED, f"{subscription} {status}")
    assert world.sandbox.stripe.subscriptions[subscription].status == status
    world.assert_in_step(Rules(hold_subscribed=True))
    await node.supervisor.retry([user])
    await world.settle()
    assert (await link_of(world, user)).parked is ParkReason.SUBSCRIBED
    assert await node.supervisor.rule([user], Ruling.RELEASE) == 1
    await world.settle()
    assert world.customers_of(user) == []
    assert world.sandbox.stripe.subscriptions[subscription].status == "canceled"
    world.assert_in_step()


@scenario
async def test_a_held_removal_goes_on_at_a_retry_once_the_subscription_has_ended(world: World) -> None:
    node = await world.start(**HOLD)
    user, subscription = await deleted(world)
    world.sandbox.stripe.cancel_subscription(world.time(), subscription)
    await node.supervisor.retry([user])
    await world.settle()
    assert world.customers_of(user) == []
    world.assert_in_step()


@scenario
async def test_a_held_customer_stays_when_a_person_calls_the_removal_off(world: World) -> None:
    node = await world.start(**HOLD)
    user, subscription = await deleted(world)
    assert await node.supervisor.rule([user], Ruling.UNDO) == 1
    await world.settle()
    assert (await link_of(world, user)).parked is None
    assert world.sandbox.stripe.subscriptions[subscription].status == "active"
    world.assert_in_step(Rules(keep=True))


@scenario
async def test_who_never_subscribed_is_removed_at_once_whatever_holds_others(world: World) -> None:
    for settings in (HOLD, CANCEL):
        node = await world.start(**settings)
        user = world.sign_up()
        await world.settle()
        world.sandbox.clerk.delete_user(world.time(), user)
        await world.settle()
        assert world.customers_of(user) == []
        await world.crash(node)


@scenario
async def test_a_key_that_may_not_read_subscriptions_holds_every_customer(world: World) -> None:
    node = await world.start(**HOLD)
    world.sandbox.plan_fault(
        "stripe",
        "customers.retrieve",
        Fault(kind="error_before", status=403, code="more_permissions_required"),
        when=lambda request: "expand" in request.query,
    )
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    link = await link_of(world, user)
    assert (link.parked, link.last_error) == (ParkReason.SUBSCRIBED, "the key may not read subscriptions")
    await node.supervisor.retry([user])
    await world.settle()
    assert world.customers_of(user) == []


@pytest.mark.parametrize("restart", [False, True])
@scenario
async def test_what_is_paid_for_runs_to_its_end_and_then_the_customer_is_archived(
    world: World, restart: bool
) -> None:
    await world.start(**CANCEL)
    user, subscription = await deleted(world)
    state = world.sandbox.stripe.subscriptions[subscription]
    assert (state.status, state.cancel_at_period_end) == ("active", True)
    link = await link_of(world, user)
    assert (link.ended, link.dirty_at, link.parked) == (Ended.CLOSING, None, None)
    assert (await world.figures()).removals.links == 1
    await world.run(PERIOD - HOUR)
    if restart:
        await world.restart(**CANCEL)
    assert state.status == "active"
    assert "counterfoilArchived" not in world.customer_of(user).metadata
    await world.run(2 * HOUR)
    assert state.status == "canceled"
    assert (await link_of(world, user)).ended is Ended.ARCHIVED
    world.assert_in_step(ARCHIVED)
    assert len(world.sandbox.calls("stripe", "subscriptions.update")) == 1


@scenario
async def test_what_was_renewed_or_began_meanwhile_is_ended_too(world: World) -> None:
    await world.start(**CANCEL)
    user, first = await deleted(world)
    stripe, customer = world.sandbox.stripe, world.customer_of(user).id
    await world.run(HOUR)
    stripe.close_subscription(world.time(), first, closing=False)
    second = stripe.add_subscription(world.time(), customer, period=2 * 3_600)
    await world.run(PERIOD)
    assert stripe.subscriptions[first].cancel_at_period_end, "renewed, and ended again"
    assert stripe.subscriptions[second].cancel_at_period_end
    assert len(world.customers_of(user)) == 1
    await world.run(PERIOD + HOUR)
    assert {stripe.subscriptions[each].status for each in (first, second)} == {"canceled"}
    assert (await link_of(world, user)).ended is Ended.ARCHIVED
    world.assert_in_step(ARCHIVED)


@pytest.mark.parametrize("kind", ["cut_after", "error_after", "cut_before"])
@scenario
async def test_a_cancellation_whose_answer_is_lost_is_asked_for_again_where_it_is_needed(
    world: World, kind: FaultKind
) -> None:
    await world.start(**CANCEL)
    world.sandbox.plan_fault("stripe", "subscriptions.update", kind)
    user, subscription = await deleted(world)
    calls = world.sandbox.calls("stripe", "subscriptions.update")
    assert len([call for call in calls if call.effect_at is not None]) == 1
    await world.run(PERIOD + HOUR)
    assert world.sandbox.stripe.subscriptions[subscription].status == "canceled"
    assert (await link_of(world, user)).ended is Ended.ARCHIVED
    world.assert_in_step(ARCHIVED)


@scenario
async def test_a_crash_right_after_the_cancellation_is_found_out_by_a_look(world: World) -> None:
    node = await world.start(**CANCEL)
    freeze = world.freeze("POST", "/v1/subscriptions/")
    user = world.sign_up()
    await world.settle()
    customer = world.customer_of(user).id
    subscription = world.sandbox.stripe.add_subscription(world.time(), customer, period=PERIOD)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.deliver()
    await freeze.reached.wait()
    await world.crash(node)
    await world.start(**CANCEL)
    await world.settle()
    assert len(world.sandbox.calls("stripe", "subscriptions.update")) == 1
    assert (await link_of(world, user)).ended is Ended.CLOSING
    await world.run(PERIOD + HOUR)
    assert world.sandbox.stripe.subscriptions[subscription].status == "canceled"
    world.assert_in_step(ARCHIVED)


@scenario
async def test_a_backup_from_before_the_deletion_waits_for_the_same_end(world: World) -> None:
    node = await world.start(**CANCEL)
    user = world.sign_up()
    await world.settle()
    customer = world.customer_of(user).id
    world.sandbox.stripe.add_subscription(world.time(), customer, period=PERIOD)
    backup = await world.copy_database()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    await world.crash(node)
    await world.put_back(backup)
    await world.start(**CANCEL)
    (message,) = world.sandbox.svix.messages("user.deleted")
    world.sandbox.svix.resend(message.id, world.time())
    await world.run(PERIOD + HOUR)
    assert (await link_of(world, user)).ended is Ended.ARCHIVED
    assert len(world.sandbox.calls("stripe", "subscriptions.update")) == 1
    world.assert_in_step(ARCHIVED)
