"""The event loop of a play: time moves when nothing else does, and at once to the next thing that happens.

Nothing here waits for a socket or a thread, so the loop need not ask for any: that would be much of a play's work.
"""

import asyncio
import selectors
from collections.abc import Callable

_MICROSECONDS = 1_000_000


class _Waiting(selectors.SelectSelector):
    """What an idle loop waits with: the time it would wait has passed."""

    def __init__(self, passes: Callable[[float], None]) -> None:
        super().__init__()
        self._passes = passes

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen again")
        if timeout > 0:
            self._passes(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at 0 s, and counts in microseconds."""

    def __init__(self) -> None:
        self._passed, self._now = 0, 0.0
        super().__init__(_Waiting(self._pass))

    def time(self) -> float:
        return self._now

    def _pass(self, seconds: float) -> None:
        # What is due within less than a microsecond would never come.
        self._passed += max(1, round(seconds * _MICROSECONDS))
        self._now = self._passed / _MICROSECONDS
