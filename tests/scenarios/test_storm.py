"""Everything at once, by seed: once the faults stop, both sides agree."""

from random import Random

import pytest

from counterfoil.sandbox import Player, Storm
from counterfoil.sandbox.faults import Faults
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.svix import SvixSettings
from tests.harness import DAY, MINUTE, World, scenario

SECONDS = 300.0

ROUGH = Faults(
    error_before=0.02,
    cut_before=0.02,
    error_after=0.02,
    cut_after=0.03,
    stored_500=0.01,
    late_500=0.01,
    slow=0.03,
    slow_effect=0.01,
    rate_limited=0.02,
    locked=0.01,
)
MANNERS = SvixSettings(latency=(0.0, 2.0), duplicate=0.1, reorder=0.1, reorder_by=(0.0, 30.0), drop=0.02)


async def weather(world: World, seed: int) -> None:
    """A storm with crashes in it; the node is down for a while after each."""
    random = Random(f"{seed} crashes")
    player, began = Player(world.sandbox.clerk), world.loop.time()
    crashes = sorted(random.uniform(0.0, SECONDS) for _ in range(4))
    for at, action in Storm(seed=seed, sign_ups=40, seconds=SECONDS, deletions=10):
        while crashes and crashes[0] <= at:
            crashes.pop(0)
            await world.crash(world.nodes[0])
            await world.run(random.choice([0.1, 5.0, 40.0]))
            await world.start(ready=False)
        await world.run(began + at - world.loop.time())
        player.play(world.time(), action)


@pytest.mark.parametrize("seed", range(5))
@scenario
async def test_both_sides_agree_once_the_faults_stop(world: World, seed: int) -> None:
    world.sandbox = Sandbox(SandboxSettings(seed=seed, svix=MANNERS, latency=(0.01, 0.3)))
    await world.start()
    world.sandbox.faults.faults = ROUGH
    await weather(world, seed)
    await world.run(2 * MINUTE)
    world.sandbox.calm()
    # Back-off for an hour at most, the sweep for the changes that were dropped, the walk for the deletions.
    await world.run(DAY + 15 * MINUTE)
    await world.settle()
    assert (await world.figures()).backlog.parked == {}
    world.assert_in_step()
