"""The webhook endpoint: what is answered to what, and when."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from counterfoil.clerk.body import BodyReader
from counterfoil.clerk.webhook import Decoder, Unreadable, Verifier
from counterfoil.core.news import UserDeleted, UserEvent
from counterfoil.errors import IntakeFull
from counterfoil.web.receiver import TYPES_LIMIT, Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_700_000_000_000
USER = json.dumps(
    {
        "object": "event",
        "type": "user.created",
        "timestamp": NOW,
        "instance_id": "ins_ours",
        "data": {"id": "user_zoe", "first_name": "Zoe", "created_at": NOW, "updated_at": NOW},
    }
).encode()

Headers = list[tuple[bytes, bytes]]
Messages = Iterable[dict[str, Any]]


class World:
    """A receiver, what it handed on, and whether that can be written."""

    def __init__(self, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.taken: list[UserEvent | UserDeleted | Unreadable] = []
        self.full = False
        self.gate: asyncio.Event | None = None
        verifier, decoder = (
            Verifier([SECRET]),
            Decoder(instance_id="ins_ours", reader=BodyReader("stripeCustomerId")),
        )
        self.receiver = Receiver(verifier, decoder, self.take, self.registry, now=lambda: NOW, **options)

    async def take(self, item: UserEvent | UserDeleted | Unreadable) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.full:
            raise IntakeFull("full")
        self.taken.append(item)

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("counterfoil_deliveries_total", {"outcome": outcome}) or 0

    def refused(self, reason: str) -> float:
        name = "counterfoil_deliveries_refused_total"
        return self.registry.get_sample_value(name, {"reason": reason}) or 0

    def ignored(self, kind: str) -> float:
        return self.registry.get_sample_value("counterfoil_ignored_events_total", {"type": kind}) or 0


class Answer:
    """What was sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not self.status
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message["body"]


def signed(body: bytes = USER) -> Headers:
    sent = str(NOW // 1000)
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = hmac.digest(key, f"msg_1.{sent}.".encode() + body, hashlib.sha256)
    return [
        (b"host", b"localhost"),
        (b"svix-id", b"msg_1"),
        (b"svix-timestamp", sent.encode()),
        (b"svix-signature", b"v1," + base64.b64encode(mac)),
    ]


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def post(world: World, headers: Headers, messages: Messages, method: str = "POST") -> Answer:
    """Call the receiver; when the messages are used up, the client is silent."""
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        for message in waiting:
            return message
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    answer = Answer()
    scope = {"type": "http", "method": method, "headers": headers, "path": "/", "http_version": "1.1"}
    await world.receiver(scope, receive, answer.send)
    return answer


async def deliver(world: World, body: bytes = USER) -> Answer:
    return await post(world, signed(body), [part(body)])


async def test_news_is_answered_204_and_only_once_it_is_written() -> None:
    world = World()
    world.gate = asyncio.Event()
    task = asyncio.create_task(deliver(world))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    world.gate.set()
    answer = await task
    assert (answer.status, answer.body, answer.headers) == (204, b"", {})
    [item] = world.taken
    assert isinstance(item, UserEvent)
    assert (item.subject_id, item.delivery, item.trusted) == ("user_zoe", "msg_1", True)
    assert world.count("taken") == 1
    assert world.registry.get_sample_value("counterfoil_delivery_seconds_count") == 1


async def test_a_body_may_come_in_parts() -> None:
    for messages in (
        [part(USER[:9], True), part(USER[9:])],
        [part(USER, True), part(b"")],
        [part(b"", True), part(USER[:9], True), part(USER[9:], True), {"type": "http.request"}],
    ):
        world = World()
        assert (await post(world, signed(), messages)).status == 204


async def test_a_body_as_long_as_announced_is_not_waited_for_any_longer() -> None:
    headers = [*signed(), (b"content-length", str(len(USER)).encode())]
    assert (await post(World(), headers, [part(USER, True)])).status == 204


async def test_a_delivery_that_is_not_genuine_is_answered_400_with_a_fixed_reason() -> None:
    world = World()
    answer = await post(world, signed(b"another"), [part(USER)])
    assert (answer.status, answer.body) == (400, b"no signature matches")
    assert answer.headers[b"content-type"].startswith(b"text/plain")
    assert answer.headers[b"content-length"] == b"20"
    assert (await post(world, [], [part(USER)])).body == b"signature headers missing"
    assert (world.count("refused"), world.refused("no_match"), world.refused("missing")) == (2, 1, 1)
    assert world.taken == []


@pytest.mark.parametrize("name", [b"svix-id", b"svix-timestamp", b"svix-signature", b"content-length"])
async def test_a_header_that_is_there_twice_is_refused(name: bytes) -> None:
    world = World()
    headers = [*signed(), (b"content-length", str(len(USER)).encode())]
    answer = await post(world, [*headers, (name, dict(headers)[name])], [part(USER)])
    assert (answer.status, world.refused("doubled")) == (400, 1)


@pytest.mark.parametrize("name", [b"svix-id", b"svix-timestamp", b"svix-signature"])
@pytest.mark.parametrize("value", [b"\xff\xfe", b"\x00", b"", "é".encode(), b"v1,\xe9"])
async def test_strange_bytes_in_a_header_are_refused(name: bytes, value: bytes) -> None:
    headers = [(each, value if each == name else usual) for each, usual in signed()]
    assert (await post(World(), headers, [part(USER)])).status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"type":"user.created","data":{"id":"user_1"}}'])
