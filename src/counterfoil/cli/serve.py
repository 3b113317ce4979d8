"""``counterfoil serve``: receiver and workers in one process."""

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar

import structlog
import typer
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.types import ASGIApp

from counterfoil.cli.output import configure_logging, explained
from counterfoil.errors import ConfigurationError
from counterfoil.settings import Settings, load
from counterfoil.store.ownership import Ownership
from counterfoil.wiring import Node, Outside, assemble, real_world

CONNECTIONS = 4_096
"""So many at once; further ones wait to be accepted."""
HEAD_MILLISECONDS = 10_000
"""For a request's head, and for the first byte of the next one."""
HEAD_LIMIT = 64 * 1024
"""Bytes of a request's head, and of a body not yet taken."""

T = TypeVar("T")


_log = structlog.get_logger(__name__)


def serve(
    observe: Annotated[
        bool,
        typer.Option(help="Take the news and journal what would be done, but write nothing outside."),
    ] = False,
    role: Annotated[
        Literal["all", "receiver", "worker"] | None,
        typer.Option(help="PostgreSQL: what this node does; unset: COUNTERFOIL_ROLE, or all."),
    ] = None,
) -> None:
    """Receive Clerk's webhooks and keep Stripe in step, until SIGTERM (which finishes what is in flight)."""
    with explained():
        settings = load(role=role)
        configure_logging(settings.log_level)
        _allow_files()
        run(_serve(settings, observe=observe))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the command's one coroutine, on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def told_to_stop() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set, from now on."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _serve(settings: Settings, *, observe: bool) -> None:
    stop = told_to_stop()
    with Ownership(settings.database_url) as ownership:
        async with real_world(settings) as outside, serving(settings, outside, observe=observe) as node:
            ownership.publish(f"http://{_reachable(settings.host)}:{settings.port}", node.token)
            _log.info(
                "serving",
                address=f"http://{settings.host}:{settings.port}{settings.webhook_path}",
                environment=node.environment.sentence(),
                observe=observe,
                role=settings.role,
            )
            stopped = asyncio.create_task(stop.wait())
            broken = asyncio.create_task(node.supervisor.wait())
            done, _ = await asyncio.wait({stopped, broken}, return_when=asyncio.FIRST_COMPLETED)
            for task in (stopped, broken):
                task.cancel()
            _log.info("stopping")
            if broken in done:
                broken.result()


@asynccontextmanager
async def serving(settings: Settings, outside: Outside, *, observe: bool = False) -> AsyncIterator[Node]:
    """A node that listens and works while the block lasts; leaving it finishes what is in flight."""
    _check_port(settings.host, settings.port)
    node = await assemble(settings, outside, observe=observe)
    node.supervisor.start(node.role)
    server = server_for(node.application, settings.host, settings.port)
    listening = asyncio.create_task(server.serve())
    try:
        yield node
    finally:
        # Nothing new is taken; what was taken is committed and answered; then the turns under way end.
        server.stop()  # type: ignore[no-untyped-call]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(listening, _settle(node))
        # The server's own threads outlive its end by a moment; an interpreter that goes first makes them abort.
        await asyncio.sleep(0.3)


def server_for(application: ASGIApp, host: str, port: int) -> Server:
    """The HTTP server, as serve runs it: no lifespan, HTTP/1.1, one thread.

    Connections that say nothing, or nothing more, have 10 s: a thousand of them, or four, leave room for others.
    """
    return Server(
        application,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
        log_level=LogLevels.warning,
        backlog=1024,
        backpressure=CONNECTIONS,
        http1_settings=HTTP1Settings(header_read_timeout=HEAD_MILLISECONDS, max_buffer_size=HEAD_LIMIT),
    )


async def _settle(node: Node) -> None:
    await node.supervisor.stop()
    await node.upstreams.stripe.close()


def _allow_files() -> None:
    """Have as many files open as there may be connections, where this process may: the usual limit is 1,024."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS * 2
    if least < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if most < 0 else min(wanted, most), most))


def _check_port(host: str, port: int) -> None:
    """Say so at once where the port is taken: the server itself would only log it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port} ({error.strerror}): set COUNTERFOIL_HOST and COUNTERFOIL_PORT"
            ) from None


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
