"""What the simulation found: each story by its name, as short as it can be told."""

import asyncio

import pytest

from counterfoil.core.link import Deletion
from counterfoil.errors import UpstreamError
from counterfoil.sandbox.faults import Fault
from counterfoil.sandbox.messages import Upstream
from tests.asking import TOKEN, ensure
from tests.audit.support import SWIFT, apply, audit, planned
from tests.harness import DAY, HOUR, MINUTE, World, scenario


def named(world: World) -> tuple[str, str]:
    """A user whose private metadata names a customer that is nobody's: (user, customer)."""
    customer = world.sandbox.stripe.create_customer(world.time(), description="made by the app")
    user = world.sandbox.clerk.create_user(
        world.time(),
        email="ada@example.com",
        first_name="Ada",
        private_metadata={"stripeCustomerId": customer},
    )
    return user, customer


@scenario
async def test_a_deletion_right_after_a_claim_looks_at_the_customer_again(world: World) -> None:
    """What was seen before the claim, a customer of nobody's, parked the deletion, and billing went on."""
    await world.start()
    world.sandbox.plan_fault(
        "stripe", "customers.update", Fault(kind="slow", delay=9.0), when=lambda request: b"email" in request.body
    )
    user, customer = named(world)
    await world.run(3.0)
    assert world.customer_of(user).id == customer
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    link = await world.link(user)
    assert link is not None
    assert link.parked is None
    world.assert_in_step()


@scenario
async def test_a_claim_whose_answer_was_lost_is_found_again_when_its_user_goes(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.update", Fault(kind="error_after", status=503))
    # From then on Stripe is down, until the user has gone.
    user, customer = named(world)
    await world.run(0.2)
    world.sandbox.add_outage("stripe", world.time(), world.time() + 5 * MINUTE)
    assert world.customer_of(user).id == customer
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(6 * MINUTE)
    await world.settle()
    link = await world.link(user)
    assert link is not None
    assert link.deletion is Deletion.SIGNED
    assert link.intent_key is None
    world.assert_in_step()


@scenario
async def test_a_claim_that_took_no_effect_ends_with_its_user_and_touches_nothing(world: World) -> None:
    await world.start()
    world.sandbox.plan_fault("stripe", "customers.update", "error_before")
    user, customer = named(world)
    await world.run(0.05)
    world.sandbox.add_outage("stripe", world.time(), world.time() + 5 * MINUTE)
    await world.run(1.0)
    assert world.customers_of(user) == []
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(6 * MINUTE)
    await world.settle()
    kept = world.sandbox.stripe.customers[customer]
    assert not kept.deleted
    assert kept.metadata == {}


@scenario
async def test_a_late_customer_that_a_restored_database_forgot_is_removed_within_a_day(world: World) -> None:
    """That it was to be looked for lay in the rows that were lost, and no scan came until the next start."""
    await world.start()
    backup = await world.copy_database()
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="late_500", late=6 * HOUR))
    user = world.sign_up()
    await world.run(10 * MINUTE)
    assert len(world.customers_of(user)) == 1
    await world.crash(world.nodes[0])
    await world.put_back(backup)
    await world.start()
    await world.run(6 * HOUR)
    assert len(world.customers_of(user)) == 2, "Stripe has finished the failed request"
    await world.run(DAY)
    await world.settle()
    world.assert_in_step()


@scenario
async def test_a_customer_that_is_only_reserved_is_not_answered_to_an_app(world: World) -> None:
    """The metadata's customer was answered before it was claimed, and might never have been."""
    node = await world.start(COUNTERFOIL_API_TOKEN=TOKEN)
    world.sandbox.plan_fault("stripe", "customers.update", Fault(kind="error_before", status=503))
    user, customer = named(world)
    await world.run(0.4)
    link = await world.link(user)
    assert link is not None
    assert (link.customer_id, link.claiming) == (customer, True)
    assert (await ensure(node.application, user, wait=0)).status == 202
    await world.settle()
    assert (await ensure(node.application, user)).json == {"customer_id": customer}


