"""Genuine bodies: what they say."""

import json
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.clerk.body import BodyReader, View
from counterfoil.clerk.webhook import Decoder, Ignored
from counterfoil.core.eligibility import Eligibility
from counterfoil.core.link import Address, Fields
from counterfoil.core.news import UserBody, UserDeleted, UserEvent
from counterfoil.errors import WebhookUnreadable

NOW = 1_700_000_000_000

decoder = Decoder(instance_id="ins_ours", reader=BodyReader("stripeCustomerId"))


def email(address_id: str, address: str, **more: Any) -> dict[str, Any]:
    return {
        "id": address_id,
        "object": "email_address",
        "email_address": address,
        "reserved": False,
        "verification": {"status": "verified", "strategy": "email_code", "attempts": 1, "expire_at": NOW},
        "linked_to": [],
        "matches_sso_connection": False,
        "created_at": NOW,
        "updated_at": NOW,
    } | more


def user(**more: Any) -> dict[str, Any]:
    return {
        "id": "user_2abc",
        "object": "user",
        "external_id": None,
        "username": None,
        "first_name": "Zoë",
        "last_name": "Ng",
        "primary_email_address_id": "idn_2",
        "primary_phone_number_id": None,
        "email_addresses": [email("idn_1", "old@example.com"), email("idn_2", "zoe@example.com")],
        "phone_numbers": [],
        "external_accounts": [],
        "public_metadata": {},
        "private_metadata": None,
        "unsafe_metadata": {},
        "banned": False,
        "created_at": NOW - 5,
        "updated_at": NOW,
        "last_sign_in_at": None,
        "has_image": True,
    } | more


def envelope(data: object, kind: str = "user.updated", **more: Any) -> dict[str, Any]:
    return {
        "object": "event",
        "type": kind,
        "data": data,
        "timestamp": NOW + 18,
        "instance_id": "ins_ours",
        "event_attributes": {"http_request": {"client_ip": "203.0.113.7", "user_agent": "Mozilla/5.0"}},
    } | more


def decode(event: object, with_decoder: Decoder = decoder) -> UserEvent | UserDeleted | Ignored:
    return with_decoder.decode(json.dumps(event).encode(), "msg_1")


def decode_user(event: object) -> UserEvent:
    news = decode(event)
    assert isinstance(news, UserEvent)
    return news


def unreadable(body: bytes) -> str:
    with pytest.raises(WebhookUnreadable) as caught:
        decoder.decode(body, "msg_1")
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize("kind", ["user.created", "user.updated"])
def test_a_user_event_says_who_what_and_when(kind: str) -> None:
    assert decode(envelope(user(), kind)) == UserEvent(
        body=UserBody(
            subject_id="user_2abc",
            version=NOW,
            created_at=NOW - 5,
            fields=Fields(email="zoe@example.com", name="Zoë Ng"),
            address=Address.CARRIED,
        ),
        created=kind == "user.created",
        sent_at=NOW + 18,
        trusted=True,
        delivery="msg_1",
    )


def test_a_deletion_has_the_id_and_nothing_else() -> None:
    data = {"object": "user", "id": "user_2abc", "deleted": True, "external_id": "x"}
    assert decode(envelope(data, "user.deleted")) == UserDeleted(
        subject_id="user_2abc", sent_at=NOW + 18, trusted=True, delivery="msg_1"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"primary_email_address_id": None},
        {"primary_email_address_id": ""},
        {"primary_email_address_id": "idn_dangling"},
        {"email_addresses": []},
        {"email_addresses": None},
    ],
)
def test_without_a_primary_address_there_is_no_email(changes: dict[str, Any]) -> None:
    assert decode_user(envelope(user(**changes))).body.fields == Fields(name="Zoë Ng")


def test_a_null_verification_is_read_like_any_other() -> None:
    addresses = [email("idn_2", "zoe@example.com", verification=None)]
    assert decode_user(envelope(user(email_addresses=addresses))).body.fields.email == "zoe@example.com"


def test_what_is_optional_may_be_missing() -> None:
    event = {"type": "user.created", "data": {"id": "user_1", "created_at": 1, "updated_at": 2}}
    assert decode(event) == UserEvent(
        body=UserBody(subject_id="user_1", version=2, created_at=1, fields=Fields()),
        created=True,
        sent_at=0,
        trusted=False,
        delivery="msg_1",
    )


