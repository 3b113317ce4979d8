"""A turn's part inside the database: what only changes the row, and how a turn ends.

These functions run in a transaction, on the database's thread; they decide by the pure core alone.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection

from counterfoil.core.backoff import delay
from counterfoil.core.link import Deletion, Ended, Link, Order, ParkReason
from counterfoil.core.news import CustomerSeen
from counterfoil.core.outcome import Again, fold_end, fold_row_step
from counterfoil.core.plan import plan
from counterfoil.core.step import (
    AdoptCustomer,
    ArchiveCustomer,
    CallStep,
    CancelSubscription,
    CreateCustomer,
    DropSighting,
    EndStep,
    FindByEmail,
    HandOver,
    LapseOrder,
    OpenIntent,
    Park,
    ReadStep,
    RememberEnd,
    ReserveCustomer,
    RowStep,
    Settled,
    Step,
    Turn,
    UpdateCustomer,
    WaitUntil,
    World,
    WriteLinkBack,
)
from counterfoil.engine.carry_out import Effect, changes_the_world
from counterfoil.engine.context import Rules
from counterfoil.engine.deletions import are_held
from counterfoil.store import journal, links, sightings
from counterfoil.store.journal import Entry

Next = tuple[Turn, CallStep] | None
"""The call to make next; ``None``: the turn has ended, or its lease is gone."""

_replace = msgspec.structs.replace
_ROW_STEPS = 30
"""More row steps in a row than any link can need."""


def advance(connection: Connection, rules: Rules, turn: Turn, world: World, now: int) -> Next:
    """Take all steps that only change the row, until a call is due or the turn ends."""
    for _ in range(_ROW_STEPS):
        step = plan(turn, rules.policy, _with_breaker(connection, rules, turn.link, world, now), now)
        if rules.observe and _would_act(step):
            step = Park(ParkReason.OBSERVED, f"would: {describe(step)}")
        if isinstance(step, WaitUntil | Park | Settled):
            end(connection, turn, step, now)
            return None
        if not isinstance(step, RowStep):
            return turn, step
        following = _row_step(connection, rules, turn, step, now)
        if following is None:
            return None
        turn = following
    raise RuntimeError(f"no end of row steps for {turn.link.subject_id}")


def _with_breaker(connection: Connection, rules: Rules, link: Link, world: World, now: int) -> World:
    """Whether removals are held is asked in the transaction that would plan one, and only there."""
    if link.deletion is Deletion.NONE:
        return world
    return _replace(world, deletions_held=are_held(connection, rules.policy.deletion_limit, now))


def conclude(
    connection: Connection, rules: Rules, turn: Turn, effect: Effect, world: World, now: int, took: int
) -> Next:
    """Write down what came of a call, then go on as `advance` does.

    Args:
        connection: inside a transaction that may write.
        rules: how decisions are made.
        turn: as it was when the call was made.
        effect: what came of it.
        world: what is known of Stripe now.
        now: milliseconds.
        took: how long the call took, in milliseconds.
    """
    subject_id = turn.link.subject_id
    _write_down(connection, subject_id, effect, now, took)
    if effect.news:
        links.fold_batch(connection, effect.news, rules.policy.since, now)
    if effect.dealt_with is not None:
        sightings.forget(connection, effect.dealt_with)
    link, ending = effect.link, effect.ending
    if link.customer_id != turn.link.customer_id and _is_taken(connection, link):
        ending = Park(ParkReason.CLAIMED, str(link.customer_id))
        link = _replace(link, customer_id=turn.link.customer_id)
    saved = links.save(connection, link)
    if saved is None:
        if changes_the_world(effect.step):
            # The lease ran out under us, and its new holder does not know what we did.
            wrote = effect.step.customer_id if isinstance(effect.step, WriteLinkBack) and effect.news else None
            archived = isinstance(effect.step, ArchiveCustomer) and effect.outcome == "ok"
            links.disown(connection, subject_id, now, wrote, Ended.ARCHIVED if archived else None)
        return None
    following = _following(connection, turn, saved, effect)
    if isinstance(ending, Again):
        _again(connection, rules, saved, ending, now)
        return None
    if ending is not None:
        end(connection, following, ending, now)
        return None
    return advance(connection, rules, following, world, now)


def _write_down(connection: Connection, subject_id: str, effect: Effect, now: int, took: int) -> None:
    if effect.sent:
        detail = {"outcome": effect.outcome}
        what, request_id = describe(effect.step), effect.request_id
        entry = Entry(
            at=now, kind="call", what=what, subject_id=subject_id, detail=detail, request_id=request_id, ms=took
        )
        journal.append(connection, [entry])


def _following(connection: Connection, turn: Turn, saved: Link, effect: Effect) -> Turn:
    """The turn, with what the call has shown."""
    inspected = {**turn.inspected, **effect.inspected}
    # What was seen of a customer before we changed it, or dealt with it, is no longer so.
    inspected.pop(effect.dealt_with or "", None)
    if changes_the_world(effect.step):
        inspected.pop(getattr(effect.step, "customer_id", ""), None)
    candidates, searched = turn.candidates, turn.searched
    if isinstance(effect.step, FindByEmail):
        candidates, searched = effect.candidates, effect.step.email
    return Turn(
        link=saved,
        sightings=sightings.of_subjects(connection, [saved.subject_id]).get(saved.subject_id, ()),
        inspected=inspected,
        candidates=candidates,
        searched=searched,
        read_at=turn.link.revision if effect.read else turn.read_at,
        wrote_back=turn.wrote_back or isinstance(effect.step, WriteLinkBack),
    )


def end(connection: Connection, turn: Turn, step: EndStep, now: int) -> None:
    """Give the lease back."""
    link = fold_end(turn.link, step)
    detail: dict[str, Any] = {}
    match step:
        case WaitUntil(at=at, settled=settled, why=why):
            detail = {"until": at, "why": why} if why else {"until": at}
            released = links.release(connection, link, now, at, clean=settled)
        case Park(reason=reason, detail=why):
            detail = {"reason": str(reason), "detail": why}
            released = links.release(connection, link, now, None, clean=True)
        case Settled(note=note):
            detail = {"note": note}
            released = links.release(connection, link, now, None, clean=True)
    if released is None:
        return
    own = [each for each in turn.sightings if each.customer_id == link.customer_id]
    if link.customer_id is not None and any(each.order is Order.NONE for each in own):
        sightings.forget(connection, link.customer_id)
    what = describe(step)
    entry = Entry(at=now, kind="result", what=what, subject_id=link.subject_id, detail=detail)
    journal.append(connection, [entry])


def _again(connection: Connection, rules: Rules, link: Link, again: Again, now: int) -> None:
    """A failed or early try: the link stays unsettled, and comes back later."""
    wait = delay(link.attempts, rules.dice()) if again.counts else 50
    wait = max(wait, int((again.after or 0.0) * 1_000))
    links.release(connection, _replace(link, parked=None), now, now + wait, clean=False)


def _row_step(connection: Connection, rules: Rules, turn: Turn, step: RowStep, now: int) -> Turn | None:
    link = turn.link
    if isinstance(step, AdoptCustomer | ReserveCustomer):  # noqa: SIM102 - the type, then the database
        if _is_taken(connection, _replace(link, customer_id=step.customer_id)):
            end(connection, turn, Park(ParkReason.CLAIMED, step.customer_id), now)
            return None
    folded = fold_row_step(link, step, now)
    save = links.open_intent if isinstance(step, OpenIntent) else links.save
    saved = save(connection, folded)
    if saved is None:
        return None
    known = turn.sightings
    if isinstance(step, AdoptCustomer | DropSighting):
        sightings.forget(connection, step.customer_id)
        known = tuple(each for each in known if each.customer_id != step.customer_id)
    if isinstance(step, LapseOrder):
        sightings.lapse_order(connection, step.customer_id)
        known = sightings.of_subjects(connection, [link.subject_id]).get(link.subject_id, ())
    if isinstance(step, HandOver):
        # Not with our mark: there it is a stranger, which nothing removes as a surplus of ours.
        moved = CustomerSeen(subject_id=step.owner, customer_id=step.customer_id, created=0)
        links.fold_batch(connection, [moved], rules.policy.since, now)
    entry = Entry(at=now, kind="decision", what=describe(step), subject_id=link.subject_id)
    journal.append(connection, [entry])
    return _replace(turn, link=saved, sightings=known)


def _is_taken(connection: Connection, link: Link) -> bool:
    """Whether another link holds this link's customer: nobody's customer is ever shared."""
    if link.customer_id is None:
        return False
    owner = links.owner_of(connection, link.customer_id)
    return owner is not None and owner != link.subject_id


def _would_act(step: Step) -> bool:
    if isinstance(step, OpenIntent | ReserveCustomer):
        return True
    return not isinstance(step, RowStep | EndStep | ReadStep)


def describe(step: Step) -> str:
    """A step in a few words without personal data: its name, and the names of what it sends."""
    name = type(step).__name__
    match step:
        case UpdateCustomer(changes=fields) | CreateCustomer(fields=fields) | OpenIntent(fields=fields):
            sent = [key for key, value in msgspec.structs.asdict(fields).items() if value is not None]
            target = f" {step.customer_id}" if isinstance(step, UpdateCustomer) else ""
            return f"{name}{target} ({', '.join(sent) or 'nothing'})"
        case CancelSubscription():
            return f"{name} {step.subscription_id} ({'at once' if step.at_once else 'with its period'})"
        case HandOver():
            return f"{name} {step.customer_id} to {step.owner}"
        case RememberEnd():
            return f"{name} {step.ended or 'none'}"
        case _:
            customer_id = getattr(step, "customer_id", None)
            return f"{name} {customer_id}" if customer_id else name
