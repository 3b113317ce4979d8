"""The stage: one sandbox, one database, and several processes on it that can die or stand still anywhere."""

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog
from sqlalchemy import event

from counterfoil import settings as product_settings
from counterfoil.clerk.api import Answer
from counterfoil.engine import sweep, worker
from counterfoil.errors import DatabaseUnavailable, UpstreamError, WrongEnvironment
from counterfoil.sandbox.clerk_user import User, user_body
from counterfoil.sandbox.messages import Request, json_answer
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.svix import Attempt
from counterfoil.store import environment, figures
from counterfoil.store.database import InlineDatabase
from counterfoil.store.engine import Job, T
from counterfoil.wiring import Node, Outside, assemble
from tests.databases import Home
from tests.harness import CLIENT_TIMEOUT, START, StripeTransport, VirtualClock
from tests.simulation.watch import LINK_BACK, Watch, register

_SVIX_TIMEOUT = 15.0
_KEPT_LINES = 3_000
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Arm:
    """Something that befalls a process when it has passed so many points of a kind."""

    kind: str  # "crash", "stall", "unwritten", "unknown"
    where: str  # "write", "written", "send", "answered", or "" for any
    left: int
    seconds: float = 0.0
    """How long it stands still, or stays away."""


class Process:
    """One process of a node: all that it does to the world passes one of its points."""

    def __init__(self, stage: "Stage", number: int, skew: int, elsewhere: Sandbox | None) -> None:
        self.stage = stage
        self.number = number
        self.name = f"node {number}"
        self.clock = VirtualClock(skew)
        self.elsewhere = elsewhere
        """Its keys are of this other environment."""
        self.dead = False
        self.frozen_until = 0.0
        self.scanned = False
        """It has seen the last page of Stripe's customers."""
        self.arms: list[Arm] = []
        self.node: Node | None = None
        self.tasks: set[asyncio.Task[Any]] = set()

    async def point(self, where: str) -> None:
        """The process may die here, or stand still, or lose its turn to others."""
        stage = self.stage
        self._alive()
        stage.points += 1
        if stage.points == stage.crash_at:
            self._die(stage.back)
        for arm in [each for each in self.arms if each.where in {"", where}]:
            arm.left -= 1
            if arm.left <= 0:
                self.arms.remove(arm)
                self._suffer(arm, where)
        while self.frozen_until > stage.loop.time():
            # The loop counts in microseconds: a shorter sleep would not move it.
            await asyncio.sleep(max(self.frozen_until - stage.loop.time(), 0.001))
            self._alive()
        if stage.rough and stage.manners.interleave and stage.dice.random() < 0.3:
            await asyncio.sleep(stage.dice.uniform(0.0, 0.004))
            self._alive()

    def _alive(self) -> None:
        if self.dead:
            raise asyncio.CancelledError

    def _die(self, back: float) -> None:
        self.stage.kill(self, back)
        raise asyncio.CancelledError

    def _suffer(self, arm: Arm, where: str) -> None:
        stage = self.stage
        stage.watch.marks[f"{arm.kind} at {where}"] += 1
        stage.note(f"{self.name}: {arm.kind} at {where}")
        if arm.kind == "crash":
            self._die(arm.seconds)
        elif arm.kind == "stall":
            self.frozen_until = stage.loop.time() + arm.seconds
        else:
            raise DatabaseUnavailable("the database cannot be used, says the simulation")

    # The database, as this process has it.

    async def write(self, job: Job[T], *, urgent: bool = False) -> T:
        await self.point("write")
        result = self.stage.commit(self, job)
        await self.point("written")
        return result

    async def read(self, job: Job[T]) -> T:
        await self.point("read")
        return self.stage.look(job)

    async def tidy(self) -> None:
        return None

    async def close(self) -> None:
        return None

    # The network, as this process has it.

    async def send(self, upstream: Any, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Any:
        """One request; ``None``: the connection was cut, or nobody answered in time."""
        stage = self.stage
        await self.point("send")
        parts = urlsplit(url)
        lower = {name.lower(): value for name, value in headers.items()}
        request = Request(method.upper(), parts.path, parts.query, lower, body)
        stage.watch.request(self, upstream, request)
        reply = (self.elsewhere or stage.sandbox).begin(upstream, request, stage.time())
        answer = reply.answer
        if self.elsewhere is None:
            stage.watch.effect(self, upstream, request)
            answer = stage.heard(upstream, request, answer)
        status = answer.status if answer is not None else None
        stage.note(f"{self.name} {method} {parts.path} {status} {reply.delay:.2f}")
        stage.stirred.set()
        await asyncio.sleep(min(reply.delay, CLIENT_TIMEOUT))
        await self.point("answered")
        if reply.delay > CLIENT_TIMEOUT:
            stage.watch.marks["a call hung"] += 1
            return None
        if answer is not None and request.path == "/v1/customers" and method.upper() == "GET":
            self.scanned = self.scanned or (answer.status == 200 and not answer.json()["has_more"])
        return answer

    async def clerk_transport(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        answer = await self.send("clerk", method, url, headers, body or b"")
        if answer is None:
            raise ConnectionResetError
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.body)

    async def post(self, attempt: Attempt) -> int:
        """Deliver one attempt to this process; answers the status."""
        assert self.node is not None
        status = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": attempt.body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)

        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in attempt.headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/webhooks/clerk", "headers": headers}
        await self.node.application(scope, receive, send)
        return status


@dataclass(slots=True)
class Manners:
    """How the stage itself behaves."""

    nodes: int = 1
    interleave: bool = False
    lag: float = 0.0
    """Reads of a user are up to so many seconds old."""
    skews: tuple[int, ...] = (0,)
    """Milliseconds that each node's clock is off."""
    more: dict[str, str] = field(default_factory=dict)


class Stage:
    """Everything that a simulation stands on."""

    def __init__(self, home: Home, folder: Path, settings: SandboxSettings, manners: Manners) -> None:
        self.home, self.folder, self.manners = home, folder, manners
        self.loop = asyncio.get_running_loop()
        self.clock = VirtualClock()
        self.sandbox = Sandbox(settings)
        self.instance_id = settings.clerk.instance_id
        self.dice = random.Random(f"{settings.seed} stage")
        self.rough = False
        """Faults may happen."""
        self.watched = home.kind == "sqlite"
        self.watch = Watch(self)
        self.skews = 2 * max(map(abs, manners.skews))
        self.processes: list[Process] = []
        self.graves: list[asyncio.Task[Any]] = []
        self.chores: set[asyncio.Task[Any]] = set()
        self.coming: set[asyncio.Task[Any]] = set()
        """Processes that will come back."""
        self.points = 0
        self.crash_at = 0
        self.back = 1.0
        self.stirred = asyncio.Event()
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._digest = hashlib.blake2b(digest_size=16)
        self._memory: dict[object, Any] = {}
        self._driver: Any = None
        self._known_at = 0
        self.numbers: dict[str, int] = {}
        """Each user's number."""
        self.attached: dict[str, float] = {}
        """When something was attached to a customer."""
        self.moves: dict[str, set[str]] = {}
        """The customers that people moved, and all users concerned."""
        self.history: dict[str, list[tuple[float, Any]]] = {}
        self.names: dict[str, set[str]] = {}
        """The customer ids that each user's metadata ever named."""
        self.url = home.migrated()
        self._open()
        clerk = settings.clerk
        environ = {
            "CLERK_SECRET_KEY": clerk.secret_key,
            "CLERK_WEBHOOK_SIGNING_SECRET": settings.svix.secret,
            "STRIPE_SECRET_KEY": settings.stripe.secret_key,
            "CLERK_API_URL": "http://clerk.test",
            "STRIPE_API_BASE": "http://stripe.test",
            **manners.more,
        }
        self.settings = product_settings.load(environ, folder)

    def time(self) -> float:
        """Unix seconds."""
        return START + self.loop.time()

    def note(self, line: str) -> None:
        """A line of the trace."""
        line = f"{self.loop.time():.3f} {line}"
        self._digest.update(line.encode() + b"\n")
        self.lines.append(line)

    def digest(self) -> str:
        """Names the whole trace."""
        return self._digest.hexdigest()

    # The database.

    def _open(self) -> None:
        self.database = InlineDatabase(self.url)
        self._memory.clear()
        if self.watched:
            event.listen(self.database._engine, "connect", self._connected)

    def _connected(self, driver: Any, _record: object) -> None:
        self._driver = driver
        register(self.watch, driver)

    def commit(self, process: Process, job: Job[T]) -> T:
        """Run a job for a process, in a transaction of its own."""
        if self._finds_nothing(process, job):
            nothing: T = []  # type: ignore[assignment]
            return nothing
        self.watch.writer = process
        try:
            return _now(self.database.write(job))
        finally:
            self.watch.writer = None
            if not self.watched or self._changes() != self._known_at:
                self._memory.clear()

    def _finds_nothing(self, process: Process, job: Job[Any]) -> bool:
        """A claim where nothing is due: what idle nodes do most of the time."""
        if getattr(job, "__qualname__", "") != _CLAIM:
            return False
        due = self.look(figures.next_due)
        return due is None or due > process.clock.now()

    def _changes(self) -> int:
        """How many rows this connection has changed (SQLite)."""
        return self._driver.total_changes if self._driver is not None else -1

    def look(self, job: Job[T]) -> T:
        """Read; what the idle loops ask again and again is remembered until somebody writes."""
        if job not in _REMEMBERED:
            return _now(self.database.read(job))
        if job not in self._memory:
            self._memory[job] = _now(self.database.read(job))
            self._known_at = self._changes()
        known: T = self._memory[job]
        return known

    async def backup(self) -> str:
        """A copy of the database, while it is used: its URL."""
        await self.database.close()  # it opens again by itself
        return self.home.copy(self.url)

    async def restore(self, copy: str | None) -> None:
        """Put a backup back, or begin with an empty database; all processes die for it."""
        for process in list(self.processes):
            self.kill(process, None)
        for coming in list(self.coming):
            coming.cancel()
        await self.database.close()
        if copy is None:
            self.url = self.home.migrated()
        else:
            self.url = self.home.copy(copy)
        self.watch.holders.clear()
        self._open()

    # Processes.

    async def launch(self, number: int, elsewhere: Sandbox | None = None) -> None:
        """Start a process, unless it runs already, and return when it takes deliveries."""
        if any(each.number == number for each in self.processes):
            return
        skews = self.manners.skews
        process = Process(self, number, skews[number % len(skews)], elsewhere)
        self.processes.append(process)
        self.note(f"{process.name} starts")
        task = asyncio.current_task()
        assert task is not None
        process.tasks.add(task)
        while True:
            outside = Outside(process, process.clock, process.clerk_transport, StripeTransport(process))
            try:
                process.node = await assemble(self.settings, outside)
                break
            except (UpstreamError, DatabaseUnavailable):
                await asyncio.sleep(5.0)
        process.tasks.discard(task)
        supervisor = process.node.supervisor
        if self.manners.nodes > 1:
            # Several nodes share a database: as on PostgreSQL, nobody knows whose leases are dead ones.
            supervisor._reclaim = _nothing  # type: ignore[method-assign]
        supervisor.start()
        process.tasks.add(asyncio.create_task(self._mind(process), name=f"{process.name} minder"))

    async def _mind(self, process: Process) -> None:
        """What a service manager does: a process that ends is started again."""
        assert process.node is not None
        try:
            await process.node.supervisor.wait()
        except* WrongEnvironment:
            if process.elsewhere is None:
                self.watch.say(f"{process.name} was told that it is of another environment")
            self.watch.marks["the wrong environment was refused"] += 1
            self.kill(process, None)
        except* DatabaseUnavailable:
            self.watch.marks["a process ended for want of its database"] += 1
            self.kill(process, 2.0)
        except* Exception as error:
            self.watch.say(f"{process.name} ended: {error!r} {error.exceptions!r}")
            self.kill(process, 2.0)

    def kill(self, process: Process, back: float | None) -> None:
        """The process is gone: nothing of it runs on. ``back``: seconds until the next one starts."""
        if process.dead:
            return
        process.dead = True
        self.processes.remove(process)
        self.note(f"{process.name} dies")
        tasks = list(process.tasks)
        if process.node is not None:
            supervisor, scan = process.node.supervisor, process.node.context.catch_up._scan
            tasks += [*supervisor._loops, *sorted(supervisor.worker._tasks, key=_name)]
            tasks += [scan] if scan is not None else []
        for task in tasks:
            task.cancel()
        self.graves += tasks
        if back is not None:
            coming = self.chore(self._come_back(process.number, back))
            self.coming.add(coming)
            coming.add_done_callback(self.coming.discard)

    async def _come_back(self, number: int, after: float) -> None:
        await asyncio.sleep(after)
        await self.launch(number)

    async def stop(self, process: Process) -> None:
        """As at SIGTERM."""
        if process.node is None or process.dead:
            return self.kill(process, None)
        self.watch.marks["a graceful stop"] += 1
        stopping = asyncio.create_task(process.node.supervisor.stop())
        process.tasks.add(stopping)
        await asyncio.wait({stopping}, timeout=60.0)
        self.kill(process, None)
        return None

    def chore(self, work: Any) -> asyncio.Task[Any]:
        """Something that the stage does beside."""
        task = asyncio.create_task(work)
        self.chores.add(task)
        task.add_done_callback(self.chores.discard)
        return task

    # Deliveries.

    async def courier(self) -> None:
        """Deliver what is due, each to some process that takes it."""
        svix = self.sandbox.svix
        while True:
            self.stirred.clear()
            for attempt in svix.due(self.time(), 1000):
                self.chore(self._deliver(attempt))
            due = svix.next_due()
            try:
                async with asyncio.timeout(None if due is None else max(due - self.time(), 0.001)):
                    await self.stirred.wait()
            except TimeoutError:
                continue

    async def _deliver(self, attempt: Attempt) -> None:
        ready = [each for each in self.processes if each.node is not None and each.elsewhere is None]
        status: int | None = None
        if ready:
            process = ready[self.dice.randrange(len(ready))]
            post = asyncio.create_task(process.post(attempt))
            process.tasks.add(post)
            post.add_done_callback(process.tasks.discard)
            await asyncio.wait({post}, timeout=_SVIX_TIMEOUT)
            if post.done() and not post.cancelled():
                status = post.result()
        self.note(f"delivery {attempt.message_id} {attempt.event} {attempt.number} {status}")
        if status is not None and 200 <= status < 300:
            self.look(lambda connection: self.watch.accepted(connection, attempt.body))
        self.watch.marks[f"a delivery was answered {status}"] += 1
        self.sandbox.svix.settle(attempt, status, self.time())
        self.stirred.set()

    # What people know.

    def changed(self, user_id: str) -> None:
        """Somebody changed a user: remember it, for reads that lag, and send what there is to send."""
        user = self.sandbox.clerk.users.get(user_id)
        body = user_body(user) if user is not None else None
        self.history.setdefault(user_id, []).append((self.time(), msgspec.json.encode(body)))
        if user is not None:
            for values in (user.public_metadata, user.private_metadata):
                if isinstance(name := values.get(LINK_BACK), str):
                    self.names.setdefault(user_id, set()).add(name)
        self.stirred.set()

    def named(self, user: User, customer_id: str) -> bool:
        """Whether a user's metadata names this customer, or did."""
        return customer_id in self.names.get(user.id, set())

    def moved_away(self, customer_id: str, subject: str) -> bool:
        """Whether people have taken this customer from the user."""
        customer = self.sandbox.stripe.customers.get(customer_id)
        owner = customer.metadata.get("clerkUserId") if customer is not None and not customer.deleted else subject
        return customer_id in self.moves and owner != subject

    def heard(self, upstream: str, request: Request, answer: Any) -> Any:
        """The answer, or an older one where Clerk's reads lag."""
        if upstream != "clerk" or answer is None:
            return answer
        parts = request.segments()
        if request.method == "PATCH" and answer.status == 200:
            self.changed(parts[1])
        if not (self.manners.lag and self.rough and request.method == "GET" and parts[0] == "users"):
            return answer
        then = self.time() - self.dice.uniform(0.0, self.manners.lag)
        if len(parts) == 1 and answer.status == 200:
            users = [self._as_of(user["id"], then) for user in answer.json()]
            return self._late(answer, json_answer(200, [user for user in users if user is not None]))
        if len(parts) == 2 and parts[1] in self.history and answer.status in {200, 404}:
            user = self._as_of(parts[1], then)
            missing = {"errors": [{"message": "not found", "code": "resource_not_found"}]}
            return self._late(answer, json_answer(404, missing) if user is None else json_answer(200, user))
        return answer

    def _as_of(self, user_id: str, then: float) -> Any:
        """A user as it was; ``None``: it was not."""
        known = [body for at, body in self.history.get(user_id, []) if at <= then]
        return msgspec.json.decode(known[-1]) if known else None

    def _late(self, now: Any, old: Any) -> Any:
        if old.status != now.status or (old.status == 200 and old.body != now.body):
            self.watch.marks["a read lagged"] += 1
        return old

    async def close(self) -> None:
        """Everything ends."""
        for process in list(self.processes):
            self.kill(process, None)
        chores = list(self.chores)
        for task in chores:
            task.cancel()
        await asyncio.gather(*self.graves, *chores, return_exceptions=True)
        await self.database.close()


async def _nothing() -> None:
    return None


def _name(task: asyncio.Task[Any]) -> str:
    return task.get_name()


def _now(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("an inline database waits for nothing")


_CLAIM = f"{worker.Worker._claim.__qualname__}.<locals>.job"
_REMEMBERED: frozenset[Callable[..., Any]] = frozenset({figures.next_due, environment.load})


@contextmanager
def pace() -> Iterator[Callable[[bool], None]]:
    """Let quiet hours cost little: what polls, polls seldom. Nothing but the work of waiting depends on it."""
    usual = worker._POLL, sweep._TICK, sweep.SWEEP_EVERY

    def set_to(poll: float, tick: float, every: int) -> None:
        worker._POLL, sweep._TICK, sweep.SWEEP_EVERY = poll, tick, every

    try:
        yield lambda quiet: set_to(1800.0, 1800.0, 6 * 3_600_000) if quiet else set_to(*usual)
    finally:
        set_to(*usual)
