"""What goes wrong, and when: at random by seed, on command, or in a window of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

from counterfoil.sandbox.messages import Request, Upstream

# What a fault does. "Before" and "after" are seen from the effect.
FaultKind = Literal[
    "error_before",  # refused with `status` before anything happened; no idempotency key is stored
    "cut_before",  # the connection breaks before anything happened
    "error_after",  # the work is done (and its key stored as a success), but `status` is answered
    "cut_after",  # the work is done, the connection breaks
    "stored_500",  # Stripe: executed in vain; the 500 is stored under the key
    "late_500",  # Stripe: a 500 is answered and stored; a creation happens all the same, `late` seconds later
    "slow",  # the work is done at once, the answer takes `delay` seconds
    "slow_effect",  # Stripe creations: the work too is done only after `delay` seconds
    "rate_limited",  # 429 with the upstream's own headers
    "locked",  # Stripe: 429 lock_timeout; Clerk: 409 resource_locked
]

_WITHOUT_MEANING_IN_CLERK = frozenset({"stored_500", "late_500", "slow_effect"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. `delay` (seconds before the answer, or the cut) goes with any kind, `late` with late_500.

    `code` and `html` shape the body of an answered error: an error code, or a proxy's HTML page.
    """

    kind: FaultKind
    status: int = 500
    code: str | None = None
    html: bool = False
    delay: float = 0.0
    late: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """An upstream that is down from `start` until before `end` (Unix seconds): every call suffers `fault`."""

    upstream: Upstream
    start: float
    end: float
    fault: Fault = field(default_factory=lambda: Fault(kind="error_before", status=503))


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Rates are probabilities per call; together they may not exceed 1. Spans are (least, most) seconds.

    `until` (Unix seconds) ends the random faults, so that a test can say "once faults stop".
    """

    error_before: float = 0.0
    cut_before: float = 0.0
    error_after: float = 0.0
    cut_after: float = 0.0
    stored_500: float = 0.0
    late_500: float = 0.0
    slow: float = 0.0
    slow_effect: float = 0.0
    rate_limited: float = 0.0
    locked: float = 0.0
    slow_for: tuple[float, float] = (1.0, 30.0)
    late_after: tuple[float, float] = (1.0, 120.0)
    until: float = float("inf")
    upstreams: tuple[Upstream, ...] = ("clerk", "stripe")
    outages: tuple[Outage, ...] = ()

    def rates(self) -> list[tuple[FaultKind, float]]:
        """The kinds that can happen, with their probabilities."""
        kinds: tuple[FaultKind, ...] = (
            "error_before",
            "cut_before",
            "error_after",
            "cut_after",
            "stored_500",
            "late_500",
            "slow",
            "slow_effect",
            "rate_limited",
            "locked",
        )
        return [(kind, getattr(self, kind)) for kind in kinds if getattr(self, kind) > 0.0]


@dataclass(slots=True)
class Planned:
    """A fault laid for the next calls that match. `left` says how many are still to suffer it."""

    upstream: Upstream
    operation: str | None
    fault: Fault
    left: int
    when: Callable[[Request], bool] | None = None

    def cancel(self) -> None:
        """Lay it no longer."""
        self.left = 0


class FaultSource:
    """Decides for each call what befalls it: planned faults first, then outages, then chance."""

    def __init__(self, faults: Faults, random: Random) -> None:
        self.faults = faults
        self.outages = list(faults.outages)
        self._random = random
        self._planned: list[Planned] = []

    def plan(self, planned: Planned) -> Planned:
        """Lay a fault."""
        self._planned.append(planned)
        return planned

    def clear(self) -> None:
        """No faults from here on."""
        self.faults = Faults()
        self.outages.clear()
        for planned in self._planned:
            planned.cancel()

    def choose(self, upstream: Upstream, operation: str, request: Request, now: float) -> Fault | None:
        """The fault of this call; None for the usual luck."""
        if self._planned:
            self._planned = [planned for planned in self._planned if planned.left > 0]
            for planned in self._planned:
                same = planned.upstream == upstream and planned.operation in {None, operation}
                if same and (planned.when is None or planned.when(request)):
                    planned.left -= 1
                    return planned.fault
        for outage in self.outages:
            if outage.upstream == upstream and outage.start <= now < outage.end:
                return outage.fault
        return self._by_chance(upstream, now)

    def _by_chance(self, upstream: Upstream, now: float) -> Fault | None:
        faults = self.faults
        rates = faults.rates()
        if not rates or now >= faults.until or upstream not in faults.upstreams:
            return None
        draw = self._random.random()
        for kind, rate in rates:
            draw -= rate
            if draw < 0.0:
                return self._fault(kind, upstream)
        return None

    def _fault(self, kind: FaultKind, upstream: Upstream) -> Fault | None:
        if upstream == "clerk" and kind in _WITHOUT_MEANING_IN_CLERK:
            return None
        faults, random = self.faults, self._random
        fault = Fault(kind=kind)
        if kind in {"error_before", "error_after"}:
            status = random.choice((500, 502, 503))
            return replace(fault, status=status, html=status == 502)
        if kind in {"slow", "slow_effect"}:
            return replace(fault, delay=random.uniform(*faults.slow_for))
        if kind == "late_500":
            return replace(fault, late=random.uniform(*faults.late_after))
        return fault
