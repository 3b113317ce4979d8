"""A planted mess: all of it is found and nothing else; applied, what is left is for a person.

The first audit has no database, apply makes one, and the second audit is made with it and without.
"""

import pytest

from counterfoil.audit import plan_file
from counterfoil.sandbox.mess import Mess
from tests.audit.support import CHOSEN, apply, audit, plant, planted
from tests.harness import World, scenario


def assert_mended(world: World, mess: Mess) -> None:
    """Nobody who pays was lost, and everybody has the customer that the evidence says."""
    stripe, clerk = world.sandbox.stripe, world.sandbox.clerk
    for customer_id in mess.subscribed:
        assert not stripe.customers[customer_id].deleted
        assert any(each.status == "active" for each in stripe.subscriptions_of(customer_id))
        assert "counterfoilArchived" not in stripe.customers[customer_id].metadata
    for user, keeper in {**mess.keepers, **mess.adopted}.items():
        assert [each.id for each in world.customers_of(user)] == [keeper]
        assert clerk.users[user].public_metadata["stripeCustomerId"] == keeper
    for each in mess.planted:
        if each.kind == "missing":
            (made,) = world.customers_of(each.subject)
            assert clerk.users[each.subject].public_metadata["stripeCustomerId"] == made.id


KINDS = {"duplicate", "orphan", "missing", "foreign", "unlinked", "stale", "unclaimed"}
LARGE = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(("seed", "cases", "users"), [pytest.param(1, 5_600, 5_000, marks=LARGE), (2, 150, 100)])
@scenario
async def test_all_of_a_mess_is_found_and_applied_and_a_second_apply_does_nothing(
    world: World, seed: int, cases: int, users: int
) -> None:
    world.sandbox.lift_limits()
    mess = plant(world, cases, seed)
    assert len(world.sandbox.clerk.users) >= users
    assert {each.kind for each in mess.planted} == KINDS
    about, found = await audit(world, CHOSEN, mapping=mess.mapping, database=False)
    assert planted(found) == mess.planted
    assert not any(each.recent for each in found)

    plan = world.folder / "plan.jsonl"
    plan_file.write(plan, about, found)
    report = await apply(world, plan, CHOSEN, max_deletes=10_000)
    assert (report.skipped, report.refused) == ([], [])
    assert len(report.person) == sum(each.person for each in mess.planted)
    assert report.done == len(found) - len(report.person)
    assert_mended(world, mess)

    for database in (False, True):
        _, left = await audit(world, CHOSEN, mapping=mess.mapping, database=database)
        assert {each for each in planted(left) if not each.person} == set()
        assert planted(left) == {each for each in mess.planted if each.person}
    writes = len(world.writes())
    again = await apply(world, plan, CHOSEN, max_deletes=10_000)
    assert (again.done, again.skipped, again.refused, again.person) == (0, [], [], [])
    assert again.before == len(found)
    assert len(world.writes()) == writes
