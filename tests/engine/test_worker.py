"""Workers: how many turns at a time, when they look again, and how they end."""

import asyncio
import dataclasses
import time
from typing import Any

import msgspec
from structlog.testing import capture_logs

from counterfoil.core.link import Fields, Link
from counterfoil.core.news import CustomerSeen
from counterfoil.engine import worker as figures
from counterfoil.engine.ensure import ask_for
from counterfoil.engine.worker import Worker
from counterfoil.errors import DatabaseUnavailable
from counterfoil.sandbox.faults import Fault
from counterfoil.store import journal, links, sightings
from counterfoil.store.database import InlineDatabase
from counterfoil.wiring import Node
from tests.harness import World, scenario
from tests.store.support import put


class Hands:
    """A worker that runs, with the parts of a node that does not: nothing else works, or wakes it."""

    def __init__(self, world: World, node: Node, concurrency: int = 2, **parts: Any) -> None:
        self.moved: list[str] = []
        self.worker = Worker(dataclasses.replace(node.context, **parts), concurrency)
        self.worker.moved = self.moved.append
        self.running = asyncio.create_task(self.worker.run())
        self._world = world
        self._node = node

    async def ask(self, *users: str, wake: bool = True) -> None:
        await ask(self._world, self._node, *users)
        if wake:
            self.worker.wake()


async def ask(world: World, node: Node, *users: str) -> None:
    """Make these users' links due, as somebody who asks for them does."""
    now, since = node.context.clock.now(), node.context.rules.policy.since
    for user in users:
        await world.database.write(lambda connection, user=user: ask_for(connection, user, since, now))  # type: ignore[misc]


def people(world: World, count: int) -> list[str]:
    """Users whom no event tells of."""
    return [
        world.sandbox.clerk.create_user(world.time(), silent=True, email=f"p{number}@example.com")
        for number in range(count)
    ]


def creates(world: World) -> int:
    """How many creates were begun."""
    return len(world.sandbox.calls("stripe", "customers.create"))


def slow(world: World, seconds: float, times: int = 1) -> None:
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="slow", delay=seconds), times=times)


def test_the_figures_that_leases_rest_on() -> None:
    assert (figures.LEASE, figures._STEPS, links.CHUNK) == (120_000, 40, 500)


@scenario
async def test_no_more_turns_than_there_is_room_for_and_the_next_when_one_ends(world: World) -> None:
    node = await world.assemble()
    slow(world, 10.0, times=3)
    users = people(world, 3)
    hands = Hands(world, node)
    await hands.ask(*users)
    await asyncio.sleep(3.0)
    assert creates(world) == 2
    held = [link.held for user in users if (link := await world.link(user)) is not None]
    assert sorted(held) == [0, 1, 1]
    await asyncio.sleep(8.5)
    assert creates(world) == 3
    await asyncio.sleep(11.0)
    assert [len(world.customers_of(user)) for user in users] == [1, 1, 1]
    # Each was told of when it was claimed, read, created and named in Clerk.
    assert sorted(hands.moved) == sorted(users * 4)
    await hands.worker.stop(1.0)


@scenario
async def test_news_is_begun_with_at_once_while_there_is_room_beside_a_slow_turn(world: World) -> None:
    node = await world.assemble()
    slow(world, 15.0)
    first, second = people(world, 2)
    hands = Hands(world, node)
    await hands.ask(first)
    await asyncio.sleep(1.0)
    await hands.ask(second)
    await asyncio.sleep(1.0)
    assert (len(world.customers_of(second)), creates(world)) == (1, 2)
    await hands.worker.stop(0.0)


@scenario
async def test_without_a_word_the_database_is_looked_at_every_half_minute(world: World) -> None:
    node = await world.assemble()
    (user,) = people(world, 1)
    hands = Hands(world, node)
    await asyncio.sleep(1.0)
    await hands.ask(user, wake=False)
    if node.context.peers.alone:
        await asyncio.sleep(28.0)
        assert creates(world) == 0
        await asyncio.sleep(2.0)
    else:
        await asyncio.sleep(2.0)
    assert len(world.customers_of(user)) == 1
    await hands.worker.stop(0.0)


