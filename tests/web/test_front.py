"""How requests come in and answers go out, over real sockets."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from counterfoil.cli.serve import bound
from counterfoil.web import front as module
from counterfoil.web.front import HEAD_LIMIT, HEAD_SECONDS, READ_SECONDS, DeliveryProtocol, Front
from tests.acceptance.node import free_port

from .support import USER, Headers, World, signed

PATH = "/hook"


async def _hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {(await request.body()).decode()}")


class Site:
    """What is served, and a client's ways to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.port = free_port()
        self.clients: list[Client] = []
        application = Starlette(routes=[Route("/hello", _hello, methods=["GET", "POST"])])
        self.front = Front(world.receiver, PATH, application, bound("127.0.0.1", self.port))

    @property
    def connections(self) -> list[DeliveryProtocol]:
        return [each for each in self.front.server_state.connections if isinstance(each, DeliveryProtocol)]

    async def open(self) -> "Client":
        while True:
            try:
                self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
            except ConnectionRefusedError:
                await asyncio.sleep(0.005)
            else:
                return self.clients[-1]

    async def begun(self, requests: int) -> None:
        """Wait until so many requests have begun on the first connection."""
        await until(lambda: bool(self.connections) and self.connections[0]._requests == requests)

    async def held(self, deliveries: int = 1) -> None:
        """Wait until so many deliveries wait for their commit."""
        await until(lambda: len(self.world.held or ()) == deliveries)

    async def gone(self) -> None:
        """Wait until there is no connection any more."""
        await until(lambda: not self.connections)

    def pass_time(self, seconds: float) -> None:
        """Let the server believe that so much time has gone by."""
        for each in self.connections:
            each.expire(asyncio.get_running_loop().time() + seconds)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.headers: dict[bytes, bytes] = {}

    def send(self, data: bytes) -> "Client":
        self.writer.write(data)
        return self

    async def answer(self) -> tuple[int, bytes]:
        """The next answer: status and body; 0: the server has closed the connection instead."""
        try:
            return await asyncio.wait_for(self._answer(), 10)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, b""

    async def _answer(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head[:-4].split(b"\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        body = await self.reader.readexactly(int(self.headers.get(b"content-length", b"0")))
        return int(status.split()[1]), body

    async def closed(self) -> bool:
        """Whether the server closes the connection, without another word."""
        try:
            return await asyncio.wait_for(self.reader.read(), 10) == b""
        except ConnectionError:
            return True


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the server does."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def served(world: World | None = None) -> AsyncIterator[Site]:
    site = Site(world or World())
    serving = asyncio.create_task(site.front.serve())
    try:
        yield site
    finally:
        site.front.stop()
        for tell in site.world.held or ():
            tell(True)
        await asyncio.wait_for(serving, 10)
        for client in site.clients:
            client.writer.close()


def head(*lines: bytes, method: bytes = b"POST", path: bytes = PATH.encode()) -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"host: localhost", *lines, b"", b""])


def raw(headers: Headers | None = None, body: bytes = USER, *more: bytes, path: bytes = PATH.encode()) -> bytes:
    lines = [name + b": " + value for name, value in (signed(body) if headers is None else headers)]
    return head(*lines, b"content-length: %d" % len(body), *more, path=path) + body


async def test_deliveries_are_taken_one_after_another_on_one_connection() -> None:
    async with served() as site:
        client = await site.open()
        for _ in range(3):
            assert await client.send(raw()).answer() == (204, b"")
            assert b"date" in client.headers
        capitals = [(name.title(), value) for name, value in signed()]
        assert await client.send(raw(capitals)).answer() == (204, b"")
    assert len(site.world.taken) == 4


async def test_a_body_may_come_in_parts_or_in_chunks() -> None:
    lines = [name + b": " + value for name, value in signed()]
    async with served() as site:
        client = await site.open()
        for piece in (raw()[:5], raw()[5:-100], raw()[-100:-1], raw()[-1:]):
            client.send(piece)
            await asyncio.sleep(0.01)
        assert await client.answer() == (204, b"")
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (USER[:50], USER[50:]))
        client.send(head(*lines, b"transfer-encoding: chunked") + chunks + b"0\r\n\r\n")
        assert await client.answer() == (204, b"")
    assert len(site.world.taken) == 2


@pytest.mark.parametrize("path", [b"/hook?x=1", b"/h%6fok", b"http://localhost/hook"])
async def test_the_path_may_be_written_in_other_ways(path: bytes) -> None:
    async with served() as site:
        assert await (await site.open()).send(raw(path=path)).answer() == (204, b"")
    assert len(site.world.taken) == 1


