"""The other nodes on a PostgreSQL database: a common quota, locks, and a call when something is due.

All of it is PostgreSQL's own: rows, advisory locks, LISTEN and NOTIFY.
"""

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from counterfoil.errors import DatabaseUnavailable
from counterfoil.store import quota
from counterfoil.store.database import Lane
from counterfoil.store.engine import SCHEMA, connect, unavailable
from counterfoil.store.locks import holding
from counterfoil.upstream.shared_quota import Ask, Grant, SharedBucket

_LOCKS = 3
"""Connections that hold locks: for catch-up, for the chores and for alerts."""
_GATHER = 0.02
"""Seconds for which calls to the others are gathered: each takes a lock that all who call share."""
_LOOK_UP = 0.5
"""Seconds after which the listener sees that it is to end."""
_AGAIN, _LONGEST = 1.0, 15.0
# NOTIFY would make its transaction wait for the disk.
_TELL = text("SELECT pg_notify(:channel, :who), set_config('synchronous_commit', 'off', true)")
_TIME = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)")

_log = structlog.get_logger(__name__)


class PostgresqlPeers:
    """See `engine.peers.Peers`. Belongs to one event loop, but for what blocks, which has threads."""

    alone = False

    def __init__(self, url: str, schema: str = SCHEMA, listen_url: str | None = None) -> None:
        """Args:
        url: the database.
        schema: where our tables are; nodes of another schema are strangers.
        listen_url: a way to the same database that keeps a connection, where ``url`` is a pooler's.
        """
        self._schema = schema
        # Aside from all other work: whoever waits for a slot must not wait for somebody's transaction.
        self._lane = Lane("database-peers", connect(url, schema))
        self._locks = connect(url, schema, _LOCKS)
        self._listener = Listener(connect(listen_url or url, schema), schema)
        self._telling: asyncio.Task[None] | None = None
        self._told_again = False

    def slots(self, name: str, rate: float) -> SharedBucket:
        """See `Peers.slots`."""
        return SharedBucket(name, rate, self._reserve, self._push)

    async def _reserve(self, ask: Ask) -> Grant:
        return await self._lane.run(partial(quota.reserve, ask=ask))

    async def _push(self, name: str, seconds: float) -> None:
        await self._lane.run(partial(quota.push, bucket=name, seconds=seconds))

    async def only(self, what: str, work: Callable[[], Awaitable[None]]) -> bool:
        """See `Peers.only`."""
        return await holding(self._locks, f"{self._schema} {what}", work)

    def tell(self) -> None:
        """See `Peers.tell`."""
        self._told_again = True
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        while self._told_again:
            await asyncio.sleep(_GATHER)
            self._told_again = False
            try:
                await self._lane.run(partial(_notify, channel=self._schema, who=self._listener.name))
            except DatabaseUnavailable as error:
                # They look by themselves, a little later.
                _log.warning("peers.not_told", error=str(error))

    async def listen(self, wake: Callable[[], None]) -> None:
        """See `Peers.listen`."""
        await self._listener.run(wake)

    async def time(self) -> int | None:
        """See `Peers.time`."""
        return await self._lane.run(_time)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._listener.stop()
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        await self._lane.close()
        self._locks.dispose()


def _notify(connection: Connection, channel: str, who: str) -> None:
    connection.execute(_TELL, {"channel": channel, "who": who})


def _time(connection: Connection) -> int:
    return int(connection.execute(_TIME).scalar_one())


class Listener:
    """A connection of its own that hears when another node tells. It is made again as long as it is wanted."""

    def __init__(self, engine: Engine, channel: str) -> None:
        self._engine = engine
        self._channel = channel
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.name = secrets.token_hex(8)
        """What we call ourselves when we tell, so as not to hear ourselves."""

    async def stop(self) -> None:
        """End, within half a second."""
        self._stopped.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def run(self, wake: Callable[[], None]) -> None:
        """Listen until cancelled; ``wake`` is called on the loop."""
        loop = asyncio.get_running_loop()
        # A thread of its own: it would take one of the pool's for good.
        listen = partial(self._listen, partial(_soon, loop, wake))
        self._thread = threading.Thread(target=listen, name="database-listener", daemon=True)
        self._thread.start()
        try:
            await loop.create_future()
        finally:
            self._stopped.set()

    def _listen(self, wake: Callable[[], None]) -> None:
        pause = _AGAIN
        while not self._stopped.is_set():
            try:
                raw = self._engine.raw_connection()
                try:
                    driver: Any = raw.driver_connection
                    driver.execute(f'LISTEN "{self._channel}"')
                    pause = _AGAIN
                    wake()  # what was told before we listened
                    self._hear(driver, wake)
                finally:
                    raw.invalidate()  # it listens: nobody else may have it
            except Exception as error:
                said = str(unavailable(error)) if isinstance(error, DBAPIError) else type(error).__name__
                _log.warning("peers.not_heard", error=said, again_in=pause)
                self._stopped.wait(pause)
                pause = min(pause * 2, _LONGEST)
        self._engine.dispose()

    def _hear(self, driver: Any, wake: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            for told in driver.notifies(timeout=_LOOK_UP, stop_after=1):
                if told.payload != self.name:
                    wake()


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
