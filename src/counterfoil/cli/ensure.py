"""``counterfoil ensure``: a user's customer, made now if there is none yet."""

import asyncio
from typing import Annotated

import typer

from counterfoil.cli.db import DatabaseOption
from counterfoil.cli.output import JsonOption, explained, print_json, screen
from counterfoil.client import ensure_customer
from counterfoil.core.subject import user_id
from counterfoil.errors import DatabaseBusy
from counterfoil.settings import database_url
from counterfoil.store.ownership import holder


def ensure(
    subject: Annotated[str, typer.Argument(metavar="USER", help="The user's id: user_...")],
    timeout: Annotated[int, typer.Option(min=0, max=10, help="Seconds to wait for a customer to be made.")] = 10,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the id of a user's customer, and have one made if there is none.

    It asks the running serve, which must be there.
    """
    with explained():
        customer_id = asyncio.run(_ensure(database or database_url(), user_id(subject), timeout))
    if as_json:
        print_json({"customer_id": customer_id})
    else:
        screen.print(customer_id)


async def _ensure(url: str, subject_id: str, timeout: int) -> str:
    owner = holder(url)
    if owner is None or not owner.address:
        raise DatabaseBusy(
            "no serve runs on this database: start `counterfoil serve`, which makes customers"
            if owner is None
            else f"process {owner.pid} owns the database, and it is no serve: try again when it has ended"
        )
    return await ensure_customer(subject_id, url=owner.address, token=owner.token, timeout=timeout)
