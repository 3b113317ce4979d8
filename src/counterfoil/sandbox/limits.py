"""A rate limit over a sliding window: the strictest reading of "n requests per s seconds"."""

from __future__ import annotations

from collections import deque


class Window:
    """At most `limit` takes in any span of `seconds`. A limit of None is lifted."""

    __slots__ = ("_times", "limit", "seconds")

    def __init__(self, limit: int | None, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._times: deque[float] = deque()

    def wait(self, now: float) -> float:
        """Seconds until a take would succeed; 0.0 means now."""
        if self.limit is None:
            return 0.0
        times = self._times
        horizon = now - self.seconds
        while times and times[0] <= horizon:
            times.popleft()
        if len(times) < self.limit:
            return 0.0
        return times[0] - horizon if times else self.seconds

    def take(self, now: float) -> None:
        """Count one request."""
        if self.limit is not None:
            self._times.append(now)

    def idle(self, now: float) -> bool:
        """Whether nothing in the window is still remembered."""
        return not self._times or self._times[-1] <= now - self.seconds
