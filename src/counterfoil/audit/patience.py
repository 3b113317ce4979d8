"""For long work: in batches, and a hiccup of an upstream does not end it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from counterfoil.errors import ObjectLocked, Paused, RateLimited, ServerFailed, Unreachable, UpstreamError

T = TypeVar("T")
_TRIES = 12
_PAUSES = (0.5, 30.0)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """``items`` in lists of ``size``."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


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
