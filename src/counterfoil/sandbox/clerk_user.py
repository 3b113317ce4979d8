"""A Clerk user: the record, and the JSON bodies that the Backend API and the webhooks make of it.

Field names and which may be null: Clerk's published OpenAPI files (Backend API 2026-05-12, webhooks
2025-04-15). All times are integer milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

Json = dict[str, Any]


@dataclass(slots=True)
class EmailAddress:
    """One address of a user. `strategy` tells how it was verified; None leaves `verification` null."""

    id: str
    address: str
    created_at: int
    verified: bool = True
    strategy: str | None = "email_code"

    @property
    def is_verified(self) -> bool:
        """As its `verification` says: an administrator's word is enough, and null is none."""
        return self.strategy is not None and (self.verified or self.strategy == "admin")


@dataclass(slots=True)
class PhoneNumber:
    """One phone number (E.164) of a user, verified by code."""

    id: str
    number: str
    created_at: int


@dataclass(slots=True)
class User:
    """The true state of one user. Read it freely; change it only through `ClerkState`."""

    id: str
    serial: int
    created_at: int
    updated_at: int
    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    external_id: str | None = None
    locale: str | None = None
    emails: list[EmailAddress] = field(default_factory=list)
    primary_email_id: str | None = None
    phones: list[PhoneNumber] = field(default_factory=list)
    primary_phone_id: str | None = None
    public_metadata: Json = field(default_factory=dict)
    private_metadata: Json = field(default_factory=dict)
    unsafe_metadata: Json = field(default_factory=dict)
    banned: bool = False
    last_sign_in_at: int | None = None
    last_active_at: int | None = None

    @property
    def email(self) -> str | None:
        """The primary address: the entry that the primary id names, not the first of the list."""
        for entry in self.emails:
            if entry.id == self.primary_email_id:
                return entry.address
        return None

    @property
    def verified(self) -> bool:
        """The primary address is verified."""
        return any(entry.id == self.primary_email_id and entry.is_verified for entry in self.emails)

    @property
    def phone(self) -> str | None:
        """The primary phone number."""
        for entry in self.phones:
            if entry.id == self.primary_phone_id:
                return entry.number
        return None

    @property
    def name(self) -> str | None:
        """First and last name joined by a space; None when both are missing."""
        return " ".join(part for part in (self.first_name, self.last_name) if part) or None


class NewUser(TypedDict, total=False):
    """What a new user may be given."""

    email: str | None
    verified: bool
    first_name: str | None
    last_name: str | None
    phone: str | None
    username: str | None
    external_id: str | None
    locale: str | None
    public_metadata: Json
    private_metadata: Json
    unsafe_metadata: Json


def _verification(kind: str, status: str, strategy: str, webhook: bool) -> Json:
    body: Json = {"status": status, "strategy": strategy, "attempts": None, "expire_at": None}
    if not webhook:
        # Real webhook bodies lack this discriminator although the published schema has it.
        body["object"] = kind
    return body


def _email_body(entry: EmailAddress, webhook: bool) -> Json:
    if entry.strategy is None:
        verification = None
    elif entry.strategy == "admin":
        verification = _verification("verification_admin", "verified", "admin", webhook)
    else:
        status = "verified" if entry.verified else "unverified"
        verification = _verification("verification_otp", status, entry.strategy, webhook)
    return {
        "id": entry.id,
        "object": "email_address",
        "email_address": entry.address,
        "reserved": False,
        "verification": verification,
        "linked_to": [],
        "matches_sso_connection": False,
        "created_at": entry.created_at,
        "updated_at": entry.created_at,
    }


def _phone_body(entry: PhoneNumber, webhook: bool) -> Json:
    return {
        "id": entry.id,
        "object": "phone_number",
        "phone_number": entry.number,
        "reserved_for_second_factor": False,
        "default_second_factor": False,
        "reserved": False,
        "verification": _verification("verification_otp", "verified", "phone_code", webhook),
        "linked_to": [],
        "backup_codes": None,
        "created_at": entry.created_at,
        "updated_at": entry.created_at,
    }


def user_body(user: User, *, webhook: bool = False) -> Json:
    """The whole user, as `GET /v1/users/{id}` answers it or as an event carries it."""
    return {
        "id": user.id,
        "object": "user",
        "external_id": user.external_id,
        "primary_email_address_id": user.primary_email_id,
        "primary_phone_number_id": user.primary_phone_id,
        "primary_web3_wallet_id": None,
        "username": user.username,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "locale": user.locale,
        "profile_image_url": "https://img.clerk.invalid/default",
        "image_url": "https://img.clerk.invalid/default",
        "has_image": False,
        "public_metadata": user.public_metadata,
        "private_metadata": user.private_metadata,
        "unsafe_metadata": user.unsafe_metadata,
        "email_addresses": [_email_body(entry, webhook) for entry in user.emails],
        "phone_numbers": [_phone_body(entry, webhook) for entry in user.phones],
        "web3_wallets": [],
        "passkeys": [],
        "password_enabled": False,
        "two_factor_enabled": False,
        "totp_enabled": False,
        "backup_code_enabled": False,
        "mfa_enabled_at": None,
        "mfa_disabled_at": None,
        "password_last_updated_at": None,
        "external_accounts": [],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "last_sign_in_at": user.last_sign_in_at,
        "banned": user.banned,
        "locked": False,
        "deprovisioned": False,
        "lockout_expires_in_seconds": None,
        "verification_attempts_remaining": 100,
        "updated_at": user.updated_at,
        "created_at": user.created_at,
        "delete_self_enabled": True,
        "create_organization_enabled": True,
        "create_organizations_limit": None,
        "last_active_at": user.last_active_at,
        "legal_accepted_at": None,
        "bypass_client_trust": False,
    }


def deleted_body(user: User) -> Json:
    """The closed shape that is left of a deleted user: no email, no metadata."""
    body: Json = {"object": "user", "id": user.id, "deleted": True}
    if user.external_id is not None:
        body["external_id"] = user.external_id
    return body


def merge(into: Json, news: Json) -> Json:
    """Deep merge in which null removes a key at any level (Clerk's PATCH metadata)."""
    merged = dict(into)
    for key, value in news.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            old = merged.get(key)
            merged[key] = merge(old if isinstance(old, dict) else {}, value)
        else:
            merged[key] = value
    return merged
