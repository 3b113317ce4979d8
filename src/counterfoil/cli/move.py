"""``counterfoil move``: from SQLite to PostgreSQL."""

from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from counterfoil.cli.output import JsonOption, errors, explained, print_json, screen
from counterfoil.errors import ConfigurationError, DatabaseOutdated
from counterfoil.settings import database_schema
from counterfoil.store.engine import connect, parse
from counterfoil.store.move import Move, Report
from counterfoil.store.ownership import Ownership, sqlite_path


def move(
    source: Annotated[str, typer.Option("--from", metavar="URL", help="The database as it is: sqlite:///...")],
    target: Annotated[str, typer.Option("--to", metavar="URL", help="Where it shall be: postgresql://...")],
    as_json: JsonOption = False,
) -> None:
    """Move everything to PostgreSQL; stop serve first. Interrupted, the same command goes on where it was.

    The copy is compared with its source, row for row, before it counts. Then the source is marked as moved, and no
    command uses it any more; only then may the target be used.
    """
    with explained():
        _check(source, target)
        with Ownership(source):
            report = _move(source, target)
    if as_json:
        print_json(report)
        return
    counts = ", ".join(f"{rows:,} {name.replace('_', ' ')}" for name, rows in report.rows.items())
    screen.print(f"moved: {counts}")
    if report.again:
        screen.print("the source had been used since the first attempt, so it was copied anew")
    screen.print("now set DATABASE_URL to the new database and start serve; the old file will not be used again")


def _check(source: str, target: str) -> None:
    path = sqlite_path(source)
    if path is None:
        raise ConfigurationError("--from: a file of SQLite, as in sqlite:///counterfoil.db (between two databases "
                                 "of PostgreSQL, pg_dump does it)")  # fmt: skip
    if not path.exists():
        raise DatabaseOutdated(f"{path} does not exist")
    if parse(target).get_backend_name() == "sqlite":
        raise ConfigurationError("--to: a database of PostgreSQL, as in postgresql://user:password@host/name (a "
                                 "file of SQLite can be copied while serve is stopped)")  # fmt: skip


def _move(source: str, target: str) -> Report:
    here, there = connect(source), connect(target, database_schema())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=errors, transient=True) as progress:
            task = progress.add_task("copying", total=None)
            return Move(
                here,
                there,
                lambda what, done, total: progress.update(task, description=what, completed=done, total=total),
            ).run()
    finally:
        here.dispose()
        there.dispose()
