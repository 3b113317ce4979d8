"""The listener: the process that holds the port. It verifies and decodes deliveries, and hands them to the node.

    python -m counterfoil.web.listener FD

It has an interpreter of its own, so that receiving and writing need not wait for each other's turn
([decision 0015](docs/decisions/0015-a-listener-process.md)). It knows no database: a delivery is answered when
the node says that it is on disk. All requests for other paths are passed on. It belongs to the node at the other
end of the socket FD, and ends with it, at once.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

import uvloop
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from counterfoil.clerk.body import BodyReader
from counterfoil.clerk.webhook import Decoder, Verifier
from counterfoil.errors import IntakeFull
from counterfoil.web.app import PLAN_LIMIT, with_receiver
from counterfoil.web.channel import (
    Answered,
    Asked,
    Channel,
    Delivered,
    GaveUp,
    Item,
    Opened,
    Opening,
    Stop,
    ToListener,
    ToNode,
    Written,
)
from counterfoil.web.receiver import Receiver
from counterfoil.web.server import server_for

BODY_LIMIT = 2 * PLAN_LIMIT
"""Bytes of a request that is passed on: twice what any of them may have."""
UNANSWERED = 2
"""Batches that the node has at once: one is written, and the next is there when it has been."""
BATCH = 250
"""Deliveries of one batch."""


class Passage:
    """What the listener asks of the node, and who waits for the answer. Belongs to one event loop."""

    def __init__(self, tell: Callable[[ToNode], None]) -> None:
        self._tell = tell
        self._number = 0
        self._items: list[Item] = []
        self._waiters: list[asyncio.Future[bool]] = []
        self._batches: dict[int, list[asyncio.Future[bool]]] = {}
        self._asked: dict[int, asyncio.Future[Answered]] = {}

    async def take(self, item: Item) -> None:
        """Return when ``item`` is on disk.

        Raises:
            IntakeFull: it is not, or is not known to be.
        """
        loop = asyncio.get_running_loop()
        # One future for each, not one for the batch: cancelling a waiter cancels what it waits for.
        waiter: asyncio.Future[bool] = loop.create_future()
        self._items.append(item)
        self._waiters.append(waiter)
        if len(self._items) == 1:
            loop.call_soon(self._hand_over)
        if not await waiter:
            raise IntakeFull("the node did not take it")

    def _hand_over(self) -> None:
        while self._items and len(self._batches) < UNANSWERED:
            items, self._items = self._items[:BATCH], self._items[BATCH:]
            self._number += 1
            self._batches[self._number], self._waiters = self._waiters[:BATCH], self._waiters[BATCH:]
            self._tell(Delivered(self._number, items))

    def written(self, message: Written) -> None:
        """The node has said what became of a batch."""
        for waiter in self._batches.pop(message.number):
            if not waiter.done():  # done: its owner was cancelled
                waiter.set_result(message.written)
        self._hand_over()

    async def pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application: the node answers."""
        body, more = b"", True
        while more and len(body) <= BODY_LIMIT:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > BODY_LIMIT:
            answer = Answered(0, 413, [(b"content-type", b"text/plain")], b"the body is too large\n")
        else:
            found = await self._ask(scope, body, receive)
            if found is None:
                return
            answer = found
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _ask(self, scope: Scope, body: bytes, receive: Receive) -> Answered | None:
        """The node's answer; ``None``: the client has hung up meanwhile."""
        self._number += 1
        number = self._number
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        gone = asyncio.ensure_future(_gone(receive))
        query, headers = scope["query_string"], [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        self._tell(Asked(number, scope["method"], scope["path"], query, headers, body))
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            self._tell(GaveUp(number))
            return None
        finally:
            del self._asked[number]
            gone.cancel()

    def answered(self, message: Answered) -> None:
        """The node has answered; for a client that has gone, nobody listens."""
        answer = self._asked.get(message.number)
        if answer is not None and not answer.done():
            answer.set_result(message)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _listen(end: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    opening: asyncio.Future[Opening] = loop.create_future()
    stop = asyncio.Event()

    def heard(message: ToListener) -> None:
        match message:
            case Written():
                passage.written(message)
            case Answered():
                passage.answered(message)
            case Opening():
                opening.set_result(message)
            case Stop():
                stop.set()

    # Without the node nothing can be written or answered: nothing here is worth another moment.
    channel = Channel(ToListener, heard, lambda: os._exit(1))
    passage = Passage(channel.tell)
    await loop.create_unix_connection(lambda: channel, sock=end)
    opened = await opening
    registry = CollectorRegistry()
    receiver = _receiver(opened, passage, registry) if opened.secrets else None
    application = with_receiver(receiver, opened.webhook_path, passage.pass_on, registry)
    server = server_for(application, opened.host, opened.port)
    listening = asyncio.create_task(server.serve())
    await _until_open(opened, listening)
    channel.tell(Opened())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({listening, stopped}, return_when=asyncio.FIRST_COMPLETED)
    server.stop()  # type: ignore[no-untyped-call]
    with contextlib.suppress(asyncio.CancelledError):
        await listening
    # The server's own threads outlive its end by a moment; an interpreter that goes first makes them abort.
    await asyncio.sleep(0.3)


def _receiver(opened: Opening, passage: Passage, registry: CollectorRegistry) -> Receiver:
    return Receiver(
        Verifier(opened.secrets),
        Decoder(instance_id=opened.instance_id, reader=BodyReader(opened.link_back_key, opened.view.view())),
        passage.take,
        registry,
        now=lambda: time.time_ns() // 1_000_000,
    )


async def _until_open(opened: Opening, listening: "asyncio.Task[None]") -> None:
    """Return when connections are taken; raises what the server raised, where it could not take the port."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(opened.host, opened.host)  # noqa: S104 - compared, not bound
    await asyncio.sleep(0)  # the port is taken in its first step
    while not listening.done():
        try:
            _, writer = await asyncio.open_connection(host, opened.port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    listening.result()


def main(descriptor: int) -> None:
    """Listen until the node says stop, or is gone."""
    # A terminal and a service manager signal both processes; it is the node that says when to stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(_listen(socket.socket(fileno=descriptor)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