@scenario
async def test_a_link_that_is_to_be_tried_again_is_begun_with_when_it_is_due(world: World) -> None:
    node = await world.assemble()
    world.sandbox.plan_fault("clerk", "users.get", Fault(kind="error_before", status=503))
    (user,) = people(world, 1)
    hands = Hands(world, node)
    await hands.ask(user)
    await asyncio.sleep(0.5)
    link = await world.link(user)
    assert link is not None
    assert link.due_at is not None
    wait = (link.due_at - node.context.clock.now()) / 1000
    assert 0.1 < wait < 20.0
    assert creates(world) == 0
    await asyncio.sleep(wait + 1.0)
    assert len(world.customers_of(user)) == 1
    await hands.worker.stop(0.0)


async def plays_with_a_customer_that_a_scan_has_met(world: World, known: Link | None) -> None:
    """It is taken for the link's, and no other is made; ``known``: the link before, with any id."""
    node = await world.assemble()
    (user,) = people(world, 1)
    made = world.sandbox.stripe.create_customer(world.time(), metadata={"clerkUserId": user})
    now, since = node.context.clock.now(), node.context.rules.policy.since
    if known is not None:
        link = msgspec.structs.replace(known, subject_id=user, source_version=now)
        await world.database.write(lambda connection: put(connection, link))
    met = CustomerSeen(subject_id=user, customer_id=made, created=now)
    await world.database.write(lambda connection: links.fold_batch(connection, [met], since, now))
    hands = Hands(world, node)
    await asyncio.sleep(2.0)
    after = await world.link(user)
    assert after is not None
    assert (after.customer_id, creates(world)) == (made, 0)
    await hands.worker.stop(0.0)


@scenario
async def test_a_customer_that_a_scan_has_met_is_known_to_the_turn(world: World) -> None:
    await plays_with_a_customer_that_a_scan_has_met(world, None)


@scenario
async def test_a_customer_that_a_scan_has_met_is_known_to_the_first_step_of_a_turn(world: World) -> None:
    """Of a user who need not be read first: otherwise the first step would mean to create another."""
    known = Link(subject_id="", fields=Fields(name="Ada"), wanted=True, revision=1)
    await plays_with_a_customer_that_a_scan_has_met(world, known)


@scenario
async def test_a_turn_of_too_many_calls_is_cut_and_told_of_and_the_next_lease_sees_to_the_rest(
    world: World,
) -> None:
    node = await world.assemble()
    (user,) = people(world, 1)
    hands = Hands(world, node)
    await hands.ask(user)
    await asyncio.sleep(2.0)
    now, since = node.context.clock.now(), node.context.rules.policy.since
    gone = [CustomerSeen(subject_id=user, customer_id=f"cus_gone{number}", created=now) for number in range(50)]
    begun = len(world.sandbox.calls("stripe"))
    with capture_logs() as told:
        await world.database.write(lambda connection: links.fold_batch(connection, gone, since, now))
        hands.worker.wake()
        await asyncio.sleep(60.0)
        assert len(world.sandbox.calls("stripe")) - begun == figures._STEPS
        link = await world.link(user)
        assert link is not None
        assert link.held == 1
        await asyncio.sleep(120.0)
    assert [(each["event"], each["subject"]) for each in told] == [("worker.too_many_steps", user)]
    link = await world.link(user)
    assert link is not None
    assert (link.held, link.dirty_at) == (0, None)
    assert await world.database.read(lambda connection: sightings.of_subjects(connection, [user])) == {}
    await hands.worker.stop(0.0)


