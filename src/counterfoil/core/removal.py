"""What becomes of the customer of a user who is gone: every policy about deletion, in this one place.

`Policy.on_deletion` says what is done, `deletion_grace` when, `if_subscribed` what a live subscription changes,
`deletion_breaker` when nothing is done at all until a person has looked. A person's `Ruling` goes above all.
"""

from collections.abc import Sequence

from counterfoil.core.customer import HIDDEN, Customer, Subscription
from counterfoil.core.link import Ended, Link, ParkReason, Ruling, Sighting
from counterfoil.core.policy import CLOSED_BY, HELD_FOR, HOUR, IfSubscribed, OnDeletion, Policy
from counterfoil.core.step import (
    AdoptCustomer,
    ArchiveCustomer,
    CancelSubscription,
    DropCustomer,
    HandOver,
    InspectCustomer,
    Park,
    RememberEnd,
    RemoveCustomer,
    RestoreCustomer,
    Settled,
    Step,
    Turn,
    WaitUntil,
    World,
)
from counterfoil.core.subject import is_user_id
from counterfoil.core.surplus import check_sighted, made_here, others, plan_surplus

_DONE = frozenset({Ended.ARCHIVED, Ended.KEPT})
_NOTES = {Ended.ARCHIVED: "the customer is archived", Ended.KEPT: "the customer is kept"}


def plan_removal(turn: Turn, policy: Policy, world: World, now: int) -> Step:
    """The next step for a tombstone. Whatever is removed was retrieved first, and is still this subject's."""
    link = turn.link
    if link.ruling is Ruling.PLANNED and not link.wanted:
        # We never served this user, who is known to be gone by the plan alone: only what it names is touched.
        return Settled("what the plan names is dealt with, and nothing else is touched")
    if link.customer_id is not None:
        step = _plan_own(turn, link.customer_id, policy, world, now)
        if step is not None:
            return step
    kept = _keeps(link, policy)
    found = others(turn)
    if link.customer_id is not None:
        found = [each for each in found if not each.archived]
    if found and not kept:
        waiting = _waits(link, policy, world, now)
        if waiting is not None:
            return waiting
        return _plan_found(turn, found, policy) if link.customer_id is None else plan_surplus(turn, found, policy)
    if link.ruling is Ruling.UNDO and (found or link.customer_id is not None):
        return Settled("the removal was called off: the customer is kept")
    if link.customer_id is not None and link.ended is not None:
        return Settled(_NOTES[link.ended])
    return Settled("the customer is kept" if found else "gone on both sides")


def plan_return(turn: Turn) -> Step | None:
    """What is to be taken back of a removal whose user is there after all; ``None``: nothing."""
    link = turn.link
    if link.ended is None:
        return None
    if link.ended is Ended.KEPT or link.customer_id is None:
        return RememberEnd(None)
    if link.fields is None:
        return None  # a scan has met it, and nothing is known of its user
    seen = turn.inspected.get(link.customer_id)
    if seen is None:
        return InspectCustomer(link.customer_id)
    if seen.gone:
        return DropCustomer(link.customer_id)
    if seen.owner != link.subject_id:
        return Park(ParkReason.REASSIGNED, link.customer_id)
    return RestoreCustomer(link.customer_id) if seen.archived else RememberEnd(None)


def _keeps(link: Link, policy: Policy) -> bool:
    """Nothing of this subject's is to be touched."""
    return link.ruling is Ruling.UNDO or policy.on_deletion is OnDeletion.KEEP


def _waits(link: Link, policy: Policy, world: World, now: int) -> Step | None:
    if world.deletions_held:
        return WaitUntil(now + HELD_FOR, why="deletions are held until `counterfoil release deletions`")
    due = (link.deleted_at or 0) + policy.deletion_grace
    return WaitUntil(due, settled=True, why="the grace period") if now < due else None


