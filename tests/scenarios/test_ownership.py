"""It touches only what it owns: its fields, its keys, its customers."""

from counterfoil.core.link import ParkReason
from counterfoil.sandbox.faults import Fault
from tests.harness import HOUR, World, scenario


async def parked(world: World, user: str) -> ParkReason | None:
    """Why a user's link is parked."""
    link = await world.link(user)
    assert link is not None
    return link.parked


@scenario
async def test_what_others_keep_on_both_sides_is_never_touched(world: World) -> None:
    await world.start()
    user = world.sign_up(plan="gold", nested={"keep": [1, 2]})
    await world.settle()
    clerk, stripe = world.sandbox.clerk, world.sandbox.stripe
    customer = world.customer_of(user)
    mark = customer.metadata["counterfoil"]
    others = {"crm": "77", "note": "VIP"}
    stripe.edit_customer(
        world.time(), customer.id, metadata=others, description="a friend", phone="+15550100", email="billing@b.co"
    )
    clerk.set_private_metadata(world.time(), user, {"secret": 1})
    clerk.set_unsafe_metadata(world.time(), user, {"theme": "dark"})
    clerk.change_name(world.time(), user, "Augusta", "King")
    await world.settle()
    assert customer.metadata == {**others, "clerkUserId": user, "counterfoil": mark}
    assert (customer.name, customer.email) == ("Augusta King", "billing@b.co"), "only what changed is sent"
    assert (customer.description, customer.phone) == ("a friend", "+15550100")
    kept = world.user(user)
    assert kept.public_metadata == {"plan": "gold", "nested": {"keep": [1, 2]}, "stripeCustomerId": customer.id}
    assert kept.private_metadata == {"secret": 1}
    assert kept.unsafe_metadata == {"theme": "dark"}


@scenario
async def test_metadata_that_names_another_users_customer_is_parked(world: World) -> None:
    await world.start()
    owner = world.sign_up()
    await world.settle()
    customer = world.customer_of(owner)
    before = dict(customer.metadata)
    thief = world.sign_up("eve@example.com", stripeCustomerId=customer.id)
    await world.settle()
    assert await parked(world, thief) is ParkReason.CLAIMED
    assert customer.metadata == before
    assert customer.email == "ada@example.com"
    assert world.customer_of(owner) is customer
    assert len(world.sandbox.stripe.customers) == 1


@scenario
async def test_an_unowned_customer_that_metadata_names_is_adopted_and_not_made_anew(world: World) -> None:
    await world.start()
    theirs = world.sandbox.stripe.create_customer(world.time(), email="old@example.com", metadata={"crm": "77"})
    user = world.sign_up(stripeCustomerId=theirs)
    await world.settle()
    assert world.sandbox.calls("stripe", "customers.create") == []
    customer = world.customer_of(user)
    assert customer.id == theirs
    assert customer.metadata == {"crm": "77", "clerkUserId": user}
    world.assert_in_step()


@scenario
async def test_two_users_who_name_one_unowned_customer_do_not_share_it(world: World) -> None:
    await world.start()
    theirs = world.sandbox.stripe.create_customer(world.time(), email="old@example.com")
    world.sandbox.plan_fault("stripe", None, Fault(kind="slow", delay=2.0), times=10)
    users = [world.sign_up(f"person{each}@example.com", stripeCustomerId=theirs) for each in range(2)]
    await world.settle()
    reasons = [await parked(world, user) for user in users]
    assert set(reasons) == {None, ParkReason.CLAIMED}
    winner = users[reasons.index(None)]
    assert world.customer_of(winner).id == theirs
    assert world.customer_of(winner).email == world.user(winner).email
    assert len(world.sandbox.stripe.customers) == 1


@scenario
async def test_metadata_that_names_a_deleted_customer_is_parked(world: World) -> None:
    await world.start()
    gone = world.sandbox.stripe.create_customer(world.time(), email="old@example.com")
    world.sandbox.stripe.delete_customer(world.time(), gone)
    user = world.sign_up(stripeCustomerId=gone)
    await world.settle()
    assert await parked(world, user) is ParkReason.FOREIGN
    assert world.writes() == []


@scenario
async def test_metadata_that_holds_no_customer_id_is_parked_and_not_overwritten(world: World) -> None:
    await world.start()
    user = world.sign_up(stripeCustomerId="ask finance")
    await world.settle()
    assert await parked(world, user) is ParkReason.FOREIGN
    assert world.user(user).public_metadata == {"stripeCustomerId": "ask finance"}
    assert world.writes() == []


@scenario
async def test_a_name_in_the_users_own_browsers_metadata_counts_for_nothing(world: World) -> None:
    await world.start()
    owner = world.sign_up()
    await world.settle()
    taken = world.customer_of(owner).id
    thief = world.sandbox.clerk.create_user(
        world.time(), email="eve@example.com", unsafe_metadata={"stripeCustomerId": taken}
    )
    await world.settle()
    assert world.customer_of(thief).id != taken
    world.assert_in_step()


@scenario
async def test_a_link_back_that_somebody_changed_is_parked_and_not_overwritten(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    other = world.sandbox.stripe.create_customer(world.time(), email="old@example.com")
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"stripeCustomerId": other})
    await world.settle()
    assert await parked(world, user) is ParkReason.MISNAMED
    assert world.user(user).public_metadata == {"stripeCustomerId": other}
    assert world.sandbox.stripe.customers[other].metadata == {}


@scenario
async def test_a_link_back_that_was_removed_is_written_again(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"stripeCustomerId": None})
    await world.settle()
    world.assert_in_step()


@scenario
async def test_two_customers_that_others_made_for_one_user_are_for_a_person(world: World) -> None:
    await world.start()
    await world.crash(world.nodes[0])
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", silent=True)
    stripe = world.sandbox.stripe
    pair = [
        stripe.create_customer(world.time(), email="ada@example.com", metadata={"clerkUserId": user})
        for _ in range(2)
    ]
    await world.run(HOUR)
    node = await world.start()
    await world.settle()
    assert await parked(world, user) is ParkReason.DUPLICATE
    assert world.writes() == []
    stripe.delete_customer(world.time(), pair[0])
    assert await node.supervisor.retry([user]) == 1
    await world.settle()
    assert await parked(world, user) is None
    assert world.customer_of(user).id == pair[1]
    world.assert_in_step()


@scenario
async def test_a_parked_link_is_looked_at_again_when_its_user_changes(world: World) -> None:
    await world.start()
    user = world.sign_up(stripeCustomerId="ask finance")
    await world.settle()
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"stripeCustomerId": None})
    await world.settle()
    assert await parked(world, user) is None
    world.assert_in_step()


@scenario
async def test_customers_of_nobody_and_of_strange_names_are_left_alone(world: World) -> None:
    stripe = world.sandbox.stripe
    for value in ("", "org_123", "user_", "user_'; DROP TABLE links", "x" * 500):
        stripe.create_customer(world.time(), email="a@example.com", metadata={"clerkUserId": value})
    await world.start()
    user = world.sign_up()
    await world.settle()
    assert len(world.customers_of(user)) == 1
    assert len(world.writes()) == 2
    assert sum(1 for _ in stripe.live_customers()) == 6
