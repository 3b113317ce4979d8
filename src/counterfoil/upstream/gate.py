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


class Gate:
    """Quota and breaker of one upstream."""

    def __init__(
        self,
        upstream: str,
        rate: float,
        observe: Observer,
        endpoint_rate: float | None = None,
        slots: MakeSlots = own_slots,
    ) -> None:
        """Args:
        upstream: "clerk" or "stripe".
        rate: calls a second in all.
        observe: told of each call.
        endpoint_rate: calls a second of each operation; ``None``: no such limit.
        slots: makes the buckets: of this node alone, or common to all.
        """
        self.breaker = Breaker(upstream)
        self._upstream = upstream
        self._slots = slots
        self._all = slots(upstream, rate)
        self._endpoint_rate = endpoint_rate
        self._endpoints: dict[str, Slots] = {}
        self._observe = observe

    async def call(self, operation: str, ticket: Ticket, send: Callable[[], Awaitable[T]]) -> T:
        """Wait for a slot, then ``send``.

        Raises:
            Paused: not sent: the breaker is open, or the ticket's lease is too short.
            UpstreamError: what ``send`` raised.
        """
        self.breaker.admit()
        try:
            buckets = self._buckets(operation)
            for bucket in buckets:
                await bucket.take(ticket.lane)
            ticket.fence()
        except BaseException:
            self.breaker.abandoned()
            raise
        began = time.perf_counter()
        try:
            result = await send()
        except UpstreamError as error:
            self.breaker.failed(error)
            if isinstance(error, RateLimited):
                for bucket in buckets:
                    bucket.push(error.retry_after or _PUSH)
            self._observe(self._upstream, operation, type(error).__name__, time.perf_counter() - began)
            raise
        except asyncio.CancelledError:
            self.breaker.abandoned()
            raise
        self.breaker.succeeded()
        self._observe(self._upstream, operation, "ok", time.perf_counter() - began)
        return result

    def _buckets(self, operation: str) -> list[Slots]:
        if self._endpoint_rate is None:
            return [self._all]
        if operation not in self._endpoints:
            self._endpoints[operation] = self._slots(f"{self._upstream} {operation}", self._endpoint_rate)
        return [self._endpoints[operation], self._all]
