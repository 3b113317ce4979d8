"""Killed in the middle, ten times each: an audit and an apply go on where they were, and end right."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from random import Random
from urllib.parse import parse_qs

import pytest

from counterfoil.audit.scan import PARALLEL
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.mess import Mess, Planter
from counterfoil.sandbox.messages import Reply, Request, Upstream
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from tests.audit.support import ADOPTING, SWIFT
from tests.cli.support import COMMAND, bare, keys, process
from tests.databases import Home

KILLS = 10
CASES = 1_500
LARGER = 4_000
"""So many that ten kills come before an audit's end."""
LATENCY = (0.02, 0.06)
PATIENCE = 300.0
"""Seconds: a lease that a killed apply held on PostgreSQL lasts two minutes, and machines are busy."""
NOW = 1_795_000_000.0


class Noting(Sandbox):
    """Notes which pages of the long lists were asked for."""

    def __init__(self, settings: SandboxSettings) -> None:
        super().__init__(settings)
        self.lift_limits()
        self.pages: Counter[str] = Counter()

    def begin(self, upstream: Upstream, request: Request, now: float) -> Reply:
        """As the sandbox does."""
        # Not those that are read again by intent: what has changed of late, and the users of findings.
        long = "order_by=-created_at" in request.query if upstream == "clerk" else request.path == "/v1/customers"
        late = int(parse_qs(request.query).get("created[gte]", ["0"])[0]) > NOW
        if long and not late:
            self.pages[f"{upstream} {request.query}"] += 1
        return super().begin(upstream, request, now)

    def twice(self, upstream: Upstream) -> int:
        """How many pages were asked for again."""
        return sum(count - 1 for page, count in self.pages.items() if page.startswith(upstream))


def messy(seed: int, cases: int) -> tuple[Noting, Mess]:
    sandbox = Noting(SandboxSettings(seed=seed, latency=LATENCY))
    return sandbox, Planter(sandbox, seed, NOW).plant(cases)


def environ_of(sandbox: Sandbox, base: str) -> dict[str, str]:
    return {**keys(sandbox, base), **SWIFT, **ADOPTING}


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_an_audit_that_is_killed_again_and_again_reads_little_twice_and_finds_all(tmp_path: Path) -> None:
    sandbox, mess = messy(5, LARGER)
    mapping = tmp_path / "users.csv"
    mapping.write_text("user,customer\n" + "".join(f"{user},{cus}\n" for user, cus in mess.mapping.items()))
    random = Random(5)
    command = ("audit", "--out", "plan.jsonl", "--map", str(mapping), "--json")
    async with serve_sandbox(sandbox) as base:
        environ = environ_of(sandbox, base)
        for _ in range(KILLS):
            # From its very first calls on, whenever that is on this machine.
            before = len(sandbox.calls("stripe")) + len(sandbox.calls("clerk"))
            waiting = asyncio.create_task(_calls_after(sandbox, before + random.randint(3, 15)))
            assert await _kill_when(waiting, tmp_path, command, environ), "it ended before it was killed"
        done = await process(tmp_path, *command, **environ)
    assert done.code == 2, done
    # At most the page that was under way: of Clerk's list, and of each range of Stripe's.
    assert sandbox.twice("clerk") <= KILLS
    assert sandbox.twice("stripe") <= KILLS * PARALLEL
    kinds = {row["kind"]: (row["count"], row["person"]) for row in done.json["rows"]}
    wanted = {
        kind: (
            sum(each.kind == kind for each in mess.planted),
            sum(each.kind == kind and each.person for each in mess.planted),
        )
        for kind in {each.kind for each in mess.planted}
    }
    assert kinds == wanted
    assert not (tmp_path / "plan.jsonl.work").exists()
    lines = (tmp_path / "plan.jsonl").read_text().splitlines()
    assert len(lines) == 1 + len(mess.planted)


async def _calls_after(sandbox: Sandbox, count: int) -> None:
    while len(sandbox.calls("stripe")) + len(sandbox.calls("clerk")) < count:
        await asyncio.sleep(0.002)


async def _kill_when(
    waiting: "asyncio.Task[None]", folder: Path, command: tuple[str, ...], environ: dict[str, str]
) -> bool:
    """Start a command and kill it when ``waiting`` is done; answers whether it was still running."""
    null = asyncio.subprocess.DEVNULL
    made = await asyncio.create_subprocess_exec(*COMMAND, *command, cwd=folder, env=bare(environ), stdout=null)
    ended = asyncio.create_task(made.wait())
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait({ended, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return not ended.done()
    finally:
        waiting.cancel()
        if made.returncode is None:
            made.kill()
        await ended


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_an_apply_that_is_killed_again_and_again_ends_right(tmp_path: Path, home: Home) -> None:
    sandbox, mess = messy(6, CASES)
    random = Random(6)
    command = ("apply", "plan.jsonl", "--yes", "--max-deletes", "30", "--json")
    async with serve_sandbox(sandbox) as base:
        environ = {**environ_of(sandbox, base), "DATABASE_URL": home.empty()}
        audited = await process(tmp_path, "audit", "--out", "plan.jsonl", "--json", **environ)
        assert audited.code == 2, audited
        for _ in range(KILLS):
            waiting = asyncio.create_task(_writes_after(sandbox, _writes(sandbox) + random.randint(1, 40)))
            assert await _kill_when(waiting, tmp_path, command, environ), "it ended before it was killed"
        made = await asyncio.create_subprocess_exec(
            *COMMAND, *command, cwd=tmp_path, env=bare(environ), stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(2 * PATIENCE):
            out, _ = await made.communicate()
        report = json.loads(out)
        again = await process(tmp_path, "audit", "--json", **environ)
    assert report["refused"] == []
    stripe = sandbox.stripe
    deleted = len({call.path for call in sandbox.calls("stripe", "customers.delete") if call.status == 200})
    assert deleted == report["deleted"] == 30
    for customer in mess.subscribed:
        assert not stripe.customers[customer].deleted
        assert "counterfoilArchived" not in stripe.customers[customer].metadata
    owners = [each.metadata["clerkUserId"] for each in stripe.live_customers() if "clerkUserId" in each.metadata]
    several = {user for user in owners if owners.count(user) > 1 and user in sandbox.clerk.users}
    assert several == {each.subject for each in mess.planted if each.kind == "duplicate" and each.person}
    assert all(row["count"] == row["person"] for row in again.json["rows"]), again.json["rows"]


def _writes(sandbox: Sandbox) -> int:
    return sum(call.method != "GET" for side in ("stripe", "clerk") for call in sandbox.calls(side))


async def _writes_after(sandbox: Sandbox, count: int) -> None:
    while _writes(sandbox) < count:
        await asyncio.sleep(0.01)
