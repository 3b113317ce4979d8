"""The app beside us: it asks for its users' customers, and believes what it is told; so that is checked."""

import asyncio
from typing import TYPE_CHECKING

from counterfoil.core.link import ParkReason
from counterfoil.core.step import Without
from tests.asking import Answered, ensure
from tests.simulation.watch import OWNER

if TYPE_CHECKING:
    from tests.simulation.actors import Cast

NOBODY = "user_2nobody00000000000000000"
"""Whom Clerk does not know."""
_PATIENCE = 15.0
"""Seconds after which the app hangs up, whatever comes."""
_STATUSES = {200, 202, 404, 409, 410, 503}


class App:
    """Asks, as `client.ensure_customer` would, over the API of whichever node takes it."""

    def __init__(self, cast: "Cast") -> None:
        self._cast = cast
        self._stage = cast.stage
        self.asked: set[str] = set()
        """Users for whom a customer was asked, as is known to be on disk."""

    async def ask(self, user: str, node: int, wait: int) -> None:
        """One request, from beginning to end; the app hangs up when it takes too long."""
        process = self._cast.process(node)
        if process is None or process.node is None:
            return
        gone = asyncio.Event()
        asking = asyncio.create_task(ensure(process.node.application, user, wait=wait, gone=gone))
        process.tasks.add(asking)
        asking.add_done_callback(process.tasks.discard)
        await asyncio.wait({asking}, timeout=wait + _PATIENCE)
        if not asking.done():
            gone.set()
            self._stage.watch.marks["an app hung up"] += 1
        elif asking.cancelled():
            self._stage.watch.marks["an app's node died"] += 1
        elif (error := asking.exception()) is not None:
            self._stage.watch.say(f"an ensure of {user} failed: {error!r}")
        else:
            self._check(user, asking.result())

    def _check(self, user: str, answer: Answered) -> None:
        stage = self._stage
        stage.note(f"ensure {user}: {answer.status} {answer.text.decode()[:80]}")
        stage.watch.marks[f"an ensure was answered {answer.status}"] += 1
        if answer.status not in _STATUSES:
            stage.watch.say(f"an ensure of {user} was answered {answer.status}")
            return
        if answer.status in {202, 409}:
            self.asked.add(user)
        if answer.status == 200:
            self._linked(user, answer.json["customer_id"])
        elif answer.status in {404, 410}:
            self._gone(user, answer.status)
        elif answer.status == 409:
            self._without(user, answer.json["reason"])

    def _linked(self, user: str, customer_id: str) -> None:
        """The app will bill this customer: it is, or was until people changed that, this user's."""
        cast, stage = self._cast, self._stage
        if user == NOBODY:
            stage.watch.say("a customer was answered for a user whom Clerk does not know")
        if user not in stage.watch.ever(customer_id):
            stage.watch.say(f"{user} was told {customer_id}, which was never that user's")
        stage.sandbox.advance(stage.time())
        customer = stage.sandbox.stripe.customers.get(customer_id)
        meddled = cast.restored or user in cast.meddled() or customer_id in stage.moves
        if meddled or user not in stage.sandbox.clerk.users:
            return
        if customer is None or customer.deleted or customer.metadata.get(OWNER) != user:
            stage.watch.say(f"{user} was told {customer_id}, which is not there, or another's")

    def _gone(self, user: str, status: int) -> None:
        """A read that lags may show a user who has just come as not there; a later one mends that."""
        if user in self._stage.sandbox.clerk.users and not (self._stage.manners.lag and self._stage.rough):
            self._stage.watch.say(f"{user} is there, and was answered {status}")
        if user == NOBODY and status == 410:
            self._stage.watch.say("a user whom Clerk never knew was called deleted")

    def _without(self, user: str, reason: str) -> None:
        cast, stage = self._cast, self._stage
        stage.watch.marks[f"an ensure was answered 409: {reason}"] += 1
        if reason in {each.value for each in ParkReason}:
            return  # which of them may be is judged in the end
        known = reason == Without.NO_EMAIL and user in cast.without_email
        if not known:
            stage.watch.say(f"{user} was told that there is no customer: {reason}")

    async def play(self, whom: str, who: int, node: int, wait: int) -> None:
        """An event: ``whom`` is somebody, the newest user, perhaps unheard of, one gone, or nobody."""
        gone = sorted(self._cast.left, key=self._stage.numbers.__getitem__)
        user: str | None = NOBODY
        if whom == "somebody":
            user = self._cast.someone(who)
        elif whom == "newest":
            user = self._cast.people[-1] if self._cast.people else None
        elif whom == "gone" and gone:
            user = gone[who % len(gone)]
        if user is not None:
            self._stage.chore(self.ask(user, node, wait))

    # The end.

    async def ask_for_all(self) -> None:
        """In peace, everybody is asked for: what is answered must be so."""
        await asyncio.gather(*(self.ask(user, 0, 10) for user in (*self._cast.people, NOBODY)))
