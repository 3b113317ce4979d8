"""What the parts of the bench share: a board of figures, places to work in, nodes, and what a process uses."""

import os
import secrets
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.store.database import InlineDatabase
from counterfoil.store.ownership import sqlite_path
from counterfoil.store.upgrade import remove
from tests.acceptance.node import Serve

PATH = "/webhooks/clerk"
LIVE_KEY = "sk_live_sandbox"
FAST = {
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
async def a_place(url: str | None) -> AsyncIterator[Place]:
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
async def serving(place: Place, sandbox: Sandbox, **more: str) -> AsyncIterator[Serve]:
    """One node that does all, with the sandbox as its world."""
    async with serve_sandbox(sandbox) as base, node(place, sandbox, base, "all", **more) as serve:
        await serve.ready()
        yield serve


@asynccontextmanager
async def node(place: Place, sandbox: Sandbox, base: str, role: str, **more: str) -> AsyncIterator[Serve]:
    """A node that was started, in a folder of its own; `ready` waits for it."""
    own = {"DATABASE_URL": place.url, "COUNTERFOIL_SCHEMA": place.schema}
    folder = Path(tempfile.mkdtemp(prefix=f"{role}-", dir=place.folder))
    serve = Serve(folder, sandbox.settings, base, **own, **more)
    await serve.start("--role", role)
    try:
        yield serve
    finally:
        await serve.end(signal.SIGTERM)


def cpu(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    """The most memory that a living process has had (MB)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def refused(sandbox: Sandbox) -> str:
    """The calls that were too many, by operation; "0": none was."""
    calls = (call for side in ("clerk", "stripe") for call in sandbox.calls(side))
    found = Counter(call.operation for call in calls if call.status == 429)
    return ", ".join(f"{count} {operation}" for operation, count in found.items()) or "0"