@scenario
async def test_a_customer_that_people_took_from_its_user_is_for_a_person_to_give_back(world: World) -> None:
    """The plan said that another was to be made, and the apply refused that, each time anew."""
    world.sandbox.lift_limits()
    user, customer = world.sandbox.add_pair(world.time(), email="ada@example.com", first_name="Ada")
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"stripeCustomerId": None}, silent=True)
    await world.run(DAY)
    await world.start()
    await world.settle()
    changes = {"clerkUserId": ""}
    world.sandbox.stripe.edit_customer(world.time(), customer, email="pay@example.com", metadata=changes)
    await world.run(HOUR)
    _, found = await audit(world, {})
    (missing,) = [each for each in found if each.kind == "missing"]
    assert missing.repair is None
    assert f"the database holds {customer}" in missing.why


@scenario
async def test_a_plan_gives_a_customer_back_to_the_user_whose_link_holds_it(world: World) -> None:
    """It named the user no more, and Clerk's metadata named it: the apply called that done, and did nothing."""
    await world.start()
    user = world.sign_up()
    await world.settle()
    customer = world.customer_of(user)
    world.sandbox.stripe.edit_customer(world.time(), customer.id, metadata={"clerkUserId": ""})
    await world.run(HOUR)
    found, plan = await planned(world, SWIFT)
    assert [(each.kind, each.repair) for each in found] == [("unclaimed", "adopt")]
    await world.crash(world.nodes[-1])
    report = await apply(world, plan, SWIFT)
    assert (report.done, report.refused) == (1, [])
    assert world.customer_of(user).id == customer.id
    world.assert_in_step()


@scenario
async def test_a_plan_makes_a_customer_anew_where_the_link_holds_one_that_people_deleted(world: World) -> None:
    """Clerk's metadata named it too: the apply said that this was done, and did nothing."""
    await world.start()
    user = world.sign_up()
    await world.settle()
    world.sandbox.stripe.delete_customer(world.time(), world.customer_of(user).id)
    await world.run(HOUR)
    found, plan = await planned(world, SWIFT)
    assert [(each.kind, each.repair) for each in found] == [("foreign", "create")]
    await world.crash(world.nodes[-1])
    report = await apply(world, plan, SWIFT)
    assert (report.done, report.refused) == (1, [])
    world.assert_in_step()


@scenario
async def test_an_outage_that_outlasts_an_audit_or_an_apply_is_told_as_what_it_is(world: World) -> None:
    """A group of errors came out of both, and a person was shown a traceback."""
    world.sandbox.lift_limits()
    user, _ = world.sandbox.add_pair(world.time(), email="ada@example.com", first_name="Ada")
    world.sandbox.stripe.create_customer(world.time(), email="ada@example.com", metadata={"clerkUserId": user})
    lists: tuple[tuple[Upstream, str], ...] = (("stripe", "customers.list"), ("clerk", "users.list"))
    for upstream, operation in lists:
        lasts = world.sandbox.plan_fault(upstream, operation, Fault(kind="error_before", status=503), times=500)
        with pytest.raises(UpstreamError):
            await audit(world, SWIFT)
        lasts.cancel()
    found, plan = await planned(world, SWIFT)
    assert [each.kind for each in found] == ["duplicate"]
    lasts = world.sandbox.plan_fault(
        "stripe", "customers.retrieve", Fault(kind="error_before", status=503), times=500
    )
    with pytest.raises(UpstreamError):
        await apply(world, plan, SWIFT)
    lasts.cancel()
    assert (await apply(world, plan, SWIFT)).refused == []


@scenario
async def test_an_archiving_by_a_plan_whose_answer_was_lost_parks_nobody(world: World) -> None:
    """The customer named nobody any more, and was taken for one that people had given to somebody else."""
    await world.start()
    user = world.sign_up()
    await world.settle()
    customer = world.customer_of(user).id
    world.sandbox.clerk.delete_user(world.time(), user, silent=True)
    await world.run(HOUR)
    found, plan = await planned(world, SWIFT)
    assert [(each.kind, each.repair) for each in found] == [("orphan", "retire")]
    await world.crash(world.nodes[-1])
    world.sandbox.plan_fault("stripe", "customers.update", Fault(kind="error_after", status=502))
    report = await apply(world, plan, SWIFT)
    assert (report.done, report.refused) == (1, [])
    assert "counterfoilArchived" in world.sandbox.stripe.customers[customer].metadata
    link = await world.link(user)
    assert link is not None
    assert (link.parked, link.customer_id) == (None, None)


