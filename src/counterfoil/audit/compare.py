"""Comparing what was read: payments where only they can tell, findings, and a second look at them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice

from counterfoil.audit.patience import batched, insistently
from counterfoil.audit.progress import Progress
from counterfoil.audit.scan import OVERLAP, PARALLEL
from counterfoil.audit.workspace import Workspace
from counterfoil.billing.listing import CustomerLister
from counterfoil.clerk.api import ClerkApi
from counterfoil.core.drift import findings, in_step, needs_payments
from counterfoil.core.finding import Finding, SeenCustomer
from counterfoil.core.link import Link
from counterfoil.core.policy import Policy
from counterfoil.core.subject import is_user_id
from counterfoil.upstream.gate import BULK
from counterfoil.upstream.together import together

LinkPage = Callable[[str, int], Awaitable[list[Link]]]
"""A page of our own links after a subject's id, of so many at most."""

_PAGE = 1_000
_IDS = 100
"""Ids that Clerk's list takes at once."""
_AGAIN = 20_000
"""Subjects that are read a second time at most; `apply` looks at every one again anyway."""


class Comparison:
    """Turns a filled work file into findings. Belongs to one event loop."""

    def __init__(
        self,
        space: Workspace,
        clerk: ClerkApi,
        lister: CustomerLister,
        policy: Policy,
        progress: Progress,
        links: LinkPage | None,
    ) -> None:
        """Args:
        space: the work file, with both sides in it.
        clerk: reads users a second time.
        lister: looks at payments.
        policy: what the settings ask for.
        progress: is told how far it has come.
        links: our own database; ``None``: there is none.
        """
        self._space = space
        self._clerk = clerk
        self._lister = lister
        self._policy = policy
        self._links = links
        self._payments = progress.stage("payments of duplicates")
        self._compared = progress.stage("comparing")
        self._again = progress.stage("looking again")
        self._recent = int(space.meta()["began"]) - OVERLAP

    async def run(self) -> None:
        """Compare everything, then read what was found once more."""
        await self._copy_links()
        await self._look_at_payments()
        self._space.forget_findings()
        self._compared.total = sum(self._space.counts())
        for batch in batched(self._all(), _PAGE):
            self._space.keep_findings(batch)
            await asyncio.sleep(0)
        self._compared.done, self._compared.ended = self._compared.total or 0, True
        await self._look_again()

    def _all(self) -> Iterator[Finding]:
        for state in self._space.states(lambda user, customer: in_step(user, customer, self._policy)):
            # What is no user's id is not ours: the key holds something else.
            if state is not None and is_user_id(state.subject_id):
                yield from findings(state, self._policy, self._recent)
            self._compared.done += 1

    async def _copy_links(self) -> None:
        """As late as can be: what workers have settled meanwhile is settled."""
        self._space.forget_links()
        if self._links is None:
            return
        after = ""
        while page := await self._links(after, _PAGE):
            self._space.keep_links(page)
            after = page[-1].subject_id

    async def _look_at_payments(self) -> None:
        asked = self._unpaid()
        while group := list(islice(asked, 20 * PARALLEL)):
            self._payments.total = (self._payments.total or 0) + len(group)
            turns = asyncio.Semaphore(PARALLEL)
            async with together() as tasks:
                for each in group:
                    tasks.create_task(self._look_at(each, turns))
        self._payments.ended = True

    def _unpaid(self) -> Iterator[SeenCustomer]:
        for state in self._space.doubled():
            if needs_payments(state):
                yield from (each for each in state.customers if not each.archived and each.paid is None)

    async def _look_at(self, customer: SeenCustomer, turns: asyncio.Semaphore) -> None:
        async with turns:
            paid = await insistently(lambda: self._lister.paid(customer.customer_id))
        self._space.set_paid(customer, paid)
        self._payments.done += 1

    async def _look_again(self) -> None:
        """The users of all findings, by list, a hundred at a time: what was a change on its way is gone now."""
        subjects = self._space.doubtful(_AGAIN)
        self._again.total = len(subjects)
        turns = asyncio.Semaphore(PARALLEL)

        async def look(ids: Sequence[str]) -> None:
            async with turns:
                found = await insistently(lambda: self._clerk.these_users(ids, BULK))
            self._space.replace_users(ids, found.users, found.unread)
            self._again.done += len(ids)

        async with together() as tasks:
            for ids in batched(subjects, _IDS):
                tasks.create_task(look(ids))
        for ids in batched(subjects, _IDS):
            self._space.drop_findings(ids)
            for subject_id in ids:
                self._space.keep_findings(findings(self._space.state(subject_id), self._policy, self._recent))
        self._again.ended = True
