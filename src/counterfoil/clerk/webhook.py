"""Deliveries from Clerk, which Svix signs and sends: are they genuine, and what do they say.

No IO, and no clock: the time is a parameter, in milliseconds. The rules are those of facts 1.1 (signature),
1.3 (envelope), 1.4 and 1.5 (bodies).
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec

from counterfoil.clerk.body import BodyReader, User, int64
from counterfoil.core.news import UserBody, UserDeleted, UserEvent
from counterfoil.core.subject import user_id
from counterfoil.errors import BadSubject, ConfigurationError, WebhookRefused, WebhookUnreadable

TOLERANCE = 300_000
"""How far the signed time may be from ours, either way (ms): Svix's own five minutes."""
ID_LIMIT = 128
SIGNATURE_LIMIT = 2_048
SIGNATURES_LIMIT = 16
"""While secrets are rotated a delivery has one signature for each: two, seldom three."""
TYPE_LIMIT = 64
SECONDS_BELOW = 100_000_000_000
"""Envelope times below this are seconds: as milliseconds they would be of before 1974 (facts 1.3)."""

_OF_USERS = frozenset({"user.created", "user.updated"})
_SVIX = ("svix-id", "svix-timestamp", "svix-signature")
_UNBRANDED = ("webhook-id", "webhook-timestamp", "webhook-signature")
SIGNING_HEADERS = (*_SVIX, *_UNBRANDED)

