"""What a link needs next. Pure: the same turn, world and time give the same step."""

from counterfoil.core.customer import Customer, claimed_by, difference, wanted_fields
from counterfoil.core.link import Deletion, Doubt, Fields, Link, ParkReason, Sighting
from counterfoil.core.policy import ABSENT_TWICE, DISAGREED, LATER_LOOKS, Policy
from counterfoil.core.step import (
    AbandonIntent,
    AdoptCustomer,
    ClaimCustomer,
    CloseClaim,
    CountLook,
    CreateCustomer,
    DropCustomer,
    DropSighting,
    InspectCustomer,
    LookForCustomer,
    OpenClaim,
    OpenIntent,
    Park,
    ReadUser,
    RemoveCustomer,
    Settled,
    StartLook,
    Step,
    Turn,
    UpdateCustomer,
    WaitUntil,
    World,
    WriteLinkBack,
)


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
    if link.deletion is not Deletion.NONE:
        return _plan_removal(turn, policy, world, now)
    look = _later_looks(link, world, now)
    if look is not None and not isinstance(look, WaitUntil):
        return look
    step = _plan_live(turn, policy, now)
    return look if look is not None and isinstance(step, Settled) else step


def _plan_live(turn: Turn, policy: Policy, now: int) -> Step:
    if others := _others(turn):
        return _plan_sightings(turn, others, policy)
    if turn.link.customer_id is None:
        return _plan_creation(turn, policy)
    return _plan_upkeep(turn, policy, now) or Settled("in step")


def _others(turn: Turn) -> list[Sighting]:
    return [each for each in turn.sightings if each.customer_id != turn.link.customer_id]


def _resolve_intent(turn: Turn, policy: Policy, world: World, now: int) -> Step:
    link = turn.link
    key, fields, opened = link.intent_key, link.intent_params, link.intent_at
    assert key is not None
    assert fields is not None
    claimed = claimed_by(key)
    if claimed is not None:
        return _resolve_claim(turn, claimed, policy)
    for sighting in turn.sightings:
        if sighting.mark == key:
            return AdoptCustomer(sighting.customer_id)
    if link.look_after is not None:
        if world.seen_to > link.look_after:
            return AbandonIntent()
        return LookForCustomer(link.look_after)
    if opened is None or now - opened > policy.intent_ttl:
        return StartLook(world.stripe_now + policy.quiet)
    return CreateCustomer(key, fields)


def _resolve_claim(turn: Turn, customer_id: str, policy: Policy) -> Step:
    """Whether a claim took effect is seen in the customer itself."""
    link = turn.link
    seen = turn.inspected.get(customer_id)
    if seen is None:
        return InspectCustomer(customer_id)
    if seen.gone or seen.livemode != policy.livemode:
        return CloseClaim(customer_id)
    if seen.owner == link.subject_id:
        return AdoptCustomer(customer_id)
    free = seen.owner is None and link.deletion is Deletion.NONE
    return ClaimCustomer(customer_id) if free else CloseClaim(customer_id)


def _confirm(turn: Turn, now: int) -> Step:
    link = turn.link
    if link.absent_at is not None and now < link.absent_at + ABSENT_TWICE:
        return WaitUntil(link.absent_at + ABSENT_TWICE)
    return WaitUntil(now + DISAGREED) if turn.read_at == link.revision else ReadUser()


def _plan_removal(turn: Turn, policy: Policy, world: World, now: int) -> Step:
    """Retrieve, check that it is still this subject's, remove. The rest is to forget."""
    link = turn.link
    if link.customer_id is not None:
        seen = turn.inspected.get(link.customer_id)
        if seen is None:
            return InspectCustomer(link.customer_id)
        if seen.gone:
            return DropCustomer(link.customer_id)
        if seen.livemode != policy.livemode:
            return Park(ParkReason.WRONG_MODE, link.customer_id)
        if seen.owner != link.subject_id:
            return Park(ParkReason.REASSIGNED, link.customer_id)
        return RemoveCustomer(link.customer_id)
    others = _others(turn)
    # One customer that something else made is the user's, if the link never had one of its own.
    strangers = sum(each.mark is None for each in others)
    for sighting in others:
        seen = turn.inspected.get(sighting.customer_id)
        if seen is None:
            return InspectCustomer(sighting.customer_id)
        if seen.gone or seen.owner != link.subject_id:
            return DropSighting(sighting.customer_id)
        if seen.livemode != policy.livemode:
            return Park(ParkReason.WRONG_MODE, sighting.customer_id)
        if sighting.mark is not None or (strangers == 1 and link.generation == 0):
            return RemoveCustomer(sighting.customer_id)
    if others:
        return Park(ParkReason.DUPLICATE, ", ".join(sorted(each.customer_id for each in others)))
    return _later_looks(link, world, now) or Settled("gone on both sides")


