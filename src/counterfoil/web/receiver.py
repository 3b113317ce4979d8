"""The webhook endpoint, as a bare ASGI callable: on this path nothing stands between us and the server.

What it answers, and when (Svix takes any 2xx for success and tries all else again; facts 1.2):

====  ==========================================================================================
204   the news is on disk; or signed but unreadable, and kept; or of a type that is of no concern
400   not genuine, or stale; or the body ended early
405   not a POST
408   the body did not come in time
413   the body is too large
503   it cannot be written now
====  ==========================================================================================

Svix stores answers and shows them, so no answer holds anything of the request.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import Receive, Scope, Send

from counterfoil.clerk.webhook import SIGNING_HEADERS, Decoder, Ignored, Refusal, Unreadable, Verifier
from counterfoil.core.news import UserDeleted, UserEvent
from counterfoil.errors import IntakeFull, WebhookRefused, WebhookUnreadable

Take = Callable[[UserEvent | UserDeleted | Unreadable], Awaitable[None]]
"""Returns when its argument is on disk, or raises `IntakeFull`."""

BODY_LIMIT = 1024 * 1024
READ_SECONDS = 10.0
"""For the whole body. Svix gives up after 15 s."""
RETRY_AFTER = b"5"
"""Svix's second try comes after 5 s anyway."""
TYPES_LIMIT = 50
"""So many ignored types have a metric of their own; the rest share one."""

_NAMES = {name.encode(): name for name in (*SIGNING_HEADERS, "content-length")}
_LENGTH = re.compile(r"[0-9]{1,20}")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)


class _Disconnected(Exception):
    """The client has gone, or has ended its side in the middle of the body."""


class _TooSlow(Exception):
    """The body did not come in time."""


class _TooLarge(Exception):
    """The body is over the limit."""


class _Deadlines:
    """Cancels reads that take too long. One timer serves all: a time-out of its own for each read
    (`asyncio.timeout`) took 4 µs, this 0.7."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._reading: dict[asyncio.Task[object], float] = {}  # oldest first, as all have the same time
        self._armed = False

    async def watch(self, reading: Awaitable[bytes]) -> bytes:
        """Await ``reading``, or raise `_TooSlow`."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        self._reading[task] = loop.time() + self._seconds
        if not self._armed:
            self._armed = True
            loop.call_later(self._seconds, self._sweep)
        try:
            return await reading
        except asyncio.CancelledError:
            # Cancelled by us, and by nobody else besides: as `asyncio.timeout` tells them apart.
            if task not in self._reading and task.uncancel() == 0:
                raise _TooSlow from None
            raise
        finally:
            self._reading.pop(task, None)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._reading:
            task, deadline = next(iter(self._reading.items()))
            if deadline > now:
                loop.call_at(deadline, self._sweep)
                return
            del self._reading[task]
            task.cancel()
        self._armed = False


class _Figures:
    """What the receiver counts, with every label bound beforehand."""

    def __init__(self, registry: CollectorRegistry) -> None:
        outcomes = Counter(
            "counterfoil_deliveries", "Deliveries by what became of them.", ["outcome"], registry=registry
        )
        refused = Counter(
            "counterfoil_deliveries_refused", "Refused deliveries by reason.", ["reason"], registry=registry
        )
        self.taken = outcomes.labels("taken")
        self.ignored = outcomes.labels("ignored")
        self.unreadable = outcomes.labels("unreadable")
        self.refused = outcomes.labels("refused")
        self.full = outcomes.labels("full")
        self.too_large = outcomes.labels("too_large")
        self.too_slow = outcomes.labels("too_slow")
        self.disconnected = outcomes.labels("disconnected")
        self.not_post = outcomes.labels("not_post")
        self.reasons = {str(reason): refused.labels(reason.name.lower()) for reason in Refusal}
        self._types = Counter(
            "counterfoil_ignored_events", "Signed events of no concern, by type.", ["type"], registry=registry
        )
        self._known: set[str] = set()
        self.seconds = Histogram(
            "counterfoil_delivery_seconds",
            "From the request's head to the answer, of genuine deliveries.",
            buckets=_BUCKETS,
            registry=registry,
        )

    def ignore(self, kind: str) -> None:
        self.ignored.inc()
        if kind not in self._known:
            if len(self._known) >= TYPES_LIMIT:
                kind = "other"
            self._known.add(kind)
        self._types.labels(kind).inc()


