"""A whole world in one process on virtual time: the sandbox's state, the real node, no sockets, no sleeps.

The network is replaced at the transport; the database is SQLite in a temporary folder, run inline.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import looptime
import stripe

from counterfoil import settings as product_settings
from counterfoil.clerk.api import Answer
from counterfoil.core.link import Link
from counterfoil.sandbox.messages import Request
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.svix import Attempt
from counterfoil.store import figures, journal, links
from counterfoil.store.database import InlineDatabase
from counterfoil.store.upgrade import upgrade
from counterfoil.wiring import Node, Outside, assemble

START = 1_790_000_000.0
"""Virtual time begins here (Unix seconds)."""
HOUR = 3600.0


class VirtualClock:
    """The loop's own time, as wall clock and as elapsed time; ``skew`` shifts the wall clock (ms)."""

    def __init__(self, skew: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self.skew = skew

    def now(self) -> int:
        return int((START + self._loop.time()) * 1000) + self.skew

    def elapsed(self) -> float:
        return self._loop.time()


class StripeTransport(stripe.HTTPClient):
    """The official SDK's transport, answered by the sandbox."""

    name = "sandbox"

    def __init__(self, world: "World") -> None:
        super().__init__()
        self._world = world

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        body = post_data.encode() if isinstance(post_data, str) else (post_data or b"")
        answer = await self._world.send("stripe", method, url, headers, body)
        if answer is None:
            raise stripe.APIConnectionError("cut")
        return answer.body, answer.status, answer.headers

    async def close_async(self) -> None:
        return None


class World:
    """The sandbox, one database, and the nodes on it."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.loop = asyncio.get_running_loop()
        self.clock = VirtualClock()
        self.url = f"sqlite:///{folder / 'counterfoil.db'}"
        self.nodes: list[Node] = []
        self.environ = {
            "CLERK_SECRET_KEY": sandbox.settings.clerk.secret_key,
            "CLERK_WEBHOOK_SIGNING_SECRET": sandbox.settings.svix.secret,
            "STRIPE_SECRET_KEY": sandbox.settings.stripe.secret_key,
            "CLERK_API_URL": "http://clerk.test",
            "STRIPE_API_BASE": "http://stripe.test",
        }
        self.database = InlineDatabase(self.url)

    def time(self) -> float:
        """Unix seconds."""
        return START + self.loop.time()

    async def send(self, upstream: Any, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Any:
        """One request to the sandbox, in virtual time; ``None``: the connection was cut."""
        parts = urlsplit(url)
        lower = {name.lower(): value for name, value in headers.items()}
        request = Request(method.upper(), parts.path, parts.query, lower, body)
        reply = self.sandbox.begin(upstream, request, self.time())
        if reply.delay > 20.0:
            await asyncio.sleep(20.0)
            return None  # the client's own time-out
        await asyncio.sleep(reply.delay)
        return reply.answer

    async def clerk_transport(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        answer = await self.send("clerk", method, url, headers, body or b"")
        if answer is None:
            raise ConnectionResetError
        names = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, names, answer.body)

    async def assemble(self, *, observe: bool = False, **more: str) -> Node:
        """A node that does not run yet."""
        await self.database.write(upgrade)
        settings = product_settings.load({**self.environ, **more}, self.folder)
        outside = Outside(self.database, self.clock, self.clerk_transport, StripeTransport(self))
        return await assemble(settings, outside, observe=observe)

    async def start(self, *, observe: bool = False, **more: str) -> Node:
        """A running node, with the first scan behind it."""
        node = await self.assemble(observe=observe, **more)
        node.supervisor.start()
        self.nodes.append(node)
        async with asyncio.timeout(7200):
            while not node.context.catch_up.complete:
                await asyncio.sleep(0.5)
        return node

    async def crash(self, node: Node) -> None:
        """The process is gone: nothing of it runs on, nothing is tidied up."""
        self.nodes.remove(node)
        supervisor = node.supervisor
        tasks = [*supervisor._loops, *supervisor.worker._tasks]
        scan = node.context.catch_up._scan
        for task in [*tasks, *([scan] if scan is not None else [])]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def post(self, attempt: Attempt, node: Node) -> int:
        """Deliver one attempt to a node's application."""
        status = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": attempt.body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        headers = [(name.lower().encode(), value.encode()) for name, value in attempt.headers.items()]
        path = "/webhooks/clerk"
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        await node.application(scope, receive, send)  # type: ignore[arg-type]
        return status

    async def deliver(self) -> None:
        """Deliver all that is due, to the last node that runs, or to nobody."""
        for attempt in self.sandbox.svix.due(self.time(), 1000):
            status = await self.post(attempt, self.nodes[-1]) if self.nodes else None
            self.sandbox.svix.settle(attempt, status, self.time())

    async def run(self, seconds: float, *, every: float = 0.25) -> None:
        """Let time pass, deliveries going out as they fall due."""
        end = self.loop.time() + seconds
        while self.loop.time() < end:
            await self.deliver()
            due = self.sandbox.svix.next_due()
            wait = every if due is None else max(every, min(due - self.time(), end - self.loop.time()))
            quiet = every if due is not None and due <= self.time() else min(30.0, end - self.loop.time())
            await asyncio.sleep(min(max(wait, every), max(quiet, every)))

    async def settle(self, limit: float = 600.0) -> None:
        """Let time pass until nothing is unsettled and nothing waits to be delivered now."""
        end = self.loop.time() + limit
        while self.loop.time() < end:
            await self.deliver()
            await asyncio.sleep(0.25)
            due = self.sandbox.svix.next_due()
            left = await self.database.read(figures.backlog)
            if left.unsettled == 0 and (due is None or due > self.time() + 60):
                return
        raise AssertionError(
            f"not settled after {limit} virtual seconds: {await self.database.read(figures.backlog)}"
        )

    async def link(self, subject_id: str) -> Link | None:
        """A link, as it is in the database."""
        return await self.database.read(lambda connection: links.get(connection, subject_id))

    async def story(self, subject_id: str) -> list[str]:
        """What the journal says about a user."""
        entries = await self.database.read(lambda connection: journal.story(connection, subject_id))
        return [f"{entry.kind}: {entry.what} {entry.detail}" for entry in entries]

    def calls(self) -> int:
        """API calls so far, both sides."""
        return len(self.sandbox.calls("clerk")) + len(self.sandbox.calls("stripe"))


@asynccontextmanager
async def world(folder: Path, settings: SandboxSettings | None = None) -> AsyncIterator[World]:
    """A world that tidies up after itself."""
    made = World(folder, Sandbox(settings))
    try:
        yield made
    finally:
        for node in list(made.nodes):
            await made.crash(node)
        await made.database.close()


def scenario(
    test: Callable[[World], Awaitable[None]] | None = None, *, settings: SandboxSettings | None = None
) -> Any:
    """Make an ``async def test(world)`` a test that runs in a world of its own, on virtual time."""

    def decorate(test: Callable[[World], Awaitable[None]]) -> Callable[[Path], None]:
        async def play(folder: Path) -> None:
            async with world(folder, settings) as made:
                await test(made)

        def run(tmp_path: Path) -> None:
            with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
                runner.run(play(tmp_path))

        run.__name__ = getattr(test, "__name__", "scenario")
        run.__doc__ = test.__doc__
        return run

    return decorate if test is None else decorate(test)
