"""A base backup of PostgreSQL from the midst of a storm, put in the server's place after it."""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import psycopg
import pytest

from counterfoil.engine.sweep import SWEEP_EVERY, WALK_ENDED
from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.sandbox.storm import Storm
from tests.acceptance.node import Serve, serving
from tests.acceptance.storms import RATES, play, settled, stormy, unsettled
from tests.cli.support import process, until
from tests.databases import looking
from tests.postgresql import Own, Server, own

pytestmark = pytest.mark.slow

PEOPLE = int(os.environ.get("PEOPLE", "200"))
SECONDS = 50.0
WORLD = stormy(31, 0.01)
LATE = 5
KEY = "clerkUserId"


def a_day_passes(url: str) -> None:
    """Sweep and walk are due, as they will be within a day."""
    with psycopg.connect(url, options="-c search_path=counterfoil") as connection:
        connection.execute(
            "UPDATE environment SET value = (value::bigint - %s)::text WHERE key = 'swept_to'", [SWEEP_EVERY]
        )
        connection.execute("DELETE FROM environment WHERE key = %s", [WALK_ENDED])


def come_and_go(sandbox: Sandbox, people: int) -> None:
    """Some leave and some sign up whose deliveries nobody keeps."""
    for user in list(sandbox.clerk.live_users())[:people]:
        sandbox.clerk.delete_user(time.time(), user.id, silent=True)
    for number in range(people):
        sandbox.clerk.create_user(time.time(), email=f"late{number}@example.com", silent=True)


def owners(sandbox: Sandbox) -> dict[str, str]:
    """Whose each customer is that is there."""
    return {each.id: each.metadata[KEY] for each in sandbox.stripe.live_customers() if KEY in each.metadata}


async def walked(url: str) -> bool:
    with looking(url) as connection:
        return connection.execute(f"SELECT 1 FROM environment WHERE key = '{WALK_ENDED}'").fetchone() is not None


async def put_back(server: Own, url: str, folder: Path) -> None:
    """What the how-to says to do while no node runs."""
    server.stop()
    server.put_back()
    server.start()
    checked = await process(folder, "db", "check", DATABASE_URL=url)
    assert checked.code == 0, checked.err
    print(f"in the backup {unsettled(url)} links are not settled")
    a_day_passes(url)


@pytest.mark.timeout(1500)
async def test_a_base_backup_from_the_midst_of_a_storm_makes_no_second_customer(tmp_path: Path) -> None:
    sandbox = Sandbox(WORLD)
    sandbox.lift_limits()
    async with AsyncExitStack() as stack:
        server = stack.enter_context(own(durable=True))
        database = Server(server.admin)
        url = database.empty()
        database.close()
        base = await stack.enter_async_context(serve_sandbox(sandbox))
        nodes: list[Serve] = []
        for number in range(2):
            folder = tmp_path / f"node-{number}"
            folder.mkdir()
            serve = Serve(folder, WORLD, base, DATABASE_URL=url, **RATES)
            await stack.enter_async_context(serving(serve))
            nodes.append(serve)
        for serve in nodes:
            await serve.ready(120.0)
            await stack.enter_async_context(Courier(sandbox.svix, f"{serve.url}/webhooks/clerk"))
        people = Storm(seed=31, sign_ups=PEOPLE, seconds=SECONDS, deletions=PEOPLE // 5)
        storm = asyncio.create_task(play(people, sandbox))
        await asyncio.sleep(SECONDS / 2)
        await asyncio.to_thread(server.back_up)
        signed_up, left = set(sandbox.clerk.users), set(sandbox.clerk.gone)
        assert not storm.done(), "the backup took longer than the storm"
        await storm
        sandbox.calm()
        # Not when all is settled: what was taken and is not yet done is lost too.
        for serve in nodes:
            assert await serve.end(signal.SIGTERM) == 0, serve.log.read_text()[-2000:]
        come_and_go(sandbox, LATE)
        before, forgotten = owners(sandbox), len(set(sandbox.clerk.users) - signed_up)
        print(f"\nsince the backup {forgotten} signed up, {len(set(sandbox.clerk.gone) - left)} left")
        began = time.monotonic()
        await put_back(server, url, tmp_path)
        for serve in nodes:
            await serve.start()
        await until(partial(walked, url), 120.0)
        # Who left and was not told of is believed gone ten minutes after the last change (decision 0069).
        await settled(sandbox, url, patience=900)
        print(f"in step {time.monotonic() - began:.0f} s after the restore began")
    verdict = sandbox.verdict(time.time())
    assert verdict.clean, verdict.as_json()
    again = {user for customer, user in owners(sandbox).items() if customer not in before}
    assert not again & set(before.values())
    assert len(again) >= LATE
