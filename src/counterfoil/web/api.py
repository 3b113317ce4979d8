"""The API for apps: ``POST /v1/ensure/{user_id}`` and ``GET /v1/links/{user_id}``.

Every status and body is in ``docs/reference/http.md``. No answer holds personal data.
"""

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from counterfoil.core.standing import PENDING, Standing, State
from counterfoil.core.subject import user_id
from counterfoil.core.words import PARKED, WITHOUT
from counterfoil.errors import BadSubject, Crowded, DatabaseUnavailable

WAIT = 10.0
"""Seconds that an ensure waits, unless ``Prefer: wait`` asks for less."""
RETRY_AFTER = {"retry-after": "5"}

_PREFER = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\b", re.IGNORECASE)
_STATUS = {
    State.LINKED: 200,
    State.PENDING: 202,
    State.UNKNOWN: 404,
    State.PARKED: 409,
    State.NONE: 409,
    State.DELETED: 410,
}
_WORDS = {
    State.PENDING: "it is asked for, and not done yet",
    State.UNKNOWN: "Clerk has no such user",
    State.DELETED: "the user is deleted",
}


@dataclass(frozen=True, slots=True)
class Api:
    """What the API needs of the node."""

    tokens: Sequence[str]
    """The app's: whoever has one may ask. None: nobody may, but the command line."""
    own_token: str
    """The command line's."""
    at_once: Callable[[str], Awaitable[Standing | None]]
    """What can be answered without waiting; ``None``: ask and wait."""
    wait: Callable[[str, float], Coroutine[Any, Any, Standing]]
    stands: Callable[[str], Awaitable[Standing]]


def routes(api: Api) -> list[Route]:
    """The routes, for the application."""

    async def answer(request: Request, work: Callable[[str, Request], Awaitable[Response]]) -> Response:
        refused = _refused(request, api)
        if refused is not None:
            return refused
        try:
            return await work(user_id(request.path_params["user_id"]), request)
        except BadSubject as error:
            return JSONResponse({"error": str(error)}, 400)
        except Crowded as error:
            return JSONResponse({"error": str(error)}, 503, RETRY_AFTER)
        except DatabaseUnavailable:
            return JSONResponse({"error": "the database cannot be written or read now"}, 503, RETRY_AFTER)

    async def ensured(subject_id: str, request: Request) -> Response:
        found = await api.at_once(subject_id)
        if found is None:
            seconds = patience(request.headers.get("prefer", ""))
            found = await _while_there(request, api.wait(subject_id, seconds))
        return _ensure_answer(subject_id, found)

    async def shown(subject_id: str, _: Request) -> Response:
        found = await api.stands(subject_id)
        if found.state is State.UNKNOWN:
            return JSONResponse({"state": found.state, "error": "nothing is known of this user"}, 404)
        body = {"user_id": subject_id, "state": found.state, "customer_id": found.customer_id}
        return JSONResponse({**body, "reason": found.reason, "explanation": explanation(found)})

    async def ensure(request: Request) -> Response:
        return await answer(request, ensured)

    async def link(request: Request) -> Response:
        return await answer(request, shown)

    return [
        Route("/v1/ensure/{user_id}", ensure, methods=["POST"]),
        Route("/v1/links/{user_id}", link, methods=["GET"]),
    ]


def opens(given: str | None, tokens: Sequence[str]) -> bool:
    """Whether an ``Authorization`` header holds one of the tokens; takes the same time whichever it is."""
    told = (given or "").encode()
    return sum(hmac.compare_digest(told, f"Bearer {token}".encode()) for token in tokens) > 0


def patience(prefer: str) -> float:
    """Seconds to wait: what a ``Prefer`` header asks for (RFC 7240), up to `WAIT`."""
    found = _PREFER.search(prefer)
    return min(float(found[1]), WAIT) if found is not None else WAIT


def explanation(found: Standing) -> str | None:
    """Why there is no customer yet, in plain words; ``None`` where there is one."""
    if found.reason is not None:
        return PARKED.get(found.reason) or WITHOUT.get(found.reason)
    return _WORDS.get(found.state)


def _refused(request: Request, api: Api) -> Response | None:
    given = request.headers.get("authorization")
    if opens(given, [*api.tokens, api.own_token]):
        return None
    if not api.tokens:
        return JSONResponse({"error": "this API is shut: set COUNTERFOIL_API_TOKEN to open it"}, 403)
    return JSONResponse({"error": "the token is missing or wrong"}, 401, {"www-authenticate": "Bearer"})


def _ensure_answer(subject_id: str, found: Standing) -> Response:
    status = _STATUS[found.state]
    if found.state is State.LINKED:
        return JSONResponse({"customer_id": found.customer_id}, status)
    if found.state is State.PENDING:
        location = f"/v1/links/{subject_id}"
        body = {"state": found.state, "location": location, "explanation": explanation(found)}
        return JSONResponse(body, status, {"location": location})
    return JSONResponse({"state": found.state, "reason": found.reason, "error": explanation(found)}, status)


async def _while_there(request: Request, work: Coroutine[Any, Any, Standing]) -> Standing:
    """Await ``work``, or give it up as soon as the client has gone."""
    working, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else PENDING  # which nobody will read
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    """Return when the client has gone. A body is of no concern, and is not kept."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
