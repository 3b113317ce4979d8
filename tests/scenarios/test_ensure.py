"""An app asks for a user's customer, before, while and after the webhook tells of the user."""

import asyncio
from typing import Any

import pytest

from counterfoil.engine import ensure as engine_ensure
from counterfoil.errors import DatabaseUnavailable
from counterfoil.sandbox.faults import Fault
from counterfoil.sandbox.sandbox import SandboxSettings
from counterfoil.sandbox.svix import SvixSettings
from counterfoil.wiring import Node
from tests.asking import TOKEN, Answered, ensure, link
from tests.harness import DAY, MINUTE, World, scenario, scenario_in

OPEN: dict[str, Any] = {"COUNTERFOIL_API_TOKEN": TOKEN}


async def asked(world: World, user: str, **more: Any) -> Answered:
    """An ensure, while the world goes on round it."""
    asking = asyncio.create_task(ensure(world.nodes[-1].application, user, **more))
    while not asking.done():
        await world.run(0.05)
    return await asking


def silent(world: World, email: str | None = "ada@example.com") -> str:
    """Somebody signs up, and the webhook never tells."""
    return world.sandbox.clerk.create_user(world.time(), email=email, first_name="Ada", silent=True)


@scenario
async def test_a_user_whose_webhook_has_not_come_gets_a_customer_for_three_calls(world: World) -> None:
    await world.start(**OPEN)
    user, before = silent(world), world.calls()
    answer = await asked(world, user)
    assert (answer.status, answer.json) == (200, {"customer_id": world.customer_of(user).id})
    await world.settle()
    assert world.calls() - before == 3, "read the user, create, link back"
    world.assert_in_step()


@scenario
async def test_a_customer_that_is_there_is_answered_without_a_call_or_a_write(world: World) -> None:
    node = await world.start(**OPEN)
    user = world.sign_up()
    await world.settle()
    before, told, row = world.calls(), await world.story(user), await world.link(user)
    answer = await ensure(node.application, user)
    assert (answer.status, answer.json) == (200, {"customer_id": world.customer_of(user).id})
    assert world.calls() == before
    assert await world.story(user) == told
    assert await world.link(user) == row


@scenario
async def test_a_user_who_signs_up_and_is_asked_for_at_once_costs_no_more_than_a_sign_up(world: World) -> None:
    await world.start(**OPEN)
    before = world.calls()
    user = world.sign_up()
    await world.deliver()
    answer = await asked(world, user)
    assert answer.json == {"customer_id": world.customer_of(user).id}
    await world.settle()
    assert world.calls() - before == 2
    world.assert_in_step()


TWICE = SandboxSettings(svix=SvixSettings(duplicate=1.0))


@pytest.mark.parametrize("create", ["on_created", "on_demand"])
@scenario_in(TWICE)
async def test_two_hundred_ensures_for_fifty_users_whose_webhooks_come_twice_make_fifty_customers(
    world: World, create: str
) -> None:
    node = await world.start(**OPEN, COUNTERFOIL_CREATE=create)
    users = [world.sign_up(f"person{number}@example.com") for number in range(50)]
    asking = [
        asyncio.create_task(ensure(node.application, user)) for user in [*users, *reversed(users), *users, *users]
    ]
    await world.settle()
    answers = [await each for each in asking]
    assert len(world.sandbox.stripe.customers) == 50
    told: dict[str, set[str]] = {}
    for user, answer in zip([*users, *reversed(users), *users, *users], answers, strict=True):
        if answer.status == 202:  # the quota is small, and 10 s may be over first
            answer = await ensure(node.application, user)
        assert answer.status == 200, answer
        told.setdefault(user, set()).add(answer.json["customer_id"])
    assert told == {user: {world.customer_of(user).id} for user in users}
    world.assert_in_step()


