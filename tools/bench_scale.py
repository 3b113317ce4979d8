"""The bench's parts about many nodes on one PostgreSQL: several workers, several receivers, and a claim among
five million links.

On a machine of two cores more processes settle no more; how the cost of one user grows with them is the figure.
"""

import asyncio
import contextlib
import json
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from counterfoil.clerk.body import BodyReader
from counterfoil.clerk.webhook import Decoder
from counterfoil.core.news import UserEvent
from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.stripe import StripeSettings
from counterfoil.store import environment, links
from counterfoil.store.database import InlineDatabase
from counterfoil.store.upgrade import upgrade
from tests.acceptance.node import Serve
from tests.store.support import explained_claim
from tools.bench_kit import FAST, LIVE_KEY, PATH, Board, Place, a_place, cpu, node, refused

USERS = 3_000
LINKS = 5_000_000
DUE = (1_000, 1_000_000)
CLAIM = 64
CLAIMS = 15
"""All of them full, of the fewest due."""
CONNECTIONS, SECONDS = 64, 6.0
_CREATE, _LINK_BACK = "customers.create", "users.merge_metadata"


@asynccontextmanager
async def _nodes(place: Place, sandbox: Sandbox, *roles: str, **more: str) -> AsyncIterator[list[Serve]]:
    """Nodes that are ready, in the order of ``roles``."""
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serve_sandbox(sandbox))
        serves = [await stack.enter_async_context(node(place, sandbox, base, role, **more)) for role in roles]
        for serve in serves:
            await serve.ready()
        yield serves


async def _backlog(place: Place, sandbox: Sandbox, count: int) -> None:
    """The news of ``count`` sign-ups, in the links all at once."""
    for number in range(count):
        sandbox.clerk.create_user(time.time(), email=f"many{number}@example.com")
    decoder = Decoder(instance_id=sandbox.settings.clerk.instance_id, reader=BodyReader("stripeCustomerId"))
    now = time.time()
    news = []
    for attempt in sandbox.svix.due(now + 60, count):
        told = decoder.decode(attempt.body, "")
        assert isinstance(told, UserEvent)
        news.append(told)
        sandbox.svix.settle(attempt, 204, now)
    assert len(news) == count

    def fold(connection: Connection) -> None:
        links.fold_batch(connection, news, int(environment.load(connection)["since"]), round(now * 1000))

    database = InlineDatabase(place.url, place.schema)
    await database.write(fold)
    await database.close()


@dataclass(frozen=True, slots=True)
class _Used:
    """Seconds, CPU seconds of the nodes and of the server's processes, and how many transactions it committed."""

    seconds: float
    nodes: float
    server: Mapping[int, float]
    commits: int

    def since(self, before: "_Used") -> tuple[float, float, float, int]:
        server = sum(used - before.server.get(pid, 0.0) for pid, used in self.server.items())
        return (
            self.seconds - before.seconds,
            self.nodes - before.nodes,
            server,
            self.commits - before.commits,
        )


async def _used(place: Place, serves: Sequence[Serve]) -> _Used:
    """What was used until now; of a server that is not on this machine no CPU is known, and counts as none."""

    def job(connection: Connection) -> tuple[list[int], int]:
        pids = connection.exec_driver_sql("SELECT pid FROM pg_stat_activity").scalars().all()
        commits = connection.exec_driver_sql(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        )
        return list(pids), commits.scalar_one()

    database = InlineDatabase(place.url, place.schema)
    pids, commits = await database.read(job)
    await database.close()
    server = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended, or is on another machine
            if Path(f"/proc/{pid}/comm").read_text().startswith("postgres"):
                server[pid] = cpu(pid)
    return _Used(time.perf_counter(), sum(cpu(serve.pid) for serve in serves), server, commits)


async def scale(board: Board, place: Place) -> None:
    """One, two and four workers beside a receiver, with no limits in the way."""
    for workers in (1, 2, 4):
        async with a_place(place.url) as own:
            seconds, spent, served, commits = await _settle(own, workers)
        users = 0.8 * USERS
        name = f"{workers} workers" if workers > 1 else "1 worker"
        board.add(f"users settled, {name}, sandbox on the same cores", f"{users / seconds:,.0f}/s")
        board.add(f"CPU per settled user, {name}", f"{spent / users * 1000:.1f} ms")
        board.add(f"the server's beside it, {name}", f"{served / users * 1000:.1f} ms")
        board.add(f"transactions per settled user, {name}", f"{commits / users:.1f}")


async def _settle(place: Place, workers: int) -> tuple[float, float, float, int]:
    """What the middle eight tenths of a backlog take, as `_Used.since`."""
    sandbox = Sandbox()
    sandbox.lift_limits()

    async def done(share: float) -> None:
        while sandbox.clerk.log.count(_LINK_BACK) < share * USERS:
            await asyncio.sleep(0.01)

    roles = ["receiver", *["worker"] * workers]
    async with _nodes(place, sandbox, *roles, **FAST) as serves, asyncio.timeout(300):
        await _backlog(place, sandbox, USERS)
        await done(0.1)
        before = await _used(place, serves)
        await done(0.9)
        return (await _used(place, serves)).since(before)


async def common_quota(board: Board, place: Place) -> None:
    """Four workers on a backlog for thirty seconds, at the default rates and the real limits."""
    clerk = ClerkSettings(secret_key=LIVE_KEY, environment_type="production")
    sandbox = Sandbox(
        SandboxSettings(latency=(0.05, 0.15), clerk=clerk, stripe=StripeSettings(secret_key=LIVE_KEY))
    )
    count = sandbox.stripe.log.count
    async with _nodes(place, sandbox, "receiver", *["worker"] * 4):
        await _backlog(place, sandbox, 900)
        while count(_CREATE) < 40:
            await asyncio.sleep(0.05)
        began, before = time.time(), count(_CREATE)
        await asyncio.sleep(30.0)
        made, seconds = count(_CREATE) - before, time.time() - began
    used = made / seconds / 20.0
    board.add("common quota used by 4 workers over 30 s", f"{used:.1%} of 20/s", ">= 95 %", right=used >= 0.95)
    board.add("answered 429", refused(sandbox), "0", right=refused(sandbox) == "0")


