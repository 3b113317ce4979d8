"""What a turn is carried out with."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from counterfoil.billing.stripe import StripeApi
from counterfoil.clerk.api import ClerkApi
from counterfoil.core.link import Lane
from counterfoil.core.policy import Policy
from counterfoil.engine.catch_up import CatchUp
from counterfoil.engine.clock import Clock, FollowingClock
from counterfoil.engine.peers import Peers
from counterfoil.errors import Paused
from counterfoil.store.database import Database
from counterfoil.upstream.gate import Ticket

CALL_TIME = 25.0
"""Seconds that a lease must still have for a call to be sent: the call's time-out, and some to write it down."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How decisions are made. ``observe``: nothing is written outside."""

    policy: Policy
    dice: Callable[[], float] = random.random
    observe: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """The parts that a worker uses."""

    database: Database
    clerk: ClerkApi
    stripe: StripeApi
    clock: FollowingClock
    catch_up: CatchUp
    rules: Rules
    instance_id: str
    """The pinned Clerk instance."""
    peers: Peers


@dataclass(frozen=True, slots=True)
class Task:
    """One turn's lane and lease; ``deadline`` in the clock's elapsed seconds."""

    lane: Lane
    deadline: float
    clock: Clock

    def left(self) -> float:
        """Seconds that the lease still has."""
        return self.deadline - self.clock.elapsed()

    def ticket(self) -> Ticket:
        """For a call on behalf of this turn."""
        return Ticket(self.lane, self._fence)

    def _fence(self) -> None:
        if self.left() < CALL_TIME:
            raise Paused("the lease is too short for a call", upstream="", retry_after=0.05)