async def test_all_other_requests_go_to_the_application() -> None:
    async with served() as site:
        client = await site.open()
        request = head(b"content-length: 3", path=b"/hello") + b"Zoe"
        assert await client.send(request).answer() == (200, b"hello Zoe")
        assert (await client.send(head(method=b"GET", path=b"/hook/")).answer())[0] == 404
        assert (await client.send(raw()).answer())[0] == 204


async def test_what_is_refused_leaves_the_connection_open() -> None:
    async with served() as site:
        client = await site.open()
        assert await client.send(raw([])).answer() == (400, b"signature headers missing")
        assert client.headers[b"content-type"].startswith(b"text/plain")
        assert await client.send(raw([*signed(), (b"svix-id", b"msg_2")])).answer() == (
            400,
            b"a header is there twice",
        )
        assert (await client.send(head(method=b"GET")).answer())[0] == 405
        assert client.headers[b"allow"] == b"POST"
        assert (await (await site.open()).send(head(method=b"HEAD")).answer())[0] == 405
        assert await client.send(raw()).answer() == (204, b"")


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        raw([*signed(), (b"content-length", b"1")]),
        raw([*signed(), (b"transfer-encoding", b"chunked")]),
    ],
    ids=["no request", "two lengths", "a length and chunks"],
)
async def test_what_is_no_request_or_two_is_answered_400_and_taken_by_nobody(request_: bytes) -> None:
    async with served() as site:
        client = (await site.open()).send(request_)
        assert (await client.answer())[0] == 400
        assert await client.closed()
    assert site.world.taken == []


