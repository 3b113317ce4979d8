"""Reading both sides: Clerk by cursor, Stripe in parallel by ranges of ``created`` that adapt to density.

Lists only. Each page is on disk, with the place to go on, before the next one is asked for: an audit that was
killed reads at most one page of each range again.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from counterfoil.audit.patience import batched, insistently
from counterfoil.audit.progress import Progress
from counterfoil.audit.workspace import Range, Workspace
from counterfoil.billing.listing import CustomerLister, ListedPage
from counterfoil.billing.stripe import PAGE as CUSTOMERS
from counterfoil.clerk.api import PAGE as USERS
from counterfoil.clerk.api import ClerkApi, UserPage
from counterfoil.core.finding import SeenCustomer
from counterfoil.core.link import Lane
from counterfoil.errors import NotFound, Rejected
from counterfoil.upstream.gate import BULK, Ticket
from counterfoil.upstream.together import together

PARALLEL = 12
"""Pages of Stripe's list under way at once, at most: any account's rate, times the time of a slow answer."""
_WORTH = 4 * CUSTOMERS
"""Customers that must be left in a range for it to be split."""
OVERLAP = 300_000
"""What changed within so long (ms) before the audit began is read again at its end."""
_PAGE_OVERLAP = 50
_PIECE = 100
"""Users that are written at once."""
_USERS_AFTER, _USERS_READ = "users_after", "users_read"
_CURSORS = 5
"""So many users of a page are remembered to go on after: the last one may be deleted meanwhile."""


class Scan:
    """Fills a work file with both sides. Belongs to one event loop."""

    def __init__(self, space: Workspace, clerk: ClerkApi, lister: CustomerLister, progress: Progress) -> None:
        self._space = space
        self._clerk = clerk
        self._lister = lister
        self._users = progress.stage("users of Clerk")
        self._customers = progress.stage("customers of Stripe")
        self._late = progress.stage("changes meanwhile")
        self._active: dict[int, Range] = {}
        self._waiting: list[Range] = []
        self._number = 0
        self._moved = asyncio.Event()
        self._unsent: set[int] = set()
        """Ranges whose next page waits for the quota."""

    async def run(self) -> None:
        """Read both sides, then what has changed while they were read.

        Raises:
            UpstreamError: a side cannot be read; what was read is kept.
        """
        self._users.done, self._customers.done = self._space.counts()
        async with together() as group:
            group.create_task(self._count_users())
            group.create_task(self._read_users())
            group.create_task(self._read_customers())
        async with together() as group:
            group.create_task(self._read_late_users())
            group.create_task(self._read_late_customers())
            group.create_task(_one_by_one(self._space.index()))
        self._late.ended = True

    # Clerk.

    async def _count_users(self) -> None:
        self._users.total = await insistently(lambda: self._clerk.count(BULK))

    async def _read_users(self) -> None:
        known = self._space.meta()
        if _USERS_READ in known:
            self._users.ended = True
            return
        cursors = known.get(_USERS_AFTER, "").split()
        while True:
            page = await self._page_after(cursors)
            ended = {} if page.last is not None else {_USERS_READ: "1"}
            cursors = [each.subject_id for each in page.users[-_CURSORS:]] or [page.last or ""]
            await self._keep_users(page, {_USERS_AFTER: " ".join(cursors), **ended})
            self._users.done += len(page.users)
            if ended:
                self._users.ended = True
                # Stripe's list is longer, and the processor idle.
                await _one_by_one(self._space.index(users_only=True))
                return

    async def _keep_users(self, page: UserPage, place: Mapping[str, str]) -> None:
        """In pieces: Stripe's answers would wait for a whole page to be written, and the next calls with them."""
        *pieces, last = list(batched(page.users, _PIECE)) or [[]]
        for piece in pieces:
            self._space.keep_users(piece, {})
            await asyncio.sleep(0)
        self._space.keep_users(last, place, page.unread)

    async def _page_after(self, cursors: Sequence[str]) -> UserPage:
        """The page after the last of these users who is still there."""
        for cursor in reversed(cursors):
            try:
                return await insistently(
                    lambda after=cursor: self._clerk.users(  # type: ignore[misc]
                        BULK, limit=USERS, order_by="-created_at", starting_after=after
                    )
                )
            except Rejected:
                continue  # deleted meanwhile; what Clerk answers then is not documented
        return await insistently(lambda: self._clerk.users(BULK, limit=USERS, order_by="-created_at"))

    # Stripe.

    async def _read_customers(self) -> None:
        self._number = self._space.begun()
        self._waiting = self._space.ranges()
        if self._number == 0:
            # Everything, and an hour more than now: the clocks of both sides need not agree.
            high = int(self._space.meta()["began"]) // 1000 + 3600
            self._waiting = [Range(id=1, low=0, high=high, reached=high)]
            self._number = 1
            self._space.keep_ranges(self._waiting)
        async with together() as group:
            for _ in range(PARALLEL):
                group.create_task(self._read_ranges())
        self._customers.ended = True

    async def _read_ranges(self) -> None:
        """Take ranges, whole or split off another's, until there is none left."""
        while True:
            taken = self._take()
            if taken is not None:
                self._active[taken.id] = taken
                await self._read_range(taken)
                del self._active[taken.id]
                self._tell()
            elif self._active:
                await self._moved.wait()
            else:
                return

    def _tell(self) -> None:
        """Wake the readers that have nothing to do."""
        self._moved.set()
        self._moved.clear()

    def _take(self) -> Range | None:
        if self._waiting:
            return self._waiting.pop()
        if self._unsent:
            return None  # the quota is used anyway, and the last page of each range is half empty
        widest = max(self._active.values(), key=_left, default=None)
        if widest is None or _left(widest) < _WORTH or widest.reached - widest.low < 2:
            return None
        # The part that is further away: the other's cursor stays good.
        middle = self._middle(widest)
        self._number += 1
        made = Range(id=self._number, low=widest.low, high=middle, reached=middle)
        widest.low = middle
        self._space.keep_ranges([widest, made])
        return made

    def _middle(self, part: Range) -> int:
        """Half of a range; of one that goes back for longer than all users would take, what lies beyond."""
        users = self._users.total or self._users.done
        return max((part.low + part.reached) // 2, part.reached - int(2 * (users + CUSTOMERS) / part.density))

    async def _read_range(self, part: Range) -> None:
        while True:
            page = await self._page_of(part)
            more = page.more and bool(page.customers)
            if page.customers:
                part.after = page.customers[-1].customer_id
                part.reached = min(part.reached, page.customers[-1].created // 1000)
                part.density = _density(page.customers)
            # It may have been split below this page while that was on its way.
            more = more and part.reached >= part.low
            self._space.keep_customers(page.customers, part, done=not more)
            self._customers.done += len(page.customers)
            self._customers.total = self._customers.done + int(sum(map(_left, self._active.values())))
            if not more:
                return
            self._tell()

    async def _page_of(self, part: Range) -> ListedPage:
        try:
            return await insistently(lambda: self._page(part))
        except (NotFound, Rejected):
            if part.after is None:
                raise
        # The customer to go on after was deleted meanwhile: by its time instead, that second once more.
        part.after, part.high = None, part.reached + 1
        return await insistently(lambda: self._page(part))

    async def _page(self, part: Range) -> ListedPage:
        self._unsent.add(part.id)
        try:
            ticket = Ticket(Lane.BULK, lambda: self._sent(part))
            return await self._lister.page(part.low, part.high, part.after, ticket)
        finally:
            self._sent(part)

    def _sent(self, part: Range) -> None:
        """Its page is on its way, or given up."""
        self._unsent.discard(part.id)
        self._tell()

    # What has changed meanwhile.

    async def _read_late_users(self) -> None:
        offset, since = 0, int(self._space.meta()["began"]) - OVERLAP
        while True:
            page = await insistently(
                lambda offset=offset: self._clerk.users(BULK, limit=USERS, offset=offset, order_by="-updated_at")  # type: ignore[misc]
            )
            late = [each for each in page.users if each.version >= since]
            self._space.keep_users(late, {})
            self._late.done += len(late)
            if not page.more or len(late) < len(page.users):
                break
            offset += USERS - _PAGE_OVERLAP

    async def _read_late_customers(self) -> None:
        began = int(self._space.meta()["began"])
        low, high, after = (began - OVERLAP) // 1000, began // 1000 + 10 * 86_400, None
        while True:
            listed = await insistently(lambda after=after: self._lister.page(low, high, after))  # type: ignore[misc]
            self._space.keep_customers(listed.customers, None)
            self._late.done += len(listed.customers)
            if not listed.more or not listed.customers:
                break
            after = listed.customers[-1].customer_id


async def _one_by_one(steps: Iterator[None]) -> None:
    """Work of this processor's while answers are awaited: calls go out between its steps."""
    for _ in steps:
        await asyncio.sleep(0)


def _density(page: Sequence[SeenCustomer]) -> float:
    """Customers a second in a page of them: how long nobody came before its first one tells nothing."""
    return len(page) / max(1.0, (page[0].created - page[-1].created) / 1000)


def _left(part: Range) -> float:
    """How many customers a range still has, if it goes on as its last page; 0 where nothing tells."""
    return part.density * max(0, part.reached - part.low)
