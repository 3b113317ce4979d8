"""Every error of Counterfoil.

CounterfoilError
├── ConfigurationError      a setting is missing or wrong; the message says what to set
│   └── WrongEnvironment    the keys are of another environment than the pinned one
├── BadSubject              not a Clerk user id
├── AlertRefused            the receiver of alerts did not take one
├── OwnFunctionFailed       the user's own mapping or filter raised, or returned what it must not
├── WebhookRefused          a delivery that is answered 400; its text never holds input
│   └── WebhookUnreadable   properly signed, but not a body that we can read: kept and parked
├── IntakeFull              the queue is full, or the database cannot be written: 503
├── Crowded                 too many requests wait for a customer already: 503
├── DatabaseBusy            another process owns the database
├── DatabaseUnavailable     the database cannot be read or written now
├── DatabaseDamaged         the database's file is not whole
├── DatabaseOutdated        the schema is not the one this release needs
├── EnsureFailed            for apps: there is no customer id to be had (see `counterfoil.client`)
│   ├── UserUnknown         Clerk has no such user
│   ├── UserDeleted         the user is gone
│   ├── CustomerParked      a person must decide something first; ``reason`` says what
│   ├── NoCustomer          the user is to have none as things stand; ``reason`` says why
│   └── NotYet              it takes longer; ``location`` says where to look
└── UpstreamError           a call to Clerk or Stripe did not succeed
    ├── Unreachable         no answer: time-out, refused or cut connection (may have taken effect)
    ├── ServerFailed        5xx (may have taken effect)
    │   └── ReplayedFailure   Stripe's stored 5xx for this key (facts 3.3)
    ├── RateLimited         429 of a limiter: nothing was done
    ├── ObjectLocked        429 lock_timeout or 409: busy with this one object; nothing was done
    ├── KeyRefused          401 or 403: the key, not the link
    ├── NotFound            404, or Stripe's resource_missing
    ├── KeyReused           idempotency_error: this key was used with other parameters
    ├── Rejected            the request itself is refused; trying it again is useless
    └── Paused              not sent: the upstream's breaker is open, or the lease is too short
"""


class CounterfoilError(Exception):
    """The root of the tree."""


class ConfigurationError(CounterfoilError):
    """A setting is missing or wrong."""


class WrongEnvironment(ConfigurationError):
    """The keys are of another environment than the one this database is pinned to."""


class BadSubject(CounterfoilError):
    """Not a Clerk user id."""


class AlertRefused(CounterfoilError):
    """The receiver of alerts did not take one; its text never holds the receiver's address."""


class OwnFunctionFailed(CounterfoilError):
    """The user's own function could not be used; the text may quote the user's data."""


class WebhookRefused(CounterfoilError):
    """A delivery that is answered 400."""


class WebhookUnreadable(WebhookRefused):
    """A body that is properly signed and still cannot be read."""


class IntakeFull(CounterfoilError):
    """The delivery cannot be taken now; Svix will bring it again."""


class Crowded(CounterfoilError):
    """Too many requests wait already."""


class DatabaseBusy(CounterfoilError):
    """Another process owns the database."""


class DatabaseUnavailable(CounterfoilError):
    """The database cannot be read or written now.

    Nothing of the work was kept; or, where the connection was lost while it was being committed, nobody knows.
    """


class DatabaseDamaged(CounterfoilError):
    """The database's file is not whole: a backup is to be restored."""


class DatabaseOutdated(CounterfoilError):
    """The database's schema is not the one this release needs."""


class EnsureFailed(CounterfoilError):
    """There is no customer id to be had."""


class UserUnknown(EnsureFailed):
    """Clerk has no such user."""


class UserDeleted(EnsureFailed):
    """The user is gone, and so is the customer, or soon will be."""


class CustomerParked(EnsureFailed):
    """A person must decide something first. ``reason``: one of the reasons to park."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoCustomer(EnsureFailed):
    """As things stand the user is to have no customer. ``reason``: ``no_email`` and the like."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotYet(EnsureFailed):
    """It is asked for, and will be done. ``location``: the path that tells how it stands."""

    def __init__(self, message: str, location: str) -> None:
        super().__init__(message)
        self.location = location


class UpstreamError(CounterfoilError):
    """A call to Clerk or Stripe did not succeed.

    Attributes:
        upstream: ``"clerk"`` or ``"stripe"``.
        status: the HTTP status; 0 where there was no answer.
        code: the vendor's own code, or "".
        request_id: what the vendor's support asks for, or "".
        retry_after: seconds that the vendor asked us to wait, or ``None``.
    """

    def __init__(
        self,
        message: str,
        *,
        upstream: str,
        status: int = 0,
        code: str = "",
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.upstream = upstream
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after


class Unreachable(UpstreamError):
    """No answer came; the request may have taken effect."""


class ServerFailed(UpstreamError):
    """5xx; the request may have taken effect."""


class ReplayedFailure(ServerFailed):
    """Stripe replayed a stored 5xx: this key will not bring anything else (facts 3.3)."""


class RateLimited(UpstreamError):
    """A limiter refused the call before anything was done."""


class ObjectLocked(UpstreamError):
    """Somebody else is busy with this very object, or with this very key."""


class KeyRefused(UpstreamError):
    """401 or 403: the API key is wrong, rolled, or lacks a permission."""


class NotFound(UpstreamError):
    """The object is not there."""


class KeyReused(UpstreamError):
    """The idempotency key was used with other parameters before."""


class Rejected(UpstreamError):
    """The request itself is refused; the same request will be refused again."""


class Paused(UpstreamError):
    """The call was not sent. ``retry_after`` says when to come back."""
