"""What is kept of Clerk's user, read tolerantly (facts 1.4): real bodies differ from every published schema."""

import msgspec

from counterfoil.core.customer import mirrored
from counterfoil.core.news import UserBody
from counterfoil.core.subject import user_id
from counterfoil.errors import WebhookUnreadable

LINK_BACK_LIMIT = 255
"""Stripe's ids are no longer than this."""
FOREIGN_LIMIT = 64
_INT64 = 2**63 - 1


class _Address(msgspec.Struct):
    id: str
    email_address: str | None = None


class User(msgspec.Struct):
    """The fields that are needed: the rest of a body is skipped, not decoded."""

    id: str
    created_at: int
    updated_at: int
    first_name: str | None = None
    last_name: str | None = None
    primary_email_address_id: str | None = None
    email_addresses: list[_Address] | None = None
    public_metadata: dict[str, msgspec.Raw] | None = None
    private_metadata: dict[str, msgspec.Raw] | None = None


class BodyReader:
    """Turns Clerk's users into `UserBody`."""

    def __init__(self, link_back_key: str) -> None:
        """Take the key, of public and of private metadata, that holds the customer's id."""
        self.link_back_key = link_back_key
        self._user = msgspec.json.Decoder(User)

    def read(self, data: bytes | msgspec.Raw) -> UserBody:
        """Return what is kept of a full user body.

        Raises:
            msgspec.DecodeError: not JSON, or another shape (`msgspec.ValidationError`).
            BadSubject: the id is none of Clerk's.
            WebhookUnreadable: a number beyond 64 bits, or a NUL in a text (PostgreSQL cannot store it, and one
                such row would fail a whole batch).
        """
        user = self._user.decode(data)
        fields = mirrored(_primary_email(user), user.first_name, user.last_name)
        link_back = _link_back((user.public_metadata or {}).get(self.link_back_key))
        private_name = _link_back((user.private_metadata or {}).get(self.link_back_key))
        for text in (fields.email, fields.name, link_back, private_name):
            if text is not None and "\0" in text:
                raise WebhookUnreadable("a text holds a NUL character")
        return UserBody(
            subject_id=user_id(user.id),
            version=int64(user.updated_at),
            created_at=int64(user.created_at),
            fields=fields,
            link_back=link_back,
            private_name=private_name,
        )


def int64(number: int) -> int:
    """Return a time that a database can hold.

    Raises:
        WebhookUnreadable: it is negative or beyond 64 bits.
    """
    if not 0 <= number <= _INT64:
        raise WebhookUnreadable("a time is out of range")
    return number


def _primary_email(user: User) -> str | None:
    """The address whose id is the primary one: not always the first, and the id may point nowhere (facts 1.4)."""
    primary = user.primary_email_address_id
    if not primary:
        return None
    for address in user.email_addresses or ():
        if address.id == primary:
            return address.email_address
    return None


def _link_back(raw: msgspec.Raw | None) -> str | None:
    """The customer id that the metadata holds; for any other value a short text that is not one.

    ``null`` and the empty string count as nothing. What is cut short never begins with ``cus_``: it would be
    another customer's name.
    """
    if raw is None:
        return None
    text = bytes(raw).decode(errors="replace")
    if text == "null":
        return None
    if not text.startswith('"'):
        return text[:FOREIGN_LIMIT]
    value = msgspec.json.decode(raw, type=str)
    if value.startswith("cus_"):
        return value if len(value) <= LINK_BACK_LIMIT else text[:FOREIGN_LIMIT]
    return value[:FOREIGN_LIMIT] or None