@scenario
async def test_an_old_users_customer_that_a_restored_database_finds_again_is_named_in_clerk(world: World) -> None:
    """It was taken for a pair of before the first start, which is left as it is, and was never named."""
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", first_name="Ada", silent=True)
    await world.run(DAY)
    node = await world.start(COUNTERFOIL_API_TOKEN=TOKEN)
    await world.settle()
    backup = await world.copy_database()
    world.sandbox.plan_fault("clerk", "users.merge_metadata", Fault(kind="error_before", status=503), times=20)
    await ensure(node.application, user, wait=0)
    await world.run(1.0)
    customer = world.customer_of(user)
    assert world.sandbox.clerk.users[user].public_metadata == {}
    await world.crash(node)
    await world.put_back(backup)
    await world.start()
    await world.run(25 * HOUR)
    assert world.sandbox.clerk.users[user].public_metadata == {"stripeCustomerId": customer.id}


@pytest.mark.parametrize("people", ["delete", "move"])
@scenario
async def test_a_plan_makes_a_customer_where_the_one_that_a_scan_met_is_gone_since(
    world: World, people: str
) -> None:
    """Of two that were met the second was taken unseen: what a person had approved was refused."""
    world.sandbox.lift_limits()
    stripe = world.sandbox.stripe
    user, first = world.sandbox.add_pair(world.time(), email="ada@example.com", first_name="Ada")
    second = stripe.create_customer(world.time(), email="ada@example.com", metadata={"clerkUserId": user})
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"stripeCustomerId": None}, silent=True)
    other = world.sandbox.clerk.create_user(world.time(), email="bob@example.com", first_name="Bob", silent=True)
    await world.run(DAY)
    node = await world.start()
    await world.run(HOUR)
    await world.crash(node)
    for customer in (first, second):
        if people == "delete":
            stripe.delete_customer(world.time(), customer)
        else:
            stripe.edit_customer(world.time(), customer, metadata={"clerkUserId": other})
    await world.run(HOUR)
    found, plan = await planned(world, SWIFT)
    assert (user, "missing", "create") in [(each.subject_id, each.kind, each.repair) for each in found]
    report = await apply(world, plan, SWIFT)
    assert report.refused == []
    made = world.customer_of(user)
    assert made.id not in {first, second}
    assert world.sandbox.clerk.users[user].public_metadata == {"stripeCustomerId": made.id}


@scenario
async def test_reads_that_lag_behind_a_sign_up_do_not_make_a_deletion_of_it(world: World) -> None:
    """Two answers of 404, a minute apart, and the customer of somebody who had just come was removed."""
    await world.start()
    user = world.sign_up()
    await world.run(5.0)
    customer = world.customer_of(user).id
    world.sandbox.plan_fault("clerk", "users.get", Fault(kind="error_before", status=404), times=4)
    body = b'{"type":"user.deleted","object":"event","instance_id":"ins_other","data":{"object":"user","id":"%s"}}'
    world.sandbox.svix.publish(world.time(), "user.deleted", body % user.encode())
    await world.run(HOUR)
    assert len(world.sandbox.calls("clerk", "users.get")) > 4
    assert world.customer_of(user).id == customer
    world.assert_in_step()


@scenario
async def test_what_stripe_finishes_after_a_restore_is_named_in_clerk_within_a_day(world: World) -> None:
    """The day's scan came after its walk, so that nobody read the user until the next day's."""
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", first_name="Ada", silent=True)
    await world.run(DAY)
    node = await world.start(COUNTERFOIL_API_TOKEN=TOKEN)
    await world.settle()
    backup = await world.copy_database()
    late = Fault(kind="late_500", late=6 * HOUR)
    world.sandbox.plan_fault("stripe", "customers.create", late)
    await ensure(node.application, user, wait=0)
    await world.run(1.0)
    await world.crash(node)
    await world.put_back(backup)
    await world.start()
    await world.run(25 * HOUR)
    customer = world.customer_of(user)
    assert world.sandbox.clerk.users[user].public_metadata == {"stripeCustomerId": customer.id}


