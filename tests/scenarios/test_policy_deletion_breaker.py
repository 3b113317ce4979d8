"""Too many deletions at once: all removals are held until a person has looked, and then every user is read."""

from typing import Any

import msgspec
import pytest

from counterfoil.core.link import Deletion, Ruling
from counterfoil.engine.deletions import held_removals
from counterfoil.sandbox.verdict import Rules
from tests.harness import HOUR, MINUTE, World, scenario

TEN: dict[str, Any] = {"COUNTERFOIL_DELETION_BREAKER": "10"}


async def sign_up(world: World, number: int) -> list[str]:
    users = [world.sign_up(f"person{each}@example.com") for each in range(number)]
    await world.settle()
    return users


async def held(world: World) -> int | None:
    return await world.database.read(held_removals)


def forged(world: World, user: str) -> None:
    """A deletion that is signed and names the pinned instance, of a user who is there all the same."""
    instance = world.sandbox.clerk.settings.instance_id
    data = {"object": "user", "id": user, "deleted": True}
    body = {"type": "user.deleted", "object": "event", "instance_id": instance, "data": data}
    world.sandbox.svix.publish(world.time(), "user.deleted", msgspec.json.encode(body))


def removals(world: World) -> int:
    return len(world.sandbox.calls("stripe", "customers.delete"))


@scenario
async def test_150_deletions_in_a_minute_stop_at_the_breaker_and_go_on_after_its_release(world: World) -> None:
    node = await world.start()
    users = await sign_up(world, 150)
    for user in users:
        world.sandbox.clerk.delete_user(world.time(), user)
        await world.run(0.4)
    await world.run(10 * MINUTE)
    assert removals(world) <= 100, "at most the limit went before"
    left = 150 - removals(world)
    assert await held(world) == left
    figures = await world.figures()
    assert (figures.backlog.unsettled, figures.backlog.parked) == (left, {})
    link = await world.link(users[-1])
    assert link is not None
    assert (link.attempts, link.parked, link.customer_id) == (0, None, world.customer_of(users[-1]).id)
    await world.run(2 * HOUR)
    assert removals(world) == 150 - left, "time alone releases nothing"
    assert await node.supervisor.release_deletions() == 150
    await world.settle()
    assert removals(world) == 150
    assert await held(world) is None
    assert len(world.sandbox.calls("clerk", "users.get")) >= 150
    world.assert_in_step()


@pytest.mark.parametrize(
    "settings",
    [{}, {"COUNTERFOIL_ON_DELETION": "archive"}, {"COUNTERFOIL_DELETION_GRACE": "3h"}],
    ids=["delete", "archive", "grace"],
)
@scenario
async def test_users_who_are_there_in_truth_keep_their_customers(world: World, settings: dict[str, Any]) -> None:
    """Somebody has the signing secret, and deletes everybody."""
    node = await world.start(**TEN, **settings)
    users = await sign_up(world, 30)
    before = {user: world.customer_of(user).id for user in users}
    (gone, *others) = users
    world.sandbox.clerk.delete_user(world.time(), gone)
    for user in others:
        forged(world, user)
    await world.run(MINUTE)
    assert await held(world) is not None
    spared = [user for user in others if world.customers_of(user)]
    assert len(spared) >= 29 - 10, "at most the limit went before"
    written = len(world.writes())
    world.sandbox.clerk.change_email(world.time(), users[1], "moved@example.com")
    await world.run(HOUR)
    assert len(world.writes()) == written
    assert await node.supervisor.release_deletions() == 30
    await world.settle()
    for user in spared:
        assert world.customer_of(user).id == before[user]
    for user in others:
        link = await world.link(user)
        assert link is not None
        assert link.deletion is Deletion.NONE
    assert world.customer_of(users[1]).email == "moved@example.com"
    await world.run(4 * HOUR)
    world.assert_in_step(Rules(archived_key="counterfoilArchived"))


@scenario
async def test_who_lost_the_customer_before_the_breaker_opened_gets_another(world: World) -> None:
    node = await world.start(**TEN)
    users = await sign_up(world, 20)
    for user in users:
        forged(world, user)
        await world.run(5.0)
    assert removals(world) == 10
    assert await node.supervisor.release_deletions() == 20
    await world.settle()
    assert removals(world) == 10
    world.assert_in_step()
    assert (await world.figures()).backlog.parked == {}


