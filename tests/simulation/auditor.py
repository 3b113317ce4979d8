"""Whoever audits both sides and applies the plan, while users come and go; killed, they run it again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from counterfoil.audit import plan_file
from counterfoil.audit.apply import Applier, Report, Tell
from counterfoil.audit.checks import Checks
from counterfoil.audit.examine import examine
from counterfoil.audit.plan_file import About, Note, Notes
from counterfoil.audit.progress import Progress
from counterfoil.audit.workspace import Workspace
from counterfoil.billing.listing import CustomerLister
from counterfoil.core.finding import Finding, Kind
from counterfoil.core.policy import Policy
from counterfoil.engine import pin
from counterfoil.errors import ConfigurationError, CounterfoilError, DatabaseBusy
from counterfoil.sandbox.verdict import Rules
from counterfoil.store import environment, links, orders
from counterfoil.store.orders import Errand
from counterfoil.wiring import Upstreams, connect, with_settings
from counterfoil.wiring_audit import check_plan, crew_at_work, sides_of
from tests.asking import Answered, ask
from tests.simulation.process import Arm, Process
from tests.simulation.watch import ARCHIVED, LINK_BACK, OWNER

if TYPE_CHECKING:
    from tests.simulation.actors import Cast

T = TypeVar("T")
Crash = tuple[str, int, float]
"""Where a command dies, after how many points, and how long until it is run again."""
_FIRST = 100
"""The commands' processes are numbered from here on."""
_AGAIN, _LONGEST = 60.0, 3600.0
"""Seconds until a command that could not go on is run again, at first and in the end."""
_RUNS = 300
_ROUNDS = 3
"""What was for a person may have become plain when other things are in order: so often a plan is made anew."""
_ANSWER = 60.0


