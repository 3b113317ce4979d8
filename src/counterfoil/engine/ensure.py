"""Ensure: an app wants a user's customer now, and waits for it.

What exists is answered from one read. All else goes the way of every other news: it is folded into the link,
a worker takes the link under its lease, and whoever asked waits for what comes of it. So an ensure and a
delivery about the same new user share one intent, and make one customer.
"""

import asyncio
import contextlib
from collections.abc import Callable

from sqlalchemy import Connection

from counterfoil.core.link import Lane, Link, ParkReason
from counterfoil.core.news import Asked, News, Unconfirmed
from counterfoil.core.standing import PENDING, Standing, State, standing
from counterfoil.engine.context import Context
from counterfoil.errors import Crowded
from counterfoil.store import journal, links
from counterfoil.store.journal import Entry

WAITERS = 5_000
"""Requests that may wait at once."""
_FIRST_LOOK, _LONGEST_LOOK = 0.25, 4.0
"""Seconds between looks at the database while this node's workers say nothing: another node may do the work."""
_KNOWN_FOR = 10.0
"""Seconds for which "settled without a customer" is not asked anew: an app in a loop must not eat the quota."""
_KNOWN_LIMIT = 10_000


class _Ask:
    """One user whose customer is waited for, by however many."""

    __slots__ = ("moved", "task", "waiters", "written")

    def __init__(self) -> None:
        self.moved = asyncio.Event()
        self.written = asyncio.Event()
        self.waiters = 0
        self.task: asyncio.Task[Standing] | None = None


class Ensurer:
    """Asks for customers and waits for them. Belongs to one event loop."""

    def __init__(self, context: Context, wake: Callable[[], None]) -> None:
        """``wake`` tells the worker that there is something due."""
        self._context = context
        self._wake = wake
        self._asks: dict[str, _Ask] = {}
        self._without: dict[str, float] = {}
        self._waiting = 0
        self._closed = False

    async def stands(self, subject_id: str) -> Standing:
        """How the link stands now: one read."""
        return self._standing(await self._link(subject_id))

    async def at_once(self, subject_id: str) -> Standing | None:
        """What can be answered without asking anybody; ``None``: `wait` for it.

        A link that is parked stays so until a person, or news about the user, has it looked at again: an app
        that asks over and over must not have it tried over and over.
        """
        link = await self._link(subject_id)
        found = self._standing(link)
        if found.state in {State.LINKED, State.DELETED}:
            return found
        if self._context.rules.observe:
            return Standing(State.PARKED, None, ParkReason.OBSERVED)
        wanted = link is not None and link.wanted
        if found.state is State.PARKED and wanted and found.reason is not ParkReason.OBSERVED:
            return found
        if found.state is State.NONE and self._asked_lately(subject_id):
            return found
        return None

    async def wait(self, subject_id: str, patience: float) -> Standing:
        """Ask for the customer, and wait for what comes of it.

        Args:
            subject_id: the user.
            patience: seconds; the asking itself, which is one commit, is always waited for.

        Returns:
            How the link stands; `State.PENDING` where that takes longer.

        Raises:
            Crowded: too many wait already.
            DatabaseUnavailable: it could not be written.
        """
        if self._waiting >= WAITERS or self._closed:
            raise Crowded("too many requests wait already")
        ask = self._asks.get(subject_id) or self._begin(subject_id)
        assert ask.task is not None
        self._waiting += 1
        ask.waiters += 1
        written = asyncio.create_task(ask.written.wait())
        try:
            await asyncio.wait({written, ask.task}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({ask.task}, timeout=patience)
            return ask.task.result() if ask.task.done() and not ask.task.cancelled() else PENDING
        finally:
            written.cancel()
            self._waiting -= 1
            ask.waiters -= 1
            if ask.waiters == 0 and ask.written.is_set():
                ask.task.cancel()  # nobody waits; what was written is done all the same
                self._forget(subject_id, ask)

    def moved(self, subject_id: str) -> None:
        """A worker has committed something about this link."""
        ask = self._asks.get(subject_id)
        if ask is not None:
            ask.moved.set()

    async def close(self) -> None:
        """Let all who wait go: what they asked for is on disk, and the next start goes on with it."""
        self._closed = True
        tasks = [ask.task for ask in self._asks.values() if ask.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, subject_id: str) -> _Ask:
        ask = self._asks[subject_id] = _Ask()
        ask.task = asyncio.create_task(self._follow(subject_id, ask))
        ask.task.add_done_callback(lambda task: self._over(subject_id, ask, task))
        return ask

    def _over(self, subject_id: str, ask: _Ask, task: asyncio.Task[Standing]) -> None:
        if not task.cancelled():
            task.exception()  # whoever waited has it; perhaps nobody did any more
        self._forget(subject_id, ask)

    def _forget(self, subject_id: str, ask: _Ask) -> None:
        if self._asks.get(subject_id) is ask:
            del self._asks[subject_id]

    async def _follow(self, subject_id: str, ask: _Ask) -> Standing:
        """Ask, then look whenever a worker has moved the link, and now and then besides."""
        now, since = self._context.clock.now(), self._context.rules.policy.since
        await self._context.database.write(lambda connection: ask_for(connection, subject_id, since, now))
        ask.written.set()
        self._wake()
        if not ask.waiters:
            self._forget(subject_id, ask)
            return PENDING
        pause = _FIRST_LOOK
        while True:
            ask.moved.clear()
            found = await self.stands(subject_id)
            if found.state is State.NONE:
                self._note_without(subject_id)
            if found.state is not State.PENDING:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await ask.moved.wait()
            pause = min(pause * 1.5, _LONGEST_LOOK)

    async def _link(self, subject_id: str) -> Link | None:
        return await self._context.database.read(lambda connection: links.get(connection, subject_id))

    def _standing(self, link: Link | None) -> Standing:
        return standing(link, self._context.rules.policy, self._context.clock.now())

    def _asked_lately(self, subject_id: str) -> bool:
        at = self._without.get(subject_id)
        return at is not None and asyncio.get_running_loop().time() - at < _KNOWN_FOR

    def _note_without(self, subject_id: str) -> None:
        if len(self._without) >= _KNOWN_LIMIT:
            self._without.clear()
        self._without[subject_id] = asyncio.get_running_loop().time()


def ask_for(connection: Connection, subject_id: str, since: int, now: int) -> None:
    """Fold in that somebody wants this user's customer, unless a worker is at just that already.

    A user who is known, and settled without a customer, is read again: what stood in the way may have been
    mended a moment ago.
    """
    link = links.get(connection, subject_id)
    if link is not None and _under_way(link, now):
        return
    news: list[News] = [Asked(subject_id=subject_id, want=True)]
    if link is not None and link.dirty_at is None and link.fields is not None:
        news.append(Unconfirmed(subject_id=subject_id))
    links.fold_batch(connection, news, since, now)
    journal.append(connection, [Entry(at=now, kind="news", what="asked for a customer", subject_id=subject_id)])


def _under_way(link: Link, now: int) -> bool:
    """Another piece of news would only bring a second turn."""
    due = link.due_at is not None and (link.held > 0 or link.due_at <= now)
    return link.wanted and link.lane is Lane.LIVE and link.dirty_at is not None and due