@scenario
async def test_on_demand_nobody_has_a_customer_until_an_app_asks_and_then_at_once(world: World) -> None:
    node = await world.start(**OPEN, COUNTERFOIL_CREATE="on_demand")
    user = world.sign_up()
    await world.settle()
    assert world.customers_of(user) == []
    standing = await link(node.application, user)
    assert (standing.json["state"], standing.json["reason"]) == ("none", "unasked")
    answer = await asked(world, user)
    assert (answer.status, answer.json) == (200, {"customer_id": world.customer_of(user).id})
    world.sandbox.clerk.change_email(world.time(), user, "later@example.com")
    await world.settle()
    assert world.customer_of(user).email == "later@example.com"
    world.assert_in_step()


@scenario
async def test_a_webhook_that_comes_while_the_user_is_read_makes_no_second_customer(world: World) -> None:
    await world.start(**OPEN)
    freeze = world.freeze("GET", "/v1/users/")
    user = world.sign_up()
    asking = asyncio.create_task(ensure(world.nodes[0].application, user))
    await asyncio.wait_for(freeze.reached.wait(), 10)
    await world.deliver()
    freeze.thaw.set()
    await world.settle()
    assert (await asking).json == {"customer_id": world.customer_of(user).id}
    assert len(world.sandbox.calls("stripe", "customers.create")) == 1
    world.assert_in_step()


@scenario
async def test_all_who_ask_for_one_user_share_one_question(world: World) -> None:
    node = await world.start(**OPEN)
    user = silent(world)
    answers = await asyncio.gather(*(ensure(node.application, user) for _ in range(100)))
    assert {each.text for each in answers} == {answers[0].text}
    assert answers[0].status == 200
    assert len(world.sandbox.calls("clerk", "users.get")) == 1
    assert sum("asked for a customer" in line for line in await world.story(user)) == 1


@scenario
async def test_a_user_that_clerk_does_not_know_is_404_at_once_and_leaves_no_row(world: World) -> None:
    node = await world.start(**OPEN)
    before = world.loop.time()
    answer = await ensure(node.application, "user_neverheardof")
    assert (answer.status, answer.json["state"]) == (404, "unknown")
    assert world.loop.time() - before < 5
    assert await world.link("user_neverheardof") is None
    assert (await link(node.application, "user_neverheardof")).status == 404
    assert world.sandbox.stripe.customers == {}


@scenario
async def test_a_deleted_user_is_410_and_gets_nothing(world: World) -> None:
    node = await world.start(**OPEN)
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.deliver()
    assert (await ensure(node.application, user)).status == 410
    await world.settle()
    before = world.calls()
    answer = await ensure(node.application, user)
    assert (answer.status, answer.json["state"]) == (410, "deleted")
    assert world.calls() == before
    assert (await link(node.application, user)).json["state"] == "deleted"
    world.assert_in_step()


@scenario
async def test_a_parked_link_is_409_with_the_reason_and_is_not_tried_again(world: World) -> None:
    node = await world.start(**OPEN)
    user = world.sign_up(stripeCustomerId="cus_nowhere0000001")
    await world.settle()
    before = world.calls()
    for _ in range(3):
        answer = await ensure(node.application, user)
        assert (answer.status, answer.json["reason"]) == (409, "foreign")
        assert "deleted or unknown" in answer.json["error"]
    assert world.calls() == before
    told = (await link(node.application, user)).json
    assert (told["state"], told["reason"], told["customer_id"]) == ("parked", "foreign", None)


@scenario
async def test_an_ensure_ends_when_the_link_is_parked_meanwhile(world: World) -> None:
    await world.start(**OPEN)
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="error_before", status=400))
    answer = await asked(world, silent(world))
    assert (answer.status, answer.json["state"], answer.json["reason"]) == (409, "parked", "rejected")


@scenario
async def test_a_customer_that_now_carries_another_users_id_is_not_answered(world: World) -> None:
    await world.start(**OPEN)
    user, stripe = world.sign_up(), world.sandbox.stripe
    await world.settle()
    stripe.edit_customer(world.time(), world.customer_of(user).id, metadata={"clerkUserId": "user_another"})
    stripe.create_customer(world.time(), metadata={"clerkUserId": user})
    node = await world.restart(**OPEN)
    await world.settle()
    answer = await ensure(node.application, user)
    assert (answer.status, answer.json["reason"]) == (409, "reassigned")


