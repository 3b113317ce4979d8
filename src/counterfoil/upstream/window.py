"""What the vendor's limiter may have counted of our calls: they do not arrive at the pace at which they are sent.

Calls that hang on their way, behind a busy loop of ours or before a busy vendor, arrive together when it goes on,
and those that were sent at their pace meanwhile come on top. So a call counts from when it arrived at the latest:
its answer came no sooner after that than the quickest answer comes after a call is sent.
"""

import asyncio
import heapq
from itertools import count

from counterfoil.core.link import Lane

_SECOND = 1.005
"""Seconds that the limiter counts over, and some: uvloop tells time in whole milliseconds, and clocks differ."""
_LONGEST = 5.0
"""Seconds that a call without an answer is taken to be on its way."""
_FEW, _MEMORY = 10, 500
"""The quickest of so many answers at least, and of the last 500 to 1,000: a network may become slower."""


class Quickest:
    """The quickest answer of one operation, of late."""

    def __init__(self) -> None:
        self._number = 0
        self._before = self._now = float("inf")

    @property
    def seconds(self) -> float:
        """0 while too little is known: the first answers are slow, for their connections are new."""
        return min(self._before, self._now) if self._number >= _FEW else 0.0

    def learn(self, seconds: float) -> None:
        """An answer took so long."""
        if self._number % _MEMORY == 0:
            self._before, self._now = self._now, float("inf")
        self._number += 1
        self._now = min(self._now, seconds)


class Crossing:
    """One call on its way. ``by``: when it has arrived at the latest, by the event loop's time."""

    def __init__(self, quickest: Quickest) -> None:
        self._quickest = quickest
        self._sent = self.by = 0.0

    def send(self, now: float) -> None:
        """It is sent now."""
        self._sent = now
        # Where no answer comes within the second, nothing tells yet whether it hangs.
        self.by = now + (_LONGEST if self._quickest.seconds < _SECOND else 0.0)

    def answer(self, now: float, *, tells: bool) -> None:
        """Its answer is here; ``tells`` whether others may be as quick: a refusal may be quicker than any."""
        if tells:
            self._quickest.learn(now - self._sent)
        self.by = max(self._sent, now - self._quickest.seconds)

    def stay(self) -> None:
        """It was not sent."""
        self.by = float("-inf")


class Window:
    """At most so many calls arrive within any second. Belongs to one event loop, whose time it uses."""

    def __init__(self, calls: int) -> None:
        self._most = calls
        self._crossings: list[Crossing] = []
        self._waiting: list[tuple[int, int, Crossing, asyncio.Future[None]]] = []
        self._number = count()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, crossing: Crossing, lane: Lane) -> None:
        """Wait until there is room for one more; it is counted as sent from then on."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (int(lane), next(self._number), crossing, waiter))
        self.moved()
        await waiter

    def settle(self, crossing: Crossing) -> None:
        """A call that entered has been answered, or was not sent: it counts as it says now."""
        if crossing not in self._crossings:  # it hung for so long that it was given up
            self._crossings.append(crossing)
        self.moved()

    def moved(self) -> None:
        """Time has passed, or somebody has come: there may be room."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            return
        now = loop.time()
        self._crossings = [each for each in self._crossings if each.by + _SECOND > now]
        while self._waiting and len(self._crossings) < self._most:
            _, _, crossing, waiter = heapq.heappop(self._waiting)
            if not waiter.done():
                crossing.send(now)
                self._crossings.append(crossing)
                waiter.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._timer = loop.call_at(min(each.by for each in self._crossings) + _SECOND, self.moved)
