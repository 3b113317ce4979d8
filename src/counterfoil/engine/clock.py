"""The time, as a thing that is handed in."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> int:
        """Milliseconds since the epoch."""

    def elapsed(self) -> float:
        """Seconds that really passed since some moment, suspended or not: leases are measured by it."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def elapsed(self) -> float:
        # The monotonic clock stands still while a machine sleeps; a lease does not.
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
