"""Several customers with one address, where addresses count: who is gone makes room, and nobody else does."""

from counterfoil.audit.apply import Report
from counterfoil.core.finding import Finding
from tests.audit.support import CHOSEN, apply, planned
from tests.harness import DAY, World, scenario

ADDRESS = "ada@example.com"


def signed_up_again(world: World) -> str:
    """A user, days old, whose verified address an older customer carries too."""
    return world.sandbox.clerk.create_user(world.time() - 5 * DAY, silent=True, email=ADDRESS, first_name="Ada")


def customer(world: World, owner: str | None, email: str = ADDRESS) -> str:
    metadata = {"clerkUserId": owner} if owner is not None else {}
    return world.sandbox.stripe.create_customer(
        world.time() - 10 * DAY, email=email, name="Ada", metadata=metadata
    )


def short(found: list[Finding]) -> set[tuple[str, str, str | None]]:
    return {(str(each.kind), each.customer_id or each.subject_id or "", each.repair) for each in found}


async def looked(world: World) -> list[Finding]:
    """All findings; a plan of them is kept."""
    world.sandbox.lift_limits()
    found, _ = await planned(world, CHOSEN)
    return found


async def applied(world: World) -> Report:
    return await apply(world, world.folder / "plan.jsonl", CHOSEN)


@scenario
async def test_who_signed_up_again_gets_a_customer_when_the_old_users_has_gone(world: World) -> None:
    old = customer(world, "user_2gone1")
    user = signed_up_again(world)
    assert short(await looked(world)) == {("orphan", old, "retire"), ("missing", user, "create")}
    report = await applied(world)
    assert (report.done, report.skipped, report.refused) == (2, [], [])
    assert world.customer_of(user).id != old


@scenario
async def test_an_unclaimed_customer_is_adopted_when_the_old_users_has_gone(world: World) -> None:
    old, free = customer(world, "user_2gone1"), customer(world, None)
    user = signed_up_again(world)
    assert short(await looked(world)) == {("orphan", old, "retire"), ("unclaimed", free, "adopt")}
    report = await applied(world)
    assert (report.done, report.skipped, report.refused) == (2, [], [])
    assert world.customer_of(user).id == free


@scenario
async def test_a_customer_that_another_program_marks_under_our_key_makes_no_room(world: World) -> None:
    customer(world, "somebody else's key")
    user = signed_up_again(world)
    assert short(await looked(world)) == {("missing", user, None)}
    assert (await applied(world)).done == 0
    assert not world.customers_of(user)


@scenario
async def test_an_orphan_that_a_person_must_see_makes_no_room(world: World) -> None:
    old, billed = customer(world, "user_2gone1"), customer(world, "user_2gone1", "else@example.com")
    world.sandbox.stripe.add_subscription(world.time() - 5 * DAY, billed, period=1000 * 86_400)
    user = signed_up_again(world)
    found = await looked(world)
    assert short(found) == {("orphan", old, None), ("orphan", billed, None), ("missing", user, None)}
    assert (await applied(world)).done == 0
    assert not world.customers_of(user)
