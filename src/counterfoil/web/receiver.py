"""The webhook endpoint: what is answered to what. How requests come in is `front`'s affair.

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

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from counterfoil.clerk.webhook import SIGNING_HEADERS, Decoder, Ignored, Refusal, Unreadable, Verifier
from counterfoil.core.news import UserDeleted, UserEvent
from counterfoil.errors import IntakeFull, WebhookRefused, WebhookUnreadable
from counterfoil.web.delivery_figures import DeliveryFigures

Headers = Iterable[tuple[bytes, bytes]]
"""With lower-case names."""
Take = Callable[[UserEvent | UserDeleted | Unreadable, Callable[[bool], None]], None]
"""Calls its second argument once its first is on disk, or is not to be; or raises `IntakeFull` at once."""

BODY_LIMIT = 1024 * 1024
RETRY_AFTER = b"5"
"""Svix's second try comes after 5 s anyway."""

_NAMES = {name.encode(): name for name in SIGNING_HEADERS}


class Reply(NamedTuple):
    """An answer; ``text`` is plain text."""

    status: int
    text: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()


_TAKEN = Reply(204)
_FULL = Reply(503, "cannot be written now", ((b"retry-after", RETRY_AFTER),))


class Receiver:
    """Says whether deliveries are genuine, hands on what they say, and answers once that is written."""

    def __init__(
        self,
        verifier: Verifier,
        decoder: Decoder,
        take: Take,
        registry: CollectorRegistry,
        *,
        now: Callable[[], int],
        body_limit: int = BODY_LIMIT,
    ) -> None:
        """Bind the parts.

        Args:
            verifier: says whether a delivery is genuine.
            decoder: reads its body.
            take: writes what it says, durably.
            registry: where the metrics go.
            now: the time, in milliseconds.
            body_limit: bytes.
        """
        self._verifier = verifier
        self._decoder = decoder
        self._take = take
        self._figures = DeliveryFigures(registry)
        self._now = now
        self.body_limit = body_limit

    def deliver(self, method: bytes, headers: Headers, body: bytes, answer: Callable[[Reply], None]) -> None:
        """Take one whole request. ``answer`` is called once, now or when the news is on disk; it must not raise.

        Not a coroutine: a task for each delivery, and a future to wait for its commit, cost more than all that
        is done here.
        """
        began = time.perf_counter()
        figures = self._figures
        if method != b"POST":
            figures.outcomes["not_post"] += 1
            answer(Reply(405, "only POST", ((b"allow", b"POST"),)))
            return
        try:
            now = self._now()
            item = self._read(self._verifier.verify(_known_headers(headers), body, now), body, now)
        except WebhookRefused as error:
            reason = str(error)
            figures.refuse(reason)
            answer(Reply(400, reason))
            return
        if isinstance(item, Ignored):
            figures.ignore(item.type)
            figures.took(time.perf_counter() - began)
            answer(_TAKEN)
            return

        def tell(written: bool) -> None:
            kept = "unreadable" if type(item) is Unreadable else "taken"
            figures.outcomes[kept if written else "full"] += 1
            figures.took(time.perf_counter() - began)
            answer(_TAKEN if written else _FULL)

        try:
            self._take(item, tell)
        except IntakeFull:
            tell(False)

    def _read(self, delivery: str, body: bytes, now: int) -> UserEvent | UserDeleted | Unreadable | Ignored:
        try:
            return self._decoder.decode(body, delivery)
        except WebhookUnreadable:
            return Unreadable(delivery, body, now)

    def too_large(self) -> Reply:
        """To a body over the limit."""
        self._figures.outcomes["too_large"] += 1
        return Reply(413, "the body is too large")

    def too_slow(self) -> Reply:
        """To a body that did not come in time."""
        self._figures.outcomes["too_slow"] += 1
        return Reply(408, "the body took too long")

    def ended(self) -> Reply:
        """To a client that has gone, or has ended its side, in the middle of the body."""
        self._figures.outcomes["disconnected"] += 1
        return Reply(400, "the body ended early")


def _known_headers(headers: Headers) -> dict[str, str]:
    """The headers that are used here; one that is there twice refuses the delivery."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name = _NAMES.get(raw)
        if name is not None:
            if name in found:
                raise WebhookRefused(Refusal.DOUBLED)
            found[name] = value.decode("latin-1")  # never fails; the verifier refuses what is not ASCII
    return found
