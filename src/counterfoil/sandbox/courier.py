"""Posts due deliveries to the receiver as Svix does: 15 seconds each, redirects not followed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiohttp

from counterfoil.sandbox.svix import Attempt, SvixState


class Courier:
    """Delivers while its block lasts.

    `poll` is how often, in seconds, it looks for news; `concurrency` how many posts may be under way.
    """

    def __init__(
        self,
        svix: SvixState,
        url: str,
        *,
        clock: Callable[[], float] = time.time,
        concurrency: int = 50,
        poll: float = 0.01,
    ) -> None:
        self.url = url
        self._svix = svix
        self._clock = clock
        self._concurrency = concurrency
        self._poll = poll
        self._posts: set[asyncio.Task[None]] = set()
        self._run: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=self._svix.settings.timeout)
        connector = aiohttp.TCPConnector(limit=self._concurrency)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        self._run = asyncio.create_task(self._deliver(self._session))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._posts, *([self._run] if self._run else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def drained(self, timeout: float = 60.0) -> None:
        """Wait until nothing is waiting to be delivered, retries included; TimeoutError after `timeout`
        seconds.
        """
        async with asyncio.timeout(timeout):
            # The state core knows of no event loop, so there is nothing to wait on but its counters.
            while self._svix.pending():  # noqa: ASYNC110
                await asyncio.sleep(self._poll)

    async def _deliver(self, session: aiohttp.ClientSession) -> None:
        while True:
            room = self._concurrency - len(self._posts)
            for attempt in self._svix.due(self._clock(), room) if room else []:
                post = asyncio.create_task(self._post(session, attempt))
                self._posts.add(post)
                post.add_done_callback(self._posts.discard)
            if len(self._posts) >= self._concurrency:
                await asyncio.wait(self._posts, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(self._poll)

    async def _post(self, session: aiohttp.ClientSession, attempt: Attempt) -> None:
        status: int | None = None
        abort = False
        try:
            async with session.post(
                self.url, data=attempt.body, headers=attempt.headers, allow_redirects=False
            ) as response:
                await response.read()
                status = response.status
                abort = response.headers.get("webhook-delivery") == "abort-message"
        except (aiohttp.ClientError, TimeoutError):
            status = None
        except asyncio.CancelledError:
            self._svix.settle(attempt, None, self._clock())
            raise
        self._svix.settle(attempt, status, self._clock(), abort=abort)
