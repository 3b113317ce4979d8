"""What a node has in common with the others on its database, as the engine sees it."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from counterfoil.upstream.quota import Slots, own_slots

Work = Callable[[], Awaitable[None]]


class Peers(Protocol):
    """The other nodes: `Alone` where there are none."""

    @property
    def alone(self) -> bool:
        """Nobody else works on this database."""

    def slots(self, name: str, rate: float) -> Slots:
        """The slots of a bucket, at ``rate`` calls a second of all nodes together."""

    async def only(self, what: str, work: Work) -> bool:
        """Do ``work`` unless another node is at ``what``, and return whether it was done.

        Raises:
            DatabaseUnavailable: nobody knows any more who is at it; the work was cancelled.
        """

    def tell(self) -> None:
        """Something is due: wake the others' workers, soon."""

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever another node tells that something is due; for ever."""

    async def time(self) -> int | None:
        """The database's time in milliseconds; ``None``: our own will do.

        Raises:
            DatabaseUnavailable: it does not answer.
        """


class Alone:
    """Nobody else: SQLite, or a node of a simulation."""

    alone = True
    slots = staticmethod(own_slots)

    async def only(self, what: str, work: Work) -> bool:
        """See `Peers.only`."""
        await work()
        return True

    def tell(self) -> None:
        """See `Peers.tell`."""

    async def listen(self, wake: Callable[[], None]) -> None:
        """See `Peers.listen`: nobody tells anything."""

    async def time(self) -> int | None:
        """See `Peers.time`."""
        return None
