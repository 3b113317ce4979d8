"""``counterfoil backfill``: customers for users who have none, and links for those that lack them."""

import time
from pathlib import Path
from typing import Annotated

import typer

from counterfoil.audit import plan_file
from counterfoil.audit.mapping import read_mapping
from counterfoil.audit.plan_file import Notes
from counterfoil.cli.apply import DryOption, YesOption, applied
from counterfoil.cli.apply import show as show_report
from counterfoil.cli.audit import MapOption, Wanted, audited
from counterfoil.cli.output import Exit, JsonOption, configure_logging, explained, print_json, screen
from counterfoil.cli.serve import run
from counterfoil.core.finding import Kind
from counterfoil.core.policy import HOUR
from counterfoil.errors import ConfigurationError
from counterfoil.settings import load

KINDS = frozenset({Kind.MISSING, Kind.UNLINKED})


def _is_fresh(plan: Path) -> bool:
    """Whether there is a plan that a backfill was killed over, and that still tells enough about now.

    Raises:
        ConfigurationError: it is no backfill's plan, or another run works on it.
    """
    if not plan.exists():
        return False
    about, found = plan_file.read(plan)
    if any(each.kind not in KINDS for each in found):
        raise ConfigurationError(f"{plan} is not a backfill's plan: apply it, or name another file with --out")
    with Notes(plan) as notes:
        # What was refused is not tried again by its plan: it is found anew.
        refused = any(each.became == "refused" for each in notes.all())
    return not refused and time.time() * 1000 - about.at < 6 * HOUR


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
        # A plan that is there may have been made without this mapping file.
        if not _is_fresh(out) or mapping is not None:
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
