"""PostgreSQL, without waiting for one answer before the next statement is sent (libpq's pipeline mode).

A transaction whose statements need nothing of each other's answers is one round trip, its begin and its commit
included. It is sent and heard from the event loop: a thread would wait for its turn at the interpreter several
times for each ([decision 0018](docs/decisions/0018-newcomers-in-one-round-trip.md)).
"""

import asyncio
import select
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Engine, TextClause
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError

from counterfoil.store.engine import AGAIN, TRIES, WARNED, begin_writing, cannot_be_used, of_a_standby, until_again

Statement = tuple[TextClause, str]
"""A statement that has one parameter, a text, and its value."""

_NUMBERED = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
_TEXT = 25
"""PostgreSQL's number of the type."""
_SILENCE = 120.0
"""Seconds after which a server that has not answered counts as lost; its own limit for one statement is 60 s."""


class _Refused(Exception):
    """The server has refused a statement; ``begun``: its transaction had begun."""

    def __init__(self, state: str, said: str, *, begun: bool) -> None:
        super().__init__(said)
        self.state = state
        self.begun = begun


class Pipeline:
    """Transactions on one connection, which is made when it is needed. Belongs to one event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._line: _Line | None = None
        self._free = asyncio.Lock()

    async def transact(self, statements: Sequence[Statement]) -> list[int]:
        """Carry out ``statements`` in one transaction, and return once that is on disk.

        They are carried out again after a deadlock, and once after a connection that was lost, or refused to
        begin. So they may be carried out twice: the connection may have been lost after the commit.

        Returns:
            Of each statement how many rows it has written.

        Raises:
            DatabaseUnavailable: nothing was kept; or, where the connection was lost, nobody knows.
        """
        async with self._free:
            tries, lost = 0, False
            while True:
                tries += 1
                line = await self._connected()
                try:
                    return await line.transact(statements)
                except _Refused as refused:
                    if refused.state in AGAIN and tries < TRIES:
                        await asyncio.sleep(until_again(tries))
                        continue
                    if refused.begun:
                        raise cannot_be_used(str(refused)) from None
                    said = str(refused)
                except line.error as error:
                    said = str(error)
                except BaseException:
                    # Its answers would be taken for those of the next transaction.
                    self._drop()
                    raise
                self._drop()
                if lost:
                    raise cannot_be_used(said)
                lost = True

    async def _connected(self) -> "_Line":
        if self._line is not None and self._line.lost:
            self._drop()
        if self._line is None:
            try:
                connection = await asyncio.to_thread(self._engine.raw_connection)
            except (self._engine.dialect.loaded_dbapi.Error, SQLAlchemyError) as error:
                raise cannot_be_used(str(error)) from error
            try:
                self._line = _Line(connection, self._engine)
            except BaseException as error:
                connection.invalidate()
                if isinstance(error, self._engine.dialect.loaded_dbapi.Error):
                    raise cannot_be_used(str(error)) from error
                raise
        return self._line

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    async def close(self) -> None:
        """Finish what is under way, then let the connection go."""
        async with self._free:
            self._drop()
            self._engine.dispose()


class _Line:
    """One connection."""

    def __init__(self, connection: Any, engine: Engine) -> None:
        of_driver = engine.dialect.loaded_dbapi
        self.error: type[Exception] = of_driver.Error
        self.lost = False
        self._status = of_driver.pq.ExecStatus
        self._field = of_driver.pq.DiagnosticField
        self._idle = of_driver.pq.TransactionStatus.IDLE
        self._connection = connection
        self._pq = connection.dbapi_connection.pgconn
        self._begin = tuple(part.encode() for part in begin_writing(engine.get_execution_options()["schema"]))
        self._loop = asyncio.get_running_loop()
        self._socket = self._pq.socket
        self._due = 0
        """Answers that are still to come."""
        self._came: list[Any] = []
        self._all_here: asyncio.Future[None] | None = None
        self._more = select.poll()
        self._more.register(self._socket, select.POLLIN)
        self._pq.nonblocking = 1
        self._pq.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._read)

    async def transact(self, statements: Sequence[Statement]) -> list[int]:
        """See `Pipeline.transact`. Raises `_Refused`, or the driver's error where the connection is lost."""
        self._connection.info.pop(WARNED, None)
        send = self._pq.send_query_params
        for begin in self._begin:
            send(begin, None)
        for statement, value in statements:
            send(_numbered(statement), [value.encode()], [_TEXT])
        send(b"COMMIT", None)
        answers = await self._answers(len(self._begin) + len(statements) + 1)
        for place, answer in enumerate(answers):
            if answer.status == self._status.FATAL_ERROR:
                await self._roll_back()
                state, said = (
                    (answer.error_field(field) or b"").decode(errors="replace")
                    for field in (self._field.SQLSTATE, self._field.MESSAGE_PRIMARY)
                )
                raise _Refused(state, said, begun=place > 0)
        if self._connection.info.pop(WARNED, False):
            raise of_a_standby()
        return [answer.command_tuples for answer in answers[len(self._begin) : -1]]

    async def _roll_back(self) -> None:
        if self._pq.transaction_status != self._idle:
            self._pq.send_query_params(b"ROLLBACK", None)
            await self._answers(1)

    async def _answers(self, several: int) -> list[Any]:
        self._pq.pipeline_sync()
        self._due, self._came = several + 1, []
        self._all_here = self._loop.create_future()
        waits = self._all_here
        self._write()
        try:
            async with asyncio.timeout(_SILENCE):
                await waits
        except TimeoutError:
            raise self.error("the server does not answer") from None
        return self._came[:-1]

    def _write(self) -> None:
        try:
            left = self._pq.flush()
        except self.error as error:
            self._lose(error)
            return
        if left:
            self._loop.add_writer(self._socket, self._write)
        else:
            self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        """Take all that is there.

        Of a connection that was reset uvloop tells once, and what the server said last may stand before the reset.
        """
        try:
            self._take_in()
            while self._more.poll(0):
                self._take_in()
        except self.error as error:
            if not self._due:
                self._end(None)  # all of it came, and it need not be carried out twice
            self._lose(error)
            return
        if not self._due:
            self._end(None)

    def _take_in(self) -> None:
        """Read once. Raises the driver's error where the connection is lost."""
        self._pq.consume_input()
        ended = 0
        # Nothing ends each statement's answers; what nothing follows is the end of the connection.
        while self._due and ended < 2 and not self._pq.is_busy():
            answer = self._pq.get_result()
            if answer is None:
                ended += 1
            else:
                ended = 0
                self._came.append(answer)
                self._due -= 1
        if ended == 2:
            raise self.error("the connection is lost")

    def _lose(self, error: Exception) -> None:
        self.lost = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        waits, self._all_here = self._all_here, None
        if waits is not None and not waits.done():
            if error is not None:
                waits.set_exception(error)
            else:
                waits.set_result(None)

    def close(self) -> None:
        if not self.lost:
            self._lose(self.error("closed"))
        self._connection.invalidate()


@cache
def _numbered(statement: TextClause) -> bytes:
    """As libpq names parameters."""
    return str(statement.compile(dialect=_NUMBERED)).encode()
