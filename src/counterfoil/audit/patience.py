"""A hiccup of an upstream does not end an hour's work: a call is tried again, with a growing pause."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from counterfoil.errors import ObjectLocked, Paused, RateLimited, ServerFailed, Unreachable, UpstreamError

T = TypeVar("T")
_TRIES = 12
_PAUSES = (0.5, 30.0)
_log = structlog.get_logger(__name__)


async def insistently(call: Callable[[], Awaitable[T]]) -> T:
    """What ``call`` returns, at the latest after an outage of some minutes.

    Raises:
        UpstreamError: it is refused, or the outage lasts.
    """
    pause, longest = _PAUSES
    for _ in range(_TRIES):
        try:
            return await call()
        except (Unreachable, ServerFailed, RateLimited, ObjectLocked, Paused) as error:
            if _is_for_good(error):
                raise
            await asyncio.sleep(max(pause, error.retry_after or 0.0))
            pause = min(2 * pause, longest)
    return await call()


def _is_for_good(error: UpstreamError) -> bool:
    """An answer that is not understood stays so."""
    return isinstance(error, Unreachable) and error.status == 200
