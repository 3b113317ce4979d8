"""``make bench``: what it costs, each figure beside its limit from the same run.

    python -m tools.bench [--database postgresql] [PART ...]

On PostgreSQL the server is one from a wheel, that syncs to its disk, or the one whose URL is given; there each
part has a schema of its own. The machine is noisy and shared, so every limit is a ratio to something measured here
and now.
"""

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from counterfoil.billing.stripe import StripeApi
from counterfoil.clerk.api import AiohttpTransport, ClerkApi
from counterfoil.clerk.body import BodyReader
from counterfoil.core.link import Fields
from counterfoil.core.policy import LinkBack
from counterfoil.engine.clock import SystemClock
from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.stripe import StripeSettings
from counterfoil.store import environment, figures
from counterfoil.store.database import InlineDatabase
from counterfoil.store.ownership import sqlite_path
from counterfoil.store.upgrade import remove
from counterfoil.upstream.gate import LIVE, Gate
from tests.acceptance.node import Serve, free_port
from tests.postgresql import server

CONNECTIONS = 64
SECONDS = 6.0
PATH = "/webhooks/clerk"
LINKS = 100_000
_LIVE = "sk_live_sandbox"
_FAST = {
    "COUNTERFOIL_STRIPE_RATE": "5000",
    "COUNTERFOIL_STRIPE_ENDPOINT_RATE": "5000",
    "COUNTERFOIL_CLERK_RATE": "5000",
}
console = Console(highlight=False)


class Board:
    """The figures, as they come in."""

    def __init__(self) -> None:
        self.table = Table(title="counterfoil bench", title_justify="left")
        for name in ("figure", "measured", "limit", ""):
            self.table.add_column(name, justify="left" if name in {"figure", ""} else "right")
        self.missed = 0

    def add(self, name: str, measured: str, limit: str = "", *, right: bool = True) -> None:
        """One line; ``right`` False: the limit is missed."""
        self.missed += not right
        mark = "" if not limit else "[green]ok[/]" if right else "[bold red]missed[/]"
        self.table.add_row(name, measured, limit, mark)
        console.print(f"[dim]{name}: {measured}" + (f" (limit {limit})" if limit else "") + "[/]")


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


@dataclass(frozen=True)
class Place:
    """Where one part's node works: a folder, and a database that is empty."""

    folder: Path
    url: str
    schema: str = "counterfoil"

    @property
    def on_postgresql(self) -> bool:
        """Whether the database is one."""
        return sqlite_path(self.url) is None


@asynccontextmanager
async def _place(url: str | None) -> AsyncIterator[Place]:
    with tempfile.TemporaryDirectory(prefix="counterfoil-bench-") as name:
        folder = Path(name)
        if url is None:
            yield Place(folder, f"sqlite:///{folder / 'counterfoil.db'}")
            return
        place = Place(folder, url, f"counterfoil_bench_{secrets.token_hex(4)}")
        try:
            yield place
        finally:
            database = InlineDatabase(place.url, place.schema)
            await database.write(remove)
            await database.close()


@asynccontextmanager
async def _serve(place: Place, sandbox: Sandbox, **more: str) -> AsyncIterator[Serve]:
    own = {"DATABASE_URL": place.url, "COUNTERFOIL_SCHEMA": place.schema}
    async with serve_sandbox(sandbox) as base:
        node = Serve(place.folder, sandbox.settings, base, **own, **more)
        await node.start()
        await node.ready()
        try:
            yield node
        finally:
            assert node.process is not None
            node.process.terminate()
            await node.process.wait()


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
    async with _serve(place, sandbox) as node:
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
    async with _serve(place, sandbox, **_FAST) as node, Courier(sandbox.svix, f"{node.url}{PATH}", poll=0.001):
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
    clerk = ClerkSettings(secret_key=_LIVE, environment_type="production")
    sandbox = Sandbox(SandboxSettings(latency=(0.05, 0.15), clerk=clerk, stripe=StripeSettings(secret_key=_LIVE)))
    async with _serve(place, sandbox) as node, Courier(sandbox.svix, f"{node.url}{PATH}"):
        for number in range(900):
            sandbox.clerk.create_user(time.time(), email=f"queue{number}@example.com")
        while len(sandbox.calls("stripe", "customers.create")) < 40:
            await asyncio.sleep(0.05)
        began, before = time.time(), len(sandbox.calls("stripe", "customers.create"))
        await asyncio.sleep(30.0)
        seconds = time.time() - began
        made = len(sandbox.calls("stripe", "customers.create")) - before
    used = made / seconds / 20.0
    refused = sum(call.status == 429 for side in ("clerk", "stripe") for call in sandbox.calls(side))
    board.add("quota used over 30 s", f"{used:.1%} of 20/s", ">= 95 %", right=used >= 0.95)
    board.add("answered 429", str(refused), "0", right=refused == 0)


async def cost(board: Board, place: Place) -> None:
    """CPU per settled user, with no limits in the way."""
    sandbox = Sandbox()
    sandbox.lift_limits()
    users = 2_000
    async with _serve(place, sandbox, **_FAST) as node, Courier(sandbox.svix, f"{node.url}{PATH}"):
        before = _cpu(node)
        began = time.perf_counter()
        for number in range(users):
            sandbox.clerk.create_user(time.time(), email=f"cost{number}@example.com")
        while not sandbox.verdict().clean:
            await asyncio.sleep(0.5)
        seconds = time.perf_counter() - began
        spent = _cpu(node) - before
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
    async with _serve(place, sandbox, **_FAST) as node:
        database = InlineDatabase(place.url, place.schema)
        linked, walked, end = 0, None, time.monotonic() + 600
        while (linked < LINKS or walked is None) and time.monotonic() < end:
            await asyncio.sleep(1.0)
            linked = (await database.read(figures.figures)).linked
            walked = (await database.read(environment.load)).get("walk_ended")
        await database.close()
        peak = _peak_mb(node)
    board.add(f"peak memory, {linked:,} links scanned and walked", f"{peak:.0f} MB")


def _processes(node: Serve) -> list[int]:
    """The node and its listener."""
    assert node.process is not None
    own = node.process.pid
    return [own, *map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split())]


def _cpu(node: Serve) -> float:
    ticks = 0
    for process in _processes(node):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_mb(node: Serve) -> float:
    """Of both processes together."""
    kilobytes = 0
    for process in _processes(node):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return kilobytes / 1024


async def _main(wanted: list[str], url: str | None) -> int:
    board = Board()
    for part in PARTS:
        if not wanted or part.__name__ in wanted:
            async with _place(url) as place:
                await part(board, place)
    console.print(board.table)
    return 1 if board.missed else 0


PARTS = (webhooks, latency, quota, cost, memory)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure, each figure beside its limit from the same run.")
    parser.add_argument("--database", help="postgresql, or the URL of a server; without it SQLite")
    parser.add_argument("parts", nargs="*", metavar="PART")
    given = parser.parse_args()
    if given.database == "postgresql":
        with server(durable=True) as wheel:
            code = uvloop.run(_main(given.parts, wheel.empty()))
    else:
        code = uvloop.run(_main(given.parts, given.database))
    sys.exit(code)
