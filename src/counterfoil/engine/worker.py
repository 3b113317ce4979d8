"""The workers: claim due links, bring both sides in step, one step at a time.

Each step's outcome is committed before the next call is made. What only changes the row (an intent, an
adoption, the end of a turn) runs inside that same transaction, so a sign-up costs three commits.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from counterfoil.core.link import Link
from counterfoil.core.step import Turn, World
from counterfoil.engine.carry_out import Effect, carry_out
from counterfoil.engine.context import Context, Rules, Task
from counterfoil.engine.turn import Next, advance, conclude
from counterfoil.errors import DatabaseUnavailable
from counterfoil.store import figures, links, sightings

LEASE = 120_000
"""Milliseconds: far longer than any one call, and renewed by nothing: a turn that lasts longer is cut."""
_STEPS = 40
"""Calls in one turn at most; a link that needs more has something wrong with it, and waits."""
_POLL, _POLL_SHARED = 30.0, 1.0
"""Seconds between looks at the database when nothing wakes us; and where others may write to it unheard."""

_log = structlog.get_logger(__name__)


def _begin(connection: Connection, rules: Rules, turn: Turn, world: World, now: int) -> Next | Exception:
    """`advance`; a fault that one link has does not keep the others from being worked on."""
    try:
        return advance(connection, rules, turn, world, now)
    except (DBAPIError, sqlite3.Error):
        raise  # the transaction has failed, and all that was claimed in it
    except Exception as error:
        return error


def _failed(error: BaseException) -> None:
    # The lease runs out and the link is claimed again; nothing is lost, but it should not happen.
    _log.error("worker.turn_failed", exc_info=error)


def _nobody(_: str) -> None:
    """Nobody waits for a link."""


class Worker:
    """Claims links and reconciles them, so many at a time. Belongs to one event loop."""

    def __init__(self, context: Context, concurrency: int = 64) -> None:
        self.moved: Callable[[str], None] = _nobody
        """Told the subject of each link that was claimed or written to. It must not raise."""
        self._context = context
        self._concurrency = concurrency
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._stopping = False
        self._running: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There may be something due."""
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`."""
        self._running = asyncio.current_task()
        while not self._stopping:
            free = self._concurrency - len(self._tasks)
            if free <= 0:
                # News cannot be worked on before a turn ends, so it need not wake us either.
                self._room.clear()
                await self._room.wait()
                continue
            self._wake.clear()
            try:
                claimed = await self._claim(free)
                if claimed < free:
                    await self._rest()
            except DatabaseUnavailable as error:
                _log.warning("worker.database", error=str(error))
                await asyncio.sleep(1.0)

    async def stop(self, patience: float) -> None:
        """Claim nothing more, and give what is under way ``patience`` seconds; the rest is picked up later."""
        self._stopping = True
        self._wake.set()
        self._room.set()
        end = asyncio.get_running_loop().time() + patience
        if self._running is not None:
            # A claim that is on its way brings turns, which nobody would wait for otherwise.
            await asyncio.wait({self._running}, timeout=patience)
        if self._tasks:
            left = max(0.0, end - asyncio.get_running_loop().time())
            _, late = await asyncio.wait(self._tasks, timeout=left)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _rest(self) -> None:
        """Sleep until something is due, or until we are woken."""
        now = self._context.clock.now()
        due = await self._context.database.read(figures.next_due)
        # What is due already and was not claimed is held by nobody we could wait for: a short pause.
        longest = _POLL if self._context.peers.alone else _POLL_SHARED
        pause = longest if due is None else min(max((due - now) / 1000, 0.02), longest)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()

    async def _claim(self, free: int) -> int:
        context = self._context
        # The lease's end by our own clock is taken before the claim: it can only be too early.
        deadline = context.clock.elapsed() + LEASE / 1000
        now, world = context.clock.now(), context.catch_up.world()
        shared = not context.peers.alone

        def job(connection: Connection) -> list[tuple[Link, Next | Exception]]:
            claimed = links.claim(connection, now, now + LEASE, free, by_database=shared)
            found = sightings.of_subjects(connection, [link.subject_id for link in claimed]) if claimed else {}
            turns = [Turn(link=link, sightings=found.get(link.subject_id, ())) for link in claimed]
            return [(turn.link, _begin(connection, context.rules, turn, world, now)) for turn in turns]

        begun = await context.database.write(job)
        for link, following in begun:
            self.moved(link.subject_id)
            if isinstance(following, Exception):
                _failed(following)
            elif following is not None:
                task = asyncio.create_task(self._reconcile(following, Task(link.lane, deadline, context.clock)))
                self._tasks.add(task)
                task.add_done_callback(self._ended)
        return len(begun)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # There is room for another, and this one may be due again soon.
        self._room.set()
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _failed(error)

    async def _reconcile(self, following: Next, task: Task) -> None:
        """One turn: call, commit, call, commit, until the link has ended or waits."""
        for _ in range(_STEPS):
            if following is None:
                return
            turn, step = following
            began = time.perf_counter()
            effect = await carry_out(self._context, turn, step, task)
            took = round((time.perf_counter() - began) * 1000)
            try:
                following = await self._commit(turn, effect, took)
            except DatabaseUnavailable as error:
                # What was done is not written down: the lease runs out, and the same key tells what came of it.
                _log.warning("worker.effect_not_kept", error=str(error))
                return
        if following is not None:
            _log.error("worker.too_many_steps", subject=following[0].link.subject_id)

    async def _commit(self, turn: Turn, effect: Effect, took: int) -> Next:
        context = self._context
        now, world = context.clock.now(), context.catch_up.world()

        def job(connection: Connection) -> Next:
            return conclude(connection, context.rules, turn, effect, world, now, took)

        following = await context.database.write(job)
        self.moved(turn.link.subject_id)
        return following
