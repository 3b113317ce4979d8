"""Group commit: many deliveries wait, one transaction (so one fsync) serves them all.

While a commit is under way the next batch gathers; the slower the disk, the larger the batches.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from counterfoil.clerk.webhook import Unreadable
from counterfoil.core.news import UserDeleted, UserEvent
from counterfoil.errors import IntakeFull

Taken = UserEvent | UserDeleted | Unreadable
"""What is written before a delivery is answered."""

Tell = Callable[[bool], None]
"""Told whether a delivery is on disk."""

Commit = Callable[[Sequence[Taken]], Awaitable[None]]
"""Writes a batch in one transaction, and returns when it is on disk; raises where it is not."""

BYTES_LIMIT = 64 * 1024 * 1024
"""Bodies that could not be read are kept whole: so many bytes of them may wait."""
_ALWAYS = 16
"""So many deliveries go into one transaction where they wait."""
PROBE = 5.0
"""Seconds, after a commit that failed, until an empty batch is tried where no delivery comes."""

_log = structlog.get_logger(__name__)


class Intake:
    """The queue between the receiver and the store. `run` must be running for anything to be written.

    All methods belong to one event loop.
    """

    def __init__(
        self,
        commit: Commit,
        *,
        wake: Callable[[], None],
        limit: int = 10_000,
        batch: int = 500,
        pause: float = 1.0,
    ) -> None:
        """Make an empty queue.

        Args:
            commit: the store's durable write of one batch.
            wake: called after each commit that carried news; it must not raise.
            limit: how many deliveries may wait.
            batch: how many one transaction takes at most.
            pause: seconds for which nothing is taken after a commit that failed.
        """
        self._commit = commit
        self._wake = wake
        self._limit = limit
        self._batch = batch
        self._pause = pause
        self._items: list[Taken] = []
        self._waiters: list[Tell] = []
        self._bytes = 0
        self._last = 0
        self._arrived = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False
        self._stopped = False
        self._draining = False
        self._shut_until: float | None = None

    @property
    def waiting(self) -> int:
        """How many deliveries wait to be written, not counting those in the transaction under way."""
        return len(self._items)

    @property
    def failing(self) -> bool:
        """The last commit failed."""
        return self._shut_until is not None

    def take(self, item: Taken, tell: Tell) -> None:
        """Have ``item`` written; ``tell(True)`` is called when it is on disk.

        ``tell(False)``: it is not on disk, or not known to be, for the database could not be written. It must not
        raise.

        Raises:
            IntakeFull: it will not be written, nor ``tell`` called: the queue is full or shut. After a commit that
                failed it is shut for ``pause`` seconds, and then the next items are tried.
        """
        if self._stopped or self._draining or len(self._items) >= self._limit or self._paused():
            raise IntakeFull("the queue is full or shut")
        if type(item) is Unreadable:
            if self._bytes + len(item.body) > BYTES_LIMIT:
                raise IntakeFull("the queue holds too many bytes")
            self._bytes += len(item.body)
        self._items.append(item)
        self._waiters.append(tell)
        if len(self._items) == 1:
            self._arrived.set()

    def _paused(self) -> bool:
        return self._shut_until is not None and asyncio.get_running_loop().time() < self._shut_until

    async def run(self) -> None:
        """Commit what waits, batch after batch, until `drain` is called or this is cancelled.

        A commit that fails fails its own batch. Cancelled in mid-commit, it is not known whether that batch
        was written: its waiters get `IntakeFull`, and Svix brings them again. Until it runs again, nothing is
        taken.
        """
        self._running, self._stopped = True, False
        self._ended.clear()
        try:
            while True:
                if not self._items:
                    if self._draining:
                        return
                    self._arrived.clear()
                    await self._arrive()
                    continue
                await self._commit_batch()
        finally:
            # Nobody would answer those who wait now, or come later.
            self._running, self._stopped = False, True
            waiters = self._waiters
            self._items, self._waiters, self._bytes = [], [], 0
            for tell in waiters:
                tell(False)
            self._ended.set()

    async def _arrive(self) -> None:
        """Wait for items; after a commit that failed not for long: an empty batch shows whether others would fail.

        A node that says that it is not ready is sent nothing, and would not find out otherwise.
        """
        try:
            async with asyncio.timeout(PROBE if self.failing else None):
                await self._arrived.wait()
        except TimeoutError:
            await self._commit_batch()

    def _size(self) -> int:
        """How many the next transaction takes: no more than halfway from the last one's to all that wait.

        Who took all would leave none to come in while it commits, next a few that came early, for whose commit
        all others wait, and then all again: senders who wait for their answers keep in step.
        """
        waiting = len(self._items)
        return min(waiting, max(_ALWAYS, (waiting + self._last + 1) // 2), self._batch)

    async def _commit_batch(self) -> None:
        size = self._last = self._size()
        items, self._items = self._items[:size], self._items[size:]
        waiters, self._waiters = self._waiters[:size], self._waiters[size:]
        kept = [len(item.body) for item in items if type(item) is Unreadable]
        written = False
        try:
            await self._commit(items)
            written = True
        except Exception as error:
            # Not its text: a driver's message may quote the row.
            _log.warning("intake.commit_failed", deliveries=len(items), error=type(error).__name__)
        finally:
            self._bytes -= sum(kept)
            self._shut_until = None if written else asyncio.get_running_loop().time() + self._pause
            for tell in waiters:
                tell(written)
        if written and len(kept) < len(items):
            self._wake()

    async def drain(self) -> None:
        """Refuse what comes from now on, commit what waits, and return when that is done."""
        self._draining = True
        self._arrived.set()
        if self._running:
            await self._ended.wait()
        else:
            await self.run()