class Auditor:
    """Runs what `counterfoil audit --out` and `counterfoil apply` run."""

    def __init__(self, cast: "Cast") -> None:
        self._cast = cast
        self._stage = cast.stage
        self._plans = 0
        self._runs = 0
        self.busy = 0
        """Plans that are under way."""
        self.applies = False
        """A plan was applied, or begun."""

    async def play(self, deletes: int, beside: bool, pause: float, crashes: Sequence[Crash]) -> None:
        """An event: an audit, a pause in which the world goes on, and the plan applied.

        Args:
            deletes: so many customers may be deleted.
            beside: by workers of its own, beside the nodes; otherwise a node is asked to.
            pause: seconds.
            crashes: for the first runs of either command.
        """
        self._stage.chore(self._repair(deletes, pause, list(crashes), beside=beside))

    async def _repair(self, deletes: int, pause: float, crashes: list[Crash], *, beside: bool) -> None:
        self.busy += 1
        try:
            plan = self._plan()
            await self._until_done(lambda process: self._audit(process, plan), crashes)
            await asyncio.sleep(pause)
            report = await self._until_done(
                lambda process: self._apply(process, plan, deletes, beside=beside), crashes
            )
        finally:
            self.busy -= 1
        how = "by workers of its own" if beside else "by a node"
        self._stage.watch.marks[f"a plan was applied {how}"] += 1
        for name in ("done", "skipped", "refused", "person", "before", "deleted"):
            if getattr(report, name):
                self._stage.watch.marks[f"an apply had {name}"] += 1

    def _plan(self) -> Path:
        self._plans += 1
        return self._stage.folder / f"plan{self._plans}.jsonl"

    async def _until_done(self, work: Callable[[Process], Awaitable[T]], crashes: list[Crash]) -> T:
        """Run a command until it ends well; each run is a process of its own."""
        stage = self._stage
        error: BaseException | None = None
        pause = _AGAIN
        while True:
            self._runs += 1
            assert self._runs < _RUNS, f"a command never ends: {error!r}"
            process = stage.begin(Process(stage, _FIRST + self._runs, serves=False))
            away = pause
            if crashes:
                where, left, away = crashes.pop(0)
                process.arms.append(Arm("crash", where, left))
            task = asyncio.ensure_future(work(process))
            process.tasks.add(task)
            await asyncio.wait({task})
            if process.dead:
                stage.watch.marks["a command was killed"] += 1
            else:
                stage.kill(process, None)
                error = task.exception()
                if error is None:
                    return task.result()
                if not isinstance(error, CounterfoilError):
                    raise error
                stage.note(f"{process.name} could not go on: {error!r}")
                stage.watch.marks["a command could not go on"] += 1
                pause = min(2 * pause, _LONGEST)
            await asyncio.sleep(away)

    # The commands.

    async def _audit(self, process: Process, plan: Path, *, database: bool = True) -> list[Finding]:
        settings = self._stage.settings
        upstreams = connect(settings, process.outside)
        sides = await sides_of(settings, process.outside, upstreams, database=database)
        with Workspace(plan.with_name(plan.name + ".work")) as space:
            about = await examine(sides, space, [], Progress())
            found = list(space.findings())
            plan_file.write(plan, about, found)
            space.remove()
        watch = self._stage.watch
        for each in found:
            watch.marks[f"finding: {each.kind}"] += 1
            if each.repair is not None and each.named is not None and each.subject_id is not None:
                watch.approved.add((each.subject_id, each.named))
        return found

    async def _apply(self, process: Process, plan: Path, deletes: int, *, beside: bool) -> Report:
        self.applies = True
        about, found = plan_file.read(plan)
        hands = self._own(process, about) if beside else self._served(process, about)
        with Notes(plan) as notes:
            async with hands as (upstreams, policy, tell):
                stripe = upstreams.stripe
                lister = CustomerLister(stripe, self._stage.settings.metadata_key)
                checks = Checks(stripe, lister, policy, deletes - notes.deleted())
                applier = Applier(process, upstreams.clerk, checks, policy, tell, Progress(), notes)
                return await applier.run(found)

    @asynccontextmanager
    async def _own(self, process: Process, about: About) -> AsyncIterator[tuple[Upstreams, Policy, Tell]]:
        async with crew_at_work(self._stage.settings, process.outside, about) as (crew, tell):
            yield crew.upstreams, crew.context.rules.policy, tell

    @asynccontextmanager
    async def _served(self, process: Process, about: About) -> AsyncIterator[tuple[Upstreams, Policy, Tell]]:
        settings = self._stage.settings
        recalled = pin.recall(await process.read(environment.load), settings.metadata_key)
        if recalled is None:
            raise ConfigurationError("no serve has come to its first start yet")
        check_plan(about, recalled[0], settings)
        yield connect(settings, process.outside), with_settings(recalled[1], settings), self._tell

    async def _tell(self, errands: Sequence[Errand]) -> Sequence[str]:
        """POST to the local API of a node that runs."""
        node = self._cast.process(0)
        if node is None or node.node is None:
            raise DatabaseBusy("no serve runs")
        headers = {"authorization": f"Bearer {node.node.token}"}
        asking = asyncio.create_task(
            ask(node.node.application, "POST", "/v1/apply", headers, body=orders.encode(errands))
        )
        node.tasks.add(asking)
        asking.add_done_callback(node.tasks.discard)
        await asyncio.wait({asking}, timeout=_ANSWER)
        return _held(asking)

    # The end.

    async def tidy_up(self, deletes: int, *, beside: bool) -> None:
        """In peace: what is plain is repaired, and nothing is left then but what is for a person."""
        say = self._stage.watch.say
        for _ in range(_ROUNDS):
            plan = self._plan()
            found = await self._until_done(lambda process, plan=plan: self._audit(process, plan), [])  # type: ignore[misc]
            if all(each.repair is None for each in found):
                return await self.verify(found)
            report = await self._until_done(
                lambda process, plan=plan: self._apply(process, plan, deletes, beside=beside),  # type: ignore[misc]
                [],
            )
            for note in (*report.skipped, *report.refused):
                if not self._taken(note.key, note.why) and not self._made(note):
                    say(f"in peace a line was not carried out: {note}")
        return await self.verify(await self._last_audit(database=True))

    async def verify(self, found: Sequence[Finding] | None = None) -> None:
        """In peace: an audit finds nothing but what is for a person, and the judge of both sides agrees."""
        say = self._stage.watch.say
        found = found if found is not None else await self._last_audit(database=True)
        person = {each.subject_id for each in found}
        for each in found:
            if each.repair is not None and not self._taken(each.key, "claimed"):
                say(f"an audit after the apply still finds {each}")
        for each in await self._last_audit(database=False):
            # What people have moved, and which addresses Stripe does not take, only the database knows.
            if each.repair is not None and each.subject_id not in person and not self._refused(each):
                say(f"an audit without the database still finds {each}")
        self._judge(found)

    async def _last_audit(self, *, database: bool) -> list[Finding]:
        plan = self._plan()
        return await self._until_done(lambda process: self._audit(process, plan, database=database), [])

    def _taken(self, key: str, why: str) -> bool:
        """People have moved the customer to this user, and another's link holds it: that is for them to say."""
        _, subject, *customers = key.split(":")
        holders = (
            self._stage.look(lambda connection, each=each: links.owner_of(connection, each))  # type: ignore[misc]
            for each in customers
        )
        held = "claimed" in why or any(holder not in {None, subject} for holder in holders)
        return held and subject in self._cast.moved

    def _made(self, note: Note) -> bool:
        """The user got a customer, and its name, before it was this line's turn: an app had asked for it."""
        kind, subject, *_ = note.key.split(":")
        user = self._stage.sandbox.clerk.users.get(subject)
        named = user.public_metadata.get(LINK_BACK) if user is not None else None
        live = self._stage.sandbox.stripe.live_customers()
        mine = [each.id for each in live if each.metadata.get(OWNER) == subject and ARCHIVED not in each.metadata]
        return (kind, note.became) == ("missing", "skipped") and mine == [named]

    def _refused(self, found: Finding) -> bool:
        """Only the database knows that Stripe does not take an address."""
        user = self._stage.sandbox.clerk.users.get(found.subject_id or "")
        refuses = self._stage.sandbox.settings.stripe.refuses_email
        return found.kind is Kind.STALE and user is not None and user.email is not None and refuses(user.email)

    def _judge(self, found: Sequence[Finding]) -> None:
        """The sandbox's own judge sees nothing wrong but what the audit has left for a person."""
        person = {each.subject_id or "" for each in found} | {each.customer_id or "" for each in found}
        person |= {user for each in found for user in each.evidence.get("users", ())}
        stage = self._stage
        verdict = stage.sandbox.verdict(stage.time(), Rules(archived_key=ARCHIVED))
        wrong = {*verdict.missing, *verdict.duplicates, *verdict.orphans, *verdict.wrong_archives}
        wrong |= {*verdict.wrong_links, *(each.user for each in verdict.wrong_fields)}
        if wrong - person:
            stage.watch.say(f"the audit is clean, the judge is not: {verdict.as_json(5)}")
        if not found:
            stage.watch.marks["the last audit was clean"] += 1


def _held(asking: "asyncio.Task[Answered]") -> Sequence[str]:
    if not asking.done() or asking.cancelled():
        raise DatabaseBusy("the running serve does not answer")
    if (error := asking.exception()) is not None:
        raise DatabaseBusy("the running serve answered 500") from error
    answer = asking.result()
    if answer.status != 200:
        raise DatabaseBusy(f"the running serve answered {answer.status}")
    return msgspec.json.decode(answer.text, type=dict[str, list[str]])["held"]
