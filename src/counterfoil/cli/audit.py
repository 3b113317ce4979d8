"""``counterfoil audit``: how both sides differ, with nothing but two keys; nothing is written outside."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from counterfoil.audit import plan_file
from counterfoil.audit.examine import examine
from counterfoil.audit.mapping import read_mapping
from counterfoil.audit.plan_file import About
from counterfoil.audit.progress import Progress
from counterfoil.audit.report import write_report
from counterfoil.audit.summary import MEANING, Summary, summarise
from counterfoil.audit.workspace import Workspace
from counterfoil.clerk.api import AiohttpTransport
from counterfoil.cli.bars import shown
from counterfoil.cli.opened import reading
from counterfoil.cli.output import Exit, JsonOption, configure_logging, explained, plain, print_json, screen
from counterfoil.cli.serve import run
from counterfoil.core.finding import Finding, Kind
from counterfoil.engine.clock import SystemClock
from counterfoil.settings import Settings, load
from counterfoil.store.database import InlineDatabase
from counterfoil.store.ownership import sqlite_path
from counterfoil.store.upgrade import versions
from counterfoil.wiring import Outside, connect, peers_of
from counterfoil.wiring_audit import sides_of

DRIFT = 2
"""The exit code for findings. (1: the audit itself failed.)"""

_SHOWN = 5
"""Users of the mapping file that are told one by one."""

MapOption = Annotated[
    Path | None, typer.Option("--map", metavar="FILE", help="CSV of user,customer: whose a customer is.")
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an audit is to do and to leave behind."""

    out: Path | None = None
    html: Path | None = None
    kinds: frozenset[Kind] | None = None
    """The findings that go into the plan; ``None``: all."""
    mapping: Sequence[tuple[str, str]] = ()
    quiet: bool = False


def audit(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the plan, for `counterfoil apply`.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report to look at in a browser.")
    ] = None,
    mapping: MapOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare Clerk and Stripe: who has no customer, who has several, whose is gone, what differs.

    Reads only, and needs neither a webhook nor a database: CLERK_SECRET_KEY and STRIPE_SECRET_KEY. Ends with 0 if
    all is in step, 2 if not, 1 if it could not tell.
    """
    with explained(Exit.FAILED):
        settings = load(receives=False)
        configure_logging("error")
        pairs = read_mapping(mapping) if mapping is not None else []
        wanted = Wanted(out=out, html=html, mapping=pairs, quiet=as_json)
        summary = run(audited(settings, wanted))
    if as_json:
        print_json(summary.as_json())
    else:
        show(summary, out, html)
    raise typer.Exit(Exit.OK if summary.clean else DRIFT)


async def audited(settings: Settings, wanted: Wanted) -> Summary:
    """An audit, from both sides to the files it leaves."""
    progress = Progress()
    beside = wanted.out or wanted.html
    folder = beside.with_name(beside.name + ".work") if beside is not None else None
    async with _world(settings) as (outside, database):
        upstreams = connect(settings, outside)
        try:
            sides = await sides_of(settings, outside, upstreams, database=database)
            with Workspace(folder) as space:
                async with shown(progress, quiet=wanted.quiet):
                    about = await examine(sides, space, wanted.mapping, progress)
                summary = summarise(space, about)
                _leave(space, about, summary, wanted)
                space.remove()
        finally:
            await upstreams.stripe.close()
    return summary


@asynccontextmanager
async def _world(settings: Settings) -> AsyncIterator[tuple[Outside, bool]]:
    """The network, and the database if there is one."""
    transport = AiohttpTransport()
    try:
        if await _is_there(settings):
            async with reading(settings.database_url) as database, peers_of(settings) as peers:
                yield Outside(database, SystemClock(), transport, peers=peers), True
        else:
            yield Outside(InlineDatabase("sqlite://"), SystemClock(), transport), False
    finally:
        await transport.close()


async def _is_there(settings: Settings) -> bool:
    """Whether serve, or an apply, has made a database yet."""
    path = sqlite_path(settings.database_url)
    if path is not None and not path.exists():
        return False
    database = InlineDatabase(settings.database_url, settings.database_schema)
    try:
        return (await database.read(versions))[0] is not None
    finally:
        await database.close()


def _leave(space: Workspace, about: About, summary: Summary, wanted: Wanted) -> None:
    if wanted.out is not None:
        kinds = wanted.kinds
        found = (each for each in space.findings() if kinds is None or each.kind in kinds)
        plan_file.write(wanted.out, about, found)
    if wanted.html is not None:
        write_report(wanted.html, summary, space)


def show(summary: Summary, out: Path | None, html: Path | None) -> None:
    """The summary, for a person."""
    mode = "live" if summary.about.livemode else "test"
    about = summary.about
    screen.print(
        f"[bold]{summary.users:,}[/] users of {about.clerk_instance}, "
        f"[bold]{summary.customers:,}[/] customers of {about.stripe_account} ({mode} mode); "
        f"{summary.strangers:,} of them name no user",
        soft_wrap=True,
    )
    if summary.unheeded:
        some = ", ".join(summary.unheeded[:_SHOWN]) + (", ..." if len(summary.unheeded) > _SHOWN else "")
        screen.print(
            f"[yellow]{len(summary.unheeded):,} users of the mapping file are not there, or another customer names"
            f" them already[/]: {some}",
            soft_wrap=True,
        )
    if not summary.rows:
        screen.print("[bold green]All is in step.[/]")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("finding", "how many", "for a person", "subscribed", "recent"):
        table.add_column(name, justify="left" if name == "finding" else "right")
    table.add_column("")
    for row in summary.rows:
        style = "red" if row.count > row.recent else "yellow"
        table.add_row(
            f"[{style}]{row.kind}[/]",
            *(f"{number:,}" if number else "" for number in (row.count, row.person, row.subscribed, row.recent)),
            f"[dim]{MEANING[row.kind]}[/]",
        )
    screen.print(table)
    screen.print("\n[bold]The worst[/]")
    for each in summary.worst:
        screen.print(_line(each), soft_wrap=True)
    if summary.total > len(summary.worst):
        screen.print(f"[dim]and {summary.total - len(summary.worst):,} more[/]")
    if html is not None:
        screen.print(f"\nThe report: {html}")
    if out is not None:
        screen.print(f"The plan: {out}. Read it, then: counterfoil apply {out}", soft_wrap=True)
    elif summary.total:
        screen.print("\nNothing was changed. `counterfoil audit --out plan.jsonl` writes a plan to apply.")


def _line(found: Finding) -> str:
    about = " ".join(filter(None, [found.subject_id, found.customer_id]))
    subscribed = " [bold](subscribed)[/]" if found.subscribed else ""
    person = "" if found.repair is not None else " [dim](for a person)[/]"
    why = plain(found.why)
    return f"  [red]{found.kind}[/] {about}{subscribed}: {why}{person}"
