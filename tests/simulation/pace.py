"""What a play does to the product's waiting, and to that alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from counterfoil.engine import supervisor, sweep, worker
from counterfoil.engine.supervisor import Supervisor


@contextmanager
def pace() -> Iterator[Callable[[bool], None]]:
    """Let quiet hours cost little: what polls, polls seldom. Nothing but the work of waiting depends on it."""
    usual = worker._POLL, sweep._TICK, sweep.SWEEP_EVERY, supervisor._PRUNE_EVERY

    def set_to(poll: float, tick: float, every: int, prune: float) -> None:
        worker._POLL, sweep._TICK, sweep.SWEEP_EVERY, supervisor._PRUNE_EVERY = poll, tick, every, prune

    try:
        yield lambda quiet: set_to(1800.0, 1800.0, 6 * 3_600_000, 6 * 3600.0) if quiet else set_to(*usual)
    finally:
        set_to(*usual)


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
