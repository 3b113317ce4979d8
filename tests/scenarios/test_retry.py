"""A person has mended what a link was parked for, and asks again."""

from counterfoil.core.link import ParkReason
from tests.harness import World, scenario


@scenario
async def test_a_retry_reads_the_user_again_for_the_mending_delivery_may_be_lost(world: World) -> None:
    node = await world.start()
    named = {"stripeCustomerId": "cus_nowhere0000001"}
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", public_metadata=named)
    await world.settle()
    link = await world.link(user)
    assert link is not None
    assert link.parked is ParkReason.FOREIGN
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"stripeCustomerId": None}, silent=True)
    assert await node.supervisor.retry([user]) == 1
    await world.settle()
    assert world.sandbox.verdict(world.time()).clean
    assert len(list(world.sandbox.stripe.live_customers())) == 1