def _plan_own(turn: Turn, customer_id: str, policy: Policy, world: World, now: int) -> Step | None:
    """The link's own customer; ``None``: it has got what it is to get."""
    link = turn.link
    kept = _keeps(link, policy) or link.ended in _DONE
    if not kept:
        waiting = _waits(link, policy, world, now)
        if waiting is not None:
            return waiting
    # A removal ends the subscriptions with it: they need a look only where something else may be done.
    subscribed = _if_subscribed(link, policy)
    look = not kept and (_archives(link, policy) or subscribed is not IfSubscribed.DELETE)
    seen = turn.inspected.get(customer_id)
    if seen is None or (look and seen.subscriptions is None and not seen.gone):
        return InspectCustomer(customer_id, subscriptions=look)
    if seen.gone:
        return DropCustomer(customer_id)
    if seen.owner is not None and seen.owner != link.subject_id and is_user_id(seen.owner):
        return HandOver(customer_id, seen.owner)
    if kept:
        return _leave(link, seen)
    if seen.livemode != policy.livemode:
        return Park(ParkReason.WRONG_MODE, customer_id)
    if seen.archived and seen.owner is None:
        return DropCustomer(customer_id)  # an applied plan has archived it for good, and the answer was lost
    if seen.owner != link.subject_id:
        return Park(ParkReason.REASSIGNED, customer_id)
    if seen.archived:
        return RememberEnd(Ended.ARCHIVED)
    live = [each for each in seen.subscriptions or () if each.live]
    if look and live:
        return _plan_subscribed(link, customer_id, live, subscribed, now)
    if _archives(link, policy):
        if link.ended is not Ended.CLOSING:
            return RememberEnd(Ended.CLOSING)  # first written down: a crash leaves no mark that nobody knows of
        return ArchiveCustomer(customer_id, link.deleted_at or now)
    return RemoveCustomer(customer_id)


def _if_subscribed(link: Link, policy: Policy) -> IfSubscribed:
    return IfSubscribed.DELETE if link.ruling is Ruling.RELEASE else policy.if_subscribed


def _archives(link: Link, policy: Policy) -> bool:
    """What was subscribed until its period's end is archived, whatever else is."""
    waited = link.ended is Ended.CLOSING and link.ruling is not Ruling.RELEASE
    return waited or policy.on_deletion is OnDeletion.ARCHIVE


def _leave(link: Link, seen: Customer) -> Step | None:
    """The customer is not to be touched, or no more."""
    if link.ruling is Ruling.UNDO:
        mine = seen.archived and seen.owner == link.subject_id
        return RestoreCustomer(seen.customer_id) if mine else None
    if link.ended in _DONE:
        return None
    return RememberEnd(Ended.ARCHIVED if seen.archived else Ended.KEPT)


def _plan_subscribed(
    link: Link, customer_id: str, live: Sequence[Subscription], wish: IfSubscribed, now: int
) -> Step:
    """The user is deleted, and something may still bill."""
    if any(each.status == HIDDEN for each in live):
        return Park(ParkReason.SUBSCRIBED, "the key may not read subscriptions")
    if wish is IfSubscribed.HOLD:
        return Park(ParkReason.SUBSCRIBED, ", ".join(f"{each.subscription_id} {each.status}" for each in live))
    if wish is IfSubscribed.DELETE:  # archived, so billing does not stop by itself
        return CancelSubscription(customer_id, live[0].subscription_id, at_once=True)
    if link.ended is not Ended.CLOSING:
        return RememberEnd(Ended.CLOSING)
    for each in live:
        if not each.closing:
            return CancelSubscription(customer_id, each.subscription_id)
    # At the first end it is looked again: what was renewed or began meanwhile is seen then.
    ends = [each.period_end for each in live if each.period_end is not None]
    at = max(min(ends, default=now) + CLOSED_BY, now + HOUR)
    return WaitUntil(at, settled=True, why="the end of what the customer has paid for")


def _plan_found(turn: Turn, found: Sequence[Sighting], policy: Policy) -> Step:
    """The link has no customer, and scans met some that name its user: one is taken, and dealt with as its own.

    One customer that something else made is the user's, if the link never had one of its own.
    """
    link = turn.link
    ours = [each for each in found if made_here(turn, each, policy)]
    alone = found if len(found) == 1 and link.generation == 0 else []
    for sighting in (*ours, *alone) or found:
        step = check_sighted(turn, sighting)
        if step is not None:
            return step
    if not ours and not alone:
        return Park(ParkReason.DUPLICATE, ", ".join(sorted(each.customer_id for each in found)))
    chosen = turn.inspected[(*ours, *alone)[0].customer_id]
    if chosen.livemode != policy.livemode:
        return Park(ParkReason.WRONG_MODE, chosen.customer_id)
    return AdoptCustomer(chosen.customer_id, archived=chosen.archived)
