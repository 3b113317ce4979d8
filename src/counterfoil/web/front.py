"""The HTTP server: uvicorn's, with a way of its own for deliveries.

A delivery is handed to the receiver as soon as its last byte is parsed, and answered from where its commit
ends: no ASGI messages, no task and no future for each, which cost more than all that is done with it
([decision 0016](docs/decisions/0016-deliveries-are-taken-off-the-wire.md)). All other requests go the usual
way, to an ASGI application.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools
from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from counterfoil.web.answers import Answers
from counterfoil.web.receiver import Receiver, Reply

CONNECTIONS = 4_096
"""So many at once; further ones are closed."""
HEAD_SECONDS = 10.0
"""For a request's head, and for the first byte of the next one."""
READ_SECONDS = 10.0
"""For the whole body of a delivery. Svix gives up after 15 s."""
HEAD_LIMIT = 64 * 1024
"""Bytes of a request's head, and again of what comes behind it that is no body."""
_CHUNK_LINES = 16
"""Bytes of the lines about a chunk: its size, and the end of the line after it."""
_SWEEP_TICKS = 10
"""uvicorn's ticks (0.1 s) between looks for connections that are too slow."""
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


class Delivery:
    """One request for the webhook's path. For uvicorn's protocol it stands where a request and its answer do."""

    __slots__ = (
        "_protocol",
        "disconnected",
        "keep_alive",
        "message_event",
        "parts",
        "reply",
        "response_complete",
        "size",
        "turn",
        "waits_to_send",
    )

    def __init__(self, protocol: "DeliveryProtocol", *, keep_alive: bool, turn: bool) -> None:
        self._protocol = protocol
        self.keep_alive = keep_alive
        self.turn = turn
        """All requests before it on this connection are answered."""
        self.waits_to_send = False
        """It sends its body when it is told to, which it is when it is its turn."""
        self.parts: list[bytes] = []
        """Of the body."""
        self.size = 0
        self.reply: Reply | None = None
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NOBODY_WAITS

    def answer(self, reply: Reply) -> None:
        """Answer it; where others go first, once they have been answered."""
        if self.reply is None:
            self.reply = reply
            if self.turn:
                self._protocol.write(self, reply)


class _Nobody:
    """In place of the event that wakes an ASGI application."""

    def set(self) -> None:
        """Nobody waits."""


_NOBODY_WAITS = _Nobody()


