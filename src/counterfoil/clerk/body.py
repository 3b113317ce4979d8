"""What is kept of Clerk's user, read tolerantly (facts 1.4): real bodies differ from every published schema."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec

from counterfoil.core.customer import MIRRORED, address_of, mirrored
from counterfoil.core.eligibility import Eligibility
from counterfoil.core.link import Fields
from counterfoil.core.news import UserBody
from counterfoil.core.own import OwnFunction, mapped
from counterfoil.core.subject import user_id
from counterfoil.errors import OwnFunctionFailed, WebhookUnreadable

LINK_BACK_LIMIT = 255
"""Stripe's ids are no longer than this."""
FOREIGN_LIMIT = 64
_INT64 = 2**63 - 1
_decode_text = msgspec.json.Decoder(str).decode


class _Verification(msgspec.Struct):
    status: str | None = None


class _Address(msgspec.Struct):
    id: str
    email_address: str | None = None
    verification: _Verification | None = None


class _Phone(msgspec.Struct):
    id: str
    phone_number: str | None = None


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


class _UserWithPhones(User):
    primary_phone_number_id: str | None = None
    phone_numbers: list[_Phone] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the settings make of a user. ``mapping``: an own function, in place of ``mirror``."""

    eligibility: Eligibility = field(default_factory=Eligibility)
    mirror: Collection[str] = MIRRORED
    mapping: OwnFunction | None = None
    own_keys: Collection[str] = ()
    """The keys of a customer's metadata that a mapping may not give."""


class BodyReader:
    """Turns Clerk's users into `UserBody`."""

    def __init__(self, link_back_key: str, view: View | None = None) -> None:
        """Args:
        link_back_key: the key, of public and of private metadata, that holds the customer's id.
        view: what is kept of a user; ``None``: the defaults.
        """
        self.link_back_key = link_back_key
        self._view = view = view or View()
        self._mirror = view.mirror
        # Nothing is decoded that no setting asks for: this is the receiver's hottest path.
        self.plain = view.mapping is None and view.eligibility.is_open
        """A decoded user is enough: no setting asks for more of the body."""
        self.kind: type[User] = _UserWithPhones if "phone" in view.mirror else User
        """What a body is decoded as."""
        self._user = msgspec.json.Decoder(self.kind)

    def read(self, data: bytes | msgspec.Raw) -> UserBody:
        """Return what is kept of a full user body.

        Raises:
            msgspec.DecodeError: not JSON, or another shape (`msgspec.ValidationError`).
            BadSubject: the id is none of Clerk's.
            WebhookUnreadable: a number beyond 64 bits, or a NUL in a text (PostgreSQL cannot store it, and one
                such row would fail a whole batch).
        """
        user = self._user.decode(data)
        return self.kept(user, None if self.plain else data)

    def kept(self, user: User, data: bytes | msgspec.Raw | None = None) -> UserBody:
        """As `read`, of a user who is decoded already; ``data``: the body, where this reader is not `plain`."""
        email, status = _primary_email(user)
        phone = _primary_phone(user) if type(user) is _UserWithPhones else None
        fields = mirrored(email, user.first_name, user.last_name, phone, self._mirror)
        link_back = _link_back((user.public_metadata or {}).get(self.link_back_key))
        private_name = _link_back((user.private_metadata or {}).get(self.link_back_key))
        for text in (fields.email, fields.name, fields.phone, link_back, private_name):
            if text is not None and "\0" in text:
                raise WebhookUnreadable("a text holds a NUL character")
        eligible, error = True, None
        if data is not None:
            fields, eligible, error = self._viewed(data, user, email, fields)
        return UserBody(
            subject_id=user_id(user.id),
            version=int64(user.updated_at),
            created_at=int64(user.created_at),
            fields=fields,
            link_back=link_back,
            private_name=private_name,
            address=address_of(email, status, fields),
            eligible=eligible,
            mapping_error=error,
        )

    def _viewed(
        self, data: bytes | msgspec.Raw, user: User, email: str | None, fields: Fields
    ) -> tuple[Fields, bool, str | None]:
        """The fields, whether a customer may be made, and why an own function could not be used."""
        view = self._view
        eligible, errors = True, []

        def sent() -> dict[str, Any]:
            # Anew for each own function: what one does to it is not seen by the other.
            user_as_sent: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
            return user_as_sent

        try:
            eligible = view.eligibility.admits(email, lambda key: _value(user.public_metadata, key), sent)
        except OwnFunctionFailed as error:
            errors.append(str(error))
        if view.mapping is not None:
            try:
                fields = mapped(view.mapping, sent(), view.own_keys)
            except OwnFunctionFailed as error:
                fields = Fields()
                errors.append(str(error))
        return fields, eligible, errors[0] if errors else None


def int64(number: int) -> int:
    """Return a time that a database can hold.

    Raises:
        WebhookUnreadable: it is negative or beyond 64 bits.
    """
    if not 0 <= number <= _INT64:
        raise WebhookUnreadable("a time is out of range")
    return number


def _primary_email(user: User) -> tuple[str | None, str | None]:
    """The address whose id is the primary one, and the status of its verification.

    It is not always the first, and the id may point nowhere (facts 1.4).
    """
    primary = user.primary_email_address_id
    if primary:
        for address in user.email_addresses or ():
            if address.id == primary:
                verification = address.verification
                return address.email_address, verification.status if verification is not None else None
    return None, None


def _primary_phone(user: _UserWithPhones) -> str | None:
    """The phone number whose id is the primary one."""
    if user.primary_phone_number_id:
        for phone in user.phone_numbers or ():
            if phone.id == user.primary_phone_number_id:
                return phone.phone_number
    return None


def _value(metadata: dict[str, msgspec.Raw] | None, key: str) -> str | None:
    """A value of the metadata as a text; what is no text, as its JSON."""
    raw = (metadata or {}).get(key)
    if raw is None:
        return None
    text = bytes(raw).decode(errors="replace")
    return _decode_text(raw) if text.startswith('"') else text


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
    value = _decode_text(raw)
    if value.startswith("cus_"):
        return value if len(value) <= LINK_BACK_LIMIT else text[:FOREIGN_LIMIT]
    return value[:FOREIGN_LIMIT] or None
