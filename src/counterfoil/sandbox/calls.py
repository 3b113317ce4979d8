"""The log of API calls, by which tests count what a synchroniser costs."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from counterfoil.sandbox.messages import Upstream


@dataclass(frozen=True, slots=True)
class Call:
    """One API call as the upstream saw it.

    `status` is None when the connection was cut. `begun_at` and `effect_at` are Unix seconds; `effect_at`
    is None when nothing was changed. `fault` names the fault that the call suffered.
    """

    upstream: Upstream
    operation: str
    method: str
    path: str
    status: int | None
    subject: str | None
    begun_at: float
    effect_at: float | None
    idempotency_key: str | None
    replayed: bool
    fault: str | None


class CallLog:
    """The newest `size` calls, and totals for ever."""

    def __init__(self, size: int = 100_000) -> None:
        self._calls: deque[Call] = deque(maxlen=size)
        self.totals: Counter[str] = Counter()

    def add(self, call: Call) -> None:
        """Note one call."""
        self._calls.append(call)
        self.totals[call.operation] += 1

    def calls(
        self, operation: str | None = None, since: float = float("-inf"), subject: str | None = None
    ) -> list[Call]:
        """The calls still held, oldest first: of one operation, begun at `since` or later."""
        return [
            call
            for call in self._calls
            if call.begun_at >= since
            and (operation is None or call.operation == operation)
            and (subject is None or call.subject == subject)
        ]

    def count(self, operation: str | None = None, since: float = float("-inf"), subject: str | None = None) -> int:
        """How many calls; of the totals when only the operation matters, so that the ring's size does not."""
        if since == float("-inf") and subject is None:
            return self.totals.total() if operation is None else self.totals[operation]
        return len(self.calls(operation, since, subject))
