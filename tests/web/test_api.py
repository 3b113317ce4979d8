"""The API for apps: what is answered to what."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from starlette.applications import Starlette

from counterfoil.cli.serve import bound
from counterfoil.core.link import ParkReason
from counterfoil.core.standing import PENDING, UNKNOWN, Standing, State
from counterfoil.core.step import Without
from counterfoil.errors import Crowded, DatabaseUnavailable
from counterfoil.web.api import Api, patience, routes
from counterfoil.web.front import Front
from tests.acceptance.node import free_port
from tests.asking import TOKEN, Answered, ask

OTHER = "another-token-during-a-rotation"
OWN = "the-command-lines-token"
LINKED = Standing(State.LINKED, "cus_1")


class Node:
    """A node whose answers a test chooses."""

    def __init__(self, at_once: Standing | None = None, then: Standing | Exception = LINKED) -> None:
        self.now = at_once
        self.then = then
        self.waits: list[tuple[str, float]] = []
        self.holds = asyncio.Event()
        self.holds.set()
        self.given_up = False

    async def at_once(self, _: str) -> Standing | None:
        return self.now

    async def wait(self, subject_id: str, seconds: float) -> Standing:
        self.waits.append((subject_id, seconds))
        try:
            await self.holds.wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise
        if isinstance(self.then, Exception):
            raise self.then
        return self.then

    async def stands(self, _: str) -> Standing:
        if isinstance(self.then, Exception):
            raise self.then
        return self.then

    def application(self, *tokens: str) -> Starlette:
        return Starlette(routes=routes(Api(tokens, OWN, self.at_once, self.wait, self.stands)))

    async def ask(self, method: str, path: str, **headers: str) -> Answered:
        return await ask(self.application(TOKEN), method, path, {"authorization": f"Bearer {TOKEN}", **headers})


PATH = "/v1/ensure/user_a"


@pytest.mark.parametrize(
    ("found", "status", "body"),
    [
        (LINKED, 200, {"customer_id": "cus_1"}),
        (UNKNOWN, 404, {"state": "unknown", "reason": None, "error": "Clerk has no such user"}),
        (Standing(State.DELETED), 410, {"state": "deleted", "reason": None, "error": "the user is deleted"}),
        (
            Standing(State.NONE, None, Without.NO_EMAIL),
            409,
            {
                "state": "none",
                "reason": "no_email",
                "error": "the user has no email address: a customer is made as soon as there is one",
            },
        ),
        (
            PENDING,
            202,
            {
                "state": "pending",
                "location": "/v1/links/user_a",
                "explanation": "it is asked for, and not done yet",
            },
        ),
    ],
)
async def test_ensure_answers_how_the_link_stands(found: Standing, status: int, body: Mapping[str, Any]) -> None:
    for node in (Node(found), Node(None, found)):
        answer = await node.ask("POST", PATH)
        assert (answer.status, answer.json) == (status, body)
        assert answer.headers.get("location") == ("/v1/links/user_a" if status == 202 else None)


@pytest.mark.parametrize("reason", ParkReason)
async def test_every_reason_to_park_is_409_with_a_sentence(reason: ParkReason) -> None:
    answer = await Node(Standing(State.PARKED, None, reason)).ask("POST", PATH)
    assert (answer.status, answer.json["state"], answer.json["reason"]) == (409, "parked", str(reason))
    assert len(answer.json["error"]) > 20


async def test_what_is_there_is_answered_without_waiting() -> None:
    node = Node(LINKED)
    await node.ask("POST", PATH)
    assert node.waits == []


async def test_the_link_is_shown_without_personal_data() -> None:
    node = Node(None, Standing(State.PARKED, None, ParkReason.REJECTED))
    answer = await node.ask("GET", "/v1/links/user_a")
    assert answer.status == 200
    assert answer.json == {
        "user_id": "user_a",
        "state": "parked",
        "customer_id": None,
        "reason": "rejected",
        "explanation": "the request itself is refused: see the story",
    }
    linked = await Node(None, LINKED).ask("GET", "/v1/links/user_a")
    assert (linked.json["customer_id"], linked.json["explanation"]) == ("cus_1", None)
    assert (await Node(None, UNKNOWN).ask("GET", "/v1/links/user_a")).status == 404


@pytest.mark.parametrize("path", [("POST", PATH), ("GET", "/v1/links/user_a")])
async def test_only_the_right_token_opens(path: tuple[str, str]) -> None:
    open_to_two = Node(LINKED).application(TOKEN, OTHER)
    for token in (TOKEN, OTHER, OWN):
        assert (await ask(open_to_two, *path, {"authorization": f"Bearer {token}"})).status == 200
    for given in (
        "",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        "Bearer ",
        "Bearer \xe9",
        f"Bearer {TOKEN},{OTHER}",
    ):
        answer = await ask(open_to_two, *path, {"authorization": given} if given else {})
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), given


async def test_without_a_token_of_its_own_it_is_shut_to_all_but_the_command_line() -> None:
    shut = Node(LINKED).application()
    for headers in ({}, {"authorization": "Bearer "}, {"authorization": "Bearer anything"}):
        answer = await ask(shut, "POST", PATH, headers)
        assert answer.status == 403
        assert "COUNTERFOIL_API_TOKEN" in answer.json["error"]
    assert (await ask(shut, "POST", PATH, {"authorization": f"Bearer {OWN}"})).status == 200


@pytest.mark.parametrize("name", ["cus_1", "user_", "user_<script>", "org_1", "user_" + "x" * 200])
async def test_an_id_that_is_none_of_clerks_is_400_and_is_not_repeated(name: str) -> None:
    node = Node()
    for method, place in (("POST", "ensure"), ("GET", "links")):
        answer = await node.ask(method, f"/v1/{place}/{name}")
        assert answer.status == 400
        assert name not in answer.text.decode().replace("'user_'", "")
    assert node.waits == []


@pytest.mark.parametrize("error", [Crowded("too many"), DatabaseUnavailable("disk full")])
async def test_what_cannot_be_taken_now_is_503_and_may_be_asked_again(error: Exception) -> None:
    answer = await Node(None, error).ask("POST", PATH)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert "disk full" not in answer.text.decode()


async def test_other_methods_are_405() -> None:
    assert (await Node(LINKED).ask("GET", PATH)).status == 405
    assert (await Node(LINKED).ask("POST", "/v1/links/user_a")).status == 405


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("", 10.0),
        ("wait=5", 5.0),
        ("wait=0", 0.0),
        ("respond-async, wait=3", 3.0),
        ("Wait = 4; foo=bar", 4.0),
        ('wait="2"', 2.0),
        ("wait=3600", 10.0),
        ("wait=-1", 10.0),
        ("wait=soon", 10.0),
        ("await=1", 10.0),
    ],
)
async def test_a_prefer_header_may_shorten_the_wait(prefer: str, seconds: float) -> None:
    assert patience(prefer) == seconds
    node = Node()
    await node.ask("POST", PATH, **({"prefer": prefer} if prefer else {}))
    assert node.waits == [("user_a", seconds)]


async def test_a_client_that_hangs_up_is_not_waited_for() -> None:
    node, gone = Node(), asyncio.Event()
    node.holds.clear()
    headers = {"authorization": f"Bearer {TOKEN}"}
    asking = asyncio.create_task(ask(node.application(TOKEN), "POST", PATH, headers, gone=gone))
    while not node.waits:
        await asyncio.sleep(0)
    gone.set()
    await asyncio.wait_for(asking, 1)
    assert node.given_up


async def test_a_client_of_the_real_server_that_hangs_up_is_not_waited_for_either() -> None:
    node, port = Node(), free_port()
    node.holds.clear()
    front = Front(None, "/webhooks/clerk", node.application(TOKEN), bound("127.0.0.1", port))
    serving = asyncio.create_task(front.serve())
    url, headers = f"http://127.0.0.1:{port}{PATH}", {"authorization": f"Bearer {TOKEN}"}
    try:
        async with asyncio.timeout(10), aiohttp.ClientSession(headers=headers) as session:
            while not node.waits:
                try:
                    await session.post(url, data=b"{}", timeout=aiohttp.ClientTimeout(total=0.3))
                except (aiohttp.ClientError, TimeoutError):
                    await asyncio.sleep(0.02)
            while not node.given_up:
                await asyncio.sleep(0.01)
            node.holds.set()
            async with session.post(url) as answer:
                assert (answer.status, await answer.json()) == (200, {"customer_id": "cus_1"})
    finally:
        front.stop()
        await serving
