"""``counterfoil apply``: carry out the repairs of a plan that a person has read."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from counterfoil.audit import plan_file
from counterfoil.audit.apply import Applier, Report, Tell
from counterfoil.audit.checks import Checks
from counterfoil.audit.plan_file import About, Note, Notes
from counterfoil.audit.progress import Progress
from counterfoil.billing.listing import CustomerLister
from counterfoil.clerk.api import AiohttpTransport
from counterfoil.cli.bars import shown
from counterfoil.cli.local import send
from counterfoil.cli.opened import reading
from counterfoil.cli.output import Exit, JsonOption, configure_logging, explained, plain, print_json, screen
from counterfoil.cli.serve import run
from counterfoil.core.policy import Policy
from counterfoil.engine import pin
from counterfoil.engine.clock import SystemClock
from counterfoil.errors import ConfigurationError, DatabaseBusy
from counterfoil.settings import Settings, load
from counterfoil.store import environment, orders
from counterfoil.store.database import Database
from counterfoil.store.orders import Errand
from counterfoil.store.ownership import Holder, Ownership, holder
from counterfoil.wiring import Outside, Upstreams, connect, real_world, with_settings
from counterfoil.wiring_audit import check_plan, crew_at_work

_SHOWN = 20
"""Skipped and refused lines that are told one by one."""

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
DeletesOption = Annotated[
    int, typer.Option(min=0, help="So many customers may be deleted; those beyond are archived.")
]


def apply(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="The file of counterfoil audit --out.")],
    yes: YesOption = False,
    dry_run: DryOption = False,
    max_deletes: DeletesOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Carry out a plan's repairs, each after it was checked again. Killed, it goes on where it was.

    What is ambiguous is left for a person; nothing with a live subscription is archived or deleted.
    """
    with explained():
        settings = load(receives=False)
        configure_logging("error")
        report = applied(settings, plan, max_deletes, yes=yes, dry_run=dry_run, quiet=as_json)
    if report is None:
        return
    if as_json:
        print_json(report)
    else:
        show(report)
    raise typer.Exit(Exit.FAILED if report.refused else Exit.OK)


def applied(
    settings: Settings, plan: Path, max_deletes: int, *, yes: bool, dry_run: bool, quiet: bool
) -> Report | None:
    """Show, ask, and carry out; ``None``: nothing was to be done, or it was called off."""
    counts = _counted(plan)
    if not quiet:
        _show_plan(plan, counts, max_deletes)
    if dry_run or not sum(count for (_, repair), count in counts.items() if repair):
        return None
    if not yes and (quiet or not typer.confirm("Do it?")):
        screen.print("Nothing was done." + (" With --json, say --yes." if quiet else ""))
        return None
    return run(_apply(settings, plan, max_deletes, quiet=quiet))


def _counted(plan: Path) -> Counter[tuple[str, str]]:
    _, found = plan_file.read(plan)
    return Counter((str(each.kind), str(each.repair or "")) for each in found)


def _show_plan(plan: Path, counts: Counter[tuple[str, str]], max_deletes: int) -> None:
    screen.print(f"[bold]{plan}[/]")
    for (kind, repair), count in counts.items():
        screen.print(f"  {count:>8,} {kind:<10} {_DONE_BY.get(repair, 'left for a person')}")
    if any(repair == "retire" for _, repair in counts):
        limit = f"at most {max_deletes:,} deleted" if max_deletes else "none deleted (--max-deletes)"
        screen.print(f"  Of the customers that go, {limit}, the others archived.")


_DONE_BY = {
    "create": "a customer is created",
    "adopt": "the customer is taken over",
    "update": "Clerk's values are written to the customer",
    "link": "the customer's id is written to Clerk's metadata",
    "retire": "archived, or deleted if nothing is attached",
    "reconcile": "looked at again",
}


@dataclass(frozen=True, slots=True)
class _Hands:
    """Who does it: workers of our own, or a running serve's."""

    database: Database
    upstreams: Upstreams
    policy: Policy
    tell: Tell


