"""A breaker: an outage costs one probe at a time, not a failed try of every link."""

import asyncio
import random
from collections.abc import Callable

from counterfoil.errors import KeyRefused, Paused, ServerFailed, Unreachable, UpstreamError

_TRIP = 5
"""Failures in a row that mean an outage and not a hiccup."""
_FIRST, _LONGEST = 1.0, 60.0
_CANDIDATES = 16
"""Callers held back that are told to come for the next probe."""
_UNCALLED = 600.0
"""Seconds for all others, should nobody call them when it closes."""


def _nobody() -> None:
    """Nobody waits."""


class Breaker:
    """Open: nothing is sent but one probe at a time. Belongs to one event loop, whose time it uses."""

    def __init__(self, upstream: str) -> None:
        self.recovered: Callable[[], None] = _nobody
        """Called when it closes: whoever was held back may come."""
        self._upstream = upstream
        self._held_back = 0
        self._failures = 0
        self._pause = 0.0
        self._until = 0.0
        self._probing = False
        self._opened = 0.0
        self.reason = ""
        self.proven = False
        """An answer came since it opened last, or at all."""

    @property
    def is_open(self) -> bool:
        return self._pause > 0.0

    @property
    def open_for(self) -> float | None:
        """Seconds since it opened; ``None`` while it is closed."""
        return asyncio.get_running_loop().time() - self._opened if self.is_open else None

    def admit(self) -> None:
        """Let a call through.

        Raises:
            Paused: the breaker is open; ``retry_after`` says when the next probe may go.
        """
        if not self.is_open:
            return
        left = self._until - asyncio.get_running_loop().time()
        if left > 0 or self._probing:
            # A few come back for the next probes; all others wait to be called, or long.
            self._held_back += 1
            pause = self._pause if self._held_back <= _CANDIDATES else _UNCALLED
            wait = max(left, pause / 2) + random.uniform(0.0, pause)
            raise Paused(f"{self._upstream} is paused", upstream=self._upstream, retry_after=wait)
        self._probing = True

    def succeeded(self) -> None:
        """An answer came that shows the upstream alive and our key good."""
        was_open = self.is_open
        self._failures, self._pause, self._probing, self.reason, self.proven = 0, 0.0, False, "", True
        if was_open:
            self.recovered()

    def failed(self, error: UpstreamError) -> None:
        """A call failed; only outages and refused keys count."""
        if isinstance(error, KeyRefused):
            self._open(error)
        elif isinstance(error, Unreachable | ServerFailed):
            self._failures += 1
            if self._failures >= _TRIP or self._probing:
                self._open(error)
        else:
            self.succeeded()

    def abandoned(self) -> None:
        """The call was given up without an answer (cancelled)."""
        self._probing = False

    def _open(self, error: UpstreamError) -> None:
        if not self.is_open:
            self._opened, self.proven = asyncio.get_running_loop().time(), False
        # Calls that were under way when it opened do not lengthen the pause.
        if self._probing or not self.is_open:
            self._pause = min(self._pause * 2 or _FIRST, _LONGEST)
            self._until = asyncio.get_running_loop().time() + self._pause
            self._held_back = 0
        self._probing = False
        self.reason = f"{error.status or 'no answer'} {error.code}".strip()