@scenario
async def test_a_user_without_an_email_is_409_and_read_again_when_asked(world: World) -> None:
    node = await world.start(**OPEN)
    user = world.sign_up(email=None)
    await world.settle()
    answer = await asked(world, user)
    assert (answer.status, answer.json["state"], answer.json["reason"]) == (409, "none", "no_email")
    read = len(world.sandbox.calls("clerk", "users.get"))
    assert (await ensure(node.application, user)).status == 409
    assert len(world.sandbox.calls("clerk", "users.get")) == read, "an app in a loop reads nothing"
    world.sandbox.clerk.change_email(world.time(), user, "ada@example.com", silent=True)
    await world.run(11.0)
    answer = await asked(world, user)
    assert (answer.status, answer.json) == (200, {"customer_id": world.customer_of(user).id})


@scenario
async def test_a_user_older_than_the_first_start_gets_a_customer_when_an_app_asks(world: World) -> None:
    old = silent(world)
    await world.run(DAY)
    node = await world.start(**OPEN)
    await world.settle()
    world.sandbox.clerk.touch(world.time(), old)
    await world.settle()
    assert (await link(node.application, old)).json["reason"] == "older"
    answer = await asked(world, old)
    assert answer.json == {"customer_id": world.customer_of(old).id}
    await world.settle()
    assert world.user(old).public_metadata == {"stripeCustomerId": world.customer_of(old).id}


@scenario
async def test_while_stripe_is_down_it_is_202_and_later_there(world: World) -> None:
    node = await world.start(**OPEN)
    world.sandbox.add_outage("stripe", world.time(), world.time() + 5 * MINUTE)
    user = silent(world)
    before = world.loop.time()
    answer = await asked(world, user, wait=3)
    assert 3 <= world.loop.time() - before < 4
    assert (answer.status, answer.headers["location"]) == (202, f"/v1/links/{user}")
    told = (await link(node.application, user)).json
    assert (told["state"], told["customer_id"]) == ("pending", None)
    await world.settle()
    told = (await link(node.application, user)).json
    assert (told["state"], told["customer_id"]) == ("linked", world.customer_of(user).id)
    assert (await ensure(node.application, user)).json == {"customer_id": told["customer_id"]}
    world.assert_in_step()


@scenario
async def test_who_does_not_wait_at_all_has_asked_all_the_same(world: World) -> None:
    node = await world.start(**OPEN)
    user = silent(world)
    assert (await ensure(node.application, user, wait=0)).status == 202
    await world.settle()
    assert (await ensure(node.application, user, wait=0)).json == {"customer_id": world.customer_of(user).id}


@scenario
async def test_a_node_that_dies_in_mid_ensure_and_a_second_ensure_make_one_customer(world: World) -> None:
    node = await world.start(**OPEN)
    user = silent(world)
    freeze = world.freeze("POST", "/v1/customers")
    asking = asyncio.create_task(ensure(node.application, user))
    await asyncio.wait_for(freeze.reached.wait(), 10)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await world.restart(**OPEN)
    assert (await asked(world, user)).status == 202, "the dead lease runs out first"
    await world.run(2 * MINUTE)  # on PostgreSQL nobody shortens it
    answer = await asked(world, user)
    assert answer.json == {"customer_id": world.customer_of(user).id}
    await world.settle()
    assert len(world.sandbox.stripe.customers) == 1
    world.assert_in_step()


@scenario
async def test_what_another_node_has_done_is_seen_without_being_told(world: World) -> None:
    first = await world.start(**OPEN)
    await world.start(**OPEN)
    user = silent(world)
    first.supervisor.worker._stopping = True  # it takes news, and does no work
    first.supervisor.worker.wake()
    asking = asyncio.create_task(ensure(first.application, user))
    await asyncio.sleep(0.1)
    world.nodes[1].supervisor.worker.wake()
    answer = await asking
    assert answer.json == {"customer_id": world.customer_of(user).id}