_SECRET = re.compile(r"[0-9A-Za-z+/]+={0,2}")
# No full stop: id and time are joined by it in what is signed, so one in the id could move the border.
_MESSAGE_ID = re.compile(rf"[0-9A-Za-z_-]{{1,{ID_LIMIT}}}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_UNUSUAL = re.compile(r"[^0-9A-Za-z._:-]")


class Refusal(StrEnum):
    """Why a delivery is refused: the whole answer, so nothing of the input is ever in it."""

    MISSING = "signature headers missing"
    DOUBLED = "a header is there twice"
    MIXED = "signature headers of two kinds"
    ID = "message id malformed"
    TIMESTAMP = "timestamp malformed"
    STALE = "timestamp too old"
    AHEAD = "timestamp too far ahead"
    SIGNATURE = "signature header malformed"
    NO_MATCH = "no signature matches"


class Ignored(msgspec.Struct, frozen=True):
    """A signed event of a type that is of no concern here. It is counted, and that is all."""

    type: str
    """At most 64 characters, all of them letters, digits or one of ``._:-?``."""


class Unreadable(msgspec.Struct, frozen=True):
    """A signed body that could not be read; it is kept for a person."""

    delivery: str
    """The ``svix-id``."""
    body: bytes
    at: int
    """When it came (ms)."""


class Verifier:
    """Tells genuine deliveries from others.

    The HMAC is computed here, not by ``standardwebhooks``: that one reads the wall clock, raises four kinds
    of error on malformed input, and took 9 µs for a body of 2.5 KB where this takes 5. Tests hold it against
    both ``standardwebhooks`` and ``svix``. It is stricter than they are: see `verify`.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        """Take the signing secrets: several while one is being rotated.

        Raises:
            ConfigurationError: none, or one that cannot be read. The message does not repeat it.
        """
        if not secrets:
            raise ConfigurationError(
                "no webhook signing secret: set CLERK_WEBHOOK_SIGNING_SECRET to the 'Signing Secret' that "
                "the Clerk dashboard shows for the webhook endpoint (it starts with whsec_)"
            )
        keys = [_key(secret, place) for place, secret in enumerate(secrets, start=1)]
        # A keyed state, copied for each delivery, spares the two blocks of key set-up.
        self._states = [hmac.new(key, digestmod=hashlib.sha256) for key in keys]

    def verify(self, headers: Mapping[str, str], body: bytes, now: int) -> str:
        """Return the message id of a delivery that is genuine and fresh.

        A set of headers is taken whole: ``svix-*`` if that set is complete (``webhook-*`` beside it is then
        not looked at), else ``webhook-*`` if no header of the other set is there. An incomplete set is never
        filled up from the other one.

        Stricter than ``standardwebhooks``: the id is 1 to 128 letters, digits, ``_`` or ``-``; the time is up
        to 12 digits; a signature is compared as text, so only its canonical base64 matches; and an entry that
        is not ``version,value`` spoils the header, wherever it stands.

        Args:
            headers: with lower-case names; others than the six are not looked at.
            body: the raw bytes, as they came.
            now: milliseconds.

        Raises:
            WebhookRefused: it is not genuine; the text is one of `Refusal`.
        """
        message_id, timestamp, signature = _signing_set(headers)
        if not _MESSAGE_ID.fullmatch(message_id):
            raise WebhookRefused(Refusal.ID)
        if not _TIMESTAMP.fullmatch(timestamp):
            raise WebhookRefused(Refusal.TIMESTAMP)
        age = now - int(timestamp) * 1000
        if age > TOLERANCE:
            raise WebhookRefused(Refusal.STALE)
        if age < -TOLERANCE:
            raise WebhookRefused(Refusal.AHEAD)
        given = _signatures(signature)
        prefix = f"{message_id}.{timestamp}.".encode()
        genuine = False
        for state in self._states:
            mac = state.copy()
            mac.update(prefix)
            mac.update(body)
            expected = base64.b64encode(mac.digest())
            for value in given:
                genuine |= hmac.compare_digest(expected, value)
        if not genuine:
            raise WebhookRefused(Refusal.NO_MATCH)
        return message_id


def _key(secret: str, place: int) -> bytes:
    text = secret.strip()
    encoded = text.removeprefix("whsec_")
    if encoded != text and _SECRET.fullmatch(encoded):
        bare = encoded.rstrip("=")
        try:
            return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
        except ValueError:  # a length that no base64 has
            pass
    raise ConfigurationError(
        f"webhook signing secret number {place} cannot be read: set CLERK_WEBHOOK_SIGNING_SECRET to the "
        "whole 'Signing Secret' of the Clerk dashboard: whsec_ and base64 after it; commas between several"
    )


def _signing_set(headers: Mapping[str, str]) -> tuple[str, str, str]:
    """The id, time and signature of one whole set of headers."""
    get = headers.get
    svix = [value for name in _SVIX if (value := get(name))]
    if len(svix) == 3:
        return svix[0], svix[1], svix[2]
    unbranded = [value for name in _UNBRANDED if (value := get(name))]
    if svix and unbranded:
        raise WebhookRefused(Refusal.MIXED)
    if len(unbranded) < 3:
        raise WebhookRefused(Refusal.MISSING)
    return unbranded[0], unbranded[1], unbranded[2]


def _signatures(header: str) -> list[bytes]:
    """The values of the ``v1`` entries; other versions (``v1a`` is ed25519) are skipped."""
    if len(header) > SIGNATURE_LIMIT or not header.isascii():
        raise WebhookRefused(Refusal.SIGNATURE)
    entries = header.split(" ")
    if len(entries) > SIGNATURES_LIMIT:
        raise WebhookRefused(Refusal.SIGNATURE)
    values = []
    for entry in entries:
        version, comma, value = entry.partition(",")
        if not (version and comma and value) or "," in value:
            raise WebhookRefused(Refusal.SIGNATURE)
        if version == "v1":
            values.append(value.encode())
    return values


Data = TypeVar("Data")


class _Envelope(msgspec.Struct, Generic[Data]):
    type: str
    data: Data
    timestamp: int | float | None = None
    instance_id: str | None = None


class _Gone(msgspec.Struct):
    id: str


class Decoder:
    """Reads genuine bodies.

    Made for one pinned instance: only its events are *trusted* (the dashboard's example event is properly
    signed and carries a user that never was; facts 1.3).
    """

    def __init__(self, *, instance_id: str, reader: BodyReader) -> None:
        """Take the pinned Clerk instance's id, and what reads its users."""
        self._instance_id = instance_id
        self._reader = reader
        self._users: msgspec.json.Decoder[_Envelope[User]] | None = None
        if reader.plain:
            self._users = msgspec.json.Decoder(_Envelope[reader.kind])  # type: ignore[name-defined]
        self._any = msgspec.json.Decoder(_Envelope[msgspec.Raw])
        self._gone = msgspec.json.Decoder(_Gone)

    def decode(self, body: bytes, delivery: str) -> UserEvent | UserDeleted | Ignored:
        """Return the news in a body whose signature was verified.

        Args:
            body: the raw bytes.
            delivery: its message id, for the journal.

        Raises:
            WebhookUnreadable: no JSON, another shape, a number beyond 64 bits, an id that is none of Clerk's,
                or a NUL in a text (PostgreSQL cannot store it, and one such row would fail the whole batch).
                The reason holds nothing of the body.
        """
        try:
            return self._decode(body, delivery)
        except BadSubject:
            reason = "the user's id is not one of Clerk's"
        except UnicodeDecodeError:
            reason = "not UTF-8"
        except msgspec.ValidationError:
            reason = "not the shape of an event"
        except msgspec.DecodeError:
            reason = "not JSON"
        except RecursionError:
            reason = "nested too deeply"
        # Outside the handlers: the cause quotes the body, and must not travel with the error.
        raise WebhookUnreadable(reason)

    def _decode(self, body: bytes, delivery: str) -> UserEvent | UserDeleted | Ignored:
        if self._users is not None:
            # Nearly all that comes is of users, and read in one pass.
            try:
                whole = self._users.decode(body)
            except msgspec.ValidationError:
                whole = None  # of something else, or of no shape that is known
            if whole is not None and whole.type in _OF_USERS:
                return self._event(whole, self._reader.kept(whole.data), delivery)
        envelope = self._any.decode(body)
        if envelope.type in _OF_USERS:
            return self._event(envelope, self._reader.read(envelope.data), delivery)
        if envelope.type == "user.deleted":
            return UserDeleted(
                subject_id=user_id(self._gone.decode(envelope.data).id),
                sent_at=_milliseconds(envelope.timestamp),
                trusted=envelope.instance_id == self._instance_id,
                delivery=delivery,
            )
        return Ignored(_UNUSUAL.sub("?", envelope.type[:TYPE_LIMIT]))

    def _event(self, envelope: _Envelope[Any], body: UserBody, delivery: str) -> UserEvent:
        return UserEvent(
            body=body,
            created=envelope.type == "user.created",
            sent_at=_milliseconds(envelope.timestamp),
            trusted=envelope.instance_id == self._instance_id,
            delivery=delivery,
        )


def _milliseconds(timestamp: float | None) -> int:
    """The envelope's time in ms, whichever unit it is in; 0 (which counts as old) where there is none."""
    if timestamp is None:
        return 0
    return int64(int(timestamp * 1000 if timestamp < SECONDS_BELOW else timestamp))
