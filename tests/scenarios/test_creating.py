"""Exactly one customer, whatever happens between the request and its answer."""

import pytest

from counterfoil.core.link import ParkReason
from counterfoil.sandbox.faults import Fault
from tests.harness import DAY, HOUR, MINUTE, World, scenario


def creates(world: World) -> list[str | None]:
    """The keys of all creations asked for so far."""
    return [call.idempotency_key for call in world.sandbox.calls("stripe", "customers.create")]


def made(world: World) -> int:
    """How many customers Stripe ever made."""
    return len(world.sandbox.stripe.customers)


@scenario
async def test_a_crash_between_the_effect_and_its_commit_makes_no_second_customer(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="slow", delay=10.0))
    user = world.sign_up()
    await world.run(5.0)
    await world.restart()
    await world.settle()
    assert len(creates(world)) == 1, "the scan at the start finds what the lost request made"
    assert made(world) == 1
    assert world.customer_of(user).email == "ada@example.com"
    world.assert_in_step()


@scenario
async def test_a_crash_before_the_effect_makes_the_customer_under_the_same_key(world: World) -> None:
    await world.start()
    freeze = world.freeze("POST", "/v1/customers", before=True)
    world.sign_up()
    await world.run(1.0)
    assert freeze.reached.is_set()
    await world.restart()
    await world.settle()
    assert (len(creates(world)), made(world)) == (1, 1)
    world.assert_in_step()


@scenario
async def test_a_crash_while_stripe_still_works_makes_no_second_customer(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="slow_effect", delay=15.0))
    world.sign_up()
    await world.run(1.0)
    await world.restart()
    await world.settle()
    assert len(set(creates(world))) == 1
    assert made(world) == 1
    world.assert_in_step()


@pytest.mark.parametrize("kind", ["cut_after", "cut_before", "error_after", "error_before"])
@scenario
async def test_an_answer_that_is_lost_is_asked_for_again_under_the_same_key(world: World, kind: str) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.create", kind, times=3)  # type: ignore[arg-type]
    world.sign_up()
    await world.settle()
    assert len(creates(world)) == 4
    assert len(set(creates(world))) == 1
    assert made(world) == 1
    world.assert_in_step()


@scenario
async def test_the_answers_of_all_calls_may_be_lost_once(world: World) -> None:
    await world.start()
    for upstream in ("stripe", "clerk"):
        world.sandbox.plan_fault(upstream, None, "cut_after", times=4)
    user = world.sign_up()
    await world.settle()
    world.sandbox.calm()
    world.assert_in_step()
    world.sandbox.plan_fault("stripe", None, "cut_after", times=3)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    world.assert_in_step()


@scenario
async def test_a_stored_failure_is_left_behind_by_looking_and_the_next_generation(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.create", "stored_500")
    user = world.sign_up()
    await world.settle()
    first, second, third = creates(world)
    assert first == second != third, "the same key once more, and when its failure is replayed, another"
    assert made(world) == 1
    link = await world.link(user)
    assert link is not None
    assert link.generation == 1
    world.assert_in_step()


@pytest.mark.parametrize("late", [30.0, 30 * MINUTE, 20 * HOUR])
@scenario
async def test_a_customer_made_late_of_a_failed_request_is_gone_within_25_hours(world: World, late: float) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="late_500", late=late))
    user = world.sign_up()
    await world.settle()
    assert len(world.customers_of(user)) == 1
    await world.run(25 * HOUR)
    assert made(world) == 2
    assert len(world.customers_of(user)) == 1
    world.assert_in_step()


@scenario
async def test_a_late_extra_with_something_attached_is_parked_and_not_removed(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="late_500", late=30 * MINUTE))
    user = world.sign_up()
    await world.settle()
    kept = world.customer_of(user).id
    await world.run(31 * MINUTE)
    (extra,) = [each for each in world.customers_of(user) if each.id != kept]
    world.sandbox.stripe.attach_payment_method(world.time(), extra.id)
    await world.run(40 * MINUTE)
    link = await world.link(user)
    assert link is not None
    assert (link.parked, link.customer_id) == (ParkReason.ATTACHED, kept)
    assert {each.id for each in world.customers_of(user)} == {kept, extra.id}


@scenario
async def test_a_late_extra_of_a_user_who_left_meanwhile_is_removed_too(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="late_500", late=30 * MINUTE))
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert world.customers_of(user) == []
    await world.run(2 * HOUR)
    assert made(world) == 2
    world.assert_in_step()


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("down", [21 * HOUR, 30 * HOUR])
@scenario
async def test_an_intent_older_than_its_key_can_be_trusted_is_looked_for(
    world: World, down: float, effect: bool
) -> None:
    """Down for longer than the intent's time to live; at 30 h Stripe has forgotten the key as well."""
    await world.start()
    freeze = world.freeze("POST", "/v1/customers", before=not effect)
    world.sign_up()
    await world.run(1.0)
    assert freeze.reached.is_set()
    await world.crash(world.nodes[0])
    await world.run(down)
    await world.start()
    await world.settle()
    assert made(world) == 1
    assert len(set(creates(world))) == 1
    world.assert_in_step()


@scenario
async def test_a_customer_deleted_in_stripe_is_made_again_when_its_user_changes(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    dead = world.customer_of(user).id
    await world.run(HOUR)
    world.sandbox.stripe.delete_customer(world.time(), dead)
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com")
    await world.settle()
    assert world.customer_of(user).id != dead
    assert len(set(creates(world))) == 2, "the first key would have brought the dead customer back"
    assert made(world) == 2
    world.assert_in_step()


@scenario
async def test_a_replayed_creation_of_a_customer_deleted_since_is_not_believed(world: World) -> None:
    """A database restored from before the creation tries its generation again, within the key's day."""
    await world.start()
    backup = await world.copy_database()
    user = world.sign_up()
    await world.settle()
    dead = world.customer_of(user).id
    await world.crash(world.nodes[0])
    world.sandbox.stripe.delete_customer(world.time(), dead)
    await world.put_back(backup)
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"stripeCustomerId": None})
    await world.start()
    await world.settle()
    assert world.customer_of(user).id != dead
    replayed = [call.replayed for call in world.sandbox.calls("stripe", "customers.create")]
    assert replayed == [False, True, False]
    world.assert_in_step()


@scenario
async def test_nothing_is_created_before_the_first_scan_has_ended(world: World) -> None:
    await world.start()
    await world.crash(world.nodes[0])
    world.sandbox.plan_fault("stripe", "customers.list", "error_before", times=20)
    await world.start(ready=False)
    world.sign_up()
    await world.run(30.0)
    assert creates(world) == []
    assert world.sandbox.svix.delivered == 1, "the news is taken all the same"
    await world.settle(DAY)
    world.assert_in_step()


async def assert_one_create(world: World) -> None:
    """A sign-up and a change later there is one customer, made under one key."""
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.change_name(world.time(), user, "Augusta", None)
    await world.settle()
    assert (made(world), len(set(creates(world)))) == (1, 1)
    world.assert_in_step()


@scenario
async def test_a_time_out_that_a_proxy_tells_of_may_have_taken_effect(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="error_after", status=408, html=True))
    await assert_one_create(world)


@scenario
async def test_a_refused_look_after_a_replay_says_nothing_about_the_create(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.create", "cut_after")
    world.sandbox.plan_fault("stripe", "customers.retrieve", Fault(kind="error_before", status=400, code="odd"))
    await assert_one_create(world)
