"""Work that one node at a time may do: an advisory lock, held by a transaction that is kept open for it.

A lock of a session would need a connection of one's own; PgBouncer in transaction mode hands the server's
connection to somebody else after each transaction. A transaction that stays open keeps its connection, and its
lock with it, wherever it runs. It holds no snapshot and no rows, so it is in nobody's way, vacuum's neither.

Who has it says so every few seconds. The server itself ends a transaction that was silent for too long: a node
whose machine is gone holds nothing up.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from counterfoil.errors import DatabaseUnavailable
from counterfoil.store.engine import unavailable

_SPACE = 0x63663032  # "cf02"; migrations have a lock of their own
_BEAT = 5.0
"""Seconds between signs of life."""
_SILENT = "30s"
"""After which the server ends the transaction: longer than a lost connection goes unnoticed on our side."""
_HOLD = text(
    "SELECT pg_try_advisory_xact_lock(:space, hashtext(:name)),"
    " set_config('idle_in_transaction_session_timeout', :silent, true),"
    # Of PostgreSQL 17: a limit that an administrator has set would end it in the midst.
    " (SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout')"
)
# Without parameters it ends what the statement before left open, which would keep a snapshot, and vacuum waiting.
_LIVE = "SELECT 1"

_log = structlog.get_logger(__name__)


class Held:
    """One lock that is held. Its methods block, and wait for each other."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._one_at_a_time = threading.Lock()

    def beat(self) -> None:
        """Say that we live; raises `DBAPIError` where the lock is gone."""
        with self._one_at_a_time:
            self._connection.exec_driver_sql(_LIVE)

    def let_go(self) -> None:
        """End the transaction."""
        with self._one_at_a_time, contextlib.suppress(DBAPIError):
            self._connection.close()


def try_to_hold(engine: Engine, name: str) -> Held | None:
    """The lock of this name, or ``None`` where another node has it.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    try:
        connection = engine.connect()
        try:
            connection.begin()
            got = connection.execute(_HOLD, {"space": _SPACE, "name": name, "silent": _SILENT}).scalar()
            connection.exec_driver_sql(_LIVE)
        except BaseException:
            connection.close()
            raise
    except DBAPIError as error:
        raise unavailable(error) from error
    if got:
        return Held(connection)
    connection.close()
    return None


async def holding(engine: Engine, name: str, work: Callable[[], Awaitable[None]]) -> bool:
    """Do ``work`` under a lock; ``False``: another node has it.

    Raises:
        DatabaseUnavailable: the lock could not be asked for, or was lost, and the work was cancelled.
    """
    held = await _finished(asyncio.to_thread(try_to_hold, engine, name))
    if held is None:
        return False
    working, beating = asyncio.ensure_future(work()), asyncio.create_task(_beat(held))
    try:
        await asyncio.wait({working, beating}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise DatabaseUnavailable(f"the lock on {name} was lost")
        working.result()
        return True
    finally:
        for task in (working, beating):
            task.cancel()
        await asyncio.gather(working, beating, return_exceptions=True)
        await _finished(asyncio.to_thread(held.let_go))


async def _beat(held: Held) -> None:
    """Return when the lock is lost."""
    while True:
        await asyncio.sleep(_BEAT)
        try:
            await _finished(asyncio.to_thread(held.beat))
        except DBAPIError as error:
            _log.warning("lock.lost", error=str(unavailable(error)))
            return


async def _finished(blocking: Any) -> Any:
    """What a thread does cannot be cancelled: it is waited for, and what it brought is not left behind."""
    task = asyncio.ensure_future(blocking)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            brought = await task
            if isinstance(brought, Held):
                await asyncio.to_thread(brought.let_go)
        raise
