"""What the tests that kill have in common: a storm against real processes, and waiting until it is over."""

import asyncio
import time

from counterfoil.sandbox.faults import Faults
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.storm import Player, Storm
from counterfoil.sandbox.svix import SvixSettings
from tests.databases import looking

RATES = {
    "COUNTERFOIL_STRIPE_RATE": "500",
    "COUNTERFOIL_STRIPE_ENDPOINT_RATE": "500",
    "COUNTERFOIL_CLERK_RATE": "500",
    "COUNTERFOIL_QUIET": "2s",
    "COUNTERFOIL_DELETION_BREAKER": "0",
}
"""What a node is told in a storm: the sandbox has no limits, and nothing waits longer than it must."""


def stormy(seed: int, time_scale: float) -> SandboxSettings:
    """A storm's world: slow and failing calls; deliveries doubled, reordered, and tried again in scaled time."""
    return SandboxSettings(
        seed=seed,
        latency=(0.01, 0.08),
        svix=SvixSettings(time_scale=time_scale, duplicate=0.2, reorder=0.2, reorder_by=(0.0, 2.0)),
        faults=Faults(error_before=0.02, error_after=0.02, cut_after=0.03, stored_500=0.01),
    )


async def play(storm: Storm, sandbox: Sandbox) -> None:
    """Have people come, change and go at the times that ``storm`` says."""
    player = Player(sandbox.clerk)
    began = time.monotonic()
    for at, action in storm:
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))
        player.play(time.time(), action)


def unsettled(url: str) -> int:
    """How many links still owe something."""
    with looking(url) as connection:
        row = connection.execute("SELECT COUNT(*) FROM link_rows WHERE dirty_at IS NOT NULL").fetchone()
    assert row is not None
    return int(str(row[0]))


async def settled(sandbox: Sandbox, url: str, patience: float) -> None:
    """Return when all is delivered and settled for two seconds; fails after ``patience`` seconds."""
    end, calm = time.monotonic() + patience, 0
    while calm < 4:
        assert time.monotonic() < end, f"{unsettled(url)} unsettled, {sandbox.svix.pending()} deliveries wait"
        await asyncio.sleep(0.5)
        calm = calm + 1 if not sandbox.svix.pending() and not unsettled(url) else 0
