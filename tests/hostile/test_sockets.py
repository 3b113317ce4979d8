"""Clients that misbehave on the socket of a real serve: good deliveries go through beside all of them."""

import asyncio
import json
import re
import resource
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from tests.acceptance.standing import Standing, standing_in
from tests.hostile.support import signed
from tests.hostile.test_ground import body_of, deliver, status_of

T = TypeVar("T")
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.timeout(300)]
IDLE = 1_000
MEMORY = 64 * 1024 * 1024
"""Bytes by which serve may grow under any of this: far less than what is sent to it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Standing]:
    """One serve for all: what one test does to it the next would notice."""
    async with standing_in(tmp_path_factory.mktemp("sockets"), "--observe") as made:
        yield made


Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(standing: Standing) -> Peer:
    return await asyncio.open_connection("127.0.0.1", standing.serve.port)


def head(*lines: bytes, path: bytes = b"/webhooks/clerk", method: bytes = b"POST") -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"host: localhost", *lines, b"", b""])


def genuine(standing: Standing, user: str, *, more: tuple[bytes, ...] = ()) -> bytes:
    """A whole good request."""
    body = body_of(user)
    headers = signed(standing.sandbox.settings.svix.secret, body, int(time.time()))
    lines = [name + b": " + value for name, value in headers]
    return head(*lines, b"content-length: %d" % len(body), *more) + body


async def answer(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, its body read; 0: the connection was closed instead."""
    try:
        told = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", told, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0
    return int(told.split()[1])


async def good(standing: Standing, name: str, count: int = 20) -> None:
    """Good deliveries are taken, and serve is well."""
    answers = await deliver(standing, [f"user_{name}{number}" for number in range(count)])
    assert set(answers.values()) == {204}
    assert await status_of(standing, "/readyz") == 200


