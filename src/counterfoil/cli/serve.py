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

from counterfoil.cli.output import configure_logging, explained
from counterfoil.errors import ConfigurationError
from counterfoil.settings import Settings, load
from counterfoil.store.ownership import Ownership
from counterfoil.web.front import CONNECTIONS, Front
from counterfoil.wiring import Node, Outside, assemble, real_world

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
    with bound(settings.host, settings.port) as at:
        node = await assemble(settings, outside, observe=observe)
        node.supervisor.start(node.role)
        front = Front(node.receiver, settings.webhook_path, node.application, at)
        listening = asyncio.create_task(front.serve())
        try:
            await _begun(front, listening, settings)
            yield node
        finally:
            # Nothing new is taken; what was taken is committed and answered; then the turns under way end.
            front.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(asyncio.wait({listening}), _settle(node))


async def _begun(front: Front, listening: "asyncio.Task[None]", settings: Settings) -> None:
    """Return when connections are taken.

    Raises:
        ConfigurationError: another process has taken the port since it was bound.
    """
    takes = asyncio.create_task(front.listening())
    await asyncio.wait({takes, listening}, return_when=asyncio.FIRST_COMPLETED)
    takes.cancel()
    if listening.done():
        try:
            listening.result()
        except OSError as error:
            raise _cannot_listen(settings.host, settings.port, error) from None


async def _settle(node: Node) -> None:
    await node.supervisor.stop()
    await node.upstreams.stripe.close()


def _allow_files() -> None:
    """Have as many files open as there may be connections, where this process may: the usual limit is 1,024."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS * 2
    if least < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if most < 0 else min(wanted, most), most))


def bound(host: str, port: int) -> socket.socket:
    """A socket with this address; a port that is taken is told at once, before any work is done.

    Raises:
        ConfigurationError: it is taken, or no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    at = socket.socket(family, socket.SOCK_STREAM)
    at.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        at.bind((host, port))
    except OSError as error:
        at.close()
        raise _cannot_listen(host, port, error) from None
    return at


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigurationError:
    told = f"cannot listen on {host}:{port} ({error.strerror}): set COUNTERFOIL_HOST and COUNTERFOIL_PORT"
    return ConfigurationError(told)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
