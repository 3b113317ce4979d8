"""Applying a plan: each line is checked again, then asked of its link, whose own turn does it.

There is no second engine here: what is approved goes to links as news and orders, through the workers' intents,
leases, quotas and journal. This part decides what may still be asked, waits until the links have settled, and notes
what became of each line.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from counterfoil.audit.patience import batched, insistently
from counterfoil.audit.plan_file import Note, Notes
from counterfoil.audit.progress import Progress
from counterfoil.billing.stripe import StripeApi
from counterfoil.clerk.api import ClerkApi
from counterfoil.core.claims import as_link, named_anywhere, named_in
from counterfoil.core.creating import own_name
from counterfoil.core.customer import Customer, difference, wanted_fields
from counterfoil.core.finding import Finding, Kind, Repair
from counterfoil.core.link import Deletion, Fields, Order
from counterfoil.core.news import CustomerSeen, UserBody
from counterfoil.core.policy import LinkBack, OnDeletion, Policy
from counterfoil.store.database import Database
from counterfoil.store.orders import Errand, Standing, standings
from counterfoil.upstream.gate import BULK

BATCH = 100
"""Subjects asked for at once: so many ids Clerk's list takes."""
_POLL = 0.5
_ROUNDS = 6
"""A link is asked again where its turn ended before it could do all: so often."""
_PATIENCE = 900.0
"""Seconds that a batch may take without any of its links getting on."""

Tell = Callable[[Sequence[Errand]], Awaitable[Sequence[str]]]
"""Asks links for errands; answers the subjects that a worker holds just now, which are to be asked again."""


@dataclass(slots=True)
class _Job:
    """All lines of one subject, which are done together."""

    subject_id: str
    findings: list[Finding]
    errand: Errand | None = None
    rounds: int = 0
    held: bool = False

    def wants(self, *repairs: Repair) -> bool:
        return any(each.repair in repairs for each in self.findings)


@dataclass(slots=True)
class Report:
    """How an apply ended: keys of lines, with the reasons."""

    done: int = 0
    skipped: list[Note] = field(default_factory=list)
    refused: list[Note] = field(default_factory=list)
    before: int = 0
    """Lines that an earlier run has dealt with."""
    deleted: int = 0


