"""What a person approved with a plan goes and nothing else; the deletion breaker neither counts nor holds it."""

import asyncio
from typing import Any

import pytest

from counterfoil.audit import plan_file
from counterfoil.audit.apply import Report
from counterfoil.core.finding import Finding, Kind, Repair
from counterfoil.core.link import Deletion, Ruling
from counterfoil.engine.deletions import held_removals, rule
from counterfoil.errors import ConfigurationError
from tests.audit.support import CHOSEN, apply, audit, planned
from tests.harness import DAY, MINUTE, World, scenario

SERVED: dict[str, Any] = CHOSEN
TEN: dict[str, Any] = {**CHOSEN, "COUNTERFOIL_DELETION_BREAKER": "10"}


def orphan(world: World, number: int, **more: Any) -> str:
    """A customer, days old, of a user who is gone."""
    at = world.time() - 10 * DAY + number
    metadata = {"clerkUserId": f"user_2gone{number:020d}"}
    return world.sandbox.stripe.create_customer(at, email=f"gone{number}@example.com", metadata=metadata, **more)


async def held(world: World) -> int | None:
    return await world.database.read(held_removals)


def left(world: World) -> list[str]:
    return [each.id for each in world.sandbox.stripe.live_customers()]


async def applied(world: World, environ: dict[str, Any], max_deletes: int, *struck: str) -> Report:
    _, plan = await planned(world, environ, *struck)
    return await apply(world, plan, environ, max_deletes)


@pytest.mark.parametrize("served", [False, True], ids=["no database", "a database that knows them"])
@scenario
async def test_a_plan_of_more_orphans_than_the_breaker_allows_is_carried_out_whole(
    world: World, served: bool
) -> None:
    world.sandbox.lift_limits()
    made = [orphan(world, number) for number in range(30)]
    if served:
        node = await world.start(**TEN)
        await world.settle()
        await world.crash(node)
    report = await applied(world, TEN, 20)
    assert (report.done, report.skipped, report.refused, report.deleted) == (30, [], [], 20)
    assert await held(world) is None
    archived = [world.sandbox.stripe.customers[each] for each in made if each in left(world)]
    assert len(archived) == 10
    assert all("counterfoilArchived" in each.metadata for each in archived)


@scenario
async def test_what_a_plan_deletes_does_not_open_the_breaker_for_those_who_leave_now(world: World) -> None:
    world.sandbox.lift_limits()
    for number in range(30):
        orphan(world, number)
    node = await world.start(**TEN)
    users = [world.sign_up(f"person{number}@example.com") for number in range(20)]
    await world.settle()
    _, plan = await planned(world, TEN)
    await world.crash(node)
    assert (await apply(world, plan, TEN, 30)).deleted == 30
    await world.start(**TEN)
    for user in users[:10]:
        world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert await held(world) is None
    assert not any(world.customers_of(user) for user in users[:10])
    # One more than the breaker allows, and it opens as ever.
    for user in users[10:]:
        world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(5 * MINUTE)
    assert await held(world) is not None


@scenario
async def test_while_live_deletions_are_held_an_approved_plan_is_carried_out(world: World) -> None:
    world.sandbox.lift_limits()
    orphans = [orphan(world, number) for number in range(3)]
    node = await world.start(**TEN)
    users = [world.sign_up(f"person{number}@example.com") for number in range(15)]
    await world.settle()
    for user in users:
        world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(5 * MINUTE)
    waiting = await held(world)
    assert waiting is not None
    _, plan = await planned(world, TEN, *[each for each in left(world) if each not in orphans])
    await world.crash(node)
    report = await apply(world, plan, TEN, 3)
    assert (report.done, report.refused, report.deleted) == (3, [], 3)
    assert not set(orphans) & set(left(world))
    assert await held(world) == waiting
    assert len(left(world)) == waiting


@pytest.mark.parametrize("served", [False, True], ids=["no database", "a database that knows them"])
@scenario
async def test_a_line_that_a_person_struck_is_left_alone(world: World, served: bool) -> None:
    world.sandbox.lift_limits()
    struck, approved = orphan(world, 1), orphan(world, 1)
    if served:
        node = await world.start(**SERVED)
        await world.settle()
        await world.crash(node)
    report = await applied(world, CHOSEN, 5, struck)
    assert (report.done, report.skipped, report.refused, report.deleted) == (1, [], [], 1)
    assert left(world) == [struck]
    assert world.sandbox.stripe.customers[struck].metadata == {"clerkUserId": f"user_2gone{1:020d}"}
    assert approved != struck
    _, found = await audit(world, CHOSEN)
    assert [(each.customer_id, each.repair) for each in found] == [(struck, "retire")]


@pytest.mark.parametrize("served", [False, True], ids=["no database", "a database that knows them"])
@scenario
async def test_a_customer_that_has_subscribed_since_the_audit_is_skipped_and_stays(
    world: World, served: bool
) -> None:
    world.sandbox.lift_limits()
    subscribes, approved = orphan(world, 1), orphan(world, 1)
    if served:
        node = await world.start(**SERVED)
        await world.settle()
        await world.crash(node)
    _, plan = await planned(world, CHOSEN)
    world.sandbox.stripe.add_subscription(world.time(), subscribes, period=1000 * 86_400)
    report = await apply(world, plan, CHOSEN, 5)
    assert [each.why for each in report.skipped] == [f"{subscribes} has a live subscription"]
    assert (report.done, report.refused, report.deleted) == (1, [], 1)
    assert left(world) == [subscribes]
    assert any(each.status == "active" for each in world.sandbox.stripe.subscriptions_of(subscribes))
    assert approved not in left(world)


