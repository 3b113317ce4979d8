"""What must never happen, seen while it happens.

Three lookouts: on every row that is changed (triggers of SQLite), on every call that reaches the sandbox, and
on every delivery that is answered 2xx. What they find is kept, not raised: the product must not swallow it.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec
from sqlalchemy import Connection, text

from counterfoil.core.link import Deletion
from counterfoil.core.policy import HOUR, OLD_READ_WINS
from counterfoil.sandbox.clerk_user import User
from counterfoil.sandbox.messages import Request
from counterfoil.sandbox.stripe_objects import ENDED
from counterfoil.store import links
from counterfoil.store.rows import WORKER_COLUMNS

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.stage import Stage

OWNER, MARK = "clerkUserId", "counterfoil"
ARCHIVED, ARCHIVED_OF = "counterfoilArchived", "counterfoilArchivedOf"
LINK_BACK = "stripeCustomerId"
MEMORY = 4.5 * HOUR / 1000
"""Seconds that a decision may be old when it takes effect: the longest stall that is promised for."""
# `disown` writes these two under whatever lease.
_ANYBODYS = {"applied", "written_back"}
_CHANGED = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in WORKER_COLUMNS if name not in _ANYBODYS)
_SEEN = (
    "NEW.subject_id, OLD.revision, NEW.revision, OLD.source_version, NEW.source_version, OLD.must_confirm,"
    " OLD.doubted_at, NEW.deletion, OLD.deleted_at, OLD.intent_key, NEW.intent_key, OLD.lease, NEW.lease,"
    f" OLD.held, NEW.held, ({_CHANGED})"
)
TRIGGERS = (f"CREATE TRIGGER watch_rows BEFORE UPDATE ON link_rows BEGIN SELECT watch_row({_SEEN}); END",)


@dataclass(slots=True)
class Made:
    """A customer that one of our requests made, or will have made."""

    customer_id: str
    key: str
    effect_at: float
    late: bool


@dataclass(slots=True)
class Watch:
    """The lookouts' common knowledge."""

    stage: "Stage"
    violations: list[str] = field(default_factory=list)
    marks: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    """Every idempotency key that was ever committed as an intent."""
    made: dict[str, list[Made]] = field(default_factory=dict)
    owners: dict[str, list[tuple[float, str | None]]] = field(default_factory=dict)
    """Whose each customer was, since when; ``None``: nobody's, or gone."""
    written: dict[str, set[str]] = field(default_factory=dict)
    """The customer ids that we wrote to each user's metadata."""
    approved: set[tuple[str, str]] = field(default_factory=set)
    """Users, and what their metadata held that a plan has said to write over."""
    retired: set[str] = field(default_factory=set)
    """Users of whom a plan has archived a customer."""
    holders: dict[str, "Process"] = field(default_factory=dict)
    writer: "Process | None" = None
    """Whose transaction runs now."""

    def say(self, violation: str) -> None:
        self.violations.append(f"{self.stage.loop.time():.3f} {violation}")
        self.stage.note(f"VIOLATION {violation}")

    # Rows.

    def row(
        self,
        subject: str,
        revision: int,
        new_revision: int,
        version: int,
        new_version: int,
        doubt: int,
        doubted_at: int | None,
        new_deletion: int,
        deleted_at: int | None,
        key: str | None,
        new_key: str | None,
        lease: int,
        new_lease: int,
        held: int,
        new_held: int,
        worked: int,
    ) -> None:
        """One row is about to be changed."""
        if new_revision < revision:
            self.say(f"{subject}: its revision went back, so news was lost")
        if new_version < version and not new_deletion:
            now = self.stage.clock.now()
            waited = doubted_at is not None and now - doubted_at > OLD_READ_WINS - self.stage.skews
            if not doubt or not waited:
                self.say(f"{subject}: older news won over newer")
            else:
                self.marks["an old read won"] += 1
        if new_key is not None and new_key != key:
            self.keys.add(new_key)
            if deleted_at is not None:
                self.say(f"{subject}: an intent was committed after the tombstone")
        if new_lease != lease:
            if held:
                self.marks["a lease ran out"] += 1
            if self.writer is not None:
                self.holders[subject] = self.writer
            return
        if (worked or new_held < held) and self.writer is not None:
            holder = self.holders.get(subject)
            if holder is not None and holder is not self.writer:
                self.say(f"{subject}: {self.writer.name} wrote under the lease of {holder.name}")

    # Calls.

    def request(self, process: "Process", upstream: str, request: Request) -> None:
        """A request is about to reach the sandbox."""
        if request.method == "GET":
            if request.path.startswith("/v1/customers/"):
                self._look(process, request.path.rsplit("/", 1)[1])
            return
        if process.elsewhere is not None:
            self.say(f"{process.name} wrote into another environment: {request.method} {request.path}")
        if upstream == "clerk":
            self._metadata(request)
        elif request.path == "/v1/customers":
            self._create(process, request)
        elif request.method == "DELETE":
            self._remove(process, request.path.rsplit("/", 1)[1])
        else:
            self._update(process, request.path.rsplit("/", 1)[1], _form(request))

    def _metadata(self, request: Request) -> None:
        user = self.stage.sandbox.clerk.users.get(request.path.split("/")[3])
        body = msgspec.json.decode(request.body)
        if list(body) != ["public_metadata"] or list(body["public_metadata"]) != [LINK_BACK]:
            self.say(f"a metadata write of more than the link-back: {request.path} {sorted(body)}")
        if user is None:
            return
        new, old = body["public_metadata"][LINK_BACK], user.public_metadata.get(LINK_BACK)
        ours = self.written.setdefault(user.id, set())
        # What it named may have been adopted, and have died in our hands.
        adopted = isinstance(old, str) and user.id in self.ever(old)
        approved = (user.id, old) in self.approved
        if old is not None and old != new and old not in ours and not adopted and not approved:
            self.say(f"{user.id}: a link-back that we did not write was overwritten")
        ours.add(new)

    def _create(self, process: "Process", request: Request) -> None:
        key = request.headers.get("idempotency-key", "")
        if key not in self.keys and self.stage.database.watched:
            self.say(f"a create was sent under a key that was never committed: {key}")
        if not process.scanned:
            self.say(f"{process.name} sent a create before its first scan had ended")

    def _was(self, customer_id: str) -> set[str | None]:
        """Whose a customer was within the time that a decision may be old."""
        since = self.stage.time() - MEMORY
        found: set[str | None] = set()
        for at, owner in reversed(self.owners.get(customer_id, [])):
            found.add(owner)
            if at <= since:
                break
        return found

    def _look(self, process: "Process", customer_id: str) -> None:
        known = self.owners.get(customer_id)
        process.looks[customer_id] = process.lived(), known[-1][1] if known else None

    def _remove(self, process: "Process", customer_id: str) -> None:
        stripe, clerk = self.stage.sandbox.stripe, self.stage.sandbox.clerk
        customer = stripe.customers.get(customer_id)
        if customer is None or customer.deleted:
            return
        owners = self._was(customer_id) - {None}
        if owners & clerk.gone.keys():
            return
        surplus = self._others(process, customer_id, owners)
        if not surplus:
            whose = ", ".join(sorted(map(str, owners)))
            self.say(f"the only customer of a living user was removed: {customer_id} of {whose}")
        elif self.stage.attached.get(customer_id, self.stage.time()) < self.stage.time() - MEMORY:
            self.say(f"a surplus customer with something attached was removed: {customer_id}")

    def _others(self, process: "Process", customer_id: str, owners: set[str | None]) -> bool:
        """Whether one of these users has another customer, or had at the last look, and people took it since."""
        looked = process.looked(self.stage.taken - {customer_id})
        return bool(owners & looked) or any(
            other.id != customer_id and other.metadata.get(OWNER) in owners and ARCHIVED not in other.metadata
            for other in self.stage.sandbox.stripe.live_customers()
        )

    def _names(self, user: User, customer_id: str) -> bool:
        """Whether a user's metadata names this customer, or did: a write may have taken effect under an error."""
        now = (user.public_metadata.get(LINK_BACK), user.private_metadata.get(LINK_BACK))
        return customer_id in now or self.stage.users.named(user.id, customer_id)

    def _retire(self, process: "Process", customer_id: str, form: dict[str, str]) -> None:
        """A plan has a customer archived for good: a surplus one, or one whose user is gone."""
        subject = form[f"metadata[{ARCHIVED_OF}]"]
        stripe = self.stage.sandbox.stripe
        owners = self._was(customer_id)
        self.retired.add(subject)
        if subject not in owners:
            self.say(f"{customer_id} was archived as {subject}'s, and is not")
        if subject in self.stage.sandbox.clerk.users and not self._others(process, customer_id, {subject}):
            self.say(f"the only customer of a living user was archived: {customer_id} of {subject}")
        old = self.stage.time() - MEMORY
        if any(each.status not in ENDED and each.created < old for each in stripe.subscriptions_of(customer_id)):
            self.say(f"a customer with a live subscription was archived: {customer_id} of {subject}")
        if set(form) != {f"metadata[{name}]" for name in (OWNER, ARCHIVED, ARCHIVED_OF)}:
            self.say(f"{customer_id}: more than the archive's marks was written: {sorted(form)}")

    def _update(self, process: "Process", customer_id: str, form: dict[str, str]) -> None:
        if f"metadata[{ARCHIVED_OF}]" in form:
            self._retire(process, customer_id, form)
            return
        owners = self._was(customer_id)
        claimed = form.get(f"metadata[{OWNER}]")
        if claimed is not None:
            user = self.stage.sandbox.clerk.users.get(claimed)
            if not owners & {None, claimed}:
                self.say(f"{claimed} took {customer_id}, which is somebody else's")
            if user is not None and not self._names(user, customer_id):
                self.say(f"{claimed} took {customer_id}, which Clerk's metadata does not name")
        numbers = {str(self.stage.numbers.get(owner or "")) for owner in self.ever(customer_id)}
        for name in ("email", "name"):
            if name in form and person_of(form[name]) not in numbers:
                self.say(f"{customer_id}: {name} of another person was written")
        if extra := set(form) - {"email", "name", f"metadata[{OWNER}]"}:
            self.say(f"{customer_id}: fields that are not ours were written: {sorted(extra)}")

    def ever(self, customer_id: str) -> set[str | None]:
        """All whose this customer ever was."""
        return {owner for _, owner in self.owners.get(customer_id, [])}

    def effect(self, process: "Process", upstream: str, request: Request) -> None:
        """A request has reached the sandbox; its log knows what came of it."""
        if upstream != "stripe" or request.method == "GET":
            return
        log = self.stage.sandbox.stripe.log._calls[-1]
        if log.effect_at is None or log.replayed or log.subject is None:
            return
        if log.operation == "customers.create":
            form = _form(request)
            subject = form[f"metadata[{OWNER}]"]
            made = Made(log.subject, log.idempotency_key or "", log.effect_at, log.fault == "late_500")
            self._alone(subject, made)
            self.made.setdefault(subject, []).append(made)
            self.owned(log.subject, subject)
        elif log.operation == "customers.delete":
            self.owned(log.subject, None)
        elif (claimed := _form(request).get(f"metadata[{OWNER}]")) is not None:
            self.owned(log.subject, claimed or None)

    def _alone(self, subject: str, new: Made) -> None:
        """No second create while the first may still take effect, or has."""
        now = self.stage.time()
        for other in self.made.get(subject, []):
            if other.late or self.stage.moved_away(other.customer_id, subject):
                continue
            customer = self.stage.sandbox.stripe.customers.get(other.customer_id)
            coming = customer is None and other.effect_at > now
            there = customer is not None and not customer.deleted and ARCHIVED not in customer.metadata
            if coming or there:
                self.say(f"{subject}: a second customer was made: {other} and then {new}")

    def owned(self, customer_id: str, owner: str | None) -> None:
        """Whose a customer is from now on."""
        self.owners.setdefault(customer_id, []).append((self.stage.time(), owner))

    # Deliveries.

    def accepted(self, connection: Connection, body: bytes) -> None:
        """A delivery was answered 2xx: what it says must be in the database now."""
        event = msgspec.json.decode(body)
        data = event["data"]
        if data["id"] not in self.stage.numbers:
            return  # the dashboard's example user, whom nobody has
        row = links.get(connection, data["id"])
        if row is not None and row.deletion is Deletion.SIGNED:
            return
        if event["type"] == "user.deleted":
            kept = row is not None and event.get("instance_id") != self.stage.instance_id
        else:
            kept = row is not None and row.source_version >= data["updated_at"]
            kept = kept or (row is not None and row.deletion is Deletion.ABSENT)
        if not kept:
            self.say(f"{event['type']} of {data['id']} was answered 2xx and is not in the database")


def person_of(value: str) -> str:
    """The number of the person whose email or name this is: "p3.1@..." and "P3 L1" are 3's."""
    return value[1:].split("." if "@" in value else " ", maxsplit=1)[0]


def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True))


def lay(connection: Connection) -> None:
    """Put the triggers into a database."""
    for trigger in TRIGGERS:
        connection.execute(text(trigger))


def register(watch: Watch, driver: Any) -> None:
    """What the triggers call, on one connection of SQLite."""
    driver.create_function("watch_row", 16, watch.row)
