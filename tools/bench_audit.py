"""The bench's parts about audits: their time beside what the limits allow, their memory, and a backfill beside
live sign-ups."""

import asyncio
import json
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterfoil.cli.sandbox import environment
from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.stripe import StripeSettings
from tests.cli.support import COMMAND, bare
from tools.bench_kit import FAST, LIVE_KEY, PATH, Board, Place, cpu, peak_mb, refused, serving

USERS = 100_000
MILLION = 1_000_000
BACKLOG = 1_400
_CUSTOMERS, _PAGE_OF_USERS = 100, 500
_WHOLE = {
    "COUNTERFOIL_STRIPE_RATE": "96",
    "COUNTERFOIL_STRIPE_ENDPOINT_RATE": "24",
    "COUNTERFOIL_CLERK_RATE": "96",
}
"""All but a little of Stripe's 25 lists, 100 calls, and Clerk's 100 calls a second."""


@dataclass(slots=True)
class Ran:
    """A command that has ended. ``told``: what it said, as JSON."""

    code: int
    told: Any
    seconds: float
    cpu: float
    peak: float


async def _command(folder: Path, *arguments: str, environ: Mapping[str, str]) -> Ran:
    """Run a command, and watch what it uses."""
    began = time.perf_counter()
    with (folder / "command.log").open("wb") as log:
        made = await asyncio.create_subprocess_exec(
            *COMMAND, *arguments, cwd=folder, env=bare(environ), stdout=PIPE, stderr=log
        )
    used = {"cpu": 0.0, "peak": 0.0}

    async def watch() -> None:
        while made.returncode is None:
            try:
                used.update(cpu=cpu(made.pid), peak=peak_mb(made.pid))
            except (OSError, IndexError):
                return  # it has ended
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    try:
        out, _ = await made.communicate()
    finally:
        if made.returncode is None:
            made.kill()
        await watching
    seconds = time.perf_counter() - began
    assert made.returncode in {0, 2}, (made.returncode, (folder / "command.log").read_text()[-2000:], out)
    return Ran(made.returncode or 0, json.loads(out), seconds, used["cpu"], used["peak"])


def _live_sandbox() -> Sandbox:
    """A production instance and an account in live mode, with their real limits."""
    clerk = ClerkSettings(secret_key=LIVE_KEY, environment_type="production")
    return Sandbox(SandboxSettings(latency=(0.05, 0.15), clerk=clerk, stripe=StripeSettings(secret_key=LIVE_KEY)))


async def audit_at_limits(board: Board, place: Place) -> None:
    """100,000 users and customers: with all that the limits allow, and with the share that is ours by default."""
    sandbox = _live_sandbox()
    began = time.time() - 1_000_000
    for number in range(USERS):
        sandbox.add_pair(began + 5 * number, email=f"full{number}@example.com", first_name="Full")
    for name, more, lists, calls in (
        ("all of the limits", _WHOLE, 25.0, 100.0),
        ("our share by default", {}, 20.0, 80.0),
    ):
        # Both sides are read at once; the slower of them is what the limits allow.
        allowed = max(USERS / _CUSTOMERS / lists, USERS / _PAGE_OF_USERS / calls)
        async with serve_sandbox(sandbox) as base:
            environ = {**environment(sandbox.settings, base), **more}
            ran = await _command(place.folder, "audit", "--json", environ=environ)
        assert (ran.code, ran.told["users"], ran.told["customers"]) == (0, USERS, USERS), ran.told
        board.add(f"limits allow {USERS:,} pairs in, {name}", f"{allowed:.1f} s")
        ratio = ran.seconds / allowed
        board.add(
            f"audit of {USERS:,} pairs, {name}",
            f"{ran.seconds:.1f} s = {ratio:.2f}",
            "<= 1.15",
            right=ratio <= 1.15,
        )
    board.add("answered 429", refused(sandbox))


@asynccontextmanager
async def _crowd(count: int) -> AsyncIterator[str]:
    made = await asyncio.create_subprocess_exec(sys.executable, "-m", "tools.crowd", str(count), stdout=PIPE)
    assert made.stdout is not None
    try:
        yield (await made.stdout.readline()).decode().strip()
    finally:
        made.terminate()
        await made.wait()


async def audit_million(board: Board, place: Place) -> None:
    """A million users and customers with no limits: what it holds in memory, and what it computes."""
    async with _crowd(MILLION) as base:
        environ = {**environment(SandboxSettings(), base), **FAST, "TMPDIR": str(place.folder)}
        ran = await _command(place.folder, "audit", "--out", "plan.jsonl", "--json", environ=environ)
    rows = {row["kind"]: row["count"] for row in ran.told["rows"]}
    assert (ran.told["users"], ran.told["customers"], rows) == (MILLION, MILLION, {"stale": MILLION // 1_000})
    board.add(f"audit of {MILLION:,} pairs", f"{ran.seconds:.0f} s")
    board.add("its peak memory", f"{ran.peak:.0f} MB", "< 250 MB", right=ran.peak < 250)
    board.add("its CPU per 1,000 users", f"{ran.cpu / MILLION * 1e6:.0f} ms")


async def backfill(board: Board, place: Place) -> None:
    """A backlog of old users at the default rates and the real limits, beside people who sign up meanwhile."""
    sandbox = _live_sandbox()
    for number in range(BACKLOG):
        at = time.time() - 1_000_000 + number
        sandbox.clerk.create_user(at, silent=True, email=f"old{number}@example.com", first_name="Old")
    async with serving(place, sandbox) as node, Courier(sandbox.svix, f"{node.url}{PATH}", poll=0.001):
        idle = await _sign_ups(sandbox, "idle", 30)
        command = _command(place.folder, "backfill", "--yes", "--json", environ=node.environ)
        filling = asyncio.create_task(command)
        while len(sandbox.calls("stripe", "customers.create")) < 60 and not filling.done():
            await asyncio.sleep(0.05)
        assert not filling.done(), filling.result()
        began, before = time.time(), len(sandbox.calls("stripe", "customers.create"))
        busy = await _sign_ups(sandbox, "busy", 30)
        await asyncio.sleep(max(0.0, began + 40.0 - time.time()))
        seconds = time.time() - began
        made = len(sandbox.calls("stripe", "customers.create")) - before
        assert not filling.done(), "the backlog is too small"
        done = await filling
    assert (done.code, done.told["refused"], done.told["done"]) == (0, [], BACKLOG), done.told
    used = made / seconds / 20.0
    board.add("creates of a backfill and live sign-ups", f"{used:.1%} of 20/s", ">= 95 %", right=used >= 0.95)
    board.add("answered 429", refused(sandbox), "0", right=refused(sandbox) == "0")
    board.add("sign-up to link-back, idle, median", f"{idle:.0f} ms")
    board.add("the same during a backfill", f"{busy:.0f} ms", f"<= {2 * idle:.0f} ms", right=busy <= 2 * idle)


async def _sign_ups(sandbox: Sandbox, name: str, count: int) -> float:
    """The median time (ms) from a sign-up until Clerk's metadata names the customer."""
    took = []
    for number in range(count):
        began = time.perf_counter()
        user = sandbox.clerk.create_user(time.time(), email=f"{name}{number}@example.com")
        while "stripeCustomerId" not in sandbox.clerk.users[user].public_metadata:
            await asyncio.sleep(0.002)
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.3)
    return statistics.median(took) * 1000
