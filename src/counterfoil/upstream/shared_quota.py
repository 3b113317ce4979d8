"""The quota that all nodes of a database share: small batches of slots, reserved as they are needed.

A node asks for a batch shortly before the last one is used up, and spreads its calls over the slots by its own
monotonic clock. Nothing is reserved further ahead than `HORIZON`, so what a node reserved that has died
lapses within it, and who asks next is served next.
"""

import asyncio
import contextlib
import heapq
import random
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count

import msgspec
import structlog

from counterfoil.core.link import Lane
from counterfoil.errors import DatabaseUnavailable
from counterfoil.upstream.quota import SLACK

HORIZON, BULK_HORIZON = 0.25, 0.1
"""Seconds that slots are reserved ahead at most: what live work waits for at worst is bulk's part of that."""
HOLD = 0.1
"""Seconds that bulk work is put off after the last slot of a node whose live work asked for more."""
LONGEST_PUSH = 600.0
"""Seconds. What lies further ahead was written by a clock that has been put back since."""
_BATCH = 0.1
"""Seconds of slots that a node reserves at once: small, so that all get their share."""
_LEAD = 0.03
"""Seconds before the last slot that the next batch is asked for: a database's answer, and some."""
_GRAIN = 0.005
"""Seconds: the first slot after a pause lies back as far as it may, and is handed out a little later."""
_AGAIN = 0.5
"""Seconds between asks of a database that does not answer: meanwhile no call is made, for none could be kept."""

_log = structlog.get_logger(__name__)


class Ask(msgspec.Struct, frozen=True):
    """What a node wants of a bucket: so many slots, ``interval`` seconds apart, of ``waiting`` calls in all."""

    bucket: str
    interval: float
    lane: Lane
    slots: int
    waiting: int

    @property
    def slack(self) -> float:
        """Seconds of unused slots that may be caught up on."""
        return max(SLACK, 2 * self.interval)

    @property
    def horizon(self) -> float:
        """Seconds ahead that a slot may lie."""
        return max(HORIZON if self.lane is Lane.LIVE else BULK_HORIZON, self.interval)


class Grant(msgspec.Struct, frozen=True):
    """What it gets: ``slots``, the first in ``first`` seconds; with none, some may come in ``wait`` seconds."""

    slots: int
    first: float
    wait: float


Reserve = Callable[[Ask], Awaitable[Grant]]
Push = Callable[[str, float], Awaitable[None]]


class SharedBucket:
    """One bucket as a node sees it. Belongs to one event loop, whose time it uses."""

    def __init__(self, name: str, rate: float, reserve: Reserve, push: Push) -> None:
        """Args:
        name: the same on all nodes.
        rate: calls a second, of all nodes.
        reserve: asks the database for slots; raises `DatabaseUnavailable`.
        push: tells it that the bucket is closed for so many seconds.
        """
        self._name = name
        self._interval = 1.0 / rate
        self._batch = max(1, round(rate * _BATCH))
        self._reserve = reserve
        self._push = push
        self._held: deque[float] = deque()
        self._shut_until = 0.0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = count()
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._pushing: asyncio.Task[None] | None = None
        self._live_came = asyncio.Event()

    async def take(self, lane: Lane) -> None:
        """See `Slots.take`."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (int(lane), next(self._number), waiter))
        if lane is Lane.LIVE:
            self._live_came.set()
        self._serve(loop)
        await waiter

    def push(self, seconds: float) -> None:
        """See `Slots.push`; other nodes still use what they have reserved, a quarter of a second's at most."""
        loop = asyncio.get_running_loop()
        self._shut_until = max(self._shut_until, loop.time() + seconds)
        self._held.clear()
        self._pushing = loop.create_task(self._tell_all(min(seconds, LONGEST_PUSH)))

    async def _tell_all(self, seconds: float) -> None:
        try:
            await self._push(self._name, seconds)
        except DatabaseUnavailable as error:
            _log.warning("quota.database", error=str(error))

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand out the slots whose time has come; those that nobody took in time are lost."""
        now = loop.time()
        lapsed = now - max(SLACK, 2 * self._interval) - _GRAIN
        while self._held and self._held[0] < lapsed:
            self._held.popleft()
        while self._waiting and self._waiting[0][2].done():  # it was cancelled
            heapq.heappop(self._waiting)
        while self._waiting and self._held and self._held[0] <= now:
            waiter = heapq.heappop(self._waiting)[2]
            if not waiter.done():
                self._held.popleft()
                waiter.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._held[0], self._serve, loop) if self._waiting and self._held else None
        if (self._asking is None or self._asking.done()) and self._wanted() is not None:
            self._asking = loop.create_task(self._ask())

    async def _ask(self) -> None:
        """Reserve slots for as long as somebody waits who has none."""
        loop = asyncio.get_running_loop()
        while (ask := self._wanted()) is not None:
            self._live_came.clear()
            try:
                grant = await self._reserve(ask)
            except DatabaseUnavailable as error:
                _log.warning("quota.database", error=str(error))
                await asyncio.sleep(_AGAIN)
                continue
            now = loop.time()
            # From the answer's arrival on, the slots are a little late by our clock, and never early.
            slots = [now + grant.first + number * self._interval for number in range(grant.slots)]
            self._held.extend(each for each in slots if each >= self._shut_until)
            self._serve(loop)
            if slots:
                await asyncio.sleep(max(0.0, slots[-1] - _LEAD - now))
                continue
            pause = max(grant.wait, self._shut_until - now, 0.001)
            await self._rest(ask.lane, min(pause * random.uniform(1.0, 1.2), LONGEST_PUSH))

    def _wanted(self) -> Ask | None:
        waiting = [lane for lane, _, waiter in self._waiting if not waiter.done()]
        live, held = waiting.count(int(Lane.LIVE)), len(self._held)
        lane = Lane.LIVE if live > held else Lane.BULK
        missing = (live if lane is Lane.LIVE else len(waiting)) - held
        if missing <= 0:
            return None
        return Ask(self._name, self._interval, lane, min(missing, self._batch), missing)

    async def _rest(self, lane: Lane, seconds: float) -> None:
        """Wait to ask again; live work that comes meanwhile need not wait because bulk work was put off."""
        if lane is Lane.LIVE:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._live_came.wait()