async def test_a_signed_body_that_cannot_be_read_is_kept_and_answered_204(body: bytes) -> None:
    world = World()
    answer = await deliver(world, body)
    assert (answer.status, answer.body) == (204, b"")
    assert world.taken == [Unreadable("msg_1", body, NOW)]
    assert (world.count("unreadable"), world.count("refused")) == (1, 0)


async def test_a_signed_event_of_another_type_is_counted_and_goes_no_further() -> None:
    world = World()
    world.full = True
    assert (await deliver(world, b'{"type":"session.ended","data":{}}')).status == 204
    assert (world.count("ignored"), world.ignored("session.ended"), world.taken) == (1, 1, [])


async def test_so_many_ignored_types_are_told_apart_and_no_more() -> None:
    world = World()
    for number in range(TYPES_LIMIT + 3):
        await deliver(world, b'{"type":"t%d","data":{}}' % number)
    await deliver(world, b'{"type":"t0","data":{}}')
    assert (world.ignored("t0"), world.ignored(f"t{TYPES_LIMIT}"), world.ignored("other")) == (2, 0, 3)


async def test_what_cannot_be_written_is_answered_503_and_asked_for_again() -> None:
    world = World()
    world.full = True
    answer = await deliver(world)
    assert (answer.status, answer.headers[b"retry-after"]) == (503, b"5")
    assert (world.count("full"), world.count("taken")) == (1, 0)
    assert (await deliver(world, b"unreadable")).status == 503


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "post"])
async def test_other_methods_are_answered_405(method: str) -> None:
    world = World()
    answer = await post(world, signed(), [part(USER)], method)
    assert (answer.status, answer.headers[b"allow"]) == (405, b"POST")
    assert (world.taken, world.count("not_post")) == ([], 1)


async def test_a_body_over_the_limit_is_answered_413_announced_or_not() -> None:
    world = World(body_limit=len(USER))
    assert (await deliver(world)).status == 204
    long = USER + b" "
    assert (await deliver(world, long)).status == 413
    assert (await post(world, signed(long), [part(USER, True), part(b" ")])).status == 413
    announced = [*signed(long), (b"content-length", str(len(long)).encode())]
    assert (await post(world, announced, [])).status == 413  # not a byte of it is read
    assert (await post(world, [*signed(), (b"content-length", b"9" * 20)], [])).status == 413
    assert world.count("too_large") == 4


@pytest.mark.parametrize("text", [b"", b"many", b"-1", b"\xb2", b"9" * 21])
async def test_a_content_length_that_is_no_number_is_not_looked_at(text: bytes) -> None:
    assert (await post(World(), [*signed(), (b"content-length", text)], [part(USER)])).status == 204


@pytest.mark.looptime
@pytest.mark.parametrize("messages", [[], [part(USER[:5], True)], [part(b"", True)] * 9])
async def test_a_body_that_does_not_come_in_time_is_answered_408(messages: list[dict[str, Any]]) -> None:
    world = World(read_seconds=10.0)
    begun = asyncio.get_running_loop().time()
    answer = await post(world, signed(), messages)
    assert (answer.status, world.count("too_slow")) == (408, 1)
    assert asyncio.get_running_loop().time() - begun == pytest.approx(10, abs=0.01)


