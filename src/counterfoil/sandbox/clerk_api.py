"""Clerk's Backend API over `ClerkState`: routes, authentication, versions, limits and error bodies.

Rules from Clerk's OpenAPI files, its error catalogue and its pages on versioning and system limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast
from urllib.parse import parse_qs

import msgspec

from counterfoil.sandbox.clerk import ClerkState, MetadataField
from counterfoil.sandbox.clerk_lists import Refusal, count_users, list_users
from counterfoil.sandbox.clerk_user import Json, NewUser, User, deleted_body, merge, user_body
from counterfoil.sandbox.limits import Window
from counterfoil.sandbox.messages import Answer, Handled, Request, json_answer

NEWEST_VERSION = "2026-05-12"
VERSIONS = frozenset({"2021-02-05", "2024-10-01", "2025-04-10", "2025-11-10", NEWEST_VERSION})
METADATA: frozenset[str] = frozenset({"public_metadata", "private_metadata", "unsafe_metadata"})
METADATA_LIMIT = 8 * 1024

_PLAIN_FIELDS = frozenset({"first_name", "last_name", "username", "external_id", "locale"})
# Known to Clerk and without a meaning here: they are taken and ignored.
_IGNORED_FIELDS = frozenset(
    {
        "password",
        "skip_password_checks",
        "skip_password_requirement",
        "skip_legal_checks",
        "notify_primary_email_address_changed",
        "delete_self_enabled",
        "create_organization_enabled",
    }
)
_Handler = Callable[[Request, float, str], Handled]


def clerk_error(status: int, code: str, message: str, **headers: str) -> Answer:
    """Clerk's error body. Header names are given with underscores for hyphens."""
    body = {
        "errors": [{"message": message, "long_message": message, "code": code}],
        "clerk_trace_id": "trace_sandbox",
    }
    return json_answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class ClerkApi:
    """Answers requests to /v1/... as one Clerk instance."""

    def __init__(self, state: ClerkState) -> None:
        self._state = state
        self._handlers: dict[str, _Handler] = {
            "users.list": self._list,
            "users.count": self._count,
            "users.create": self._create,
            "users.get": self._get,
            "users.update": self._update,
            "users.delete": self._delete,
            "users.merge_metadata": self._metadata,
            "users.replace_metadata": self._metadata,
            "instance.get": self._instance,
        }

    def operation(self, request: Request) -> str:
        """The operation's name in the call log and for planned faults."""
        names = {
            ("users",): {"GET": "users.list", "POST": "users.create"},
            ("users", "count"): {"GET": "users.count"},
            ("users", ""): {"GET": "users.get", "PATCH": "users.update", "DELETE": "users.delete"},
            ("users", "", "metadata"): {"PATCH": "users.merge_metadata", "PUT": "users.replace_metadata"},
            ("instance",): {"GET": "instance.get"},
        }
        parts = request.segments()
        shape = tuple("" if place == 1 and part != "count" else part for place, part in enumerate(parts))
        return names.get(shape, {}).get(request.method, "unknown")

    def handle(self, request: Request, now: float) -> Handled:
        """Answer one request; what it changes is changed at `now`."""
        operation = self.operation(request)
        parts = request.segments()
        subject = parts[1] if len(parts) > 1 and parts[1] != "count" else None
        refused = self._authenticate(request) or self._version(request) or self._limit(operation, subject, now)
        if refused is not None:
            return Handled(refused, subject)
        handler = self._handlers.get(operation)
        if handler is None:
            return Handled(clerk_error(404, "resource_not_found", "No such route."), subject)
        try:
            return handler(request, now, subject or "")
        except Refusal as refusal:
            return Handled(clerk_error(refusal.status, refusal.code, str(refusal)), subject)

    # Before a handler runs.

    def _authenticate(self, request: Request) -> Answer | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            return clerk_error(401, "authentication_invalid", "Invalid authentication")
        if key != self._state.settings.secret_key:
            return clerk_error(401, "clerk_key_invalid", "The provided Clerk Secret Key is invalid.")
        return None

    def _version(self, request: Request) -> Answer | None:
        header = request.headers.get("clerk-api-version")
        query = None
        if "__clerk_api_version" in request.query:
            query = parse_qs(request.query)["__clerk_api_version"][0]
        if header is not None and query is not None:
            return clerk_error(400, "api_version_invalid", "Give the version once: by header or by query.")
        given = header or query
        if given is not None and given not in VERSIONS:
            return clerk_error(400, "api_version_invalid", f"There is no API version {given}.")
        return None

    def _limit(self, operation: str, subject: str | None, now: float) -> Answer | None:
        windows = [self._state.instance_window]
        if subject in self._state.users and operation in _PER_USER and self._state.user_limit is not None:
            windows.append(self._user_window(subject, now))
        wait = max(window.wait(now) for window in windows)
        if wait > 0.0:
            seconds = str(max(1, math.ceil(wait)))
            return clerk_error(429, "too_many_requests", "Too many requests.", Retry_After=seconds)
        for window in windows:
            window.take(now)
        return None

    def _user_window(self, user_id: str, now: float) -> Window:
        windows = self._state.user_windows
        if len(windows) > 10_000:
            for key in [key for key, window in windows.items() if window.idle(now)]:
                del windows[key]
        return windows.setdefault(user_id, Window(self._state.user_limit, 10.0))

    # Handlers.

    def _instance(self, request: Request, now: float, subject: str) -> Handled:
        settings = self._state.settings
        body = {
            "object": "instance",
            "id": settings.instance_id,
            "environment_type": settings.environment_type,
            "allowed_origins": None,
            "workspace_id": None,
        }
        return Handled(json_answer(200, body))

    def _list(self, request: Request, now: float, subject: str) -> Handled:
        users = list_users(self._state, parse_qs(request.query, keep_blank_values=True))
        return Handled(json_answer(200, [user_body(user) for user in users]))

    def _count(self, request: Request, now: float, subject: str) -> Handled:
        total = count_users(self._state, parse_qs(request.query, keep_blank_values=True))
        return Handled(json_answer(200, {"object": "total_count", "total_count": total}))

    def _get(self, request: Request, now: float, subject: str) -> Handled:
        return Handled(json_answer(200, user_body(self._find(subject))), subject)

    def _create(self, request: Request, now: float, subject: str) -> Handled:
        body = _read(request, _PLAIN_FIELDS | _IGNORED_FIELDS | METADATA | {"email_address", "phone_number"})
        emails = body.get("email_address") or []
        for email in emails:
            if email.lower() in self._state.by_email:
                raise Refusal(422, "form_identifier_exists", "That email address is taken.")
        fields = {name: body[name] for name in _PLAIN_FIELDS if name in body}
        fields |= {name: body[name] or {} for name in METADATA if name in body}
        fields["email"] = emails[0] if emails else None
        fields["phone"] = (body.get("phone_number") or [None])[0]
        user_id = self._state.create_user(now, **cast("NewUser", fields))
        user = self._state.users[user_id]
        for entry in user.emails:
            entry.strategy = "admin"
        for email in emails[1:]:
            self._state.add_email(now, user_id, email)
        return Handled(json_answer(200, user_body(user)), user_id, now)

    def _update(self, request: Request, now: float, subject: str) -> Handled:
        user = self._find(subject)
        allowed = _PLAIN_FIELDS | _IGNORED_FIELDS | {"primary_email_address_id"}
        if request.headers.get("clerk-api-version", NEWEST_VERSION) < NEWEST_VERSION:
            # Before 2026-05-12 this call replaced each metadata field that was sent, losing other keys.
            allowed |= METADATA
        body = _read(request, allowed)
        primary = body.get("primary_email_address_id", user.primary_email_id)
        if primary is not None and primary not in {entry.id for entry in user.emails}:
            raise Refusal(422, "form_param_value_invalid", "No such email address of this user.")
        user.primary_email_id = primary
        for name in (_PLAIN_FIELDS | METADATA) & body.keys():
            value = body[name]
            setattr(user, name, (value or {}) if name in METADATA else value)
        self._state.changed(now, user)
        return Handled(json_answer(200, user_body(user)), subject, now)

    def _metadata(self, request: Request, now: float, subject: str) -> Handled:
        user = self._find(subject)
        body = _read(request, METADATA)
        merged: dict[str, Json] = {}
        for name, value in body.items():
            if not isinstance(value, dict):
                raise Refusal(422, "form_param_value_invalid", f"{name} must be an object.")
            old = getattr(user, name) if request.method == "PATCH" else {}
            merged[name] = merge(old, value)
            if len(msgspec.json.encode(merged[name])) > METADATA_LIMIT:
                raise Refusal(422, "form_param_exceeds_allowed_size", f"{name} may hold 8 KB.")
        for name, value in merged.items():
            setattr(user, cast("MetadataField", name), value)
        self._state.changed(now, user)
        return Handled(json_answer(200, user_body(user)), subject, now)

    def _delete(self, request: Request, now: float, subject: str) -> Handled:
        user = self._find(subject)
        self._state.delete_user(now, subject)
        return Handled(json_answer(200, deleted_body(user)), subject, now)

    def _find(self, user_id: str) -> User:
        user = self._state.users.get(user_id)
        if user is None:
            raise Refusal(404, "resource_not_found", f"No user was found with id {user_id}.")
        return user


_PER_USER = frozenset({"users.update", "users.merge_metadata", "users.replace_metadata"})


def _read(request: Request, allowed: frozenset[str]) -> Json:
    try:
        body = msgspec.json.decode(request.body or b"{}")
    except msgspec.DecodeError:
        body = None
    if not isinstance(body, dict):
        raise Refusal(400, "request_body_invalid", "The body is not a JSON object.")
    for name in body:
        if name not in allowed:
            raise Refusal(422, "form_param_unknown", f"{name} is not a valid parameter for this request.")
    return body
