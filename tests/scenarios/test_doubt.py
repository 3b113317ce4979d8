"""News that is not to be taken at its word: examples, replays, late and contradictory events."""

import pytest

from counterfoil.sandbox.clerk import EXAMPLE_USER
from counterfoil.sandbox.faults import Fault
from tests.harness import DAY, HOUR, MINUTE, World, scenario


@pytest.mark.parametrize("seconds", [True, False])
@pytest.mark.parametrize("instance_id", ["ins_123", None, "pinned"])
@scenario
async def test_the_dashboards_example_of_a_user_who_never_was_leaves_nothing(
    world: World, instance_id: str | None, seconds: bool
) -> None:
    await world.start()
    pinned = world.sandbox.clerk.settings.instance_id
    given = pinned if instance_id == "pinned" else instance_id
    world.sandbox.clerk.send_example(world.time(), instance_id=given, seconds=seconds)
    await world.settle()
    assert world.sandbox.stripe.customers == {}
    assert world.writes() == []
    assert await world.link(EXAMPLE_USER) is None
    world.assert_in_step()


@scenario
async def test_a_user_without_email_gets_a_customer_with_the_email(world: World) -> None:
    await world.start()
    user = world.sign_up(email=None)
    await world.settle()
    assert world.customers_of(user) == []
    world.assert_in_step()
    world.sandbox.clerk.change_email(world.time(), user, "ada@example.com")
    await world.settle()
    assert world.customer_of(user).email == "ada@example.com"
    world.assert_in_step()


@scenario
async def test_a_user_who_loses_the_email_keeps_the_customers(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.change_email(world.time(), user, None)
    await world.settle()
    assert world.customer_of(user).email == "ada@example.com"
    world.assert_in_step()


@scenario
async def test_an_email_that_stripe_refuses_is_left_out_and_flagged_until_a_better_one_comes(world: World) -> None:
    await world.start()
    user = world.sign_up("ada@x.invalid-for-stripe")
    await world.settle()
    customer = world.customer_of(user)
    assert customer.email is None
    link = await world.link(user)
    assert link is not None
    assert (link.refused_email, link.parked) == ("ada@x.invalid-for-stripe", None)
    world.assert_in_step()
    world.sandbox.clerk.change_email(world.time(), user, "ada@example.com")
    await world.settle()
    assert world.customer_of(user) is customer
    assert customer.email == "ada@example.com"
    world.assert_in_step()


@scenario
async def test_a_change_to_an_email_that_stripe_refuses_leaves_the_old_one(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.change_email(world.time(), user, "ada@x.invalid-for-stripe")
    world.sandbox.clerk.change_name(world.time(), user, "Augusta", None)
    await world.settle()
    customer = world.customer_of(user)
    assert (customer.email, customer.name) == ("ada@example.com", "Augusta")
    link = await world.link(user)
    assert link is not None
    assert link.refused_email == "ada@x.invalid-for-stripe"
    world.assert_in_step()


@scenario
async def test_an_old_event_undoes_no_newer_change(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.change_email(world.time(), user, "middle@example.com")
    (late,) = world.sandbox.svix.due(world.time(), 1)
    await world.run(1.0)
    world.sandbox.clerk.change_email(world.time(), user, "newest@example.com")
    await world.settle()
    before = world.calls()
    assert await world.post(late, world.nodes[0]) == 204
    world.sandbox.svix.settle(late, 204, world.time())
    await world.settle()
    assert world.calls() == before
    assert world.customer_of(user).email == "newest@example.com"
    world.assert_in_step()


@scenario
async def test_an_event_older_than_our_link_back_causes_no_second_one(world: World) -> None:
    await world.start()
    user = world.sign_up()
    world.sandbox.clerk.touch(world.time(), user)
    created, touched = world.sandbox.svix.due(world.time(), 2)
    node = world.nodes[0]
    assert await world.post(created, node) == 204
    world.sandbox.svix.settle(created, 204, world.time())
    await world.settle()
    assert world.user(user).public_metadata["stripeCustomerId"]
    await world.post(touched, node)
    world.sandbox.svix.settle(touched, 204, world.time())
    await world.settle()
    assert len(world.sandbox.calls("clerk", "users.merge_metadata")) == 1
    world.assert_in_step()


@scenario
async def test_a_replay_of_all_that_was_ever_sent_changes_nothing(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com")
    await world.settle()
    await world.run(2 * HOUR)
    before = world.time()
    for message in world.sandbox.svix.messages():
        world.sandbox.svix.resend(message.id, world.time())
    await world.settle()
    assert world.customer_of(user).email == "countess@example.com"
    assert [call.operation for call in world.writes(since=before)] == []
    world.assert_in_step()


@scenario
async def test_a_retry_of_a_change_that_was_undone_meanwhile_is_checked_with_clerk(world: World) -> None:
    """The node was down; the first event that comes is 30 minutes old and no longer true."""
    await world.start()
    user = world.sign_up()
    await world.settle()
    await world.crash(world.nodes[0])
    world.sandbox.clerk.change_email(world.time(), user, "mistake@example.com")
    await world.run(7.0)
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com", silent=True)
    await world.run(MINUTE)
    await world.start()
    await world.run(HOUR)
    sent = [call for call in world.sandbox.calls("stripe", "customers.update") if call.status == 200]
    assert len(sent) == 1, "the mistake never reached Stripe"
    assert world.customer_of(user).email == "countess@example.com"
    world.assert_in_step()


@scenario
async def test_a_change_that_was_never_told_is_found_by_the_sweep(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    await world.run(3 * HOUR)
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com", silent=True)
    await world.run(11 * MINUTE)
    assert world.customer_of(user).email == "countess@example.com"
    world.assert_in_step()


@scenario
async def test_a_sign_up_that_was_never_told_is_found_by_the_sweep(world: World) -> None:
    await world.start()
    await world.run(HOUR)
    world.sandbox.clerk.create_user(world.time(), email="ada@example.com", silent=True)
    await world.run(11 * MINUTE)
    world.assert_in_step()


@scenario
async def test_a_sweep_that_fails_half_way_misses_nothing(world: World) -> None:
    await world.start()
    users = [world.sign_up(f"person{number}@example.com") for number in range(20)]
    await world.settle()
    world.sandbox.plan_fault("clerk", "users.list", Fault(kind="cut_after"), times=3)
    for user in users:
        world.sandbox.clerk.change_email(world.time(), user, f"{user.lower()}@example.com", silent=True)
    await world.run(15 * MINUTE)
    world.assert_in_step()


@scenario
async def test_everything_converges_within_a_day_when_no_event_ever_comes(world: World) -> None:
    await world.start()
    clerk = world.sandbox.clerk
    users = [
        clerk.create_user(world.time(), email=f"person{number}@example.com", silent=True) for number in range(20)
    ]
    await world.run(HOUR)
    for user in users[:5]:
        clerk.delete_user(world.time(), user, silent=True)
    for user in users[5:10]:
        clerk.change_name(world.time(), user, "Grace", "Hopper", silent=True)
    await world.run(DAY)
    world.assert_in_step()
