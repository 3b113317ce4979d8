"""Catch-up: knowing every customer that Stripe has, up to a moment of Stripe's own time.

One shared scan serves all who ask. It lists customers newest first, from 15 minutes before the last scan's
moment, and hands each one that names a user to the store. A scan that was cut short goes on where it was.
"""

import asyncio
from collections.abc import Mapping

import msgspec
import structlog
from sqlalchemy import Connection

from counterfoil.billing.stripe import Page, StripeApi
from counterfoil.core.news import CustomerSeen
from counterfoil.core.policy import MINUTE, Policy
from counterfoil.core.step import World
from counterfoil.core.subject import user_id
from counterfoil.engine.clock import Clock
from counterfoil.engine.patience import patiently
from counterfoil.engine.peers import Alone, Peers
from counterfoil.errors import BadSubject, NotFound
from counterfoil.store import environment, links
from counterfoil.store.database import Database
from counterfoil.upstream.gate import BULK, LIVE, Ticket

OVERLAP = 15 * MINUTE
"""Far more than any clock's error, or any time that a list may lag."""
_SEEN_TO, _SCAN = "stripe_seen_to", "stripe_scan"
_UNSURE = 2_000
"""Milliseconds."""
_FIRST_LOOK, _LONGEST_LOOK = 0.25, 2.0
"""Seconds between looks at how far another node's scan has come."""

_log = structlog.get_logger(__name__)


class Scan(msgspec.Struct, frozen=True):
    """A scan under way, as kept in the database: listed from ``since``, begun at ``began``, next after ``after``.

    Both times are Stripe's, in milliseconds.
    """

    since: int
    began: int
    after: str
    seen: int = 0


def _decode_scan(remembered: Mapping[str, str]) -> Scan | None:
    kept = remembered.get(_SCAN)
    return msgspec.json.decode(kept, type=Scan) if kept is not None else None


class CatchUp:
    """The shared scan. Belongs to one event loop."""

    def __init__(
        self, database: Database, stripe: StripeApi, clock: Clock, policy: Policy, peers: Peers | None = None
    ) -> None:
        self._peers = peers or Alone()
        self._database = database
        self._stripe = stripe
        self._clock = clock
        self._policy = policy
        self._seen_to = 0
        self._scan: asyncio.Task[None] | None = None
        self.complete = False
        """A scan has ended since this process began: creating is safe."""
        self.scanned = 0
        """Customers met by the scan under way, or by the last one."""

    def world(self) -> World:
        """What is known of Stripe now."""
        return World(seen_to=self._seen_to, stripe_now=self._stripe.time())

    async def first(self) -> None:
        """The scan at the start, tried until it ends: nothing is created before."""
        began = self._lately()
        while not self.complete:
            await patiently(lambda: self._shared(BULK, began), "catch_up.failed")

    async def again(self) -> None:
        """Scan once more: what a restored database has forgotten to look for is found within a day.

        Raises:
            UpstreamError: the scan failed.
        """
        await self._shared(BULK, self._lately())

    async def reach(self, until: int, patience: float) -> bool:
        """Scan until ``seen_to`` is past ``until`` (Stripe's time, ms).

        Args:
            until: must not lie in the future.
            patience: seconds to wait at most; the scan goes on without us.

        Returns:
            Whether it is reached.

        Raises:
            UpstreamError: the scan failed.
        """
        if self._seen_to <= until:
            try:
                async with asyncio.timeout(patience):
                    await self._shared(LIVE, until)
            except TimeoutError:
                return False
        return self._seen_to > until

    def _lately(self) -> int:
        """Stripe's time now, less what its answers' whole seconds and our measure of it may be off."""
        return self.world().stripe_now - _UNSURE

    async def _shared(self, ticket: Ticket, until: int) -> None:
        if self._scan is None or self._scan.done():
            self._scan = asyncio.create_task(self._anywhere(ticket, until))
            # Whoever waits may be gone when it fails; then nobody asks for the error.
            self._scan.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._scan)

    async def close(self) -> None:
        """Stop a scan under way; it goes on at the next start."""
        if self._scan is not None:
            self._scan.cancel()
            await asyncio.gather(self._scan, return_exceptions=True)

    async def _anywhere(self, ticket: Ticket, until: int) -> None:
        """Scan, or wait for another node's scan that reaches past ``until``: what it finds is for all."""
        pause = _FIRST_LOOK
        while not await self._peers.only("catch-up", lambda: self._run(ticket, until)):
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_LOOK)
            if self._heard(await self._database.read(environment.load), until):
                return

    def _heard(self, remembered: Mapping[str, str], until: int) -> bool:
        """Take over how far all nodes have come; whether that is past ``until``."""
        scan = _decode_scan(remembered)
        self.scanned = scan.seen if scan is not None else self.scanned
        seen_to = int(remembered.get(_SEEN_TO, "0"))
        if seen_to <= until:
            return False
        self._seen_to = seen_to
        self.complete = True
        return True

    async def _run(self, ticket: Ticket, until: int) -> None:
        remembered = await self._database.read(environment.load)
        if not self._peers.alone and self._heard(remembered, until):
            return  # another node's has ended while we waited for the lock
        seen_to = int(remembered.get(_SEEN_TO, "0"))
        scan = _decode_scan(remembered)
        try:
            began = await self._list(scan, seen_to, ticket)
        except NotFound:
            # The customer to go on after was deleted meanwhile: from the top again.
            scan = None
            began = await self._list(None, seen_to, ticket)
        values = {_SEEN_TO: str(began), _SCAN: None}
        await self._database.write(lambda connection: environment.put(connection, values))
        self._seen_to = began
        # What another node began before our start may lack what a restored database has forgotten since.
        self.complete = self.complete or (self._peers.alone and scan is None) or began > until
        _log.info("catch_up.done", customers=self.scanned)

    async def _list(self, scan: Scan | None, seen_to: int, ticket: Ticket) -> int:
        """All pages, each kept with the place to go on; returns Stripe's time of the first."""
        since = scan.since if scan is not None else max(0, seen_to - OVERLAP)
        after = scan.after if scan is not None else None
        began = scan.began if scan is not None else None
        self.scanned = scan.seen if scan is not None else 0
        while True:
            page = await self._stripe.customers(ticket, since, after)
            began = began if began is not None else page.at
            self.scanned += len(page.customers)
            more = page.more and bool(page.customers)
            progress = None
            if more:
                after = page.customers[-1].customer_id
                progress = Scan(since, began, after, self.scanned)
            await self._keep(page, progress)
            if not more:
                return began

    async def _keep(self, page: Page, progress: Scan | None) -> None:
        news = []
        for each in page.customers:
            if each.owner is None:
                continue
            try:
                subject_id = user_id(each.owner)
            except BadSubject:
                continue  # the key holds something else: not one of Clerk's users
            news.append(
                CustomerSeen(
                    subject_id=subject_id,
                    customer_id=each.customer_id,
                    created=each.created,
                    mark=each.mark,
                    archived=each.archived,
                )
            )
        now, since = self._clock.now(), self._policy.since

        def job(connection: Connection) -> None:
            links.fold_batch(connection, news, since, now)
            if progress is not None:
                environment.put(connection, {_SCAN: msgspec.json.encode(progress).decode()})

        await self._database.write(job)
