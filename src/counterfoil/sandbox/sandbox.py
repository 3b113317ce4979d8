"""The sandbox: Clerk, Stripe and Svix together, with what can go wrong between them and their callers.

Nothing here does IO or reads a clock. A virtual-time test calls `begin` from a transport; `http` puts it
on a socket.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Unpack

from counterfoil.sandbox.calls import Call
from counterfoil.sandbox.clerk import ClerkSettings, ClerkState
from counterfoil.sandbox.clerk_api import ClerkApi, clerk_error
from counterfoil.sandbox.clerk_user import NewUser
from counterfoil.sandbox.faults import Fault, FaultKind, Faults, FaultSource, Outage, Planned
from counterfoil.sandbox.messages import Answer, Handled, Reply, Request, Upstream
from counterfoil.sandbox.stripe import StripeSettings, StripeState
from counterfoil.sandbox.stripe_api import Run, StripeApi, rate_limited, stripe_error
from counterfoil.sandbox.svix import SvixSettings, SvixState
from counterfoil.sandbox.verdict import Rules, Verdict, judge

_CUT = frozenset({"cut_before", "cut_after"})
_BEFORE = frozenset({"error_before", "cut_before", "rate_limited", "locked"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """A whole world by seed. `latency` is (least, most) seconds that every answer takes."""

    seed: int = 0
    clerk: ClerkSettings = field(default_factory=ClerkSettings)
    stripe: StripeSettings = field(default_factory=StripeSettings)
    svix: SvixSettings = field(default_factory=SvixSettings)
    faults: Faults = field(default_factory=Faults)
    latency: tuple[float, float] = (0.0, 0.0)


class Sandbox:
    """Both upstreams and the webhooks between."""

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings = settings or SandboxSettings()
        # One stream of randomness for each part: a change in one leaves the others' draws alone.
        self.svix = SvixState(settings.svix, Random(f"{settings.seed} svix"))
        self.clerk = ClerkState(settings.clerk, Random(f"{settings.seed} clerk"), self.svix.publish)
        self.stripe = StripeState(settings.stripe, Random(f"{settings.seed} stripe"))
        self.faults = FaultSource(settings.faults, Random(f"{settings.seed} faults"))
        self._random = Random(f"{settings.seed} latency")
        self._clerk_api = ClerkApi(self.clerk)
        self._stripe_api = StripeApi(self.stripe)

    # Calls.

    def begin(self, upstream: Upstream, request: Request, now: float) -> Reply:
        """Take one request at `now`. Wait `delay`, then answer, or cut the connection if that is None."""
        self.stripe.advance(now)
        api = self._clerk_api if upstream == "clerk" else self._stripe_api
        operation = api.operation(request)
        fault = self.faults.choose(upstream, operation, request, now)
        delay = self._random.uniform(*self.settings.latency) + (fault.delay if fault else 0.0)
        handled = self._handle(upstream, request, now, delay, fault)
        answer = None if fault is not None and fault.kind in _CUT else handled.answer
        log = self.clerk.log if upstream == "clerk" else self.stripe.log
        log.add(
            Call(
                upstream=upstream,
                operation=operation,
                method=request.method,
                path=request.path,
                status=answer.status if answer is not None else None,
                subject=handled.subject,
                begun_at=now,
                effect_at=handled.effect_at,
                idempotency_key=request.headers.get("idempotency-key"),
                replayed=handled.replayed,
                fault=fault.kind if fault is not None else None,
            )
        )
        return Reply(answer, delay)

    def advance(self, now: float) -> None:
        """Let happen what was to happen by now."""
        self.stripe.advance(now)

    # Faults.

    def plan_fault(
        self,
        upstream: Upstream,
        operation: str | None,
        fault: Fault | FaultKind,
        times: int = 1,
        when: Callable[[Request], bool] | None = None,
    ) -> Planned:
        """The next `times` matching calls suffer the fault; `operation` None matches all, `when` looks
        closer.
        """
        made = fault if isinstance(fault, Fault) else Fault(kind=fault)
        return self.faults.plan(Planned(upstream, operation, made, times, when))

    def add_outage(self, upstream: Upstream, start: float, end: float, fault: Fault | None = None) -> None:
        """The upstream is down from `start` until before `end`."""
        made = fault or Fault(kind="error_before", status=503)
        self.faults.outages.append(Outage(upstream=upstream, start=start, end=end, fault=made))

    def calm(self) -> None:
        """Faults stop: planned ones, outages and chance. Svix keeps its manners."""
        self.faults.clear()

    # Looking.

    def verdict(self, now: float | None = None, rules: Rules | None = None) -> Verdict:
        """Compare the true state of both sides; with `now`, after what was to happen by then."""
        if now is not None:
            self.advance(now)
        return judge(self.clerk, self.stripe, rules or Rules())

    def calls(self, upstream: Upstream, operation: str | None = None, since: float = float("-inf")) -> list[Call]:
        """The calls of one upstream, oldest first."""
        return (self.clerk if upstream == "clerk" else self.stripe).log.calls(operation, since)

    def lift_limits(self) -> None:
        """No rate limits on either side."""
        self.clerk.lift_limits()
        self.stripe.lift_limits()

    def add_pair(self, now: float, *, key: str = "clerkUserId", **fields: Unpack[NewUser]) -> tuple[str, str]:
        """A user and a matching, linked customer from before our time: silently, without any event."""
        user_id = self.clerk.create_user(now, silent=True, **fields)
        user = self.clerk.users[user_id]
        customer_id = self.stripe.create_customer(now, email=user.email, name=user.name, metadata={key: user_id})
        self.clerk.set_public_metadata(now, user_id, {"stripeCustomerId": customer_id}, silent=True)
        return user_id, customer_id

    # One call.

    def _handle(
        self, upstream: Upstream, request: Request, now: float, delay: float, fault: Fault | None
    ) -> Handled:
        kind = fault.kind if fault is not None else None
        if fault is not None and kind in _BEFORE:
            handled = Handled(_error(upstream, fault))
        elif upstream == "clerk":
            handled = self._clerk_api.handle(request, now)
        else:
            handled = self._stripe_api.handle(request, now, _run(fault, now, delay))
        if fault is not None and kind == "error_after":
            handled = Handled(_error(upstream, fault), handled.subject, handled.effect_at, handled.replayed)
        if upstream == "stripe" and kind in {*_BEFORE, "error_after"}:
            answer = self._stripe_api.dressed(request, handled.answer, now, now + delay)
            handled = Handled(answer, handled.subject, handled.effect_at, handled.replayed)
        return handled


def _run(fault: Fault | None, now: float, delay: float) -> Run:
    answered_at = now + delay
    if fault is not None:
        if fault.kind == "stored_500":
            return Run("none", now, answered_at, fails=True)
        if fault.kind == "late_500":
            return Run("late", now + fault.late, answered_at, fails=True)
        if fault.kind == "slow_effect":
            return Run("late", answered_at, answered_at)
    return Run("done", now, answered_at)


def _error(upstream: Upstream, fault: Fault) -> Answer:
    if fault.kind == "rate_limited":
        if upstream == "stripe":
            return rate_limited(fault.code or "endpoint-rate")
        return clerk_error(429, "too_many_requests", "Too many requests.", Retry_After="1")
    if fault.kind == "locked":
        if upstream == "stripe":
            headers = {"Stripe-Should-Retry": "true"}
            return stripe_error(429, "This object is in use.", headers, code="lock_timeout")
        return clerk_error(409, "resource_locked", "The resource is busy. Try again.")
    if fault.html:
        page = b"<html><head><title>Bad Gateway</title></head><body>Bad Gateway</body></html>"
        return Answer(fault.status, {"Content-Type": "text/html"}, page)
    if upstream == "stripe":
        return stripe_error(fault.status, "The request failed.", code=fault.code)
    return clerk_error(fault.status, fault.code or "internal_clerk_error", "The request failed.")