@pytest.mark.parametrize("instance", ["ins_another", None, ""])
def test_another_instance_or_none_is_not_trusted(instance: str | None) -> None:
    assert not decode_user(envelope(user(), instance_id=instance)).trusted


@pytest.mark.parametrize(
    ("timestamp", "sent_at"),
    [
        (1716883200, 1716883200000),
        (1716883200.5, 1716883200500),
        (1744276393644, 1744276393644),
        (99_999_999_999, 99_999_999_999_000),
        (100_000_000_000, 100_000_000_000),
        (None, 0),
        (0, 0),
    ],
)
def test_the_envelope_may_be_dated_in_seconds(timestamp: float | None, sent_at: int) -> None:
    assert decode_user(envelope(user(), timestamp=timestamp)).sent_at == sent_at


@pytest.mark.parametrize(
    ("value", "link_back"),
    [
        ("cus_1", "cus_1"),
        ("cus_" + "x" * 251, "cus_" + "x" * 251),
        (None, None),
        ("", None),
        ("pending", "pending"),
        ("p" * 65, "p" * 64),
        (17, "17"),
        (False, "false"),
        ({"id": "cus_1"}, '{"id": "cus_1"}'),
        (["cus_1"], '["cus_1"]'),
    ],
)
def test_the_link_back_is_a_customer_id_or_foreign(value: object, link_back: str | None) -> None:
    event = envelope(user(public_metadata={"plan": "pro", "stripeCustomerId": value}))
    assert decode_user(event).body.link_back == link_back


def test_a_customer_id_is_never_cut_into_another_one() -> None:
    event = envelope(user(public_metadata={"stripeCustomerId": "cus_" + "x" * 252}))
    assert decode_user(event).body.link_back == '"cus_' + "x" * 59


def test_the_key_of_the_link_back_can_be_set() -> None:
    other = Decoder(instance_id="ins_ours", reader=BodyReader("billing"))
    news = decode(envelope(user(public_metadata={"billing": "cus_2", "stripeCustomerId": "cus_1"})), other)
    assert isinstance(news, UserEvent)
    assert news.body.link_back == "cus_2"


@pytest.mark.parametrize("place", ["private_metadata", "unsafe_metadata"])
def test_other_metadata_is_not_looked_at(place: str) -> None:
    assert decode_user(envelope(user(**{place: {"stripeCustomerId": "cus_1"}}))).body.link_back is None


def test_events_of_other_types_are_ignored_whatever_they_carry() -> None:
    assert decode(envelope({"id": 1}, "organization.created")) == Ignored("organization.created")
    assert decode(envelope(None, "session.ended")) == Ignored("session.ended")
    assert decode(envelope([], "user.createdInOrganization")) == Ignored("user.createdInOrganization")
    assert decode(envelope([], "a b\n\0é" + "c" * 100)) == Ignored("a?b???" + "c" * 58)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"type":"\xff","data":{}}', "not UTF-8"),
        (b"[]", "not the shape of an event"),
        (b"null", "not the shape of an event"),
        (b'{"type":"user.created"}', "not the shape of an event"),
        (b'{"data":{}}', "not the shape of an event"),
        (b'{"type":"user.created","data":' + b"[" * 100_000, "nested too deeply"),
        (b'{"type":"user.created","data":{"id":"user_1"}}', "not the shape of an event"),
    ],
)
def test_a_body_that_is_no_event_cannot_be_read(body: bytes, reason: str) -> None:
    assert unreadable(body) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": None}, "not the shape of an event"),
        ({"id": 5}, "not the shape of an event"),
        ({"id": ""}, "the user's id is not one of Clerk's"),
        ({"id": "org_1"}, "the user's id is not one of Clerk's"),
        ({"id": "user_../secrets"}, "the user's id is not one of Clerk's"),
        ({"id": "user_" + "x" * 121}, "the user's id is not one of Clerk's"),
        ({"updated_at": None}, "not the shape of an event"),
        ({"updated_at": "1"}, "not the shape of an event"),
        ({"updated_at": -1}, "a time is out of range"),
        ({"updated_at": 2**63}, "a time is out of range"),
        ({"created_at": 10**40}, "a time is out of range"),
        ({"first_name": 5}, "not the shape of an event"),
        ({"email_addresses": {}}, "not the shape of an event"),
        ({"email_addresses": [None]}, "not the shape of an event"),
        ({"public_metadata": []}, "not the shape of an event"),
        ({"first_name": "a\0b"}, "a text holds a NUL character"),
        ({"email_addresses": [email("idn_2", "a\0@example.com")]}, "a text holds a NUL character"),
        ({"public_metadata": {"stripeCustomerId": "cus_\0"}}, "a text holds a NUL character"),
    ],
)
def test_a_user_that_cannot_be_stored_cannot_be_read(changes: dict[str, Any], reason: str) -> None:
    assert unreadable(json.dumps(envelope(user(**changes))).encode()) == reason


