"""Several nodes on one database: a scan of Stripe by one of them serves all."""

import asyncio
from collections.abc import Callable

from counterfoil.engine.catch_up import CatchUp
from counterfoil.engine.peers import Alone, Work
from counterfoil.sandbox.sandbox import SandboxSettings
from counterfoil.wiring import Node
from tests.harness import World, scenario, scenario_in

PEOPLE = 250


class Lock:
    """What the nodes share: who is at what."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    def peer(self) -> "Peer":
        return Peer(self)


class Peer(Alone):
    """One of several nodes, on virtual time."""

    alone = False

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    async def only(self, what: str, work: Work) -> bool:
        if what in self._lock.held:
            return False
        self._lock.held.add(what)
        try:
            await work()
        finally:
            self._lock.held.discard(what)
        return True


async def prepared(world: World) -> tuple[Callable[[], CatchUp], Callable[[], int]]:
    """A maker of nodes' scans, and a counter of list calls, before customers of old."""
    node: Node = await world.assemble()
    for number in range(PEOPLE):
        world.sandbox.stripe.create_customer(world.time() - 3_600, metadata={"clerkUserId": f"user_{number}"})
    lock, context = Lock(), node.context

    def make() -> CatchUp:
        policy = context.rules.policy
        return CatchUp(context.database, context.stripe, context.clock, policy, lock.peer())

    before = len(world.sandbox.calls("stripe", "customers.list"))
    return make, lambda: len(world.sandbox.calls("stripe", "customers.list")) - before


@scenario
async def test_nodes_that_start_together_list_all_customers_once(world: World) -> None:
    make, listed = await prepared(world)
    nodes = [make() for _ in range(3)]
    await asyncio.gather(*[node.first() for node in nodes])
    assert listed() == 3, "three pages"
    assert all(node.complete for node in nodes)
    assert len({node.world().seen_to for node in nodes}) == 1


@scenario
async def test_a_node_that_starts_later_reads_what_is_new_since(world: World) -> None:
    make, listed = await prepared(world)
    await make().first()
    await asyncio.sleep(3_600)
    node = make()
    await node.first()
    assert listed() == 3 + 1
    assert node.complete


@scenario_in(SandboxSettings(latency=(10.0, 10.0)))
async def test_what_a_node_began_that_died_another_goes_on_with(world: World) -> None:
    make, listed = await prepared(world)
    dies, other = make(), make()
    first = asyncio.create_task(dies.first())
    while listed() < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(5)
    waiting = asyncio.create_task(other.first())
    await asyncio.sleep(0.01)
    await dies.close()
    await asyncio.gather(first, return_exceptions=True)
    await waiting
    assert other.complete
    assert not dies.complete
    assert 2 + 1 + 1 <= listed() <= 2 + 2 + 1, "the rest of the old scan, and a short one of what is new"
    assert other.world().seen_to > other.world().stripe_now - 30_000


@scenario
async def test_a_look_is_served_by_another_nodes_scan(world: World) -> None:
    make, listed = await prepared(world)
    one, other = make(), make()
    await asyncio.gather(one.first(), other.first())
    await asyncio.sleep(60)
    until = one.world().stripe_now - 10_000
    assert await one.reach(until, 20.0)
    before = listed()
    assert await other.reach(until, 20.0)
    assert listed() == before
    assert other.world().seen_to > until
