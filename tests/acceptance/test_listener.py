"""The listener, as the process that it is, before a node whose answers a test chooses."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from counterfoil.clerk.view import Described
from counterfoil.errors import ConfigurationError, IntakeFull
from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.svix import SvixSettings
from counterfoil.web.channel import Item, Opening
from counterfoil.web.listener import BODY_LIMIT
from counterfoil.web.listening import Listening
from tests.acceptance.node import free_port
from tools.load import signed

PATH = "/hook"


class Node:
    """Writes only while it may, and answers all other paths."""

    def __init__(self, mapping: str | None = None) -> None:
        self.taken: list[Item] = []
        self.arrived = asyncio.Event()
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.full = False
        self.hung_up = asyncio.Event()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        opening = Opening(
            host="127.0.0.1",
            port=self.port,
            webhook_path=PATH,
            secrets=[SvixSettings().secret],
            instance_id=ClerkSettings().instance_id,
            link_back_key="stripeCustomerId",
            view=Described(mirror=frozenset({"email", "name"}), mapping=mapping, own_keys=frozenset()),
        )
        routes = [
            Route("/metrics", self.metrics),
            Route("/echo", self.echo, methods=["POST"]),
            Route("/wait", self.wait),
            Route("/fails", self.fails),
        ]
        self.listening = Listening(opening, self.take_all, Starlette(routes=routes))

    async def take_all(self, items: Sequence[Item]) -> None:
        self.arrived.set()
        await self.may_write.wait()
        if self.full:
            raise IntakeFull("full")
        self.taken += items

    async def metrics(self, _: Request) -> Response:
        return PlainTextResponse("of_the_node 1\n")

    async def echo(self, request: Request) -> Response:
        said = {"query": request.url.query, "token": request.headers["authorization"]}
        return Response(await request.body(), 202, said)

    async def wait(self, request: Request) -> Response:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.hung_up.set()
        return Response()

    async def fails(self, _: Request) -> Response:
        raise RuntimeError

    @property
    def process(self) -> "asyncio.subprocess.Process":
        assert self.listening._process is not None
        return self.listening._process


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Node, aiohttp.ClientSession]]:
    node = Node()
    await node.listening.start()
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession(node.url) as session:
            yield node, session
    finally:
        node.may_write.set()
        await node.listening.stop()


async def deliver(session: aiohttp.ClientSession, number: int = 1) -> int:
    headers, body = signed(number)
    async with session.post(PATH, data=body, headers=headers) as answer:
        return answer.status


async def test_a_delivery_is_answered_only_once_the_node_has_written_it() -> None:
    async with listening() as (node, session):
        node.may_write.clear()
        asking = asyncio.create_task(deliver(session))
        await node.arrived.wait()
        assert not asking.done()
        node.may_write.set()
        assert await asking == 204
        assert len(node.taken) == 1


async def test_what_the_node_cannot_write_is_answered_503() -> None:
    async with listening() as (node, session):
        node.full = True
        assert await deliver(session) == 503
        node.full = False
        assert await deliver(session) == 204


async def test_many_deliveries_at_once_are_all_taken() -> None:
    async with listening() as (node, session):
        assert await asyncio.gather(*(deliver(session, number) for number in range(300))) == [204] * 300
        assert len(node.taken) == 300


async def test_all_other_requests_are_the_nodes_to_answer() -> None:
    async with listening() as (_, session):
        async with session.post("/echo?a=b", data=b"body", headers={"authorization": "Bearer x"}) as answer:
            assert (answer.status, await answer.read()) == (202, b"body")
            assert (answer.headers["query"], answer.headers["token"]) == ("a=b", "Bearer x")
        async with session.get("/nowhere") as answer:
            assert answer.status == 404
        async with session.get("/fails") as answer:
            assert answer.status == 500
        async with session.post("/echo", data=BytesIO(bytes(BODY_LIMIT + 1))) as answer:
            assert answer.status == 413


async def test_the_figures_of_both_processes_are_one_page() -> None:
    async with listening() as (_, session):
        assert await deliver(session) == 204
        async with session.get("/metrics") as answer:
            text = await answer.text()
        assert text.startswith("of_the_node 1\n")
        assert 'counterfoil_deliveries_total{outcome="taken"} 1.0' in text


async def test_the_node_is_told_of_a_client_that_hangs_up() -> None:
    async with listening() as (node, session):
        with pytest.raises(TimeoutError):
            await session.get("/wait", timeout=aiohttp.ClientTimeout(total=0.3))
        await node.hung_up.wait()


async def test_a_listener_that_dies_is_started_anew() -> None:
    async with listening() as (node, session):
        first = node.process
        first.kill()
        while node.process is first:
            await asyncio.sleep(0.05)
        while True:
            try:
                assert await deliver(session) == 204
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


async def test_a_listener_without_its_node_ends_at_once() -> None:
    node = Node()
    await node.listening.start()
    assert node.listening._visit is not None
    node.listening._visit.channel.close()
    async with asyncio.timeout(10):
        assert await node.process.wait() == 1
    await node.listening.stop()


async def test_what_is_in_flight_is_answered_before_the_end_whatever_signal_comes() -> None:
    async with listening() as (node, session):
        node.may_write.clear()
        asking = asyncio.create_task(deliver(session))
        await node.arrived.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(node.process.pid, number)
        stopping = asyncio.create_task(node.listening.stop())
        await asyncio.sleep(0.1)
        node.may_write.set()
        assert await asking == 204
        await stopping
        assert node.process.returncode == 0


async def test_a_listener_that_ends_at_its_start_is_an_error() -> None:
    node = Node(mapping="nowhere:function")
    with pytest.raises(ConfigurationError, match="ended at its start"):
        await node.listening.start()
    await node.listening.stop()
