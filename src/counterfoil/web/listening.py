"""The node's side of its listener: starts the process, keeps it going, and answers what it passes on."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import structlog
from starlette.types import ASGIApp

from counterfoil.errors import ConfigurationError, IntakeFull
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
    ToNode,
    Written,
)

PATIENCE = 20.0
"""Seconds that the listener gets to answer what is in flight at the end."""
_AGAIN = 1.0
"""Seconds before a listener that died is started anew."""

_log = structlog.get_logger(__name__)

TakeAll = Callable[[Sequence[Item]], Awaitable[None]]
"""Returns when all of its argument is on disk, or raises `IntakeFull`."""


class Listening:
    """One listener after another. Belongs to one event loop."""

    def __init__(self, opening: Opening, take_all: TakeAll, application: ASGIApp) -> None:
        """Args:
        opening: what is listened for.
        take_all: writes deliveries, durably.
        application: answers all requests but the webhook's.
        """
        self._opening = opening
        self._take_all = take_all
        self._application = application
        self._process: asyncio.subprocess.Process | None = None
        self._visit: _Visit | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when the listener listens; from then on it is started anew whenever it dies.

        Raises:
            ConfigurationError: it ended instead; it has said why.
        """
        await self._open()
        self._keeper = asyncio.create_task(self._keep())

    async def _open(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "counterfoil.web.listener",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        self._visit = visit = _Visit(self._take_all, self._application)
        await asyncio.get_running_loop().create_unix_connection(lambda: visit.channel, sock=ours)
        visit.channel.tell(self._opening)
        if not await visit.opened:
            await self._process.wait()
            raise ConfigurationError(
                "the process that receives deliveries ended at its start; its own words are above"
            )

    async def _keep(self) -> None:
        # Deliveries that a dead listener held were not answered: they come again by themselves.
        while True:
            assert self._process is not None
            code = await self._process.wait()
            _log.error("listener.died", code=code, again_in=_AGAIN)
            await asyncio.sleep(_AGAIN)
            with contextlib.suppress(ConfigurationError):
                await self._open()

    async def stop(self) -> None:
        """Have it take no more requests, answer those that are there, and end."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is None or self._visit is None:
            return
        self._visit.channel.tell(Stop())
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._visit.channel.close()


class _Visit:
    """The talk with one listener, from its start to its end."""

    def __init__(self, take_all: TakeAll, application: ASGIApp) -> None:
        self.channel = Channel(ToNode, self._heard, self._lost)
        self.opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether it listens; it is told once."""
        self._take_all = take_all
        self._application = application
        self._gone: dict[int, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def _heard(self, message: ToNode) -> None:
        match message:
            case Delivered():
                self._begin(self._write(message))
            case Asked():
                self._gone[message.number] = asyncio.Event()
                self._begin(self._answer(message))
            case GaveUp():
                if message.number in self._gone:
                    self._gone[message.number].set()
            case Opened():
                self.opened.set_result(True)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _lost(self) -> None:
        if not self.opened.done():
            self.opened.set_result(False)
        # Nobody is left to be answered; what was delivered is written all the same.
        for gone in self._gone.values():
            gone.set()

    async def _write(self, message: Delivered) -> None:
        try:
            await self._take_all(message.items)
        except IntakeFull:
            self.channel.tell(Written(message.number, False))
        else:
            self.channel.tell(Written(message.number, True))

    async def _answer(self, message: Asked) -> None:
        gone = self._gone[message.number]
        try:
            answer = await _run(self._application, message, gone)
        except Exception:
            _log.exception("request.failed", path=message.path)
            answer = Answered(
                message.number, 500, [(b"content-type", b"text/plain")], b"it failed here; see the log\n"
            )
        finally:
            del self._gone[message.number]
        self.channel.tell(answer)


async def _run(application: ASGIApp, asked: Asked, gone: asyncio.Event) -> Answered:
    """One request to an ASGI application."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": asked.method,
        "scheme": "http",
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "query_string": asked.query,
        "root_path": "",
        "headers": asked.headers,
        "client": None,
        "server": None,
    }
    body = [{"type": "http.request", "body": asked.body, "more_body": False}]
    status, headers, parts = 500, [], []

    async def receive() -> MutableMapping[str, Any]:
        if body:
            return body.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message["headers"])
        else:
            parts.append(message.get("body", b""))

    await application(scope, receive, send)
    return Answered(asked.number, status, headers, b"".join(parts))
