"""`COUNTERFOIL_ON_DELETION`: archive and keep, whatever crashes, is restored or comes twice."""

from typing import Any

import pytest

from counterfoil.core.link import Deletion, Ended, Link, ParkReason
from counterfoil.sandbox.faults import Fault, FaultKind
from counterfoil.sandbox.verdict import Rules
from tests.harness import DAY, HOUR, MINUTE, World, scenario

ARCHIVE: dict[str, Any] = {"COUNTERFOIL_ON_DELETION": "archive"}
KEEP: dict[str, Any] = {"COUNTERFOIL_ON_DELETION": "keep"}
MARK = "counterfoilArchived"
ARCHIVED = Rules(archived_key=MARK)
KEPT = Rules(archived_key=MARK, keep=True)


async def link_of(world: World, user: str) -> Link:
    link = await world.link(user)
    assert link is not None
    return link


def archivings(world: World) -> int:
    """How often a customer was written to since it was made."""
    return len(world.sandbox.calls("stripe", "customers.update"))


async def absent(world: World, user: str) -> None:
    """Clerk says that a user is not there, who is: until all doubt is gone, of one who is no newcomer."""
    await world.run(HOUR)
    world.sandbox.plan_fault("clerk", "users.get", Fault(kind="error_before", status=404), times=2)
    body = b'{"type":"user.deleted","object":"event","instance_id":"ins_other","data":{"object":"user","id":"%s"}}'
    world.sandbox.svix.publish(world.time(), "user.deleted", body % user.encode())
    await world.settle()
    assert (await link_of(world, user)).deletion is Deletion.ABSENT


@scenario
async def test_a_deleted_users_customer_is_archived_and_still_names_the_user(world: World) -> None:
    await world.start(**ARCHIVE)
    user = world.sign_up()
    await world.settle()
    world.sandbox.stripe.edit_customer(world.time(), world.customer_of(user).id, metadata={"shop": "theirs"})
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    customer = world.customer_of(user)
    assert customer.metadata[MARK].endswith("Z")
    assert customer.metadata["shop"] == "theirs"
    assert customer.email == "ada@example.com"
    link = await link_of(world, user)
    assert (link.ended, link.customer_id, link.fields, link.applied) == (Ended.ARCHIVED, customer.id, None, None)
    assert archivings(world) == 1
    assert world.sandbox.verdict(world.time(), ARCHIVED).archived == (customer.id,)
    world.assert_in_step(ARCHIVED)


@scenario
async def test_what_is_archived_is_not_touched_again_by_replays_walks_restarts_or_a_retry(world: World) -> None:
    await world.start(**ARCHIVE)
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    for message in world.sandbox.svix.messages():
        world.sandbox.svix.resend(message.id, world.time())
    await world.run(HOUR)
    node = await world.restart(**ARCHIVE)
    assert await node.supervisor.retry([user]) == 1
    await world.settle()
    assert archivings(world) == 1
    assert len(world.sandbox.calls("stripe", "customers.create")) == 1
    world.assert_in_step(ARCHIVED)


@pytest.mark.parametrize("kind", ["cut_after", "error_after", "slow", "locked", "cut_before"])
@scenario
async def test_an_archiving_whose_answer_is_lost_is_not_done_twice(world: World, kind: FaultKind) -> None:
    await world.start(**ARCHIVE)
    user = world.sign_up()
    await world.settle()
    world.sandbox.plan_fault("stripe", "customers.update", Fault(kind=kind, delay=30.0 if kind == "slow" else 0.0))
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert (await link_of(world, user)).ended is Ended.ARCHIVED
    taken = [call for call in world.sandbox.calls("stripe", "customers.update") if call.effect_at is not None]
    assert len(taken) == 1
    world.assert_in_step(ARCHIVED)


@scenario
async def test_a_crash_right_after_the_archiving_is_found_out_by_a_look(world: World) -> None:
    node = await world.start(**ARCHIVE)
    user = world.sign_up()
    await world.settle()
    freeze = world.freeze("POST", f"/v1/customers/{world.customer_of(user).id}")
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.deliver()
    await freeze.reached.wait()
    await world.crash(node)
    await world.start(**ARCHIVE)
    await world.settle()
    assert archivings(world) == 1
    assert (await link_of(world, user)).ended is Ended.ARCHIVED
    world.assert_in_step(ARCHIVED)


