"""For Python apps: the customer of a user, made now if there is none yet.

    from counterfoil.client import ensure_customer

    customer_id = await ensure_customer("user_2abc...")

It speaks to a running ``counterfoil serve`` over HTTP, and imports nothing of the product but its errors.
"""

import json
import os
from typing import Any

import aiohttp

from counterfoil.core.subject import user_id as checked
from counterfoil.errors import (
    ConfigurationError,
    CustomerParked,
    EnsureFailed,
    NoCustomer,
    NotYet,
    UserDeleted,
    UserUnknown,
)

__all__ = ["ensure_customer"]

_LONGEST = 10
"""Seconds that the server waits at most."""
_SPARE = 5.0
"""Seconds for the answer itself, beyond the wait that was asked for."""


async def ensure_customer(
    user_id: str,
    *,
    url: str | None = None,
    token: str | None = None,
    timeout: float = _LONGEST,
    session: aiohttp.ClientSession | None = None,
) -> str:
    """The id of the user's Stripe customer (``cus_...``).

    Args:
        user_id: Clerk's (``user_...``).
        url: where ``serve`` is; ``None``: the environment's ``COUNTERFOIL_URL``.
        token: one of serve's tokens; ``None``: the environment's ``COUNTERFOIL_API_TOKEN``.
        timeout: seconds to wait for a customer that is not there yet, 10 at most; after that `NotYet` is raised.
        session: the app's own, so that connections are kept; ``None``: one for this call.

    Raises:
        BadSubject: the id is none of Clerk's.
        ConfigurationError: url or token is missing, or serve refuses the token.
        UserUnknown: Clerk has no such user.
        UserDeleted: the user is gone.
        CustomerParked: a person must decide something first; ``reason`` says what.
        NoCustomer: as things stand the user is to have none; ``reason`` says why (``no_email``, say).
        NotYet: it takes longer; it is asked for, and will be done. Ask again.
        EnsureFailed: serve cannot be reached or cannot take it now; all others but the first two are of this kind.
    """
    base = url or os.environ.get("COUNTERFOIL_URL")
    # Several tokens, with commas, may share serve's own setting during a rotation: the first one is shown.
    key = (token or os.environ.get("COUNTERFOIL_API_TOKEN", "")).split(",")[0].strip()
    if not base or not key:
        raise ConfigurationError("set COUNTERFOIL_URL and COUNTERFOIL_API_TOKEN, or give url and token")
    place = f"{base.rstrip('/')}/v1/ensure/{checked(user_id)}"
    if session is not None:
        return await _asked(session, place, key, timeout)
    async with aiohttp.ClientSession() as own:
        return await _asked(own, place, key, timeout)


async def _asked(session: aiohttp.ClientSession, place: str, key: str, timeout: float) -> str:
    wait = max(0, min(int(timeout), _LONGEST))
    headers = {"authorization": f"Bearer {key}", "prefer": f"wait={wait}"}
    limit = aiohttp.ClientTimeout(total=max(timeout, 0.0) + _SPARE)
    try:
        async with session.post(place, headers=headers, timeout=limit, allow_redirects=False) as answer:
            text = await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EnsureFailed(f"counterfoil does not answer: {type(error).__name__}") from error
    body = _decoded(text)
    if answer.status == 200 and isinstance(body.get("customer_id"), str):
        return str(body["customer_id"])
    raise _error(answer.status, body)


def _decoded(text: bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _error(status: int, body: dict[str, Any]) -> Exception:
    """What an answer without a customer means. The state tells ours from another server's 404."""
    why, reason = str(body.get("error") or body.get("explanation") or ""), str(body.get("reason"))
    match status, body.get("state"):
        case 202, "pending":
            return NotYet(why, str(body.get("location")))
        case 404, "unknown":
            return UserUnknown(why)
        case 410, "deleted":
            return UserDeleted(why)
        case 409, "parked":
            return CustomerParked(why, reason)
        case 409, "none":
            return NoCustomer(why, reason)
        case ((401 | 403), _):
            return ConfigurationError(f"counterfoil refuses the token ({status}): {why}")
        case _:
            return EnsureFailed(f"counterfoil answered {status}: {why}".removesuffix(": "))
