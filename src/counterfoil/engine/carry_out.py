"""One call step, carried out: what is sent, and what its answer means for the link."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

import msgspec

from counterfoil.core.customer import Customer
from counterfoil.core.link import Link
from counterfoil.core.news import News, Unconfirmed, UserAbsent, UserRead
from counterfoil.core.outcome import Again, fold_dead_replay, fold_failure, fold_success
from counterfoil.core.step import (
    ArchiveCustomer,
    CallStep,
    CancelSubscription,
    ClaimCustomer,
    CreateCustomer,
    FindByEmail,
    InspectCustomer,
    LookForCustomer,
    Park,
    ReadStep,
    ReadUser,
    RemoveCustomer,
    RestoreCustomer,
    RetireCustomer,
    Turn,
    UpdateCustomer,
    WriteLinkBack,
)
from counterfoil.engine.context import CALL_TIME, Context, Task
from counterfoil.errors import (
    DatabaseUnavailable,
    KeyRefused,
    NotFound,
    Paused,
    Rejected,
    ServerFailed,
    UpstreamError,
)
from counterfoil.upstream.gate import Ticket

_PATIENCE = 30.0
"""Seconds that a turn waits for the shared scan before it gives its place to another."""


_OnCustomer = UpdateCustomer | RemoveCustomer | ArchiveCustomer | RestoreCustomer | RetireCustomer


@dataclass(frozen=True, slots=True)
class Effect:
    """What came of a call, before any of it is written down."""

    step: CallStep
    link: Link
    news: tuple[News, ...] = ()
    inspected: Mapping[str, Customer] = field(default_factory=dict)
    read: bool = False
    """The user was read, at the turn's revision."""
    candidates: tuple[Customer, ...] = ()
    """What carries the address that was looked for."""
    dealt_with: str | None = None
    """A sighted customer that is not to be dealt with again."""
    ending: Again | Park | None = None
    sent: bool = True
    """A request went out; if not, there is nothing to tell."""
    outcome: str = "ok"
    """For the journal: "ok", or what went wrong; never the vendor's own sentence."""
    request_id: str | None = None


def changes_the_world(step: CallStep) -> bool:
    """Whether a call has an effect outside."""
    return not isinstance(step, ReadStep)


async def carry_out(context: Context, turn: Turn, step: CallStep, task: Task) -> Effect:
    """Do what ``step`` says. Errors of the upstream come out as an effect; nothing is written here."""
    ticket = task.ticket()
    try:
        return await _send(context, turn, step, task, ticket)
    except UpstreamError as error:
        link, ending = fold_failure(turn.link, step, error, context.rules.policy, context.catch_up.world())
        gone = isinstance(error, NotFound)
        return Effect(
            step,
            link,
            # The user seems gone: a read of the user decides, not the answer to a write.
            news=(Unconfirmed(subject_id=link.subject_id),) if gone and isinstance(step, WriteLinkBack) else (),
            dealt_with=step.customer_id if gone and isinstance(step, _OnCustomer) else None,
            ending=None if isinstance(ending, Again) and ending.after == 0 else ending,
            sent=not isinstance(error, Paused),
            outcome=f"{type(error).__name__} {error.status or ''} {error.code}".strip(),
            request_id=error.request_id or None,
        )