@scenario
async def test_a_worker_that_stands_still_past_its_lease_while_archiving_leaves_a_true_note(world: World) -> None:
    await world.start(**ARCHIVE)
    user = world.sign_up()
    await world.settle()
    freeze = world.freeze("POST", f"/v1/customers/{world.customer_of(user).id}", before=True)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.deliver()
    await freeze.reached.wait()
    await world.run(3 * MINUTE)
    assert (await link_of(world, user)).ended is Ended.ARCHIVED, "whoever took the lease over has done it"
    freeze.thaw.set()
    await world.settle()
    assert (await link_of(world, user)).ended is Ended.ARCHIVED
    world.assert_in_step(ARCHIVED)


@scenario
async def test_a_backup_from_before_the_deletion_archives_nothing_twice(world: World) -> None:
    node = await world.start(**ARCHIVE)
    user = world.sign_up()
    await world.settle()
    backup = await world.copy_database()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    await world.crash(node)
    await world.put_back(backup)
    await world.start(**ARCHIVE)
    await world.run(DAY + HOUR)
    assert (await link_of(world, user)).ended is Ended.ARCHIVED
    assert archivings(world) == 1
    world.assert_in_step(ARCHIVED)


@pytest.mark.parametrize("settings", [ARCHIVE, {}], ids=["archive", "delete"])
@scenario
async def test_an_emptied_database_leaves_archived_customers_alone(world: World, settings: dict[str, Any]) -> None:
    """Whatever the policy is by then: neither removed, nor taken for an extra, nor met again each time."""
    node = await world.start(**ARCHIVE)
    user, stays = world.sign_up(), world.sign_up("grace@example.com")
    await world.settle()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    archived = world.customer_of(user).id
    await world.crash(node)
    await world.put_back(None)
    await world.start(**settings)
    await world.run(HOUR)
    await world.restart(**settings)
    for message in world.sandbox.svix.messages():
        world.sandbox.svix.resend(message.id, world.time())
    await world.run(HOUR)
    assert world.customer_of(user).id == archived
    assert len(world.customers_of(stays)) == 1
    assert archivings(world) == 1
    assert (await link_of(world, user)).parked is None
    assert (await world.figures()).backlog.unsettled == 0
    world.assert_in_step(ARCHIVED)


@scenario
async def test_a_user_who_was_not_gone_gets_the_archived_customer_back_in_step(world: World) -> None:
    await world.start(**ARCHIVE)
    user = world.sign_up()
    await world.settle()
    customer = world.customer_of(user).id
    await absent(world, user)
    assert MARK in world.customer_of(user).metadata
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com", silent=True)
    await world.run(HOUR)
    assert world.customer_of(user).id == customer
    assert MARK not in world.customer_of(user).metadata
    assert world.customer_of(user).email == "countess@example.com"
    assert (await link_of(world, user)).ended is None
    world.assert_in_step(ARCHIVED)


@scenario
async def test_an_emptied_database_restores_an_archived_customer_whose_user_is_there(world: World) -> None:
    node = await world.start(**ARCHIVE)
    user = world.sign_up()
    await world.settle()
    await absent(world, user)
    await world.crash(node)
    await world.put_back(None)
    await world.start(**ARCHIVE)
    await world.run(HOUR)
    assert MARK not in world.customer_of(user).metadata
    world.assert_in_step(ARCHIVED)


@scenario
async def test_what_is_archived_is_billed_no_more(world: World) -> None:
    await world.start(**ARCHIVE)
    user = world.sign_up()
    await world.settle()
    subscription = world.sandbox.stripe.add_subscription(world.time(), world.customer_of(user).id)
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert world.sandbox.stripe.subscriptions[subscription].status == "canceled"
    world.assert_in_step(ARCHIVED)


@scenario
async def test_a_key_that_may_not_end_subscriptions_parks_and_stops_nothing_else(world: World) -> None:
    node = await world.start(**ARCHIVE)
    user = world.sign_up()
    await world.settle()
    world.sandbox.stripe.add_subscription(world.time(), world.customer_of(user).id)
    world.sandbox.stripe.restrict("subscriptions.cancel", "subscriptions.update")
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    assert (await link_of(world, user)).parked is ParkReason.REJECTED
    other = world.sign_up("grace@example.com")
    await world.settle()
    assert len(world.customers_of(other)) == 1
    world.sandbox.stripe.permit()
    assert await node.supervisor.retry([user]) == 1
    await world.settle()
    world.assert_in_step(ARCHIVED)


