"""A toy of the engine: it plans, does, folds and saves as the real one does, and dies at any moment."""

from collections.abc import Callable

from counterfoil.core.backoff import delay
from counterfoil.core.customer import Customer
from counterfoil.core.fold import fold_news
from counterfoil.core.link import Link, Sighting
from counterfoil.core.news import CustomerSeen, News, Unconfirmed, UserAbsent, UserRead
from counterfoil.core.outcome import (
    Again,
    fold_dead_replay,
    fold_end,
    fold_failure,
    fold_row_step,
    fold_success,
)
from counterfoil.core.plan import plan
from counterfoil.core.policy import MINUTE, SECOND, Policy
from counterfoil.core.step import (
    AdoptCustomer,
    CallStep,
    ClaimCustomer,
    CreateCustomer,
    DropSighting,
    EndStep,
    InspectCustomer,
    LookForCustomer,
    OpenClaim,
    OpenIntent,
    Park,
    ReadUser,
    RemoveCustomer,
    RowStep,
    Turn,
    UpdateCustomer,
    WaitUntil,
    World,
    WriteLinkBack,
)
from counterfoil.errors import NotFound, UpstreamError

from .support import WORKER, replace
from .toys import Chaos, ToyClerk, ToyStripe

STEPS = 60
"""No turn takes more."""
_LEASE = 5 * MINUTE
_OVERLAP = 15 * MINUTE


class Crashed(Exception):
    """The process died; what was not saved is lost."""


