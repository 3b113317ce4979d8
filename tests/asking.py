"""Deliveries and an app's requests, as the HTTP server hands them to the node; and a server for an app to ask."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
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
    status, told, text = 0, {}, b""
    leaves = gone or asyncio.Event()
    parts = [body]

    async def receive() -> dict[str, Any]:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status, text
        if message["type"] == "http.response.start":
            status = message["status"]
            told.update({name.decode(): value.decode() for name, value in message["headers"]})
        text += message.get("body", b"")

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
        "server": ("127.0.0.1", 8787),
        "client": ("127.0.0.1", 50_000),
    }
    await application(scope, receive, send)
    return Answered(status, told, text)


async def hand_in(receiver: Receiver | None, method: bytes, headers: Headers, body: bytes) -> Reply:
    """Hand a node's receiver a whole request, as its HTTP server does."""
    assert receiver is not None
    told: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    receiver.deliver(method, headers, body, lambda reply: None if told.cancelled() else told.set_result(reply))
    return await told


async def deliver(receiver: Receiver | None, headers: Mapping[str, str], body: bytes) -> Reply:
    """Hand it a delivery."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return await hand_in(receiver, b"POST", raw, body)


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
