"""The sandbox on a socket: Clerk under /clerk, Stripe under /stripe, and controls under /sandbox.

Served by aiohttp rather than as an ASGI application, because a cut connection must really be cut: an ASGI
server has no way to say so, a transport has `abort`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
from aiohttp import web

from counterfoil.sandbox.faults import Fault, FaultKind
from counterfoil.sandbox.messages import Request, Upstream
from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.sandbox.verdict import Rules

Clock = Callable[[], float]


class NewUsers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /sandbox/users: so many made-up ones, or these."""

    count: int = 0
    users: list[dict[str, Any]] = []
    silent: bool = False


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /sandbox/users/{id}: what to change; fields left out stay."""

    email: str | msgspec.UnsetType | None = msgspec.UNSET
    first_name: str | msgspec.UnsetType | None = msgspec.UNSET
    last_name: str | msgspec.UnsetType | None = msgspec.UNSET
    silent: bool = False


class NewFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /sandbox/faults: a fault for the next `times` matching calls, or an outage of `seconds`."""

    upstream: Upstream
    kind: FaultKind = "error_before"
    operation: str | None = None
    times: int = 1
    status: int = 500
    delay: float = 0.0
    late: float = 0.0
    seconds: float = 0.0


class Face:
    """Turns HTTP requests into calls of one sandbox."""

    def __init__(self, sandbox: Sandbox, clock: Clock = time.time) -> None:
        self.sandbox = sandbox
        self.clock = clock

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request."""
        place, slash, rest = request.rel_url.raw_path.lstrip("/").partition("/")
        if place == "sandbox":
            return self._control(request.method, rest, dict(request.query), await request.read())
        if place not in {"clerk", "stripe"}:
            return web.Response(status=404, text="The sandbox has /clerk, /stripe and /sandbox.\n")
        wanted = Request(
            request.method,
            slash + rest,
            request.rel_url.raw_query_string,
            {name.lower(): value for name, value in request.headers.items()},
            await request.read(),
        )
        reply = self.sandbox.begin(cast("Upstream", place), wanted, self.clock())
        if reply.delay > 0.0:
            await asyncio.sleep(reply.delay)
        if reply.answer is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return web.Response(status=reply.answer.status, headers=reply.answer.headers, body=reply.answer.body)

    # Controls.

    def _control(self, method: str, path: str, query: dict[str, str], body: bytes) -> web.Response:
        parts = tuple(path.strip("/").split("/"))
        try:
            if method == "GET" and len(parts) == 1:
                return self._look(parts[0], query)
            if method == "POST" and parts == ("users",):
                return self._make_users(msgspec.json.decode(body or b"{}", type=NewUsers))
            if parts[0] == "users" and len(parts) == 2 and parts[1] in self.sandbox.clerk.users:
                return self._change_user(method, parts[1], body)
            if method == "POST" and parts == ("faults",):
                return self._plan(msgspec.json.decode(body, type=NewFault))
            if method == "DELETE" and parts == ("faults",):
                self.sandbox.calm()
                return _json({"faults": "none"})
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            return _json({"error": str(error)}, status=400)
        return _json({"error": "There is no such control."}, status=404)

    def _look(self, what: str, query: dict[str, str]) -> web.Response:
        sandbox, now = self.sandbox, self.clock()
        if what == "verdict":
            usual = Rules()
            rules = Rules(
                metadata_key=query.get("metadata_key", usual.metadata_key),
                link_back_key=query.get("link_back_key", usual.link_back_key),
                archived_key=query.get("archived_key"),
                keep="keep" in query,
                hold_subscribed="hold_subscribed" in query,
            )
            return _json(sandbox.verdict(now, rules).as_json())
        if what == "state":
            return _json(
                {
                    "users": len(sandbox.clerk.users),
                    "customers": sum(1 for _ in sandbox.stripe.live_customers()),
                    "deliveries": {
                        "published": sandbox.svix.published,
                        "delivered": sandbox.svix.delivered,
                        "attempts": sandbox.svix.attempts,
                        "pending": sandbox.svix.pending(),
                    },
                    "calls": {"clerk": sandbox.clerk.log.totals, "stripe": sandbox.stripe.log.totals},
                }
            )
        if what == "calls":
            since, most = float(query.get("since", "-inf")), int(query.get("most", "100"))
            upstreams: tuple[Upstream, ...] = ("clerk", "stripe")
            wanted = [u for u in upstreams if query.get("upstream", u) == u]
            calls = [c for u in wanted for c in sandbox.calls(u, query.get("operation"), since)]
            calls.sort(key=lambda call: call.begun_at)
            return _json({"count": len(calls), "calls": calls[-most:]})
        return _json({"error": "Look at verdict, state or calls."}, status=404)

    def _make_users(self, wanted: NewUsers) -> web.Response:
        clerk, now = self.sandbox.clerk, self.clock()
        known = clerk.created()
        made_up = [
            {"email": f"person{known + i}@example.com", "first_name": "Person", "last_name": str(known + i)}
            for i in range(wanted.count)
        ]
        fields: list[Any] = [*made_up, *wanted.users]
        return _json({"ids": [clerk.create_user(now, silent=wanted.silent, **each) for each in fields]})

    def _change_user(self, method: str, user_id: str, body: bytes) -> web.Response:
        clerk, now = self.sandbox.clerk, self.clock()
        if method == "DELETE":
            clerk.delete_user(now, user_id)
            return _json({"deleted": user_id})
        change = msgspec.json.decode(body or b"{}", type=Change)
        user = clerk.users[user_id]
        if change.email is not msgspec.UNSET:
            clerk.change_email(now, user_id, change.email, silent=change.silent)
        if change.first_name is not msgspec.UNSET or change.last_name is not msgspec.UNSET:
            first = user.first_name if change.first_name is msgspec.UNSET else change.first_name
            last = user.last_name if change.last_name is msgspec.UNSET else change.last_name
            clerk.change_name(now, user_id, first, last, silent=change.silent)
        return _json({"changed": user_id})

    def _plan(self, wanted: NewFault) -> web.Response:
        fault = Fault(kind=wanted.kind, status=wanted.status, delay=wanted.delay, late=wanted.late)
        if wanted.seconds > 0.0:
            now = self.clock()
            self.sandbox.add_outage(wanted.upstream, now, now + wanted.seconds, fault)
        else:
            self.sandbox.plan_fault(wanted.upstream, wanted.operation, fault, wanted.times)
        return _json({"planned": wanted.kind})


@asynccontextmanager
async def serve(
    sandbox: Sandbox, port: int = 0, *, host: str = "127.0.0.1", clock: Clock = time.time
) -> AsyncIterator[str]:
    """Serve while the block lasts; gives the base address (http://127.0.0.1:40123). Port 0 picks a free one.

    Point `CLERK_API_URL` at the address + /clerk and `STRIPE_API_BASE` at the address + /stripe.
    """
    server = web.Server(Face(sandbox, clock).handle, access_log=None)
    # Whoever is still waiting for a slow answer when the block ends gets none.
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")
