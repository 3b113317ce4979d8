"""``counterfoil retry``: have links looked at again."""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated

import aiohttp
import msgspec
import typer

from counterfoil.cli.db import DatabaseOption
from counterfoil.cli.opened import reading
from counterfoil.cli.output import JsonOption, explained, print_json, screen
from counterfoil.core.link import ParkReason
from counterfoil.core.subject import user_id
from counterfoil.engine.supervisor import ask_again, retry_all
from counterfoil.errors import DatabaseBusy
from counterfoil.settings import database_url
from counterfoil.store import environment
from counterfoil.store.ownership import Holder, Ownership, holder


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
    owner = holder(url)
    if owner is not None:
        return await _ask(owner, subjects, reason)
    with Ownership(url):
        async with reading(url) as database:
            now = time.time_ns() // 1_000_000
            since = int((await database.read(environment.load)).get("since", "0"))

            async def ask(wanted: Sequence[str]) -> int:
                return await database.write(lambda connection: ask_again(connection, wanted, since, now))

            return await ask(subjects) if subjects else await retry_all(database, reason, ask)


async def _ask(owner: Holder, subjects: list[str], reason: str) -> int:
    """Ask the running serve, over its local API."""
    if not owner.address:
        raise DatabaseBusy(f"process {owner.pid} owns the database: try again when it has ended")
    wanted = {"subjects": subjects, "everything": not subjects, "reason": reason}
    headers = {"authorization": f"Bearer {owner.token}"}
    timeout = aiohttp.ClientTimeout(total=60)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{owner.address}/v1/retry", data=msgspec.json.encode(wanted), headers=headers) as answer,
        ):
            body = msgspec.json.decode(await answer.read())
            if answer.status != 200:
                raise DatabaseBusy(f"the running serve answered {answer.status}")
            return int(body["retried"])
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
        raise DatabaseBusy(
            f"the running serve (process {owner.pid}, {owner.address}) does not answer: {type(error).__name__}"
        ) from error
