"""Empty, restored and moved databases."""

from counterfoil.sandbox import Player, Storm
from counterfoil.sandbox.sandbox import SandboxSettings
from counterfoil.sandbox.stripe import StripeSettings
from counterfoil.sandbox.svix import SvixSettings
from tests.harness import DAY, HOUR, MINUTE, World, scenario, scenario_in


@scenario
async def test_an_empty_database_against_full_accounts_rewrites_none_but_the_changed(world: World) -> None:
    clerk = world.sandbox.clerk
    pairs = [
        world.sandbox.add_pair(world.time(), email=f"person{number}@example.com", first_name="Person")
        for number in range(250)
    ]
    await world.run(DAY)
    await world.start()
    await world.settle()
    assert world.writes() == []
    for user, _ in pairs[:5]:
        clerk.change_email(world.time(), user, f"new-{user}@example.com".lower())
    for user, _ in pairs[5:10]:
        clerk.touch(world.time(), user)
    for user, _ in pairs[10:15]:
        clerk.delete_user(world.time(), user)
    await world.settle()
    written = {call.subject for call in world.writes()}
    changed = {customer for _, customer in pairs[:5]}
    removed = {customer for _, customer in pairs[10:15]}
    assert changed | removed <= written
    assert not written & {customer for _, customer in pairs[15:]}
    assert world.sandbox.calls("stripe", "customers.create") == []
    await world.run(DAY)
    assert len(world.sandbox.stripe.customers) == 250
    assert not {call.subject for call in world.writes()} & {customer for _, customer in pairs[15:]}
    world.assert_in_step()


@scenario
async def test_users_older_than_the_first_start_get_a_customer_only_when_asked(world: World) -> None:
    old = world.sandbox.clerk.create_user(world.time(), email="old@example.com", silent=True)
    await world.run(DAY)
    node = await world.start()
    await world.settle()
    world.sandbox.clerk.touch(world.time(), old)
    await world.settle()
    await world.run(DAY)
    assert world.sandbox.stripe.customers == {}
    assert await node.supervisor.retry([old]) == 1
    await world.settle()
    assert world.sandbox.stripe.customers == {}, "to look again is not to ask for a customer"


@scenario
async def test_an_emptied_database_finds_all_that_it_made_before(world: World) -> None:
    await world.start()
    users = [world.sign_up(f"person{number}@example.com") for number in range(30)]
    await world.settle()
    await world.crash(world.nodes[0])
    await world.put_back(None)
    await world.start()
    await world.settle()
    for user in users[:10]:
        world.sandbox.clerk.change_name(world.time(), user, "Grace", "Hopper")
    world.sandbox.clerk.delete_user(world.time(), users[29])
    await world.settle()
    assert len(world.sandbox.stripe.customers) == 30
    world.assert_in_step()


@scenario
async def test_a_pair_that_was_adopted_is_made_anew_when_its_customer_dies(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    await world.crash(world.nodes[0])
    await world.put_back(None)
    await world.start()
    await world.settle()
    dead = world.customer_of(user).id
    world.sandbox.stripe.delete_customer(world.time(), dead)
    world.sandbox.clerk.change_email(world.time(), user, "countess@example.com")
    await world.settle()
    assert world.customer_of(user).id != dead
    world.assert_in_step()


ROUGH = SandboxSettings(
    seed=3,
    stripe=StripeSettings(endpoint_limit=None, global_limit=None),
    svix=SvixSettings(duplicate=0.1, reorder=0.2, reorder_by=(0.0, 60.0), drop=0.05),
)


@scenario_in(ROUGH)
async def test_a_database_restored_from_before_the_storm_converges_without_a_second_customer(
    world: World,
) -> None:
    await world.start()
    player, began, backup = Player(world.sandbox.clerk), world.loop.time(), None
    for at, action in Storm(seed=1, sign_ups=80, seconds=800.0, deletions=20):
        await world.run(began + at - world.loop.time())
        if backup is None and at > 200.0:
            backup = await world.copy_database()
        player.play(world.time(), action)
    await world.settle()
    await world.crash(world.nodes[0])
    live = {customer.id for customer in world.sandbox.stripe.live_customers()}
    before = world.time()
    await world.put_back(backup)
    await world.start()
    await world.run(20 * MINUTE)
    await world.settle()
    created = [
        call for call in world.sandbox.calls("stripe", "customers.create", since=before) if not call.replayed
    ]
    made = {call.subject for call in created}
    assert not made & live
    await world.run(DAY + 10 * MINUTE)
    world.assert_in_step()


@scenario
async def test_a_database_restored_a_week_later_does_not_bring_back_who_left(world: World) -> None:
    await world.start()
    user = world.sign_up()
    await world.settle()
    backup = await world.copy_database()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    await world.crash(world.nodes[0])
    await world.run(7 * DAY)
    await world.put_back(backup)
    await world.start()
    await world.run(HOUR)
    assert len(world.sandbox.calls("stripe", "customers.create")) == 1
    link = await world.link(user)
    assert link is not None
    assert link.customer_id is None
    world.assert_in_step()


@scenario
async def test_a_backup_from_the_midst_of_a_scan_makes_no_second_customer(world: World) -> None:
    """The scan that goes on lists only what is older than its place, and not what was made since the backup."""
    world.environ["COUNTERFOIL_LINK_BACK"] = "off"
    world.sandbox.lift_limits()
    await world.start()
    await world.run(MINUTE)
    await world.crash(world.nodes[0])
    for _ in range(250):
        world.sandbox.stripe.create_customer(world.time(), metadata={})
    await world.run(MINUTE)
    first = world.freeze("GET", "/v1/customers")
    node = await world.start(ready=False)
    await first.reached.wait()
    second = world.freeze("GET", "/v1/customers", before=True)
    first.thaw.set()
    await second.reached.wait()
    backup = await world.copy_database()
    second.thaw.set()
    user = world.sign_up()
    await world.settle()
    customer = world.customer_of(user).id
    await world.crash(node)
    await world.run(26 * HOUR)
    await world.put_back(backup)
    await world.start()
    await world.run(10 * MINUTE)
    assert world.customer_of(user).id == customer


@scenario
async def test_sweep_and_walk_go_on_after_a_clock_that_was_ahead_has_been_put_back(world: World) -> None:
    await world.start()
    await world.run(MINUTE)
    world.clock.skew = 400 * 24 * 3_600_000
    await world.run(15 * MINUTE)
    world.clock.skew = 0
    await world.run(MINUTE)
    user = world.sign_up()
    for attempt in world.sandbox.svix.due(world.time(), 10):  # the news is lost
        world.sandbox.svix.settle(attempt, 204, world.time())
    await world.run(25 * HOUR)
    assert len(world.customers_of(user)) == 1
