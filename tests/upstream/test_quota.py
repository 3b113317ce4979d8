"""The bucket: an even pace, live work first, and never more than the vendor's limiter bears."""

import asyncio
import random
from itertools import pairwise

import pytest

from counterfoil.core.link import Lane
from counterfoil.upstream.quota import SLACK, Bucket
from tests.upstream.support import now, virtual


async def take(bucket: Bucket, taken: list[tuple[str, float]], name: str, lane: Lane = Lane.LIVE) -> None:
    """Take a slot, and note when."""
    await bucket.take(lane)
    taken.append((name, now()))


def most_in(times: list[float], window: float) -> int:
    """The most slots in any window of so many seconds."""
    return max(sum(begin <= each < begin + window for each in times) for begin in times)


@virtual
async def test_slots_come_at_an_even_pace() -> None:
    bucket = Bucket(10)
    taken: list[tuple[str, float]] = []
    await asyncio.gather(*[take(bucket, taken, str(number)) for number in range(51)])
    times = [at for _, at in taken]
    assert times[-1] - times[0] == pytest.approx(5.0, abs=0.5)
    later = times[10:]
    gaps = [after - before for before, after in pairwise(later)]
    assert min(gaps) == pytest.approx(0.1, abs=0.01)
    assert max(gaps) == pytest.approx(0.1, abs=0.01)


@virtual
async def test_those_who_wait_are_served_in_turn() -> None:
    bucket = Bucket(10)
    taken: list[tuple[str, float]] = []
    await asyncio.gather(*[take(bucket, taken, str(number)) for number in range(30)])
    assert [name for name, _ in taken] == [str(number) for number in range(30)]


@virtual
async def test_live_work_is_served_before_bulk_work_however_long_that_has_waited() -> None:
    bucket = Bucket(10)
    taken: list[tuple[str, float]] = []
    bulk = [asyncio.create_task(take(bucket, taken, "bulk", Lane.BULK)) for _ in range(30)]
    await asyncio.sleep(1.05)
    before = len(taken)
    live = [asyncio.create_task(take(bucket, taken, "live")) for _ in range(5)]
    await asyncio.gather(*bulk, *live)
    assert 0 < before < 20
    assert [name for name, _ in taken[before : before + 5]] == ["live"] * 5


@pytest.mark.parametrize("rate", [0.5, 8.0, 20.0, 80.0])
@virtual
async def test_no_window_has_more_than_the_rate_and_the_slack(rate: float) -> None:
    dice = random.Random(7)
    bucket = Bucket(rate)
    taken: list[tuple[str, float]] = []
    tasks = []
    for _ in range(60):
        tasks += [asyncio.create_task(take(bucket, taken, "")) for _ in range(dice.randrange(12))]
        await asyncio.sleep(dice.uniform(0, 12 / rate))
    await asyncio.gather(*tasks)
    times = [at for _, at in taken]
    assert len(times) == len(tasks)
    slack = max(SLACK, 2 / rate)
    for window in (1.0, 10.0):
        assert most_in(times, window) <= rate * (window + slack) + 1 + 1e-6


@virtual
async def test_a_push_closes_the_bucket_for_so_long_and_never_shortens_a_longer_one() -> None:
    bucket = Bucket(100)
    taken: list[tuple[str, float]] = []
    begun = now()
    bucket.push(5.0)
    bucket.push(1.0)
    await asyncio.gather(*[take(bucket, taken, "") for _ in range(3)])
    assert taken[0][1] - begun == pytest.approx(5.0, abs=0.05)


@virtual
async def test_a_push_holds_back_those_who_wait_already() -> None:
    bucket = Bucket(2)
    taken: list[tuple[str, float]] = []
    tasks = [asyncio.create_task(take(bucket, taken, "")) for _ in range(6)]
    await asyncio.sleep(0.1)
    before = len(taken)
    bucket.push(30.0)
    await asyncio.gather(*tasks)
    assert taken[before][1] == pytest.approx(30.1, abs=0.05)


@virtual
async def test_who_gives_up_waiting_takes_no_slot() -> None:
    bucket = Bucket(1)
    taken: list[tuple[str, float]] = []
    first = [asyncio.create_task(take(bucket, taken, "first")) for _ in range(5)]
    await asyncio.sleep(0.01)
    leaving = [asyncio.create_task(take(bucket, taken, "leaving")) for _ in range(20)]
    last = asyncio.create_task(take(bucket, taken, "last"))
    await asyncio.sleep(0.01)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*first, *leaving, last, return_exceptions=True)
    assert [name for name, _ in taken] == ["first"] * 5 + ["last"]
    assert taken[-1][1] - taken[-2][1] == pytest.approx(1.0, abs=0.01)


@virtual
async def test_a_bucket_whose_only_waiter_left_still_serves_the_next() -> None:
    bucket = Bucket(1)
    taken: list[tuple[str, float]] = []
    bucket.push(2.0)
    leaving = asyncio.create_task(bucket.take(Lane.LIVE))
    await asyncio.sleep(0.5)
    leaving.cancel()
    await asyncio.sleep(5.0)
    await asyncio.wait_for(take(bucket, taken, "next"), 1.5)
    assert taken[0][0] == "next"
