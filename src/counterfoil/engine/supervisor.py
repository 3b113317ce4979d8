"""All loops of one node: started in order, stopped in order."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from enum import StrEnum
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection

from counterfoil.clerk.webhook import Unreadable
from counterfoil.core.link import ParkReason, Ruling
from counterfoil.core.news import Asked, UserDeleted, UserEvent
from counterfoil.engine.alerts import Alerts
from counterfoil.engine.context import CALL_TIME, Context
from counterfoil.engine.deletions import are_held, release_deletions, rule
from counterfoil.engine.ensure import Ensurer
from counterfoil.engine.intake import Intake, Taken
from counterfoil.engine.patience import patiently
from counterfoil.engine.peers import Work
from counterfoil.engine.sweep import Sweeper
from counterfoil.engine.worker import Worker
from counterfoil.errors import DatabaseUnavailable
from counterfoil.store import environment, figures, journal, links
from counterfoil.store.database import Database
from counterfoil.store.deliveries import Deliveries
from counterfoil.store.engine import Job
from counterfoil.store.journal import Entry
from counterfoil.store.orders import Errand, place

GRACE = 20.0
"""Seconds that turns under way get at the end; with the intake's drain it stays within 25."""
_PRUNE_EVERY = 3600.0
_STAND_BY = 5.0
"""Seconds between looks at whether the node that does something for all does so still."""
_TIME_EVERY = 15.0
_PAGE = 500

_log = structlog.get_logger(__name__)


class Role(StrEnum):
    """What a node does."""

    ALL = "all"
    RECEIVER = "receiver"
    """Takes deliveries, and answers apps."""
    WORKER = "worker"
    """All but deliveries."""
    ERRANDS = "errands"
    """Works on what it is asked for, seeks no news, and takes none: for a command."""


