"""Keys: rolled, restricted, and of another environment than the pinned one."""

from dataclasses import replace

import pytest

from counterfoil.core.policy import SECOND
from counterfoil.errors import WrongEnvironment
from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.stripe import StripeSettings
from tests.harness import HOUR, MINUTE, World, scenario

LIVE = "sk_live_stripeSandbox"


def move(world: World, settings: SandboxSettings) -> None:
    """The same addresses lead to other accounts from here on, as other keys would."""
    world.sandbox = Sandbox(settings)
    world.environ["STRIPE_SECRET_KEY"] = settings.stripe.secret_key
    world.environ["CLERK_SECRET_KEY"] = settings.clerk.secret_key


OTHERS = {
    "clerk": SandboxSettings(clerk=ClerkSettings(instance_id="ins_other")),
    "account": SandboxSettings(stripe=StripeSettings(account_id="acct_other")),
    "mode": SandboxSettings(stripe=StripeSettings(secret_key=LIVE)),
}
NAMES = {
    "clerk": ("ins_2sandbox", "ins_other"),
    "account": ("acct_1Sandbox", "acct_other"),
    "mode": ("(test mode)", "(live mode)"),
}


@pytest.mark.parametrize("other", OTHERS)
@scenario
async def test_keys_of_another_environment_are_refused_before_anything_is_written(
    world: World, other: str
) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com")
    due = world.sandbox.svix.due(world.time(), 10)
    for attempt in due:
        await world.post(attempt, world.nodes[0])
    await world.crash(world.nodes[0])
    move(world, OTHERS[other])
    before = await world.link(user)
    with pytest.raises(WrongEnvironment) as refusal:
        await world.start()
    for name in NAMES[other]:
        assert name in str(refusal.value)
    assert "Nothing was written" in str(refusal.value)
    assert world.writes() == []
    assert await world.link(user) == before


@scenario
async def test_another_metadata_key_is_refused(world: World) -> None:
    await world.start()
    await world.crash(world.nodes[0])
    with pytest.raises(WrongEnvironment, match="clerk_user_id"):
        await world.start(COUNTERFOIL_METADATA_KEY="clerk_user_id")


@scenario
async def test_a_restricted_key_that_may_not_read_the_account_still_starts(world: World) -> None:
    world.sandbox.stripe.restrict("account.retrieve")
    await world.start()
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    world.assert_in_step()
    world.sandbox.stripe.permit()
    await world.restart()
    await world.crash(world.nodes[0])
    move(world, OTHERS["account"])
    with pytest.raises(WrongEnvironment, match="acct_other"):
        await world.start()


@scenario
async def test_a_rolled_stripe_key_parks_nothing_and_work_goes_on_with_the_new_one(world: World) -> None:
    node = await world.start()
    known = world.sign_up()
    await world.settle()
    new = world.sandbox.stripe.roll_key()
    users = [world.sign_up(f"person{number}@example.com") for number in range(10)]
    world.sandbox.clerk.change_email(world.time(), known, "countess@example.com")
    began = world.time()
    await world.run(30 * MINUTE)
    assert node.upstreams.gates["stripe"].breaker.is_open
    assert (await world.figures()).backlog.parked == {}
    refused = world.sandbox.calls("stripe", since=began)
    # Those that were under way when it opened, and then one probe a minute.
    assert len(refused) <= 10 + 40
    assert {call.status for call in refused} == {401}
    intents = [(await world.link(user)).intent_key for user in users]  # type: ignore[union-attr]
    assert all(intents)
    world.environ["STRIPE_SECRET_KEY"] = new
    await world.restart()
    await world.settle()
    done = {call.idempotency_key for call in world.sandbox.calls("stripe", "customers.create") if call.effect_at}
    assert done >= set(intents)
    world.assert_in_step()


@scenario
async def test_a_rolled_clerk_key_parks_nothing_and_work_goes_on_with_the_new_one(world: World) -> None:
    node = await world.start()
    old = world.sandbox.settings.clerk
    world.sandbox.clerk.settings = replace(old, secret_key="sk_test_rolled")
    for number in range(10):
        world.sign_up(f"person{number}@example.com")
    began = world.time()
    await world.run(30 * MINUTE)
    assert node.upstreams.gates["clerk"].breaker.is_open
    assert (await world.figures()).backlog.parked == {}
    assert len(world.sandbox.calls("clerk", since=began)) <= 10 + 40
    world.environ["CLERK_SECRET_KEY"] = "sk_test_rolled"
    await world.restart()
    await world.settle()
    assert len(world.sandbox.stripe.customers) == 10
    world.assert_in_step()


@scenario
async def test_a_key_that_is_refused_for_a_while_needs_no_restart(world: World) -> None:
    await world.start()
    world.sandbox.stripe.restrict("customers.create")
    world.sign_up()
    await world.run(10 * MINUTE)
    assert (await world.figures()).backlog.parked == {}
    world.sandbox.stripe.permit()
    await world.settle()
    world.assert_in_step()


@scenario
async def test_a_clock_that_is_wrong_by_minutes_does_no_harm(world: World) -> None:
    for skew in (-4 * 60 * SECOND, 4 * 60 * SECOND):
        world.clock.skew = skew
        await world.start()
        user = world.sign_up(f"person{skew}@example.com")
        world.sandbox.plan_fault("stripe", "customers.create", "stored_500")
        await world.settle(HOUR)
        assert len(world.customers_of(user)) == 1
        await world.crash(world.nodes[0])
        world.assert_in_step()
