"""Whatever is sent to the node's application, it answers below 500, and nothing but an answer comes out of it."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.errors import DatabaseUnavailable
from counterfoil.store.database import InlineDatabase
from counterfoil.store.engine import Job
from counterfoil.web.receiver import Headers
from counterfoil.wiring import Node
from tests.asking import TOKEN, Raw, hand_in, request
from tests.databases import Home
from tests.harness import World, new_loop, world
from tests.hostile.support import DEEP, encode, shaped, signed, text, values

T = TypeVar("T")
ERRANDS = [
    {
        "subject_id": "user_ada",
        "item": "missing user_ada",
        "body": {
            "subject_id": "user_ada",
            "version": 1_790_000_000_000,
            "created_at": 1_790_000_000_000,
            "fields": {"email": "ada@example.com", "name": "Ada", "phone": None},
            "link_back": "cus_1",
        },
        "customers": [{"subject_id": "user_ada", "customer_id": "cus_1", "created": 1_790_000_000}],
        "applied": {"email": "ada@example.com", "name": "Ada"},
        "replaces": "cus_0",
    }
]
USER = {
    "object": "event",
    "type": "user.updated",
    "timestamp": 1_790_000_000_000,
    "instance_id": "ins_2sandbox0000000000000000000",
    "data": {
        "id": "user_ada",
        "first_name": "Ada",
        "last_name": "L",
        "created_at": 1_790_000_000_000,
        "updated_at": 1_790_000_000_000,
        "primary_email_address_id": "idn_1",
        "email_addresses": [
            {"id": "idn_1", "email_address": "ada@example.com", "verification": {"status": "verified"}}
        ],
        "public_metadata": {"stripeCustomerId": "cus_1", "plan": "pro"},
        "private_metadata": None,
    },
}
ORDERS: dict[str, dict[str, Any]] = {
    "/v1/retry": {"subjects": ["user_ada"], "everything": False, "reason": "foreign"},
    "/v1/undo": {"subjects": ["user_ada"]},
    "/v1/release": {"subjects": ["user_ada"], "deletions": False},
}
PATHS = ["/healthz", "/readyz", "/metrics", *ORDERS, "/v1/apply", "/v1/ensure/user_a", "/v1/links/user_a", "/"]


GOOD = json.dumps(USER | {"data": USER["data"] | {"id": "user_good"}}).encode()  # type: ignore[operator]


class Breakable(InlineDatabase):
    """A database that is not to be had while it is ``gone``."""

    gone = False

    async def write(self, job: Job[T], *, urgent: bool = False) -> T:
        self._look()
        return await super().write(job, urgent=urgent)

    async def read(self, job: Job[T]) -> T:
        self._look()
        return await super().read(job)

    def _look(self) -> None:
        if self.gone:
            raise DatabaseUnavailable("disk I/O error in /srv/secret/place")


class Play:
    """A node that runs, in a world of its own, while hypothesis thinks of requests."""

    def __init__(self, runner: asyncio.Runner, made: World, node: Node, database: Breakable) -> None:
        self._runner = runner
        self.database = database
        self.world = made
        self.node = node
        self.own = (b"authorization", f"Bearer {node.token}".encode())

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        async def wrapped() -> T:
            return await work()

        return self._runner.run(wrapped())

    def ask(self, method: str, path: str, headers: Headers = (), *body: bytes, query: bytes = b"") -> Raw:
        async def asked() -> Raw:
            async with asyncio.timeout(60):  # of virtual time: nothing hangs
                if path == "/webhooks/clerk":
                    reply = await hand_in(self.node.receiver, method.encode(), headers, b"".join(body))
                    return Raw(reply.status, reply.headers, reply.text.encode())
                return await request(self.node.application, method, path, headers, body or (b"",), query)

        return self.run(asked)

    def deliver(self, body: bytes) -> Raw:
        secret, sent = self.world.sandbox.settings.svix.secret, int(self.world.time())
        return self.ask("POST", "/webhooks/clerk", signed(secret, body, sent), body)

    def alive(self) -> None:
        """The node still takes what is good, and its loops still run."""
        assert self.deliver(GOOD).status == 204
        assert all(not loop.done() for loop in self.node.supervisor._loops)
        assert self.ask("GET", "/metrics").status == 200


@contextmanager
def playing(folder: Path, home: Home, **more: Any) -> Iterator[Play]:
    """A running node."""
    random.seed(0)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        opened = world(folder, home)
        made = runner.run(opened.__aenter__())
        try:
            made.database = database = Breakable(made.url)
            node = runner.run(made.start(**more))
            yield Play(runner, made, node, database)
        finally:
            runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
def play(tmp_path: Path, home: Home) -> Iterator[Play]:
    """A running node, which must be alive in the end."""
    with playing(tmp_path, home, COUNTERFOIL_API_TOKEN=TOKEN) as made:
        yield made
        made.alive()


methods = st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "get", "", "\xff"])
paths = (
    st.sampled_from([*PATHS, "/webhooks/clerk"])
    | st.builds(lambda start, rest: start + rest, st.sampled_from([*PATHS, "/v1/ensure/", "/v1/links/"]), text)
    | text.map(lambda each: "/" + each)
)
header_values = st.binary(max_size=60) | st.sampled_from(
    [
        b"Bearer " + TOKEN.encode(),
        b"Bearer \xff\xfe",
        b"wait=1",
        b"wait=" + b"9" * 60,
        b"wait" + b" " * 3000,
        b"a:b@c/d",
    ]
)
headers = st.lists(
    st.tuples(
        st.sampled_from(
            [b"host", b"authorization", b"prefer", b"content-length", b"content-type", b"x-forwarded-for"]
        ),
        header_values,
    ),
    max_size=6,
)


def test_no_request_without_a_token_breaks_the_application(play: Play) -> None:
    @given(methods, paths, headers, st.binary(max_size=60), st.binary(max_size=60))
    def ask(method: str, path: str, given_headers: Headers, query: bytes, body: bytes) -> None:
        answer = play.ask(method, path, given_headers, body, query=query)
        assert 200 <= answer.status < 500, answer

    ask()


def test_no_request_with_a_token_breaks_the_application(play: Play) -> None:
    @given(methods, paths, headers, st.binary(max_size=60), st.booleans())
    def ask(method: str, path: str, given_headers: Headers, body: bytes, own: bool) -> None:
        token = play.own if own else (b"authorization", b"Bearer " + TOKEN.encode())
        answer = play.ask(method, path, [token, *given_headers], body)
        assert 200 <= answer.status < 500, answer

    ask()


@pytest.mark.parametrize("path", [*ORDERS, "/v1/apply"])
def test_no_order_of_the_local_api_breaks_it(play: Play, path: str) -> None:
    @given(st.one_of(shaped(ORDERS.get(path, {"a": 1})), values.map(encode)))
    def ask(body: bytes) -> None:
        assert play.ask("POST", path, [play.own], body).status in {200, 400}

    ask()
    for body in (*DEEP, b"\xff", b'{"subjects": ["\xff"]}', b'["\xff"]', b"", b"9" * 4_000):
        assert play.ask("POST", path, [play.own], body).status == 400, body[:20]


def test_no_errand_breaks_the_application(play: Play) -> None:
    @given(shaped({"list": ERRANDS}))
    def ask(document: bytes) -> None:
        body = json.dumps(json.loads(document).get("list")).encode()
        assert play.ask("POST", "/v1/apply", [play.own], body).status in {200, 400}

    ask()
    assert play.ask("POST", "/v1/apply", [play.own], json.dumps(ERRANDS).encode()).status == 200


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("body", "version"), 2**63),
        (("body", "version"), -1),
        (("body", "created_at"), 10**30),
        (("body", "fields", "email"), "a\0b"),
        (("body", "subject_id"), "user_another"),
        (("customers", 0, "created"), 2**63),
        (("customers", 0, "subject_id"), "user_another"),
        (("subject_id",), "org_1"),
        (("replaces",), "\ud800"),
    ],
)
def test_an_errand_that_cannot_be_stored_is_refused(
    play: Play, place: tuple[str | int, ...], value: object
) -> None:
    errands: Any = json.loads(json.dumps(ERRANDS))
    *way, last = place
    target = errands[0]
    for key in way:
        target = target[key]
    target[last] = value
    assert play.ask("POST", "/v1/apply", [play.own], json.dumps(errands).encode()).status == 400


def test_a_genuine_delivery_is_answered_204_whatever_it_says(play: Play) -> None:
    @given(st.one_of(shaped(USER), values.map(encode), st.binary(max_size=200)))
    def deliver(body: bytes) -> None:
        assert play.deliver(body).status == 204

    deliver()
    for body in (*DEEP, *(json.dumps(USER).encode().replace(b'"pro"', deep) for deep in DEEP)):
        assert play.deliver(body).status == 204


def test_an_order_over_the_limit_is_refused_however_it_comes_in_parts(play: Play) -> None:
    parts = [b" " * 1_000] * 70
    assert play.ask("POST", "/v1/retry", [play.own], *parts).status == 400


def test_no_answer_points_anywhere_else(play: Play) -> None:
    for path in ("/healthz/", "/v1/retry/", "/metrics/", "//evil.example/metrics"):
        answer = play.ask("GET", path, [(b"host", b"evil.example")])
        assert answer.status == 404, path
        assert b"evil" not in answer.body


def test_without_a_database_every_path_says_so_and_holds_nothing_of_it(play: Play) -> None:
    play.database.gone = True
    try:
        for method, path, body in [
            ("GET", "/metrics", b""),
            ("POST", "/v1/retry", b'{"subjects": ["user_a"]}'),
            ("POST", "/v1/undo", b'{"subjects": ["user_a"]}'),
            ("POST", "/v1/release", b'{"deletions": true}'),
            ("POST", "/v1/apply", json.dumps(ERRANDS).encode()),
            ("POST", "/v1/ensure/user_a", b""),
            ("GET", "/v1/links/user_a", b""),
            ("POST", "/webhooks/clerk", b""),
        ]:
            answer = play.ask(method, path, [play.own], body) if body or "web" not in path else play.deliver(GOOD)
            assert (answer.status, b"secret" in answer.body) == (503, False), path
            assert (b"retry-after", b"5") in answer.headers
        assert play.ask("GET", "/readyz").status == 503
        assert play.ask("GET", "/healthz").status == 200
    finally:
        play.database.gone = False
    play.run(lambda: asyncio.sleep(2))


def fields_of(play: Play) -> list[Any]:
    """What the links hold."""
    return play.run(
        lambda: play.world.database.read(
            lambda connection: [row[0] for row in connection.exec_driver_sql("SELECT subject_id FROM link_rows")]
        )
    )


def test_no_growth_without_a_valid_signature(play: Play) -> None:
    before = fields_of(play), len(play.ask("GET", "/metrics").body)
    for number in range(300):
        headers = signed("whsec_" + "QUJD" * 8, b"x", int(play.world.time()), f"msg_{number}")
        assert play.ask("POST", "/webhooks/clerk", headers, b"x").status == 400
    after = fields_of(play), len(play.ask("GET", "/metrics").body)
    assert before[0] == after[0]
    assert after[1] - before[1] < 400  # the figures themselves have more digits, and no labels are new
