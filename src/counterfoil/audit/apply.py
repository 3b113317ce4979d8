"""Applying a plan: each line is checked again, then asked of its link, whose own turn does it.

There is no second engine here: what is approved goes to links as news and orders, through the workers' intents,
leases, quotas and journal. This part decides what may still be asked, waits until the links have settled, and
notes what became of each line.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from counterfoil.audit.checks import Checked, Checks
from counterfoil.audit.patience import batched, insistently
from counterfoil.audit.plan_file import Note, Notes
from counterfoil.audit.progress import Progress
from counterfoil.clerk.api import ClerkApi
from counterfoil.core.creating import own_name
from counterfoil.core.customer import difference, wanted_fields
from counterfoil.core.finding import Finding, Kind, Repair
from counterfoil.core.link import Deletion, Fields, Link, Order, Ruling
from counterfoil.core.news import CustomerSeen, UserBody
from counterfoil.core.policy import LinkBack, Policy
from counterfoil.store.database import Database
from counterfoil.store.orders import Errand, Standing, standings
from counterfoil.upstream.gate import BULK
from counterfoil.upstream.together import together

BATCH = 100
"""Subjects asked for at once: so many ids Clerk's list takes."""
_PARALLEL = 12
_POLL = 0.25
_ROUNDS = 6
"""A link is asked again where its turn ended before it could do all: so often."""
_PATIENCE = 900.0
"""Seconds that may pass without any link of those under way getting on."""

Tell = Callable[[Sequence[Errand]], Awaitable[Sequence[str]]]
"""Asks links for errands; answers the subjects that a worker holds just now, which are to be asked again."""


@dataclass(slots=True)
class _Job:
    """All lines of one subject, which are done together."""

    subject_id: str
    findings: list[Finding]
    errand: Errand
    deletes: dict[str, int]
    rounds: int = 0
    held: bool = False

    @property
    def adopts(self) -> bool:
        """It takes a customer that nobody claimed: all of it is brought in step."""
        return any(each.kind is Kind.UNCLAIMED for each in self.findings)

    def wants(self, *repairs: Repair) -> bool:
        return any(each.repair in repairs for each in self.findings)


@dataclass(slots=True)
class Report:
    """How an apply ended."""

    done: int = 0
    skipped: list[Note] = field(default_factory=list)
    """What has changed since the audit."""
    refused: list[Note] = field(default_factory=list)
    """What was asked for and could not be done."""
    person: list[Note] = field(default_factory=list)
    """What no rule may mend."""
    before: int = 0
    """Lines that an earlier run has dealt with."""
    deleted: int = 0
    """Customers deleted by this run and earlier ones, and those that may have been: by a run that was killed, or
    for a line that was refused."""


