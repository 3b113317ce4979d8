"""Reading Stripe's list: as fast as the quota allows, whenever the customers came."""

from collections.abc import Callable

import pytest

from counterfoil.sandbox.sandbox import SandboxSettings
from tests.audit.support import audit
from tests.harness import World, scenario_in

DAY = 86_400.0
COUNT = 6_000
RATE = 20.0
"""Lists of Stripe's a second, by default."""
AGES: dict[str, Callable[[int], float]] = {
    "evenly, and nobody of late": lambda number: 11 * DAY - 5 * number,
    "evenly until now": lambda number: DAY + 5 * number,
    "more and more": lambda number: DAY + 0.02 * number**2,
    "fewer and fewer": lambda number: 400 * DAY - 0.02 * number**2,
    "all within a minute, long ago": lambda number: 300 * DAY + number / 100,
    "all within a minute, and a few since": lambda number: (
        300 * DAY + number / 100 if number % 20 else DAY + 1_000 * number
    ),
}


@pytest.mark.parametrize("age", AGES.values(), ids=AGES)
@scenario_in(SandboxSettings(latency=(0.1, 0.3)))
async def test_the_list_is_read_at_the_pace_of_the_quota_and_few_pages_are_not_full(
    world: World, age: Callable[[int], float]
) -> None:
    for number, seconds in enumerate(sorted(map(age, range(COUNT)), reverse=True)):
        world.sandbox.add_pair(world.time() - seconds, email=f"person{number}@example.com")
    begun = world.time()
    about, found = await audit(world, {}, database=False)
    assert (about.counts["customers"], found) == (COUNT, [])
    pages = world.sandbox.calls("stripe", "customers.list")
    assert not [call for call in pages if call.status == 429]
    assert len(pages) <= COUNT / 100 + 30
    assert world.time() - begun <= len(pages) / RATE + 2.5


@pytest.mark.parametrize("age", AGES.values(), ids=AGES)
@scenario_in(SandboxSettings(latency=(0.02, 0.06)))
async def test_no_range_is_split_while_the_quota_is_used_up_anyway(
    world: World, age: Callable[[int], float]
) -> None:
    for number, seconds in enumerate(sorted(map(age, range(COUNT)), reverse=True)):
        world.sandbox.add_pair(world.time() - seconds, email=f"person{number}@example.com")
    begun = world.time()
    about, _ = await audit(world, {}, database=False)
    assert about.counts["customers"] == COUNT
    pages = world.sandbox.calls("stripe", "customers.list")
    # Two or three readers are enough, and each one's last page is not full.
    assert len(pages) <= COUNT / 100 + 10
    assert world.time() - begun <= len(pages) / RATE + 2.5
