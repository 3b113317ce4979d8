"""Who gets a customer, and when: COUNTERFOIL_CREATE, COUNTERFOIL_NO_EMAIL and the filter."""

from typing import Any

from counterfoil.core.link import ParkReason
from counterfoil.core.news import Asked
from counterfoil.engine.supervisor import ask_again
from counterfoil.sandbox.verdict import Rules
from counterfoil.store import links
from tests.harness import HOUR, World, scenario

OWN = "tests.scenarios.own_functions"


def none_left(world: World) -> bool:
    """There is no customer at all."""
    return not list(world.sandbox.stripe.live_customers())


async def note(world: World, user: str) -> str:
    """The last line of a user's story."""
    return (await world.story(user))[-1]


async def ask(world: World, user: str) -> None:
    """An application asks for a user's customer."""
    node = world.nodes[-1]
    now, since = world.clock.now(), node.context.rules.policy.since
    news = [Asked(subject_id=user, want=True)]
    await world.database.write(lambda connection: links.fold_batch(connection, news, since, now))
    node.supervisor.worker.wake()


# A verified address first.


@scenario
async def test_a_customer_is_made_once_the_primary_address_is_verified(world: World) -> None:
    await world.start(COUNTERFOIL_CREATE="on_verified_email")
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", verified=False)
    await world.settle()
    assert none_left(world)
    assert "waiting for a verified email address" in await note(world, user)
    world.assert_in_step(Rules(eligible=lambda user: user.verified, barred=lambda user: not user.verified))
    world.sandbox.clerk.verify_email(world.time(), user)
    await world.settle()
    assert world.customer_of(user).email == "ada@example.com"
    world.assert_in_step()


@scenario
async def test_another_address_that_is_verified_does_not_count_for_the_primary_one(world: World) -> None:
    await world.start(COUNTERFOIL_CREATE="on_verified_email")
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", verified=False)
    world.sandbox.clerk.add_email(world.time(), user, "verified@example.com")
    await world.settle()
    assert none_left(world)


@scenario
async def test_who_has_a_customer_keeps_it_up_to_date_though_the_new_address_is_not_verified(world: World) -> None:
    await world.start(COUNTERFOIL_CREATE="on_verified_email")
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.change_email(world.time(), user, "new@example.com", verified=False)
    await world.settle()
    assert world.customer_of(user).email == "new@example.com"
    world.assert_in_step()


@scenario
async def test_no_address_is_not_a_verified_one_whatever_is_said_of_users_without(world: World) -> None:
    await world.start(COUNTERFOIL_CREATE="on_verified_email", COUNTERFOIL_NO_EMAIL="create")
    world.sandbox.clerk.create_user(world.time(), phone="+15550100", first_name="Ada")
    await world.settle()
    assert none_left(world)


# On demand.


@scenario
async def test_on_demand_nothing_is_made_until_somebody_asks(world: World) -> None:
    await world.start(COUNTERFOIL_CREATE="on_demand")
    asked, other = world.sign_up(), world.sign_up("bob@example.com")
    await world.settle()
    for each in (asked, other):
        world.sandbox.clerk.touch(world.time(), each)
    await world.run(25 * HOUR)
    await world.settle()
    assert none_left(world)
    await ask(world, asked)
    await world.settle()
    assert world.customer_of(asked).email == "ada@example.com"
    assert world.customers_of(other) == []
    world.assert_in_step(Rules(eligible=lambda user: user.id == asked, barred=lambda user: user.id != asked))


@scenario
async def test_a_retry_is_not_a_demand(world: World) -> None:
    node = await world.start(COUNTERFOIL_CREATE="on_demand")
    user = world.sign_up()
    await world.settle()
    since = node.context.rules.policy.since
    await world.database.write(lambda connection: ask_again(connection, [user], since, world.clock.now()))
    node.supervisor.worker.wake()
    await world.settle()
    assert none_left(world)
    assert "nobody asked" in await note(world, user)


@scenario
async def test_on_demand_a_customer_that_is_there_is_kept_up_to_date(world: World) -> None:
    theirs = world.sandbox.stripe.create_customer(world.time(), email="old@example.com")
    await world.start(COUNTERFOIL_CREATE="on_demand")
    user = world.sign_up(stripeCustomerId=theirs)
    await world.settle()
    assert world.customer_of(user).id == theirs
    world.sandbox.clerk.change_name(world.time(), user, "Augusta", None)
    await world.settle()
    assert world.customer_of(user).name == "Augusta"
    world.assert_in_step()


@scenario
async def test_who_asked_under_another_setting_is_remembered(world: World) -> None:
    await world.start(COUNTERFOIL_NO_EMAIL="wait")
    user = world.sign_up(email=None)
    await world.settle()
    await ask(world, user)
    await world.restart(COUNTERFOIL_CREATE="on_demand")
    world.sandbox.clerk.change_email(world.time(), user, "ada@example.com")
    await world.settle()
    assert world.customer_of(user).email == "ada@example.com"


@scenario
async def test_another_setting_reaches_users_who_do_not_change_at_the_start(world: World) -> None:
    await world.start(COUNTERFOIL_CREATE="on_demand")
    user = world.sign_up()
    gone = world.sign_up("bob@example.com")
    await world.settle()
    world.sandbox.clerk.delete_user(world.time(), gone)
    await world.settle()
    await world.restart(COUNTERFOIL_CREATE="on_created")
    await world.settle()
    assert world.customer_of(user).email == "ada@example.com"
    world.assert_in_step()
    calls = world.calls()
    await world.restart(COUNTERFOIL_CREATE="on_created")
    await world.settle()
    assert all(call.operation != "users.list" for call in world.sandbox.calls("clerk", since=world.time() - 1))
    assert world.calls() - calls <= 3, "the keys and the scan: nothing is thought over again"