@scenario
async def test_a_call_is_not_sent_under_a_lease_that_is_nearly_over(world: World) -> None:
    node = await world.assemble()
    freeze = world.freeze("GET", "/v1/users/")
    (user,) = people(world, 1)
    hands = Hands(world, node)
    await hands.ask(user)
    await freeze.reached.wait()
    await asyncio.sleep(100.0)
    freeze.thaw.set()
    await asyncio.sleep(0.0)
    await asyncio.sleep(0.0)
    assert creates(world) == 0
    await asyncio.sleep(60.0)
    assert creates(world) == 1
    link = await world.link(user)
    assert link is not None
    assert link.lease == 2, "it was sent under the next lease"
    assert len(world.customers_of(user)) == 1
    await hands.worker.stop(0.0)


@scenario
async def test_what_a_turn_took_is_in_the_journal_in_milliseconds(world: World) -> None:
    node = await world.assemble()
    (user,) = people(world, 1)
    freeze = world.freeze("GET", "/v1/users/")
    hands = Hands(world, node)
    with capture_logs() as told:
        await hands.ask(user)
        await freeze.reached.wait()
        time.sleep(0.03)
        freeze.thaw.set()
        await asyncio.sleep(2.0)
    story = await world.database.read(lambda connection: journal.story(connection, user))
    took = [each.ms for each in story if each.kind == "call"]
    assert len(took) == 3
    assert all(each is not None and 0 <= each < 60_000 for each in took)
    assert took[0] is not None
    assert took[0] >= 30
    assert told == []
    await hands.worker.stop(0.0)


class Away:
    """A database that cannot be reached."""

    def __init__(self) -> None:
        self.asked = 0

    async def write(self, job: Any) -> Any:
        self.asked += 1
        raise DatabaseUnavailable("away")

    read = write


@scenario
async def test_a_database_that_is_away_is_asked_once_a_second(world: World) -> None:
    away = Away()
    hands = Hands(world, await world.assemble(), database=away)
    await asyncio.sleep(9.5)
    assert 9 <= away.asked <= 11
    await hands.worker.stop(0.0)


class Broken:
    """A part with a fault in it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("broken")


@scenario
async def test_a_turn_that_fails_in_a_way_that_nobody_thought_of_is_told_and_the_others_go_on(
    world: World,
) -> None:
    node = await world.assemble()
    first, *others = people(world, 4)
    with capture_logs() as told:
        hands = Hands(world, node, clerk=Broken())
        await hands.ask(first)
        await asyncio.sleep(1.0)
        assert not hands.running.done()
        await hands.ask(*others)
        await asyncio.sleep(1.0)
    assert [each["event"] for each in told] == ["worker.turn_failed"] * 4
    assert all(isinstance(each["exc_info"], RuntimeError) for each in told)
    await hands.worker.stop(0.0)


@scenario
async def test_stopped_a_worker_that_rests_ends_at_once(world: World) -> None:
    hands = Hands(world, await world.assemble())
    await asyncio.sleep(1.0)
    await hands.worker.stop(5.0)
    await asyncio.sleep(0.0)
    await asyncio.sleep(0.1)
    assert hands.running.done()


@scenario
async def test_stopped_a_worker_claims_nothing_more_and_waits_for_what_is_under_way(world: World) -> None:
    node = await world.assemble()
    slow(world, 4.0, times=2)
    users = people(world, 3)
    hands = Hands(world, node)
    await hands.ask(*users)
    await asyncio.sleep(1.0)
    began = world.time()
    stopping = asyncio.create_task(hands.worker.stop(15.0))
    await asyncio.sleep(0.1)
    assert hands.running.done()
    await stopping
    assert 1.0 < world.time() - began < 5.0
    settled = [link.dirty_at is None for user in users if (link := await world.link(user)) is not None]
    assert sorted(settled) == [False, True, True]
    assert creates(world) == 2


@scenario
async def test_stopped_a_worker_leaves_what_lasts_longer_than_its_patience_to_the_next(world: World) -> None:
    node = await world.assemble()
    freeze = world.freeze("GET", "/v1/users/")
    failures: list[Any] = []
    world.loop.set_exception_handler(lambda _, context: failures.append(context))
    (user,) = people(world, 1)
    with capture_logs() as told:
        hands = Hands(world, node)
        await hands.ask(user)
        await freeze.reached.wait()
        began = world.time()
        await hands.worker.stop(3.0)
        assert round(world.time() - began, 1) == 3.0
        assert not hands.worker._tasks
        await asyncio.sleep(1.0)
    assert (told, failures) == ([], [])
    link = await world.link(user)
    assert link is not None
    assert link.held == 1, "its lease runs out, and it is claimed again"


class Late(InlineDatabase):
    """Its answers come a moment after what was written, as a server's do."""

    async def write(self, job: Any, *, urgent: bool = False) -> Any:
        result = await super().write(job, urgent=urgent)
        await asyncio.sleep(0.05)
        return result


