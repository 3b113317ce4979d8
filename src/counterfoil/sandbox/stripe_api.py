"""Stripe's API over `StripeState`, in the order in which Stripe does things to a request.

Key, limits, permission, idempotency key, validation, lock, execution. Sources: Stripe's pages on errors,
rate limits, idempotent requests and restricted keys.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Literal

from counterfoil.sandbox.limits import Window
from counterfoil.sandbox.messages import Answer, Handled, Request, json_answer
from counterfoil.sandbox.stripe import StripeState
from counterfoil.sandbox.stripe_endpoints import Endpoints
from counterfoil.sandbox.stripe_forms import Invalid, Params, decode
from counterfoil.sandbox.stripe_idempotency import Entry

API_VERSION = "2026-10-28.endive"

_Headers = dict[str, str]

_ROUTES: dict[tuple[str, ...], dict[str, str]] = {
    ("customers",): {"GET": "customers.list", "POST": "customers.create"},
    ("customers", ""): {"GET": "customers.list", "POST": "customers.create"},
    ("customers", "search"): {"GET": "customers.search"},
    ("customers", "*"): {
        "GET": "customers.retrieve",
        "POST": "customers.update",
        "DELETE": "customers.delete",
    },
    ("customers", "*", "payment_methods"): {"GET": "customers.payment_methods"},
    ("account",): {"GET": "account.retrieve"},
    ("subscriptions",): {"GET": "subscriptions.list"},
    ("subscriptions", "*"): {
        "GET": "subscriptions.retrieve",
        "POST": "subscriptions.update",
        "DELETE": "subscriptions.cancel",
    },
    ("payment_methods",): {"GET": "payment_methods.list"},
    ("payment_intents",): {"GET": "payment_intents.list"},
}


@dataclass(frozen=True, slots=True)
class Run:
    """How a request is to run. All times are Unix seconds.

    `effect`: "done" at once, as usual; "none": executed in vain; "late": a creation happens at `effect_at`
    (other writes at once, or in vain when they fail). `fails`: the answer is a 500, and is what the key
    stores. Until `answered_at` the key is in flight and the object locked.
    """

    effect: Literal["done", "none", "late"]
    effect_at: float
    answered_at: float
    fails: bool = False


def stripe_error(status: int, message: str, headers: _Headers | None = None, **fields: str | None) -> Answer:
    """Stripe's error body; `type` follows from the status unless given."""
    kind = fields.pop("type", None) or ("api_error" if status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": message}
    error.update({name: value for name, value in fields.items() if value is not None})
    return json_answer(status, {"error": error}, headers)


def failure() -> Answer:
    """The 500 of a request that went wrong inside."""
    return stripe_error(500, "An unknown error occurred")


class StripeApi:
    """Answers requests to /v1/... as one Stripe account."""

    def __init__(self, state: StripeState) -> None:
        self._state = state
        self._endpoints = Endpoints(state)

    def operation(self, request: Request) -> str:
        """The operation's name: for limits, the call log and planned faults."""
        parts = request.segments()
        names = _ROUTES.get(tuple(parts))
        if names is None and len(parts) > 1 and parts[1]:
            names = _ROUTES.get((parts[0], "*", *parts[2:]))
        return (names or {}).get(request.method, "unknown")

    def handle(self, request: Request, now: float, run: Run) -> Handled:
        """Answer one request that arrives at `now` and runs as `run` says."""
        state = self._state
        state.advance(now)
        operation = self.operation(request)
        parts = request.segments()
        subject = parts[1] if len(parts) > 1 and parts[0] == "customers" and parts[1] != "search" else None
        refused = self._authenticate(request) or self._limit(operation, now) or self._permit(operation)
        if refused is not None:
            handled = Handled(refused, subject)
        else:
            handled = self._execute(request, operation, subject, now, run)
        return replace(handled, answer=self.dressed(request, handled.answer, now, run.answered_at))

    def dressed(self, request: Request, answer: Answer, now: float, answered_at: float) -> Answer:
        """The answer with the headers that Stripe puts on every one."""
        at = answered_at if self._state.settings.dates_at_answer else now
        headers = {
            "Date": formatdate(at, usegmt=True),
            "Request-Id": self._state.identifiers.make("req_", 14),
            "Stripe-Version": request.headers.get("stripe-version", API_VERSION),
            **answer.headers,
        }
        key = request.headers.get("idempotency-key")
        if key is not None and request.method == "POST":
            headers["Idempotency-Key"] = key
        return Answer(answer.status, headers, answer.body)

    # Before execution.

    def _authenticate(self, request: Request) -> Answer | None:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            credential = base64.b64decode(credential).decode().partition(":")[0]
        elif scheme.lower() != "bearer":
            return stripe_error(401, "You did not provide an API key.")
        if credential == self._state.secret_key:
            return None
        if credential in self._state.expired_keys:
            return stripe_error(401, "Expired API Key provided", code="api_key_expired")
        return stripe_error(401, f"Invalid API Key provided: {credential[:8]}****")

    def _limit(self, operation: str, now: float) -> Answer | None:
        windows: list[tuple[str, Window]] = [
            ("global-rate", self._state.global_window),
            ("endpoint-rate", self._state.endpoint_window(operation)),
        ]
        for reason, window in windows:
            if window.wait(now) > 0.0:
                return rate_limited(reason)
        for _, window in windows:
            window.take(now)
        return None

    def _permit(self, operation: str) -> Answer | None:
        if operation not in self._state.forbidden:
            return None
        noun, verb = operation.split(".")
        need = "read" if verb in {"list", "retrieve", "search"} else "write"
        permission = f"rak_{noun.removesuffix('s')}_{need}"
        message = f"The provided key does not have the required permissions: {permission}."
        return stripe_error(403, message, code="more_permissions_required")

    # Execution.

    def _execute(self, request: Request, operation: str, subject: str | None, now: float, run: Run) -> Handled:
        try:
            text = request.query if request.method == "GET" else request.body.decode()
            params = decode(text)
        except Invalid as invalid:
            return Handled(_refusal(invalid), subject)
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        if key is not None:
            known = self._recall(key, request.path, params, now)
            if known is not None:
                return replace(known, subject=known.subject or subject)
        try:
            self._endpoints.validate(operation, params)
        except Invalid as invalid:
            if not invalid.stored:
                return Handled(_refusal(invalid), subject)
            return self._store(key, request, params, now, run, Handled(_refusal(invalid), subject))
        if operation in {"customers.update", "customers.delete"} and subject is not None:
            locked = self._lock(subject, now, run.answered_at)
            if locked is not None:
                return Handled(locked, subject)
        return self._store(key, request, params, now, run, self._run(operation, params, request, run))

    def _run(self, operation: str, params: Params, request: Request, run: Run) -> Handled:
        parts = request.segments()
        subject = parts[1] if len(parts) > 1 else None
        late = run.effect == "late" and operation == "customers.create"
        in_vain = run.effect == "none" or (run.effect == "late" and not late and run.fails)
        if in_vain and request.method != "GET":
            return Handled(failure(), subject)
        try:
            handled = self._endpoints.run(operation, parts, params, run.effect_at, late=late)
        except Invalid as invalid:
            return Handled(_refusal(invalid), subject)
        return replace(handled, answer=failure()) if run.fails else handled

    def _recall(self, key: str, path: str, params: Params, now: float) -> Handled | None:
        if len(key) > 255:
            return Handled(stripe_error(400, "Idempotency keys may have up to 255 characters."))
        entry = self._state.keys.find(key, now)
        if entry is None:
            return None
        if entry.path != path or entry.params != params:
            message = "A key can only be used with the same parameters it was first used with."
            return Handled(stripe_error(400, message, type="idempotency_error"))
        if entry.answer is None or now < entry.answered_at:
            message = f"There is currently another in-progress request using this Idempotent Key: {key}"
            headers = {"Stripe-Should-Retry": "true"}
            code = "idempotency_key_in_use"
            return Handled(stripe_error(409, message, headers, code=code))
        headers = {"Idempotent-Replayed": "true", "Original-Request": entry.request_id}
        answer = Answer(entry.answer.status, {**entry.answer.headers, **headers}, entry.answer.body)
        return Handled(answer, entry.subject, replayed=True)

    def _store(
        self, key: str | None, request: Request, params: Params, now: float, run: Run, handled: Handled
    ) -> Handled:
        if key is not None:
            request_id = self._state.identifiers.make("req_", 14)
            answer = handled.answer
            answer = Answer(answer.status, {**answer.headers, "Request-Id": request_id}, answer.body)
            entry = Entry(request.path, params, now, run.answered_at, request_id, handled.subject, handled.answer)
            self._state.keys.begin(key, entry)
            handled = replace(handled, answer=answer)
        return handled

    def _lock(self, subject: str, now: float, until: float) -> Answer | None:
        busy = self._state.busy
        if busy.get(subject, 0.0) > now:
            message = "This object cannot be accessed right now because another request is using it."
            headers = {"Stripe-Should-Retry": "true"}
            return stripe_error(429, message, headers, code="lock_timeout")
        if len(busy) > 10_000:
            for identifier in [identifier for identifier, end in busy.items() if end <= now]:
                del busy[identifier]
        busy[subject] = until
        return None


def rate_limited(reason: str = "endpoint-rate") -> Answer:
    """A 429 by a limiter. No Retry-After: Stripe documents none."""
    headers = {"Stripe-Rate-Limited-Reason": reason}
    return stripe_error(429, "Request rate limit exceeded.", headers, code="rate_limit")


def _refusal(invalid: Invalid) -> Answer:
    return stripe_error(invalid.status, str(invalid), code=invalid.code, param=invalid.param)
