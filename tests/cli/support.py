"""Commands, run in this process where that tells as much as a process of their own."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import typer
from typer.testing import CliRunner

from counterfoil.cli.main import app
from counterfoil.cli.sandbox import environment
from counterfoil.engine.pin import Environment, pin
from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.store.database import InlineDatabase
from counterfoil.store.upgrade import upgrade

COMMAND = (sys.executable, "-c", "from counterfoil.cli.entry import main; main()")
OURS = ("CLERK", "STRIPE", "COUNTERFOIL", "DATABASE_URL", "PORT", "SIGNING_SECRET", "WEBHOOK_SECRET")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def bare(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anything of ours, and with ``more``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, "COLUMNS": "200", **(more or {})}


def command(folder: Path, *arguments: str, **environ: str) -> Ended:
    """Run a command in this process, with ``folder`` as the working folder."""
    assert isinstance(app, typer.Typer)
    absent = {name: None for name in os.environ if name.startswith(OURS)}
    logging = structlog.get_config()
    try:
        with _working_in(folder):
            done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", **absent, **environ})
    finally:
        structlog.configure(**logging)  # the command's goes to a stream that has ended with it
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ended(done.exit_code, done.stdout, done.stderr)


async def beside(folder: Path, *arguments: str, **environ: str) -> Ended:
    """As `command`, on another thread: this one's event loop goes on serving."""
    return await asyncio.to_thread(command, folder, *arguments, **environ)


async def process(folder: Path, *arguments: str, **environ: str) -> Ended:
    """Run a command as a process of its own, to its end."""
    pipe = asyncio.subprocess.PIPE
    made = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, cwd=folder, env=bare(environ), stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(180):
            out, err = await made.communicate()
    finally:
        if made.returncode is None:
            made.kill()
            await made.wait()
    return Ended(made.returncode or 0, out.decode(), err.decode())


def keys(sandbox: Sandbox, base: str = "http://127.0.0.1:9", **more: str) -> dict[str, str]:
    """The settings that point at a sandbox; without ``base`` nobody answers."""
    return {**environment(sandbox.settings, base), **more}


async def pinned(folder: Path, url: str | None = None, **changes: Any) -> None:
    """A database that belongs to the usual sandbox's environment, or to another one.

    It is in ``folder``, unless ``url`` names it.
    """
    known: dict[str, Any] = {
        "clerk_instance": "ins_2sandbox0000000000000000000",
        "clerk_type": "development",
        "stripe_account": "acct_1Sandbox00000000",
        "livemode": False,
    }
    database = InlineDatabase(url or f"sqlite:///{folder / 'counterfoil.db'}")
    await database.write(upgrade)
    await pin(database, Environment(**{**known, **changes}), "clerkUserId", 1_790_000_000_000)
    await database.close()


async def until(condition: Callable[[], Awaitable[bool]], limit: float = 20.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + limit
    while not await condition():
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.03)
