"""The time, as a thing that is handed in."""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> int:
        """Milliseconds since the epoch."""

    def elapsed(self) -> float:
        """Seconds that really passed since some moment, suspended or not: leases are measured by it."""


class FollowingClock:
    """A clock that is put right by the database's, which all nodes share: due times are written by it."""

    def __init__(self, own: Clock) -> None:
        self._own = own
        self._offset = 0

    def now(self) -> int:
        """See `Clock.now`."""
        return self._own.now() + self._offset

    def elapsed(self) -> float:
        """See `Clock.elapsed`."""
        return self._own.elapsed()

    async def follow(self, ask: Callable[[], Awaitable[int | None]]) -> None:
        """Learn the database's time: its answer was true at some moment between question and answer."""
        before = self._own.now()
        told = await ask()
        if told is not None:
            self._offset = min(max(self._offset, told - self._own.now()), told - before)


class SystemClock:
    """The machine's clocks."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def elapsed(self) -> float:
        # The monotonic clock stands still while a machine sleeps; a lease does not.
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
