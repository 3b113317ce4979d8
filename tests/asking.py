"""Deliveries and an app's requests, as the HTTP server hands them to the node; and a server for an app to ask."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from starlette.types import ASGIApp

from counterfoil.web.receiver import Headers, Receiver, Reply
from tests.acceptance.node import free_port

TOKEN = "an-apps-token-of-some-length"


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    text: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(slots=True)
class Raw:
    """What an application sent."""

    status: int = 0
    headers: Headers = ()
    body: bytes = b""


async def request(
    application: ASGIApp,
    method: str,
    path: str,
    headers: Headers = (),
    body: Sequence[bytes] = (b"",),
    query: bytes = b"",
    gone: asyncio.Event | None = None,
) -> Raw:
    """Send one request, the body in these parts; what the application raises is raised.

    ``gone``: set when the client hangs up.
    """
    leaves = gone or asyncio.Event()
    parts = [
        {"type": "http.request", "body": part, "more_body": place < len(body)}
        for place, part in enumerate(body, 1)
    ]
    answer = Raw()

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop(0)
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not answer.status, "answered twice"
            answer.status, answer.headers = message["status"], message["headers"]
        answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(errors="surrogatepass"),
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "server": ("127.0.0.1", 8787),
        "client": ("127.0.0.1", 50_000),
    }
    await application(scope, receive, send)
    return answer


async def ask(
    application: ASGIApp,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    body: bytes = b"",
    gone: asyncio.Event | None = None,
) -> Answered:
    """Send a request to an application; ``gone``: set when the client hangs up."""
    raw = await request(application, method, path, _raw(headers or {}), (body,), gone=gone)
    told = {name.decode(): value.decode() for name, value in raw.headers}
    return Answered(raw.status, told, raw.body)


def _raw(headers: Mapping[str, str]) -> Headers:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


async def hand_in(receiver: Receiver | None, method: bytes, headers: Headers, body: bytes) -> Reply:
    """Hand a node's receiver a whole request, as its HTTP server does."""
    assert receiver is not None
    told: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    receiver.deliver(method, headers, body, lambda reply: None if told.cancelled() else told.set_result(reply))
    return await told


async def deliver(receiver: Receiver | None, headers: Mapping[str, str], body: bytes) -> Reply:
    """Hand it a delivery."""
    return await hand_in(receiver, b"POST", _raw(headers), body)


async def ensure(
    application: ASGIApp, user: str, *, wait: int | None = None, gone: asyncio.Event | None = None
) -> Answered:
    """``POST /v1/ensure/{user}`` with the app's token."""
    prefer = {"prefer": f"wait={wait}"} if wait is not None else {}
    headers = {"authorization": f"Bearer {TOKEN}", **prefer}
    return await ask(application, "POST", f"/v1/ensure/{user}", headers, gone=gone)


async def link(application: ASGIApp, user: str) -> Answered:
    """``GET /v1/links/{user}`` with the app's token."""
    return await ask(application, "GET", f"/v1/links/{user}", {"authorization": f"Bearer {TOKEN}"})


@asynccontextmanager
async def server(status: int, body: object, seen: list[web.Request] | None = None) -> AsyncIterator[str]:
    """A server that answers everything with this; yields its URL."""

    async def answer(request: web.Request) -> web.Response:
        if seen is not None:
            seen.append(request)
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers={"location": "/elsewhere"})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
