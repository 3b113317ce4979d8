"""What a client may keep open, and how much of what is no body it may send; and how the server ends and begins."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from counterfoil.clerk.api import Answer
from counterfoil.cli.serve import bound, serving
from counterfoil.errors import ConfigurationError
from counterfoil.settings import load
from counterfoil.web.front import HEAD_LIMIT, HEAD_SECONDS, READ_SECONDS
from counterfoil.wiring import Outside
from tests.acceptance.node import free_port
from tests.databases import Home
from tests.harness import StripeTransport, world

from .support import USER, World, signed
from .test_front import Client, Site, head, raw, served, until

LINES = [name + b": " + value for name, value in signed()]
CHUNKED = head(*LINES, b"transfer-encoding: chunked") + b"%x\r\n" % len(USER) + USER + b"\r\n"
MUCH = 20 * HEAD_LIMIT


async def flood(site: Site, client: Client, what: bytes) -> int:
    """Send on and on, until the server closes the connection; answers how many bytes it took."""
    sent = 0
    while site.connections and sent < MUCH:
        client.send(what)
        sent += len(what)
        await asyncio.sleep(0)
        try:
            await client.writer.drain()
        except ConnectionError:
            break
    return sent


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (CHUNKED + b"0\r\n", b"a:b\r\n" * 1_000),
        (CHUNKED + b"1;", b"a" * 5_000),
        (head(b"transfer-encoding: chunked", path=b"/hello") + b"0\r\n", b"a:b\r\n" * 1_000),
    ],
    ids=["trailers", "a chunk's extension", "trailers to the application"],
)
async def test_what_comes_behind_a_head_and_is_no_body_is_limited(begin: bytes, more: bytes) -> None:
    async with served() as site:
        client = (await site.open()).send(begin)
        await site.begun(1)
        assert await flood(site, client, more) < MUCH
        await site.gone()
    assert site.world.taken == []


async def test_a_body_in_many_small_chunks_is_taken_whole() -> None:
    padded = USER + b" " * 4 * HEAD_LIMIT
    lines = [name + b": " + value for name, value in signed(padded)]
    async with served() as site:
        client = (await site.open()).send(head(*lines, b"transfer-encoding: chunked"))
        for start in range(0, len(padded), 16):
            part = padded[start : start + 16]
            client.send(b"%x\r\n" % len(part) + part + b"\r\n")
            await client.writer.drain()
        assert await client.send(b"0\r\na: b\r\n\r\n").answer() == (204, b"")
        assert await client.send(raw()).answer() == (204, b"")


@pytest.mark.parametrize("last", [b"\r\n", b"x"], ids=["an empty line", "the rest of a body that nobody reads"])
async def test_a_byte_that_begins_no_request_does_not_hold_a_connection_open(last: bytes) -> None:
    async with served() as site:
        client = (await site.open()).send(b"GET /other HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n")
        if last == b"\r\n":
            client.send(b"x" * 100)
        assert (await client.answer())[0] == 404
        [protocol] = site.connections
        protocol._bodies = -1
        client.send(last)
        await until(lambda: protocol._bodies >= 0)
        site.pass_time(HEAD_SECONDS + 1)
        assert await client.closed()


@pytest.mark.parametrize("taken", [True, False], ids=["at once", "after they were left for a while"])
@pytest.mark.parametrize("sent", [raw(), b"GET /other HTTP/1.1\r\nhost: a\r\n\r\n"], ids=["a delivery", "another"])
async def test_a_connection_that_asks_for_nothing_more_is_closed(sent: bytes, taken: bool) -> None:
    async with served() as site:
        client = (await site.open()).send(sent)
        assert (await client.answer())[0] in {204, 404}
        [protocol] = site.connections
        if not taken:
            protocol.pause_writing()
            protocol.resume_writing()
        site.pass_time(HEAD_SECONDS - 1)
        assert site.connections == [protocol]
        site.pass_time(HEAD_SECONDS + 1)
        assert await client.closed()


async def test_who_is_answered_before_his_body_is_read_does_not_hold_a_connection_open() -> None:
    async with served() as site:
        client = (await site.open()).send(b"GET /other HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n")
        assert (await client.answer())[0] == 404
        site.pass_time(HEAD_SECONDS + 1)
        assert await client.closed()


async def test_a_body_that_was_being_read_must_still_come_after_answers_were_taken() -> None:
    async with served() as site:
        client = (await site.open()).send(raw()[:-5])
        await until(lambda: bool(site.connections) and site.connections[0]._delivery is not None)
        [protocol] = site.connections
        protocol.pause_writing()
        protocol.resume_writing()
        site.pass_time(READ_SECONDS + 1)
        assert (await client.answer())[0] == 408


async def test_who_waits_to_be_told_to_send_is_told_when_it_is_his_turn() -> None:
    world = World()
    world.held = []
    async with served(world) as site:
        client = await site.open()
        client.send(raw() + head(*LINES, b"content-length: %d" % len(USER), b"expect: 100-continue"))
        await site.held()
        await site.begun(2)
        held, world.held = world.held, None
        held[0](True)
        assert [await client.answer(), await client.answer()] == [(204, b""), (100, b"")]
        assert await client.send(USER).answer() == (204, b"")


@pytest.mark.slow
async def test_a_client_that_holds_half_a_delivery_does_not_hold_up_the_end() -> None:
    site = Site(World())
    serving = asyncio.create_task(site.front.serve())
    client = (await site.open()).send(raw()[:-5])
    await site.begun(1)
    site.front.stop()
    # Not by the tests' limit: by the server's own.
    await asyncio.wait_for(serving, READ_SECONDS + 30)
    client.writer.close()


async def test_a_port_that_another_took_meanwhile_is_told_before_anything_is_served(
    tmp_path: Path, home: Home
) -> None:
    """Both have bound it, for neither listened yet."""
    port = free_port()
    with bound("127.0.0.1", port) as other:
        async with world(tmp_path, home) as given:

            async def transport(*asked: Any) -> Answer:
                other.listen()
                return await given.clerk_transport(*asked)

            given.environ["COUNTERFOIL_PORT"] = str(port)
            settings = load(given.environ, tmp_path)
            outside = Outside(given.database, given.clock, transport, StripeTransport(given))
            with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"):
                async with serving(settings, outside):
                    raise AssertionError("nothing is served")
