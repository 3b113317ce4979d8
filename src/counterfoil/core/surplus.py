"""Live customers that scans met and that name a subject, besides the one that its link holds."""

from collections.abc import Sequence

from counterfoil.core.link import ParkReason, Sighting
from counterfoil.core.policy import Policy
from counterfoil.core.step import DropSighting, InspectCustomer, Park, RemoveCustomer, Step, Turn


def others(turn: Turn) -> list[Sighting]:
    """The sighted customers that are not the link's own."""
    return [each for each in turn.sightings if each.customer_id != turn.link.customer_id]


def made_here(turn: Turn, sighting: Sighting, policy: Policy) -> bool:
    """Whether we made a sighted customer for this very subject: none that was moved here from another user."""
    return policy.made(sighting.mark, turn.link.subject_id, turn.link.generation)


def check_sighted(turn: Turn, sighting: Sighting) -> Step | None:
    """Whether a sighted customer still names the subject; ``None``: it does."""
    seen = turn.inspected.get(sighting.customer_id)
    if seen is None:
        return InspectCustomer(sighting.customer_id)
    stays = not seen.gone and seen.owner == turn.link.subject_id
    return None if stays else DropSighting(sighting.customer_id)


def plan_surplus(turn: Turn, found: Sequence[Sighting], policy: Policy) -> Step:
    """What to do with customers besides the link's own, or where it is not clear which is its own."""
    link = turn.link
    for sighting in found:
        seen = turn.inspected.get(sighting.customer_id)
        if seen is None or (seen.attached is None and not seen.gone):
            return InspectCustomer(sighting.customer_id, thoroughly=True)
        if seen.gone or seen.owner != link.subject_id:
            return DropSighting(sighting.customer_id)
        if link.customer_id is None or seen.archived or not made_here(turn, sighting, policy):
            continue
        # Ours, made late of a request that had failed: it goes only if nothing hangs on it.
        if seen.livemode == policy.livemode and seen.attached is False:
            return RemoveCustomer(sighting.customer_id)
        return Park(ParkReason.ATTACHED, sighting.customer_id)
    return Park(ParkReason.DUPLICATE, ", ".join(sorted(each.customer_id for each in found)))
