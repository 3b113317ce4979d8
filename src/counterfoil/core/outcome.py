"""What a step that was carried out does to the worker's columns of its link."""

from typing import assert_never

import msgspec

from counterfoil.core.customer import overlay
from counterfoil.core.link import Deletion, Ended, Fields, Link, ParkReason
from counterfoil.core.policy import Policy
from counterfoil.core.step import (
    AbandonIntent,
    AdoptCustomer,
    ArchiveCustomer,
    CallStep,
    CancelSubscription,
    ClaimCustomer,
    CountLook,
    CreateCustomer,
    DropCustomer,
    DropSighting,
    EndStep,
    ForgoCustomer,
    HandOver,
    LapseOrder,
    OpenIntent,
    Park,
    ReadStep,
    RememberEnd,
    RemoveCustomer,
    ReserveCustomer,
    RestoreCustomer,
    RetireCustomer,
    RowStep,
    StartLook,
    UpdateCustomer,
    WaitUntil,
    World,
    WriteLinkBack,
)
from counterfoil.errors import (
    KeyRefused,
    KeyReused,
    NotFound,
    Paused,
    Rejected,
    ReplayedFailure,
    ServerFailed,
    Unreachable,
    UpstreamError,
)

_replace = msgspec.structs.replace
_OUTAGE_ATTEMPTS = 7
"""Failures that count in an outage: a back-off of up to two minutes."""
_OnCustomer = UpdateCustomer | RemoveCustomer | ArchiveCustomer | RestoreCustomer | RetireCustomer
_EMAIL_REFUSED = "email_invalid"


class Again(msgspec.Struct, frozen=True):
    """Come back later. ``counts``: it was a failed try of this link, so the back-off grows."""

    counts: bool = True
    after: float | None = None
    """Seconds that the upstream (or its breaker) asked for."""


def fold_row_step(link: Link, step: RowStep, now: int) -> Link:
    """The worker's columns after a step that only changes the row."""
    match step:
        case OpenIntent():
            return _replace(link, intent_key=step.key, intent_params=step.fields, intent_at=now, look_after=None)
        case StartLook():
            return _replace(link, look_after=step.until)
        case AbandonIntent():
            return _replace(_next_generation(link), abandoned_at=now, looks=0)
        case AdoptCustomer():
            kept = _keep(link, step.customer_id, None)
            return _replace(kept, ended=Ended.ARCHIVED) if step.archived else kept
        case ReserveCustomer():
            return _replace(_keep(link, step.customer_id, None), claiming=True)
        case ForgoCustomer():
            return _replace(link, customer_id=None, claiming=False)
        case DropCustomer() | HandOver():
            return _let_go(link)
        case RememberEnd():
            return _replace(link, ended=step.ended)
        case DropSighting() | LapseOrder():
            return link
        case CountLook():
            return _replace(link, looks=link.looks + 1)
        case _ as never:
            assert_never(never)


def fold_success(link: Link, step: CallStep, customer_id: str | None = None) -> Link:
    """The worker's columns after a call that did what it was meant to do.

    Args:
        link: the row.
        step: what was called.
        customer_id: the id that a create answered.
    """
    if isinstance(step, ReadStep):
        return link  # only an effect ends a series of failures: a read before each would hide it
    link = _replace(link, attempts=0, last_error=None)
    match step:
        case CreateCustomer():
            assert customer_id is not None
            return _keep(link, customer_id, step.fields)
        case ClaimCustomer():
            return _keep(link, step.customer_id, None)
        case UpdateCustomer():
            return _replace(link, applied=overlay(link.applied, step.changes))
        case RemoveCustomer() | RetireCustomer():
            if step.customer_id == link.customer_id:
                return _let_go(link)
            # A surplus one was ours, so its name in Clerk's metadata is of our writing: a database that was
            # restored may not know that.
            named = step.customer_id in {link.link_back, link.private_name}
            return _replace(link, written_back=step.customer_id) if named else link
        case ArchiveCustomer():
            return _replace(link, ended=Ended.ARCHIVED)
        case RestoreCustomer():
            # What it has missed meanwhile is not known: all fields are written again.
            return _replace(link, ended=None, applied=None)
        case CancelSubscription():
            return link
        case WriteLinkBack():
            return _replace(link, written_back=step.customer_id)
        case _ as never:
            assert_never(never)