def memory(standing: Standing) -> int:
    """Bytes that serve has in memory."""
    assert standing.serve.process is not None
    pages = Path(f"/proc/{standing.serve.process.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def files(standing: Standing) -> int:
    """How many files and sockets serve has open."""
    assert standing.serve.process is not None
    return len(list(Path(f"/proc/{standing.serve.process.pid}/fd").iterdir()))


async def let_go(standing: Standing, before: int) -> None:
    """Serve closes what its clients have closed."""
    async with asyncio.timeout(60):
        while files(standing) > before + 5:
            await asyncio.sleep(0.1)


async def test_slow_bodies_are_given_up_and_hold_up_nobody(standing: Standing) -> None:
    before = files(standing)

    async def slow() -> int:
        reader, writer = await connect(standing)
        writer.write(head(b"content-length: 1000"))
        answering = asyncio.create_task(answer(reader))
        while not answering.done():
            writer.write(b"x")
            await asyncio.wait({answering}, timeout=1)
        writer.close()
        return answering.result()

    peers = [asyncio.create_task(slow()) for _ in range(50)]
    await good(standing, "slow")
    assert set(await asyncio.gather(*peers)) == {408}
    await let_go(standing, before)


async def test_bodies_and_headers_over_the_limit_are_refused_without_being_kept(standing: Standing) -> None:
    used, before = memory(standing), files(standing)

    async def announced() -> None:
        reader, writer = await connect(standing)
        writer.write(head(b"content-length: 100000000000"))
        assert await answer(reader) == 413
        writer.close()

    async def chunked() -> None:
        reader, writer = await connect(standing)
        writer.write(head(b"transfer-encoding: chunked"))
        answering = asyncio.create_task(answer(reader))
        try:
            for _ in range(64):
                writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            pass  # it was answered already, and hung up
        assert await answering in {413, 0}
        writer.close()

    async def long_headers() -> None:
        reader, writer = await connect(standing)
        answering = asyncio.create_task(answer(reader))
        try:
            writer.write(b"POST /webhooks/clerk HTTP/1.1\r\n")
            for number in range(2_000):
                writer.write(b"x-%d: %s\r\n" % (number, b"y" * 1_000))
                await writer.drain()
        except ConnectionError:
            pass
        assert await answering in {431, 400, 0}
        writer.close()

    async def long_path() -> None:
        reader, writer = await connect(standing)
        writer.write(head(path=b"/" + b"a" * 200_000, method=b"GET"))
        assert await answer(reader) in {400, 404, 414, 431, 0}
        writer.close()

    for attack in (announced, chunked, long_headers, long_path):
        await asyncio.gather(*(attack() for _ in range(20)))
        await good(standing, attack.__name__)
    await let_go(standing, before)
    assert memory(standing) - used < MEMORY


async def test_half_closed_and_broken_connections_are_let_go(standing: Standing) -> None:
    before = files(standing)
    request = genuine(standing, "user_half")

    async def half(sent: bytes, ended: Callable[[asyncio.StreamWriter], None]) -> None:
        reader, writer = await connect(standing)
        writer.write(sent)
        await writer.drain()
        ended(writer)
        assert await answer(reader) in {0, 204, 400, 408}
        writer.close()

    def eof(writer: asyncio.StreamWriter) -> None:
        writer.write_eof()

    def cut(writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    pieces = [b"", request[:10], request[:200], request[:-1], request]
    await asyncio.gather(*(half(piece, ended) for piece in pieces for ended in (eof, cut) for _ in range(10)))
    await good(standing, "half")
    await let_go(standing, before)


async def test_a_thousand_idle_connections_stand_in_nobodys_way(standing: Standing) -> None:
    before, used = files(standing), memory(standing)
    peers = [await connect(standing) for _ in range(IDLE // 2)]
    for _ in range(IDLE // 2):
        reader, writer = await connect(standing)
        writer.write(b"POST /webhooks/clerk HTTP/1.1\r\nhost:")  # begun, and never gone on with
        peers.append((reader, writer))
    await good(standing, "idle", 200)
    for _, writer in peers:
        writer.close()
    await let_go(standing, before)
    assert memory(standing) - used < MEMORY


async def test_pipelined_requests_are_answered_each_and_in_their_order(standing: Standing) -> None:
    reader, writer = await connect(standing)
    kinds = [
        (genuine(standing, "user_pipe1"), 204),
        (head(b"content-length: 2") + b"{}", 400),
        (head(method=b"GET"), 405),
        (head(path=b"/healthz", method=b"GET"), 200),
        (genuine(standing, "user_pipe2"), 204),
    ] * 20
    writer.write(b"".join(request for request, _ in kinds))
    found = [await answer(reader) for _ in kinds]
    assert found == [status for _, status in kinds]
    writer.close()


async def test_a_request_that_could_be_read_in_two_ways_is_refused(standing: Standing) -> None:
    request = genuine(standing, "user_smuggled")
    both = head(b"content-length: 5", b"transfer-encoding: chunked") + b"0\r\n\r\n" + request
    two = head(b"content-length: 0", b"content-length: %d" % len(request)) + request
    for sent in (both, two):
        reader, writer = await connect(standing)
        writer.write(sent)
        writer.write_eof()
        first = await answer(reader)
        assert first in {0, 400}, sent[:80]
        writer.close()


async def test_a_replay_after_the_tolerance_is_refused(standing: Standing) -> None:
    secret, body = standing.sandbox.settings.svix.secret, body_of("user_replayed")
    for age, expected in ((0, 204), (0, 204), (290, 204), (310, 400), (-310, 400), (86_400, 400)):
        reader, writer = await connect(standing)
        lines = [name + b": " + value for name, value in signed(secret, body, int(time.time()) - age)]
        writer.write(head(*lines, b"content-length: %d" % len(body)) + body)
        assert await answer(reader) == expected, age
        writer.close()


async def _timed(standing: Standing, name: str, seconds: float) -> list[float]:
    """Good deliveries, one after another on one connection; how long each took, in ms."""
    reader, writer = await connect(standing)
    took: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        request = genuine(standing, f"user_{name}{len(took)}")
        began = time.perf_counter()
        writer.write(request)
        assert await answer(reader) == 204
        took.append((time.perf_counter() - began) * 1000)
    writer.close()
    return sorted(took)


async def _while_attacked(attacks: list[Coroutine[Any, Any, None]], work: Coroutine[Any, Any, T]) -> T:
    tasks = [asyncio.create_task(each) for each in attacks]
    done = await work
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
    return done


async def test_a_flood_of_bad_signatures_stops_no_good_delivery(standing: Standing) -> None:
    seconds, refused = 4.0, [0]
    body = json.dumps({"x": "y" * 2_000}).encode()
    lines = [name + b": " + value for name, value in signed("whsec_" + "QUJD" * 8, body, int(time.time()))]
    request = head(*lines, b"content-length: %d" % len(body)) + body

    async def flood() -> None:
        reader, writer = await connect(standing)
        try:
            while True:
                writer.write(request * 10)
                for _ in range(10):
                    assert await answer(reader) == 400
                refused[0] += 10
        finally:
            writer.close()

    quiet = await _timed(standing, "quiet", seconds)
    beside = await _while_attacked([flood() for _ in range(8)], _timed(standing, "flood", seconds))
    assert refused[0] > 100
    assert beside
    for name, took in (("quiet", quiet), ("beside the flood", beside)):
        p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
        print(f"{name}: {len(took)} good, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    print(f"refused: {refused[0] / seconds:.0f} a second")
    assert await status_of(standing, "/readyz") == 200