class Applier:
    """Carries a plan out. Belongs to one event loop; workers run beside it."""

    def __init__(
        self,
        database: Database,
        clerk: ClerkApi,
        stripe: StripeApi,
        policy: Policy,
        now: Callable[[], int],
        tell: Tell,
        max_deletes: int,
        progress: Progress,
    ) -> None:
        """Args:
        database: is read, to see how links stand.
        clerk: reads users again, a hundred at a time.
        stripe: looks at customers again.
        policy: what the settings ask for.
        now: our time, in milliseconds.
        tell: asks links for errands.
        max_deletes: so many customers are deleted at most; the others are archived.
        progress: is told how far it has come.
        """
        self._database = database
        self._clerk = clerk
        self._stripe = stripe
        self._policy = policy
        self._now = now
        self._tell = tell
        self._left = max_deletes
        self._stage = progress.stage("applying")
        self._report = Report()

    async def run(self, found: Iterable[Finding], notes: Notes) -> Report:
        """Carry out all lines that have a repair, and note what became of them.

        Raises:
            UpstreamError: an upstream cannot be reached; what was noted is kept, and it can be run again.
        """
        self._left -= notes.deleted()
        for batch in batched(self._jobs(found, notes), BATCH):
            await self._carry_out(batch, notes)
        self._stage.ended = True
        self._report.deleted = notes.deleted()
        return self._report

    def _jobs(self, found: Iterable[Finding], notes: Notes) -> Iterable[_Job]:
        """Lines by subject. A plan is in no order of subjects, so the subjects' names are kept, not the lines."""
        jobs: dict[str, _Job] = {}
        for each in found:
            note = notes.of(each.key)
            if note is not None and note.became != "asked":
                self._report.before += 1
            elif each.repair is None or each.subject_id is None:
                self._refuse([each], "for a person: " + each.why, notes)
            else:
                jobs.setdefault(each.subject_id, _Job(each.subject_id, [])).findings.append(each)
        self._stage.total = len(jobs)
        return jobs.values()

    async def _carry_out(self, jobs: Sequence[_Job], notes: Notes) -> None:
        users = {each.subject_id: each for each in await self._users([job.subject_id for job in jobs])}
        open_jobs = []
        for job in jobs:
            reason = await self._check(job, users.get(job.subject_id))
            if reason is None:
                open_jobs.append(job)
            else:
                self._skip(job.findings, reason, notes)
        # Noted before it is asked: a run that is killed now counts them as deleted, and goes on with them.
        notes.keep(self._asked(job) for job in open_jobs)
        await self._ask(open_jobs)
        await self._until_done(open_jobs, notes)

    async def _users(self, ids: Sequence[str]) -> list[UserBody]:
        return await insistently(lambda: self._clerk.these_users(ids, BULK))

    def _asked(self, job: _Job) -> Note:
        customers = job.errand.customers if job.errand is not None else ()
        deletes = sum(each.order is Order.DELETE for each in customers)
        key = next((each.key for each in job.findings if each.retire), job.findings[0].key)
        return Note(key=key, became="asked", deleted=deletes)

    async def _check(self, job: _Job, user: UserBody | None) -> str | None:
        """Make the errand; or say why nothing can be asked any more."""
        if (user is None) != all(each.kind is Kind.ORPHAN for each in job.findings):
            return "the user is gone meanwhile" if user is None else "the user is there"
        seen: list[CustomerSeen] = []
        applied, replaces = None, None
        for each in job.findings:
            reason = await self._check_one(each, user, seen)
            if reason is not None:
                return reason
            applied = each.fields if each.fields is not None else applied
            replaces = each.named if each.named is not None else replaces
        if user is not None and applied is None and job.wants(Repair.LINK):
            # Only the metadata is to be written: the fields are left as they are until the user changes.
            applied = user.fields
        job.errand = Errand(
            subject_id=job.subject_id,
            item=", ".join(sorted({str(each.kind) for each in job.findings})),
            body=user,
            customers=tuple(seen),
            applied=applied,
            replaces=replaces,
        )
        return None

    async def _check_one(self, finding: Finding, user: UserBody | None, seen: list[CustomerSeen]) -> str | None:
        """What must still be so for one line; adds the customers that something is approved for."""
        if user is not None:
            reason = self._check_user(finding, user)
            if reason is not None:
                return reason
        if finding.kind is Kind.FOREIGN and finding.repair is Repair.CREATE and finding.named is not None:
            named = await self._look(finding.named)
            return None if named.gone else f"{finding.named} is there"
        if finding.customer_id is not None and finding.repair is not Repair.RECONCILE:
            reason = await self._check_customer(finding, finding.customer_id, seen)
            if reason is not None:
                return reason
        for customer_id in finding.retire:
            reason = await self._retire(finding, customer_id, seen)
            if reason is not None:
                return reason
        return None

    def _check_user(self, finding: Finding, user: UserBody) -> str | None:
        named = named_in(user, self._policy)
        replaces = finding.repair is Repair.LINK or finding.named is not None
        if replaces and named == finding.customer_id:
            return "Clerk's metadata names the customer by now"
        if replaces and finding.kind is not Kind.FOREIGN and named not in {None, finding.named}:
            return "Clerk's metadata has changed meanwhile"
        if finding.kind is Kind.FOREIGN and finding.named != (named or named_anywhere(user, self._policy)):
            return "Clerk's metadata has changed meanwhile"
        if finding.repair is Repair.UPDATE:
            wanted = wanted_fields(as_link(user))
            if finding.fields is not None and difference(wanted, finding.fields) == Fields():
                return "the user has the customer's values by now"
        return None

    async def _check_customer(self, finding: Finding, customer_id: str, seen: list[CustomerSeen]) -> str | None:
        """The customer that stays, or is adopted."""
        if finding.kind is Kind.ORPHAN:
            return None
        now = await self._look(customer_id)
        allowed = {finding.subject_id, None} if finding.kind is Kind.UNCLAIMED else {finding.subject_id}
        if now.gone:
            return f"{customer_id} is gone"
        if now.owner not in allowed:
            return f"{customer_id} names another user, or none"
        if now.archived:
            return f"{customer_id} is archived"
        by_email = finding.evidence.get("by") == "email"
        if finding.repair in {Repair.RETIRE, Repair.ADOPT} and not by_email:
            # By an address the link's own turn looks once more whether it is the only one.
            seen.append(_sighting(finding, now, Order.ADOPT))
        return None

    async def _retire(self, finding: Finding, customer_id: str, seen: list[CustomerSeen]) -> str | None:
        now = await self._look(customer_id, thoroughly=True)
        if now.gone or now.owner != finding.subject_id or now.archived:
            return f"{customer_id} is gone, archived, or another user's"
        if any(each.live for each in now.subscriptions or ()):
            return f"{customer_id} has a live subscription"
        delete = now.attached is False and self._left > 0 and self._policy.on_deletion is not OnDeletion.ARCHIVE
        self._left -= delete
        seen.append(_sighting(finding, now, Order.DELETE if delete else Order.ARCHIVE))
        return None

    async def _look(self, customer_id: str, *, thoroughly: bool = False) -> Customer:
        return await insistently(
            lambda: self._stripe.inspect(customer_id, BULK, thoroughly=thoroughly, subscriptions=thoroughly)
        )

    async def _ask(self, jobs: Sequence[_Job]) -> None:
        errands = [job.errand for job in jobs if job.errand is not None]
        if not errands:
            return
        held = set(await self._tell(errands))
        for job in jobs:
            job.held = job.subject_id in held
            job.rounds += not job.held

    async def _until_done(self, jobs: Sequence[_Job], notes: Notes) -> None:
        """Wait for the links; ask those again whose turn ended before all was done."""
        waiting = {job.subject_id: job for job in jobs}
        idle = 0.0
        while waiting:
            stand = await self._database.read(lambda connection: standings(connection, sorted(waiting)))
            ended, again = [], []
            for job in list(waiting.values()):
                became = self._became(job, stand.get(job.subject_id))
                if became is not None:
                    ended.append((job, became))
                elif job.held or _settled(stand.get(job.subject_id)):
                    again.append(job)
            for job, (outcome, why) in ended:
                del waiting[job.subject_id]
                self._note(job, outcome, why, notes)
            await self._ask(again)
            idle = 0.0 if ended else idle + _POLL
            if idle >= _PATIENCE:
                for job in waiting.values():
                    self._note(job, "refused", "the link has not settled; see counterfoil show", notes)
                return
            if waiting:
                await asyncio.sleep(_POLL)

    def _became(self, job: _Job, standing: Standing | None) -> tuple[str, str] | None:
        """``done`` or ``refused``, with the reason; ``None``: it is under way."""
        if standing is None or not _settled(standing) or job.held:
            # A user who never had a customer of ours, and is gone, has no row any more.
            return ("done", "") if standing is None and job.wants(Repair.RETIRE) and job.rounds else None
        link = standing.link
        if link.parked is not None:
            return "refused", f"parked: {link.parked} {link.last_error or ''}".rstrip()
        reason = self._lacks(job, standing)
        if reason is None:
            return "done", ""
        return ("refused", reason) if job.rounds >= _ROUNDS else None

    def _lacks(self, job: _Job, standing: Standing) -> str | None:
        """What a settled link has not got of what was asked for."""
        link = standing.link
        if standing.ordered:
            return f"{standing.ordered[0]} could not be dealt with"
        if link.deletion is not Deletion.NONE or job.errand is None or job.errand.body is None:
            return None if link.deletion is not Deletion.NONE else "the user is there after all"
        if link.customer_id is None:
            return "the link has no customer: the user may not be eligible any more"
        wanted = next((each for each in job.findings if each.customer_id is not None), None)
        if wanted is not None and link.customer_id != wanted.customer_id:
            return f"the link holds {link.customer_id}"
        if job.wants(Repair.UPDATE) and (link.applied is None or _differs(standing)):
            return "the fields were not written"
        renamed = job.wants(Repair.LINK, Repair.CREATE) or (job.errand.replaces is not None)
        if (
            renamed
            and own_name(link, self._policy) != link.customer_id
            and self._policy.link_back is not LinkBack.OFF
        ):
            return "the metadata was not written"
        return None

    def _note(self, job: _Job, became: str, why: str, notes: Notes) -> None:
        """What became of a subject's lines. An order to delete may have ended as an archive mark; it counts on."""
        asked = notes.of(self._asked(job).key)
        kept = [Note(key=each.key, became=became, why=why) for each in job.findings]
        if asked is not None and asked.deleted:
            kept = [
                msgspec.structs.replace(each, deleted=asked.deleted if each.key == asked.key else 0)
                for each in kept
            ]
        notes.keep(kept)
        self._stage.done += 1
        if became == "done":
            self._report.done += len(kept)
        else:
            self._report.refused += kept

    def _skip(self, found: Sequence[Finding], why: str, notes: Notes) -> None:
        kept = [Note(key=each.key, became="skipped", why=why) for each in found]
        notes.keep(kept)
        self._stage.done += 1
        self._report.skipped += kept

    def _refuse(self, found: Sequence[Finding], why: str, notes: Notes) -> None:
        kept = [Note(key=each.key, became="refused", why=why) for each in found]
        notes.keep(kept)
        self._report.refused += kept


def _settled(standing: Standing | None) -> bool:
    return standing is not None and standing.link.dirty_at is None and standing.link.held == 0


def _differs(standing: Standing) -> bool:
    return difference(wanted_fields(standing.link), standing.link.applied) != Fields()


def _sighting(finding: Finding, seen: Customer, order: Order) -> CustomerSeen:
    return CustomerSeen(
        subject_id=str(finding.subject_id), customer_id=seen.customer_id, created=0, mark=seen.mark, order=order
    )
