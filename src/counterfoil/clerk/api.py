"""The few endpoints of Clerk's Backend API that Counterfoil needs (facts 2).

Own code, because the official client cannot do it: it drops ``starting_after``, fails a whole page for one
unknown value, retries for an hour, and takes 11.7 ms of CPU a call. Tests hold both against one sandbox.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
import structlog

from counterfoil.clerk.body import BodyReader
from counterfoil.core.news import UserBody
from counterfoil.core.policy import LinkBack
from counterfoil.core.reading import NOT_JSON, elements
from counterfoil.errors import (
    BadSubject,
    KeyRefused,
    NotFound,
    ObjectLocked,
    RateLimited,
    Rejected,
    ServerFailed,
    Unreachable,
    UpstreamError,
    WebhookUnreadable,
)
from counterfoil.upstream.gate import Gate, Ticket

API_VERSION = "2026-05-12"
PAGE = 500
"""Users a page: the most that Clerk gives."""
_AT_A_STRETCH = 50
"""Users of a page that are read at a stretch: a whole page takes 10 ms, and answers and deliveries wait."""
TIMEOUT = aiohttp.ClientTimeout(total=20, connect=5)

# How Clerk begins a user: it identifies one that cannot be read.
_FIRST_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"(user_[0-9A-Za-z_-]{1,120})"')
_UNREADABLE = (*NOT_JSON, BadSubject, WebhookUnreadable)

_log = structlog.get_logger(__name__)


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Transport = Callable[[str, str, Mapping[str, str], bytes | None], Awaitable[Answer]]
"""Sends method, URL, headers and body. Raises `TimeoutError` or `OSError` where no answer comes."""


class AiohttpTransport:
    """The real network. Made inside an event loop; the session is opened with the first call."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        try:
            async with self._session.request(
                method, url, headers=headers, data=body, allow_redirects=False
            ) as response:
                content = await response.read()
                names = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, names, content)
        except aiohttp.ClientError as error:
            raise OSError(type(error).__name__) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class Instance(msgspec.Struct, frozen=True):
    """The Clerk instance that a secret key belongs to."""

    id: str
    environment_type: str


class _Error(msgspec.Struct):
    code: str = ""


class _Errors(msgspec.Struct):
    errors: list[_Error] = []
    clerk_trace_id: str = ""


class UserPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of users."""

    users: list[UserBody]
    """Those that can be read."""
    unread: tuple[str, ...] = ()
    """The ids of the others, as far as they can be told: they are there."""
    more: bool
    """As many were listed as were asked for, read or not: there may be more."""
    last: str | None
    """The id of the last one, read or not, to go on after; ``None``: nobody was listed."""


class ClerkApi:
    """Clerk's Backend API. Every method raises `UpstreamError` where it has no answer to give."""

    def __init__(self, key: str, base: str, gate: Gate, transport: Transport, reader: BodyReader) -> None:
        """Args:
        key: the secret key (``sk_...``).
        base: ``CLERK_API_URL``, without ``/v1``.
        gate: quota and breaker.
        transport: sends the requests.
        reader: reads users.
        """
        self._headers = {
            "authorization": f"Bearer {key}",
            "clerk-api-version": API_VERSION,
            "content-type": "application/json",
            "user-agent": "counterfoil",
        }
        self._base = base.rstrip("/") + "/v1"
        self._gate = gate
        self._transport = transport
        self.reader = reader

    async def instance(self, ticket: Ticket) -> Instance:
        """``GET /instance``."""
        answer = await self._call("instance", ticket, "GET", "/instance")
        instance: Instance = _decoded(answer, Instance)
        return instance

    async def count(self, ticket: Ticket) -> int:
        """How many users the instance has."""
        answer = await self._call("users.count", ticket, "GET", "/users/count")
        return int(_decoded(answer, dict[str, Any])["total_count"])

    async def user(self, subject_id: str, ticket: Ticket) -> UserBody:
        """``GET /users/{id}``; `NotFound` where there is none."""
        answer = await self._call("users.get", ticket, "GET", f"/users/{quote(subject_id, safe='')}")
        return self._user(answer.body)

    async def users(self, ticket: Ticket, *, limit: int = PAGE, **query: str | int) -> UserPage:
        """One page of ``GET /users``: a bare array. Users that cannot be read are left out, and logged."""
        # urlencode writes a leading + as %2B, as Clerk wants it.
        path = f"/users?{urlencode({'limit': limit, **query})}"
        return await self._page(await self._call("users.list", ticket, "GET", path), limit)

    async def _page(self, answer: Answer, limit: int) -> UserPage:
        listed = _users(answer)
        users: list[UserBody] = []
        unread: list[str] = []
        last: str | None = None
        for number, raw in enumerate(listed, 1):
            if number % _AT_A_STRETCH == 0:
                await asyncio.sleep(0)
            identified = _FIRST_ID.match(bytes(raw))
            last = identified[1].decode() if identified is not None else last
            try:
                users.append(self.reader.read(raw))
                last = users[-1].subject_id
            except _UNREADABLE as error:
                unread += [identified[1].decode()] if identified is not None else []
                _log.warning("clerk.user_unreadable", error=type(error).__name__)
        return UserPage(users=users, unread=tuple(unread), more=len(listed) >= limit, last=last)

    async def these_users(self, subject_ids: Sequence[str], ticket: Ticket) -> UserPage:
        """Those of up to 100 users that there are: one call, however many."""
        query = [("limit", str(PAGE)), *(("user_id", each) for each in subject_ids)]
        answer = await self._call("users.list", ticket, "GET", f"/users?{urlencode(query)}")
        return await self._page(answer, PAGE)

    async def write_link_back(
        self, subject_id: str, customer_id: str, place: LinkBack, ticket: Ticket
    ) -> UserBody:
        """Merge the customer's id into the user's metadata; other keys stay (facts 2.2)."""
        field = "private_metadata" if place is LinkBack.PRIVATE else "public_metadata"
        body = msgspec.json.encode({field: {self.reader.link_back_key: customer_id}})
        path = f"/users/{quote(subject_id, safe='')}/metadata"
        answer = await self._call("users.metadata", ticket, "PATCH", path, body)
        return self._user(answer.body)

    def _user(self, body: bytes) -> UserBody:
        try:
            return self.reader.read(body)
        except _UNREADABLE as error:
            raise Rejected("a user that cannot be read", upstream="clerk", status=200) from error

    async def _call(
        self, operation: str, ticket: Ticket, method: str, path: str, body: bytes | None = None
    ) -> Answer:
        async def send() -> Answer:
            try:
                answer = await self._transport(method, self._base + path, self._headers, body)
            except (TimeoutError, OSError) as error:
                raise Unreachable(f"clerk: {type(error).__name__}", upstream="clerk") from error
            if answer.status != 200:
                raise _translated(answer)
            return answer

        return await self._gate.call(operation, ticket, send)


def _users(answer: Answer) -> Sequence[bytes | msgspec.Raw]:
    """A page's users, each by itself. One whose metadata is nested too deeply must not hide all the others."""
    try:
        return msgspec.json.decode(answer.body, type=list[msgspec.Raw])
    except RecursionError:
        return elements(answer.body)
    except NOT_JSON as error:
        raise _not_understood() from error


def _decoded(answer: Answer, kind: Any) -> Any:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except NOT_JSON as error:
        raise _not_understood() from error


def _not_understood() -> Unreachable:
    return Unreachable("clerk: an answer that is not understood", upstream="clerk", status=200)


def _translated(answer: Answer) -> UpstreamError:
    """Clerk's error as one of ours: the status first, then the code (facts 2.1)."""
    try:
        told = msgspec.json.decode(answer.body, type=_Errors)
    except NOT_JSON:
        told = _Errors()
    code = told.errors[0].code[:64] if told.errors else ""
    kinds: dict[int, type[UpstreamError]] = {
        401: KeyRefused,
        403: KeyRefused,
        404: NotFound,
        408: Unreachable,
        409: ObjectLocked,
        429: RateLimited,
    }
    status = answer.status
    kind = kinds.get(status, ServerFailed if status >= 500 or status < 400 else Rejected)
    return kind(
        f"clerk: {status} {code}",
        upstream="clerk",
        status=status,
        code=code,
        request_id=told.clerk_trace_id[:64],
        retry_after=_seconds(answer.headers.get("retry-after")),
    )


def _seconds(text: str | None) -> float | None:
    """``Retry-After`` in seconds, within reason."""
    return min(float(text), 3600.0) if text is not None and text.isdecimal() else None