@scenario
async def test_a_kept_customer_stays_as_it_is_and_the_link_settles(world: World) -> None:
    node = await world.start(**KEEP)
    user = world.sign_up()
    await world.settle()
    world.sandbox.stripe.add_subscription(world.time(), world.customer_of(user).id)
    before = dict(world.customer_of(user).metadata)
    written = len(world.writes())
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    await world.restart(**KEEP)
    for message in world.sandbox.svix.messages():
        world.sandbox.svix.resend(message.id, world.time())
    await world.run(HOUR)
    assert len(world.writes()) == written
    assert world.customer_of(user).metadata == before
    link = await link_of(world, user)
    assert (link.ended, link.dirty_at, link.fields, link.applied) == (Ended.KEPT, None, None, None)
    world.assert_in_step(KEPT)
    # A policy that changes later is about deletions from then on.
    node = await world.restart()
    await node.supervisor.retry([user])
    await world.settle()
    assert len(world.customers_of(user)) == 1


@scenario
async def test_a_kept_customer_is_in_step_again_when_its_user_was_not_gone(world: World) -> None:
    await world.start(**KEEP)
    user = world.sign_up()
    await world.settle()
    await absent(world, user)
    assert (await link_of(world, user)).ended is Ended.KEPT
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com")
    await world.settle()
    assert (await link_of(world, user)).ended is None
    assert world.customer_of(user).email == "countess@example.com"
    world.assert_in_step(KEPT)


@pytest.mark.parametrize("settings", [{}, ARCHIVE, KEEP], ids=["delete", "archive", "keep"])
@scenario
async def test_a_customer_that_was_moved_to_another_user_goes_with_that_one(
    world: World, settings: dict[str, Any]
) -> None:
    """Two accounts of one person: support moves the customer, then deletes the other account."""
    node = await world.start(**settings)
    old, new = world.sign_up(), world.sign_up("ada@work.example")
    await world.settle()
    moved, spare = world.customer_of(old).id, world.customer_of(new).id
    stripe = world.sandbox.stripe
    stripe.add_subscription(world.time(), moved)
    stripe.edit_customer(world.time(), moved, metadata={"clerkUserId": new})
    world.sandbox.clerk.delete_user(world.time(), old)
    await world.settle()
    assert {each.id for each in world.customers_of(new)} == {moved, spare}
    assert (await link_of(world, new)).parked is ParkReason.DUPLICATE, "which of them to keep is for a person"
    assert (await link_of(world, old)).customer_id is None
    stripe.delete_customer(world.time(), spare)
    await node.supervisor.retry([new])
    await world.settle()
    assert (await link_of(world, new)).customer_id == moved
    assert world.customer_of(new).email == "ada@work.example"
    assert world.user(new).public_metadata["stripeCustomerId"] == moved
    world.assert_in_step(Rules(archived_key=MARK, keep=settings == KEEP))


@scenario
async def test_a_kept_customer_that_is_moved_later_is_handed_over_by_a_retry(world: World) -> None:
    node = await world.start(**KEEP)
    old, new = world.sign_up(), world.sign_up(None)
    await world.settle()
    kept = world.customer_of(old).id
    world.sandbox.clerk.delete_user(world.time(), old)
    await world.settle()
    world.sandbox.stripe.edit_customer(world.time(), kept, metadata={"clerkUserId": new})
    await node.supervisor.retry([old])
    await world.settle()
    assert (await link_of(world, new)).customer_id == kept
    assert (await link_of(world, old)).customer_id is None
    world.assert_in_step(KEPT)


@scenario
async def test_a_customer_moved_to_a_user_who_does_not_exist_is_never_removed(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    customer = world.customer_of(user).id
    world.sandbox.stripe.edit_customer(world.time(), customer, metadata={"clerkUserId": "user_2typo"})
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    await world.run(DAY + HOUR)
    assert not world.sandbox.stripe.customers[customer].deleted
