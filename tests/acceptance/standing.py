"""A whole world over sockets: a sandbox, a real ``counterfoil serve`` that takes its deliveries, its database."""

import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.faults import Fault
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.messages import Request
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.svix import SvixSettings
from tests.acceptance.node import Serve
from tests.cli.support import Ended, beside, until

LINK = "SELECT dirty_at IS NULL AND customer_id IS NOT NULL FROM link_rows WHERE subject_id = ?"


@dataclass(frozen=True, slots=True)
class Standing:
    """A sandbox, and a serve that takes its deliveries."""

    sandbox: Sandbox
    serve: Serve
    base: str

    async def run(self, *arguments: str) -> Ended:
        """A command on the serve's database."""
        return await beside(self.serve.folder, *arguments)

    async def asks(self, query: str, *values: str) -> bool:
        """Whether the database answers yes."""
        with closing(sqlite3.connect(self.serve.folder / "counterfoil.db")) as connection:
            row = connection.execute(query, values).fetchone()
        return bool(row and row[0])

    async def settled(self, user: str) -> None:
        await until(lambda: self.asks(LINK, user))

    async def parked(self, user: str) -> None:
        await until(lambda: self.asks("SELECT parked IS NOT NULL FROM link_rows WHERE subject_id = ?", user))

    def sign_up(self, name: str) -> str:
        return self.sandbox.clerk.create_user(time.time(), email=f"{name}@example.com", first_name=name.title())

    def sign_up_refused(self, name: str) -> str:
        """Somebody whose customer Stripe refuses to make, once: the link is parked."""

        def theirs(request: Request) -> bool:
            return name.encode() in request.body

        refused = Fault(kind="error_before", status=400)
        self.sandbox.plan_fault("stripe", "customers.create", refused, when=theirs)
        return self.sign_up(name)


@asynccontextmanager
async def standing_in(
    folder: Path, *arguments: str, latency: float = 0.0, svix: SvixSettings | None = None, **more: str
) -> AsyncIterator[Standing]:
    """A world that lasts as long as the block; a serve that still runs at its end is killed."""
    sandbox = Sandbox(SandboxSettings(latency=(latency, latency), svix=svix or SvixSettings()))
    sandbox.lift_limits()
    async with serve_sandbox(sandbox) as base:
        serve = Serve(folder, sandbox.settings, base, **{"COUNTERFOIL_CLERK_RATE": "200", **more})
        await serve.start(*arguments)
        try:
            await serve.ready()
            async with Courier(sandbox.svix, f"{serve.url}/webhooks/clerk"):
                yield Standing(sandbox, serve, base)
        finally:
            if serve.process is not None and serve.process.returncode is None:
                await serve.end(signal.SIGKILL)