@scenario
async def test_clients_that_hang_up_free_their_places_and_the_work_is_done(world: World) -> None:
    node = await world.start(**OPEN)
    world.sandbox.add_outage("stripe", world.time(), world.time() + MINUTE)
    user, gone = silent(world), asyncio.Event()
    asking = [asyncio.create_task(ensure(node.application, user, gone=gone)) for _ in range(20)]
    await world.run(1.0)
    assert waiting(node) == (20, 1)
    gone.set()
    await asyncio.gather(*asking)
    assert waiting(node) == (0, 0)
    await world.settle()
    world.assert_in_step()
    assert len(world.customers_of(user)) == 1


@scenario
async def test_a_client_that_hangs_up_while_its_asking_is_written_has_asked_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await world.start(**OPEN)
    write = world.database.write

    async def slowly(job: Any, **more: Any) -> Any:
        await asyncio.sleep(0.5)
        return await write(job, **more)

    user, gone = silent(world), asyncio.Event()
    with monkeypatch.context() as patch:
        patch.setattr(world.database, "write", slowly)
        asking = asyncio.create_task(ensure(node.application, user, gone=gone))
        await world.run(0.2)
        gone.set()
        await asking
        await world.run(0.5)
    await world.run(2.0)
    assert len(world.customers_of(user)) == 1
    assert waiting(node) == (0, 0)


def waiting(node: Node) -> tuple[int, int]:
    """How many requests wait, and for how many users."""
    return node.supervisor.ensurer._waiting, len(node.supervisor.ensurer._asks)


@scenario
async def test_when_too_many_wait_the_next_is_sent_away_and_those_with_a_customer_are_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_ensure, "WAITERS", 30)
    node = await world.start(**OPEN)
    linked = world.sign_up()
    await world.settle()
    world.sandbox.add_outage("stripe", world.time(), world.time() + MINUTE)
    user = silent(world, "other@example.com")
    asking = [asyncio.create_task(ensure(node.application, user, wait=5)) for _ in range(engine_ensure.WAITERS)]
    await asyncio.sleep(1.0)
    answer = await ensure(node.application, "user_one_too_many")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert (await ensure(node.application, linked)).status == 200
    assert {(await each).status for each in asking} == {202}
    assert await world.link("user_one_too_many") is None


@scenario
async def test_while_the_database_cannot_be_written_a_customer_that_is_there_is_answered_and_others_are_503(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await world.start(**OPEN)
    linked = world.sign_up()
    await world.settle()

    async def refuse(_: object) -> None:
        raise DatabaseUnavailable("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(world.database, "write", refuse)
        answers = await asyncio.gather(*(ensure(node.application, "user_another") for _ in range(3)))
        assert {(each.status, each.headers["retry-after"]) for each in answers} == {(503, "5")}
        assert (await ensure(node.application, linked)).status == 200
    assert waiting(node) == (0, 0)
    assert (await ensure(node.application, "user_another")).status == 404


@scenario
async def test_how_many_were_lately_without_a_customer_is_limited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_ensure, "_KNOWN_LIMIT", 2)
    node = await world.start(**OPEN)
    for user in [world.sign_up(email=None) for _ in range(5)]:
        await world.settle()
        assert (await asked(world, user)).status == 409
    assert len(node.supervisor.ensurer._without) <= 2


@scenario
async def test_a_node_that_ends_lets_those_who_wait_go_and_refuses_the_next(world: World) -> None:
    node = await world.start(**OPEN)
    world.sandbox.add_outage("stripe", world.time(), world.time() + MINUTE)
    user = silent(world)
    asking = asyncio.create_task(ensure(node.application, user))
    await world.run(1.0)
    await node.supervisor.stop()
    assert (await asyncio.wait_for(asking, 0.5)).status == 202
    assert (await ensure(node.application, user)).status == 503
    world.nodes.remove(node)
    await world.start(**OPEN)
    await world.run(5 * MINUTE)
    assert len(world.customers_of(user)) == 1


@scenario
async def test_who_only_observes_makes_nothing_and_says_so(world: World) -> None:
    node = await world.start(observe=True, **OPEN)
    user = silent(world)
    answer = await ensure(node.application, user)
    assert (answer.status, answer.json["reason"]) == (409, "observed")
    assert await world.link(user) is None
    await world.settle()
    assert world.writes() == []
