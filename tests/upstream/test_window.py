"""The vendor's window: what hangs on its way, and arrives with what was sent after it, is never too much."""

import asyncio
import random

import pytest

from counterfoil.core.link import Lane
from counterfoil.errors import Paused, RateLimited
from counterfoil.sandbox.limits import Window as Limiter
from counterfoil.upstream.gate import BULK, LIVE, Gate, Limits, Ticket
from counterfoil.upstream.window import Crossing, Quickest, Window
from tests.upstream.support import failure, now, virtual


class Vendor:
    """A strict limiter behind a network that stalls: what hangs arrives at once when it goes on."""

    def __init__(self, limit: int, stalls: list[tuple[float, float]], answers: tuple[float, float]) -> None:
        self._limiter = Limiter(limit, 1.0)
        self._stalls = stalls
        self._answers = answers
        self._dice = random.Random(3)
        self.refused = 0

    async def __call__(self) -> None:
        hangs = max((end - now() for begin, end in self._stalls if begin <= now() < end), default=0.0)
        await asyncio.sleep(0.01 + hangs)
        refused = self._limiter.wait(now()) > 0.0
        if not refused:
            self._limiter.take(now())
        await asyncio.sleep(self._dice.uniform(*self._answers))
        if refused:
            self.refused += 1
            raise failure(RateLimited, status=429)


async def crowd(gate: Gate, vendor: Vendor, count: int) -> float:
    """So many calls, of a dozen callers; how long it took."""
    begun, left = now(), iter(range(count))

    async def caller() -> None:
        for _ in left:
            await gate.call("customers.list", BULK, vendor)

    await asyncio.gather(*[caller() for _ in range(40)])
    return now() - begun


SHORT = [(3.0 * each, 3.0 * each + 0.05 * (each % 17)) for each in range(1, 100)]
LONG = [(4.0 * each, 4.0 * each + 0.15 * (each % 20)) for each in range(1, 100)]
"""Up to 0.8 and 2.85 seconds."""


@pytest.mark.parametrize(
    ("stalls", "rate", "pace"), [(SHORT, 20.0, 18.5), (SHORT, 24.0, 20.5), (LONG, 20.0, 10.0), (LONG, 24.0, 10.0)]
)
@virtual
async def test_calls_that_hang_and_arrive_together_are_not_too_many(
    stalls: list[tuple[float, float]], rate: float, pace: float
) -> None:
    vendor = Vendor(25, stalls, (0.05, 0.15))
    gate = Gate("stripe", 80.0, lambda *_: None, rate, limits=Limits(calls=100, endpoint=25))
    took = await crowd(gate, vendor, 1_000)
    assert vendor.refused == 0
    assert 1_000 / took >= pace


@virtual
async def test_without_room_for_what_hangs_the_same_calls_are_refused() -> None:
    vendor = Vendor(25, SHORT, (0.05, 0.15))
    gate = Gate("stripe", 80.0, lambda *_: None, 24.0)
    with pytest.raises(RateLimited):
        await crowd(gate, vendor, 1_000)


@pytest.mark.parametrize("answers", [(0.05, 0.15), (0.2, 0.6), (3.0, 3.2)])
@virtual
async def test_our_share_of_a_limit_is_ours_however_slow_the_answers_are(answers: tuple[float, float]) -> None:
    vendor = Vendor(25, [], answers)
    gate = Gate("stripe", 80.0, lambda *_: None, 20.0, limits=Limits(calls=100, endpoint=25))
    begun = now()
    await asyncio.gather(*[gate.call("customers.create", LIVE, vendor) for _ in range(1_000)])
    assert now() - begun - answers[1] <= 1_000 / 20.0 * 1.03
    assert vendor.refused == 0


@virtual
async def test_who_never_answers_does_not_shut_the_window() -> None:
    window = Window(2)
    for _ in range(2):
        await window.enter(Crossing(Quickest()), Lane.LIVE)
    begun = now()
    await window.enter(Crossing(Quickest()), Lane.LIVE)
    assert now() - begun == pytest.approx(6.0, abs=0.05)


@virtual
async def test_a_call_counts_from_when_it_arrived_at_the_latest() -> None:
    window, quickest = Window(1), Quickest()
    for _ in range(10):
        quickest.learn(0.1)
    first = Crossing(quickest)
    await window.enter(first, Lane.LIVE)
    sent = now()
    await asyncio.sleep(0.4)
    first.answer(now(), tells=True)
    window.settle(first)
    await window.enter(Crossing(quickest), Lane.LIVE)
    assert now() - sent == pytest.approx(1.3, abs=0.02)


@virtual
async def test_a_network_that_has_become_slower_is_learnt() -> None:
    quickest = Quickest()
    quickest.learn(0.1)
    for _ in range(1_000):
        quickest.learn(0.5)
    assert quickest.seconds == 0.5


@virtual
async def test_live_work_enters_before_bulk_work_however_long_that_has_waited() -> None:
    window = Window(1)
    entered: list[str] = []

    async def enter(name: str, lane: Lane) -> None:
        await window.enter(Crossing(Quickest()), lane)
        entered.append(name)

    await enter("first", Lane.BULK)
    bulk = [asyncio.create_task(enter("bulk", Lane.BULK)) for _ in range(3)]
    await asyncio.sleep(0.5)
    await asyncio.gather(*bulk, enter("live", Lane.LIVE))
    assert entered == ["first", "live", "bulk", "bulk", "bulk"]


@virtual
async def test_what_is_not_sent_after_all_leaves_its_room_to_the_next() -> None:
    gate = Gate("stripe", 1_000.0, lambda *_: None, 1_000.0, limits=Limits(calls=3, endpoint=1))
    sent: list[float] = []

    async def send() -> None:
        sent.append(now())

    def closed() -> None:
        raise Paused("too short", upstream="")

    with pytest.raises(Paused, match="too short"):
        await gate.call("x", Ticket(Lane.LIVE, closed), send)
    begun = now()
    await gate.call("x", LIVE, send)
    assert now() - begun < 0.01
    leaving = asyncio.create_task(gate.call("x", LIVE, send))
    await asyncio.sleep(0.1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await gate.call("x", LIVE, send)
    assert sent[1] - sent[0] == pytest.approx(1.0, abs=0.02)
