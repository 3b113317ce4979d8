"""One process of a node: all that it does to the world passes a point, where it may die or stand still."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from counterfoil.clerk.api import Answer
from counterfoil.engine.worker import LEASE
from counterfoil.errors import DatabaseUnavailable
from counterfoil.sandbox.messages import Request
from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.sandbox.svix import Attempt
from counterfoil.store.database import Database
from counterfoil.store.engine import Job, T
from counterfoil.wiring import Node, Outside
from tests.asking import deliver
from tests.harness import CLIENT_TIMEOUT, StripeTransport, VirtualClock

if TYPE_CHECKING:
    from tests.simulation.stage import Stage


@dataclass(slots=True)
class Arm:
    """Something that befalls a process when it has passed so many points of a kind."""

    kind: str  # "crash", "stall", "unwritten", "unknown"
    where: str  # "write", "written", "send", "answered", or "" for any
    left: int
    seconds: float = 0.0
    """How long it stands still, or stays away."""


class Process(Database):
    """One process of a node: all that it does to the world passes one of its points."""

    def __init__(
        self, stage: "Stage", number: int, elsewhere: Sandbox | None = None, *, serves: bool = True
    ) -> None:
        self.stage = stage
        self.number = number
        self.name = f"node {number}" if serves else f"command {number}"
        skews = stage.manners.skews
        self.clock = VirtualClock(skews[number % len(skews)])
        self.serves = serves
        """It takes deliveries; otherwise it is a command that somebody runs."""
        self.elsewhere = elsewhere
        """Its keys are of this other environment."""
        self.dead = False
        self.frozen_until = 0.0
        self._stood = 0.0
        self.looks: dict[str, tuple[float, str | None]] = {}
        """When it last looked at each customer, in its own time (`lived`), and whose that was."""
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
        begun = stage.loop.time()
        while self.frozen_until > stage.loop.time():
            # The loop counts in microseconds: a shorter sleep would not move it.
            await asyncio.sleep(max(self.frozen_until - stage.loop.time(), 0.001))
            self._alive()
        if stage.loop.time() - begun > LEASE / 1000:
            stage.watch.marks["a process went on after a stall of more than its lease"] += 1
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
            self._stood += arm.seconds
        else:
            raise DatabaseUnavailable("the database cannot be used, says the simulation")

    def lived(self) -> float:
        """The time without that in which it stood still."""
        return self.stage.loop.time() - self._stood

    def looked(self, customers: Collection[str]) -> set[str | None]:
        """Whose these customers were when it looked at them, as far as that is no older than a turn may be."""
        since = self.lived() - LEASE / 1000
        return {owner for each, (at, owner) in self.looks.items() if each in customers and at >= since}

    @property
    def outside(self) -> Outside:
        """The world, as this process has it."""
        return Outside(self, self.clock, self.clerk_transport, StripeTransport(self))

    # The database, as this process has it.

    async def write(self, job: Job[T], *, urgent: bool = False) -> T:
        await self.point("write")
        result = self.stage.database.commit(self, job)
        await self.point("written")
        return result

    async def tidy(self) -> None:
        await self.point("tidy")

    async def read(self, job: Job[T]) -> T:
        await self.point("read")
        return self.stage.look(job)

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
        return (await deliver(self.node.receiver, attempt.headers, attempt.body)).status