async def _apply(settings: Settings, plan: Path, max_deletes: int, *, quiet: bool) -> Report:
    about, found = plan_file.read(plan)
    progress = Progress()
    with Notes(plan) as notes:
        async with shown(progress, quiet=quiet), _hands(settings, about) as (hands, broken):
            stripe = hands.upstreams.stripe
            lister = CustomerLister(stripe, settings.metadata_key)
            checks = Checks(stripe, lister, hands.policy, max_deletes - notes.deleted())
            applier = Applier(
                hands.database, hands.upstreams.clerk, checks, hands.policy, hands.tell, progress, notes
            )
            work = asyncio.create_task(applier.run(found))
            await asyncio.wait({work, broken}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                broken.result()
            return await work


@asynccontextmanager
async def _hands(settings: Settings, about: About) -> AsyncIterator[tuple[_Hands, "asyncio.Task[None]"]]:
    """On SQLite one process writes: a running serve is asked to. Otherwise the workers are our own."""
    owner = holder(settings.database_url)
    if owner is not None:
        async with _served(settings, about, owner) as hands:
            never = asyncio.create_task(_never())
            try:
                yield hands, never
            finally:
                never.cancel()
        return
    with Ownership(settings.database_url):
        async with real_world(settings) as outside, crew_at_work(settings, outside, about) as (crew, tell):
            broken = asyncio.create_task(crew.supervisor.wait())
            try:
                yield _Hands(outside.database, crew.upstreams, crew.context.rules.policy, tell), broken
            finally:
                broken.cancel()


async def _never() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def _served(settings: Settings, about: About, owner: Holder) -> AsyncIterator[_Hands]:
    transport = AiohttpTransport()
    try:
        async with reading(settings.database_url) as database:
            recalled = pin.recall(await database.read(environment.load), settings.metadata_key)
            if recalled is None:
                raise ConfigurationError("the running serve has not come to its first start yet: wait for it")
            check_plan(about, recalled[0], settings)
            upstreams = connect(settings, Outside(database, SystemClock(), transport))

            async def tell(errands: Sequence[Errand]) -> Sequence[str]:
                answer = await send(owner, "apply", orders.encode(errands))
                try:
                    return msgspec.json.decode(answer, type=dict[str, list[str]])["held"]
                except (msgspec.DecodeError, KeyError):
                    raise DatabaseBusy("the running serve is of another release: restart it") from None

            try:
                # Our own keys look at what the serve's keys then change.
                key = settings.stripe_secret_key.get_secret_value()
                pin.compare(recalled[0], await pin.ask(upstreams.clerk, upstreams.stripe, key))
                yield _Hands(database, upstreams, with_settings(recalled[1], settings), tell)
            finally:
                await upstreams.stripe.close()
    finally:
        await transport.close()


def show(report: Report) -> None:
    """The report, for a person."""
    parts = [f"[bold green]{report.done:,} done[/]"]
    parts += [f"{len(report.skipped):,} skipped"] if report.skipped else []
    parts += [f"[bold red]{len(report.refused):,} refused[/]"] if report.refused else []
    parts += [f"{len(report.person):,} left for a person"] if report.person else []
    parts += [f"{report.before:,} by an earlier run"] if report.before else []
    most = "at most " if report.refused else ""
    screen.print(", ".join(parts) + (f"; {most}{report.deleted:,} customers deleted" if report.deleted else ""))
    _show_notes("Skipped, for it has changed meanwhile", report.skipped)
    _show_notes("Refused", report.refused)
    _show_notes("Left for a person", report.person)


def _show_notes(title: str, notes: Sequence[Note]) -> None:
    if not notes:
        return
    screen.print(f"\n[bold]{title}[/]")
    for note in notes[:_SHOWN]:
        text = plain(note.why)
        screen.print(f"  {note.key}: {text}", soft_wrap=True)
    if len(notes) > _SHOWN:
        screen.print(f"  [dim]and {len(notes) - _SHOWN:,} more; the file beside the plan has all[/]")
