"""What a play does to the product's waiting, and to that alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

from counterfoil.engine import patience, supervisor, sweep, worker
from counterfoil.engine.supervisor import Supervisor
from counterfoil.upstream import breaker

_QUIET: tuple[tuple[ModuleType, str, float], ...] = (
    (worker, "_POLL", 1800.0),
    (sweep, "_TICK", 1800.0),
    (sweep, "SWEEP_EVERY", 6 * 3_600_000),
    (supervisor, "_PRUNE_EVERY", 6 * 3600.0),
    # An outage of a day is waited for with a try every five minutes instead of one every minute.
    (patience, "_LONGEST", 300.0),
    (breaker, "_LONGEST", 300.0),
)
"""What waits or polls, and for how long in quiet hours."""


@contextmanager
def pace() -> Iterator[Callable[[bool], None]]:
    """Let quiet hours cost little: what polls, polls seldom. Nothing but the work of waiting depends on it."""
    usual = [getattr(module, name) for module, name, _ in _QUIET]

    def set_pace(quiet: bool) -> None:
        for (module, name, long), short in zip(_QUIET, usual, strict=True):
            setattr(module, name, long if quiet else short)

    try:
        yield set_pace
    finally:
        set_pace(False)


@contextmanager
def shared(several: bool) -> Iterator[None]:
    """Where several processes work on a database, nobody knows whose leases are dead ones: as on PostgreSQL."""
    usual = Supervisor._reclaim
    try:
        if several:
            Supervisor._reclaim = _nothing  # type: ignore[method-assign]
        yield
    finally:
        Supervisor._reclaim = usual  # type: ignore[method-assign]


async def _nothing(self: Supervisor) -> None:
    """Leases run out by themselves."""