async def _send(context: Context, turn: Turn, step: CallStep, task: Task, ticket: Ticket) -> Effect:
    link, stripe = turn.link, context.stripe
    done = Effect(step, fold_success(link, step) if not isinstance(step, CreateCustomer) else link)
    match step:
        case ReadUser():
            return await _read(context, turn, step, ticket)
        case InspectCustomer():
            seen = await stripe.inspect(
                step.customer_id, ticket, thoroughly=step.thoroughly, subscriptions=step.subscriptions
            )
            return replace(done, inspected={step.customer_id: seen}, outcome="gone" if seen.gone else "ok")
        case LookForCustomer():
            return await _look(context, done, step.until, task)
        case FindByEmail():
            found = await stripe.with_email(step.email, ticket)
            return replace(done, candidates=found, outcome=f"found {len(found)}")
        case CreateCustomer():
            return await _create(context, turn, step, ticket)
        case ClaimCustomer():
            request_id = await stripe.claim(step.customer_id, link.subject_id, ticket)
            return replace(done, request_id=request_id)
        case UpdateCustomer():
            request_id = await stripe.update(step.customer_id, step.changes, ticket)
            return replace(done, request_id=request_id)
        case RemoveCustomer():
            request_id = await stripe.remove(step.customer_id, ticket)
            return replace(done, dealt_with=step.customer_id, request_id=request_id)
        case ArchiveCustomer():
            request_id = await stripe.archive(step.customer_id, step.at, ticket)
            return replace(done, inspected=_archived(turn, step.customer_id, now=True), request_id=request_id)
        case RetireCustomer():
            request_id = await stripe.retire(step.customer_id, link.subject_id, step.at, ticket)
            return replace(done, dealt_with=step.customer_id, request_id=request_id)
        case RestoreCustomer():
            request_id = await stripe.restore(step.customer_id, ticket)
            return replace(done, inspected=_archived(turn, step.customer_id, now=False), request_id=request_id)
        case CancelSubscription():
            changed, request_id = await stripe.cancel(step.subscription_id, ticket, at_once=step.at_once)
            seen = turn.inspected[step.customer_id].with_subscription(changed)
            return replace(done, inspected={step.customer_id: seen}, request_id=request_id)
        case WriteLinkBack():
            place = context.rules.policy.link_back
            body = await context.clerk.write_link_back(link.subject_id, step.customer_id, place, ticket)
            return replace(done, news=(UserRead(body=body),))
        case _ as never:
            assert_never(never)


def _archived(turn: Turn, customer_id: str, *, now: bool) -> Mapping[str, Customer]:
    """What this turn has seen of the customer, as it is after our write."""
    return {customer_id: msgspec.structs.replace(turn.inspected[customer_id], archived=now)}


async def _read(context: Context, turn: Turn, step: ReadUser, ticket: Ticket) -> Effect:
    link = turn.link
    try:
        body = await context.clerk.user(link.subject_id, ticket)
    except NotFound:
        # With another instance's key every user would seem gone.
        instance = await context.clerk.instance(ticket)
        if instance.id != context.instance_id:
            raise KeyRefused("the key is of another Clerk instance", upstream="clerk", status=403) from None
        absent = UserAbsent(subject_id=link.subject_id, at_revision=link.revision)
        return Effect(step, link, news=(absent,), read=True, outcome="no such user")
    news = UserRead(body=body, at_revision=link.revision)
    return Effect(step, link, news=(news,), read=True)


async def _look(context: Context, done: Effect, until: int, task: Task) -> Effect:
    world = context.catch_up.world()
    early = until + 1_000 - world.stripe_now
    if early > 0:
        return replace(done, ending=Again(counts=False, after=early / 1_000), outcome="too early")
    patience = min(_PATIENCE, task.left() - CALL_TIME)
    try:
        if patience > 0 and await context.catch_up.reach(until, patience):
            return done
    except DatabaseUnavailable:
        return replace(done, ending=Again(counts=False, after=1.0), outcome="the database does not answer")
    return replace(done, ending=Again(counts=False, after=1.0), outcome="the scan goes on")


async def _create(context: Context, turn: Turn, step: CreateCustomer, ticket: Ticket) -> Effect:
    link = turn.link
    made = await context.stripe.create(link.subject_id, step.fields, step.key, ticket)
    if made.replayed:
        # The stored answer of an earlier request: its customer may have been deleted since.
        try:
            seen = await context.stripe.inspect(made.customer_id, ticket)
        except Rejected as error:
            # It was the look that was refused, not the create: nothing is known of that, and the intent stays.
            raise ServerFailed(str(error), upstream="stripe", status=error.status, code=error.code) from None
        if seen.gone:
            return Effect(
                step, fold_dead_replay(link), outcome="replayed, deleted since", request_id=made.request_id
            )
    kept = fold_success(link, step, made.customer_id)
    if made.replayed:
        # It may have been changed since, by what a restored database has forgotten.
        kept = msgspec.structs.replace(kept, applied=None)
    outcome = "replayed" if made.replayed else "ok"
    return Effect(step, kept, dealt_with=made.customer_id, outcome=outcome, request_id=made.request_id)
