"""The gate: breaker, quota, fence, and then the call."""

import asyncio

import pytest

from counterfoil.core.link import Lane
from counterfoil.errors import KeyRefused, Paused, RateLimited, Rejected, Unreachable
from counterfoil.upstream.gate import BULK, LIVE, Gate, Ticket
from tests.upstream.support import failure, now, virtual

Seen = list[tuple[str, str, str]]


class Upstream:
    """Counts what reaches it, and raises or returns what it is told to."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.error: Exception | None = None
        self.takes = 0.0

    async def __call__(self) -> str:
        self.sent.append(now())
        await asyncio.sleep(self.takes)
        if self.error is not None:
            raise self.error
        return "answer"


def made(rate: float = 100.0, endpoint_rate: float | None = None) -> tuple[Gate, Upstream, Seen]:
    """A gate, what is behind it, and what its observer is told."""
    seen: Seen = []

    def observe(upstream: str, operation: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0.0
        seen.append((upstream, operation, outcome))

    return Gate("stripe", rate, observe, endpoint_rate), Upstream(), seen


@virtual
async def test_a_call_is_sent_and_told_of() -> None:
    gate, upstream, seen = made()
    assert await gate.call("customers.list", LIVE, upstream) == "answer"
    assert seen == [("stripe", "customers.list", "ok")]


@virtual
async def test_a_fence_that_is_closed_sends_nothing() -> None:
    gate, upstream, seen = made()

    def closed() -> None:
        raise Paused("too short", upstream="", retry_after=0.05)

    with pytest.raises(Paused, match="too short"):
        await gate.call("customers.create", Ticket(Lane.LIVE, closed), upstream)
    assert (upstream.sent, seen) == ([], [])
    assert not gate.breaker.is_open


@virtual
async def test_the_fence_is_asked_after_the_wait_for_a_slot() -> None:
    gate, upstream, _ = made(rate=1.0)
    asked: list[float] = []
    await asyncio.gather(
        *[gate.call("x", Ticket(Lane.LIVE, lambda: asked.append(now())), upstream) for _ in range(6)]
    )
    assert asked == upstream.sent
    assert asked[-1] >= 2.0


@virtual
async def test_a_breaker_that_is_open_sends_nothing() -> None:
    gate, upstream, seen = made()
    upstream.error = failure(Unreachable)
    for _ in range(5):
        with pytest.raises(Unreachable):
            await gate.call("x", LIVE, upstream)
    with pytest.raises(Paused):
        await gate.call("x", LIVE, upstream)
    assert len(upstream.sent) == 5
    assert [outcome for *_, outcome in seen] == ["Unreachable"] * 5
    upstream.error = None
    await asyncio.sleep(1.0)
    assert await gate.call("x", LIVE, upstream) == "answer"
    assert not gate.breaker.is_open


@virtual
async def test_a_fence_that_stops_the_probe_leaves_the_next_one_free() -> None:
    gate, upstream, _ = made()
    upstream.error = failure(KeyRefused, status=401)
    with pytest.raises(KeyRefused):
        await gate.call("x", LIVE, upstream)
    await asyncio.sleep(1.0)

    def closed() -> None:
        raise Paused("too short", upstream="")

    with pytest.raises(Paused, match="too short"):
        await gate.call("x", Ticket(Lane.LIVE, closed), upstream)
    upstream.error = None
    assert await gate.call("x", LIVE, upstream) == "answer"


@virtual
async def test_a_probe_that_is_cancelled_leaves_the_next_one_free() -> None:
    gate, upstream, _ = made()
    upstream.error = failure(KeyRefused, status=401)
    with pytest.raises(KeyRefused):
        await gate.call("x", LIVE, upstream)
    await asyncio.sleep(1.0)
    upstream.takes, upstream.error = 60.0, None
    probe = asyncio.create_task(gate.call("x", LIVE, upstream))
    await asyncio.sleep(0.1)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    upstream.takes = 0.0
    assert await gate.call("x", LIVE, upstream) == "answer"


@pytest.mark.parametrize(("told", "pause"), [(7.0, 7.0), (None, 1.0)])
@virtual
async def test_a_429_closes_the_quota_for_as_long_as_it_says(told: float | None, pause: float) -> None:
    gate, upstream, seen = made(endpoint_rate=50.0)
    upstream.error = failure(RateLimited, status=429, retry_after=told)
    with pytest.raises(RateLimited):
        await gate.call("customers.list", LIVE, upstream)
    upstream.error = None
    begun = now()
    # The limiter's whole quota is closed: of the other operations too.
    await gate.call("customers.create", LIVE, upstream)
    assert upstream.sent[-1] - begun == pytest.approx(pause, abs=0.05)
    assert [outcome for *_, outcome in seen] == ["RateLimited", "ok"]
    assert not gate.breaker.is_open


@virtual
async def test_each_operation_has_a_quota_of_its_own_within_the_whole() -> None:
    gate, upstream, _ = made(rate=100.0, endpoint_rate=5.0)
    other = Upstream()
    crowd = [asyncio.create_task(gate.call("customers.list", LIVE, upstream)) for _ in range(40)]
    await asyncio.sleep(0.5)
    begun = now()
    await gate.call("customers.create", LIVE, other)
    assert now() - begun < 0.1
    await asyncio.gather(*crowd)
    assert upstream.sent[-1] - upstream.sent[0] == pytest.approx(7.8, abs=0.6)


@virtual
async def test_a_tickets_lane_is_kept() -> None:
    gate, upstream, _ = made(rate=2.0)
    order: list[str] = []

    async def call(name: str, ticket: Ticket) -> None:
        await gate.call("x", ticket, upstream)
        order.append(name)

    crowd = [asyncio.create_task(call("bulk", BULK)) for _ in range(10)]
    await asyncio.sleep(1.1)
    before = len(order)
    await call("live", LIVE)
    await asyncio.gather(*crowd)
    assert order.index("live") == before


@virtual
async def test_a_request_that_is_refused_is_told_of_and_opens_nothing() -> None:
    gate, upstream, seen = made()
    upstream.error = failure(Rejected, status=400)
    with pytest.raises(Rejected):
        await gate.call("x", LIVE, upstream)
    assert seen == [("stripe", "x", "Rejected")]
    assert not gate.breaker.is_open


@virtual
async def test_a_probe_that_fails_in_a_way_that_nobody_thought_of_does_not_hold_the_breaker_open() -> None:
    gate, upstream, _ = made()
    upstream.error = failure(Unreachable)
    for _ in range(5):
        with pytest.raises(Unreachable):
            await gate.call("customers.list", LIVE, upstream)
    assert gate.breaker.is_open
    await asyncio.sleep(1.5)
    upstream.error = ValueError("an answer of its own kind")
    with pytest.raises(ValueError, match="kind"):
        await gate.call("customers.list", LIVE, upstream)
    upstream.error = None
    await asyncio.sleep(2.5)
    assert await gate.call("customers.list", LIVE, upstream) == "answer"
