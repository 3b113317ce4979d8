"""The ASGI application: all that is asked of a node but to take deliveries (`front`, `receiver`).

``/healthz`` (the process lives), ``/readyz`` (deliveries are taken), ``/metrics``; for the command line
``/v1/retry``, ``/v1/undo``, ``/v1/release`` and ``/v1/apply``, with the token that ``serve`` leaves beside its
database; and the API for apps.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from counterfoil.core.reading import NOT_JSON
from counterfoil.core.subject import user_id
from counterfoil.errors import BadSubject, DatabaseUnavailable
from counterfoil.store import orders
from counterfoil.store.orders import Errand
from counterfoil.web.api import RETRY_AFTER, Api, opens, routes

_LIMIT = 64 * 1024
_PLAN_LIMIT = 4 * 1024 * 1024
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class RetryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/retry``: these subjects, or all that are parked (for ``reason``, where one is given)."""

    subjects: tuple[str, ...] = ()
    everything: bool = False
    reason: str = ""


class UndoRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/undo``: the customers of these deleted users stay."""

    subjects: tuple[str, ...]


class ReleaseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/release``: these removals go on, whatever is subscribed; or all that the breaker holds."""

    subjects: tuple[str, ...] = ()
    deletions: bool = False


Order = TypeVar("Order", RetryRequest, UndoRequest, ReleaseRequest)
_EXAMPLES: dict[type, str] = {
    RetryRequest: '{"subjects": ["user_..."]} or {"everything": true}',
    UndoRequest: '{"subjects": ["user_..."]}',
    ReleaseRequest: '{"subjects": ["user_..."]} or {"deletions": true}',
}
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Desk:
    """What the local API needs of the node.

    ``obstacles``: why deliveries cannot be taken; ``notes``: why work waits although they can. Only the first
    makes a node unready: a balancer that turned deliveries away because Stripe is down would lose news.
    """

    token: str
    obstacles: Callable[[], Sequence[str]]
    notes: Callable[[], Awaitable[Sequence[str]]]
    metrics: Callable[[], Awaitable[bytes]]
    retry: Callable[[RetryRequest], Awaitable[int]]
    undo: Callable[[UndoRequest], Awaitable[int]]
    release: Callable[[ReleaseRequest], Awaitable[int]]
    apply: Callable[[Sequence[Errand]], Awaitable[Sequence[str]]]


def build(desk: Desk, api: Api) -> ASGIApp:
    """Put the local API and the API for apps together."""
    local = Starlette(routes=local_routes(desk, api), exception_handlers={DatabaseUnavailable: _unavailable})
    # Not sent on to the same path without its slash: the redirect would repeat whatever Host the request names.
    local.router.redirect_slashes = False
    return local


def local_routes(desk: Desk, api: Api) -> list[Route]:
    """All routes."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        obstacles = list(desk.obstacles())
        state = {"ready": not obstacles, "obstacles": obstacles, "notes": list(await desk.notes())}
        return JSONResponse(state, 503 if obstacles else 200)

    async def metrics(_: Request) -> Response:
        return Response(await desk.metrics(), media_type=CONTENT_TYPE)

    def admitted(request: Request) -> bool:
        return opens(request.headers.get("authorization"), [desk.token])

    async def apply(request: Request) -> Response:
        if not admitted(request):
            return _unadmitted()
        try:
            errands = orders.decode(await _body(request, _PLAN_LIMIT))
        except (*NOT_JSON, BadSubject):
            return JSONResponse({"error": "send a list of errands, as `counterfoil apply` does"}, 400)
        return JSONResponse({"held": list(await desk.apply(errands))})

    def order(kind: type[Order], done: str, carry_out: Callable[[Order], Awaitable[int]]) -> Endpoint:
        async def answer(request: Request) -> Response:
            if not admitted(request):
                return _unadmitted()
            try:
                wanted = await _wanted(request, kind)
            except (*NOT_JSON, BadSubject):
                return JSONResponse({"error": f"send {_EXAMPLES[kind]}"}, 400)
            return JSONResponse({done: await carry_out(wanted)})

        return answer

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/v1/retry", order(RetryRequest, "retried", desk.retry), methods=["POST"]),
        Route("/v1/undo", order(UndoRequest, "undone", desk.undo), methods=["POST"]),
        Route("/v1/release", order(ReleaseRequest, "released", desk.release), methods=["POST"]),
        Route("/v1/apply", apply, methods=["POST"]),
        *routes(api),
    ]


async def _unavailable(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "the database cannot be written or read now"}, 503, RETRY_AFTER)


def _unadmitted() -> Response:
    return JSONResponse({"error": "the token is missing or wrong"}, 401)


async def _body(request: Request, limit: int) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise msgspec.DecodeError("too large")
    return body


async def _wanted(request: Request, kind: type[Order]) -> Order:
    wanted = msgspec.json.decode(await _body(request, _LIMIT), type=kind)
    for subject in wanted.subjects:
        user_id(subject)
    return wanted