# No address.


@scenario
async def test_a_user_without_an_address_gets_a_customer_that_the_address_is_added_to(world: World) -> None:
    await world.start(COUNTERFOIL_NO_EMAIL="create", COUNTERFOIL_MIRROR="email,name,phone")
    user = world.sandbox.clerk.create_user(world.time(), phone="+15550100", first_name="Ada")
    await world.settle()
    made = world.customer_of(user)
    assert (made.email, made.name, made.phone) == (None, "Ada", "+15550100")
    world.sandbox.clerk.change_email(world.time(), user, "ada@example.com")
    await world.settle()
    assert world.customer_of(user) is made
    assert made.email == "ada@example.com"
    assert len(world.sandbox.stripe.customers) == 1
    world.assert_in_step()


@scenario
async def test_a_user_with_an_address_that_is_not_mirrored_need_not_wait_for_one(world: World) -> None:
    await world.start(COUNTERFOIL_MIRROR="name")
    user = world.sign_up()
    await world.settle()
    assert (world.customer_of(user).email, world.customer_of(user).name) == (None, "Ada")


# The filter.


def rules(eligible: Any) -> Rules:
    return Rules(eligible=eligible, barred=lambda user: not eligible(user))


@scenario
async def test_only_users_of_the_named_domains_get_customers(world: World) -> None:
    await world.start(COUNTERFOIL_ONLY_DOMAINS="Acme.com, *.acme.org")
    chosen = {"a@acme.com", "b@ACME.com", "c@eu.acme.org", "d@x.y.acme.org"}
    for email in [*chosen, "e@notacme.com", "f@acme.org", "g@acme.com.example.com", "h@sub.acme.com"]:
        world.sign_up(email)
    world.sign_up(None)
    await world.settle()
    assert {each.email for each in world.sandbox.stripe.live_customers()} == chosen
    world.assert_in_step(rules(lambda user: user.email in chosen))


@scenario
async def test_becoming_eligible_by_metadata_makes_a_customer_and_ceasing_to_be_leaves_it(world: World) -> None:
    await world.start(COUNTERFOIL_ONLY_METADATA="plan=pro")
    user, other = world.sign_up(plan="free"), world.sign_up("bob@example.com", plan=["pro"])
    await world.settle()
    assert none_left(world)
    assert "not eligible" in await note(world, user)
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"plan": "pro"})
    await world.settle()
    made = world.customer_of(user)
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"plan": None})
    world.sandbox.clerk.change_name(world.time(), user, "Augusta", None)
    await world.settle()
    assert world.customer_of(user) is made
    assert made.name == "Augusta", "the customer that is there is kept in step"
    assert world.customers_of(other) == []


@scenario
async def test_a_filter_of_ones_own_decides_and_all_filters_must_hold(world: World) -> None:
    await world.start(COUNTERFOIL_ELIGIBLE=f"{OWN}:pays", COUNTERFOIL_ONLY_DOMAINS="example.com")
    paying = world.sign_up(plan="pro")
    world.sign_up("bob@example.com")
    world.sign_up("eve@elsewhere.com", plan="pro")
    await world.settle()
    assert [each.metadata["clerkUserId"] for each in world.sandbox.stripe.live_customers()] == [paying]
    world.assert_in_step(rules(lambda user: user.id == paying))


@scenario
async def test_a_filter_that_fails_parks_the_user_until_it_is_mended(world: World) -> None:
    await world.start(COUNTERFOIL_ELIGIBLE=f"{OWN}:cannot_tell")
    user = world.sign_up(plan="pro")
    await world.settle()
    link = await world.link(user)
    assert link is not None
    assert (link.parked, link.mapping_error) == (ParkReason.MAPPING, "LookupError: no such plan")
    assert none_left(world)
    node = await world.restart(COUNTERFOIL_ELIGIBLE=f"{OWN}:pays")
    await node.supervisor.retry([user])
    await world.settle()
    world.assert_in_step()


@scenario
async def test_a_wider_filter_has_every_user_read_anew_at_the_start_and_doubts_nobody(world: World) -> None:
    await world.start(COUNTERFOIL_ONLY_DOMAINS="acme.com")
    users = [world.sign_up(f"person{each}@example.com") for each in range(3)]
    await world.settle()
    assert none_left(world)
    await world.restart(COUNTERFOIL_ONLY_DOMAINS="example.com")
    reads = len(world.sandbox.calls("clerk", "users.get"))
    await world.run(60)
    await world.settle()
    assert all(world.customer_of(user) for user in users)
    assert len(world.sandbox.calls("clerk", "users.get")) == reads
    world.assert_in_step()


@scenario
async def test_a_delivery_that_comes_again_after_the_filter_was_changed_is_read_once_and_no_more(
    world: World,
) -> None:
    await world.start(COUNTERFOIL_ONLY_DOMAINS="acme.com")
    user = world.sign_up()
    await world.settle()
    world.sandbox.plan_fault("clerk", "users.list", "error_before", times=100)  # the walk must wait
    await world.restart(COUNTERFOIL_ONLY_DOMAINS="example.com")
    for _ in range(3):
        world.sandbox.clerk.send_again(world.time(), user)
        await world.settle()
    assert len(world.sandbox.calls("clerk", "users.get")) == 1
    world.assert_in_step()
