"""``counterfoil backfill``: customers for users who have none, and links for those that lack them."""

import time
from pathlib import Path
from typing import Annotated

import typer

from counterfoil.audit import plan_file
from counterfoil.audit.mapping import read_mapping
from counterfoil.cli.apply import DryOption, YesOption, applied
from counterfoil.cli.apply import show as show_report
from counterfoil.cli.audit import MapOption, Wanted, audited
from counterfoil.cli.output import Exit, JsonOption, configure_logging, explained, print_json, screen
from counterfoil.cli.serve import run
from counterfoil.core.finding import Kind
from counterfoil.core.policy import HOUR
from counterfoil.settings import load

KINDS = frozenset({Kind.MISSING, Kind.UNLINKED})


def _is_fresh(plan: Path) -> bool:
    """Whether there is a plan that a backfill was killed over, and that still tells enough about now."""
    return plan.exists() and time.time() * 1000 - plan_file.read(plan)[0].at < 6 * HOUR


def backfill(
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the plan is kept; one that is there is gone on with.")
    ] = Path("backfill.jsonl"),
    mapping: MapOption = None,
    yes: YesOption = False,
    dry_run: DryOption = False,
    as_json: JsonOption = False,
) -> None:
    """Audit for users without a customer and for metadata that does not name it, then apply.

    Goes in the bulk lane: whoever signs up meanwhile goes first. Killed, it goes on where it was.
    """
    with explained():
        settings = load(receives=False)
        configure_logging("error")
        if not _is_fresh(out):
            out.unlink(missing_ok=True)
            pairs = read_mapping(mapping) if mapping is not None else []
            run(audited(settings, Wanted(out=out, kinds=KINDS, mapping=pairs, quiet=as_json)))
        report = applied(settings, out, 0, yes=yes, dry_run=dry_run, quiet=as_json)
        if report is None:
            if not as_json:
                screen.print("[dim]Nothing was changed.[/]")
            return
        if not report.refused:
            out.unlink()
    if as_json:
        print_json(report)
    else:
        show_report(report)
    raise typer.Exit(Exit.FAILED if report.refused else Exit.OK)
