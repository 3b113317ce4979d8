"""Tests on virtual time."""

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any

import looptime

from counterfoil.errors import UpstreamError

Test = Callable[..., Awaitable[None]]


def _new_loop() -> asyncio.AbstractEventLoop:
    return looptime.new_event_loop(noop_cycles=1)


def virtual(test: Test) -> Callable[..., None]:
    """Make an ``async def`` a test whose seconds pass at once."""

    def run(**given: Any) -> None:
        random.seed(0)
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_played(test, given))

    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    run.__name__ = getattr(test, "__name__", "virtual")
    run.__doc__ = test.__doc__
    return run


async def _played(test: Test, given: dict[str, Any]) -> None:
    await test(**given)


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


def failure(kind: type[UpstreamError], **more: Any) -> UpstreamError:
    """An error as a client makes it."""
    return kind("it failed", upstream="stripe", **more)
