"""What hostile input is made of, and how it is handed to the node."""

import base64
import hashlib
import hmac
import json
from typing import Any

from hypothesis import strategies as st

LONE = ["\ud800", "a\udc00b", "\x00", "\u202e", "\ufeff", "𝕏" * 70, "'; DROP TABLE link_rows; --", "<script>"]
HUGE = [2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -1, -(2**63) - 1, 10**40, 1e308, 0.1, -0.0]

text = st.text(max_size=30) | st.sampled_from(LONE)
number = st.integers() | st.floats() | st.sampled_from(HUGE)
values = st.recursive(
    st.none() | st.booleans() | number | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
"""Any JSON, with texts and numbers that break things."""

DEEP = [
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
]


def encode(value: Any) -> bytes:
    """JSON as an attacker may write it: lone surrogates as escapes, NaN and Infinity as bare words."""
    return json.dumps(value).encode()


@st.composite
def shaped(draw: st.DrawFn, whole: dict[str, Any]) -> bytes:
    """A good document with some places, at any depth, replaced, taken away, or there twice."""
    made = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        place, key = _somewhere(draw, made)
        if key is None:
            break
        match draw(st.integers(0, 4)):
            case 0:
                del place[key]
            case _:
                place[key] = draw(values)
    encoded = encode(made)
    if draw(st.integers(0, 4)) == 0 and encoded.startswith(b"{") and len(encoded) > 2:
        # The same keys again, with other values: who reads the first and who the last?
        again = encode({key: draw(values) for key in whole})
        encoded = again[:-1] + b"," + encoded[1:]
    return encoded


def _somewhere(draw: st.DrawFn, value: Any) -> tuple[Any, Any]:
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return value, None
        key = draw(st.sampled_from(keys))
        if not isinstance(value[key], dict | list) or not value[key] or draw(st.booleans()):
            return value, key
        value = value[key]


def signature(secret: str, message_id: str, sent: str, body: bytes) -> str:
    """What Svix would sign."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{message_id}.{sent}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac).decode()


def signed(secret: str, body: bytes, sent: int, message_id: str = "msg_1") -> list[tuple[bytes, bytes]]:
    """The headers of a genuine delivery; ``sent``: Unix seconds."""
    given = {
        "svix-id": message_id,
        "svix-timestamp": str(sent),
        "svix-signature": signature(secret, message_id, str(sent), body),
    }
    return [(name.encode(), value.encode()) for name, value in given.items()]
