"""A real ``counterfoil serve``, as a process, beside a sandbox on a socket."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from counterfoil.cli.sandbox import environment
from counterfoil.sandbox.sandbox import SandboxSettings

READY = 90.0
_OURS = ("CLERK", "STRIPE", "COUNTERFOIL", "DATABASE_URL")
# Where this is set each start compiles all modules anew: 3 s of CPU instead of 1 s, for every kill of a storm.
_LEFT_OUT = (*_OURS, "PYTHONDONTWRITEBYTECODE")


def free_port() -> int:
    """A port that is free now, and that nobody's outgoing connection is given before it is used."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)  # below those that the kernel hands out
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Serve:
    """One ``counterfoil serve`` after another, on one database."""

    def __init__(self, folder: Path, world: SandboxSettings, base: str, **more: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "serve.log"
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)},
            **environment(world, base),
            "DATABASE_URL": f"sqlite:///{folder / 'counterfoil.db'}",
            "COUNTERFOIL_PORT": str(self.port),
            **more,
        }
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self, *arguments: str) -> None:
        """Start the process; `ready` waits for it."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "from counterfoil.cli.entry import main; main()",
                "serve",
                *arguments,
                cwd=self.folder,
                env=self.environ,
                stdout=log,
                stderr=log,
            )

    async def ready(self, patience: float = READY) -> None:
        """Wait until it takes deliveries, or works."""
        end = time.monotonic() + patience
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < end:
                assert self.process is not None
                assert self.process.returncode is None, self.log.read_text()[-2000:]
                try:
                    async with session.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.02)
        raise AssertionError(self.log.read_text()[-2000:])

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        return await self.process.wait()


@asynccontextmanager
async def serving(serve: Serve, *arguments: str) -> AsyncIterator[None]:
    """Have it run while the block lasts, and end in good order; `Serve.ready` waits for it."""
    await serve.start(*arguments)
    try:
        yield
        assert await serve.end(signal.SIGTERM) == 0, serve.log.read_text()[-2000:]
    finally:
        if serve.process is not None and serve.process.returncode is None:
            await serve.end(signal.SIGKILL)