@scenario
async def test_who_is_there_after_all_keeps_no_ruling_of_a_plan(world: World) -> None:
    """A plan asks about a user whom a list had left out; the read by itself finds the user."""
    world.sandbox.lift_limits()
    node = await world.start(**SERVED)
    user = world.sign_up()
    await world.settle()
    customer = world.customer_of(user).id
    found, plan = await planned(world, CHOSEN)
    assert found == []
    about, _ = plan_file.read(plan)
    await world.crash(node)
    wrong = Finding(
        kind=Kind.ORPHAN,
        why="",
        subject_id=user,
        customer_id=customer,
        repair=Repair.RETIRE,
        retire=(customer,),
    )
    plan_file.write(plan, about, [wrong])
    # Gone for the look before the line is carried out, and for the first of the link's two reads.
    real = world.sandbox.clerk.users.pop(user)
    world.loop.call_later(30, lambda: world.sandbox.clerk.users.update({user: real}))
    report = await apply(world, plan, CHOSEN, 5)
    assert report.done == 0
    assert [each.why for each in report.refused] == ["the user is there after all"]
    link = await world.link(user)
    assert link is not None
    assert (link.deletion, link.ruling, link.customer_id) == (Deletion.NONE, Ruling.NONE, customer)
    assert world.customer_of(user).id == customer


@scenario
async def test_an_apply_that_dies_at_each_deletion_deletes_no_more_than_allowed(world: World) -> None:
    world.sandbox.lift_limits()
    for number in range(8):
        orphan(world, number)
    _, plan = await planned(world, CHOSEN)
    for died in range(1, 4):
        dying = asyncio.create_task(apply(world, plan, CHOSEN, 3))
        while len(left(world)) > 8 - died and not dying.done():
            await asyncio.sleep(0.01)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    report = await apply(world, plan, CHOSEN, 3)
    assert (report.skipped, report.refused, report.deleted) == ([], [], 3)
    assert len(left(world)) == 8 - 3
    assert all("counterfoilArchived" in world.sandbox.stripe.customers[each].metadata for each in left(world))


@scenario
async def test_of_two_applies_of_one_plan_at_once_the_second_is_refused(world: World) -> None:
    world.sandbox.lift_limits()
    for number in range(4):
        orphan(world, number)
    _, plan = await planned(world, CHOSEN)
    first_look = world.freeze("GET", "/v1/customers/", before=True)
    first = asyncio.create_task(apply(world, plan, CHOSEN, 2))
    await first_look.reached.wait()
    with pytest.raises(ConfigurationError, match="another apply of this plan is under way: wait for it"):
        await apply(world, plan, CHOSEN, 2)
    first_look.thaw.set()
    assert (await first).deleted == 2
    # Nobody works on it any more: it may be run again.
    assert (await apply(world, plan, CHOSEN, 2)).before == 4
    assert len(left(world)) == 2


@scenario
async def test_a_removal_that_a_person_called_off_after_the_audit_stays_called_off(world: World) -> None:
    world.sandbox.lift_limits()
    node = await world.start(**SERVED, COUNTERFOIL_DELETION_BREAKER="1")
    users = [world.sign_up(f"person{number}@example.com") for number in range(2)]
    await world.settle()
    for user in users:
        world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(5 * MINUTE)
    assert await held(world) == 2
    kept, _ = left(world)
    user = world.sandbox.stripe.customers[kept].metadata["clerkUserId"]
    _, plan = await planned(world, SERVED)
    await world.crash(node)
    now = int(world.time() * 1000)
    await world.database.write(lambda connection: rule(connection, [user], Ruling.UNDO, 0, now))
    report = await apply(world, plan, SERVED, 5)
    assert [each.why for each in report.refused] == ["the removal was called off (counterfoil undo)"]
    assert (report.done, left(world)) == (1, [kept])
    assert world.sandbox.stripe.customers[kept].metadata["clerkUserId"] == user
    assert "counterfoilArchived" not in world.sandbox.stripe.customers[kept].metadata


@scenario
async def test_a_line_that_is_skipped_takes_nothing_of_what_may_be_deleted(world: World) -> None:
    world.sandbox.lift_limits()
    user = world.sandbox.clerk.create_user(world.time() - 5 * DAY, silent=True, email="ada@example.com")
    three = [
        world.sandbox.stripe.create_customer(
            world.time() - days * DAY, email="ada@example.com", metadata={"clerkUserId": user}
        )
        for days in (30, 20, 10)
    ]
    gone = orphan(world, 1)
    found, plan = await planned(world, CHOSEN)
    (duplicate,) = (each for each in found if each.kind is Kind.DUPLICATE)
    # The last that is looked at has subscribed; until then nobody else is counted.
    world.sandbox.stripe.add_subscription(world.time(), duplicate.retire[-1])
    slow = world.freeze("GET", f"/v1/customers/{gone}", before=True)
    world.loop.call_later(5, slow.thaw.set)
    report = await apply(world, plan, CHOSEN, 1)
    assert [each.why for each in report.skipped] == [f"{duplicate.retire[-1]} has a live subscription"]
    assert report.deleted == 1
    assert world.sandbox.stripe.customers[gone].deleted
    assert set(three) <= set(left(world))
