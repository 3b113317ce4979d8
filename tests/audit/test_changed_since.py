"""What has changed between the audit and the apply: a line rests on what it was found by, or is skipped."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from counterfoil.audit.apply import Report
from counterfoil.core.finding import Kind, Repair
from counterfoil.sandbox.sandbox import SandboxSettings
from tests.audit.support import CHOSEN, SWIFT, apply, planned
from tests.harness import DAY, MINUTE, World, scenario, scenario_in

ADDRESS = "ada@example.com"
NODE: dict[str, Any] = SWIFT


def a_user(world: World, email: str = ADDRESS, **more: Any) -> str:
    """A user, days old, of whom no webhook tells."""
    return world.sandbox.clerk.create_user(
        world.time() - 5 * DAY, silent=True, email=email, first_name="Ada", **more
    )


def a_customer(world: World, owner: str | None, email: str = ADDRESS, days: float = 10) -> str:
    """A customer, older than that."""
    metadata = {"clerkUserId": owner} if owner is not None else {}
    return world.sandbox.stripe.create_customer(
        world.time() - days * DAY, email=email, name="Ada", metadata=metadata
    )


def owner_of(world: World, customer: str) -> str | None:
    return world.sandbox.stripe.customers[customer].metadata.get("clerkUserId")


def name_in_clerk(world: World, user: str, customer: str | None) -> None:
    """Somebody writes the metadata, and no webhook tells of it."""
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"stripeCustomerId": customer}, silent=True)


def whys(report: Report) -> set[tuple[str, str]]:
    """The lines that were skipped, and why."""
    return {(each.key, each.why) for each in report.skipped}


# A customer that nobody claims.


@scenario
async def test_a_customer_whose_name_was_moved_to_another_users_metadata_is_not_adopted(world: World) -> None:
    world.sandbox.lift_limits()
    free = a_customer(world, None, "free@example.com")
    wrong, right = a_user(world, "x@example.com"), a_user(world, "y@example.com")
    a_customer(world, right, "y@example.com")
    world.sandbox.clerk.set_public_metadata(world.time() - 4 * DAY, wrong, {"stripeCustomerId": free}, silent=True)
    found, plan = await planned(world, SWIFT)
    assert (Kind.UNCLAIMED, wrong, Repair.ADOPT) in {(each.kind, each.subject_id, each.repair) for each in found}
    name_in_clerk(world, wrong, None)
    name_in_clerk(world, right, free)
    report = await apply(world, plan, SWIFT)
    assert (f"unclaimed:{free}", "Clerk's metadata has changed meanwhile") in whys(report)
    assert owner_of(world, free) is None


def user_unverified(world: World, user: str, customer: str) -> None:
    world.sandbox.clerk.change_email(world.time(), user, ADDRESS, verified=False, silent=True)


def user_moved(world: World, user: str, customer: str) -> None:
    world.sandbox.clerk.change_email(world.time(), user, "new@example.com", silent=True)


def customer_moved(world: World, user: str, customer: str) -> None:
    world.sandbox.stripe.edit_customer(world.time(), customer, email="somebody@else.com")


def another_came(world: World, user: str, customer: str) -> None:
    a_customer(world, None, ADDRESS, days=0)


def named_another(world: World, user: str, customer: str) -> None:
    name_in_clerk(world, user, a_customer(world, None, "else@example.com"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (user_unverified, "the user has another address by now, or it is not verified"),
        (user_moved, "the user has another address by now, or it is not verified"),
        (customer_moved, "{} has another address by now"),
        (another_came, "another customer has this address by now"),
        (named_another, "Clerk's metadata names another customer by now"),
    ],
)
@scenario
async def test_a_customer_is_adopted_by_its_address_only_while_the_address_still_says_so(
    world: World, change: Callable[[World, str, str], None], why: str
) -> None:
    world.sandbox.lift_limits()
    free, user = a_customer(world, None), a_user(world)
    found, plan = await planned(world, CHOSEN)
    assert [(each.kind, each.repair) for each in found] == [(Kind.UNCLAIMED, Repair.ADOPT)]
    change(world, user, free)
    report = await apply(world, plan, CHOSEN)
    assert [each.why for each in report.skipped] == [why.format(free)]
    assert (owner_of(world, free), report.done) == (None, 0)


@scenario
async def test_an_address_in_another_spelling_is_the_same(world: World) -> None:
    world.sandbox.lift_limits()
    free, user = a_customer(world, None, "Ada@Example.com"), a_user(world)
    _, plan = await planned(world, CHOSEN)
    report = await apply(world, plan, CHOSEN)
    assert (report.done, report.skipped, report.refused) == (1, [], [])
    assert owner_of(world, free) == user


# Several customers of one user.


@scenario
async def test_a_customer_that_clerk_names_by_now_does_not_go(world: World) -> None:
    world.sandbox.lift_limits()
    user = a_user(world)
    _, newer = a_customer(world, user, days=20), a_customer(world, user, days=10)
    found, plan = await planned(world, SWIFT)
    assert [each.retire for each in found if each.kind is Kind.DUPLICATE] == [(newer,)]
    name_in_clerk(world, user, newer)
    report = await apply(world, plan, SWIFT)
    assert "Clerk's metadata names one that is to go by now" in {each.why for each in report.skipped}
    assert owner_of(world, newer) == user
    # Audited anew, Clerk's word is heeded.
    found, _ = await planned(world, SWIFT)
    assert [each.customer_id for each in found if each.kind is Kind.DUPLICATE] == [newer]


@pytest.mark.parametrize("place", ["public_metadata", "private_metadata"])
@scenario
async def test_a_customer_that_clerk_named_at_the_audit_already_goes_where_another_has_paid(
    world: World, place: str
) -> None:
    world.sandbox.lift_limits()
    user = a_user(world)
    older, newer = a_customer(world, user, days=20), a_customer(world, user, days=10)
    setattr(world.user(user), place, {"stripeCustomerId": newer})
    world.sandbox.stripe.add_payment_intent(world.time() - 9 * DAY, older)
    found, plan = await planned(world, SWIFT)
    assert [each.retire for each in found if each.kind is Kind.DUPLICATE] == [(newer,)]
    assert (await apply(world, plan, SWIFT)).skipped == []
    assert owner_of(world, newer) is None


@scenario
async def test_a_duplicate_that_has_paid_since_the_audit_stays(world: World) -> None:
    world.sandbox.lift_limits()
    user = a_user(world)
    older, newer = a_customer(world, user, days=20), a_customer(world, user, days=10)
    world.sandbox.stripe.attach_payment_method(world.time() - 9 * DAY, newer)
    found, plan = await planned(world, SWIFT)
    assert [each.retire for each in found if each.kind is Kind.DUPLICATE] == [(newer,)]
    world.sandbox.stripe.add_payment_intent(world.time(), newer)
    assert (f"duplicate:{user}:{older}", f"{newer} has paid since the audit") in whys(
        await apply(world, plan, SWIFT)
    )
    assert (owner_of(world, newer), owner_of(world, older)) == (user, user)


@scenario
async def test_a_card_on_a_duplicate_is_no_payment(world: World) -> None:
    world.sandbox.lift_limits()
    user = a_user(world)
    older, newer = a_customer(world, user, days=20), a_customer(world, user, days=10)
    _, plan = await planned(world, SWIFT)
    world.sandbox.stripe.attach_payment_method(world.time(), newer)
    assert (await apply(world, plan, SWIFT)).skipped == []
    assert (owner_of(world, newer), owner_of(world, older)) == (None, user)


# A user who cannot be read.


def spoil(world: World, user: str) -> None:
    """Clerk shows a name that no database can store."""
    world.user(user).first_name = "A\0"


@scenario
async def test_the_customer_of_a_user_who_cannot_be_read_is_no_orphan(world: World) -> None:
    world.sandbox.lift_limits()
    user = a_user(world)
    customer = a_customer(world, user)
    spoil(world, user)
    found, plan = await planned(world, SWIFT)
    assert [(each.kind, each.subject_id, each.repair) for each in found] == [(Kind.MISLINKED, user, None)]
    assert len((await apply(world, plan, SWIFT, 5)).person) == 1
    assert owner_of(world, customer) == user


@scenario
async def test_what_was_found_of_a_user_who_cannot_be_read_by_now_is_skipped(world: World) -> None:
    world.sandbox.lift_limits()
    user = a_user(world)
    customer = a_customer(world, user, "old@example.com")
    real = world.sandbox.clerk.users.pop(user)
    _, gone = await planned(world, SWIFT)
    world.sandbox.clerk.users[user] = real
    spoil(world, user)
    report = await apply(world, gone, SWIFT, 5)
    assert whys(report) == {(f"orphan:{user}:{customer}", "what Clerk says of the user cannot be read")}
    assert (report.deleted, owner_of(world, customer)) == (0, user)


# A user who is served.


@scenario
async def test_a_name_that_is_written_anew_does_not_keep_the_users_change_from_the_customer(world: World) -> None:
    world.sandbox.lift_limits()
    node = await world.start(**NODE)
    user = world.sign_up()
    await world.settle()
    customer = world.customer_of(user).id
    await world.crash(node)
    await asyncio.sleep(DAY)
    name_in_clerk(world, user, None)
    await asyncio.sleep(DAY)
    found, plan = await planned(world, SWIFT)
    assert [(each.kind, each.repair) for each in found] == [(Kind.UNLINKED, Repair.LINK)]
    world.sandbox.clerk.change_name(world.time(), user, "Grace", None)
    assert (await apply(world, plan, SWIFT)).done == 1
    await world.start(**NODE)
    await world.settle()
    assert world.sandbox.stripe.customers[customer].name == "Grace"
    world.assert_in_step()


@scenario_in(SandboxSettings(latency=(0.4, 0.6)))
async def test_a_link_that_a_worker_holds_is_asked_once_its_turn_has_ended(world: World) -> None:
    """Turns are longer here than the pause between two looks."""
    node = await world.start()
    user = world.sign_up(ADDRESS)
    await world.settle()
    mine = world.customer_of(user).id
    other = a_customer(world, user, "old@example.com", days=0)
    world.sandbox.stripe.edit_customer(world.time(), mine, email="old@example.com")
    await world.run(2 * DAY)
    _, plan = await planned(world, {})
    await node.supervisor.retry([user])
    turn = world.freeze("GET", f"/v1/customers/{other}", before=True)
    await turn.reached.wait()
    applying = asyncio.create_task(apply(world, plan, {}))
    await asyncio.sleep(20)
    turn.thaw.set()
    thawed = world.time()
    report = await applying
    assert (report.refused, report.skipped) == ([], [])
    assert world.time() - thawed < MINUTE
    assert sum("a plan was applied" in line for line in await world.story(user)) == 1
    world.assert_in_step()