@scenario
async def test_the_breaker_stays_open_over_a_restart_and_counts_anew_after_its_release(world: World) -> None:
    await world.start(**TEN)
    users = await sign_up(world, 40)
    for user in users[:15]:
        world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(MINUTE)
    before = removals(world)
    assert before <= 10
    node = await world.restart(**TEN)
    await world.run(2 * HOUR)
    assert (removals(world), await held(world)) == (before, 15 - before)
    await node.supervisor.release_deletions()
    await world.run(1.0)
    for user in users[15:25]:
        world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert removals(world) == 25, "what was released counts no more: ten are not too many"
    for user in users[25:]:
        world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(MINUTE)
    assert await held(world) == 15, "with the ten of just now they are too many at the first"


@scenario
async def test_deletions_that_are_taken_while_no_work_is_done_are_counted_all_the_same(world: World) -> None:
    """The hour in which they came is over when the workers begin."""
    await world.start(**TEN)
    users = await sign_up(world, 15)
    world.sandbox.add_outage("stripe", world.time(), world.time() + 3 * HOUR)
    await world.crash(world.nodes[-1])
    await world.start(ready=False, **TEN)
    for user in users:
        world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(4 * HOUR)
    assert (removals(world), await held(world)) == (0, 15)


@scenario
async def test_few_deletions_an_hour_never_open_the_breaker(world: World) -> None:
    await world.start(**TEN)
    users = await sign_up(world, 25)
    for user in users:
        world.sandbox.clerk.delete_user(world.time(), user)
        await world.run(7 * MINUTE)
    assert removals(world) == 25
    world.assert_in_step()


@scenario
async def test_deletions_of_users_without_a_customer_count_for_nothing(world: World) -> None:
    await world.start(**TEN)
    (user,) = await sign_up(world, 1)
    for each in range(30):
        forged(world, f"user_2nobody{each}")
    for _ in range(30):
        nobody = world.sign_up(None)
        world.sandbox.clerk.delete_user(world.time(), nobody)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert removals(world) == 1


@pytest.mark.parametrize(
    "settings",
    [{"COUNTERFOIL_DELETION_BREAKER": "0"}, {**TEN, "COUNTERFOIL_ON_DELETION": "keep"}],
    ids=["off", "keep"],
)
@scenario
async def test_a_breaker_that_is_off_or_has_nothing_to_hold_stays_closed(
    world: World, settings: dict[str, Any]
) -> None:
    await world.start(**settings)
    users = await sign_up(world, 20)
    for user in users:
        world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert await held(world) is None
    assert (await world.figures()).backlog.unsettled == 0
    world.assert_in_step(Rules(keep="COUNTERFOIL_ON_DELETION" in settings))


@scenario
async def test_a_single_removal_can_be_called_off_while_all_are_held(world: World) -> None:
    node = await world.start(**TEN)
    users = await sign_up(world, 15)
    for user in users:
        world.sandbox.clerk.delete_user(world.time(), user)
    await world.run(MINUTE)
    before = removals(world)
    assert before <= 10
    undone, released = users[-1], users[-2]
    assert await node.supervisor.rule([undone], Ruling.UNDO) == 1
    assert await node.supervisor.rule([released], Ruling.RELEASE) == 1
    await world.run(MINUTE)
    assert (removals(world), await held(world)) == (before, 14 - before), "to release one is no release of all"
    await node.supervisor.release_deletions()
    await world.settle()
    assert len(world.customers_of(undone)) == 1
    assert removals(world) == 14


@scenario
async def test_an_outage_of_clerk_during_the_release_removes_nobody_unread(world: World) -> None:
    node = await world.start(**TEN)
    users = await sign_up(world, 15)
    for user in users:
        forged(world, user)
    await world.run(MINUTE)
    before = removals(world)
    assert before <= 10
    world.sandbox.add_outage("clerk", world.time(), world.time() + HOUR)
    await node.supervisor.release_deletions()
    await world.run(HOUR)
    assert removals(world) == before
    await world.settle()
    assert removals(world) == before
    world.assert_in_step()
