"""What Stripe's client gives, as ours. Errors by status and code, never by ``type`` alone (facts 3.6)."""

from collections.abc import Mapping

import stripe

from counterfoil.core.customer import Subscription
from counterfoil.errors import (
    KeyRefused,
    KeyReused,
    NotFound,
    ObjectLocked,
    RateLimited,
    Rejected,
    ReplayedFailure,
    ServerFailed,
    Unreachable,
    UpstreamError,
)


def translated(error: stripe.StripeError) -> UpstreamError:
    """One of the official client's errors, as one of ours; the vendor's sentence is not repeated."""
    status = error.http_status or 0
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    code = str(getattr(error.error, "code", None) or error.code or "")[:64]
    return _kind(error, status, code, headers)(
        f"stripe: {status} {code}",
        upstream="stripe",
        status=status,
        code=code,
        request_id=headers.get("request-id", "")[:64],
    )


def _kind(error: stripe.StripeError, status: int, code: str, headers: Mapping[str, str]) -> type[UpstreamError]:
    if isinstance(error, stripe.IdempotencyError):
        return KeyReused
    if status == 429:
        # Without the reason it is no limiter but a lock on the object (facts 3.5).
        return RateLimited if "stripe-rate-limited-reason" in headers else ObjectLocked
    if status >= 500:
        return ReplayedFailure if headers.get("idempotent-replayed") == "true" else ServerFailed
    if status < 300:
        return Unreachable
    if code == "resource_missing":
        return NotFound
    kinds: dict[int, type[UpstreamError]] = {
        401: KeyRefused,
        408: Unreachable,
        403: KeyRefused,
        404: NotFound,
        409: ObjectLocked,
    }
    return kinds.get(status, Rejected)


def subscription_of(found: stripe.Subscription) -> Subscription:
    """Its period's end is on its items (facts 3.8)."""
    items = found.to_dict().get("items", {}).get("data", [])
    ends = [int(item["current_period_end"]) * 1000 for item in items if item.get("current_period_end")]
    return Subscription(
        subscription_id=str(found.id),
        status=str(found.status),
        period_end=min(ends, default=None),
        closing=bool(found.cancel_at_period_end),
    )
