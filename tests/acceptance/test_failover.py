"""The primary of three PostgreSQL servers under Patroni, killed five times in a storm."""

import asyncio
import os
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.sandbox.storm import Storm
from tests.acceptance.node import Serve, serving
from tests.acceptance.storms import RATES, play, settled, stormy
from tests.databases import looking
from tests.patroni import Cluster, cluster

pytestmark = pytest.mark.slow

PEOPLE = int(os.environ.get("PEOPLE", "800"))
SECONDS = 500.0
"""How long the storm would last; it is over when the last failover is, after a third of that."""
WORLD = stormy(29, 0.01)
WHOLE = (False, True, False, True, False)
"""For each kill whether the machine dies, Patroni and all, or PostgreSQL alone."""
BETWEEN = 8.0
"""Seconds for which all three servers are well before the next kill."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One primary's death, in Unix seconds."""

    whole: bool
    at: float


async def kill_primaries(servers: Cluster) -> list[Kill]:
    """Each is killed when the one before has been back as a standby for a while."""
    kills = []
    for whole in WHOLE:
        primary = await servers.whole()
        await asyncio.sleep(BETWEEN)
        kills.append(Kill(whole, time.time()))
        primary.kill(whole=whole)
        await servers.replaced(primary)
        if whole:
            primary.start()
    await servers.whole()
    return kills


def acknowledged(sandbox: Sandbox) -> dict[str, float]:
    """When each delivery was first answered 2xx, by its id."""
    known = sandbox.svix.messages()
    return {each.id: each.delivered_at for each in known if each.delivered_at is not None}


def tell(kills: list[Kill], answered: list[float], end: float) -> None:
    """Print how long nothing was answered 2xx in the storm: at most, and from each kill to the next."""
    moments = [*(at for at in answered if at < end), end]
    silences = list(pairwise(moments))
    each = [
        f"{'its machine' if kill.whole else 'PostgreSQL'} "
        f"{max((b - a for a, b in silences if kill.at < b <= until), default=until - kill.at):.1f} s"
        for kill, until in zip(kills, [*(kill.at for kill in kills[1:]), end], strict=True)
    ]
    longest = max(b - a for a, b in silences)
    print(f"\nlongest time without a 2xx: {longest:.1f} s (what was killed: {', '.join(each)})")


@pytest.mark.timeout(900)
async def test_five_failovers_in_a_storm_lose_nothing_acknowledged_and_double_nothing(tmp_path: Path) -> None:
    sandbox = Sandbox(WORLD)
    sandbox.lift_limits()
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(cluster())
        with psycopg.connect(servers.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE app")
        url = servers.url("app")
        base = await stack.enter_async_context(serve_sandbox(sandbox))
        nodes: list[Serve] = []
        for number, role in enumerate(("worker", "worker", "receiver", "receiver")):
            folder = tmp_path / f"node-{number}"
            folder.mkdir()
            serve = Serve(folder, WORLD, base, DATABASE_URL=url, **RATES)
            await stack.enter_async_context(serving(serve, "--role", role))
            nodes.append(serve)
        for serve in nodes:
            await serve.ready(120.0)
        async with AsyncExitStack() as couriers:
            for serve in nodes[2:]:
                courier = Courier(sandbox.svix, f"{serve.url}/webhooks/clerk")
                await couriers.enter_async_context(courier)
            storm = asyncio.create_task(
                play(Storm(seed=29, sign_ups=PEOPLE, seconds=SECONDS, deletions=PEOPLE // 10), sandbox)
            )
            kills = await kill_primaries(servers)
            ended = time.time()
            assert storm.cancel(), "the storm was over before the last failover"
            sandbox.calm()
            await settled(sandbox, url, patience=400)
        # Nobody restarted a node: each came through all of it.
        assert [serve.process.returncode for serve in nodes if serve.process is not None] == [None] * len(nodes)
        answered = acknowledged(sandbox)
        tell(kills, sorted(answered.values()), ended)
        with looking(url) as connection:
            taken = connection.execute("SELECT detail::json ->> 'delivery' FROM journal WHERE kind = 'news'")
            lost = answered.keys() - {row[0] for row in taken}
            rows = connection.execute("SELECT subject_id FROM link_rows WHERE deleted_at IS NULL")
            known = {row[0] for row in rows}
    assert not lost
    verdict = sandbox.verdict(time.time())
    assert verdict.clean, verdict.as_json()
    assert {user.id for user in sandbox.clerk.live_users()} == known