async def test_a_body_over_the_limit_is_answered_413_announced_or_not() -> None:
    async with served() as site:
        limit = site.world.receiver.body_limit
        client = (await site.open()).send(head(b"content-length: %d" % (limit + 1)))
        assert (await client.answer())[0] == 413  # not a byte of it was sent
        assert await client.closed()
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        client = (await site.open()).send(head(b"transfer-encoding: chunked") + chunk * (limit // 0x10000 + 1))
        assert (await client.answer())[0] in {413, 0}  # what it still sends may break the connection first
        assert (await (await site.open()).send(raw(None, b" " * limit)).answer())[0] == 204
    assert site.world.count("too_large") == 2


async def test_a_head_over_the_limit_is_refused() -> None:
    async with served() as site:
        client = (await site.open()).send(b"POST /hook HTTP/1.1\r\nx: ")
        await site.begun(1)
        client.send(b"y" * (HEAD_LIMIT + 1))
        assert (await client.answer())[0] == 431
        assert await client.closed()
        assert (await (await site.open()).send(raw()).answer())[0] == 204


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked() -> None:
    async with served() as site:
        whole = raw(None, USER, b"expect: 100-continue")
        client = (await site.open()).send(whole[: -len(USER)])
        assert await client.answer() == (100, b"")
        assert await client.send(USER).answer() == (204, b"")


async def test_a_body_that_does_not_come_in_time_is_answered_408() -> None:
    async with served() as site:
        client = (await site.open()).send(raw()[:-5])
        await until(lambda: any(each._delivery is not None for each in site.connections))
        site.pass_time(READ_SECONDS - 5)
        assert site.world.count("too_slow") == 0
        site.pass_time(READ_SECONDS)
        assert (await client.answer())[0] == 408
        assert await client.closed()
    assert site.world.count("too_slow") == 1


@pytest.mark.parametrize(("sent", "begun"), [(b"", 0), (raw()[:20], 1), (raw() + raw()[:20], 2)])
async def test_a_head_that_does_not_come_in_time_closes_the_connection(sent: bytes, begun: int) -> None:
    async with served() as site:
        client = (await site.open()).send(sent)
        await until(lambda: bool(site.connections))
        await site.begun(begun)
        site.pass_time(HEAD_SECONDS)
        if len(sent) > len(raw()):
            assert (await client.answer())[0] == 204
        assert await client.closed()


async def test_who_waits_for_the_commit_is_not_under_any_limit_of_time() -> None:
    world = World()
    world.held = []
    async with served(world) as site:
        client = (await site.open()).send(raw())
        await site.held()
        site.pass_time(3_600)
        [tell] = world.held
        tell(True)
        assert await client.answer() == (204, b"")


async def test_pipelined_requests_are_answered_in_their_order_whichever_is_written_first() -> None:
    world = World()
    world.held = []
    async with served(world) as site:
        client = (await site.open()).send(raw() + head(method=b"GET", path=b"/hello") + raw([]) + raw() + raw())
        await site.held(3)
        first, second, third = world.held
        third(True)
        second(False)
        first(True)
        assert [(await client.answer())[0] for _ in range(5)] == [204, 200, 400, 503, 204]


async def test_any_number_of_requests_may_wait_for_the_first_one() -> None:
    world = World()
    world.held = []
    async with served(world) as site:
        client = (await site.open()).send(raw() + head(method=b"GET") * 3_000)
        await site.held()
        await until(lambda: len(site.connections[0].pipeline) > 500)  # more than a stack has room for
        [tell] = world.held
        tell(True)
        assert await client.answer() == (204, b"")
        assert {(await client.answer())[0] for _ in range(3_000)} == {405}


async def test_a_client_that_reads_no_answers_is_not_read_either_and_is_dropped_in_the_end() -> None:
    async with served() as site:
        client = (await site.open()).send(head(method=b"GET") * 300_000)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: any(each.flow.write_paused for each in site.connections))
        [connection] = site.connections
        assert connection.transport.get_write_buffer_size() < 4 * 1024 * 1024
        assert site.world.count("not_post") < 300_000
        site.pass_time(HEAD_SECONDS)
        await site.gone()
        assert (await (await site.open()).send(raw()).answer())[0] == 204


async def test_a_client_that_ends_its_side_is_answered_what_it_waits_for() -> None:
    world = World()
    world.held = []
    async with served(world) as site:
        client = (await site.open()).send(raw())
        client.writer.write_eof()
        await site.held()
        [tell] = world.held
        tell(True)
        assert await client.answer() == (204, b"")
        assert await client.closed()


async def test_a_client_that_ends_in_mid_body_is_told_so_in_case_it_still_listens() -> None:
    async with served() as site:
        client = (await site.open()).send(raw()[:-5])
        client.writer.write_eof()
        assert await client.answer() == (400, b"the body ended early")
        assert await client.closed()
        assert site.world.count("disconnected") == 1
    assert site.world.taken == []


@pytest.mark.parametrize("sent", [raw()[:-10], raw()])
async def test_a_client_that_goes_away_breaks_nothing(sent: bytes) -> None:
    world = World()
    world.held = []
    async with served(world) as site:
        client = (await site.open()).send(sent)
        await site.begun(1)
        if sent == raw():
            await site.held()
        else:
            await until(lambda: site.connections[0]._delivery is not None)
        client.writer.transport.abort()
        # Who has gone while its delivery is written is not told from who has only ended its side.
        await until(lambda: not site.connections or not site.connections[0].cycle.keep_alive)
        for tell in world.held:
            tell(True)
        await site.gone()
        world.held = []
        other = (await site.open()).send(raw())
        await site.held()
        world.held[0](True)
        assert await other.answer() == (204, b"")
    assert world.count("disconnected") == (sent != raw())


@pytest.mark.parametrize(
    "request_",
    [
        raw(None, USER, b"connection: close"),
        raw().replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        raw(None, USER, b"connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    ],
)
async def test_a_client_that_wants_one_answer_gets_no_more(request_: bytes) -> None:
    async with served() as site:
        client = (await site.open()).send(request_ + raw())
        assert await client.answer() == (204, b"")
        assert client.headers[b"connection"] == b"close"
        assert await client.closed()


async def test_more_connections_than_there_may_be_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS", 2)
    async with served() as site:
        first, second = await site.open(), await site.open()
        assert (await first.send(raw()).answer())[0] == 204
        assert (await second.send(raw()).answer())[0] == 204
        assert await (await site.open()).closed()
        first.writer.close()
        await first.writer.wait_closed()
        await until(lambda: len(site.connections) < 2)
        assert (await (await site.open()).send(raw()).answer())[0] == 204


async def test_a_server_that_stops_answers_what_it_has_taken_and_lets_idle_clients_go() -> None:
    world = World()
    world.held = []
    async with served(world) as site:
        idle, waiting = await site.open(), (await site.open()).send(raw())
        await site.held()
        await until(lambda: len(site.connections) == 2)
        site.front.stop()
        assert await idle.closed()
        [tell] = world.held
        tell(True)
        assert await waiting.answer() == (204, b"")
        assert await waiting.closed()


async def test_connections_that_are_over_leave_nothing_behind() -> None:
    async with served() as site:
        for _ in range(20):
            client = (await site.open()).send(raw() + raw()[:30])
            assert (await client.answer())[0] == 204
            client.writer.close()
            await client.writer.wait_closed()
        await site.gone()
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, DeliveryProtocol)]