@pytest.mark.parametrize("email", ["ada@example.com", None])
@scenario
async def test_a_plan_takes_a_customer_that_people_moved_to_a_user_who_had_none(
    world: World, email: str | None
) -> None:
    """No scan had met it: the line made the user a second one, or was refused where the user has no address."""
    world.sandbox.lift_limits()
    ada = world.sandbox.clerk.create_user(world.time(), email=email, first_name="Ada", silent=True)
    customer = world.sandbox.stripe.create_customer(world.time(), name="Ada", email="old@example.com")
    await world.run(DAY)
    node = await world.start()
    await world.settle()
    world.sandbox.stripe.edit_customer(world.time(), customer, metadata={"clerkUserId": ada})
    await world.run(2 * HOUR)
    await world.crash(node)
    found, plan = await planned(world, SWIFT)
    assert (ada, customer, "unlinked") in [(each.subject_id, each.customer_id, each.kind) for each in found]
    report = await apply(world, plan, SWIFT)
    assert (report.refused, report.skipped) == ([], [])
    assert world.customer_of(ada).id == customer
    assert world.sandbox.clerk.users[ada].public_metadata == {"stripeCustomerId": customer}


@scenario
async def test_a_customer_that_the_database_holds_for_another_is_not_proposed_for_adoption(world: World) -> None:
    """The line was refused every time: one user's metadata names what another's link holds."""
    world.sandbox.lift_limits()
    node = await world.start()
    bob = world.sign_up("bob@example.com")
    await world.settle()
    customer = world.customer_of(bob).id
    ada = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", first_name="Ada", silent=True)
    await world.crash(node)
    world.sandbox.clerk.set_public_metadata(world.time(), ada, {"stripeCustomerId": customer}, silent=True)
    world.sandbox.clerk.set_public_metadata(world.time(), bob, {"stripeCustomerId": None}, silent=True)
    world.sandbox.stripe.edit_customer(world.time(), customer, metadata={"clerkUserId": ""})
    await world.run(HOUR)
    _, found = await audit(world, SWIFT)
    (line,) = (each for each in found if each.kind == "unclaimed")
    assert (line.customer_id, line.repair) == (customer, None)
    assert line.why.endswith(f"the database holds it for {bob}")


@scenario
async def test_where_people_moved_a_users_customer_away_no_other_is_proposed_in_its_place(world: World) -> None:
    """The line was refused while the link held the one that had been moved."""
    world.sandbox.lift_limits()
    node = await world.start()
    ada, bob = world.sign_up("ada@example.com"), world.sign_up("bob@example.com")
    await world.settle()
    held, free = world.customer_of(ada).id, world.sandbox.stripe.create_customer(world.time(), name="Ada")
    await world.crash(node)
    world.sandbox.stripe.edit_customer(world.time(), held, metadata={"clerkUserId": bob})
    world.sandbox.clerk.set_public_metadata(world.time(), ada, {"stripeCustomerId": free}, silent=True)
    await world.run(HOUR)
    _, found = await audit(world, SWIFT)
    (line,) = (each for each in found if each.kind == "unclaimed")
    assert (line.customer_id, line.repair) == (free, None)
    assert line.why.endswith(f"the database holds {held} for the user, which is there and names somebody else")


@scenario
async def test_the_duplicate_that_was_to_stay_is_not_taken_back_from_people_who_moved_it_meanwhile(
    world: World,
) -> None:
    """It was claimed like one that nobody has ever had, and the only other one removed."""
    world.sandbox.lift_limits()
    ada = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", first_name="Ada", silent=True)
    first, second = (
        world.sandbox.stripe.create_customer(
            world.time(), name="Ada", email="ada@example.com", metadata={"clerkUserId": ada}
        )
        for _ in range(2)
    )
    await world.run(DAY)
    found, plan = await planned(world, SWIFT)
    (line,) = (each for each in found if each.kind == "duplicate")
    stays = line.customer_id
    other = {first: second, second: first}[str(stays)]
    applying = asyncio.create_task(apply(world, plan, SWIFT, max_deletes=5))
    while True:
        look = world.freeze("GET", f"/v1/customers/{stays}", before=True)
        await look.reached.wait()
        if any("a plan was applied" in each for each in await world.story(ada)):
            break  # the lines have been checked, and the link has been told
        look.thaw.set()
    world.sandbox.stripe.edit_customer(world.time(), str(stays), metadata={"clerkUserId": ""})
    look.thaw.set()
    report = await applying
    assert report.done == 0
    assert "clerkUserId" not in world.sandbox.stripe.customers[str(stays)].metadata
    assert world.customer_of(ada).id == other