class Applier:
    """Carries a plan out. Belongs to one event loop; workers run beside it."""

    def __init__(
        self,
        database: Database,
        clerk: ClerkApi,
        checks: Checks,
        policy: Policy,
        tell: Tell,
        progress: Progress,
        notes: Notes,
    ) -> None:
        """Args:
        database: is read, to see how links stand.
        clerk: reads users again, a hundred at a time.
        checks: looks at customers again.
        policy: what the settings ask for.
        tell: asks links for errands.
        progress: is told how far it has come.
        notes: what became of each line.
        """
        self._database = database
        self._clerk = clerk
        self._checks = checks
        self._policy = policy
        self._tell = tell
        self._stage = progress.stage("applying")
        self._notes = notes
        self._report = Report()
        self._waiting: dict[str, _Job] = {}

    async def run(self, found: Iterable[Finding]) -> Report:
        """Carry out all lines that have a repair, and note what became of them.

        Raises:
            UpstreamError: an upstream cannot be reached; what was noted is kept, and it can be run again.
        """
        subjects = self._by_subject(found)
        self._stage.total = len(subjects)
        # What rests on an address comes last: by then whoever has the same one, and is to go, has gone.
        last = {key: each for key, each in subjects.items() if any(map(_rests_on_an_address, each))}
        others = {key: each for key, each in subjects.items() if key not in last}
        for part in (others, last):
            await self._carry_out(part)
        self._stage.ended = True
        self._report.deleted = self._notes.deleted()
        return self._report

    async def _carry_out(self, subjects: dict[str, list[Finding]]) -> None:
        for batch in batched(subjects.items(), BATCH):
            jobs = await self._checked(batch)
            # Noted before it is asked: a run that is killed now goes on with it, and counts it as deleted.
            self._notes.keep(
                Note(key=each.key, became="asked", deleted=job.deletes[each.key])
                for job in jobs
                for each in job.findings
            )
            await self._ask(jobs)
            self._waiting.update((job.subject_id, job) for job in jobs)
            # The next batch is checked while this one is worked on; no more than a few are under way.
            await self._wait(until=2 * BATCH)
        await self._wait(until=0)

    def _by_subject(self, found: Iterable[Finding]) -> dict[str, list[Finding]]:
        subjects: dict[str, list[Finding]] = {}
        for each in found:
            note = self._notes.of(each.key)
            if note is not None and note.became != "asked":
                self._report.before += 1
            elif each.repair is None or each.subject_id is None:
                self._note([each], "person", each.why)
            else:
                subjects.setdefault(each.subject_id, []).append(each)
        return subjects

    async def _checked(self, batch: Sequence[tuple[str, list[Finding]]]) -> list[_Job]:
        ids = [subject_id for subject_id, _ in batch]
        page = await insistently(lambda: self._clerk.these_users(ids, BULK))
        users = {each.subject_id: each for each in page.users}
        turns = asyncio.Semaphore(_PARALLEL)

        async def check(subject_id: str, found: list[Finding]) -> _Job | None:
            async with turns:
                if subject_id not in page.unread:
                    return await self._check(subject_id, found, users.get(subject_id))
                self._skip(found)
                return None

        async with together() as group:
            tasks = [group.create_task(check(*each)) for each in batch]
        return [job for job in (task.result() for task in tasks) if job is not None]

    def _skip(self, found: Sequence[Finding]) -> None:
        """The user is there, and cannot be read: nothing can be checked. What was counted stays counted."""
        for each in found:
            why = "what Clerk says of the user cannot be read"
            self._note([each], "skipped", why, self._notes.deleted_for(each.key))
        self._stage.done += 1

    async def _check(self, subject_id: str, found: list[Finding], user: UserBody | None) -> _Job | None:
        """What is still to be done of a subject's lines; ``None``: nothing."""
        kept: list[tuple[Finding, Checked]] = []
        deletes: dict[str, int] = {}
        for each in found:
            counted = self._notes.deleted_for(each.key)
            checked = await self._checks.check(each, user, counted)
            # What an earlier run was about to delete stays counted, whatever is found now.
            deletes[each.key] = max(counted, checked.deletes)
            if checked.reason is None:
                kept.append((each, checked))
            elif checked.already and self._notes.of(each.key) is not None:
                self._note([each], "done", "", counted)
            else:
                self._note([each], "skipped", checked.reason, counted)
        if not kept:
            self._stage.done += 1
            return None
        replaces = next((checked.replaces for _, checked in kept if checked.replaces is not None), None)
        applied = next((checked.applied for _, checked in kept if checked.applied is not None), None)
        links = replaces is not None or any(each.repair is Repair.LINK for each, _ in kept)
        # Only the metadata is to be written: fields of which nothing is known are left until the user changes.
        unwritten = user.fields if user is not None and applied is None and links else None
        errand = Errand(
            subject_id=subject_id,
            item=", ".join(sorted({str(each.kind) for each, _ in kept})),
            body=user,
            customers=_each_once([each for _, checked in kept for each in checked.customers]),
            applied=applied,
            unwritten=unwritten,
            replaces=replaces,
        )
        return _Job(subject_id, [each for each, _ in kept], errand, deletes)

    async def _ask(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        held = set(await self._tell([job.errand for job in jobs]))
        for job in jobs:
            job.held = job.subject_id in held
            job.rounds += not job.held

    async def _wait(self, until: int) -> None:
        """Wait for links until so many are under way; ask those again whose turn ended before all was done."""
        idle = 0.0
        while len(self._waiting) > until:
            ids = sorted(self._waiting)
            stand = await self._database.read(lambda connection, ids=ids: standings(connection, ids))  # type: ignore[misc]
            again = []
            idle += _POLL
            for job in list(self._waiting.values()):
                standing = stand.get(job.subject_id)
                became = self._became(job, standing)
                if became is not None:
                    idle = 0.0
                    self._end(job, *became)
                elif job.held or _settled(standing):
                    again.append(job)
            await self._ask(again)
            if idle >= _PATIENCE:
                for job in list(self._waiting.values()):
                    self._end(job, "refused", f"not settled; see counterfoil show {job.subject_id}")
            await asyncio.sleep(_POLL)

    def _end(self, job: _Job, became: str, why: str) -> None:
        del self._waiting[job.subject_id]
        for each in job.findings:
            self._note([each], became, why, job.deletes[each.key])
        self._stage.done += 1

    def _became(self, job: _Job, standing: Standing | None) -> tuple[str, str] | None:
        """``done`` or ``refused``, with the reason; ``None``: it is under way."""
        if standing is None or job.held or not _settled(standing):
            return None
        link = standing.link
        reason = self._lacks(job, standing)
        if reason is None:
            return "done", ""
        if link.parked is not None:
            return "refused", f"parked: {link.parked} {link.last_error or ''}".rstrip()
        return ("refused", reason) if job.rounds >= _ROUNDS else None

    def _lacks(self, job: _Job, standing: Standing) -> str | None:
        """What a settled link has not got of what was asked for."""
        link = standing.link
        if standing.ordered:
            return f"{standing.ordered[0]} could not be dealt with"
        if job.errand.body is None:
            if link.ruling is Ruling.UNDO:
                return "the removal was called off (counterfoil undo)"
            return None if link.deletion is not Deletion.NONE else "the user is there after all"
        if link.deletion is not Deletion.NONE:
            return "the user is gone"
        if link.customer_id is None:
            return "no customer was made: see counterfoil show"
        wanted = next((each.customer_id for each in job.findings if each.customer_id is not None), None)
        if wanted is not None and link.customer_id != wanted:
            return f"the link holds {link.customer_id}"
        if (job.wants(Repair.UPDATE) or job.adopts) and not _in_step(link):
            return "the fields were not written"
        linked = job.wants(Repair.LINK, Repair.CREATE) or job.adopts or job.errand.replaces is not None
        if linked and not self._is_named(link):
            return "the metadata was not written"
        return None

    def _is_named(self, link: Link) -> bool:
        return self._policy.link_back is LinkBack.OFF or own_name(link, self._policy) == link.customer_id

    def _note(self, found: Sequence[Finding], became: str, why: str, deleted: int = 0) -> None:
        notes = [Note(key=each.key, became=became, why=why, deleted=deleted) for each in found]
        self._notes.keep(notes)
        if became == "done":
            self._report.done += len(notes)
        elif became == "skipped":
            self._report.skipped += notes
        else:
            (self._report.person if became == "person" else self._report.refused).extend(notes)


def _each_once(customers: Sequence[CustomerSeen]) -> tuple[CustomerSeen, ...]:
    """What is approved for a customer by one line stands, whatever another line of the subject says of it."""
    ordered = sorted(customers, key=lambda each: each.order is not Order.NONE)
    return tuple({each.customer_id: each for each in ordered}.values())


def _rests_on_an_address(found: Finding) -> bool:
    return found.repair is Repair.CREATE or (found.repair is Repair.ADOPT and found.evidence.get("by") == "email")


def _settled(standing: Standing | None) -> bool:
    return standing is not None and standing.link.dirty_at is None and standing.link.held == 0


def _in_step(link: Link) -> bool:
    return link.applied is not None and difference(wanted_fields(link), link.applied) == Fields()
