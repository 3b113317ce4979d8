"""``counterfoil undo``: call a removal off."""

import asyncio
from typing import Annotated

import typer

from counterfoil.cli.db import DatabaseOption
from counterfoil.cli.local import order
from counterfoil.cli.output import Exit, JsonOption, errors, explained, print_json, screen
from counterfoil.core.link import Ruling
from counterfoil.core.subject import user_id
from counterfoil.engine.deletions import rule
from counterfoil.settings import database_url
from counterfoil.store.database import Database


def undo(
    subject: Annotated[str, typer.Argument(metavar="USER", help="The deleted user's id: user_...")],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Call off the removal of a deleted user's customer: it stays in Stripe, and an archived one is restored.

    A running serve is asked to; without one the link is marked, and the next serve begins with it.
    """
    with explained():
        count = asyncio.run(_undo(database or database_url(), [user_id(subject)]))
    if as_json:
        print_json({"undone": count})
    elif count:
        screen.print("the customer stays")
    else:
        errors.print("nothing to call off: the user is not deleted, or the customer is gone already")
    if not count:
        raise typer.Exit(Exit.FAILED)


async def _undo(url: str, subjects: list[str]) -> int:
    async def alone(database: Database, since: int, now: int) -> int:
        return await database.write(lambda connection: rule(connection, subjects, Ruling.UNDO, since, now))

    return await order(url, "undo", {"subjects": subjects}, alone)
