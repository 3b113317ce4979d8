"""How commands speak: to a person on a screen, to a program as JSON, and by exit codes."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, Any

import msgspec
import structlog
import typer
from rich.console import Console
from rich.markup import escape

from counterfoil.errors import (
    ConfigurationError,
    CounterfoilError,
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseOutdated,
    DatabaseUnavailable,
    NotYet,
    UpstreamError,
    WrongEnvironment,
)


class Exit(IntEnum):
    """What a command's exit code means."""

    OK = 0
    FAILED = 1  # the command did its work, and what it found is not right
    USAGE = 2  # the command line itself is wrong
    SETTINGS = 3  # a setting is missing or wrong
    ENVIRONMENT = 4  # the keys are of another environment than the database's
    DATABASE = 5  # the database is not to be had: owned by another process, outdated, unwritable
    UPSTREAM = 6  # Clerk or Stripe does not answer, or refuses the key
    PENDING = 7  # asked for, and not done yet


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

screen = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


@contextmanager
def explained(always: Exit | None = None) -> Iterator[None]:
    """Turn our own errors into a sentence and an exit code; any other one is a bug, and shows as one.

    ``always``: the exit code of every error, for a command whose other codes mean something else.
    """
    try:
        yield
    except CounterfoilError as error:
        errors.print(f"[bold red]error:[/] {plain(str(error))}")
        raise typer.Exit(always if always is not None else _code(error)) from None


def plain(text: str) -> str:
    """A text of somebody else's, for the screen: no markup, and nothing that commands the terminal."""
    shown = "".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in text)
    return escape(shown)


def _code(error: CounterfoilError) -> int:
    match error:
        case WrongEnvironment():
            return Exit.ENVIRONMENT
        case ConfigurationError():
            return Exit.SETTINGS
        case DatabaseBusy() | DatabaseDamaged() | DatabaseOutdated() | DatabaseUnavailable():
            return Exit.DATABASE
        case UpstreamError():
            return Exit.UPSTREAM
        case NotYet():
            return Exit.PENDING
        case _:
            return Exit.FAILED


def configure_logging(level: str) -> None:
    """Log to standard error: lines for a person on a screen, JSON otherwise."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(stream=sys.stderr, level=max(number, logging.WARNING), format="%(message)s")
    # At debug level these would log every request with its headers and bodies.
    for name in ("stripe", "aiohttp", "sqlalchemy", "alembic", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Never with local variables: they may hold keys and personal data.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            )
            if not sys.stderr.isatty()
            else structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
