"""Several nodes and one quota: the real rows of a real database, on virtual time."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from counterfoil.core.link import Lane
from counterfoil.errors import DatabaseUnavailable
from counterfoil.store import quota
from counterfoil.store.engine import connect, transact
from counterfoil.upstream.shared_quota import Ask, Grant, SharedBucket
from tests.databases import Home
from tests.upstream.support import now, virtual

ONLY_POSTGRESQL = True

Taken = list[tuple[str, float]]


class Shared:
    """A database's quota; ``away`` is for how many asks it does not answer."""

    def __init__(self, engine: Engine, rate: float) -> None:
        self._engine = engine
        self._rate = rate
        self.away = 0
        self.asked = 0

    def node(self) -> SharedBucket:
        return SharedBucket("stripe", self._rate, self._reserve, self._push)

    async def _reserve(self, ask: Ask) -> Grant:
        self.asked += 1
        await asyncio.sleep(0.001)
        if self.away > 0:
            self.away -= 1
            raise DatabaseUnavailable("away")
        at = self._micros()
        return transact(self._engine, lambda connection: quota.reserve(connection, ask, at))

    async def _push(self, name: str, seconds: float) -> None:
        at = self._micros()
        transact(self._engine, lambda connection: quota.push(connection, name, seconds, at))

    def _micros(self) -> int:
        return 1_800_000_000_000_000 + round(now() * 1e6)


@pytest.fixture
def engine(home: Home) -> Iterator[Engine]:
    made = connect(home.migrated())
    yield made
    made.dispose()


async def take(bucket: SharedBucket, taken: Taken, name: str, lane: Lane = Lane.LIVE) -> None:
    """Take a slot, and note when."""
    await bucket.take(lane)
    taken.append((name, now()))


def crowd(
    bucket: SharedBucket, taken: Taken, name: str, size: int, lane: Lane = Lane.LIVE
) -> list["asyncio.Task[None]"]:
    return [asyncio.create_task(take(bucket, taken, name, lane)) for _ in range(size)]


def most_in(times: list[float], window: float) -> int:
    return max(sum(begin <= each < begin + window for each in times) for begin in times)


@pytest.mark.parametrize(("rate", "nodes"), [(80.0, 1), (80.0, 4), (20.0, 3), (8.0, 2)])
@virtual
async def test_nodes_together_use_the_whole_quota_and_no_more_each_its_share(
    engine: Engine, rate: float, nodes: int
) -> None:
    shared, taken = Shared(engine, rate), Taken()
    each = int(rate * 10)
    tasks = [task for number in range(nodes) for task in crowd(shared.node(), taken, str(number), each)]
    await asyncio.sleep(10.0)
    times = [at for _, at in taken]
    assert len(times) >= 0.97 * rate * 10
    assert most_in(times, 1.0) <= rate * 1.2 + 1
    shares = Counter(name for name, _ in taken)
    assert min(shares.values()) >= 0.6 * len(times) / nodes
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@virtual
async def test_the_quota_is_right_after_a_nodes_death(engine: Engine) -> None:
    shared, taken = Shared(engine, 80.0), Taken()
    dies = crowd(shared.node(), [], "dies", 400)
    lives = crowd(shared.node(), taken, "lives", 400)
    await asyncio.sleep(2.0)
    for task in dies:
        task.cancel()
    begun = now()
    await asyncio.sleep(2.0)
    assert len([at for _, at in taken if at >= begun + 0.25]) >= 0.97 * 80 * 1.75
    for task in lives:
        task.cancel()
    await asyncio.gather(*dies, *lives, return_exceptions=True)


@virtual
async def test_live_work_of_one_node_goes_before_bulk_work_of_another(engine: Engine) -> None:
    shared, taken = Shared(engine, 80.0), Taken()
    bulk = crowd(shared.node(), taken, "bulk", 2_000, Lane.BULK)
    await asyncio.sleep(2.0)
    begun = now()
    live = crowd(shared.node(), taken, "live", 160)
    await asyncio.gather(*live)
    took = now() - begun
    assert took <= 2.0 + 0.4, "as long as the quota lets 160 calls take"
    served = [name for name, at in taken if begun + 0.15 <= at <= begun + took]
    assert served.count("bulk") <= 0.1 * len(served)
    after = len(taken)
    await asyncio.sleep(1.0)
    assert len(taken) - after >= 0.6 * 80, "then bulk work goes on"
    for task in bulk:
        task.cancel()
    await asyncio.gather(*bulk, return_exceptions=True)


