"""What changes something: a running serve is asked to do it; without one the command does it alone."""

import time
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
import msgspec

from counterfoil.cli.opened import reading
from counterfoil.errors import DatabaseBusy
from counterfoil.store import environment
from counterfoil.store.database import Database
from counterfoil.store.ownership import Holder, Ownership, holder

Alone = Callable[[Database, int, int], Awaitable[int]]
"""Does the work on the database itself: given that, the first start, and the time (both ms)."""


async def order(url: str, what: str, wanted: Mapping[str, object], alone: Alone) -> int:
    """Have something done, and return to how many links.

    Args:
        url: the database's.
        what: the order's name in the local API, as in ``/v1/retry``.
        wanted: what the local API is sent.
        alone: what is done without a running serve; the next one begins with its result.

    Raises:
        DatabaseBusy: another process owns the database, and does not do it.
        DatabaseOutdated: there is no database of this release.
    """
    owner = holder(url)
    if owner is not None:
        return await _ask(owner, what, wanted)
    with Ownership(url):
        async with reading(url) as database:
            since = int((await database.read(environment.load)).get("since", "0"))
            return await alone(database, since, time.time_ns() // 1_000_000)


async def _ask(owner: Holder, what: str, wanted: Mapping[str, object]) -> int:
    """Ask the running serve, over its local API; it answers a number under one name."""
    answer = await send(owner, what, msgspec.json.encode(wanted))
    (count,) = msgspec.json.decode(answer, type=dict[str, int]).values()
    return count


async def send(owner: Holder, what: str, body: bytes) -> bytes:
    """POST to a running serve's local API.

    Raises:
        DatabaseBusy: whoever owns the database is no serve, or does not answer.
    """
    if not owner.address:
        raise DatabaseBusy(f"process {owner.pid} owns the database: try again when it has ended")
    headers = {"authorization": f"Bearer {owner.token}"}
    timeout = aiohttp.ClientTimeout(total=60)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{owner.address}/v1/{what}", data=body, headers=headers) as answer,
        ):
            if answer.status != 200:
                raise DatabaseBusy(f"the running serve answered {answer.status}")
            return await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DatabaseBusy(
            f"the running serve (process {owner.pid}, {owner.address}) does not answer: {type(error).__name__}"
        ) from error
