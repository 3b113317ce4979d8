"""What each event costs, counted by the other side."""

from tests.harness import DAY, World, scenario


@scenario
async def test_a_sign_up_costs_two_calls_and_its_echo_none(world: World) -> None:
    await world.start()
    before = world.calls()
    user = world.sign_up()
    await world.settle()
    assert world.calls() - before == 2
    assert [message.event for message in world.sandbox.svix.messages()] == ["user.created", "user.updated"]
    assert world.user(user).public_metadata == {"stripeCustomerId": world.customer_of(user).id}
    world.assert_in_step()


@scenario
async def test_a_change_of_email_costs_one_call(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    before = world.calls()
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com")
    await world.settle()
    assert world.calls() - before == 1
    assert world.customer_of(user).email == "countess@example.com"
    world.assert_in_step()


@scenario
async def test_a_change_of_nothing_that_is_mirrored_costs_no_call(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    before = world.calls()
    world.sandbox.clerk.touch(world.time(), user)
    await world.settle()
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"plan": "gold"})
    await world.settle()
    assert world.calls() == before
    world.assert_in_step()


@scenario
async def test_a_deletion_costs_two_calls(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    before = world.calls()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert world.calls() - before == 2
    assert world.customers_of(user) == []
    world.assert_in_step()


@scenario
async def test_a_delivery_that_comes_twice_costs_nothing_more(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com")
    await world.settle()
    before = world.calls()
    for message in world.sandbox.svix.messages():
        world.sandbox.svix.resend(message.id, world.time())
    await world.settle()
    assert world.calls() == before
    world.assert_in_step()


@scenario
async def test_a_quiet_day_costs_only_the_sweeps_and_the_walk(world: World) -> None:
    await world.start()
    world.sign_up()
    await world.settle()
    before = world.calls()
    await world.run(DAY)
    # A sweep every ten minutes and a bit, and one walk: Stripe is asked once, for what is new.
    assert world.calls() - before <= 6 * 24 + 3
    assert [call.operation for call in world.sandbox.calls("stripe", since=world.time() - DAY)] == [
        "customers.list"
    ]
    world.assert_in_step()