@pytest.mark.looptime
async def test_each_slow_body_has_its_own_time() -> None:
    world = World(read_seconds=10.0)
    loop = asyncio.get_running_loop()
    ended: list[float] = []

    async def one(after: float) -> None:
        await asyncio.sleep(after)
        assert (await post(world, signed(), [])).status == 408
        ended.append(loop.time() - begun)

    begun = loop.time()
    await asyncio.gather(one(0), one(4), one(30), deliver(world))
    assert ended == pytest.approx([10, 14, 40], abs=0.05)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


@pytest.mark.looptime
async def test_who_waits_for_the_commit_is_not_under_the_reading_time() -> None:
    world = World(read_seconds=10.0)
    world.gate = asyncio.Event()
    asyncio.get_running_loop().call_later(60, world.gate.set)
    assert (await deliver(world)).status == 204


async def test_cancelling_the_request_while_it_is_read_cancels_it() -> None:
    world = World()
    task = asyncio.create_task(post(world, signed(), []))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.count("too_slow") == 0


@pytest.mark.parametrize("before", [[], [part(USER[:5], True)]])
async def test_a_client_that_ends_in_mid_body_is_told_so_in_case_it_still_listens(
    before: list[dict[str, Any]],
) -> None:
    world = World()
    answer = await post(world, signed(), [*before, {"type": "http.disconnect"}])
    assert (answer.status, answer.body) == (400, b"the body ended early")
    assert (world.count("disconnected"), world.taken) == (1, [])


any_header = st.tuples(
    st.sampled_from([name for name, _ in signed()] + [b"webhook-id", b"content-length", b"x"]),
    st.binary(max_size=40),
)


@given(st.lists(any_header, max_size=8), st.binary(max_size=40))
async def test_no_input_is_ever_repeated_or_breaks_the_receiver(headers: Headers, body: bytes) -> None:
    world = World()
    answer = await post(world, headers, [part(body)])
    assert answer.status in {400, 413}
    assert answer.body.decode() in {
        "signature headers missing",
        "a header is there twice",
        "signature headers of two kinds",
        "message id malformed",
        "timestamp malformed",
        "timestamp too old",
        "timestamp too far ahead",
        "signature header malformed",
        "no signature matches",
        "the body is too large",
    }


# --- over a real server ----------------------------------------------------------------------------------


@asynccontextmanager
async def served(world: World) -> AsyncIterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    server = Server(
        world.receiver,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    try:
        await listening(port)
        yield port
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await serving


async def listening(port: int) -> None:
    """Return when the port answers: the server does not say when it listens."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.005)
        else:
            writer.close()
            return await writer.wait_closed()


async def talk(port: int, request: bytes) -> tuple[int, bytes]:
    """Send raw bytes and return the status and all that comes after the head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    rest = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), rest


def raw(headers: Headers, body: bytes = USER) -> bytes:
    lines = [b"POST / HTTP/1.1", b"connection: close", b"content-length: %d" % len(body)]
    return b"\r\n".join([*lines, *(name + b": " + value for name, value in headers), b"", body])


async def test_over_http_a_delivery_is_taken() -> None:
    world = World()
    async with served(world) as port:
        assert await talk(port, raw(signed())) == (204, b"")
        capitals = [(name.title(), value) for name, value in signed()]
        assert await talk(port, raw(capitals)) == (204, b"")
    assert len(world.taken) == 2


async def test_over_http_a_chunked_body_is_taken() -> None:
    world = World()
    head = b"POST / HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n"
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in signed())
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (USER[:50], USER[50:]))
    async with served(world) as port:
        assert await talk(port, head + lines + b"\r\n" + chunks + b"0\r\n\r\n") == (204, b"")


async def test_over_http_bad_headers_are_answered_400() -> None:
    world = World()
    async with served(world) as port:
        assert await talk(port, raw([*signed(), (b"svix-id", b"msg_2")])) == (400, b"a header is there twice")
        strange = [(name, b"\xff" if name == b"svix-id" else value) for name, value in signed()]
        assert (await talk(port, raw(strange)))[0] == 400


async def test_over_http_a_client_that_goes_away_in_mid_body_breaks_nothing() -> None:
    world = World()
    async with served(world) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw(signed())[:-10])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert await talk(port, raw(signed())) == (204, b"")
    assert len(world.taken) == 1
    assert world.count("taken") == 1
