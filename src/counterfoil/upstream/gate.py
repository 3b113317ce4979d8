"""The gate: every call to an upstream goes through one."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from counterfoil.core.link import Lane
from counterfoil.errors import RateLimited, UpstreamError
from counterfoil.upstream.breaker import Breaker
from counterfoil.upstream.quota import MakeSlots, Slots, own_slots
from counterfoil.upstream.window import Crossing, Quickest, Window

T = TypeVar("T")
Observer = Callable[[str, str, str, float], None]
"""Told of each call: upstream, operation, outcome ("ok" or the error's class), seconds."""

_PUSH = 1.0
"""Seconds that a 429 closes a bucket for; Stripe documents no Retry-After (facts 3.5)."""


def _no_fence() -> None:
    """No lease is at stake."""


class Ticket(msgspec.Struct, frozen=True):
    """On whose behalf a call is made: its lane, and a check made right before it is sent."""

    lane: Lane = Lane.LIVE
    fence: Callable[[], None] = _no_fence
    """Raises `Paused` where the caller's lease is too short for a call."""


LIVE = Ticket()
BULK = Ticket(Lane.BULK)


class Limits(msgspec.Struct, frozen=True):
    """What a vendor takes in any second; ``None``: nobody knows, or over so long that a pace is all it needs."""

    calls: int | None = None
    endpoint: int | None = None


_UNKNOWN = Limits()


class _Way:
    """What the calls of one operation pass."""

    def __init__(self, buckets: list[Slots], windows: list[Window]) -> None:
        self.buckets = buckets
        self._windows = windows
        self._quickest = Quickest()

    async def pass_through(self, lane: Lane) -> Crossing:
        """Wait for slots, and for room at the other end."""
        for bucket in self.buckets:
            await bucket.take(lane)
        crossing = Crossing(self._quickest)
        try:
            for window in self._windows:
                await window.enter(crossing, lane)
        except BaseException:
            self.turn_back(crossing)
            raise
        return crossing

    def turn_back(self, crossing: Crossing) -> None:
        """It was not sent after all."""
        crossing.stay()
        self._settle(crossing)

    def answered(self, crossing: Crossing, *, tells: bool) -> None:
        """See `Crossing.answer`."""
        crossing.answer(asyncio.get_running_loop().time(), tells=tells)
        self._settle(crossing)

    def _settle(self, crossing: Crossing) -> None:
        for window in self._windows:
            window.settle(crossing)


class Gate:
    """Quota and breaker of one upstream."""

    def __init__(
        self,
        upstream: str,
        rate: float,
        observe: Observer,
        endpoint_rate: float | None = None,
        slots: MakeSlots = own_slots,
        limits: Limits = _UNKNOWN,
    ) -> None:
        """Args:
        upstream: "clerk" or "stripe".
        rate: calls a second in all.
        observe: told of each call.
        endpoint_rate: calls a second of each operation; ``None``: no such limit.
        slots: makes the buckets: of this node alone, or common to all.
        limits: the vendor's own, that this node's calls keep to wherever they hang on their way.
        """
        self.breaker = Breaker(upstream)
        self._upstream = upstream
        self._slots = slots
        self._all = slots(upstream, rate)
        self._window = _windows(limits.calls)
        self._endpoint_rate = endpoint_rate
        self._endpoint_limit = limits.endpoint
        self._ways: dict[str, _Way] = {}
        self._observe = observe

    async def call(self, operation: str, ticket: Ticket, send: Callable[[], Awaitable[T]]) -> T:
        """Wait for a slot, then ``send``.

        Raises:
            Paused: not sent: the breaker is open, or the ticket's lease is too short.
            UpstreamError: what ``send`` raised.
        """
        self.breaker.admit()
        way = self._way(operation)
        try:
            crossing = await way.pass_through(ticket.lane)
            try:
                ticket.fence()
            except BaseException:
                way.turn_back(crossing)
                raise
        except BaseException:
            self.breaker.abandoned()
            raise
        began = time.perf_counter()
        crossing.send(asyncio.get_running_loop().time())
        try:
            result = await send()
        except UpstreamError as error:
            way.answered(crossing, tells=False)
            self.breaker.failed(error)
            if isinstance(error, RateLimited):
                for bucket in way.buckets:
                    bucket.push(error.retry_after or _PUSH)
            self._observe(self._upstream, operation, type(error).__name__, time.perf_counter() - began)
            raise
        except BaseException:
            self.breaker.abandoned()
            raise
        way.answered(crossing, tells=True)
        self.breaker.succeeded()
        self._observe(self._upstream, operation, "ok", time.perf_counter() - began)
        return result

    def _way(self, operation: str) -> _Way:
        name = operation if self._endpoint_rate is not None else ""
        if name not in self._ways:
            buckets, windows = [self._all], self._window
            if self._endpoint_rate is not None:
                own = self._slots(f"{self._upstream} {operation}", self._endpoint_rate)
                buckets, windows = [own, self._all], [*_windows(self._endpoint_limit), *self._window]
            self._ways[name] = _Way(buckets, windows)
        return self._ways[name]


def _windows(calls: int | None) -> list[Window]:
    return [Window(calls)] if calls is not None else []
