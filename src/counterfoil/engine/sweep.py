"""News that never came: the sweep finds users that changed, the walk finds those that are gone.

The sweep reads the users that changed since the last one, every ten minutes. The walk meets every user
once a day, compares all fields, and has each link that it did not meet confirmed by a read of its own.
Both only bring news: workers do the rest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from sqlalchemy import Connection

from counterfoil.clerk.api import PAGE, UserPage
from counterfoil.core.news import News, Unconfirmed, UserRead
from counterfoil.core.policy import HOUR, MINUTE
from counterfoil.engine.context import Context
from counterfoil.errors import DatabaseUnavailable, Rejected, UpstreamError
from counterfoil.store import environment, figures, journal, links
from counterfoil.store.journal import Entry
from counterfoil.upstream.gate import BULK

SWEEP_EVERY = 10 * MINUTE
WALK_EVERY = 24 * HOUR
OVERLAP = 5 * MINUTE
_PAGE_OVERLAP = 50
"""Users that consecutive pages of a sweep share: whoever changes meanwhile moves up and shifts the pages."""
_TICK = 30.0
_SWEPT_TO = "swept_to"
_WALK, _WALK_BEGAN = "walk", "walk_began"
WALK_AFTER, WALK_ENDED = "walk_after", "walk_ended"
"""Where the walk under way goes on, and when the last one ended."""

_log = structlog.get_logger(__name__)


class Sweeper:
    """Sweeps and walks, each when it is due. What is remembered in the database outlives a restart."""

    def __init__(self, context: Context, wake: Callable[[], None]) -> None:
        self._context = context
        self._wake = wake

    async def run(self) -> None:
        """Sweep every ten minutes and walk every day, for ever."""
        while True:
            for due, work in ((self._sweep_due, self.sweep), (self._walk_due, self.walk)):
                await self._when(due, work)
            await asyncio.sleep(_TICK)

    async def _when(self, due: Callable[[], Awaitable[bool]], work: Callable[[], Awaitable[None]]) -> None:
        try:
            if await due():
                await work()
        except (UpstreamError, DatabaseUnavailable) as error:
            # It goes on where it was; the next tick tries again.
            _log.warning("sweep.failed", error=str(error))

    async def _sweep_due(self) -> bool:
        swept_to = int((await self._load()).get(_SWEPT_TO, "0"))
        return _is_over(swept_to, SWEEP_EVERY, self._context.clock.now())

    async def _walk_due(self) -> bool:
        known = await self._load()
        ended = int(known.get(WALK_ENDED, "0"))
        return WALK_AFTER in known or _is_over(ended, WALK_EVERY, self._context.clock.now())

    async def sweep(self) -> None:
        """Read all users that changed since the last sweep began, newest change first."""
        known = await self._load()
        began = self._context.clock.now()
        # The first sweep looks back to the first start: older changes are for the walk, and for the audit.
        target = int(known.get(_SWEPT_TO, self._context.rules.policy.since)) - OVERLAP
        offset = 0
        while True:
            page = await self._context.clerk.users(BULK, limit=PAGE, offset=offset, order_by="-updated_at")
            await self._tell("sweep", [UserRead(body=body) for body in page.users if body.version >= target])
            if not page.more or (page.users and page.users[-1].version < target):
                break
            offset += PAGE - _PAGE_OVERLAP
        await self._remember({_SWEPT_TO: str(began)})

    async def walk(self) -> None:
        """Scan Stripe; then meet every user, by cursor, and have the links that were not met read one by one."""
        known = await self._load()
        number, began, after = int(known.get(_WALK, "0")), int(known.get(_WALK_BEGAN, "0")), known.get(WALK_AFTER)
        if after is None:
            number, began = number + 1, self._context.clock.now()
            await self._remember({_WALK: str(number), _WALK_BEGAN: str(began), WALK_AFTER: ""})
        # First: whose customer it meets is met here in turn.
        await self._context.catch_up.again()
        while True:
            page = await self._page(after or None)
            if page.last is not None:
                await self._met(page, number)
            if not page.more or page.last is None:
                break
            after = page.last
        await self._confirm_the_rest(number, began)
        ended = str(self._context.clock.now())
        await self._remember({WALK_AFTER: None, WALK_ENDED: ended})
        _log.info("walk.done", number=number)

    async def _page(self, after: str | None) -> UserPage:
        clerk = self._context.clerk
        if after is not None:
            try:
                return await clerk.users(BULK, limit=PAGE, order_by="-created_at", starting_after=after)
            except Rejected:
                # The user to go on after was deleted meanwhile. What Clerk answers then is not documented.
                _log.info("walk.begins_again")
        return await clerk.users(BULK, limit=PAGE, order_by="-created_at")

    async def _met(self, page: UserPage, number: int) -> None:
        ids = [body.subject_id for body in page.users]
        await self._tell(
            "walk",
            [UserRead(body=body) for body in page.users],
            lambda connection: figures.mark_walked(connection, ids, number),
            {WALK_AFTER: page.last},
        )

    async def _confirm_the_rest(self, number: int, began: int) -> None:
        after = ""
        while True:
            page = await self._context.database.read(
                lambda connection, after=after: figures.unwalked(connection, number, began, after, PAGE)  # type: ignore[misc]
            )
            await self._tell("walk", [Unconfirmed(subject_id=link.subject_id) for link in page])
            if len(page) < PAGE:
                return
            after = page[-1].subject_id

    async def _tell(
        self,
        source: str,
        news: Sequence[News],
        also: Callable[[Connection], None] | None = None,
        remember: dict[str, str | None] | None = None,
    ) -> None:
        now, since = self._context.clock.now(), self._context.rules.policy.since

        def job(connection: Connection) -> bool:
            moved = links.fold_batch(connection, news, since, now)
            entries = [Entry(at=now, kind="news", what=source, subject_id=each) for each in moved]
            journal.append(connection, entries)
            if also is not None:
                also(connection)
            environment.put(connection, remember or {})
            return bool(moved)

        if await self._context.database.write(job):
            self._wake()

    async def _load(self) -> dict[str, str]:
        return await self._context.database.read(environment.load)

    async def _remember(self, values: dict[str, str | None]) -> None:
        await self._context.database.write(lambda connection: environment.put(connection, values))


def _is_over(then: int, every: int, now: int) -> bool:
    """Whether so long has passed. What lies well ahead was written by a clock that has been put back since."""
    return now - then >= every or then - now > MINUTE
