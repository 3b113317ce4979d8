"""``counterfoil release``: let a removal go on, or all that the deletion breaker holds."""

import asyncio
from functools import partial
from typing import Annotated

import typer

from counterfoil.cli.db import DatabaseOption
from counterfoil.cli.local import order
from counterfoil.cli.output import Exit, JsonOption, errors, explained, print_json, screen
from counterfoil.core.link import Ruling
from counterfoil.core.subject import user_id
from counterfoil.engine.deletions import release_deletions, rule
from counterfoil.settings import database_url
from counterfoil.store.database import Database

DELETIONS = "deletions"


def release(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="deletions, or one deleted user's id: user_...")],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let removals go on: one user's, whatever is subscribed; or all that the deletion breaker holds.

    With `deletions` every held user is first read from Clerk: who is there after all keeps the customer.
    A running serve is asked to; without one the links are marked, and the next serve begins with them.
    """
    with explained():
        subjects = [] if what == DELETIONS else [user_id(what)]
        count = asyncio.run(_release(database or database_url(), subjects))
    if as_json:
        print_json({"released": count})
    elif not count:
        errors.print(
            "nothing to release: "
            + ("the user is not deleted, or the customer is gone already" if subjects else "no removal is held")
        )
    elif subjects:
        screen.print("the removal goes on")
    else:
        screen.print(
            f"{count} {'user is' if count == 1 else 'users are'} read from Clerk, and who is gone is removed"
        )
    if not count:
        raise typer.Exit(Exit.FAILED)


async def _release(url: str, subjects: list[str]) -> int:
    async def alone(database: Database, since: int, now: int) -> int:
        if not subjects:
            return await database.write(partial(release_deletions, now=now))
        return await database.write(lambda connection: rule(connection, subjects, Ruling.RELEASE, since, now))

    return await order(url, "release", {"subjects": subjects, "deletions": not subjects}, alone)