class Supervisor:
    """Intake, catch-up, workers, sweep and walk, and the journal's pruning. Belongs to one event loop."""

    def __init__(
        self,
        context: Context,
        keep_journal: int,
        verify: Callable[[], Awaitable[None]],
        alerts: Alerts | None = None,
    ) -> None:
        """Args:
        context: what turns are carried out with.
        keep_journal: how long the journal is kept, in milliseconds.
        verify: returns when the keys are known to be of the pinned environment; raises `WrongEnvironment`.
        alerts: the loop that tells a person, where one is to be told.
        """
        self._context = context
        self._verify = verify
        self._alerts = alerts
        self._keep_journal = keep_journal
        self.worker = Worker(context)
        self.ensurer = Ensurer(context, self._wake)
        self.worker.moved = self.ensurer.moved
        self.intake = Intake(self._commit, wake=self._wake)
        self._sweeper = Sweeper(context, self._wake)
        self._back = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    def recovered(self) -> None:
        """An upstream answers again."""
        self._back.set()
        if self._alerts is not None:
            self._alerts.look()

    def start(self, role: Role = Role.ALL) -> None:
        """Take deliveries at once; work begins when the first scan has ended."""
        if role is not Role.WORKER:
            self._keep(self.intake.run(), "intake")
        if role is not Role.RECEIVER:
            self._keep(self._work(seeks=role is not Role.ERRANDS), "work")
            if self._alerts is not None and role is not Role.ERRANDS:
                self._keep(self._only("alerts", self._alerts.run), "alerts")
        if not self._context.peers.alone:
            self._keep(self._follow_the_time(), "time")

    async def stop(self) -> None:
        """Finish what is in flight: first what was taken, then the turns under way."""
        await self.intake.drain()
        await self.worker.stop(GRACE)
        await self.ensurer.close()
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._context.catch_up.close()

    async def wait(self) -> None:
        """Return when a loop has ended, which none does by itself: its error is raised."""
        done, _ = await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
        for loop in done:
            loop.result()

    async def retry(self, subject_ids: Sequence[str]) -> int:
        """Have links looked at now, parked or not; returns how many there were."""
        now, since = self._context.clock.now(), self._context.rules.policy.since
        count = await self._context.database.write(
            lambda connection: ask_again(connection, subject_ids, since, now)
        )
        self._wake()
        return count

    async def rule(self, subject_ids: Sequence[str], ruling: Ruling) -> int:
        """Tell deleted users' links what a person has ruled about their removal; returns how many there were."""
        now, since = self._context.clock.now(), self._context.rules.policy.since
        count = await self._context.database.write(
            lambda connection: rule(connection, subject_ids, ruling, since, now)
        )
        self._wake()
        return count

    async def run_errands(self, errands: Sequence[Errand]) -> list[str]:
        """Ask links for what a plan says; returns the subjects to ask again, which a worker holds just now."""
        now, since = self._context.clock.now(), self._context.rules.policy.since
        held = await self._context.database.write(lambda connection: place(connection, errands, since, now))
        self._wake()
        return held

    async def release_deletions(self) -> int:
        """Let held removals go on, each after its user was read; returns how many will be."""
        now = self._context.clock.now()
        count = await self._context.database.write(partial(release_deletions, now=now))
        _log.warning("deletions.released", links=count)
        self._wake()
        return count

    def _keep(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._loops.append(asyncio.create_task(work, name=name))

    async def _work(self, *, seeks: bool) -> None:
        await self._verify()
        await self._context.catch_up.first()
        await patiently(self._reclaim, "start.database")
        if seeks and not self._context.rules.observe:
            await patiently(self._unobserve, "start.database")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.worker.run())
            if not self._context.peers.alone:
                group.create_task(self._context.peers.listen(self.worker.wake))
            if seeks:
                group.create_task(self._only("chores", self._chores))
            group.create_task(self._hasten())

    async def _chores(self) -> None:
        """What one node does for all."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweeper.run())
            group.create_task(self._prune())

    async def _only(self, what: str, work: Work) -> None:
        """Do ``work`` whenever no other node does it; for ever."""
        while True:
            try:
                await self._context.peers.only(what, work)
            except DatabaseUnavailable as error:
                _log.warning("chores.database", what=what, error=str(error))
            await asyncio.sleep(_STAND_BY)

    async def _follow_the_time(self) -> None:
        while True:
            try:
                await self._context.clock.follow(self._context.peers.time)
            except DatabaseUnavailable as error:
                _log.warning("time.database", error=str(error))
            await asyncio.sleep(_TIME_EVERY)

    def _wake(self) -> None:
        """Something is due: whoever works may take it."""
        self.worker.wake()
        self._context.peers.tell()

    async def _hasten(self) -> None:
        """After an outage, links whose back-off has grown in it come at once; the quotas pace them."""
        while True:
            await self._back.wait()
            self._back.clear()
            now = self._context.clock.now()
            try:
                await self._context.database.write(partial(links.hasten, now=now))
            except DatabaseUnavailable as error:
                _log.warning("hasten.failed", error=str(error))
            self._wake()

    async def _reclaim(self) -> None:
        """On SQLite one process owns the database, so leases from before our start are dead ones."""
        at = self._context.clock.now() + int(CALL_TIME * 1_000)

        def job(connection: Connection) -> None:
            if connection.dialect.name == "sqlite":
                links.reclaim(connection, at)

        await self._context.database.write(job)

    async def _unobserve(self) -> None:
        """What was only observed until now is to be done."""
        await retry_all(self._context.database, ParkReason.OBSERVED, self.retry)

    async def _commit(self, batch: Sequence[Taken]) -> None:
        now, since = self._context.clock.now(), self._context.rules.policy.since
        then: Job[Any] | None = None
        if not batch:  # it is asked whether the database can be written again
            then = partial(environment.put, values={"written_at": str(now)})
        elif any(isinstance(item, UserDeleted) for item in batch):
            then = partial(are_held, limit=self._context.rules.policy.deletion_limit, now=now)
        items = [(None if isinstance(item, Unreadable) else item, _entry(item, now)) for item in batch]
        await self._context.database.take(Deliveries(items, since, now, then))

    async def _prune(self) -> None:
        while True:
            before = self._context.clock.now() - self._keep_journal
            pruned = 0
            try:
                pruned = await self._context.database.write(partial(journal.prune, before=before))
                if not pruned:
                    await self._context.database.tidy()
            except DatabaseUnavailable as error:
                _log.warning("journal.prune_failed", error=str(error))
            await asyncio.sleep(0.1 if pruned else _PRUNE_EVERY)


def ask_again(connection: Connection, subject_ids: Sequence[str], since: int, now: int) -> int:
    """Make links due, whatever they wait for; only those that exist, whose number is returned."""
    known = [each for each in subject_ids if links.get(connection, each) is not None]
    links.fold_batch(connection, [Asked(subject_id=each) for each in known], since, now)
    entries = [Entry(at=now, kind="news", what="asked to look again", subject_id=each) for each in known]
    journal.append(connection, entries)
    return len(known)


async def retry_all(database: Database, reason: str, retry: Callable[[Sequence[str]], Awaitable[int]]) -> int:
    """Have all links parked for ``reason`` ("" for any) looked at again; returns how many."""
    after, count = "", 0
    while True:
        page = await database.read(
            lambda connection, after=after: figures.parked_ids(connection, reason, after, _PAGE)  # type: ignore[misc]
        )
        if not page:
            return count
        await retry(page)
        after, count = page[-1], count + len(page)


def _entry(item: Taken, now: int) -> Entry:
    match item:
        case UserEvent():
            detail = {"delivery": item.delivery, "version": item.body.version, "trusted": item.trusted}
            what = "user.created" if item.created else "user.updated"
            return Entry(at=now, kind="news", what=what, subject_id=item.subject_id, detail=detail)
        case UserDeleted():
            detail = {"delivery": item.delivery, "trusted": item.trusted}
            return Entry(at=now, kind="news", what="user.deleted", subject_id=item.subject_id, detail=detail)
        case _:
            return Entry(
                at=now,
                kind="unreadable",
                what="a signed body that could not be read",
                detail={"delivery": item.delivery},
                body=item.body,
            )