class DeliveryProtocol(HttpToolsProtocol):
    """One connection."""

    cycle: Any
    """The last request: a `Delivery`, or uvicorn's own."""

    def __init__(self, receiver: Receiver | None, path: bytes, answers: Answers, **given: Any) -> None:
        super().__init__(**given)
        self._receiver = receiver
        self._answers = answers
        self._path = path
        self._delivery: Delivery | None = None
        """The delivery that is being read."""
        self._requests = 0
        self._head = -1
        """Bytes of the request that is being read: of its head, later of its trailers; -1: none is."""
        self._bodies = 0
        """Bytes of bodies in the data that is being parsed: they have limits of their own."""
        self._deadline: float | None = None
        """When what is being read, or the next request, must have come; ``None``: it is ours to answer."""

    # What comes in.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.time() + HEAD_SECONDS
        if len(self.connections) > CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        requests, self._bodies = self._requests, 0
        super().data_received(data)
        # What a head began in is not counted: whole requests may be before it.
        if self._head >= 0 and self._requests == requests:
            self._head += max(0, len(data) - self._bodies)
            if self._head > HEAD_LIMIT:
                self._refuse(431)

    def _is_idle(self) -> bool:
        """Whether all that came has been answered."""
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    def on_message_begin(self) -> None:
        # uvicorn's own makes an ASGI scope, which deliveries have no use for.
        self.url, self.headers = b"", []
        self._requests += 1
        self._head = 0
        self._deadline = self.loop.time() + HEAD_SECONDS

    def on_header(self, name: bytes, value: bytes) -> None:
        # uvicorn's own looks at each one for what is looked for once, when all are here.
        self.headers.append((name.lower(), value))

    def on_chunk_header(self) -> None:
        """A part of a body begins, or its trailers do."""
        self._bodies += _CHUNK_LINES

    def on_headers_complete(self) -> None:
        self._head = 0
        if self._receiver is None or not self._is_delivery():
            self._deadline = None
            self._pass_on()
            return
        before = self.cycle
        if self.transport.is_closing() or (type(before) is Delivery and not before.keep_alive):
            return  # nothing comes after the last request of a connection
        turn = before is None or before.response_complete
        size, waits, about_connection = _announced(self.headers)
        keep_alive = self.parser.should_keep_alive()
        if about_connection and self.parser.get_http_version() == "1.0":
            keep_alive = False
        if self.parser.get_method() == b"HEAD":
            keep_alive = False  # nobody reads the text of its answer
        self._delivery = self.cycle = delivery = Delivery(self, keep_alive=keep_alive, turn=turn)
        if not turn:
            self.flow.pause_reading()
            self.pipeline.appendleft((delivery, self.app))  # type: ignore[arg-type]
        self._deadline = self.loop.time() + READ_SECONDS
        if size > self._receiver.body_limit:
            self._give_up(self._receiver.too_large())
        elif waits:
            if turn:
                self.transport.write(_GO_ON)
            delivery.waits_to_send = not turn

    def _pass_on(self) -> None:
        """Have uvicorn begin the request whose head was read."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.expect_100_continue = _announced(headers)[1]
        self.headers += headers  # the scope has this very list
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._bodies += len(body)
        delivery = self._delivery
        if delivery is None:
            if type(self.cycle) is not Delivery:
                super().on_body(body)
        else:
            assert self._receiver is not None
            delivery.size += len(body)
            if delivery.size > self._receiver.body_limit:
                self._give_up(self._receiver.too_large())
            else:
                delivery.parts.append(body)

    def on_message_complete(self) -> None:
        self._head = -1
        delivery, self._delivery = self._delivery, None
        if delivery is None:
            if type(self.cycle) is not Delivery:
                super().on_message_complete()
        else:
            assert self._receiver is not None
            self._deadline = None
            body = b"".join(delivery.parts)
            self._receiver.deliver(self.parser.get_method(), self.headers, body, delivery.answer)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has ended its side: a delivery is still answered, then the connection is closed."""
        if self._delivery is not None and self._receiver is not None:
            self._give_up(self._receiver.ended())
        if type(self.cycle) is not Delivery or self.cycle.response_complete:
            return False
        self.cycle.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._delivery is not None and self._receiver is not None:
            self._receiver.ended()
        self._delivery, self._deadline = None, None
        super().connection_lost(exc)

    def expire(self, now: float) -> None:
        """Let go of a client that is too slow; ``now``: the loop's time (s)."""
        if self._deadline is None or now < self._deadline:
            return
        self._deadline = None
        if self.flow.write_paused:
            self.transport.abort()
        elif self._delivery is not None and self._receiver is not None:
            self._give_up(self._receiver.too_slow())
        else:
            self.transport.close()

    def _is_delivery(self) -> bool:
        if self.url == self._path:
            return True
        # A query, a whole address, another way to write it.
        return unquote_to_bytes(httptools.parse_url(self.url).path or b"") == self._path

    # What goes out.

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """It is the turn of a request that came before others were answered."""
        if type(cycle) is not Delivery:
            super()._start_asgi_task(cycle, app)
            return
        cycle.turn = True
        if cycle.waits_to_send and cycle.reply is None:
            self.transport.write(_GO_ON)
        if cycle.reply is not None:
            # Not at once: the next one's turn would come from within this one's, and so on for all that wait.
            self.loop.call_soon(self.write, cycle, cycle.reply)

    def _give_up(self, reply: Reply) -> None:
        """Answer the delivery that is being read, and read no more of this connection."""
        delivery, self._delivery, self._deadline = self._delivery, None, None
        assert delivery is not None
        delivery.keep_alive = False
        delivery.answer(reply)

    def write(self, delivery: Delivery, reply: Reply) -> None:
        """Send an answer whose turn it is."""
        if self.transport.is_closing():
            return
        self.transport.write(self._answers.of(reply, delivery.keep_alive, self.server_state.default_headers))
        delivery.response_complete = True
        if not delivery.keep_alive:
            self.transport.close()
            return
        self.on_response_complete()
        if self.flow.write_paused:
            self.flow.pause_reading()

    def on_response_complete(self) -> None:
        """As uvicorn does, but for its timer, which would be made and cancelled for each request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._deadline is None:
            self._deadline = self.loop.time() + HEAD_SECONDS

    def pause_writing(self) -> None:
        """The client takes no answers: it is given time, and no more is read of it meanwhile."""
        super().pause_writing()
        self._deadline = self.loop.time() + HEAD_SECONDS

    def resume_writing(self) -> None:
        """It takes them again."""
        super().resume_writing()
        # What was being read must still come, or the next request.
        waits = self._head >= 0 or self._is_idle()
        self._deadline = self.loop.time() + READ_SECONDS if waits else None
        self.flow.resume_reading()

    def _refuse(self, status: int) -> None:
        self._head = -1
        if self._is_idle():  # otherwise it would be taken for the answer to another
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, bool, bool]:
    """What a head says: its body's bytes (0: it does not), whether that waits, anything about the connection.

    Without a word of its own HTTP/1.0 is not kept alive anyway, and to ask for the version makes a text of it.
    """
    size, waits, about_connection = 0, False, False
    for name, value in headers:
        if name == b"content-length":
            size = int(value)  # a number: the parser has used it
        elif name == b"expect" and value.lower() == b"100-continue":
            waits = True
        elif name == b"connection":
            about_connection = True
    return size, waits, about_connection


class Front(Server):
    """Listens on one address, on the running event loop."""

    def __init__(self, receiver: Receiver | None, path: str, application: ASGIApp, at: socket.socket) -> None:
        """Bind the parts.

        Args:
            receiver: takes the deliveries; ``None``: none are taken here.
            path: where they come.
            application: answers all other requests.
            at: a bound socket; it is closed in the end.
        """
        self._socket = at
        self._listens = asyncio.Event()
        super().__init__(
            Config(
                application,
                http=partial(DeliveryProtocol, receiver, path.encode(), Answers()),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=1024,
                # Whoever is too slow is not looked for any more by then.
                timeout_graceful_shutdown=int(READ_SECONDS) + 2,
            )
        )

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen until `stop`, and return when all that came has been answered."""
        await super().serve([self._socket, *(sockets or ())])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does."""
        await super().startup(sockets)
        self._listens.set()

    async def listening(self) -> None:
        """Return when connections are taken."""
        await self._listens.wait()

    def stop(self) -> None:
        """Take no more connections, nor requests on those that there are."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's affair."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's own chores, and clients that are too slow."""
        if counter % _SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, DeliveryProtocol):
                    connection.expire(now)
        return await super().on_tick(counter)
