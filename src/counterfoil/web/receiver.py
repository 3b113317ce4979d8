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

from prometheus_client import CollectorRegistry, Counter, Histogram

from counterfoil.clerk.webhook import SIGNING_HEADERS, Decoder, Ignored, Refusal, Unreadable, Verifier
from counterfoil.core.news import UserDeleted, UserEvent
from counterfoil.errors import IntakeFull, WebhookRefused, WebhookUnreadable

Headers = Iterable[tuple[bytes, bytes]]
"""With lower-case names."""
Take = Callable[[UserEvent | UserDeleted | Unreadable, Callable[[bool], None]], None]
"""Calls its second argument once its first is on disk, or is not to be; or raises `IntakeFull` at once."""

BODY_LIMIT = 1024 * 1024
RETRY_AFTER = b"5"
"""Svix's second try comes after 5 s anyway."""
TYPES_LIMIT = 50
"""So many ignored types have a metric of their own; the rest share one."""

_NAMES = {name.encode(): name for name in SIGNING_HEADERS}
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)


class Reply(NamedTuple):
    """An answer; ``text`` is plain text."""

    status: int
    text: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()


_TAKEN = Reply(204)
_FULL = Reply(503, "cannot be written now", ((b"retry-after", RETRY_AFTER),))


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
            "From the whole request to the answer, of genuine deliveries.",
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
        self._figures = _Figures(registry)
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
            figures.not_post.inc()
            answer(Reply(405, "only POST", ((b"allow", b"POST"),)))
            return
        try:
            now = self._now()
            item = self._read(self._verifier.verify(_known_headers(headers), body, now), body, now)
        except WebhookRefused as error:
            reason = str(error)
            figures.refused.inc()
            figures.reasons[reason].inc()
            answer(Reply(400, reason))
            return
        if isinstance(item, Ignored):
            figures.ignore(item.type)
            figures.seconds.observe(time.perf_counter() - began)
            answer(_TAKEN)
            return

        def tell(written: bool) -> None:
            kept = figures.unreadable if type(item) is Unreadable else figures.taken
            (kept if written else figures.full).inc()
            figures.seconds.observe(time.perf_counter() - began)
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
        self._figures.too_large.inc()
        return Reply(413, "the body is too large")

    def too_slow(self) -> Reply:
        """To a body that did not come in time."""
        self._figures.too_slow.inc()
        return Reply(408, "the body took too long")

    def ended(self) -> Reply:
        """To a client that has gone, or has ended its side, in the middle of the body."""
        self._figures.disconnected.inc()
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
