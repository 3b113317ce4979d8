"""``counterfoil retry``: have links looked at again."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from counterfoil.cli.db import DatabaseOption
from counterfoil.cli.local import order
from counterfoil.cli.output import JsonOption, explained, print_json, screen
from counterfoil.core.link import ParkReason
from counterfoil.core.subject import user_id
from counterfoil.engine.supervisor import ask_again, retry_all
from counterfoil.settings import database_url
from counterfoil.store.database import Database


def retry(
    subject: Annotated[str | None, typer.Argument(metavar="[USER]", help="The user's id: user_...")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All parked links.")] = False,
    reason: Annotated[ParkReason | None, typer.Option(help="With --all: only those parked for this.")] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Un-park a link, or all of them, and have them looked at now.

    A running serve is asked to; without one, and on PostgreSQL, the links are marked, and serve finds them.
    """
    if (subject is None) == (not everything) or (reason is not None and not everything):
        raise typer.BadParameter("name one user, or --all (with --reason, if you like)")
    with explained():
        subjects = [user_id(subject)] if subject is not None else []
        count = asyncio.run(_retry(database or database_url(), subjects, str(reason or "")))
    if as_json:
        print_json({"retried": count})
    else:
        screen.print(f"{count} {'link is' if count == 1 else 'links are'} looked at again")


async def _retry(url: str, subjects: list[str], reason: str) -> int:
    async def alone(database: Database, since: int, now: int) -> int:
        async def ask(wanted: Sequence[str]) -> int:
            return await database.write(lambda connection: ask_again(connection, wanted, since, now))

        return await ask(subjects) if subjects else await retry_all(database, reason, ask)

    wanted = {"subjects": subjects, "everything": not subjects, "reason": reason}
    return await order(url, "retry", wanted, alone)
