"""Deliveries: which are genuine."""

import base64
import hashlib
import hmac
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix.webhooks
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.clerk.webhook import Refusal, Verifier
from counterfoil.errors import ConfigurationError, WebhookRefused

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_plJ3nmyCDGBKInavdOK15jsl"
SENT = 1_700_000_000
NOW = SENT * 1000
BODY = '{"type":"user.created","data":{"id":"user_1","first_name":"Zoë"}}'.encode()
WRONG = "v1," + base64.b64encode(bytes(32)).decode()

verifier = Verifier([SECRET])


def sign(body: bytes = BODY, secret: str = SECRET, message_id: str = "msg_1", sent: str = str(SENT)) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{sent}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def headers(prefix: str = "svix", **changes: str) -> dict[str, str]:
    """A genuine set for ``BODY``, with ``changes`` by the last part of the name."""
    values = {"id": "msg_1", "timestamp": str(SENT), "signature": sign()} | changes
    return {f"{prefix}-{name}": value for name, value in values.items()}


def refusal(given_headers: Mapping[str, str], body: bytes = BODY, now: int = NOW) -> Refusal:
    with pytest.raises(WebhookRefused) as caught:
        verifier.verify(given_headers, body, now)
    return Refusal(str(caught.value))


@pytest.mark.parametrize(
    ("secret", "message_id", "sent", "body", "signature"),
    [
        (
            OTHER,
            "msg_loFOjxBNrRLzqYUf",
            1731705121,
            b'{"event_type":"ping","data":{"success":true}}',
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        ),
        (SECRET, "msg_test_1", SENT, BODY, "v1,9XnSs7Xz8yJAzktoa7N21TMSCESv/8zv2BWskHYY2Vk="),
    ],
)
def test_the_published_vectors_verify(
    secret: str, message_id: str, sent: int, body: bytes, signature: str
) -> None:
    given_headers = headers(id=message_id, timestamp=str(sent), signature=signature)
    assert Verifier([secret]).verify(given_headers, body, sent * 1000) == message_id


@pytest.mark.parametrize("prefix", ["svix", "webhook"])
def test_either_set_of_names_is_taken(prefix: str) -> None:
    assert verifier.verify(headers(prefix), BODY, NOW) == "msg_1"


def test_of_two_whole_sets_the_svix_one_counts() -> None:
    bad = headers("webhook", signature=WRONG, id="msg_2")
    assert verifier.verify(headers() | bad, BODY, NOW) == "msg_1"
    assert refusal(headers("webhook") | headers(signature=WRONG)) is Refusal.NO_MATCH


@pytest.mark.parametrize("name", ["id", "timestamp", "signature"])
def test_a_set_is_never_completed_from_the_other(name: str) -> None:
    svix_set, unbranded = headers(), headers("webhook")
    unbranded_part = {f"webhook-{name}": unbranded[f"webhook-{name}"]}
    del svix_set[f"svix-{name}"]
    assert refusal(svix_set | unbranded_part) is Refusal.MIXED
    assert refusal(svix_set | unbranded) is Refusal.MIXED


@pytest.mark.parametrize("prefix", ["svix", "webhook"])
@pytest.mark.parametrize("name", ["id", "timestamp", "signature"])
def test_a_missing_or_empty_header_is_refused(prefix: str, name: str) -> None:
    given_headers = headers(prefix)
    assert refusal(given_headers | {f"{prefix}-{name}": ""}) is Refusal.MISSING
    del given_headers[f"{prefix}-{name}"]
    assert refusal(given_headers) is Refusal.MISSING
    assert refusal({}) is Refusal.MISSING


@pytest.mark.parametrize(
    "text", ["now", "1e9", "nan", "inf", "-1700000000", "+1700000000", " 1700000000", "1700000000\n"]
)
def test_a_timestamp_that_is_not_all_digits_is_refused(text: str) -> None:
    assert refusal(headers(timestamp=text, signature=sign(sent=text))) is Refusal.TIMESTAMP


@pytest.mark.parametrize("text", ["1" * 13, "1" * 5_000, "١٧٠٠٠٠٠٠٠٠", "1700000000.0", "1_700_000_000"])
def test_a_timestamp_in_other_digits_or_too_long_is_refused(text: str) -> None:
    assert refusal(headers(timestamp=text)) is Refusal.TIMESTAMP


def test_five_minutes_either_way_are_tolerated_and_no_more() -> None:
    assert verifier.verify(headers(), BODY, NOW + 300_000) == "msg_1"
    assert verifier.verify(headers(), BODY, NOW - 300_000) == "msg_1"
    assert refusal(headers(), now=NOW + 300_001) is Refusal.STALE
    assert refusal(headers(), now=NOW - 300_001) is Refusal.AHEAD


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("no match", WRONG, Refusal.NO_MATCH),
        ("no comma", "v1", Refusal.SIGNATURE),
        ("no comma, base64", base64.b64encode(bytes(32)).decode(), Refusal.SIGNATURE),
        ("two commas", sign() + ",x", Refusal.SIGNATURE),
        ("two spaces in a row", f"{WRONG}  {sign()}", Refusal.SIGNATURE),
        ("leading space", " " + sign(), Refusal.SIGNATURE),
        ("empty value", "v1,", Refusal.SIGNATURE),
        ("empty version", sign().removeprefix("v1"), Refusal.SIGNATURE),
        ("not base64", "v1,abc", Refusal.NO_MATCH),
        ("not base64 either", "v1,!!!", Refusal.NO_MATCH),
        ("unpadded", sign().rstrip("="), Refusal.NO_MATCH),
        ("not ASCII", "v1,é", Refusal.SIGNATURE),
        ("a lone surrogate", "v1,\udcff", Refusal.SIGNATURE),
        ("another version", sign().replace("v1,", "v2,"), Refusal.NO_MATCH),
        ("ed25519", sign().replace("v1,", "v1a,"), Refusal.NO_MATCH),
        ("too many", " ".join([WRONG] * 16 + [sign()]), Refusal.SIGNATURE),
        ("too long", "v1," + "A" * 2_100, Refusal.SIGNATURE),
    ],
)
def test_a_bad_signature_is_refused(name: str, text: str, why: Refusal) -> None:
    assert refusal(headers(signature=text)) is why, name


