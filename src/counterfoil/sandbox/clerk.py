"""Clerk's side of the world: users, and an event for every change of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal, Unpack

import msgspec

from counterfoil.sandbox.calls import CallLog
from counterfoil.sandbox.clerk_user import (
    EmailAddress,
    Json,
    NewUser,
    PhoneNumber,
    User,
    deleted_body,
    merge,
    user_body,
)
from counterfoil.sandbox.identifiers import Identifiers
from counterfoil.sandbox.limits import Window
from counterfoil.sandbox.ordering import Order

Publish = Callable[[float, str, bytes], str]
MetadataField = Literal["public_metadata", "private_metadata", "unsafe_metadata"]

# The user of the dashboard's "Send Example" button: it exists in no instance.
EXAMPLE_USER = "user_29w83sxmDNGwOuEthce5gg56FcC"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClerkSettings:
    """One Clerk instance. Limits are requests per 10 seconds; None lifts one.

    `instance_limit` 0 means Clerk's own: 1000 in production, 100 in development.
    `deleted_cursor` is what `starting_after` does with a user who has gone since, which Clerk does not
    document.
    """

    secret_key: str = "sk_test_clerkSandbox"
    instance_id: str = "ins_2sandbox0000000000000000000"
    environment_type: Literal["production", "development"] = "development"
    instance_limit: int | None = 0
    user_limit: int | None = 10
    deleted_cursor: Literal["refuse", "continue"] = "refuse"
    log_size: int = 100_000


class ClerkState:
    """The users of one instance. Direct methods act as people and the dashboard do.

    `publish(now, type, payload)` takes every event, and answers the id of its message.
    """

    def __init__(self, settings: ClerkSettings, random: Random, publish: Publish) -> None:
        self.settings = settings
        self.log = CallLog(settings.log_size)
        self.users: dict[str, User] = {}
        self.gone: dict[str, tuple[int, int, str]] = {}
        self.by_email: dict[str, str] = {}
        self.by_created = Order(lambda identifier, _: identifier in self.users)
        self.by_updated = Order(self._is_current)
        limit = settings.instance_limit
        if limit == 0:
            limit = 1000 if settings.environment_type == "production" else 100
        self.instance_window = Window(limit, 10.0)
        self.user_limit = settings.user_limit
        self.user_windows: dict[str, Window] = {}
        self._identifiers = Identifiers(random)
        self._publish = publish
        self._serial = 0

    # What people do.

    def create_user(self, now: float, *, silent: bool = False, **fields: Unpack[NewUser]) -> str:
        """A sign-up; answers the new user's id. `silent`: the event never comes."""
        self._serial += 1
        at = int(now * 1000)
        user = User(self._identifiers.make("user_", 27), self._serial, at, at)
        email, phone = fields.get("email"), fields.get("phone")
        if email is not None:
            self._give_email(user, email, at, fields.get("verified", True))
        if phone is not None:
            self._give_phone(user, phone, at)
        user.first_name, user.last_name = fields.get("first_name"), fields.get("last_name")
        user.username, user.external_id = fields.get("username"), fields.get("external_id")
        user.locale = fields.get("locale")
        user.public_metadata = fields.get("public_metadata", {})
        user.private_metadata = fields.get("private_metadata", {})
        user.unsafe_metadata = fields.get("unsafe_metadata", {})
        self.users[user.id] = user
        self.by_created.add(at, user.serial, user.id)
        self.by_updated.add(at, user.serial, user.id)
        if not silent:
            self._emit(now, "user.created", user)
        return user.id

    def change_email(
        self, now: float, user_id: str, email: str | None, *, verified: bool = True, silent: bool = False
    ) -> None:
        """A new primary address in place of the old one; None leaves the user without any."""
        user = self.users[user_id]
        kept = []
        for entry in user.emails:
            if entry.id == user.primary_email_id:
                self.by_email.pop(entry.address.lower(), None)
            else:
                kept.append(entry)
        user.emails, user.primary_email_id = kept, None
        if email is not None:
            self._give_email(user, email, int(now * 1000), verified)
        self.changed(now, user, silent=silent)

    def verify_email(self, now: float, user_id: str, *, silent: bool = False) -> None:
        """The user clicks the link: the primary address is verified."""
        user = self.users[user_id]
        for entry in user.emails:
            if entry.id == user.primary_email_id:
                entry.verified = True
        self.changed(now, user, silent=silent)

    def change_phone(self, now: float, user_id: str, number: str | None, *, silent: bool = False) -> None:
        """A new primary phone number in place of the old one; None leaves the user without any."""
        user = self.users[user_id]
        user.phones = [entry for entry in user.phones if entry.id != user.primary_phone_id]
        user.primary_phone_id = None
        if number is not None:
            self._give_phone(user, number, int(now * 1000))
        self.changed(now, user, silent=silent)

    def add_email(self, now: float, user_id: str, email: str, *, silent: bool = False) -> None:
        """One more address, first in the list but not the primary one."""
        user = self.users[user_id]
        primary = user.primary_email_id
        self._give_email(user, email, int(now * 1000), verified=True)
        user.emails.insert(0, user.emails.pop())
        user.primary_email_id = primary
        self.changed(now, user, silent=silent)

    def change_name(
        self, now: float, user_id: str, first_name: str | None, last_name: str | None, *, silent: bool = False
    ) -> None:
        """Both names, as given."""
        user = self.users[user_id]
        user.first_name, user.last_name = first_name, last_name
        self.changed(now, user, silent=silent)

    def touch(self, now: float, user_id: str, *, silent: bool = False) -> None:
        """A change of nothing that anybody mirrors: the user signs in."""
        user = self.users[user_id]
        user.last_sign_in_at = int(now * 1000)
        self.changed(now, user, silent=silent)

    def set_public_metadata(self, now: float, user_id: str, values: Json, *, silent: bool = False) -> None:
        """Merge into the public metadata, as the customer's own backend would."""
        self.merge_metadata(now, user_id, "public_metadata", values, silent=silent)

    def set_private_metadata(self, now: float, user_id: str, values: Json, *, silent: bool = False) -> None:
        """Merge into the private metadata."""
        self.merge_metadata(now, user_id, "private_metadata", values, silent=silent)

    def set_unsafe_metadata(self, now: float, user_id: str, values: Json, *, silent: bool = False) -> None:
        """Merge into the unsafe metadata, as the user's own browser may."""
        self.merge_metadata(now, user_id, "unsafe_metadata", values, silent=silent)

    def merge_metadata(
        self, now: float, user_id: str, kind: MetadataField, values: Json, *, silent: bool = False
    ) -> None:
        """Deep merge; null removes."""
        user = self.users[user_id]
        setattr(user, kind, merge(getattr(user, kind), values))
        self.changed(now, user, silent=silent)

    def delete_user(self, now: float, user_id: str, *, silent: bool = False) -> None:
        """Gone, with everything that was in its metadata."""
        user = self.users.pop(user_id)
        self.gone[user_id] = (user.created_at, user.serial, user_id)
        self.user_windows.pop(user_id, None)
        for entry in user.emails:
            self.by_email.pop(entry.address.lower(), None)
        if not silent:
            user.updated_at = max(int(now * 1000), user.updated_at + 1)
            self._emit(now, "user.deleted", user)

    def send_example(self, now: float, *, instance_id: str | None = "ins_123", seconds: bool = True) -> str:
        """The dashboard's signed example of a user who does not exist; answers the message's id.

        Today's example dates the envelope in seconds; older ones in milliseconds and without `instance_id`.
        """
        at = 1654012591514
        user = User(EXAMPLE_USER, 0, at, at, "Example", "Example")
        entry = EmailAddress("idn_29w83yL7CwVlJXylYLxcslromF1", "example@example.org", at)
        user.emails, user.primary_email_id = [entry], entry.id
        envelope: Json = {"data": user_body(user, webhook=True), "object": "event", "type": "user.created"}
        envelope["timestamp"] = at // 1000 if seconds else at
        if instance_id is not None:
            envelope["instance_id"] = instance_id
        return self._publish(now, "user.created", msgspec.json.encode(envelope))

    def send_again(self, now: float, user_id: str, kind: str = "user.updated") -> str:
        """An event about the user as it is now, with nothing changed; answers the message's id."""
        return self._emit(now, kind, self.users[user_id])

    # What the API and the verdict need.

    def live_users(self) -> Iterator[User]:
        """Every user there is, oldest first."""
        return iter(self.users.values())

    def created(self) -> int:
        """How many users there ever were."""
        return self._serial

    def lift_limits(self) -> None:
        """No limits from here on."""
        self.instance_window.limit = None
        self.user_limit = None
        self.user_windows.clear()

    def changed(self, now: float, user: User, *, silent: bool = False) -> None:
        """Move `updated_at` strictly forward and tell the world."""
        user.updated_at = max(int(now * 1000), user.updated_at + 1)
        self.by_updated.add(user.updated_at, user.serial, user.id)
        if not silent:
            self._emit(now, "user.updated", user)

    def _give_email(self, user: User, email: str, at: int, verified: bool) -> None:
        owner = self.by_email.setdefault(email.lower(), user.id)
        if owner != user.id:
            raise ValueError(f"{email} is taken: an address belongs to one user of an instance")
        entry = EmailAddress(self._identifiers.make("idn_", 27), email, at, verified)
        user.emails.append(entry)
        user.primary_email_id = entry.id

    def _give_phone(self, user: User, number: str, at: int) -> None:
        entry = PhoneNumber(self._identifiers.make("idn_", 27), number, at)
        user.phones.append(entry)
        user.primary_phone_id = entry.id

    def _is_current(self, identifier: str, updated_at: int) -> bool:
        user = self.users.get(identifier)
        return user is not None and user.updated_at == updated_at

    def _emit(self, now: float, kind: str, user: User) -> str:
        data = deleted_body(user) if kind == "user.deleted" else user_body(user, webhook=True)
        envelope = {
            "data": data,
            "event_attributes": {"http_request": {"client_ip": "192.0.2.1", "user_agent": "sandbox"}},
            "instance_id": self.settings.instance_id,
            "object": "event",
            # A captured delivery was stamped 18 ms after the change that it told of.
            "timestamp": user.updated_at + 18,
            "type": kind,
        }
        return self._publish(now, kind, msgspec.json.encode(envelope))