def _plan_sightings(turn: Turn, others: list[Sighting], policy: Policy) -> Step:
    """Live customers that claim a live user, besides the link's own."""
    link = turn.link
    if link.customer_id is None:
        keeper = _keeper(link, others)
        if keeper is not None:
            return AdoptCustomer(keeper.customer_id)
    else:
        # Before anything is called surplus, the link's own customer must be alive.
        own = turn.inspected.get(link.customer_id)
        if own is None:
            return InspectCustomer(link.customer_id)
        if own.gone:
            return DropCustomer(link.customer_id)
        if own.owner != link.subject_id:
            return Park(ParkReason.REASSIGNED, link.customer_id)
    for sighting in others:
        seen = turn.inspected.get(sighting.customer_id)
        if seen is None or (seen.attached is None and not seen.gone):
            return InspectCustomer(sighting.customer_id, thoroughly=True)
        if seen.gone or seen.owner != link.subject_id:
            return DropSighting(sighting.customer_id)
        if link.customer_id is None or sighting.mark is None:
            continue
        # Ours, made late of a request that had failed: it goes only if nothing hangs on it.
        if seen.livemode == policy.livemode and seen.attached is False:
            return RemoveCustomer(sighting.customer_id)
        return Park(ParkReason.ATTACHED, sighting.customer_id)
    return Park(ParkReason.DUPLICATE, ", ".join(sorted(each.customer_id for each in others)))


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


def _plan_creation(turn: Turn, policy: Policy) -> Step:
    """No customer is known. Adopt what Clerk names, or mean to make one."""
    link = turn.link
    if link.fields is None:
        return ReadUser() if link.wanted else Settled("nothing known yet")
    named = link.link_back or link.private_name
    if named is not None and named != link.written_back and (link.wanted or link.source_version >= policy.since):
        return _adopt_named(turn, named, policy)
    if not link.wanted:
        return Settled("older than the first start")
    if link.fields.email is None:
        return Settled("waiting for an email address")
    return OpenIntent(policy.intent_key(link.subject_id, link.generation), wanted_fields(link))


def _adopt_named(turn: Turn, customer_id: str, policy: Policy) -> Step:
    if not customer_id.startswith("cus_"):
        return Park(ParkReason.FOREIGN, "the metadata holds something else than a customer's id")
    seen: Customer | None = turn.inspected.get(customer_id)
    if seen is None:
        return InspectCustomer(customer_id)
    if seen.gone:
        return Park(ParkReason.FOREIGN, customer_id)
    if seen.livemode != policy.livemode:
        return Park(ParkReason.WRONG_MODE, customer_id)
    if seen.owner is None:
        return OpenClaim(customer_id)
    if seen.owner == turn.link.subject_id:
        return AdoptCustomer(customer_id)
    return Park(ParkReason.CLAIMED, customer_id)


def _plan_upkeep(turn: Turn, policy: Policy, now: int) -> Step | None:
    """The customer exists: its fields, then the link-back."""
    link = turn.link
    assert link.customer_id is not None
    if link.fields is None or _untouched(link, policy):
        return None
    changes = difference(wanted_fields(link), link.applied)
    if changes != Fields():
        return UpdateCustomer(link.customer_id, changes)
    if link.link_back == link.customer_id:
        return None
    if link.link_back is None or link.link_back == link.written_back:
        return WaitUntil(now + DISAGREED) if turn.wrote_back else WriteLinkBack(link.customer_id)
    return Park(ParkReason.MISNAMED, f"metadata {link.link_back[:64]}, link {link.customer_id}")


def _untouched(link: Link, policy: Policy) -> bool:
    """An old pair at first contact: left as it is, edits made in Stripe included, until the user changes."""
    return link.source_version < policy.since and link.applied is None and (link.sighted or not link.wanted)


def _later_looks(link: Link, world: World, now: int) -> Step | None:
    if link.abandoned_at is None or link.looks >= len(LATER_LOOKS):
        return None
    due = link.abandoned_at + LATER_LOOKS[link.looks]
    if world.seen_to > due:
        return CountLook()
    return LookForCustomer(due) if now >= due else WaitUntil(due, settled=True)
