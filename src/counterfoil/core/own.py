"""The user's own functions: a filter and a mapping. They get the user as Clerk sent it, and are not trusted.

Whatever goes wrong in them becomes one error; the link is parked with it, and nothing else is held up.
"""

import inspect
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import Any

from counterfoil.core.link import Fields
from counterfoil.core.policy import DESCRIPTION_LIMIT, EMAIL_LIMIT, NAME_LIMIT, PHONE_LIMIT
from counterfoil.errors import OwnFunctionFailed

OwnFunction = Callable[[dict[str, Any]], object]
METADATA_KEYS = 50
KEY_LIMIT = 40
VALUE_LIMIT = 500
_ERROR_LIMIT = 200
_CUT = {"name": NAME_LIMIT, "description": DESCRIPTION_LIMIT}
_LEFT_OUT = {"email": EMAIL_LIMIT, "phone": PHONE_LIMIT}


def admitted(function: OwnFunction, user: dict[str, Any]) -> bool:
    """Whether the user's own filter lets this user in.

    Raises:
        OwnFunctionFailed: it raised, or returned something else than True or False.
    """
    answer = _call(function, user)
    if not isinstance(answer, bool):
        raise OwnFunctionFailed(f"wrong return: {_kind(answer)}, not True or False")
    return answer


def mapped(function: OwnFunction, user: dict[str, Any], own_keys: Collection[str]) -> Fields:
    """The fields that the user's own mapping gives, within Stripe's limits (facts 3.2).

    A name over 256 and a description over 5,000 characters are cut; an address over 512 and a phone number over
    20 are left out. ``None`` and "" count as not given.

    Args:
        function: the mapping.
        user: the user, as Clerk sent it.
        own_keys: the metadata keys that are ours.

    Raises:
        OwnFunctionFailed: it raised, or returned what no customer can carry.
    """
    answer = _plain("the answer", _call(function, user))
    texts: dict[str, str] = {}
    for name, value in answer.items():
        if name == "metadata":
            continue
        if name not in _CUT and name not in _LEFT_OUT:
            raise OwnFunctionFailed(f"wrong return: unknown field {str(name)[:KEY_LIMIT]!r}")
        text = _text(name, value)
        if name in _CUT:
            text = text[: _CUT[name]].strip()
        elif len(text) > _LEFT_OUT[name]:
            text = ""
        if text:
            texts[name] = text
    return Fields(**texts, metadata=_metadata(answer.get("metadata"), own_keys))


def _metadata(given: object, own_keys: Collection[str]) -> dict[str, str] | None:
    if given is None:
        return None
    kept: dict[str, str] = {}
    for key, value in _plain("metadata", given).items():
        if not isinstance(key, str) or not 0 < len(_text("a metadata key", key)) <= KEY_LIMIT:
            raise OwnFunctionFailed(f"wrong return: a metadata key is not a text of 1 to {KEY_LIMIT} characters")
        if "[" in key or "]" in key:
            raise OwnFunctionFailed(f"wrong return: metadata key {key!r} has a square bracket")
        if key in own_keys:
            raise OwnFunctionFailed(f"wrong return: metadata key {key!r} is Counterfoil's own")
        text = _text(f"metadata {key!r}", value)
        if value is None or len(text) > VALUE_LIMIT:
            raise OwnFunctionFailed(
                f"wrong return: metadata {key!r} is not a text of up to {VALUE_LIMIT} characters"
            )
        if text:
            kept[key] = text
    if len(kept) > METADATA_KEYS - len(own_keys):
        raise OwnFunctionFailed(f"wrong return: more than {METADATA_KEYS - len(own_keys)} metadata keys")
    return kept or None


def _plain(name: str, value: object) -> dict[object, object]:
    if not isinstance(value, Mapping):
        raise OwnFunctionFailed(f"wrong return: {name} is {_kind(value)}, not a mapping")
    try:
        return dict(value)
    except Exception as error:  # a mapping of their own making
        raise OwnFunctionFailed(_line(error)) from None


def _text(name: str, value: object) -> str:
    """``value`` as a text that a database and Stripe can take."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise OwnFunctionFailed(f"wrong return: {name} is {_kind(value)}, not a text")
    if "\0" in value or not _encodes(value):
        raise OwnFunctionFailed(f"wrong return: {name} holds a character that cannot be stored")
    return value


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _call(function: OwnFunction, user: dict[str, Any]) -> object:
    try:
        answer = function(user)
    except Exception as error:
        raise OwnFunctionFailed(_line(error)) from None
    if inspect.iscoroutine(answer):
        answer.close()
    return answer


def _line(error: Exception) -> str:
    """The traceback's last line, as a database can store it."""
    line = traceback.format_exception_only(error)[0].strip().partition("\n")[0]
    return line.encode(errors="replace").decode().replace("\0", "?")[:_ERROR_LIMIT]


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
