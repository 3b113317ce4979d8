"""The stage: one sandbox, one database, and several processes on it that can die or stand still anywhere."""

import asyncio
import hashlib
import random
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from counterfoil import settings as product_settings
from counterfoil.errors import DatabaseUnavailable, UpstreamError, WrongEnvironment
from counterfoil.sandbox.messages import Answer, Request
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.svix import Attempt
from counterfoil.store.engine import Job, T
from counterfoil.wiring import assemble
from tests.asking import TOKEN
from tests.databases import Home
from tests.harness import START, VirtualClock
from tests.simulation.ground import Ground
from tests.simulation.hearsay import Hearsay
from tests.simulation.process import Process
from tests.simulation.watch import Watch

_SVIX_TIMEOUT = 15.0
_KEPT_LINES = 3_000
_BACK_OFF = 5.0, 300.0
"""Seconds until a service manager starts a process again that does not come up: at first, and in the end."""


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
        self.folder, self.manners = folder, manners
        self.loop = asyncio.get_running_loop()
        self.clock = VirtualClock()
        self.sandbox = Sandbox(settings)
        self.instance_id = settings.clerk.instance_id
        self.dice = random.Random(f"{settings.seed} stage")
        self.rough = False
        """Faults may happen."""
        self.watch = Watch(self)
        self.database = Ground(home, self.watch)
        self.users = Hearsay(manners.lag, self.dice, self.watch.marks)
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
        self._arrived: dict[str, float] = {}
        """When the newest message that was taken about each user was published."""
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._digest = hashlib.blake2b(digest_size=16)
        self.numbers: dict[str, int] = {}
        """Each user's number."""
        self.attached: dict[str, float] = {}
        """When something was attached to a customer."""
        self.moves: dict[str, set[str]] = {}
        """The customers that people moved, and all users concerned."""
        self.taken: set[str] = set()
        """The customers that people took from a user: moved, or deleted."""
        clerk = settings.clerk
        environ = {
            "CLERK_SECRET_KEY": clerk.secret_key,
            "CLERK_WEBHOOK_SIGNING_SECRET": settings.svix.secret,
            "STRIPE_SECRET_KEY": settings.stripe.secret_key,
            "CLERK_API_URL": "http://clerk.test",
            "STRIPE_API_BASE": "http://stripe.test",
            "COUNTERFOIL_API_TOKEN": TOKEN,
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

    def look(self, job: Job[T]) -> T:
        """Read the database, as somebody who is not there."""
        return self.database.look(job)

    async def restore(self, copy: str | None) -> None:
        """Put a backup back, or begin with an empty database; all processes die for it."""
        for process in list(self.processes):
            self.kill(process, None)
        for coming in list(self.coming):
            coming.cancel()
        await self.database.put_back(copy)

    # Processes.

    async def launch(self, number: int, elsewhere: Sandbox | None = None) -> None:
        """Start a process, unless it runs already, and return when it takes deliveries."""
        if any(each.number == number for each in self.processes):
            return
        process = self.begin(Process(self, number, elsewhere))
        task = asyncio.current_task()
        assert task is not None
        process.tasks.add(task)
        pause, longest = _BACK_OFF
        while True:
            try:
                process.node = await assemble(self.settings, process.outside)
                break
            except (UpstreamError, DatabaseUnavailable):
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
        process.tasks.discard(task)
        process.node.supervisor.start()
        process.tasks.add(asyncio.create_task(self._mind(process), name=f"{process.name} minder"))

    def begin(self, process: Process) -> Process:
        """A process is there from now on."""
        self.processes.append(process)
        self.note(f"{process.name} starts")
        return process

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
        if back is not None and process.serves:
            coming = self.chore(self._come_back(process.number, back))
            self.coming.add(coming)
            coming.add_done_callback(self.coming.discard)

    async def _come_back(self, number: int, after: float) -> None:
        await asyncio.sleep(after)
        await self.launch(number)
        self.watch.marks["a process came back"] += 1

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
        task.add_done_callback(self._done)
        return task

    def _done(self, chore: asyncio.Task[Any]) -> None:
        self.chores.discard(chore)
        if not chore.cancelled() and (error := chore.exception()) is not None:
            self.watch.say(f"a chore failed: {error!r}")

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
            self._mark_arrival(attempt)
            self.look(lambda connection: self.watch.accepted(connection, attempt.body))
        self.watch.marks[f"a delivery was answered {status}"] += 1
        self.sandbox.svix.settle(attempt, status, self.time())
        self.stirred.set()

    def _mark_arrival(self, attempt: Attempt) -> None:
        message = self.sandbox.svix.message(attempt.message_id)
        if message.delivered_at is not None:
            self.watch.marks["a delivery came twice"] += 1
        user = str(msgspec.json.decode(message.body)["data"].get("id"))
        if message.published_at < self._arrived.get(user, 0.0):
            self.watch.marks["deliveries came in another order"] += 1
        else:
            self._arrived[user] = message.published_at

    # What people know.

    def changed(self, user_id: str) -> None:
        """Somebody changed a user: remember it, for reads that lag, and send what there is to send."""
        self.users.changed(user_id, self.sandbox.clerk.users.get(user_id), self.time())
        self.stirred.set()

    def moved_away(self, customer_id: str, subject: str) -> bool:
        """Whether people have taken this customer from the user."""
        customer = self.sandbox.stripe.customers.get(customer_id)
        owner = customer.metadata.get("clerkUserId") if customer is not None and not customer.deleted else subject
        return customer_id in self.moves and owner != subject

    def heard(self, upstream: str, request: Request, answer: Answer | None) -> Answer | None:
        """The answer, or an older one where Clerk's reads lag."""
        if upstream != "clerk" or answer is None:
            return answer
        if request.method == "PATCH" and answer.status == 200:
            self.changed(request.segments()[1])
        return self.users.heard(request, answer, self.time()) if self.rough else answer

    async def close(self) -> None:
        """Everything ends."""
        for process in list(self.processes):
            self.kill(process, None)
        chores = list(self.chores)
        for task in chores:
            task.cancel()
        ended = [each for each in (*self.graves, *chores) if each is not asyncio.current_task()]
        await asyncio.gather(*ended, return_exceptions=True)
        await self.database.close()


def _name(task: asyncio.Task[Any]) -> str:
    return task.get_name()
