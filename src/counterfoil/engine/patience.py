"""Trying until it works: for what a node cannot do without at its start, whoever is away meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from counterfoil.errors import DatabaseUnavailable, UpstreamError

_LONGEST = 60.0

_log = structlog.get_logger(__name__)


async def patiently(attempt: Callable[[], Awaitable[object]], failure: str) -> None:
    """Call ``attempt`` until it returns, with pauses from 1 s to 60 s, or as long as the upstream asks.

    ``failure`` is the event that each failed try is logged as. Errors that are neither `UpstreamError`
    nor `DatabaseUnavailable` are raised.
    """
    pause = 1.0
    while True:
        try:
            await attempt()
            return
        except (UpstreamError, DatabaseUnavailable) as error:
            _log.warning(failure, error=str(error), again_in=pause)
            asked = error.retry_after if isinstance(error, UpstreamError) else None
            await asyncio.sleep(asked or pause)
            pause = min(pause * 2, _LONGEST)