async def receivers(board: Board, place: Place) -> None:
    """Durable deliveries through one and two receivers, from two load generators."""
    for several in (1, 2):
        async with a_place(place.url) as own:
            sandbox = Sandbox()
            async with _nodes(own, sandbox, "worker"):
                pass  # it finds out what the keys are of
            async with _nodes(own, sandbox, *["receiver"] * several) as serves:
                before = await _used(own, serves)
                told = await asyncio.gather(*(_load(serves[turn % several], turn) for turn in (0, 1)))
                _, spent, served, _ = (await _used(own, serves)).since(before)
        taken, all_taken = sum(each["per_second"] for each in told), sum(each["taken"] for each in told)
        name = f"{several} receivers" if several > 1 else "1 receiver"
        board.add(f"durable webhooks, {name}, load on the same cores", f"{taken:,.0f}/s")
        board.add(f"CPU per 1,000 deliveries, {name}", f"{spent / all_taken * 1e6:.0f} ms")
        board.add(f"the server's beside it, {name}", f"{served / all_taken * 1e6:.0f} ms")


async def _load(serve: Serve, turn: int) -> dict[str, float]:
    """The figures of one of two load generators."""
    command = ("-m", "tools.load", str(serve.port), PATH, str(CONNECTIONS // 2), str(SECONDS))
    made = await asyncio.create_subprocess_exec(sys.executable, *command, str(turn * LINKS), stdout=PIPE)
    out, _ = await made.communicate()
    figures: dict[str, float] = json.loads(out)
    assert figures["wrong"] == 0, figures
    return figures


async def claims(board: Board, place: Place) -> None:
    """What a claim costs among five million links, of which a few or very many are due."""
    database = InlineDatabase(place.url, place.schema)
    await database.write(upgrade)
    now = round(time.time() * 1000)
    await database.write(_filled)
    for due in DUE:
        await database.write(_due(due, now))
        taken = [await database.write(_claim(now)) for _ in range(CLAIMS)]
        _tell(board, due, taken)
    await database.close()


_FILL = text(
    "INSERT INTO link_rows (subject_id, source_version, fields, link_back, wanted, customer_id, applied,"
    " written_back, revision) SELECT 'user_' || lpad(n::text, 27, '0'), 1, f, c, 1, c, f, c, 1 FROM"
    " (SELECT n, 'cus_' || lpad(n::text, 14, '0') AS c,"
    """ '{"email":"person' || n || '@example.com","name":"Ada Lovelace"}' AS f"""
    " FROM generate_series(1, :links) AS n) AS made"
)
# Later and later: a claim takes those that are due longest.
_MAKE_DUE = text(
    "UPDATE link_rows SET due_at = :now - n, dirty_at = :now - n FROM generate_series(1, :due) AS n"
    " WHERE subject_id = 'user_' || lpad((n * :step)::text, 27, '0')"
)


def _without_hurry(connection: Connection) -> None:
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


def _filled(connection: Connection) -> None:
    _without_hurry(connection)
    connection.execute(_FILL, {"links": LINKS})


def _due(due: int, now: int) -> Callable[[Connection], None]:
    def job(connection: Connection) -> None:
        _without_hurry(connection)
        connection.execute(_MAKE_DUE, {"due": due, "now": now, "step": LINKS // due})
        connection.exec_driver_sql("ANALYZE link_rows")

    return job


def _claim(now: int) -> Callable[[Connection], list[dict[str, Any]]]:
    return lambda connection: explained_claim(connection, now, CLAIM, by_database=True)


def _tell(board: Board, due: int, taken: Sequence[list[dict[str, Any]]]) -> None:
    found = [each for plan in taken for each in plan]
    scans = [each for each in found if each.get("Relation Name") == "link_rows" and "Scan" in each["Node Type"]]
    ways = sorted({f"{each['Node Type']} {each.get('Index Name', '')}".strip() for each in scans})
    picked = [each for each in scans if each.get("Index Name") == "ix_links_due"]
    others = {each["Node Type"] for each in scans if each not in picked}
    touched = max(
        sum(each["Actual Rows"] * each["Actual Loops"] for each in plan if each in scans) for plan in taken
    )
    sorted_rows = max((each["Actual Rows"] for each in found if "Sort" in each["Node Type"]), default=0)
    removed = sum(each.get("Rows Removed by Filter", 0) for each in found)
    by_index = len(picked) == len(taken) and others <= {"Index Scan", "Bitmap Heap Scan"} and not removed
    name = f"claim of {CLAIM} of {due:,} due, {LINKS:,} links"
    board.add(f"{name}: found by", ", ".join(ways), "ix_links_due", right=by_index)
    board.add("rows touched", f"{touched:.0f}", f"<= {2 * CLAIM}", right=touched <= 2 * CLAIM)
    # The answer is put into the order of what was due; nothing else may be.
    board.add("rows sorted", f"{sorted_rows:.0f}", "0", right=not sorted_rows)
    pages = [plan[0]["Shared Hit Blocks"] + plan[0]["Shared Read Blocks"] for plan in taken]
    board.add("pages touched, median and most", f"{statistics.median(pages):.0f}, {max(pages)}")
    times = [plan[0]["Actual Total Time"] for plan in taken]
    board.add("milliseconds, median and most", f"{statistics.median(times):.1f}, {max(times):.1f}")
