"""Quotas: the generic cell rate algorithm, with two lanes.

A bucket hands out slots at an even pace, so that it never has more than a handful of calls in one window
of the vendor's limiter. Live work is served before bulk work, however long that has waited.
"""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol

from counterfoil.core.link import Lane

SLACK = 0.1
"""Seconds of unused slots that may be caught up on: timers are late, and a late slot is not a lost one.
What is caught up on comes on top of the rate, out of the fifth that is left to the user's own app."""


class Slots(Protocol):
    """Hands out slots at an even pace. Belongs to one event loop."""

    async def take(self, lane: Lane) -> None:
        """Wait for a slot."""

    def push(self, seconds: float) -> None:
        """Hand out nothing for ``seconds``: the vendor said that it was too much."""


MakeSlots = Callable[[str, float], Slots]
"""Makes the slots of a bucket, by its name and its rate (calls a second)."""


class Bucket:
    """Slots at ``rate`` a second, for a node that is alone. Belongs to one event loop, whose time it uses."""

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate
        self._slack = max(SLACK, 2 * self._interval)
        self._next = 0.0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = count()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, lane: Lane) -> None:
        """See `Slots.take`."""
        loop = asyncio.get_running_loop()
        if not self._waiting and self._next <= loop.time():
            self._advance(loop.time())
            return
        waiter: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (int(lane), next(self._number), waiter))
        self._arm(loop)
        await waiter

    def push(self, seconds: float) -> None:
        """See `Slots.push`."""
        self._next = max(self._next, asyncio.get_running_loop().time() + seconds)

    def _advance(self, now: float) -> None:
        self._next = max(self._next, now - self._slack) + self._interval

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None and self._waiting:
            self._timer = loop.call_at(max(self._next, loop.time()), self._serve, loop)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._waiting and self._next <= loop.time():
            waiter = heapq.heappop(self._waiting)[2]
            if not waiter.done():
                self._advance(loop.time())
                waiter.set_result(None)
        self._arm(loop)


def own_slots(_: str, rate: float) -> Bucket:
    """The slots of a node that is alone."""
    return Bucket(rate)
