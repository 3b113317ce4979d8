"""A receiver whose commits a test decides about, and genuine deliveries for it."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from counterfoil.clerk.body import BodyReader
from counterfoil.clerk.webhook import Decoder, Unreadable, Verifier
from counterfoil.core.news import UserDeleted, UserEvent
from counterfoil.errors import IntakeFull
from counterfoil.web.receiver import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_700_000_000_000
USER = json.dumps(
    {
        "object": "event",
        "type": "user.created",
        "timestamp": NOW,
        "instance_id": "ins_ours",
        "data": {"id": "user_zoe", "first_name": "Zoe", "created_at": NOW, "updated_at": NOW},
    }
).encode()

Headers = list[tuple[bytes, bytes]]


class World:
    """A receiver, what it handed on, and whether that can be written."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.taken: list[UserEvent | UserDeleted | Unreadable] = []
        self.full = False
        self.held: list[Callable[[bool], None]] | None = None
        """Who waits for the commit, where one is waited for."""
        verifier, decoder = (
            Verifier([SECRET]),
            Decoder(instance_id="ins_ours", reader=BodyReader("stripeCustomerId")),
        )
        self.receiver = Receiver(verifier, decoder, self.take, self.registry, now=lambda: NOW)

    def take(self, item: UserEvent | UserDeleted | Unreadable, tell: Callable[[bool], None]) -> None:
        if self.full:
            raise IntakeFull("full")
        self.taken.append(item)
        if self.held is None:
            tell(True)
        else:
            self.held.append(tell)

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("counterfoil_deliveries_total", {"outcome": outcome}) or 0

    def refused(self, reason: str) -> float:
        name = "counterfoil_deliveries_refused_total"
        return self.registry.get_sample_value(name, {"reason": reason}) or 0

    def ignored(self, kind: str) -> float:
        return self.registry.get_sample_value("counterfoil_ignored_events_total", {"type": kind}) or 0


def signed(body: bytes = USER) -> Headers:
    sent = str(NOW // 1000)
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = hmac.digest(key, f"msg_1.{sent}.".encode() + body, hashlib.sha256)
    return [
        (b"host", b"localhost"),
        (b"svix-id", b"msg_1"),
        (b"svix-timestamp", sent.encode()),
        (b"svix-signature", b"v1," + base64.b64encode(mac)),
    ]
