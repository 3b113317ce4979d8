"""Where the application finds the customer's id: COUNTERFOIL_LINK_BACK."""

from counterfoil.core.link import ParkReason
from counterfoil.sandbox.verdict import Rules
from tests.harness import DAY, World, scenario

PRIVATE = Rules(link_back="private")


@scenario
async def test_private_metadata_holds_the_id_and_public_metadata_is_left_alone(world: World) -> None:
    await world.start(COUNTERFOIL_LINK_BACK="private")
    user = world.sign_up(plan="gold")
    await world.settle()
    customer = world.customer_of(user).id
    assert world.user(user).private_metadata == {"stripeCustomerId": customer}
    assert world.user(user).public_metadata == {"plan": "gold"}
    assert len(world.writes()) == 2, "its echo is no news"
    world.assert_in_step(PRIVATE)


@scenario
async def test_with_a_private_link_back_a_customer_named_in_public_is_adopted(world: World) -> None:
    theirs = world.sandbox.stripe.create_customer(world.time(), email="ada@example.com")
    await world.start(COUNTERFOIL_LINK_BACK="private")
    user = world.sign_up(stripeCustomerId=theirs)
    await world.settle()
    assert world.customer_of(user).id == theirs
    assert world.user(user).private_metadata == {"stripeCustomerId": theirs}
    world.assert_in_step(PRIVATE)


@scenario
async def test_a_private_value_that_we_did_not_write_is_never_overwritten(world: World) -> None:
    await world.start(COUNTERFOIL_LINK_BACK="private")
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.set_private_metadata(world.time(), user, {"stripeCustomerId": "cus_theirs"})
    await world.settle()
    link = await world.link(user)
    assert link is not None
    assert link.parked is ParkReason.MISNAMED
    assert world.user(user).private_metadata == {"stripeCustomerId": "cus_theirs"}


@scenario
async def test_moving_the_link_back_to_private_writes_it_there_and_overwrites_nobodys_value(world: World) -> None:
    await world.start()
    user, other = world.sign_up(), world.sign_up("bob@example.com")
    await world.settle()
    world.sandbox.clerk.set_private_metadata(world.time(), other, {"stripeCustomerId": "cus_theirs"})
    await world.settle()
    await world.restart(COUNTERFOIL_LINK_BACK="private")
    await world.settle()
    customer = world.customer_of(user).id
    assert world.user(user).private_metadata == {"stripeCustomerId": customer}
    assert world.user(user).public_metadata == {"stripeCustomerId": customer}, "the old place is not ours to tidy"
    assert world.user(other).private_metadata == {"stripeCustomerId": "cus_theirs"}
    link = await world.link(other)
    assert link is not None
    assert link.parked is ParkReason.MISNAMED


@scenario
async def test_a_private_link_back_survives_the_loss_of_the_customer_and_names_the_next(world: World) -> None:
    await world.start(COUNTERFOIL_LINK_BACK="private")
    user = world.sign_up()
    await world.settle()
    first = world.customer_of(user).id
    world.sandbox.stripe.delete_customer(world.time(), first)
    world.sandbox.clerk.change_name(world.time(), user, "Augusta", None)
    await world.settle()
    assert world.customer_of(user).id != first
    world.assert_in_step(PRIVATE)


@scenario
async def test_without_a_link_back_clerk_is_never_written_and_a_strange_value_parks_nobody(world: World) -> None:
    await world.start(COUNTERFOIL_LINK_BACK="off")
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"stripeCustomerId": "cus_theirs"})
    world.sandbox.clerk.change_name(world.time(), user, "Augusta", None)
    await world.settle()
    await world.run(1.1 * DAY)
    assert world.customer_of(user).name == "Augusta"
    assert [each.upstream for each in world.writes()] == ["stripe", "stripe"]
    assert world.user(user).public_metadata == {"stripeCustomerId": "cus_theirs"}
    world.assert_in_step(Rules(link_back=None))


@scenario
async def test_without_a_link_back_a_customer_that_clerk_names_is_adopted_all_the_same(world: World) -> None:
    theirs = world.sandbox.stripe.create_customer(world.time(), email="ada@example.com")
    await world.start(COUNTERFOIL_LINK_BACK="off")
    user = world.sign_up(stripeCustomerId=theirs)
    await world.settle()
    assert world.customer_of(user).id == theirs
    assert [each.upstream for each in world.writes()] == ["stripe", "stripe"], "the claim and the name"
    world.assert_in_step(Rules(link_back=None))
