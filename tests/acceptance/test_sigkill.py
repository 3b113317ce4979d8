"""A real process, killed again and again in a storm."""

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.sandbox.storm import Storm
from tests.acceptance.node import Serve
from tests.acceptance.storms import play, settled, stormy
from tests.databases import Home, PostgresqlHome, SqliteHome, looking
from tests.postgresql import server

KILLS = 30
PEOPLE = 240
SECONDS = 60.0
WORLD = stormy(11, 0.05)


async def _kill_and_restart(serve: Serve) -> None:
    dice = random.Random(11)
    for _ in range(KILLS):
        # Anywhere: at the start, in the first scan, in mid-turn.
        await asyncio.sleep(dice.uniform(0.3, 3.2))
        assert await serve.end(signal.SIGKILL) == -signal.SIGKILL
        await serve.start()


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """Databases that sync to the disk, as those in real use do: only the node is killed, the server lives."""
    if request.param == "sqlite":
        yield SqliteHome(tmp_path, request.getfixturevalue("sqlite_template"))
        return
    with server(durable=True) as made:
        durable = PostgresqlHome(made)
        yield durable
        durable.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_thirty_kills_in_a_storm_lose_nothing_and_double_nothing(tmp_path: Path, home: Home) -> None:
    url = home.empty()
    sandbox = Sandbox(WORLD)
    sandbox.lift_limits()
    async with serve_sandbox(sandbox) as base:
        # Half a lease is waited for after each kill; the rates are lifted, for limits are not the matter here.
        serve = Serve(
            tmp_path,
            WORLD,
            base,
            DATABASE_URL=url,
            COUNTERFOIL_STRIPE_RATE="500",
            COUNTERFOIL_STRIPE_ENDPOINT_RATE="500",
            COUNTERFOIL_CLERK_RATE="500",
            COUNTERFOIL_QUIET="2s",
        )
        await serve.start()
        await serve.ready()
        async with Courier(sandbox.svix, f"{serve.url}/webhooks/clerk"):
            await asyncio.gather(
                play(Storm(seed=11, sign_ups=PEOPLE, seconds=SECONDS, deletions=40), sandbox),
                _kill_and_restart(serve),
            )
            sandbox.calm()
            await serve.ready()
            await settled(sandbox, url, patience=200)
        assert await serve.end(signal.SIGTERM) == 0
    verdict = sandbox.verdict(time.time())
    assert verdict.clean, verdict.as_json()
    accepted = {user.id for user in sandbox.clerk.live_users()}
    with looking(url) as connection:
        known = {row[0] for row in connection.execute("SELECT subject_id FROM link_rows WHERE deleted_at IS NULL")}
    assert accepted == known
