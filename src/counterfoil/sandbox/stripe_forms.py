"""Stripe's form encoding with brackets, and the validation that comes before execution.

Lengths: Stripe's customer schema of 2026-09-30 and its page on metadata.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

Params = dict[str, Any]

MAX_LENGTH = {
    "email": 512,
    "name": 256,
    "phone": 20,
    "description": 5000,
    "business_name": 150,
    "individual_name": 150,
}
CUSTOMER_PARAMS = frozenset(
    {
        *MAX_LENGTH,
        "address",
        "balance",
        "cash_balance",
        "expand",
        "invoice_prefix",
        "invoice_settings",
        "metadata",
        "next_invoice_sequence",
        "preferred_locales",
        "shipping",
        "source",
        "tax",
        "tax_exempt",
    }
)
CREATE_ONLY = frozenset({"payment_method", "tax_id_data", "test_clock"})


class Invalid(Exception):
    """A request that Stripe refuses. `stored`: execution had begun, so a key keeps the answer."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        status: int = 400,
        stored: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.status = status
        self.stored = stored


def decode(text: str) -> Params:
    """`a=1&metadata[k]=v&expand[]=x&created[gte]=5` to nested mappings and lists.

    A metadata key is everything between the first and the last bracket, so that brackets inside can be
    refused.
    """
    params: Params = {}
    for raw, value in parse_qsl(text, keep_blank_values=True):
        head, bracket, rest = raw.partition("[")
        if not bracket:
            params[head] = value
            continue
        inner = rest[:-1] if rest.endswith("]") else rest
        if head in {"expand", "preferred_locales"}:
            params.setdefault(head, []).append(value)
        elif isinstance(params.setdefault(head, {}), dict):
            params[head][inner] = value
        else:
            raise Invalid(f"Invalid parameter: {head}", code="parameter_invalid", param=head)
    return params


def check_customer(params: Params, *, create: bool) -> None:
    """Refuse unknown names and what is too long."""
    allowed = CUSTOMER_PARAMS | CREATE_ONLY if create else CUSTOMER_PARAMS
    for name, value in params.items():
        if name not in allowed:
            raise Invalid(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
        limit = MAX_LENGTH.get(name)
        if limit is not None and len(value) > limit:
            raise Invalid(
                f"Invalid string: must be at most {limit} characters", code="string_too_long", param=name
            )
    check_metadata(params.get("metadata", {}))


def check_metadata(metadata: Any) -> None:
    """50 keys of 40 characters without brackets, values of 500; an empty string stands for "remove all"."""
    if metadata == "":
        return
    if not isinstance(metadata, dict):
        raise Invalid("Invalid hash", code="parameter_invalid", param="metadata")
    for key, value in metadata.items():
        if "[" in key or "]" in key:
            raise Invalid("Metadata keys cannot contain square brackets.", param="metadata")
        if len(key) > 40:
            raise Invalid("Metadata keys can be up to 40 characters.", param=f"metadata[{key}]")
        if len(value) > 500:
            raise Invalid("Metadata values can be up to 500 characters.", param=f"metadata[{key}]")
    too_many(metadata)


def too_many(metadata: dict[str, str]) -> None:
    """Refuse more than 50 keys."""
    if sum(value != "" for value in metadata.values()) > 50:
        raise Invalid("You can have up to 50 metadata keys.", param="metadata")


def merge_metadata(old: dict[str, str], news: Any) -> dict[str, str]:
    """Merge; an empty value removes its key, an empty whole removes all."""
    if news == "":
        return {}
    merged = {**old, **news}
    return {key: value for key, value in merged.items() if value != ""}


def whole_number(params: Params, name: str, default: int, low: int, high: int) -> int:
    """A number within bounds, or Stripe's refusal."""
    text = params.get(name)
    if text is None:
        return default
    if not isinstance(text, str) or not text.lstrip("-").isdecimal():
        raise Invalid(f"Invalid integer: {text}", code="parameter_invalid_integer", param=name)
    if not low <= int(text) <= high:
        message = f"This value must be between {low} and {high} (inclusive)."
        raise Invalid(message, code="parameter_invalid_integer", param=name)
    return int(text)
