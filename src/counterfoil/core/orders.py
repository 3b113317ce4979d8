"""What a person has approved by applying a plan, customer by customer: each is checked again before it is done."""

from counterfoil.core.link import Deletion, Order, ParkReason, Ruling, Sighting
from counterfoil.core.policy import Policy
from counterfoil.core.step import (
    AdoptCustomer,
    DropSighting,
    InspectCustomer,
    LapseOrder,
    Park,
    ReadUser,
    RemoveCustomer,
    ReserveCustomer,
    RetireCustomer,
    Step,
    Turn,
)


def plan_orders(turn: Turn, policy: Policy, now: int) -> Step | None:
    """The next step for what was approved; ``None``: nothing is left of it.

    First the customer that stays is taken, then the others go: never the one that a live user's link holds, and
    never one with a live subscription. The deletion breaker holds none of it: a person has looked already.
    """
    ordered = [each for each in turn.sightings if each.order is not Order.NONE]
    for each in ordered:
        if each.order in {Order.ADOPT, Order.KEEP}:
            return _plan_adoption(turn, each, policy)
    return _plan_retirement(turn, ordered[0], policy, now) if ordered else None


def _plan_adoption(turn: Turn, sighting: Sighting, policy: Policy) -> Step:
    link, customer_id = turn.link, sighting.customer_id
    if link.deletion is not Deletion.NONE:
        return DropSighting(customer_id)
    if link.fields is None:
        return ReadUser()
    seen = turn.inspected.get(customer_id)
    if seen is None:
        return InspectCustomer(customer_id)
    if seen.gone or seen.livemode != policy.livemode or seen.owner not in {None, link.subject_id}:
        return DropSighting(customer_id)
    held = link.customer_id == customer_id
    if seen.owner == link.subject_id:
        return DropSighting(customer_id) if held else AdoptCustomer(customer_id, archived=seen.archived)
    # Nobody's yet: not in place of another that the link holds. One that was the user's, people have taken away.
    free = sighting.order is Order.ADOPT and (held or link.customer_id is None)
    return ReserveCustomer(customer_id) if free else DropSighting(customer_id)


def _plan_retirement(turn: Turn, sighting: Sighting, policy: Policy, now: int) -> Step:
    link, customer_id = turn.link, sighting.customer_id
    gone = link.deletion is not Deletion.NONE
    if link.ruling is Ruling.UNDO:
        return LapseOrder(customer_id)  # said about this very user, after the audit
    if not gone:
        if link.customer_id in {None, customer_id}:
            return LapseOrder(customer_id)
        own = turn.inspected.get(str(link.customer_id))
        if own is None:
            return InspectCustomer(str(link.customer_id))
        if own.gone or own.owner != link.subject_id:
            return LapseOrder(customer_id)
    seen = turn.inspected.get(customer_id)
    if seen is None or (not seen.gone and (seen.attached is None or seen.subscriptions is None)):
        return InspectCustomer(customer_id, thoroughly=True, subscriptions=True)
    if seen.gone or seen.owner != link.subject_id:
        return DropSighting(customer_id)
    if seen.livemode != policy.livemode:
        return Park(ParkReason.WRONG_MODE, customer_id)
    if any(each.live for each in seen.subscriptions or ()):
        # Of a live user it is one of two that bill: the usual rules hand that to a person.
        return Park(ParkReason.SUBSCRIBED, customer_id) if gone else LapseOrder(customer_id)
    if sighting.order is Order.DELETE and seen.attached is False:
        return RemoveCustomer(customer_id)
    return RetireCustomer(customer_id, now)
