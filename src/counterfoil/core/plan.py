"""What a link needs next. Pure: the same turn, world and time give the same step."""

from counterfoil.core.creating import own_name, park_unmapped, plan_creation, resolve_claim
from counterfoil.core.customer import difference, wanted_fields
from counterfoil.core.link import Deletion, Doubt, Fields, Link, ParkReason, Sighting
from counterfoil.core.orders import plan_orders
from counterfoil.core.policy import ABSENT_TWICE, DISAGREED, LATER_LOOKS, LinkBack, Policy
from counterfoil.core.removal import plan_removal, plan_return
from counterfoil.core.step import (
    AbandonIntent,
    AdoptCustomer,
    CountLook,
    CreateCustomer,
    DropCustomer,
    InspectCustomer,
    LookForCustomer,
    Park,
    ReadUser,
    Settled,
    StartLook,
    Step,
    Turn,
    UpdateCustomer,
    WaitUntil,
    Without,
    World,
    WriteLinkBack,
)
from counterfoil.core.surplus import check_sighted, others, plan_surplus


def plan(turn: Turn, policy: Policy, world: World, now: int) -> Step:
    """The one next step for this link.

    An open intent comes before everything, a deletion too: as long as a create may still take effect,
    nothing else about this subject is certain.
    """
    link = turn.link
    if link.intent_key is not None and link.intent_params is not None:
        return _resolve_intent(turn, policy, world, now)
    if link.must_confirm is not Doubt.NONE:
        return _confirm(turn, now)
    if link.claiming:
        return resolve_claim(turn)
    ordered = plan_orders(turn, policy, now)
    if ordered is not None:
        return ordered
    if link.deletion is not Deletion.NONE:
        step = plan_removal(turn, policy, world, now)
        return (_later_looks(link, world, now) or step) if isinstance(step, Settled) else step
    look = _later_looks(link, world, now)
    if look is not None and not isinstance(look, WaitUntil):
        return look
    step = plan_return(turn) or _plan_live(turn, policy, now)
    return look if look is not None and isinstance(step, Settled) else step


def why_without(link: Link, policy: Policy, now: int) -> Without | None:
    """Why a settled link has no customer: the plan, asked again. ``None``: asked now, it would act."""
    step = _plan_live(Turn(link=link), policy, now)
    return step.without if isinstance(step, Settled) else None


def _plan_live(turn: Turn, policy: Policy, now: int) -> Step:
    if found := others(turn):
        return _plan_sightings(turn, found, policy)
    if turn.link.customer_id is None:
        return plan_creation(turn, policy)
    return _plan_upkeep(turn, policy, now) or Settled("in step")


def _resolve_intent(turn: Turn, policy: Policy, world: World, now: int) -> Step:
    link = turn.link
    key, fields, opened = link.intent_key, link.intent_params, link.intent_at
    assert key is not None
    assert fields is not None
    for sighting in turn.sightings:
        if sighting.mark == key:
            return AdoptCustomer(sighting.customer_id, archived=sighting.archived)
    if link.look_after is not None:
        if world.seen_to > link.look_after:
            return AbandonIntent()
        return LookForCustomer(link.look_after)
    if opened is None or now - opened > policy.intent_ttl:
        return StartLook(world.stripe_now + policy.quiet)
    return CreateCustomer(key, fields)


def _confirm(turn: Turn, now: int) -> Step:
    link = turn.link
    if link.absent_at is not None and now < link.absent_at + ABSENT_TWICE:
        return WaitUntil(link.absent_at + ABSENT_TWICE)
    return WaitUntil(now + DISAGREED) if turn.read_at == link.revision else ReadUser()


def _plan_sightings(turn: Turn, found: list[Sighting], policy: Policy) -> Step:
    """Live customers that claim a live user, besides the link's own."""
    link = turn.link
    if link.customer_id is None:
        keeper = _keeper(link, found)
        if keeper is not None:
            adopt = AdoptCustomer(keeper.customer_id, archived=keeper.archived)
            # Somebody waits for it, and a scan may have met it long ago.
            return (check_sighted(turn, keeper) if link.asked else None) or adopt
    else:
        # Before anything is called surplus, the link's own customer must be alive.
        step = _check_own(turn)
        if step is not None:
            return step
    return plan_surplus(turn, found, policy)


def _check_own(turn: Turn) -> Step | None:
    """Whether the link's own customer is there, and still names the subject; ``None``: it does."""
    link = turn.link
    assert link.customer_id is not None
    own = turn.inspected.get(link.customer_id)
    if own is None:
        return InspectCustomer(link.customer_id)
    if own.gone:
        return DropCustomer(link.customer_id)
    return None if own.owner == link.subject_id else Park(ParkReason.REASSIGNED, link.customer_id)


def _keeper(link: Link, found: list[Sighting]) -> Sighting | None:
    """Which of the customers found is the link's; ``None``: for a person to say."""
    if len(found) == 1:
        return found[0]
    for each in found:
        if each.customer_id in {link.link_back, link.private_name}:
            return each
    if all(each.mark is not None for each in found):
        return min(found, key=lambda each: (each.created, each.customer_id))
    return None


def _plan_upkeep(turn: Turn, policy: Policy, now: int) -> Step | None:
    """The customer exists: its fields, then the link-back."""
    link = turn.link
    assert link.customer_id is not None
    old = _is_old_pair(link, policy)
    if link.fields is None or (old and not link.wanted):
        return None
    if not old and link.mapping_error is not None:
        return park_unmapped(link.mapping_error)
    changes = difference(wanted_fields(link), link.applied)
    if not old and changes != Fields():
        return UpdateCustomer(link.customer_id, changes)
    named = own_name(link, policy)
    if policy.link_back is LinkBack.OFF or named == link.customer_id:
        return None
    if named is None or named == link.written_back:
        if turn.wrote_back:
            return WaitUntil(now + DISAGREED)
        # To an old pair's customer nothing was written, which would have shown that it is there.
        return (_check_own(turn) if old else None) or WriteLinkBack(link.customer_id)
    return None if old else Park(ParkReason.MISNAMED, f"metadata {named[:64]}, link {link.customer_id}")


def _is_old_pair(link: Link, policy: Policy) -> bool:
    """An old pair at first contact: its fields are left, edits made in Stripe included, until the user changes.

    Nor is it named in Clerk, unless the link is ``wanted``: ours, and found again after a restore; or asked for.
    (Clerk counts the name as a change of the user, so that the fields follow.)
    """
    return link.source_version < policy.since and link.applied is None and (link.sighted or not link.wanted)


def _later_looks(link: Link, world: World, now: int) -> Step | None:
    if link.abandoned_at is None or link.looks >= len(LATER_LOOKS):
        return None
    due = link.abandoned_at + LATER_LOOKS[link.looks]
    if world.seen_to > due:
        return CountLook()
    return LookForCustomer(due) if now >= due else WaitUntil(due, settled=True)