def fold_end(link: Link, end: EndStep) -> Link:
    """The worker's columns at the end of a turn. Of a user who is gone, nothing personal is kept, however it ends.

    What stays is the id that we wrote to Clerk's metadata: should the deletion be lifted, it is named there still.
    """
    if link.deletion is not Deletion.NONE:
        link = _replace(link, applied=None, refused_email=None)
    if isinstance(end, Park):
        return _replace(link, parked=end.reason, last_error=end.detail[:200] or None)
    link = _replace(link, parked=None)
    if isinstance(end, WaitUntil) and not end.settled:
        return link
    return _replace(link, attempts=0, last_error=None)


def fold_dead_replay(link: Link) -> Link:
    """Stripe replayed the creation of a customer that was deleted since: this generation is over."""
    return _next_generation(link)


def fold_failure(
    link: Link, step: CallStep, error: UpstreamError, policy: Policy, world: World
) -> tuple[Link, Again | Park]:
    """The worker's columns after a call that failed, and what to do next."""
    told = _replace(link, last_error=_describe(error))
    match error:
        case Paused():
            return link, Again(counts=False, after=error.retry_after)
        case KeyRefused():
            return told, Again(counts=False, after=error.retry_after)
        case KeyReused() | ReplayedFailure() if isinstance(step, CreateCustomer):
            # This key will never bring the customer: only looking tells whether there is one.
            return _replace(told, look_after=world.stripe_now + policy.quiet), Again(counts=False, after=0)
        case NotFound() if isinstance(step, _OnCustomer):
            return (_let_go(told) if step.customer_id == link.customer_id else told), Again(counts=False, after=0)
        case NotFound() if isinstance(step, WriteLinkBack):
            # The user is gone, or seems so: the engine asks for a read, which decides.
            return _replace(told, attempts=link.attempts + 1), Again()
        case Rejected() if error.code == _EMAIL_REFUSED and (email := _email_of(step)) is not None:
            # Permanent for this address, so go on without it, flagged (facts 3.2).
            closed = _next_generation(told) if isinstance(step, CreateCustomer) else told
            return _replace(closed, refused_email=email), Again(counts=False, after=0)
        case Rejected():
            closed = _next_generation(told) if isinstance(step, CreateCustomer) else told
            return closed, Park(ParkReason.REJECTED, _describe(error))
        case ServerFailed() | Unreachable():
            # The breaker paces an outage: a link that happened to probe in it must not wait much longer.
            return _replace(told, attempts=min(link.attempts + 1, _OUTAGE_ATTEMPTS)), Again(
                after=error.retry_after
            )
        case _:
            return _replace(told, attempts=link.attempts + 1), Again(after=error.retry_after)


def _describe(error: UpstreamError) -> str:
    """Short, and without the vendor's sentence: that may repeat personal data."""
    status = str(error.status) if error.status else "no answer"
    return " ".join(filter(None, [error.upstream, status, error.code or type(error).__name__]))[:200]


def _keep(link: Link, customer_id: str, applied: Fields | None) -> Link:
    return _replace(
        link,
        customer_id=customer_id,
        claiming=False,
        applied=applied,
        ended=None,
        intent_key=None,
        intent_params=None,
        intent_at=None,
        look_after=None,
    )


def _next_generation(link: Link) -> Link:
    return _replace(
        link,
        generation=link.generation + 1,
        intent_key=None,
        intent_params=None,
        intent_at=None,
        look_after=None,
    )


def _let_go(link: Link) -> Link:
    """The customer is gone from Stripe; its generation's key would bring the dead id back.

    Its id stays known as one that we wrote: Clerk's metadata may name it still, or will when our echo comes.
    """
    heard = {link.link_back, link.private_name}
    named_before = link.written_back is not None and link.written_back in heard
    ours = link.customer_id if not named_before and heard & {None, link.customer_id} else link.written_back
    freed = _replace(link, customer_id=None, claiming=False, applied=None, ended=None, written_back=ours)
    return _replace(freed, generation=link.generation + 1)


def _email_of(step: CallStep) -> str | None:
    match step:
        case CreateCustomer():
            return step.fields.email
        case UpdateCustomer():
            return step.changes.email
        case _:
            return None
