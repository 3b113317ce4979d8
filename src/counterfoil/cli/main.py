"""``counterfoil``: keeps exactly one Stripe customer matched to every Clerk user."""

from typing import Annotated

import typer

from counterfoil import __version__
from counterfoil.cli import (
    apply,
    audit,
    backfill,
    check,
    db,
    demo,
    ensure,
    move,
    release,
    retry,
    sandbox,
    serve,
    show,
    status,
    undo,
)

app = typer.Typer(
    name="counterfoil",
    help="Keeps exactly one Stripe customer matched to every Clerk user.",
    epilog=(
        "Exit codes: 0 fine · 1 something is not right · 2 wrong usage · 3 settings · 4 another environment · "
        "5 database · 6 Clerk or Stripe does not answer · 7 not done yet."
    ),
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"counterfoil {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keeps exactly one Stripe customer matched to every Clerk user."""


_COMMANDS = (
    serve.serve,
    demo.demo,
    check.check,
    audit.audit,
    apply.apply,
    backfill.backfill,
    status.status,
    show.show,
    retry.retry,
    undo.undo,
    release.release,
    ensure.ensure,
    move.move,
    sandbox.sandbox,
)
for command in _COMMANDS:
    app.command()(command)
app.add_typer(db.app, name="db")
