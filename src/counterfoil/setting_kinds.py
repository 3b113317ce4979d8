"""The kinds of values that settings take: how each is written, checked and kept."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d{1,9})\s*(ms|s|m|h|d)")
_DOMAIN = re.compile(r"\.?[^\s.@,*]+(?:\.[^\s.@,*]+)*")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_FIELDS = ("email", "name", "phone")
_TOKEN = re.compile(r"[!-~]{16,}")
_ADDRESS = re.compile(r"https?://[^\s/@]+(/\S*)?")


def _milliseconds(value: object) -> object:
    """``"20h"`` and the like, in milliseconds."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a duration like 10s, 15m, 20h or 90d")
    return int(match[1]) * _UNITS[match[2]]


def parts(secret: SecretStr) -> list[str]:
    """Several secrets in one setting, one by one."""
    return [part.strip() for part in secret.get_secret_value().split(",") if part.strip()]


def _domains(text: str) -> str:
    """``" Acme.com, *.acme.org"`` as ``"acme.com,.acme.org"``."""
    parts = [part.strip().lower() for part in text.split(",") if part.strip()]
    parts = [part.removeprefix("*") if part.startswith("*.") else part for part in parts]
    if not parts or not all(_DOMAIN.fullmatch(part) for part in parts):
        raise ValueError("write domains with commas between them, like acme.com,*.acme.org")
    return ",".join(parts)


def _pair(text: str) -> str:
    key, mark, _ = text.partition("=")
    if not key or not mark:
        raise ValueError("write a key and a value, like plan=pro")
    return text


def _function(text: str) -> str:
    if not _FUNCTION.fullmatch(text):
        raise ValueError("write the function's place as package.module:function")
    return text


def _mirror(text: str) -> str:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not set(parts) <= set(_FIELDS):
        raise ValueError(f"write some of {', '.join(_FIELDS)}, with commas between them")
    return ",".join(name for name in _FIELDS if name in parts)


def _tokens(value: SecretStr) -> SecretStr:
    if not all(_TOKEN.fullmatch(token) for token in parts(value)):
        raise ValueError("a token has 16 characters at least, none of them a space; try `openssl rand -hex 24`")
    return value


def _address(value: SecretStr) -> SecretStr:
    if _ADDRESS.fullmatch(value.get_secret_value()) is None:
        raise ValueError("write the receiver's whole address: https://...")
    return value


Duration = Annotated[int, BeforeValidator(_milliseconds)]
Rate = Annotated[float, Field(gt=0, le=10_000)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
Domains = Annotated[str, AfterValidator(_domains)]
Pair = Annotated[str, AfterValidator(_pair)]
Function = Annotated[str, AfterValidator(_function)]
Mirror = Annotated[str, AfterValidator(_mirror)]
Tokens = Annotated[SecretStr, AfterValidator(_tokens)]
Address = Annotated[SecretStr, AfterValidator(_address)]
