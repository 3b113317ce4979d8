"""Three receivers and three workers, as processes on one PostgreSQL through PgBouncer, killed in a storm."""

import asyncio
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from counterfoil.sandbox.calls import Call
from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.sandbox.storm import Storm
from tests import pgbouncer
from tests.acceptance.node import Serve
from tests.acceptance.storms import RATES, play, settled, stormy
from tests.databases import PostgresqlHome, looking
from tests.postgresql import server

pytestmark = pytest.mark.slow

PEOPLE = int(os.environ.get("PEOPLE", "3000"))
SECONDS = 150.0
KILL_EVERY = 5.0
WORLD = stormy(23, 0.05)
NO_KEYS = {"CLERK_SECRET_KEY": "", "STRIPE_SECRET_KEY": ""}


class Balancer:
    """Sends deliveries to the receivers that run, as whatever stands before them in real use does."""

    def __init__(self, nodes: Sequence[tuple[Serve, str]]) -> None:
        self._ways = {serve: f"{serve.url}/webhooks/clerk" for serve, role in nodes if role == "receiver"}
        self._up = list(self._ways)
        self.couriers: list[Courier] = []

    def down(self, serve: Serve) -> None:
        self._up = [each for each in self._up if each is not serve]
        self._route()

    async def up(self, serve: Serve) -> None:
        if serve in self._ways:
            await serve.ready(120.0)
            self.down(serve)
            self._up.append(serve)
            self._route()

    def _route(self) -> None:
        for number, courier in enumerate(self.couriers if self._up else []):
            courier.url = self._ways[self._up[number % len(self._up)]]


async def kill_and_restart(nodes: Sequence[tuple[Serve, str]], balancer: Balancer, killed: list[float]) -> None:
    dice = random.Random(23)
    end = time.monotonic() + SECONDS
    async with asyncio.TaskGroup() as starting:
        coming: dict[Serve, asyncio.Task[None]] = {}
        while time.monotonic() < end:
            await asyncio.sleep(KILL_EVERY)
            serve, role = dice.choice(nodes)
            if serve in coming:
                coming.pop(serve).cancel()
            assert await serve.end(signal.SIGKILL) == -signal.SIGKILL, serve.log.read_text()[-2000:]
            killed.append(time.time())
            balancer.down(serve)
            await serve.start("--role", role)
            coming[serve] = starting.create_task(balancer.up(serve))


def owners(sandbox: Sandbox) -> dict[str, str]:
    """Whose each customer is or was."""
    return {each.id: each.metadata.get("clerkUserId", "") for each in sandbox.stripe.customers.values()}


def overlaps(sandbox: Sandbox, killed: Sequence[float]) -> list[tuple[Call, Call]]:
    """Effects on one user that were under way at the same time, but for what a killed node had sent."""
    of = owners(sandbox)
    by_user: dict[str, list[Call]] = defaultdict(list)
    for call in [*sandbox.calls("clerk"), *sandbox.calls("stripe")]:
        user = of.get(call.subject or "", call.subject or "")
        if call.effect_at is not None and user:
            by_user[user].append(call)
    found = []
    for calls in by_user.values():
        calls.sort(key=lambda call: call.begun_at)
        for number, earlier in enumerate(calls):
            assert earlier.effect_at is not None
            for later in calls[number + 1 :]:
                if later.begun_at >= earlier.effect_at:
                    break
                if not any(earlier.begun_at <= at <= earlier.effect_at for at in killed):
                    found.append((earlier, later))
    return found


@pytest.mark.timeout(900)
async def test_three_receivers_and_three_workers_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    sandbox = Sandbox(WORLD)
    sandbox.lift_limits()
    async with AsyncExitStack() as stack:
        database = stack.enter_context(server(durable=True))
        home = PostgresqlHome(database)
        stack.callback(home.close)
        direct = home.empty()
        through = stack.enter_context(pgbouncer.before(direct))
        base = await stack.enter_async_context(serve_sandbox(sandbox))
        nodes: list[tuple[Serve, str]] = []
        for number in range(6):
            folder = tmp_path / f"node-{number}"
            folder.mkdir()
            role = "receiver" if number < 3 else "worker"
            # One of the workers has no direct way, and looks for itself.
            more = NO_KEYS if role == "receiver" else {}
            listening = {"COUNTERFOIL_LISTEN_URL": direct} if number < 5 else {}
            serve = Serve(folder, WORLD, base, DATABASE_URL=through, **RATES, **more, **listening)
            nodes.append((serve, role))
            await serve.start("--role", role)
        killed: list[float] = []
        try:
            for serve, _ in nodes:
                await serve.ready(120.0)  # six start at once
            async with AsyncExitStack() as couriers:
                balancer = Balancer(nodes)
                for serve, _ in nodes[:3]:
                    courier = Courier(sandbox.svix, f"{serve.url}/webhooks/clerk")
                    balancer.couriers.append(await couriers.enter_async_context(courier))
                await asyncio.gather(
                    play(Storm(seed=23, sign_ups=PEOPLE, seconds=SECONDS, deletions=PEOPLE // 10), sandbox),
                    kill_and_restart(nodes, balancer, killed),
                )
                sandbox.calm()
                await settled(sandbox, direct, patience=400)
            for serve, _ in nodes:
                assert await serve.end(signal.SIGTERM) == 0, serve.log.read_text()[-2000:]
        finally:
            for serve, _ in nodes:
                if serve.process is not None and serve.process.returncode is None:
                    serve.process.kill()
                    await serve.process.wait()
        verdict = sandbox.verdict(time.time())
        assert verdict.clean, verdict.as_json()
        assert overlaps(sandbox, killed) == []
        accepted = {user.id for user in sandbox.clerk.live_users()}
        with looking(direct) as connection:
            rows = connection.execute("SELECT subject_id FROM link_rows WHERE deleted_at IS NULL")
            assert accepted == {row[0] for row in rows}