@pytest.mark.parametrize("before", [WRONG, "v1a,AAAA", "v2,whatever", f"{WRONG} v1a,AAAA"])
def test_any_entry_may_match(before: str) -> None:
    assert verifier.verify(headers(signature=f"{before} {sign()}"), BODY, NOW) == "msg_1"
    assert verifier.verify(headers(signature=f"{sign()} {before}"), BODY, NOW) == "msg_1"


def test_signed_are_the_raw_bytes_the_id_and_the_time() -> None:
    assert refusal(headers(), BODY + b" ") is Refusal.NO_MATCH
    assert refusal(headers(id="msg_2")) is Refusal.NO_MATCH
    assert refusal(headers(timestamp=str(SENT + 1))) is Refusal.NO_MATCH
    assert refusal(headers(), b"\xff\xfe") is Refusal.NO_MATCH
    raw = b"\xff\xfe"
    assert verifier.verify(headers(signature=sign(raw)), raw, NOW) == "msg_1"


@pytest.mark.parametrize("text", ["msg.1", "msg 1", "m" * 129, "msg_é", "msg_1\n", "msg\0"])
def test_an_id_of_other_characters_is_refused(text: str) -> None:
    assert refusal(headers(id=text, signature=sign(message_id=text))) is Refusal.ID


def test_while_secrets_rotate_each_of_them_is_good() -> None:
    both = Verifier([OTHER, SECRET])
    assert both.verify(headers(), BODY, NOW) == "msg_1"
    assert both.verify(headers(signature=sign(secret=OTHER)), BODY, NOW) == "msg_1"
    assert refusal(headers(signature=sign(secret=OTHER))) is Refusal.NO_MATCH


@pytest.mark.parametrize("length", [24, 25, 26])
def test_a_secret_may_come_without_padding_and_with_blanks_round_it(length: int) -> None:
    key = bytes(range(length))
    padded = "whsec_" + base64.b64encode(key).decode()
    signature = sign(secret=padded)
    for text in (padded, padded.rstrip("="), f" {padded}\n"):
        assert Verifier([text]).verify(headers(signature=signature), BODY, NOW) == "msg_1"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_===",
        "whsec_secretABC",
        "whsec_no!base64",
        "whsec_żółć",
        "sk_test_secret",
        "c2VjcmV0c2Vj",
    ],
)
def test_a_secret_that_cannot_be_read_is_a_configuration_error(secret: str) -> None:
    with pytest.raises(ConfigurationError, match=r"number 2.*CLERK_WEBHOOK_SIGNING_SECRET") as caught:
        Verifier([SECRET, secret])
    shown = "".join(traceback.format_exception(caught.value, limit=0))
    bare = secret.removeprefix("whsec_")
    assert not bare or bare not in shown


def test_no_secret_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="set CLERK_WEBHOOK_SIGNING_SECRET"):
        Verifier([])


any_header = st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))


@given(
    st.dictionaries(
        st.sampled_from(
            [f"{kind}-{name}" for kind in ("svix", "webhook") for name in ("id", "timestamp", "signature")]
        ),
        st.one_of(any_header, st.just(str(SENT)), st.just("msg_1"), any_header.map(lambda text: f"v1,{text}")),
    ),
    st.binary(max_size=200),
)
def test_whatever_comes_unsigned_is_refused_and_nothing_else(given_headers: dict[str, str], body: bytes) -> None:
    assert refusal(given_headers, body) in Refusal


@given(
    st.binary(min_size=1, max_size=64),
    st.from_regex(r"[0-9A-Za-z_-]{1,40}", fullmatch=True),
    st.text(max_size=300),
)
def test_svix_and_standardwebhooks_agree_with_us(key: bytes, message_id: str, text: str) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    at = datetime.now(tz=UTC).replace(microsecond=0)  # both packages read the wall clock
    body = text.encode()
    ours = Verifier([secret])
    for theirs in (svix.webhooks.Webhook(secret), standardwebhooks.Webhook(secret)):
        signature = theirs.sign(message_id, at, body.decode())
        sent = str(int(at.timestamp()))
        given_headers = headers("webhook", id=message_id, timestamp=sent, signature=signature)
        assert ours.verify(given_headers, body, int(sent) * 1000) == message_id
        ours_signed = sign(body, secret, message_id, sent)
        assert ours_signed == signature
        assert ours.verify(given_headers | {"webhook-signature": f"{WRONG} {ours_signed}"}, body, int(sent) * 1000)
