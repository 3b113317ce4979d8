"""Svix as Clerk uses it: messages, signatures, the retry schedule, and deliveries that come twice or out of
order.

Sources: Svix's pages on retries, manual verification and delivery control. The driver does the posting
(`courier`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from counterfoil.sandbox.identifiers import Identifiers

# Seconds from the previous failure to attempts 2..8; the first attempt is made at once.
SCHEDULE = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
ROTATION = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SvixSettings:
    """One endpoint. Probabilities are per message; spans are (least, most) seconds, drawn evenly.

    `time_scale` 0.01 makes a retry after five minutes come after three seconds. `timeout` is for the
    driver and is not scaled. `keep` is how many settled messages stay there to be sent again.
    """

    secret: str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
    unbranded: bool = False
    time_scale: float = 1.0
    timeout: float = 15.0
    latency: tuple[float, float] = (0.0, 0.0)
    duplicate: float = 0.0
    duplicate_after: tuple[float, float] = (0.0, 5.0)
    reorder: float = 0.0
    reorder_by: tuple[float, float] = (0.0, 10.0)
    drop: float = 0.0
    keep: int = 10_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """One delivery to make. `number` counts the schedule from 1; extra deliveries have the number 0."""

    message_id: str
    number: int
    event: str
    at: float
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Message:
    """One event on its way. `delivered_at` is the time of the first 2xx; `lost` says that Svix gave up or
    dropped it.
    """

    id: str
    event: str
    body: bytes
    published_at: float
    tries: int = 0
    waiting: int = 0
    delivered_at: float | None = None
    lost: bool = False


class SvixState:
    """Messages and their schedule. Take `due` attempts, post them, and `settle` each exactly once."""

    def __init__(self, settings: SvixSettings, random: Random) -> None:
        self.settings = settings
        self.published = 0
        self.delivered = 0
        self.attempts = 0
        self.in_flight = 0
        self._random = random
        self._identifiers = Identifiers(random)
        self._secret = settings.secret
        self._old_secret: str | None = None
        self._old_until = 0.0
        self._queue: list[tuple[float, int, int, str]] = []
        self._serial = 0
        self._live: dict[str, Message] = {}
        self._settled: OrderedDict[str, Message] = OrderedDict()

    # Publishing.

    def publish(self, now: float, event: str, body: bytes) -> str:
        """Take one event; answers the message's id. Whether it is dropped, doubled or held back is drawn
        here.
        """
        settings, random = self.settings, self._random
        message = Message(self._identifiers.make("msg_", 27), event, body, now)
        self.published += 1
        self._live[message.id] = message
        if settings.drop and random.random() < settings.drop:
            message.lost = True
            self._retire(message)
            return message.id
        at = now + random.uniform(*settings.latency) if settings.latency[1] else now
        if settings.reorder and random.random() < settings.reorder:
            at += random.uniform(*settings.reorder_by)
        self._schedule(message, at, 1)
        if settings.duplicate and random.random() < settings.duplicate:
            self._schedule(message, at + random.uniform(*settings.duplicate_after), 0)
        return message.id

    def resend(self, message_id: str, now: float) -> None:
        """Send again by hand, as from the dashboard; it does not touch the automatic retries."""
        message = self._live.get(message_id) or self._settled.pop(message_id)
        self._live[message_id] = message
        self._schedule(message, now, 0)

    def resend_lost(self, now: float, since: float = float("-inf")) -> int:
        """Recover: send every message that was never delivered; answers how many."""
        lost = [m.id for m in self._settled.values() if m.lost and m.published_at >= since]
        for message_id in lost:
            self.resend(message_id, now)
        return len(lost)

    def message(self, message_id: str) -> Message:
        """One message, on its way or among the settled ones that are kept."""
        return self._live.get(message_id) or self._settled[message_id]

    def messages(self, event: str | None = None) -> list[Message]:
        """Messages still known, settled ones first."""
        known = [*self._settled.values(), *self._live.values()]
        return [message for message in known if event is None or message.event == event]

    # Delivering.

    def next_due(self) -> float | None:
        """When the next attempt is due; None when nothing waits."""
        return self._queue[0][0] if self._queue else None

    def pending(self) -> int:
        """Attempts that wait or are under way."""
        return len(self._queue) + self.in_flight

    def due(self, now: float, limit: int = 1_000) -> list[Attempt]:
        """The attempts to make now, signed now: Svix renews the timestamp and the signature on each."""
        attempts: list[Attempt] = []
        while self._queue and self._queue[0][0] <= now and len(attempts) < limit:
            _, _, number, message_id = heappop(self._queue)
            message = self._live[message_id]
            if message.delivered_at is not None and number > 1:
                # Another delivery of the same message got through meanwhile: no retry is needed.
                self._let_go(message)
                continue
            message.tries += 1
            self.attempts += 1
            self.in_flight += 1
            headers = self.sign(message_id, message.body, now)
            attempts.append(Attempt(message_id, number, message.event, now, headers, message.body))
        return attempts

    def settle(self, attempt: Attempt, status: int | None, now: float, *, abort: bool = False) -> None:
        """What became of an attempt: the HTTP status, or None for a time-out or a broken connection.

        `abort` is the receiver's header `webhook-delivery: abort-message`, which ends the retries.
        """
        self.in_flight -= 1
        message = self._live[attempt.message_id]
        if status is not None and 200 <= status < 300:
            if message.delivered_at is None:
                message.delivered_at = now
                message.lost = False
                self.delivered += 1
        elif abort or attempt.number > len(SCHEDULE):
            message.lost = message.delivered_at is None
        elif attempt.number >= 1:
            wait = SCHEDULE[attempt.number - 1] * self.settings.time_scale
            self._schedule(message, now + wait, attempt.number + 1)
        elif message.waiting == 1 and message.delivered_at is None:
            message.lost = True
        self._let_go(message)

    # Signing.

    def sign(self, message_id: str, body: bytes, now: float) -> dict[str, str]:
        """The three headers of one delivery; two signatures while a secret is being rotated."""
        timestamp = str(int(now))
        content = b".".join((message_id.encode(), timestamp.encode(), body))
        signatures = [_signature(self._secret, content)]
        if self._old_secret is not None and now < self._old_until:
            signatures.append(_signature(self._old_secret, content))
        prefix = "webhook" if self.settings.unbranded else "svix"
        return {
            "content-type": "application/json",
            f"{prefix}-id": message_id,
            f"{prefix}-timestamp": timestamp,
            f"{prefix}-signature": " ".join(signatures),
        }

    def rotate_secret(self, now: float, secret: str | None = None) -> str:
        """A new secret; the old one goes on signing for 24 hours. Answers the new one."""
        self._old_secret, self._old_until = self._secret, now + ROTATION * self.settings.time_scale
        drawn = base64.b64encode(self._random.randbytes(24)).decode()
        self._secret = secret or f"whsec_{drawn}"
        return self._secret

    def _schedule(self, message: Message, at: float, number: int) -> None:
        self._serial += 1
        message.waiting += 1
        heappush(self._queue, (at, self._serial, number, message.id))

    def _let_go(self, message: Message) -> None:
        message.waiting -= 1
        if message.waiting == 0:
            self._retire(message)

    def _retire(self, message: Message) -> None:
        del self._live[message.id]
        self._settled[message.id] = message
        while len(self._settled) > self.settings.keep:
            self._settled.popitem(last=False)


def _signature(secret: str, content: bytes) -> str:
    text = secret.removeprefix("whsec_")
    key = base64.b64decode(text + "=" * (-len(text) % 4))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
