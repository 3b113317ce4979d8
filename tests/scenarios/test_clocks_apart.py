"""Nodes of one database whose own clocks are wrong: they follow the database's, and Stripe's is another."""

import pytest

from counterfoil import settings as product_settings
from counterfoil.engine.peers import Alone
from counterfoil.sandbox.faults import Fault
from counterfoil.store.upgrade import upgrade
from counterfoil.wiring import Node, Outside, assemble
from tests.harness import MINUTE, StripeTransport, VirtualClock, World, scenario

ONLY_SQLITE = True
"""A PostgreSQL server's time is real and not the world's, and claims of a node with peers go by it: what is due
would be so at another time. That they go by it is held by tests/store."""


class Peer(Alone):
    """One of several nodes, whose database has the right time."""

    alone = False

    def __init__(self, world: World) -> None:
        self._world = world

    async def time(self) -> int | None:
        return int(self._world.time() * 1000)


async def node_that_is_wrong(world: World, by: int) -> Node:
    """A node at work, its clock ahead by so many milliseconds."""
    await world.database.write(upgrade)
    settings = product_settings.load(world.environ, world.folder)
    clock = VirtualClock(by)
    outside = Outside(world.database, clock, world.clerk_transport, StripeTransport(world), Peer(world))
    node = await assemble(settings, outside)
    node.supervisor.start()
    world.nodes.append(node)
    return node


@pytest.mark.parametrize("by", [0, 60_000, -60_000])
@scenario
async def test_stripes_time_is_not_taken_for_earlier_than_it_is(world: World, by: int) -> None:
    node = await node_that_is_wrong(world, by)
    await world.run(30.0)
    assert node.context.catch_up.complete
    assert len(world.sandbox.calls("stripe", "customers.list")) < 5
    ahead = node.context.catch_up.world().stripe_now - world.time() * 1000
    assert -100 <= ahead < 3_000


@pytest.mark.parametrize("by", [0, 60_000, -60_000])
@scenario
async def test_a_customer_that_comes_late_within_the_quiet_time_is_waited_for(world: World, by: int) -> None:
    await node_that_is_wrong(world, by)
    await world.run(10.0)
    world.sandbox.plan_fault("stripe", "customers.create", Fault(kind="late_500", late=6.0))
    user = world.sign_up()
    await world.run(2 * MINUTE)
    assert len(world.customers_of(user)) == 1
    assert len(world.sandbox.stripe.customers) == 1