class Driver:
    """Rows, sightings and how far Stripe is known; a turn at a time."""

    def __init__(self, chaos: Chaos, policy: Policy) -> None:
        self.rows: dict[str, Link] = {}
        self.sightings: dict[str, Sighting] = {}
        self.seen_to = 0
        self.stripe = ToyStripe(chaos)
        self.clerk = ToyClerk(chaos, self.hear)
        self.meanwhile: Callable[[], None] = lambda: None
        """What may happen in the middle of a turn."""
        self._chaos = chaos
        self._policy = policy

    # The store.

    def hear(self, news: News) -> None:
        link = self.rows.get(news.subject_id)
        if isinstance(news, CustomerSeen):
            if news.customer_id in self.sightings or (link and link.customer_id == news.customer_id):
                return
            self.sightings[news.customer_id] = Sighting(
                customer_id=news.customer_id, subject_id=news.subject_id, created=news.created, mark=news.mark
            )
        new = fold_news(link, news, self._policy.since, self._chaos.now)
        if new is not None:
            self.rows[news.subject_id] = new
        else:
            self.rows.pop(news.subject_id, None)

    def save(self, link: Link) -> Link | None:
        """Write the worker's columns; ``None``: the row was dropped, or the lease is another's."""
        row = self.rows.get(link.subject_id)
        if row is None or row.lease != link.lease:
            return None
        row = replace(row, **{name: getattr(link, name) for name in WORKER})
        self.rows[link.subject_id] = row
        return row

    def snapshot(self) -> tuple[dict[str, Link], dict[str, Sighting], int]:
        return dict(self.rows), dict(self.sightings), self.seen_to

    def restore(self, saved: tuple[dict[str, Link], dict[str, Sighting], int]) -> None:
        self.rows, self.sightings, self.seen_to = dict(saved[0]), dict(saved[1]), saved[2]

    # Looking.

    def world(self) -> World:
        return World(seen_to=self.seen_to, stripe_now=self.stripe.now)

    def scan(self) -> None:
        """List Stripe's young customers; their owners are told."""
        at = self.stripe.now
        for each in self.stripe.list_since(self.seen_to - _OVERLAP):
            self.hear(
                CustomerSeen(
                    subject_id=each.owner,
                    customer_id=each.customer_id,
                    created=each.created,
                    mark=each.mark,
                )
            )
        self.seen_to = at

    def walk(self) -> None:
        """List all users; those with a row who were not met are to be read."""
        for body in list(self.clerk.users.values()):
            self.hear(UserRead(body=body))
        for subject_id in set(self.rows) - set(self.clerk.users):
            self.hear(Unconfirmed(subject_id=subject_id))

    # Working.

    def due(self) -> list[str]:
        now = self._chaos.now
        return sorted(key for key, row in self.rows.items() if row.due_at is not None and row.due_at <= now)

    def work(self, subject_id: str) -> None:
        """One turn, to its end or its crash."""
        row = self.rows[subject_id]
        link = self.rows[subject_id] = replace(
            row,
            lease=row.lease + 1,
            held=row.held + 1,
            due_at=self._chaos.now + _LEASE,
            applied=None if row.held else row.applied,
        )
        turn: Turn | None = self._turn(link, {})
        for _ in range(STEPS):
            if turn is None:
                return None
            self._perhaps_crash()
            step = plan(turn, self._policy, self.world(), self._chaos.now)
            if isinstance(step, EndStep):
                return self._end(turn.link, step)
            turn = self._row_step(turn, step) if isinstance(step, RowStep) else self._call(turn, step)
        raise AssertionError(f"no end after {STEPS} steps: {turn}")

    def _perhaps_crash(self) -> None:
        if self._chaos.hit(0.1):
            raise Crashed

    def _turn(self, link: Link, inspected: dict[str, Customer], read_at: int | None = None) -> Turn:
        found = tuple(each for _, each in sorted(self.sightings.items()) if each.subject_id == link.subject_id)
        return Turn(link=link, sightings=found, inspected=inspected, read_at=read_at)

    def _row_step(self, turn: Turn, step: RowStep) -> Turn | None:
        if isinstance(step, OpenIntent | OpenClaim) and self.rows[turn.link.subject_id].deleted_at is not None:
            return None
        saved = self.save(fold_row_step(turn.link, step, self._chaos.now))
        if isinstance(step, AdoptCustomer | DropSighting):
            self.sightings.pop(step.customer_id, None)
        if saved is None:
            return None
        again = self._turn(saved, dict(turn.inspected), turn.read_at)
        return replace(again, wrote_back=turn.wrote_back)

    def _call(self, turn: Turn, step: CallStep) -> Turn | None:
        subject_id, inspected, ending = turn.link.subject_id, dict(turn.inspected), None
        news: list[News] = []
        dealt_with: str | None = None
        self.meanwhile()
        try:
            link = self._send(turn.link, step, inspected, news)
            if isinstance(step, RemoveCustomer):
                dealt_with = step.customer_id
        except UpstreamError as error:
            link, ending = fold_failure(turn.link, step, error, self._policy, self.world())
            if isinstance(error, NotFound) and isinstance(step, UpdateCustomer | RemoveCustomer):
                dealt_with = step.customer_id
            if isinstance(error, NotFound) and isinstance(step, WriteLinkBack):
                news.append(Unconfirmed(subject_id=subject_id))
            if isinstance(ending, Again) and ending.after == 0:
                ending = None
        if isinstance(step, LookForCustomer) and step.until >= self.seen_to and ending is None:
            ending = Again(counts=False, after=(step.until - self.stripe.now) / SECOND + 1)
        self._perhaps_crash()
        for each in news:
            self.hear(each)
        if dealt_with is not None:
            self.sightings.pop(dealt_with, None)
            inspected.pop(dealt_with, None)
        saved = self.save(link)
        if saved is None:
            return None
        if isinstance(ending, Again):
            wait = delay(saved.attempts, self._chaos.random.random()) if ending.counts else 50
            self._release(saved, self._chaos.now + max(wait, int((ending.after or 0) * SECOND)), clean=False)
            return None
        if ending is not None:
            self._end(saved, ending)
            return None
        read_at = turn.link.revision if isinstance(step, ReadUser) else turn.read_at
        wrote_back = turn.wrote_back or isinstance(step, WriteLinkBack)
        return replace(self._turn(saved, inspected, read_at), wrote_back=wrote_back)

    def _send(self, link: Link, step: CallStep, inspected: dict[str, Customer], news: list[News]) -> Link:
        match step:
            case ReadUser():
                try:
                    read = self.clerk.user(link.subject_id)
                    news.append(UserRead(body=read, at_revision=link.revision))
                except NotFound:
                    news.append(UserAbsent(subject_id=link.subject_id, at_revision=link.revision))
            case InspectCustomer():
                inspected[step.customer_id] = self.stripe.inspect(step.customer_id)
            case LookForCustomer():
                if self.stripe.now > step.until:
                    self.scan()
            case CreateCustomer():
                customer_id, replayed = self.stripe.create(step.key, link.subject_id, step.fields)
                if replayed and self.stripe.inspect(customer_id).gone:
                    return fold_dead_replay(link)
                self.sightings.pop(customer_id, None)
                return fold_success(link, step, customer_id)
            case ClaimCustomer():
                raise AssertionError("every customer of this model has an owner")
            case UpdateCustomer():
                self.stripe.update(step.customer_id, step.changes)
            case RemoveCustomer():
                self.stripe.remove(step.customer_id)
            case WriteLinkBack():
                news.append(UserRead(body=self.clerk.write_link_back(link.subject_id, step.customer_id)))
        return fold_success(link, step)

    def _end(self, link: Link, step: EndStep) -> None:
        due_at = step.at if isinstance(step, WaitUntil) else None
        clean = step.settled if isinstance(step, WaitUntil) else True
        self._release(fold_end(link, step), due_at, clean=clean)
        if isinstance(step, Park):
            self.parked(link, step)

    def parked(self, link: Link, step: Park) -> None:
        """A place to watch from."""

    def _release(self, link: Link, due_at: int | None, *, clean: bool) -> None:
        row = self.rows[link.subject_id]
        saved = self.save(link)
        assert saved is not None
        quiet = row.revision == link.revision
        self.rows[link.subject_id] = replace(
            saved,
            held=0,
            due_at=due_at if quiet else self._chaos.now,
            dirty_at=None if quiet and clean else saved.dirty_at,
        )
