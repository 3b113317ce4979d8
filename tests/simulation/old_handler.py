"""The handler that was there before us, and may run on for a while: it makes customers, and links none."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.simulation.watch import OWNER

if TYPE_CHECKING:
    from tests.simulation.actors import Cast


class OldHandler:
    """Makes duplicates, leaves orphans, and links nothing back."""

    def __init__(self, cast: "Cast") -> None:
        self._cast = cast
        self._stage = cast.stage
        self.doubled: set[str] = set()
        """Users for whom it made a customer, whoever made one besides."""

    def settle_in(self, cases: Sequence[str]) -> None:
        """What it has left behind before our time: each case is a user, and what became of the customer."""
        for case in cases:
            user = self._cast.came_before()
            made = [self._made_for(user) for _ in range(2 if case == "twice" else 1)]
            if case == "subscribed":
                self._subscribe(made[0])
            elif case == "gone":
                self._stage.sandbox.clerk.delete_user(self._stage.time(), user, silent=True)
                self._stage.changed(user)
                self._cast.left[user] = self._stage.time()
            elif case == "stale":
                self._stage.sandbox.stripe.edit_customer(self._stage.time(), made[0], email=None, name="P0 L0")

    async def play(self, who: int, what: str) -> None:
        """It hears of a user too, and does what it always did."""
        user = self._cast.someone(who)
        if user is None:
            return
        customer = self._made_for(user)
        if what == "subscribed":
            self._subscribe(customer)

    def _made_for(self, user_id: str) -> str:
        user = self._stage.sandbox.clerk.users[user_id]
        customer = self._stage.sandbox.stripe.create_customer(
            self._stage.time(), email=user.email, name=user.name, metadata={OWNER: user_id}
        )
        self._stage.watch.owned(customer, user_id)
        self.doubled.add(user_id)
        return customer

    def _subscribe(self, customer: str) -> None:
        self._stage.sandbox.stripe.add_subscription(self._stage.time(), customer, period=10_000 * 86_400)
        self._stage.attached.setdefault(customer, self._stage.time())