@scenario
async def test_stopped_in_the_midst_of_a_claim_a_worker_does_what_it_has_claimed(world: World) -> None:
    node = await world.assemble()
    (user,) = people(world, 1)
    await ask(world, node, user)
    late = Late(world.url)
    hands = Hands(world, node, database=late)
    await asyncio.sleep(0.01)
    link = await world.link(user)
    assert link is not None
    assert link.held == 1
    await hands.worker.stop(15.0)
    link = await world.link(user)
    assert link is not None
    assert (link.held, link.dirty_at) == (0, None)
    assert hands.running.done()
    await late.close()


class Stuck(InlineDatabase):
    """It does not answer for an hour."""

    async def write(self, job: Any, *, urgent: bool = False) -> Any:
        await asyncio.sleep(3600.0)


@scenario
async def test_stopped_in_the_midst_of_a_claim_that_does_not_end_a_worker_waits_no_longer_than_it_was_told(
    world: World,
) -> None:
    hands = Hands(world, await world.assemble(), database=Stuck(world.url))
    await asyncio.sleep(1.0)
    began = world.time()
    await hands.worker.stop(3.0)
    assert round(world.time() - began, 1) == 3.0
    hands.running.cancel()
    await asyncio.wait({hands.running})


class Counting(InlineDatabase):
    """Counts its transactions."""

    writes = 0

    async def write(self, job: Any, *, urgent: bool = False) -> Any:
        self.writes += 1
        return await super().write(job, urgent=urgent)


@scenario
async def test_while_there_is_no_room_the_database_is_not_asked_for_work(world: World) -> None:
    node = await world.assemble()
    users = people(world, 2)
    await ask(world, node, *users)
    counting = Counting(world.url)
    hands = Hands(world, node, concurrency=1, database=counting)
    await asyncio.sleep(5.0)
    assert [len(world.customers_of(user)) for user in users] == [1, 1]
    # Of each user the claim, the read, the create and its name in Clerk; then a claim that finds nobody.
    assert counting.writes == 2 * 4 + 1
    await hands.worker.stop(0.0)
    await counting.close()


@scenario
async def test_a_row_that_should_not_be_keeps_nobody_else_from_being_worked_on(world: World) -> None:
    node = await world.assemble()
    bad = Link(subject_id="user_2bad", claiming=True, revision=1, due_at=0, dirty_at=0, wanted=True)
    await world.database.write(lambda connection: put(connection, bad))
    (user,) = people(world, 1)
    await ask(world, node, user)
    with capture_logs() as told:
        hands = Hands(world, node, concurrency=9)
        await asyncio.sleep(2.0)
        assert not hands.running.done()
    assert len(world.customers_of(user)) == 1
    assert [each["event"] for each in told] == ["worker.turn_failed"]
    link = await world.link("user_2bad")
    assert link is not None
    assert link.held == 1, "it is tried again when its lease has run out"
    await hands.worker.stop(0.0)
