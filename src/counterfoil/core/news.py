"""News: what may have changed about a user, from whatever source it was heard.

Times are milliseconds since the epoch.
"""

import msgspec

from counterfoil.core.link import Address, Fields, Order, Ruling


class UserBody(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a full user body (event, GET, list page, the answer of our own PATCH)."""

    subject_id: str
    version: int
    """Clerk's ``updated_at``: bodies are ordered by it, never by arrival (facts 1.3)."""
    created_at: int
    fields: Fields
    link_back: str | None = None
    private_name: str | None = None
    address: Address = Address.NONE
    eligible: bool = True
    mapping_error: str | None = None


class UserEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A signed ``user.created`` or ``user.updated``."""

    body: UserBody
    created: bool
    sent_at: int
    """The envelope's ``timestamp``."""
    trusted: bool
    """It carries the pinned ``instance_id``."""
    delivery: str = ""
    """The ``svix-id``, for the journal."""

    @property
    def subject_id(self) -> str:
        return self.body.subject_id


class UserRead(msgspec.Struct, frozen=True, kw_only=True):
    """A full body read from Clerk's API."""

    body: UserBody
    at_revision: int | None = None
    """The revision this read was made to confirm; ``None``: a page of a list, or an answer."""

    @property
    def subject_id(self) -> str:
        return self.body.subject_id


class UserDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """A signed ``user.deleted``: it has the id, and nothing else (facts 1.5)."""

    subject_id: str
    sent_at: int
    trusted: bool
    delivery: str = ""


class UserAbsent(msgspec.Struct, frozen=True, kw_only=True):
    """Clerk answered 404, and the instance was checked."""

    subject_id: str
    at_revision: int


class Unconfirmed(msgspec.Struct, frozen=True, kw_only=True):
    """The daily walk did not meet this user: it is to be read by itself."""

    subject_id: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody (retry, ensure) wants this link looked at now, and a customer made where ``want``."""

    subject_id: str
    want: bool = False
    bulk: bool = False
    """It is one of many: whoever signs up now goes first."""


class Ruled(msgspec.Struct, frozen=True, kw_only=True):
    """A person has ruled about the removal of a deleted user's customer."""

    subject_id: str
    ruling: Ruling


class CustomerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A scan met a live customer whose metadata names this user."""

    subject_id: str
    customer_id: str
    created: int
    mark: str | None = None
    archived: bool = False
    order: Order = Order.NONE
    """What a person has approved to be done with it."""


News = UserEvent | UserRead | UserDeleted | UserAbsent | Unconfirmed | Asked | Ruled | CustomerSeen
