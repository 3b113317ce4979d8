"""A whole world in one process on virtual time: the sandbox's state, the real node, no sockets, no sleeps.

The network is replaced at the transport; the database is a real one of either kind, run inline.
"""

import asyncio
import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import looptime
import stripe

from counterfoil import settings as product_settings
from counterfoil.clerk.api import Answer
from counterfoil.core.link import Link
from counterfoil.sandbox.calls import Call
from counterfoil.sandbox.clerk_user import User
from counterfoil.sandbox.messages import Request
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.stripe_objects import Customer
from counterfoil.sandbox.svix import Attempt
from counterfoil.sandbox.verdict import Rules
from counterfoil.store import figures, journal, links
from counterfoil.store.database import InlineDatabase
from counterfoil.store.upgrade import upgrade
from counterfoil.web.receiver import Reply
from counterfoil.wiring import Node, Outside, assemble
from tests.asking import deliver
from tests.databases import Home

START = 1_790_000_000.0
"""Virtual time begins here (Unix seconds)."""
MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR
CLIENT_TIMEOUT = 20.0


class VirtualClock:
    """The loop's own time, as wall clock and as elapsed time; ``skew`` shifts the wall clock (ms)."""

    def __init__(self, skew: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self.skew = skew

    def now(self) -> int:
        return int((START + self._loop.time()) * 1000) + self.skew

    def elapsed(self) -> float:
        return self._loop.time()


class Sender(Protocol):
    """Sends one request to the sandbox; ``None``: the connection was cut."""

    async def send(self, upstream: Any, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Any: ...


class StripeTransport(stripe.HTTPClient):
    """The official SDK's transport, answered by the sandbox."""

    name = "sandbox"

    def __init__(self, world: Sender) -> None:
        super().__init__()
        self._world = world

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        body = post_data.encode() if isinstance(post_data, str) else (post_data or b"")
        answer = await self._world.send("stripe", method, url, headers, body)
        if answer is None:
            raise stripe.APIConnectionError("cut")  # type: ignore[no-untyped-call]
        return answer.body, answer.status, answer.headers

    async def close_async(self) -> None:
        return None


@dataclass(slots=True)
class Freeze:
    """A process that stands still in the middle of one call, before it is sent or after it was answered."""

    when: Callable[[Request], bool]
    before: bool
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    thaw: asyncio.Event = field(default_factory=asyncio.Event)


class World:
    """The sandbox, one database, and the nodes on it."""

    def __init__(self, folder: Path, home: Home, sandbox: Sandbox) -> None:
        self.folder = folder
        self.home = home
        self.sandbox = sandbox
        self.loop = asyncio.get_running_loop()
        self.clock = VirtualClock()
        self.url = home.migrated()
        self.nodes: list[Node] = []
        self.receivers: dict[str, Callable[[bytes], Awaitable[int]]] = {}
        """Hosts besides Clerk's and Stripe's: each takes a body and answers a status."""
        self._freezes: list[Freeze] = []
        self._called = asyncio.Event()
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
        freeze = next((each for each in self._freezes if each.when(request)), None)
        if freeze is not None:
            self._freezes.remove(freeze)
            if freeze.before:
                freeze.reached.set()
                await freeze.thaw.wait()
        reply = self.sandbox.begin(upstream, request, self.time())
        self._called.set()
        await asyncio.sleep(min(reply.delay, CLIENT_TIMEOUT))
        if freeze is not None and not freeze.before:
            freeze.reached.set()
            await freeze.thaw.wait()
        return reply.answer if reply.delay <= CLIENT_TIMEOUT else None

    def freeze(self, method: str, path: str, *, before: bool = False) -> Freeze:
        """Let the process stand still at its next call of ``method`` to a path that begins with ``path``."""
        made = Freeze(lambda request: request.method == method and request.path.startswith(path), before)
        self._freezes.append(made)
        return made

    async def clerk_transport(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        receiver = self.receivers.get(urlsplit(url).hostname or "")
        if receiver is not None:
            return Answer(await receiver(body or b""), {}, b"")
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

    async def start(self, *, observe: bool = False, ready: bool = True, **more: str) -> Node:
        """A running node; ``ready``: with the first scan behind it. What ends the node is raised."""
        node = await self.assemble(observe=observe, **more)
        node.supervisor.start()
        self.nodes.append(node)
        if not ready:
            return node
        ended = asyncio.create_task(node.supervisor.wait())
        try:
            async with asyncio.timeout(2 * HOUR):
                while not node.context.catch_up.complete and not ended.done():
                    await asyncio.wait({ended}, timeout=0.5)
            if ended.done():
                await self.crash(node)
                await ended
        finally:
            ended.cancel()
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

    async def request(self, attempt: Attempt, node: Node) -> Reply:
        """Deliver one attempt to a node."""
        return await deliver(node.receiver, attempt.headers, attempt.body)

    async def post(self, attempt: Attempt, node: Node) -> int:
        """Deliver one attempt to a node; answers the status."""
        return (await self.request(attempt, node)).status

    async def deliver(self) -> None:
        """Deliver all that is due, to the last node that runs, or to nobody."""
        for attempt in self.sandbox.svix.due(self.time(), 1000):
            status = await self.post(attempt, self.nodes[-1]) if self.nodes else None
            self.sandbox.svix.settle(attempt, status, self.time())

    async def run(self, seconds: float) -> None:
        """Let time pass, deliveries going out as they fall due."""
        end = self.loop.time() + seconds
        while True:
            self._called.clear()
            await self.deliver()
            due = self.sandbox.svix.next_due()
            left = end - self.loop.time()
            if left < 0.001:  # the loop's time has whole microseconds
                return
            # Only our own calls make events that a test does not know of.
            wait = left if due is None else min(left, max(due - self.time(), 0.001))
            try:
                async with asyncio.timeout(wait):
                    await self._called.wait()
            except TimeoutError:
                continue

    async def settle(self, limit: float = 10 * MINUTE) -> None:
        """Let time pass until nothing is unsettled and nothing waits to be delivered now."""
        end = self.loop.time() + limit
        pause = 0.25
        while True:
            await self.run(pause)
            pause = min(pause * 1.1, 5.0)
            due = self.sandbox.svix.next_due()
            left = await self.database.read(figures.backlog)
            if left.unsettled == 0 and (due is None or due > self.time() + MINUTE):
                return
            if self.loop.time() >= end:
                raise AssertionError(f"not settled after {limit} virtual seconds: {left}")

    async def link(self, subject_id: str) -> Link | None:
        """A link, as it is in the database."""
        return await self.database.read(lambda connection: links.get(connection, subject_id))

    async def story(self, subject_id: str) -> list[str]:
        """What the journal says about a user."""
        entries = await self.database.read(lambda connection: journal.story(connection, subject_id))
        return [f"{entry.kind}: {entry.what} {entry.detail}" for entry in entries]

    async def figures(self) -> figures.Figures:
        """How all links stand."""
        return await self.database.read(figures.figures)

    def calls(self) -> int:
        """API calls so far, both sides."""
        return len(self.sandbox.calls("clerk")) + len(self.sandbox.calls("stripe"))

    def writes(self, since: float = 0.0) -> list[Call]:
        """The calls that change something, on both sides."""
        made = [*self.sandbox.calls("clerk", since=since), *self.sandbox.calls("stripe", since=since)]
        return [call for call in made if call.method != "GET"]

    def sign_up(self, email: str | None = "ada@example.com", first_name: str = "Ada", **metadata: Any) -> str:
        """Somebody signs up now, with this public metadata; answers the user's id."""
        clerk = self.sandbox.clerk
        return clerk.create_user(self.time(), email=email, first_name=first_name, public_metadata=metadata)

    def user(self, user_id: str) -> User:
        """The user, as it truly is."""
        return self.sandbox.clerk.users[user_id]

    def customers_of(self, user_id: str) -> list[Customer]:
        """The live customers that name a user, as they truly are."""
        self.sandbox.advance(self.time())
        live = self.sandbox.stripe.live_customers()
        return [customer for customer in live if customer.metadata.get("clerkUserId") == user_id]

    def customer_of(self, user_id: str) -> Customer:
        """A user's one live customer."""
        (customer,) = self.customers_of(user_id)
        return customer

    def assert_in_step(self, rules: Rules | None = None) -> None:
        """Nothing missing, doubled, orphaned, wrongly linked or out of date, and nothing still to come."""
        verdict = self.sandbox.verdict(self.time(), rules)
        assert verdict.clean, verdict.as_json(5)

    async def restart(self, **more: Any) -> Node:
        """The last node's process is killed and started again."""
        await self.crash(self.nodes[-1])
        return await self.start(**more)

    async def copy_database(self) -> str:
        """A backup, taken while nodes use it: its URL."""
        await self.database.close()  # it opens again by itself
        return self.home.copy(self.url)

    async def put_back(self, copy: str | None) -> None:
        """Restore a backup; ``None``: begin with an empty database. No node may run."""
        assert not self.nodes
        await self.database.close()
        self.url = self.home.empty() if copy is None else self.home.copy(copy)
        self.database = InlineDatabase(self.url)


@asynccontextmanager
async def world(folder: Path, home: Home, settings: SandboxSettings | None = None) -> AsyncIterator[World]:
    """A world that tidies up after itself."""
    made = World(folder, home, Sandbox(settings))
    try:
        yield made
    finally:
        for node in list(made.nodes):
            await made.crash(node)
        await made.database.close()


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop on virtual time."""
    # Nothing here waits for threads or sockets, so time may move on as soon as nothing is ready.
    return looptime.new_event_loop(noop_cycles=1)


Test = Callable[..., Awaitable[None]]


def scenario(test: Test) -> Callable[..., None]:
    """Make an ``async def test(world, ...)`` a test that runs in a world of its own, on virtual time."""
    return scenario_in(None)(test)


def scenario_in(settings: SandboxSettings | None) -> Callable[[Test], Callable[..., None]]:
    """As `scenario`, in a world of these settings."""

    def decorate(test: Test) -> Callable[..., None]:
        async def play(folder: Path, home: Home, given: dict[str, Any]) -> None:
            async with world(folder, home, settings) as made:
                await test(made, **given)

        def run(tmp_path: Path, home: Home, **given: Any) -> None:
            random.seed(0)  # jitter: the same play each time
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(play(tmp_path, home, given))

        # pytest reads the parameters from the signature.
        fixtures = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("tmp_path", "home")
        ]
        _, *others = inspect.signature(test).parameters.values()
        run.__signature__ = inspect.Signature([*fixtures, *others])  # type: ignore[attr-defined]
        run.__name__ = getattr(test, "__name__", "scenario")
        run.__doc__ = test.__doc__
        return run

    return decorate
