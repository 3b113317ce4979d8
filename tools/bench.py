"""``make bench``: what it costs, each figure beside its limit from the same run.

    python -m tools.bench [--database postgresql] [PART ...]

On PostgreSQL the server is one from a wheel, that syncs to its disk, or the one whose URL is given; there each
part has a schema of its own. Parts about many nodes are on PostgreSQL whatever the others are on. The machine is
noisy and shared, so every limit is a ratio to something measured here and now.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import uvloop

from counterfoil.billing.stripe import StripeApi
from counterfoil.clerk.api import AiohttpTransport, ClerkApi
from counterfoil.clerk.body import BodyReader
from counterfoil.core.link import Fields
from counterfoil.core.policy import LinkBack
from counterfoil.engine.clock import SystemClock
from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.stripe import StripeSettings
from counterfoil.store import environment, figures
from counterfoil.store.database import InlineDatabase
from counterfoil.upstream.gate import LIVE, Gate
from tests.acceptance.node import Serve, free_port
from tests.postgresql import server
from tools.bench_audit import audit_at_limits, audit_million, backfill
from tools.bench_kit import FAST, LIVE_KEY, PATH, Board, Place, a_place, console, cpu, peak_mb, refused, serving
from tools.bench_scale import claims, common_quota, receivers, scale

CONNECTIONS = 64
SECONDS = 6.0
LINKS = 100_000


def _load(port: int, path: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tools.load", str(port), path, str(CONNECTIONS), str(SECONDS)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    figures: dict[str, float] = json.loads(output.stdout)
    assert figures["wrong"] == 0, figures
    return figures


async def _listening(port: int) -> None:
    for _ in range(500):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise TimeoutError


@asynccontextmanager
async def _noop() -> AsyncIterator[int]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tools.noop", str(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await _listening(port)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def _commit_ms(place: Place) -> float:
    """What one synced commit takes here."""
    database = InlineDatabase(place.url, place.schema)
    await database.write(lambda connection: connection.exec_driver_sql("CREATE TABLE commits (x INTEGER)"))
    took = []
    for _ in range(100):
        began = time.perf_counter()
        await database.write(lambda connection: connection.exec_driver_sql("INSERT INTO commits VALUES (1)"))
        took.append(time.perf_counter() - began)
    await database.close()
    return statistics.median(took) * 1000


async def webhooks(board: Board, place: Place) -> None:
    """Durable deliveries through the whole app, beside a bare application on the same requests."""
    async with _noop() as port:
        bare = await asyncio.to_thread(_load, port, PATH)
    # Its own process beside the load: the upstream rates are the defaults, as in real life.
    sandbox = Sandbox(SandboxSettings(latency=(0.05, 0.05)))
    async with serving(place, sandbox) as node:
        whole = await asyncio.to_thread(_load, node.port, PATH)
    commit = await _commit_ms(place)
    least = 0.30 if place.on_postgresql else 0.35
    ratio = whole["per_second"] / bare["per_second"]
    board.add("bare no-op app", f"{bare['per_second']:,.0f}/s, p99 {bare['p99_ms']:.1f} ms")
    board.add(
        "durable webhooks", f"{whole['per_second']:,.0f}/s = {ratio:.2f}", f">= {least:.2f}", right=ratio >= least
    )
    limit = 2 * bare["p99_ms"] + 2 * commit
    board.add("one synced commit", f"{commit:.2f} ms")
    board.add(
        "p99 of the answer", f"{whole['p99_ms']:.1f} ms", f"<= {limit:.1f} ms", right=whole["p99_ms"] <= limit
    )


async def latency(board: Board, place: Place) -> None:
    """From the delivery to the link-back, beside the two calls alone, both with answers after 50 ms."""
    sandbox = Sandbox(SandboxSettings(latency=(0.05, 0.05)))
    sandbox.lift_limits()
    took: list[float] = []
    async with serving(place, sandbox, **FAST) as node, Courier(sandbox.svix, f"{node.url}{PATH}", poll=0.001):
        alone = await _two_calls(sandbox, node)
        for number in range(60):
            began = time.time()
            user = sandbox.clerk.create_user(began, email=f"late{number}@example.com")
            while "stripeCustomerId" not in sandbox.clerk.users[user].public_metadata:
                await asyncio.sleep(0.001)
            # The sandbox writes when the request comes and answers 50 ms later.
            took.append(time.time() - began + 0.05)
            await asyncio.sleep(0.1)
    median = statistics.median(took) * 1000
    limit = 1.25 * alone
    board.add("two calls alone", f"{alone:.0f} ms")
    board.add("event to link-back, median", f"{median:.0f} ms", f"<= {limit:.0f} ms", right=median <= limit)


async def _two_calls(sandbox: Sandbox, node: Serve) -> float:
    """The median time (ms) of a create and a metadata write, one after the other, with the same clients."""
    gate = Gate("bench", 5000, lambda *_: None)
    environ = node.environ
    transport = AiohttpTransport()
    clerk = ClerkApi(
        environ["CLERK_SECRET_KEY"], environ["CLERK_API_URL"], gate, transport, BodyReader("stripeCustomerId")
    )
    stripe = StripeApi(
        environ["STRIPE_SECRET_KEY"], environ["STRIPE_API_BASE"], gate, "clerkUserId", SystemClock().now
    )
    took = []
    for number in range(30):
        user = sandbox.clerk.create_user(time.time(), email=f"alone{number}@example.com", silent=True)
        began = time.perf_counter()
        made = await stripe.create(user, Fields(email=f"alone{number}@example.com"), f"bench-{number}", LIVE)
        await clerk.write_link_back(user, made.customer_id, LinkBack.PUBLIC, LIVE)
        took.append(time.perf_counter() - began)
    await transport.close()
    await stripe.close()
    return statistics.median(took) * 1000


async def quota(board: Board, place: Place) -> None:
    """Thirty seconds of backlog at the default rates and the real limits."""
    clerk = ClerkSettings(secret_key=LIVE_KEY, environment_type="production")
    sandbox = Sandbox(
        SandboxSettings(latency=(0.05, 0.15), clerk=clerk, stripe=StripeSettings(secret_key=LIVE_KEY))
    )
    async with serving(place, sandbox) as node, Courier(sandbox.svix, f"{node.url}{PATH}"):
        for number in range(900):
            sandbox.clerk.create_user(time.time(), email=f"queue{number}@example.com")
        while len(sandbox.calls("stripe", "customers.create")) < 40:
            await asyncio.sleep(0.05)
        began, before = time.time(), len(sandbox.calls("stripe", "customers.create"))
        await asyncio.sleep(30.0)
        seconds = time.time() - began
        made = len(sandbox.calls("stripe", "customers.create")) - before
    used = made / seconds / 20.0
    board.add("quota used over 30 s", f"{used:.1%} of 20/s", ">= 95 %", right=used >= 0.95)
    board.add("answered 429", refused(sandbox), "0", right=refused(sandbox) == "0")


async def cost(board: Board, place: Place) -> None:
    """CPU per settled user, with no limits in the way."""
    sandbox = Sandbox()
    sandbox.lift_limits()
    users = 2_000
    async with serving(place, sandbox, **FAST) as node, Courier(sandbox.svix, f"{node.url}{PATH}"):
        before = cpu(node.pid)
        began = time.perf_counter()
        for number in range(users):
            sandbox.clerk.create_user(time.time(), email=f"cost{number}@example.com")
        while not sandbox.verdict().clean:
            await asyncio.sleep(0.5)
        seconds = time.perf_counter() - began
        spent = cpu(node.pid) - before
    board.add("CPU per settled user", f"{spent / users * 1000:.1f} ms")
    board.add("users settled, sandbox on the same cores", f"{users / seconds:,.0f}/s")


async def memory(board: Board, place: Place) -> None:
    """Peak memory with 100,000 links: first scan of a full Stripe account, first sweep and walk."""
    sandbox = Sandbox()
    sandbox.lift_limits()
    began = time.time() - 1_000_000
    for number in range(LINKS):
        sandbox.add_pair(
            began + number, email=f"full{number}@example.com", first_name="Full", last_name=str(number)
        )
    async with serving(place, sandbox, **FAST) as node:
        database = InlineDatabase(place.url, place.schema)
        linked, walked, end = 0, None, time.monotonic() + 600
        while (linked < LINKS or walked is None) and time.monotonic() < end:
            await asyncio.sleep(1.0)
            linked = (await database.read(figures.figures)).linked
            walked = (await database.read(environment.load)).get("walk_ended")
        await database.close()
        peak = peak_mb(node.pid)
    board.add(f"peak memory, {linked:,} links scanned and walked", f"{peak:.0f} MB")


async def _main(wanted: list[str], url: str | None, servers: ExitStack) -> int:
    board = Board()
    shared = url
    for part in PARTS + MANY_NODES:
        if wanted and part.__name__ not in wanted:
            continue
        if part in MANY_NODES and shared is None:
            shared = servers.enter_context(server(durable=True)).empty()
        async with a_place(shared if part in MANY_NODES else url) as place:
            await part(board, place)
    console.print(board.table)
    return 1 if board.missed else 0


PARTS = (webhooks, latency, quota, cost, memory, audit_at_limits, audit_million, backfill)
MANY_NODES = (scale, common_quota, receivers, claims)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure, each figure beside its limit from the same run.")
    parser.add_argument("--database", help="postgresql, or the URL of a server; without it SQLite")
    parser.add_argument("parts", nargs="*", metavar="PART")
    given = parser.parse_args()
    with ExitStack() as servers:
        wheel = given.database == "postgresql"
        url = servers.enter_context(server(durable=True)).empty() if wheel else given.database
        code = uvloop.run(_main(given.parts, url, servers))
    sys.exit(code)