@virtual
async def test_a_call_of_a_node_that_is_idle_goes_at_once(engine: Engine) -> None:
    shared, taken = Shared(engine, 80.0), Taken()
    node = shared.node()
    for _ in range(5):
        begun = now()
        await take(node, taken, "")
        assert now() - begun <= 0.05, "one answer of the database, not a place in a line"
        await asyncio.sleep(1.0)


@virtual
async def test_a_push_of_one_node_holds_back_all(engine: Engine) -> None:
    shared, taken = Shared(engine, 80.0), Taken()
    pushed, other = shared.node(), shared.node()
    tasks = [*crowd(pushed, taken, "pushed", 100), *crowd(other, taken, "other", 100)]
    await asyncio.sleep(0.5)
    begun = now()
    pushed.push(5.0)
    await asyncio.gather(*tasks)
    mine = [at - begun for name, at in taken if name == "pushed" and at > begun]
    others = [at - begun for name, at in taken if name == "other" and at > begun]
    assert min(mine) >= 5.0
    assert [at for at in others if 0.25 < at < 5.0] == []
    assert max(*mine, *others) <= 5.0 + 200 / 80 + 0.5


@virtual
async def test_a_database_that_is_away_holds_calls_back_and_they_go_on_by_themselves(engine: Engine) -> None:
    shared, taken = Shared(engine, 80.0), Taken()
    shared.away = 4
    node = shared.node()
    await asyncio.gather(*crowd(node, taken, "", 10))
    assert 2.0 <= taken[0][1] <= 2.2
    assert shared.asked >= 5


@virtual
async def test_who_gives_up_waiting_takes_no_slot_and_the_next_is_served(engine: Engine) -> None:
    shared, taken = Shared(engine, 8.0), Taken()
    node = shared.node()
    leaving = crowd(node, taken, "leaving", 40)
    last = crowd(node, taken, "last", 8)
    await asyncio.sleep(0.5)
    for task in leaving:
        task.cancel()
    begun = now()
    await asyncio.gather(*last)
    assert now() - begun <= 1.6
    await asyncio.gather(*leaving, return_exceptions=True)


@virtual
async def test_asks_are_few(engine: Engine) -> None:
    shared, taken = Shared(engine, 80.0), Taken()
    dice = random.Random(3)
    nodes = [shared.node() for _ in range(4)]
    await asyncio.gather(*[task for node in nodes for task in crowd(node, taken, "", 200 + dice.randrange(5))])
    assert shared.asked <= 0.5 * len(taken)


class Lone:
    """A database of one node's that grants at once: each time a slot ``first`` seconds ahead."""

    def __init__(self, first: float) -> None:
        self._first = first
        self.asked = 0

    def bucket(self) -> SharedBucket:
        return SharedBucket("stripe", 80.0, self._reserve, self._push)

    async def _reserve(self, ask: Ask) -> Grant:
        self.asked += 1
        return Grant(ask.slots, max(self._first, -ask.slack), 0.0)

    async def _push(self, name: str, seconds: float) -> None: ...


@pytest.mark.parametrize("pushed", [False, True])
async def test_a_slot_that_lapsed_or_was_taken_away_is_asked_for_anew(pushed: bool) -> None:
    lone = Lone(0.06)
    bucket = lone.bucket()
    taking = asyncio.create_task(bucket.take(Lane.LIVE))
    await asyncio.sleep(0.045)  # it has been granted, nobody asks any more, and its time has not come
    if pushed:
        bucket.push(0.2)
    else:
        time.sleep(0.4)  # the loop stands still until the slot has lapsed
    await asyncio.wait_for(taking, 20)
    assert lone.asked >= 2


async def test_the_first_slot_after_a_pause_lies_back_as_far_as_it_may_and_is_used() -> None:
    lone = Lone(-1.0)
    await lone.bucket().take(Lane.LIVE)
    assert lone.asked == 1