class Receiver:
    """An ASGI application of one endpoint; whoever mounts it chooses the path."""

    def __init__(
        self,
        verifier: Verifier,
        decoder: Decoder,
        take: Take,
        registry: CollectorRegistry,
        *,
        now: Callable[[], int],
        body_limit: int = BODY_LIMIT,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        """Bind the parts.

        Args:
            verifier: says whether a delivery is genuine.
            decoder: reads its body.
            take: writes what it says, durably.
            registry: where the metrics go.
            now: the time, in milliseconds.
            body_limit: bytes.
            read_seconds: for the whole body.
        """
        self._verifier = verifier
        self._decoder = decoder
        self._take = take
        self._figures = _Figures(registry)
        self._now = now
        self._body_limit = body_limit
        self._deadlines = _Deadlines(read_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        figures = self._figures
        if scope["method"] != "POST":
            figures.not_post.inc()
            await _say(send, 405, "only POST", (b"allow", b"POST"))
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        try:
            known = _known_headers(headers)
            body = await self._body(known, receive)
            await self._deliver(known, body, send)
            figures.seconds.observe(time.perf_counter() - started)
        except WebhookRefused as error:
            reason = str(error)
            figures.refused.inc()
            figures.reasons[reason].inc()
            await _say(send, 400, reason)
        except _Disconnected:
            figures.disconnected.inc()
            await _say(send, 400, "the body ended early")
        except _TooSlow:
            figures.too_slow.inc()
            await _say(send, 408, "the body took too long")
        except _TooLarge:
            figures.too_large.inc()
            await _say(send, 413, "the body is too large")

    async def _deliver(self, known: Mapping[str, str], body: bytes, send: Send) -> None:
        figures = self._figures
        now = self._now()
        delivery = self._verifier.verify(known, body, now)
        item: UserEvent | UserDeleted | Unreadable | Ignored
        try:
            item = self._decoder.decode(body, delivery)
        except WebhookUnreadable:
            item = Unreadable(delivery, body, now)
        if isinstance(item, Ignored):
            figures.ignore(item.type)
        else:
            try:
                await self._take(item)
            except IntakeFull:
                figures.full.inc()
                await _say(send, 503, "cannot be written now", (b"retry-after", RETRY_AFTER))
                return
            (figures.unreadable if type(item) is Unreadable else figures.taken).inc()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def _body(self, known: Mapping[str, str], receive: Receive) -> bytes:
        """Read the whole body, in a limited size and time."""
        told = known.get("content-length", "")
        # What is no number is the server's affair.
        length = int(told) if _LENGTH.fullmatch(told) else None
        if length is not None and length > self._body_limit:
            raise _TooLarge
        return await self._deadlines.watch(self._parts(length, receive))

    async def _parts(self, length: int | None, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while size <= self._body_limit:
            message = await receive()
            if message["type"] != "http.request":
                raise _Disconnected
            part: bytes = message.get("body", b"")
            parts.append(part)
            size += len(part)
            # Granian tells the end in a message of its own; to wait for that would cost a round between
            # its threads, and a body is never longer than its Content-Length.
            if (size == length or not message.get("more_body", False)) and size <= self._body_limit:
                return b"".join(parts)
        raise _TooLarge


def _known_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that are used here; one that is there twice refuses the delivery."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name = _NAMES.get(raw)
        if name is not None:
            if name in found:
                raise WebhookRefused(Refusal.DOUBLED)
            found[name] = value.decode("latin-1")  # never fails; the verifier refuses what is not ASCII
    return found


async def _say(send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    body = text.encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [_TEXT, length, *headers]})
    await send({"type": "http.response.body", "body": body})
