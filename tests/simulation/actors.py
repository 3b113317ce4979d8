"""Who does what: people at Clerk, the app, people in Stripe's dashboard, and the ground under the nodes."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import msgspec

from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.faults import Fault
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.stripe import StripeSettings
from counterfoil.store import environment
from tests.harness import HOUR
from tests.simulation.app import App
from tests.simulation.auditor import Auditor
from tests.simulation.old_handler import OldHandler
from tests.simulation.process import Arm, Process
from tests.simulation.script import Event
from tests.simulation.stage import Stage
from tests.simulation.watch import LINK_BACK, OWNER


class Cast:
    """Everybody who acts; knows what they did, so that the end can be judged fairly."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.random = Random(f"{seed} cast")
        self.people: list[str] = []
        """Users, in the order in which they came."""
        self.old: set[str] = set()
        """Older than the first start: a customer is not made for them unasked."""
        self.edited: dict[tuple[str, str], float] = {}
        """When people last edited a field of a customer."""
        self.changed: dict[tuple[str, str], float] = {}
        """When a user's field last changed."""
        self.moved: set[str] = set()
        """Users who lost or got a customer by people's hands."""
        self.bereft: dict[str, float] = {}
        """Users whose customer people deleted, and when."""
        self.attached: set[str] = set()
        """Users with something attached to a customer."""
        self.marks: dict[str, dict[str, str]] = {}
        """What the app wrote into each user's metadata."""
        self.strangers: dict[str, dict[str, Any]] = {}
        """Customers of nobody, as they were made."""
        self.named: set[str] = set()
        """Users whose metadata named a customer from the beginning."""
        self.born: dict[str, float] = {}
        self.left: dict[str, float] = {}
        """When users left."""
        self.restored = False
        self.emptied = False
        self.backups: list[str] = []
        self.without_email: set[str] = set()
        """Users who had no address, at one time or another."""
        self._serial = 0
        self.app, self.auditor, self.handler = App(self), Auditor(self), OldHandler(self)
        self._others: dict[str, Callable[..., Awaitable[None]]] = {
            "ensure": self.app.play,
            "audit and apply": self.auditor.play,
            "old handler": self.handler.play,
        }

    async def play(self, event: Event) -> None:
        """Let one event happen."""
        self.stage.note(f"event {event.kind} {sorted(event.with_.items())}")
        self.stage.watch.marks[f"event: {event.kind}"] += 1
        acts: dict[str, Callable[..., Awaitable[None]]] = {
            "ensure": self.app.play,
            "audit and apply": self.auditor.play,
            "old handler": self.handler.play,
        }
        act = acts.get(event.kind) or getattr(self, "_" + event.kind.replace(" ", "_"))
        await act(**event.with_)
        self.stage.stirred.set()

    def someone(self, who: int) -> str | None:
        """A user who is there."""
        here = [each for each in self.people if each in self.stage.sandbox.clerk.users]
        return here[who % len(here)] if here else None

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _address(self, number: int, to: str) -> str | None:
        if to == "none":
            return None
        return f"p{number}.{self._next()}@" + ("x.invalid-for-stripe" if to == "refused" else "example.com")

    def meddled(self) -> set[str]:
        """Users whose customers are not ours alone: people, or an old handler, had their hands in it."""
        return self.moved | self.bereft.keys() | self.handler.doubled

    # People at Clerk.

    async def _sign_up(self, email: bool, refused: bool, named: str | None, old: bool) -> None:
        number = len(self.people)
        clerk, now = self.stage.sandbox.clerk, self.stage.time()
        to = "none" if not email else "refused" if refused else "new"
        metadata: dict[str, Any] = {}
        if named is not None:
            metadata = {f"{named}_metadata": {LINK_BACK: self.stranger()}}
        user = clerk.create_user(
            now,
            email=self._address(number, to),
            first_name=f"P{number}",
            last_name=f"L{self._next()}",
            silent=old,
            **metadata,
        )
        if named is not None:
            self.named.add(user)
            self.strangers.pop(metadata[f"{named}_metadata"][LINK_BACK])
        if old:
            self.stage.watch.marks["a sign-up that nobody told of"] += 1
        self._born(user, number)

    def _born(self, user: str, number: int) -> None:
        self.stage.numbers[user] = number
        self.people.append(user)
        if self.stage.sandbox.clerk.users[user].email is None:
            self.without_email.add(user)
        self.stage.changed(user)
        self.born[user] = self.stage.time()
        self.changed[user, "email"] = self.changed[user, "name"] = self.stage.time()

    def stranger(self) -> str:
        """A customer that is nobody's; answers its id."""
        values: dict[str, Any] = {"description": "a stranger", "metadata": {"plan": "gold"}}
        made = self.stage.sandbox.stripe.create_customer(self.stage.time(), **values)
        self.strangers[made] = values
        self.stage.watch.owned(made, None)
        return made

    def settle_in(self, pairs: int, old: int) -> None:
        """Who was there before our time: matching pairs, users without a customer, customers without a user."""
        sandbox, now = self.stage.sandbox, self.stage.time()
        for _ in range(pairs):
            number = len(self.people)
            email = self._address(number, "new")
            user, customer = sandbox.add_pair(now, email=email, first_name=f"P{number}", last_name="L0")
            self.stage.watch.owned(customer, user)
            self._born(user, number)
            self.old.add(user)
        for _ in range(old):
            self.came_before()
        self.stranger()

    def came_before(self) -> str:
        """A user from before our time, without a customer; answers the id."""
        number = len(self.people)
        user = self.stage.sandbox.clerk.create_user(
            self.stage.time(),
            silent=True,
            email=self._address(number, "new"),
            first_name=f"P{number}",
            last_name="L0",
        )
        self._born(user, number)
        self.old.add(user)
        return user

    async def _change_email(self, who: int, to: str) -> None:
        if (user := self.someone(who)) is not None:
            self.stage.sandbox.clerk.change_email(
                self.stage.time(), user, self._address(self.stage.numbers[user], to)
            )
            self.changed[user, "email"] = self.stage.time()
            if to == "none":
                self.without_email.add(user)
            self.stage.changed(user)

    async def _change_name(self, who: int) -> None:
        if (user := self.someone(who)) is not None:
            first, last = f"P{self.stage.numbers[user]}", f"L{self._next()}"
            self.stage.sandbox.clerk.change_name(self.stage.time(), user, first, last)
            self.changed[user, "name"] = self.stage.time()
            self.stage.changed(user)

    async def _sign_in(self, who: int) -> None:
        if (user := self.someone(who)) is not None:
            self.stage.sandbox.clerk.touch(self.stage.time(), user)
            self.stage.changed(user)

    async def _leave(self, who: int) -> None:
        if (user := self.someone(who)) is not None:
            self.stage.sandbox.clerk.delete_user(self.stage.time(), user)
            self.left[user] = self.stage.time()
            self.stage.changed(user)

    async def _app_writes(self, who: int, field: str) -> None:
        if (user := self.someone(who)) is not None:
            key = f"app{self._next()}"
            self.stage.sandbox.clerk.merge_metadata(
                self.stage.time(),
                user,
                f"{field}_metadata",  # type: ignore[arg-type]
                {key: "written"},
            )
            self.marks.setdefault(user, {})[key] = f"{field}_metadata"
            self.stage.changed(user)

    # People in Stripe's dashboard.

    def _customer(self, who: int) -> tuple[str, str] | None:
        """A living user's customer: (user, customer)."""
        stripe, clerk = self.stage.sandbox.stripe, self.stage.sandbox.clerk
        owned = [
            (each.metadata[OWNER], each.id)
            for each in stripe.live_customers()
            if each.metadata.get(OWNER) in clerk.users
        ]
        return owned[who % len(owned)] if owned else None

    async def _person_edits(self, who: int, what: str) -> None:
        if (found := self._customer(who)) is None:
            return
        user, customer = found
        stripe, number = self.stage.sandbox.stripe, self.stage.numbers[user]
        if what == "email":
            stripe.edit_customer(self.stage.time(), customer, email=self._address(number, "new"))
        elif what == "name":
            stripe.edit_customer(self.stage.time(), customer, name=f"P{number} L{self._next()}")
        else:
            stripe.edit_customer(self.stage.time(), customer, metadata={"vip": "yes"}, description="a friend")
        self.edited[customer, what] = self.stage.time()

    async def _person_moves(self, who: int, to: str) -> None:
        if (found := self._customer(who)) is None:
            return
        user, customer = found
        other = "" if to == "nobody" else self.someone(who + 1) or ""
        self.stage.sandbox.stripe.edit_customer(self.stage.time(), customer, metadata={OWNER: other})
        self.stage.moves.setdefault(customer, set()).update({user, other} - {""})
        self.stage.taken.add(customer)
        self.stage.watch.owned(customer, other or None)
        self.moved |= {user, other} - {""}

    async def _person_deletes(self, who: int) -> None:
        if (found := self._customer(who)) is not None:
            user, customer = found
            self.stage.sandbox.stripe.delete_customer(self.stage.time(), customer)
            self.stage.taken.add(customer)
            self.stage.watch.owned(customer, None)
            self.bereft[user] = self.stage.time()

    async def _person_attaches(self, who: int, what: str) -> None:
        if (found := self._customer(who)) is not None:
            user, customer = found
            stripe, now = self.stage.sandbox.stripe, self.stage.time()
            if what == "card":
                stripe.attach_payment_method(now, customer)
            else:
                stripe.add_subscription(now, customer)
            self.stage.attached.setdefault(customer, now)
            self.attached.add(user)

    # News that should not have come.

    async def _replay(self, share: float) -> None:
        svix = self.stage.sandbox.svix
        for message in [each.id for each in svix.messages() if not each.waiting]:
            if self.random.random() < share:
                svix.resend(message, self.stage.time() + self.random.uniform(0.0, 60.0))

    async def _forged(self, who: int, kind: str) -> None:
        """News that is signed and still not to be trusted."""
        known = self.stage.sandbox.svix.messages()
        if not known:
            return
        message = known[who % len(known)]
        event = msgspec.json.decode(message.body)
        if kind == "other":
            event["instance_id"] = "ins_2another0000000000000000000"
        elif kind == "none":
            event.pop("instance_id", None)
        elif event["type"] == "user.deleted":
            return
        elif kind == "ahead":
            event["timestamp"] = int(self.stage.time() * 1000) + 3_600_000
        else:  # the same version, with another body
            event["data"]["last_name"] = "L0"
        self.stage.sandbox.svix.publish(self.stage.time(), event["type"], msgspec.json.encode(event))

    async def _example(self) -> None:
        self.stage.sandbox.clerk.send_example(self.stage.time())

    # The ground.

    def process(self, node: int) -> Process | None:
        """A node of ours that runs."""
        here = [each for each in self.stage.processes if each.serves and each.elsewhere is None]
        return here[node % len(here)] if here else None

    async def _crash(self, node: int, where: str, left: int, seconds: float) -> None:
        if (process := self.process(node)) is not None:
            process.arms.append(Arm("crash", where, left, seconds))

    async def _stall(self, node: int, where: str, left: int, seconds: float) -> None:
        if (process := self.process(node)) is not None:
            process.arms.append(Arm("stall", where, left, seconds))

    async def _database(self, node: int, kind: str, where: str, times: int) -> None:
        if (process := self.process(node)) is not None:
            process.arms += [Arm(kind, where, number + 1) for number in range(times)]

    async def _kill(self, node: int, seconds: float) -> None:
        if (process := self.process(node)) is not None:
            self.stage.kill(process, seconds)

    async def _stop(self, node: int, seconds: float) -> None:
        if (process := self.process(node)) is not None:
            await self.stage.stop(process)
            await asyncio.sleep(seconds)
            await self.launch(process.number)

    async def launch(self, number: int) -> None:
        """A node comes back, if it takes no longer than a while; it goes on trying by itself."""
        await asyncio.wait({self.stage.chore(self.stage.launch(number))}, timeout=5.0)

    async def _outage(self, upstream: Any, seconds: float, fault: Any) -> None:
        now = self.stage.time()
        self.stage.watch.marks["an outage of hours"] += seconds >= 2 * HOUR
        self.stage.sandbox.add_outage(upstream, now, now + seconds, Fault(kind=fault, status=503))

    async def _key(self, seconds: float, how: str) -> None:
        stripe = self.stage.sandbox.stripe
        if how == "restrict":
            stripe.restrict("customers.create", "customers.update")
        elif stripe.secret_key not in stripe.expired_keys:
            old = stripe.secret_key
            stripe.roll_key()
            self.stage.chore(self._unroll(old, seconds))
            return
        self.stage.chore(self._permit(seconds))

    async def _unroll(self, old: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.stage.sandbox.stripe.expired_keys.discard(old)
        self.stage.sandbox.stripe.secret_key = self.stage.sandbox.settings.stripe.secret_key

    async def _permit(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.stage.sandbox.stripe.permit()

    async def _backup(self) -> None:
        self.backups.append(await self.stage.database.backup())

    async def _restore(self, seconds: float, empty: bool) -> None:
        if not empty and not self.backups:
            return
        self.stage.watch.marks["an emptied database" if empty else "a restored database"] += 1
        await self.stage.restore(None if empty else self.random.choice(self.backups))
        self.restored = True
        self.emptied = self.emptied or empty
        await asyncio.sleep(seconds)
        for number in range(self.stage.manners.nodes):
            await self.launch(number)

    async def _stranger(self, which: str) -> None:
        """Somebody starts a node with another environment's keys on our database, which knows whose it is."""
        if not self.stage.look(environment.load):
            return
        home = self.stage.sandbox.settings
        clerk, stripe = home.clerk, home.stripe
        if which == "clerk":
            clerk = ClerkSettings(instance_id="ins_2another0000000000000000000")
        else:
            stripe = StripeSettings(account_id="acct_1Another00000000")
        elsewhere = Sandbox(SandboxSettings(seed=home.seed + 1, clerk=clerk, stripe=stripe))
        task = self.stage.chore(self.stage.launch(9, elsewhere))
        await asyncio.wait({task}, timeout=5.0)

    async def _years_of_replay(self, after: float, share: float) -> None:
        """Handled by the play: it comes after the end."""

    def last_words(self) -> None:
        """People who lost a customer by people's hands change once more, so that news comes of them."""
        for user in sorted(self.bereft, key=self.stage.numbers.__getitem__):
            if user in self.stage.sandbox.clerk.users and self.random.random() < 0.5:
                number = self.people.index(user)
                first, last = f"P{number}", f"L{self._next()}"
                self.stage.sandbox.clerk.change_name(self.stage.time(), user, first, last)
                self.changed[user, "name"] = self.stage.time()
                self.stage.changed(user)
