"""Trying until it works: for what a node cannot do without at its start, whoever is away meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from counterfoil.errors import DatabaseUnavailable, UpstreamError

_LONGEST, _LONGEST_DATABASE = 60.0, 5.0

_log = structlog.get_logger(__name__)


async def patiently(attempt: Callable[[], Awaitable[object]], failure: str) -> None:
    """Call ``attempt`` until it returns, with pauses that grow from 1 s to 60 s.

    An upstream that asks for more time gets it. One that asks for less does not shorten the pause: where all
    answers of an outage say "in a second", it would be asked every second for hours. A database gets 5 s at most.
    ``failure`` is the event that each failed try is logged as. Errors that are neither an upstream's nor the
    database's are raised.
    """
    pause = 1.0
    while True:
        try:
            await attempt()
            return
        except UpstreamError as error:
            wait = max(error.retry_after or 0.0, pause)
            _log.warning(failure, error=str(error), again_in=wait)
            await asyncio.sleep(wait)
            pause = min(pause * 2, _LONGEST)
        except DatabaseUnavailable as error:
            # It comes back sooner than an upstream: another server takes over.
            pause = min(pause, _LONGEST_DATABASE)
            _log.warning(failure, error=str(error), again_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_DATABASE)
