"""Upstreams that are down, or say that it is too much; and a node that only watches."""

from bisect import bisect

import pytest

from counterfoil.core.link import ParkReason
from counterfoil.sandbox.faults import Fault
from counterfoil.sandbox.messages import Upstream
from tests.harness import HOUR, MINUTE, World, scenario


@pytest.mark.parametrize(
    ("upstream", "kind"), [("stripe", "error_before"), ("stripe", "slow"), ("clerk", "error_before")]
)
@scenario
async def test_an_outage_of_three_hours_costs_probes_and_then_all_is_done(
    world: World, upstream: Upstream, kind: str
) -> None:
    await world.start()
    began = world.time()
    fault = Fault(kind=kind, status=503, delay=60.0 if kind == "slow" else 0.0)  # type: ignore[arg-type]
    world.sandbox.add_outage(upstream, began, began + 3 * HOUR, fault)
    people = 15
    for number in range(people):
        user = world.sign_up(f"person{number}@example.com")
        if number % 3 == 0:
            world.sandbox.clerk.change_name(world.time(), user, "Grace", "Hopper")
        await world.run(3 * HOUR / people)
    during = world.sandbox.calls(upstream, since=began)
    # Far below one per link and minute, which would be over 1,200: a probe a minute, and the first few.
    assert len(during) <= 3 * 60 + 40
    assert (await world.figures()).backlog.parked == {}
    await world.settle(4 * MINUTE)
    assert len(world.sandbox.stripe.customers) == people
    world.assert_in_step()


@scenario
async def test_deliveries_are_taken_while_an_upstream_is_down_at_the_start(world: World) -> None:
    await world.start()
    await world.crash(world.nodes[0])
    world.sandbox.add_outage("stripe", world.time(), world.time() + HOUR)
    world.sandbox.add_outage("clerk", world.time(), world.time() + HOUR)
    await world.start(ready=False)
    for number in range(20):
        world.sign_up(f"person{number}@example.com")
    await world.run(10.0)
    assert world.sandbox.svix.delivered == 20
    await world.run(HOUR + 5 * MINUTE)
    world.assert_in_step()


@scenario
async def test_a_burst_of_sign_ups_provokes_no_rate_limit(world: World) -> None:
    await world.start()
    for number in range(300):
        world.sign_up(f"person{number}@example.com")
    await world.settle()
    for user in list(world.sandbox.clerk.users)[:100]:
        world.sandbox.clerk.change_name(world.time(), user, "Grace", "Hopper")
    for user in list(world.sandbox.clerk.users)[:50]:
        world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    calls = [*world.sandbox.calls("stripe"), *world.sandbox.calls("clerk")]
    assert {call.status for call in calls} == {200}
    times = [call.begun_at for call in world.sandbox.calls("stripe", "customers.create")]
    assert max(bisect(times, start + 1.0) - at for at, start in enumerate(times)) <= 23, "of 25 a second"
    world.assert_in_step()


@scenario
async def test_rate_limits_and_locks_that_others_caused_are_waited_out(world: World) -> None:
    await world.start()
    for upstream in ("stripe", "clerk"):
        world.sandbox.plan_fault(upstream, None, "rate_limited", times=15)
    for number in range(40):
        world.sign_up(f"person{number}@example.com")
    await world.settle()
    for upstream in ("stripe", "clerk"):
        world.sandbox.plan_fault(upstream, None, "locked", times=15)  # type: ignore[arg-type]
    for user in list(world.sandbox.clerk.users):
        world.sandbox.clerk.change_name(world.time(), user, "Grace", "Hopper")
    await world.settle()
    assert (await world.figures()).backlog.parked == {}
    assert len(world.sandbox.stripe.customers) == 40
    world.assert_in_step()


@scenario
async def test_a_node_that_only_observes_writes_nothing_and_a_later_one_does_the_work(world: World) -> None:
    await world.start(observe=True)
    users = [world.sign_up(f"person{number}@example.com") for number in range(10)]
    foreign = world.sandbox.stripe.create_customer(world.time(), email="x@example.com")
    users.append(world.sign_up("named@example.com", stripeCustomerId=foreign))
    await world.settle()
    world.sandbox.clerk.delete_user(world.time(), users[0])
    await world.settle()
    await world.run(HOUR)
    assert world.writes() == []
    for user in users[1:]:
        link = await world.link(user)
        assert link is not None
        assert link.parked is ParkReason.OBSERVED
        assert link.intent_key is None
    await world.restart()
    await world.settle()
    assert (await world.figures()).backlog.parked == {}
    assert len(world.sandbox.stripe.customers) == 10
    world.assert_in_step()


@scenario
async def test_a_node_that_only_observes_leaves_open_intents_as_they_are(world: World) -> None:
    await world.start()
    world.freeze("POST", "/v1/customers", before=True)
    user = world.sign_up()
    await world.run(1.0)
    await world.crash(world.nodes[0])
    await world.start(observe=True)
    await world.run(HOUR)
    assert world.writes() == []
    await world.restart()
    await world.settle()
    assert len(world.customers_of(user)) == 1
    world.assert_in_step()