@pytest.mark.parametrize("timestamp", [-1, 2**63, 10**400, "1716883200"])
def test_an_envelope_with_an_impossible_time_cannot_be_read(timestamp: object) -> None:
    assert unreadable(json.dumps(envelope(user(), timestamp=timestamp)).encode())


def test_a_deletion_without_an_id_cannot_be_read() -> None:
    body = json.dumps(envelope({"object": "user", "deleted": True}, "user.deleted")).encode()
    assert unreadable(body) == "not the shape of an event"


def storable(body: bytes) -> None:
    """What comes of ``body`` is a proper value or the one error; its texts can be stored."""
    try:
        news = decoder.decode(body, "msg_1")
    except WebhookUnreadable:
        return
    if isinstance(news, UserEvent):
        texts = (news.subject_id, news.body.fields.email, news.body.fields.name, news.body.link_back)
        for text in texts:
            assert "\0" not in (text or "").encode().decode()
        assert 0 <= news.body.version < 2**63
        assert 0 <= news.body.created_at < 2**63
    if not isinstance(news, Ignored):
        assert 0 <= news.sent_at < 2**63


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_else(body: bytes) -> None:
    storable(body)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", "a\udc00b"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(any_json, st.sampled_from(["user.created", "user.deleted", "session.created", ""]))
def test_arbitrary_json_raises_nothing_else(data: object, kind: str) -> None:
    storable(json.dumps(data).encode())
    storable(json.dumps(envelope(data, kind)).encode())


@given(st.sampled_from(sorted(user())), any_json, st.sampled_from(["user.created", "user.deleted"]))
def test_an_event_with_one_field_replaced_raises_nothing_else(name: str, value: object, kind: str) -> None:
    storable(json.dumps(envelope(user(**{name: value}), kind)).encode())
    storable(json.dumps(envelope(user(public_metadata={"stripeCustomerId": value}), kind)).encode())
    storable(json.dumps(envelope(user(email_addresses=[email("idn_2", "a@b.c") | {name: value}]))).encode())


@given(st.sampled_from(sorted(envelope({}))), any_json)
def test_an_envelope_with_one_field_replaced_raises_nothing_else(name: str, value: object) -> None:
    storable(json.dumps(envelope(user()) | {name: value}).encode())


@given(st.integers(0, 1_500), st.binary(max_size=4))
def test_a_damaged_event_raises_nothing_else(place: int, damage: bytes) -> None:
    body = json.dumps(envelope(user()), ensure_ascii=False).encode()
    storable(body[:place] + damage + body[place + len(damage) :])
    storable(body[:place])


def test_reasons_and_errors_hold_nothing_of_the_body() -> None:
    body = json.dumps(envelope(user(id="user_secret value"))).encode()
    with pytest.raises(WebhookUnreadable) as caught:
        decoder.decode(body, "msg_1")
    assert "secret" not in "".join(traceback.format_exception(caught.value, limit=0))


thorough = Decoder(
    instance_id="ins_ours",
    reader=BodyReader("stripeCustomerId", View(eligibility=Eligibility(domains=("example.com",)))),
)
"""A reader whose settings ask for more of the body reads it another way."""


@pytest.mark.parametrize("kind", ["user.created", "user.updated", "user.deleted", "session.created"])
@pytest.mark.parametrize("changes", [{}, {"updated_at": None}, {"updated_at": -1}, {"id": "org_1"}, {"id": 7}])
def test_a_user_is_read_alike_whether_settings_ask_for_more_of_the_body_or_not(
    kind: str, changes: dict[str, Any]
) -> None:
    body = json.dumps(envelope(user(**changes), kind)).encode()

    def said(by: Decoder) -> object:
        try:
            return by.decode(body, "msg_1")
        except WebhookUnreadable as error:
            return str(error)

    assert said(decoder) == said(thorough)
